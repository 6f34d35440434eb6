//! Threads that mask this rank's blocks ahead of the trainer.

use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::document::document;
use super::index::BlockIndex;
use super::plan::{Schedule, TextPlanOptions};
use super::state::TextState;
use crate::batch::ahead::{Ahead, Maker};
use crate::batch::slices::rank_slice;
use crate::batch::work::Popped;
use crate::batch::{LoaderOptions, Next};
use crate::mask::{Masker, TextArrays};
use crate::shard::ShardSet;
use crate::{Error, Result};

/// This rank's part of a global batch of blocks.
#[derive(Debug, Clone)]
pub struct TextBatch {
    /// Counts over the run from 0.
    pub step: u64,
    /// Counts from 0.
    pub epoch: u64,
    /// Blocks of the global batch.
    pub global_blocks: u64,
    /// This rank's blocks, longest first.
    pub arrays: TextArrays,
    /// Where to resume behind this batch.
    pub state: TextState,
}

/// Gives one rank its blocks of each step, masked.
pub struct TextLoader {
    source: Arc<Source>,
    options: LoaderOptions,
    state: TextState,
    ahead: Ahead<Making>,
}

/// What blocks are made from.
struct Source {
    set: Arc<ShardSet>,
    index: BlockIndex,
    masker: Masker,
    schedule: Schedule,
}

/// What the threads make batches with.
struct Making {
    source: Arc<Source>,
    next_step: AtomicU64,
    rank: u32,
    world_size: u32,
}

/// A step as the workers see it.
struct Piece {
    step: u64,
    /// Blocks of the step over all ranks.
    global: u64,
    /// This rank's.
    blocks: Vec<u64>,
}

impl TextLoader {
    /// A loader at the start of a run. No thread runs before the first [`TextLoader::next`].
    pub fn new(
        set: Arc<ShardSet>,
        index: BlockIndex,
        masker: Masker,
        plan: &TextPlanOptions,
        options: LoaderOptions,
    ) -> Result<Self> {
        options.check("text")?;
        let schedule = Schedule::new(index.len(), plan)?;
        let state = TextState::start(&set.manifest().hash, index.hash(), &schedule, options.world_size)?;
        Ok(Self { source: Arc::new(Source { set, index, masker, schedule }), options, state, ahead: Ahead::new() })
    }

    /// The blocks.
    pub fn index(&self) -> &BlockIndex {
        &self.source.index
    }

    /// Steps of the whole run.
    pub fn steps(&self) -> u64 {
        self.source.schedule.steps
    }

    /// Block ids of a step over all ranks.
    pub fn plan(&self, step: u64) -> Vec<u64> {
        self.source.schedule.batch(step)
    }

    /// The state behind the batch yielded last.
    pub fn state(&self) -> &TextState {
        &self.state
    }

    /// Goes to another place of the run; batches prepared ahead are given up.
    pub fn restore(&mut self, state: &TextState) -> Result<()> {
        state.check_against(&self.state)?;
        self.close();
        self.state = self.state.behind(state.step, &self.source.schedule);
        Ok(())
    }

    /// The next batch, waiting for it no longer than `patience`. After an error the loader stands
    /// where it stood before.
    pub fn next(&mut self, patience: Duration) -> Result<Next<TextBatch>> {
        if self.state.step >= self.steps() {
            self.close();
            return Ok(Next::End);
        }
        let popped = self.ahead.pop(patience, &self.options, || {
            let (source, next_step) = (Arc::clone(&self.source), AtomicU64::new(self.state.step));
            let LoaderOptions { rank, world_size, .. } = self.options;
            Ok(Making { source, next_step, rank, world_size })
        })?;
        match popped {
            None => Ok(Next::NotYet),
            Some(Popped::Job(piece, arrays)) => {
                let schedule = &self.source.schedule;
                self.state = self.state.behind(piece.step + 1, schedule);
                Ok(Next::Batch(Box::new(TextBatch {
                    step: piece.step,
                    epoch: piece.step / schedule.per_epoch(),
                    global_blocks: piece.global,
                    arrays: *arrays,
                    state: self.state.clone(),
                })))
            }
            Some(Popped::End) => {
                self.close();
                Ok(Next::End)
            }
            Some(Popped::Failed(error)) => {
                self.close();
                Err(error)
            }
        }
    }

    /// Stops and joins the threads. The loader can go on: the next batch starts them again.
    pub fn close(&mut self) {
        self.ahead.close();
    }
}

impl Maker for Making {
    type Piece = Piece;
    type Rows = TextArrays;
    type Joined = TextArrays;

    const ROWS_A_TASK: usize = 8;

    fn plan(&self) -> Result<Option<(Piece, usize)>> {
        let step = self.next_step.fetch_add(1, Ordering::Relaxed);
        if step >= self.source.schedule.steps {
            return Ok(None);
        }
        let ids = self.source.schedule.batch(step);
        let lengths: Vec<u64> =
            ids.iter().map(|id| self.source.index.get(*id).map_or(0, |block| u64::from(block.tokens))).collect();
        let places = rank_slice(&lengths, &ids, self.rank, self.world_size);
        let blocks: Vec<u64> = places.into_iter().map(|place| ids[place]).collect();
        let count = blocks.len();
        Ok(Some((Piece { step, global: ids.len() as u64, blocks }, count)))
    }

    fn make(&self, piece: &Piece, places: Range<usize>) -> Result<TextArrays> {
        let epoch = piece.step / self.source.schedule.per_epoch();
        self.source.mask(&piece.blocks[places], epoch)
    }

    fn join(&self, rows: Vec<TextArrays>) -> TextArrays {
        TextArrays::concat(rows)
    }
}

impl Source {
    fn mask(&self, blocks: &[u64], epoch: u64) -> Result<TextArrays> {
        let (mut arrays, mut scratch) = (TextArrays::default(), String::new());
        for &id in blocks {
            let block = self.index.get(id).ok_or_else(|| Error::Internal(format!("no block {id}")))?;
            let row = self.set.row(block.row)?;
            let document = document(&row, &mut scratch);
            let text = document.get(block.start as usize..block.end as usize);
            let text = text.ok_or_else(|| {
                Error::shard(
                    self.index.path(),
                    format!("block {id} is no part of row {}; hint: remove this file", block.row),
                )
            })?;
            self.masker.text(text, (block.row, id, epoch), &mut arrays)?;
        }
        Ok(arrays)
    }
}
