//! The queue between planning, tokenising and the trainer.
//!
//! A batch is tokenised in ranges of rows, by whoever is free; who hands in the last of them joins
//! them, so that the trainer's thread does nothing but take what is ready. `R` is what a range of rows
//! becomes, `J` what they are joined to.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::{Error, Result};

/// A batch on its way: its rows are worked on in ranges.
pub(crate) struct Job<P> {
    piece: P,
    rows: usize,
    rows_a_task: usize,
}

impl<P> Job<P> {
    pub(crate) fn new(piece: P, rows: usize, rows_a_task: usize) -> Self {
        Self { piece, rows, rows_a_task }
    }

    pub(crate) fn piece(&self) -> &P {
        &self.piece
    }
}

/// What a worker is to do.
pub(crate) enum Task<P> {
    /// Plan the next batch and hand it to [`Queue::planned`].
    Plan,
    /// Tokenise these rows of a batch and hand them to [`Queue::done`].
    Rows(Arc<Job<P>>, Range<usize>),
}

/// What the consumer gets.
pub(crate) enum Popped<P, J> {
    /// The oldest batch.
    Job(P, Box<J>),
    /// No batch is left, nor will there be.
    End,
    /// The oldest batch could not be made.
    Failed(Error),
}

/// A job whose pieces are all there, in order.
pub(crate) type Complete<P, R> = (Arc<Job<P>>, Vec<R>);

struct Entry<P, R, J> {
    job: Arc<Job<P>>,
    /// Pieces from here on nobody has taken.
    next: usize,
    pieces: Vec<Option<R>>,
    missing: usize,
    joined: Option<J>,
    error: Option<Error>,
}

impl<P, R, J> Entry<P, R, J> {
    fn is_ready(&self) -> bool {
        self.missing == 0 && (self.joined.is_some() || self.error.is_some())
    }
}

struct Inner<P, R, J> {
    entries: VecDeque<Entry<P, R, J>>,
    planning: bool,
    ended: bool,
    planning_error: Option<Error>,
    stopped: bool,
}

/// Shared by the workers and the consumer.
pub(crate) struct Queue<P, R, J> {
    inner: Mutex<Inner<P, R, J>>,
    capacity: usize,
    work: Condvar,
    ready: Condvar,
}

impl<P, R, J> Queue<P, R, J> {
    pub(crate) fn new(capacity: usize) -> Self {
        let inner =
            Inner { entries: VecDeque::new(), planning: false, ended: false, planning_error: None, stopped: false };
        Self { inner: Mutex::new(inner), capacity, work: Condvar::new(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P, R, J>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; `None` once the queue is stopped.
    pub(crate) fn take_task(&self) -> Option<Task<P>> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            if let Some(entry) = inner.entries.iter_mut().find(|entry| entry.next < entry.pieces.len()) {
                let start = entry.next * entry.job.rows_a_task;
                let range = start..(start + entry.job.rows_a_task).min(entry.job.rows);
                entry.next += 1;
                return Some(Task::Rows(Arc::clone(&entry.job), range));
            }
            if !inner.planning && !inner.ended && inner.entries.len() < self.capacity {
                inner.planning = true;
                return Some(Task::Plan);
            }
            inner = self.work.wait(inner).unwrap_or_else(PoisonError::into_inner);
        }
    }

    pub(crate) fn planned(&self, job: Result<Option<Job<P>>>) {
        let mut inner = self.lock();
        inner.planning = false;
        match job {
            Ok(Some(job)) => {
                // A rank without rows has one piece, which is empty: it goes the same way.
                let pieces = job.rows.div_ceil(job.rows_a_task).max(1);
                inner.entries.push_back(Entry {
                    job: Arc::new(job),
                    next: 0,
                    pieces: std::iter::repeat_with(|| None).take(pieces).collect(),
                    missing: pieces,
                    joined: None,
                    error: None,
                });
            }
            Ok(None) => inner.ended = true,
            Err(error) => {
                inner.ended = true;
                inner.planning_error = Some(error);
            }
        }
        drop(inner);
        self.work.notify_all();
        self.ready.notify_all();
    }

    /// Takes a piece in, and the worker's hold on the job with it. Who brings the last piece gets all
    /// of them back, to join them and hand them to [`Queue::joined`].
    pub(crate) fn done(&self, job: Arc<Job<P>>, piece: usize, arrays: Result<R>) -> Option<Complete<P, R>> {
        let mut inner = self.lock();
        let entry = inner.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.job, &job))?;
        entry.missing -= 1;
        match arrays {
            Ok(arrays) => entry.pieces[piece] = Some(arrays),
            Err(error) => {
                entry.error.get_or_insert(error);
            }
        }
        if entry.missing > 0 {
            drop(job);
            return None;
        }
        if entry.error.is_none() {
            return Some((job, entry.pieces.iter_mut().filter_map(Option::take).collect()));
        }
        drop(job);
        drop(inner);
        self.ready.notify_all();
        None
    }

    /// Takes a whole batch in, and the worker's hold on the job with it: the queue is its only owner.
    pub(crate) fn joined(&self, job: Arc<Job<P>>, joined: Result<J>) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.job, &job)) else { return };
        drop(job);
        match joined {
            Ok(joined) => entry.joined = Some(joined),
            Err(error) => entry.error = Some(error),
        }
        drop(inner);
        self.ready.notify_all();
    }

    /// The oldest batch, waiting for it no longer than `patience`.
    pub(crate) fn pop(&self, patience: Duration) -> Option<Popped<P, J>> {
        let until = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            match inner.entries.front() {
                Some(entry) if entry.is_ready() => break,
                None if inner.ended => {
                    return Some(inner.planning_error.take().map_or(Popped::End, Popped::Failed));
                }
                _ => {}
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            inner = self.ready.wait_timeout(inner, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        let entry = inner.entries.pop_front()?;
        drop(inner);
        self.work.notify_all();
        if let Some(error) = entry.error {
            return Some(Popped::Failed(error));
        }
        let (Some(job), Some(joined)) = (Arc::into_inner(entry.job), entry.joined) else {
            return Some(Popped::Failed(Error::Internal("a batch is still in work".into())));
        };
        Some(Popped::Job(job.piece, Box::new(joined)))
    }

    /// Sends the workers home; they look up after the piece in hand.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.work.notify_all();
    }
}
