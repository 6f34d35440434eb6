//! Threads that plan and tokenise ahead of the trainer.
//!
//! All workers are alike. Whoever is free takes the oldest piece of rows nobody has taken; where
//! there is none and the queue is not full, it plans the next batch. So the batch the trainer waits
//! for is always worked on by every thread, and planning happens beside tokenising.
//!
//! State travels with each batch: what is queued ahead changes nothing about where a run resumes.

use std::ops::Range;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::ahead::{Ahead, Maker};
use super::chunks::{Chunks, TokenCounts};
use super::collate::{CollateOptions, Collator, Joined, RowArrays};
use super::crew::lock;
use super::options::PlanOptions;
use super::plan::{GlobalBatch, Planner, SourceReport, report_of};
use super::rows::PlanRows;
use super::set_rows::SetRows;
use super::slices::rank_slice;
use super::state::{PlanState, Unplaced};
use super::work::Popped;
use crate::shard::ShardSet;
use crate::tokenize::TextEncoder;
use crate::{Error, Result};

/// How a loader works; none of it changes a global batch.
#[derive(Debug, Clone, PartialEq)]
pub struct LoaderOptions {
    /// This rank.
    pub rank: u32,
    /// Number of ranks.
    pub world_size: u32,
    /// Batches to have ready or in work, at least 1.
    pub prefetch: usize,
    /// Threads, at least 1.
    pub threads: usize,
}

impl LoaderOptions {
    /// Refuses what cannot work; `section` is where the options stand in a config.
    pub(crate) fn check(&self, section: &str) -> Result<()> {
        if self.world_size == 0 || self.rank >= self.world_size {
            let message = format!("expected a rank below world_size {}, found {}", self.world_size, self.rank);
            return Err(Error::config(format!("{section}.rank"), message));
        }
        for (key, count) in [("prefetch", self.prefetch), ("threads", self.threads)] {
            if count == 0 {
                return Err(Error::config(format!("{section}.{key}"), "expected at least 1, found 0"));
            }
        }
        Ok(())
    }
}

/// This rank's part of a global batch.
#[derive(Debug, Clone)]
pub struct RankBatch {
    /// Counts over the run from 0.
    pub step: u64,
    /// Counts from 0.
    pub epoch: u64,
    /// The source of all rows, `None` where the batch mixes sources.
    pub source: Option<u32>,
    /// Rows of the global batch.
    pub global_rows: u64,
    /// This rank's rows, longest first.
    pub arrays: RowArrays,
    /// The same texts padded, where the layout asks for it.
    pub chunks: Option<Chunks>,
    /// Where to resume behind this batch.
    pub state: Arc<PlanState>,
    unplaced: Vec<Unplaced>,
}

/// What a loader's `next` found.
#[derive(Debug)]
pub enum Next<B = RankBatch> {
    /// The next batch.
    Batch(Box<B>),
    /// The run is over.
    End,
    /// Nothing within the time given; ask again.
    NotYet,
}

/// Reads global batches off a plan and gives one rank its rows as arrays.
pub struct Loader {
    rows: Arc<SetRows>,
    planner: Planner<SetRows>,
    options: LoaderOptions,
    collator: Arc<Collator>,
    state: Arc<PlanState>,
    unplaced: Vec<Unplaced>,
    tokens: TokenCounts,
    ended: bool,
    ahead: Ahead<Making>,
}

/// What the threads make batches with.
struct Making {
    planner: Mutex<Planner<SetRows>>,
    collator: Arc<Collator>,
    rank: u32,
    world_size: u32,
}

/// A batch as the workers see it.
struct Piece {
    batch: GlobalBatch,
    places: Vec<usize>,
    state: Arc<PlanState>,
}

impl Loader {
    /// A loader at the start of a run. No thread runs before the first [`Loader::next`].
    pub fn new(
        set: Arc<ShardSet>,
        encoder: Arc<TextEncoder>,
        plan: &PlanOptions,
        collate: &CollateOptions,
        options: LoaderOptions,
    ) -> Result<Self> {
        options.check("batch")?;
        let rows = Arc::new(SetRows::new(set)?);
        let collator = Arc::new(Collator::new(Arc::clone(&rows), encoder, collate)?);
        let planner = Planner::new(Arc::clone(&rows), plan)?;
        let mut state = planner.state();
        state.world_size = options.world_size;
        let state = Arc::new(state);
        Ok(Self {
            rows,
            planner,
            options,
            collator,
            state,
            unplaced: Vec::new(),
            tokens: TokenCounts::default(),
            ended: false,
            ahead: Ahead::new(),
        })
    }

    /// The set's rows.
    pub fn rows(&self) -> &Arc<SetRows> {
        &self.rows
    }

    /// A planner of the same run, from its start.
    pub fn planner(&self) -> Planner<SetRows> {
        self.planner.clone()
    }

    /// The state behind the batch yielded last.
    pub fn state(&self) -> &Arc<PlanState> {
        &self.state
    }

    /// Goes to another place of the run; batches prepared ahead are given up.
    pub fn restore(&mut self, state: PlanState) -> Result<()> {
        self.planner().restore(&state)?;
        self.close();
        self.state = Arc::new(state);
        self.unplaced.clear();
        self.tokens = TokenCounts::default();
        self.ended = false;
        Ok(())
    }

    /// What became of the rows of each source up to the batch yielded last.
    pub fn report(&self) -> Vec<SourceReport> {
        report_of(&self.state)
    }

    /// Rows given up since this loader started or was restored.
    pub fn unplaced(&self) -> &[Unplaced] {
        &self.unplaced
    }

    /// What padding cost this rank since this loader started or was restored.
    pub fn tokens(&self) -> TokenCounts {
        self.tokens
    }

    /// The next batch, waiting for it no longer than `patience`. After an error the loader stands
    /// where it stood before.
    pub fn next(&mut self, patience: Duration) -> Result<Next> {
        if self.ended {
            return Ok(Next::End);
        }
        let popped = self.ahead.pop(patience, &self.options, || {
            let mut planner = self.planner.clone();
            planner.restore(&self.state)?;
            let collator = Arc::clone(&self.collator);
            let LoaderOptions { rank, world_size, .. } = self.options;
            Ok(Making { planner: Mutex::new(planner), collator, rank, world_size })
        })?;
        match popped {
            None => Ok(Next::NotYet),
            Some(Popped::Job(piece, joined)) => {
                let Joined { arrays, chunks, counts } = *joined;
                let Piece { batch, places: _, state } = piece;
                let batch = RankBatch {
                    step: batch.step,
                    epoch: batch.epoch,
                    source: batch.source,
                    global_rows: batch.chosen.rows.len() as u64,
                    arrays,
                    chunks,
                    state,
                    unplaced: batch.unplaced,
                };
                self.state = Arc::clone(&batch.state);
                self.unplaced.extend_from_slice(&batch.unplaced);
                self.tokens += counts;
                Ok(Next::Batch(Box::new(batch)))
            }
            Some(Popped::End) => {
                self.finish();
                Ok(Next::End)
            }
            Some(Popped::Failed(error)) => {
                self.close();
                Err(error)
            }
        }
    }

    /// Takes over what the planner did behind the last batch: rows it could not place any more.
    fn finish(&mut self) {
        if let Some(making) = self.ahead.maker() {
            let mut planner = lock(&making.planner);
            let mut state = planner.state();
            state.world_size = self.options.world_size;
            self.unplaced.extend(planner.take_unplaced());
            self.state = Arc::new(state);
        }
        self.ended = true;
        self.close();
    }

    /// Stops and joins the threads. The loader can go on: the next batch starts them again.
    pub fn close(&mut self) {
        self.ahead.close();
    }
}

impl Maker for Making {
    type Piece = Piece;
    type Rows = RowArrays;
    type Joined = Joined;

    const ROWS_A_TASK: usize = 64;

    fn plan(&self) -> Result<Option<(Piece, usize)>> {
        let mut planner = lock(&self.planner);
        let Some(batch) = planner.next_batch()? else { return Ok(None) };
        let mut state = planner.state();
        state.world_size = self.world_size;
        let rows = Arc::clone(planner.rows());
        drop(planner);
        let places = if self.world_size == 1 && batch.chosen.rows.len() <= 1 {
            (0..batch.chosen.rows.len()).collect()
        } else {
            let chosen = &batch.chosen;
            let lengths = (0..chosen.rows.len())
                .map(|place| rows.bytes(chosen.rows[place], chosen.positives[place], chosen.negatives_of(place)))
                .collect::<Result<Vec<u64>>>()?;
            rank_slice(&lengths, &chosen.rows, self.rank, self.world_size)
        };
        let count = places.len();
        Ok(Some((Piece { batch, places, state: Arc::new(state) }, count)))
    }

    fn make(&self, piece: &Piece, places: Range<usize>) -> Result<RowArrays> {
        self.collator.collate(&piece.batch.chosen, &piece.places[places])
    }

    fn join(&self, rows: Vec<RowArrays>) -> Joined {
        self.collator.join(rows)
    }
}
