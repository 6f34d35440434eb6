//! Batches made ahead of the trainer: what every loader does with its threads and its queue.

use std::ops::Range;
use std::time::Duration;

use super::crew::{Crew, Work, caught};
use super::loader::LoaderOptions;
use super::work::{Job, Popped, Queue, Task};
use crate::Result;

/// How a loader makes its batches. Called from many threads, but planned on one at a time.
pub(crate) trait Maker: Send + Sync + 'static {
    /// A planned batch.
    type Piece: Send + Sync;
    /// What a range of its rows becomes.
    type Rows: Send;
    /// What these are joined to.
    type Joined: Send;

    /// Rows that a thread takes at a time: enough to make the lock around the queue cheap, few enough to spread one
    /// batch over all threads.
    const ROWS_A_TASK: usize;

    /// The next batch and the number of this rank's rows in it; `None` at the end of the run.
    fn plan(&self) -> Result<Option<(Self::Piece, usize)>>;

    /// Makes some of the rows.
    fn make(&self, piece: &Self::Piece, places: Range<usize>) -> Result<Self::Rows>;

    /// Joins all rows of a batch.
    fn join(&self, rows: Vec<Self::Rows>) -> Self::Joined;
}

/// The threads of a loader, where any run.
pub(crate) struct Ahead<M: Maker> {
    crew: Option<Crew<Shared<M>>>,
}

struct Shared<M: Maker> {
    queue: Queue<M::Piece, M::Rows, M::Joined>,
    maker: M,
}

impl<M: Maker> Ahead<M> {
    /// No thread runs before the first batch is asked for.
    pub(crate) fn new() -> Self {
        Self { crew: None }
    }

    /// The oldest batch, waiting for it no longer than `patience`. Threads are started where there are none in this
    /// process, with the maker that `maker` gives.
    pub(crate) fn pop(
        &mut self,
        patience: Duration,
        options: &LoaderOptions,
        maker: impl FnOnce() -> Result<M>,
    ) -> Result<Option<Popped<M::Piece, M::Joined>>> {
        if self.crew.as_ref().is_some_and(|crew| !crew.is_here()) {
            self.close();
        }
        let crew = if let Some(crew) = self.crew.take() {
            crew
        } else {
            Crew::start(Shared { queue: Queue::new(options.prefetch), maker: maker()? }, options.threads)?
        };
        Ok(self.crew.insert(crew).shared().queue.pop(patience))
    }

    /// What makes the batches, if threads run.
    pub(crate) fn maker(&self) -> Option<&M> {
        self.crew.as_ref().map(|crew| &crew.shared().maker)
    }

    /// Stops and joins the threads. The next batch starts them again.
    pub(crate) fn close(&mut self) {
        if let Some(crew) = self.crew.take() {
            crew.dismiss();
        }
    }
}

impl<M: Maker> Drop for Ahead<M> {
    fn drop(&mut self) {
        self.close();
    }
}

impl<M: Maker> Work for Shared<M> {
    fn work(&self) {
        while let Some(task) = self.queue.take_task() {
            match task {
                Task::Plan => {
                    let job = |(piece, rows)| Job::new(piece, rows, M::ROWS_A_TASK);
                    self.queue.planned(caught(|| Ok(self.maker.plan()?.map(job))));
                }
                Task::Rows(job, range) => {
                    let piece = range.start / M::ROWS_A_TASK;
                    let rows = caught(|| self.maker.make(job.piece(), range));
                    if let Some((job, rows)) = self.queue.done(job, piece, rows) {
                        self.queue.joined(job, caught(|| Ok(self.maker.join(rows))));
                    }
                }
            }
        }
    }

    fn stop(&self) {
        self.queue.stop();
    }
}
