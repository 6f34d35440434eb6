//! The plan: an endless question ("which rows are the next global batch?") with one answer for a
//! set, a seed and the options, whoever asks and on however many ranks.

use std::sync::Arc;

use serde::Serialize;

use super::conflict::KeyTable;
use super::options::{PlanOptions, Resolved};
use super::pass::{Chosen, SourcePass};
use super::rows::PlanRows;
use super::sampler::next_source;
use super::state::{Counts, PlanState, Unplaced};
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
    options: Resolved,
    num_epochs: Option<u64>,
    max_steps: Option<u64>,
    steps_per_epoch: Option<u64>,
    sources: Vec<SourcePass>,
    start: PlanState,
    epoch: u64,
    step: u64,
    epoch_step: u64,
    table: KeyTable,
    unplaced: Vec<Unplaced>,
}

impl<R: PlanRows> Planner<R> {
    /// A plan from its beginning.
    pub fn new(rows: Arc<R>, options: &PlanOptions) -> Result<Self> {
        let resolved = Resolved::new(options, rows.sources())?;
        let names = rows.sources().iter().map(|source| source.name.clone());
        let start = PlanState::start(rows.set_hash(), &resolved, names)?;
        let mut planner = Self {
            steps_per_epoch: resolved.steps_per_epoch(rows.sources()),
            num_epochs: options.num_epochs,
            max_steps: options.max_steps,
            sources: Vec::new(),
            rows,
            options: resolved,
            epoch: 0,
            step: 0,
            epoch_step: 0,
            table: KeyTable::default(),
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
        let pairs = self.rows.sources().iter().zip(&state.sources).enumerate();
        self.sources = pairs
            .map(|(index, (source, entry))| SourcePass::restore(index, source, entry, seed))
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
        self.options.negatives = 0;
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
        Ok(Some(GlobalBatch { step, epoch: self.epoch, source: Some(source as u32), chosen, unplaced }))
    }

    fn next_of_all_rows(&mut self) -> Result<Option<(usize, Chosen)>> {
        loop {
            let size = self.options.batch_size;
            let candidates = self.sources.iter().zip(self.rows.sources()).enumerate();
            let open = candidates
                .filter(|(_, (pass, source))| !pass.finished && source.rows > 0)
                .map(|(index, (pass, source))| (index, pass.turns, source.rows.div_ceil(size) as f64));
            let Some(index) = next_source(self.options.seed, self.epoch, open) else {
                if !self.next_epoch()? {
                    return Ok(None);
                }
                continue;
            };
            let chosen = self.fill(index)?;
            let pass = &mut self.sources[index];
            pass.turns += 1;
            pass.finished = chosen.is_none() || pass.is_through();
            if let Some(chosen) = chosen {
                return Ok(Some((index, chosen)));
            }
        }
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
            pass.begin(self.epoch, self.options.seed);
            pass.turns = 0;
            pass.finished = false;
        }
        Ok(true)
    }

    fn next_weighted(&mut self) -> Result<Option<(usize, Chosen)>> {
        if self.known_steps().is_some_and(|limit| self.step >= limit) {
            return Ok(None);
        }
        if self.steps_per_epoch.is_some_and(|steps| self.epoch_step >= steps) {
            self.epoch += 1;
            self.epoch_step = 0;
        }
        let shares = self.options.shares.as_deref().unwrap_or_default();
        let used = self.sources.iter().zip(shares).enumerate().filter(|(_, (_, share))| **share > 0.0);
        let candidates = used.map(|(index, (pass, share))| (index, pass.turns, *share));
        let Some(index) = next_source(self.options.seed, ONE_ROUND, candidates) else {
            return Err(self.no_batch("the mix"));
        };
        self.sources[index].turns += 1;
        // The first `None` may be the tail of a pass; a second one is a whole pass without a batch.
        for _ in 0..2 {
            let chosen = self.fill(index)?;
            let (pass, seed) = (&mut self.sources[index], self.options.seed);
            if chosen.is_none() || pass.is_through() {
                pass.begin(pass.pass + 1, seed);
            }
            if let Some(chosen) = chosen {
                return Ok(Some((index, chosen)));
            }
        }
        Err(self.no_batch(&self.rows.sources()[index].name))
    }

    fn fill(&mut self, index: usize) -> Result<Option<Chosen>> {
        self.sources[index].next_batch(self.rows.as_ref(), &self.options, &mut self.table, &mut self.unplaced)
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
