//! One source on its way through a pass: its order, the waiting rows, what it gives to a batch.

use std::sync::Arc;

use super::filling::Filling;
use super::order::{Layout, Order};
use super::permute::{Stream, Use, seed_of};
use super::rows::{PlanRows, PlanSource, RowKeys};
use super::state::{Counts, SourceState, Unplaced, UnplacedReason};
use super::wait::Waiting;
use super::window::Window;
use crate::{Error, Result};

/// A source's place in its pass.
#[derive(Debug, Clone)]
pub(crate) struct SourcePass {
    pub(crate) index: usize,
    source: PlanSource,
    layout: Arc<Layout>,
    order: Option<Order>,
    /// The rows that come next.
    ahead: Window,
    seed: u64,
    pub(crate) pass: u64,
    cursor: u64,
    waiting: Waiting,
    pub(crate) turns: u64,
    pub(crate) finished: bool,
    pub(crate) counts: Counts,
}

impl SourcePass {
    pub(crate) fn restore(
        index: usize,
        source: &PlanSource,
        layout: &Arc<Layout>,
        state: &SourceState,
        seed: u64,
    ) -> Result<Self> {
        let outside = |row: &u64| *row >= source.rows;
        if state.name != source.name
            || state.cursor > source.rows
            || state.waiting.iter().any(|(_, rows)| rows.iter().any(outside))
        {
            let message = format!("its entry for source {:?} does not fit the set", state.name);
            return Err(Error::config("batch.state", message));
        }
        Ok(Self {
            index,
            source: source.clone(),
            layout: Arc::clone(layout),
            order: None,
            ahead: Window::default(),
            seed,
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
    pub(crate) fn begin(&mut self, pass: u64) {
        debug_assert_eq!(self.waiting.len(), 0);
        self.pass = pass;
        self.cursor = 0;
        self.order = None;
        self.ahead.clear();
    }

    /// Whether every row of the pass was placed or given up.
    pub(crate) fn is_through(&self) -> bool {
        self.left() == 0
    }

    /// Rows of the pass that are neither placed nor given up.
    pub(crate) fn left(&self) -> u64 {
        self.source.rows - self.cursor + self.waiting.len() as u64
    }

    /// Whether rows wait: the pass has more than a batch could take.
    pub(crate) fn has_waiting(&self) -> bool {
        self.waiting.len() > 0
    }

    /// Gives rows to a batch until it has `size`: waiting rows first, then in the order of the pass.
    pub(crate) fn give<R: PlanRows>(&mut self, rows: &R, size: usize, batch: &mut Filling) -> Result<()> {
        batch.begin(self.index);
        self.give_waiting(rows, size, batch)?;
        while batch.len() < size && self.cursor < self.source.rows {
            self.look_ahead(rows)?;
            let Some((row, keys)) = self.ahead.next() else {
                return Err(Error::Internal("a pass was asked for more rows than it has".into()));
            };
            let id = self.source.first + row;
            let blocked = match keys {
                Some(keys) => batch.offer(id, &keys, positive_of(self.seed, self.pass, id, &keys)?),
                None => self.offer(row, rows, batch)?,
            };
            self.cursor += 1;
            if let Some(key) = blocked {
                self.waiting.push(key, row);
                self.counts.waited += 1;
            }
        }
        Ok(())
    }

    /// Fetches the rows at the cursor and behind it, where none is left.
    fn look_ahead<R: PlanRows>(&mut self, rows: &R) -> Result<()> {
        if !self.ahead.is_spent() {
            return Ok(());
        }
        let order = match self.order.take() {
            Some(order) => order,
            None => self.layout.order(rows, &self.source, &[self.seed, self.pass, self.index as u64])?,
        };
        let filled = self.ahead.fill(rows, &self.source, &order, self.cursor);
        self.order = Some(order);
        filled
    }

    fn give_waiting<R: PlanRows>(&mut self, rows: &R, size: usize, batch: &mut Filling) -> Result<()> {
        // Taken out for the time of the offer: `offer` needs the rest of `self`.
        let mut waiting = std::mem::take(&mut self.waiting);
        let batch = std::cell::RefCell::new(batch);
        let offered =
            waiting.offer(|| batch.borrow().len() < size, |row| self.offer(row, rows, &mut batch.borrow_mut()));
        self.waiting = waiting;
        offered
    }

    fn offer<R: PlanRows>(&self, row: u64, rows: &R, batch: &mut Filling) -> Result<Option<u64>> {
        let id = self.source.first + row;
        let keys = rows.keys(id)?;
        Ok(batch.offer(id, &keys, positive_of(self.seed, self.pass, id, &keys)?))
    }

    /// Lists rows as unplaced, and counts them.
    pub(crate) fn give_up(&mut self, placed: &[u64], reason: UnplacedReason, unplaced: &mut Vec<Unplaced>) {
        let (source, pass) = (self.index as u32, self.pass);
        unplaced.extend(placed.iter().map(|&row| Unplaced { row, source, pass, reason }));
        match reason {
            UnplacedReason::Conflict => self.counts.unplaced_conflict += placed.len() as u64,
            UnplacedReason::LastBatch => self.counts.unplaced_last_batch += placed.len() as u64,
        }
    }

    /// Lists all waiting rows as unplaced.
    pub(crate) fn give_up_waiting(&mut self, reason: UnplacedReason, unplaced: &mut Vec<Unplaced>) {
        let waiting: Vec<u64> = self.waiting.drain().into_iter().map(|row| self.source.first + row).collect();
        self.give_up(&waiting, reason, unplaced);
    }
}

/// One positive a visit, the next of the list in the next pass, from a start of the row's own.
fn positive_of(seed: u64, pass: u64, id: u64, keys: &RowKeys<'_>) -> Result<u32> {
    match keys.pos.len() as u64 {
        0 => Err(Error::Internal(format!("row {id} of the shard set has no positive"))),
        1 => Ok(0),
        count => {
            let start = Stream::new(seed_of(Use::Positive, &[seed, id])).below(count);
            Ok(((start + pass % count) % count) as u32)
        }
    }
}
