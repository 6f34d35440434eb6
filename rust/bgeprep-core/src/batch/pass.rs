//! One source on its way through a pass: the keyed order, the waiting rows, the next batch.

use super::conflict::{KeyTable, Rules};
use super::options::{NegativeChoice, Resolved};
use super::permute::{Permutation, Stream, Use, seed_of};
use super::rows::{PlanRows, PlanSource, RowKeys};
use super::state::{Counts, SourceState, Unplaced, UnplacedReason};
use super::wait::Waiting;
use crate::{Error, Result};

/// The rows of a batch with the documents chosen for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Row ids, in the order they were placed.
    pub rows: Vec<u64>,
    /// For each row, the place of its positive in its list.
    pub positives: Vec<u32>,
    /// The places of all chosen negatives in their rows' lists, row after row.
    pub negatives: Vec<u32>,
    /// Row `i` owns `negatives[offsets[i]..offsets[i + 1]]`.
    pub negative_offsets: Vec<u32>,
}

impl Chosen {
    /// The negatives chosen for the row at a place of the batch.
    pub fn negatives_of(&self, place: usize) -> &[u32] {
        &self.negatives[self.negative_offsets[place] as usize..self.negative_offsets[place + 1] as usize]
    }
}

/// A source's place in its pass.
#[derive(Debug)]
pub(crate) struct SourcePass {
    index: u32,
    source: PlanSource,
    rules: Rules,
    permutation: Permutation,
    pub(crate) pass: u64,
    cursor: u64,
    waiting: Waiting,
    pub(crate) turns: u64,
    pub(crate) finished: bool,
    pub(crate) counts: Counts,
}

impl SourcePass {
    pub(crate) fn restore(index: usize, source: &PlanSource, state: &SourceState, seed: u64) -> Result<Self> {
        let outside = |row: &u64| *row >= source.rows;
        if state.name != source.name
            || state.cursor > source.rows
            || state.waiting.iter().any(|(_, rows)| rows.iter().any(outside))
        {
            let message = format!("its entry for source {:?} does not fit the set", state.name);
            return Err(Error::config("batch.state", message));
        }
        Ok(Self {
            index: index as u32,
            rules: Rules::of(source.task),
            permutation: order(source, index, seed, state.pass),
            source: source.clone(),
            pass: state.pass,
            cursor: state.cursor,
            waiting: Waiting::restore(&state.waiting),
            turns: state.turns,
            finished: state.finished,
            counts: state.counts,
        })
    }

    pub(crate) fn snapshot(&self) -> SourceState {
        SourceState {
            name: self.source.name.clone(),
            pass: self.pass,
            cursor: self.cursor,
            turns: self.turns,
            finished: self.finished,
            waiting: self.waiting.snapshot(),
            counts: self.counts,
        }
    }

    /// Moves to the start of another pass; its queue is empty by then.
    pub(crate) fn begin(&mut self, pass: u64, seed: u64) {
        debug_assert_eq!(self.waiting.len(), 0);
        self.pass = pass;
        self.cursor = 0;
        self.permutation = order(&self.source, self.index as usize, seed, pass);
    }

    /// Whether every row of the pass was placed or given up.
    pub(crate) fn is_through(&self) -> bool {
        self.cursor == self.source.rows && self.waiting.len() == 0
    }

    /// Plans the next batch of this pass: waiting rows first, then the pass's order. `None` when
    /// what is left of the pass gives no batch; those rows go to `unplaced`.
    pub(crate) fn next_batch<R: PlanRows>(
        &mut self,
        rows: &R,
        options: &Resolved,
        table: &mut KeyTable,
        unplaced: &mut Vec<Unplaced>,
    ) -> Result<Option<Chosen>> {
        let size = options.batch_size as usize;
        let mut chosen = Chosen::default();
        table.clear();
        self.admit_waiting(rows, options, table, &mut chosen)?;
        while chosen.rows.len() < size && self.cursor < self.source.rows {
            let row = self.permutation.at(self.cursor);
            self.cursor += 1;
            if let Some(key) = self.admit(row, rows, options.seed, table, &mut chosen)? {
                self.waiting.push(key, row);
                self.counts.waited += 1;
            }
        }
        if chosen.rows.len() < size {
            let reason = self.reason_to_give_up(chosen.rows.len() as u64, options);
            if let Some(reason) = reason {
                self.give_up(&chosen.rows, reason, unplaced);
                return Ok(None);
            }
            self.counts.short_batches += 1;
        }
        self.choose_negatives(rows, options, table, &mut chosen)?;
        self.counts.batches += 1;
        self.counts.rows += chosen.rows.len() as u64;
        Ok(Some(chosen))
    }

    fn admit_waiting<R: PlanRows>(
        &mut self,
        rows: &R,
        options: &Resolved,
        table: &mut KeyTable,
        chosen: &mut Chosen,
    ) -> Result<()> {
        // Taken out for the time of the offer: `admit` needs the rest of `self`.
        let mut waiting = std::mem::take(&mut self.waiting);
        let chosen = std::cell::RefCell::new(chosen);
        let offered = waiting.offer(
            || chosen.borrow().rows.len() < options.batch_size as usize,
            |row| self.admit(row, rows, options.seed, table, &mut chosen.borrow_mut()),
        );
        self.waiting = waiting;
        offered
    }

    fn admit<R: PlanRows>(
        &self,
        row: u64,
        rows: &R,
        seed: u64,
        table: &mut KeyTable,
        chosen: &mut Chosen,
    ) -> Result<Option<u64>> {
        let id = self.source.first + row;
        let keys = rows.keys(id)?;
        let positive = self.positive_of(id, &keys, seed)?;
        let blocked = table.admit(self.rules, &keys, positive as usize);
        if blocked.is_none() {
            chosen.rows.push(id);
            chosen.positives.push(positive);
        }
        Ok(blocked)
    }

    /// One positive a visit, the next of the list in the next pass, from a start of the row's own.
    fn positive_of(&self, id: u64, keys: &RowKeys<'_>, seed: u64) -> Result<u32> {
        match keys.pos.len() as u64 {
            0 => Err(Error::Internal(format!("row {id} of the shard set has no positive"))),
            1 => Ok(0),
            count => {
                let start = Stream::new(seed_of(Use::Positive, &[seed, id])).below(count);
                Ok(((start + self.pass % count) % count) as u32)
            }
        }
    }

    fn choose_negatives<R: PlanRows>(
        &mut self,
        rows: &R,
        options: &Resolved,
        table: &mut KeyTable,
        chosen: &mut Chosen,
    ) -> Result<()> {
        chosen.negative_offsets.reserve(chosen.rows.len() + 1);
        chosen.negative_offsets.push(0);
        for id in &chosen.rows {
            if options.negatives > 0 {
                let keys = rows.keys(*id)?;
                let sampled = (options.negative_choice == NegativeChoice::Sample)
                    .then(|| Stream::new(seed_of(Use::Negatives, &[options.seed, self.pass, *id])));
                let wanted = options.negatives as usize;
                let counts = table.choose_negatives(self.rules, &keys, wanted, sampled, &mut chosen.negatives);
                self.counts.negatives_swapped += counts.swapped;
                self.counts.negatives_left_out += counts.left_out;
            }
            chosen.negative_offsets.push(chosen.negatives.len() as u32);
        }
        Ok(())
    }

    /// Only at the end of a pass is a batch short: what waits now would wait for ever.
    fn reason_to_give_up(&self, placed: u64, options: &Resolved) -> Option<UnplacedReason> {
        if options.drop_last {
            Some(if self.waiting.len() > 0 { UnplacedReason::Conflict } else { UnplacedReason::LastBatch })
        } else if self.waiting.len() > 0 && placed < options.min_rows {
            Some(UnplacedReason::Conflict)
        } else if placed == 0 {
            Some(UnplacedReason::LastBatch)
        } else {
            None
        }
    }

    fn give_up(&mut self, placed: &[u64], reason: UnplacedReason, unplaced: &mut Vec<Unplaced>) {
        let waiting: Vec<u64> = self.waiting.drain().into_iter().map(|row| self.source.first + row).collect();
        let rows = placed.iter().copied().chain(waiting);
        let (source, pass) = (self.index, self.pass);
        let before = unplaced.len();
        unplaced.extend(rows.map(|row| Unplaced { row, source, pass, reason }));
        let count = (unplaced.len() - before) as u64;
        match reason {
            UnplacedReason::Conflict => self.counts.unplaced_conflict += count,
            UnplacedReason::LastBatch => self.counts.unplaced_last_batch += count,
        }
    }
}

fn order(source: &PlanSource, index: usize, seed: u64, pass: u64) -> Permutation {
    Permutation::new(source.rows, seed_of(Use::Order, &[seed, pass, index as u64]))
}
