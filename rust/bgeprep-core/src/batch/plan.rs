//! The plan: an endless question ("which rows are the next global batch?") with one answer for a
//! set, a seed and the options, whoever asks and on however many ranks.

use std::sync::Arc;

use serde::Serialize;

use super::conflict::Rules;
use super::filling::{Chosen, Filling};
use super::options::{PlanOptions, Resolved};
use super::order::Layout;
use super::pass::SourcePass;
use super::permute::{Use, fraction, seed_of};
use super::rows::{PlanRows, PlanSource};
use super::sampler::next_source;
use super::state::{Counts, PlanState, Unplaced, UnplacedReason};
use crate::{Error, Result};

/// Schedule round of a weighted mix, which never starts anew.
const ONE_ROUND: u64 = u64::MAX;

/// The rows that one optimiser step trains on, over all ranks.
#[derive(Debug, Clone, PartialEq)]
pub struct GlobalBatch {
    /// Counts over the run from 0.
    pub step: u64,
    /// Counts from 0.
    pub epoch: u64,
    /// The source all rows come from; `None` where a batch mixes sources.
    pub source: Option<u32>,
    /// The rows and their documents.
    pub chosen: Chosen,
    /// Rows given up since the batch before.
    pub unplaced: Vec<Unplaced>,
}

/// What became of the rows of one source.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Passes begun.
    pub passes: u64,
    /// Rows waiting now.
    pub waiting: u64,
    /// Totals since the run began.
    #[serde(flatten)]
    pub counts: Counts,
}

/// Plans global batches one after the other.
#[derive(Debug)]
pub struct Planner<R> {
    rows: Arc<R>,
    options: Arc<Resolved>,
    layouts: Vec<Arc<Layout>>,
    negatives: bool,
    num_epochs: Option<u64>,
    max_steps: Option<u64>,
    steps_per_epoch: Option<u64>,
    sources: Vec<SourcePass>,
    start: PlanState,
    epoch: u64,
    step: u64,
    epoch_step: u64,
    filling: Filling,
    unplaced: Vec<Unplaced>,
}

impl<R> Clone for Planner<R> {
    fn clone(&self) -> Self {
        Self {
            rows: Arc::clone(&self.rows),
            options: Arc::clone(&self.options),
            layouts: self.layouts.clone(),
            sources: self.sources.clone(),
            start: self.start.clone(),
            filling: Filling::default(),
            unplaced: self.unplaced.clone(),
            ..*self
        }
    }
}

impl<R: PlanRows> Planner<R> {
    /// A plan from its beginning.
    pub fn new(rows: Arc<R>, options: &PlanOptions) -> Result<Self> {
        let resolved = Resolved::new(options, rows.sources())?;
        let names = rows.sources().iter().map(|source| source.name.clone());
        let start = PlanState::start(rows.set_hash(), &resolved, names)?;
        let layout = |_: &PlanSource| Arc::new(Layout::new(options.batch_size, options.clusters.clone()));
        let mut planner = Self {
            layouts: rows.sources().iter().map(layout).collect(),
            negatives: true,
            steps_per_epoch: resolved.steps_per_epoch(rows.sources()),
            num_epochs: options.num_epochs,
            max_steps: options.max_steps,
            sources: Vec::new(),
            rows,
            options: Arc::new(resolved),
            epoch: 0,
            step: 0,
            epoch_step: 0,
            filling: Filling::default(),
            unplaced: Vec::new(),
            start: start.clone(),
        };
        planner.restore(&start)?;
        Ok(planner)
    }

    /// Continues behind the batch that the state describes. Nothing is replayed.
    pub fn restore(&mut self, state: &PlanState) -> Result<()> {
        state.check_against(&self.start)?;
        let seed = self.options.seed;
        let known = self.rows.sources().iter().zip(self.layouts.iter());
        let entries = known.zip(&state.sources).enumerate();
        self.sources = entries
            .map(|(index, ((source, layout), entry))| SourcePass::restore(index, source, layout, entry, seed))
            .collect::<Result<_>>()?;
        self.epoch = state.epoch;
        self.step = state.step;
        self.epoch_step = state.epoch_step;
        self.unplaced.clear();
        Ok(())
    }

    /// The resume point behind the batch just planned.
    pub fn state(&self) -> PlanState {
        PlanState {
            epoch: self.epoch,
            step: self.step,
            epoch_step: self.epoch_step,
            sources: self.sources.iter().map(SourcePass::snapshot).collect(),
            ..self.start.clone()
        }
    }

    /// The rows planned over.
    pub fn rows(&self) -> &Arc<R> {
        &self.rows
    }

    /// Steps of the whole run where they are known without planning it: a run limited by steps, or
    /// a weighted mix. Otherwise [`Planner::count_steps`] tells.
    pub fn known_steps(&self) -> Option<u64> {
        self.max_steps.or_else(|| Some(self.steps_per_epoch? * self.num_epochs?))
    }

    /// Steps of the whole run, planned to the end on keys alone (this planner moves there). `go_on`
    /// is asked before every step and stops the count with its error.
    pub fn count_steps(&mut self, mut go_on: impl FnMut() -> Result<()>) -> Result<u64> {
        if let Some(steps) = self.known_steps() {
            return Ok(steps);
        }
        self.negatives = false;
        while self.next_batch()?.is_some() {
            go_on()?;
        }
        Ok(self.step)
    }

    /// Rows given up behind the last batch of the run.
    pub fn take_unplaced(&mut self) -> Vec<Unplaced> {
        std::mem::take(&mut self.unplaced)
    }

    /// The next global batch; `None` at the end of the run.
    pub fn next_batch(&mut self) -> Result<Option<GlobalBatch>> {
        if self.max_steps.is_some_and(|limit| self.step >= limit) {
            return Ok(None);
        }
        let found = if self.options.shares.is_some() { self.next_weighted()? } else { self.next_of_all_rows()? };
        let Some((source, chosen)) = found else { return Ok(None) };
        let step = self.step;
        self.step += 1;
        self.epoch_step += 1;
        let unplaced = self.take_unplaced();
        Ok(Some(GlobalBatch { step, epoch: self.epoch, source: source.map(|source| source as u32), chosen, unplaced }))
    }

    fn next_of_all_rows(&mut self) -> Result<Option<(Option<usize>, Chosen)>> {
        loop {
            for lead in self.leads() {
                self.sources[lead].finished |= self.drawn_from(lead).all(|index| self.sources[index].is_through());
            }
            let mut open = Vec::new();
            for lead in self.leads().filter(|lead| !self.sources[*lead].finished) {
                open.push((lead, self.sources[lead].turns, self.turns_of_a_pass(lead)? as f64));
            }
            let Some(lead) = next_source(self.options.seed, self.epoch, open.into_iter()) else {
                if !self.next_epoch()? {
                    return Ok(None);
                }
                continue;
            };
            let found = self.fill(lead)?;
            let pass = &mut self.sources[lead];
            pass.turns += 1;
            pass.finished |= found.is_none();
            if found.is_some() {
                return Ok(found);
            }
        }
    }

    /// Batches of a pass over what a batch is drawn from, about.
    fn turns_of_a_pass(&self, lead: usize) -> Result<u64> {
        let sources = self.rows.sources();
        if self.options.mixed {
            let rows: u64 = self.drawn_from(lead).map(|index| sources[index].rows).sum();
            return Ok(rows.div_ceil(self.options.batch_size));
        }
        self.layouts[lead].turns(self.rows.as_ref(), &sources[lead])
    }

    /// Begins another pass over every source; false at the end of the run.
    fn next_epoch(&mut self) -> Result<bool> {
        // Limited by steps, a run goes on until it has them: it must come nearer in each epoch.
        let limit = if self.max_steps.is_some() { None } else { self.num_epochs };
        match limit {
            Some(limit) if self.epoch + 1 >= limit => return Ok(false),
            None if self.epoch_step == 0 => return Err(self.no_batch("a whole epoch")),
            _ => {}
        }
        self.epoch += 1;
        self.epoch_step = 0;
        for pass in &mut self.sources {
            pass.begin(self.epoch);
            pass.turns = 0;
            pass.finished = false;
        }
        Ok(true)
    }

    fn next_weighted(&mut self) -> Result<Option<(Option<usize>, Chosen)>> {
        if self.known_steps().is_some_and(|limit| self.step >= limit) {
            return Ok(None);
        }
        if self.steps_per_epoch.is_some_and(|steps| self.epoch_step >= steps) {
            self.epoch += 1;
            self.epoch_step = 0;
        }
        let candidates = self.leads().filter_map(|lead| {
            let share: f64 = self.drawn_from(lead).map(|index| self.share(index)).sum();
            (share > 0.0).then_some((lead, self.sources[lead].turns, share))
        });
        let Some(lead) = next_source(self.options.seed, ONE_ROUND, candidates) else {
            return Err(self.no_batch("the mix"));
        };
        self.sources[lead].turns += 1;
        // The first `None` may be the tail of a pass; a second one is a whole pass without a batch.
        for _ in 0..2 {
            let found = self.fill(lead)?;
            for (pass, source) in self.sources.iter_mut().zip(self.rows.sources()) {
                if pass.is_through() && source.rows > 0 {
                    pass.begin(pass.pass + 1);
                }
            }
            if found.is_some() {
                return Ok(found);
            }
        }
        Err(self.no_batch(&self.rows.sources()[lead].name))
    }

    /// Whose turn a batch can be: a source's, or for mixed batches a group's, by its first source.
    fn leads(&self) -> impl Iterator<Item = usize> + use<R> {
        let options = Arc::clone(&self.options);
        (0..options.groups.len()).filter(move |source| !options.mixed || options.groups[*source] == *source)
    }

    /// The sources that a batch is drawn from.
    fn drawn_from(&self, lead: usize) -> impl Iterator<Item = usize> + use<R> {
        let options = Arc::clone(&self.options);
        (0..options.groups.len()).filter(
            move |source| {
                if options.mixed { options.groups[*source] == lead } else { *source == lead }
            },
        )
    }

    /// A source's share of the batches; 0 if it is not used.
    fn share(&self, source: usize) -> f64 {
        let rows = self.rows.sources()[source].rows;
        self.options.shares.as_ref().map_or(rows.min(1) as f64, |shares| shares[source])
    }

    /// Fills a batch. `None` when what is left of the pass gives none; those rows go to `unplaced`.
    fn fill(&mut self, lead: usize) -> Result<Option<(Option<usize>, Chosen)>> {
        let (options, rows) = (Arc::clone(&self.options), Arc::clone(&self.rows));
        let (size, group) = (options.batch_size as usize, options.groups[lead]);
        let own: Vec<usize> = self.drawn_from(lead).filter(|index| self.share(*index) > 0.0).collect();
        let in_group = (0..options.groups.len()).filter(|index| options.groups[*index] == group);
        let mut others: Vec<usize> = in_group
            .filter(|index| options.mixed || (options.top_up && *index != lead && self.share(*index) > 0.0))
            .collect();
        let rules = own.iter().chain(&others).map(|index| Rules::of(rows.sources()[*index].task));
        let mut filling = std::mem::take(&mut self.filling);
        filling.clear(rules.reduce(Rules::and).unwrap_or_default());
        for (index, quota) in self.quotas(&own) {
            self.sources[index].give(rows.as_ref(), filling.len() + quota, &mut filling)?;
        }
        if filling.len() < size {
            others.sort_by_key(|index| (std::cmp::Reverse(self.sources[*index].left()), *index));
            for index in others {
                self.sources[index].give(rows.as_ref(), size, &mut filling)?;
            }
        }
        let reason = (filling.len() < size).then(|| self.reason_to_give_up(&own, filling.len() as u64)).flatten();
        if let Some(reason) = reason {
            for (index, places) in filling.parts() {
                self.sources[index].give_up(filling.rows_at(places), reason, &mut self.unplaced);
            }
            for index in own {
                self.sources[index].give_up_waiting(reason, &mut self.unplaced);
            }
            self.filling = filling;
            return Ok(None);
        }
        for (index, places) in filling.parts() {
            let counts = &mut self.sources[index].counts;
            counts.rows += places.len() as u64;
            counts.lent_rows += if own.contains(&index) { 0 } else { places.len() as u64 };
        }
        let counts = &mut self.sources[lead].counts;
        counts.batches += 1;
        counts.short_batches += u64::from(filling.len() < size);
        let source = filling.only_source();
        let wanted = if self.negatives { options.negatives } else { 0 };
        let chosen = filling.choose_negatives(rows.as_ref(), &options, wanted, &mut self.sources)?;
        self.filling = filling;
        Ok(Some((source, chosen)))
    }

    /// How many rows of the batch each source gives: one all of them, several in proportion to what they have left,
    /// or to their shares. Rounding is drawn, so that a small source gets its due over many batches.
    fn quotas(&self, own: &[usize]) -> Vec<(usize, usize)> {
        let size = self.options.batch_size as usize;
        if let [only] = own {
            return vec![(*only, size)];
        }
        let weight = |index: &usize| {
            if self.options.shares.is_some() { self.share(*index) } else { self.sources[*index].left() as f64 }
        };
        let total: f64 = own.iter().map(weight).sum();
        let draw = fraction(seed_of(Use::Quota, &[self.options.seed, self.step]));
        let (mut sum, mut before) = (0.0, 0);
        let quota = |index: &usize| {
            sum += weight(index) / total.max(f64::MIN_POSITIVE) * size as f64;
            let upto = ((sum + draw).floor() as usize).min(size);
            let quota = upto.saturating_sub(before);
            before = before.max(upto);
            (*index, quota)
        };
        own.iter().map(quota).collect()
    }

    /// Only at the end of a pass is a batch short: what waits now would wait for ever.
    fn reason_to_give_up(&self, own: &[usize], placed: u64) -> Option<UnplacedReason> {
        let waiting = own.iter().any(|index| self.sources[*index].has_waiting());
        if self.options.drop_last {
            Some(if waiting { UnplacedReason::Conflict } else { UnplacedReason::LastBatch })
        } else if waiting && placed < self.options.min_rows {
            Some(UnplacedReason::Conflict)
        } else if placed == 0 {
            Some(UnplacedReason::LastBatch)
        } else {
            None
        }
    }

    fn no_batch(&self, of: &str) -> Error {
        let size = self.options.batch_size;
        let message =
            format!("{of} gives no batch of {size} rows without colliding keys; lower batch_size or drop_last");
        Error::config("batch.batch_size", message)
    }

    /// What became of the rows of each source.
    pub fn report(&self) -> Vec<SourceReport> {
        report_of(&self.state())
    }
}

/// What became of the rows of each source, as a state tells it.
pub fn report_of(state: &PlanState) -> Vec<SourceReport> {
    let waiting = |queues: &[(u64, Vec<u64>)]| queues.iter().map(|(_, rows)| rows.len() as u64).sum();
    let report = state.sources.iter().map(|source| SourceReport {
        name: source.name.clone(),
        passes: source.pass + u64::from(source.cursor > 0),
        waiting: waiting(&source.waiting),
        counts: source.counts,
    });
    report.collect()
}
