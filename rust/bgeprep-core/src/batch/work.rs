//! The queue between planning, tokenising and the trainer.

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
pub(crate) enum Popped<P, A> {
    /// The oldest batch with its pieces in order.
    Job(P, Vec<A>),
    /// No batch is left, nor will there be.
    End,
    /// The oldest batch could not be made.
    Failed(Error),
}

struct Entry<P, A> {
    job: Arc<Job<P>>,
    /// Rows from here on nobody has taken.
    next: usize,
    pieces: Vec<Option<A>>,
    missing: usize,
    error: Option<Error>,
}

struct Inner<P, A> {
    entries: VecDeque<Entry<P, A>>,
    planning: bool,
    ended: bool,
    planning_error: Option<Error>,
    stopped: bool,
}

/// Shared by the workers and the consumer.
pub(crate) struct Queue<P, A> {
    inner: Mutex<Inner<P, A>>,
    capacity: usize,
    work: Condvar,
    ready: Condvar,
}

impl<P, A> Queue<P, A> {
    pub(crate) fn new(capacity: usize) -> Self {
        let inner =
            Inner { entries: VecDeque::new(), planning: false, ended: false, planning_error: None, stopped: false };
        Self { inner: Mutex::new(inner), capacity, work: Condvar::new(), ready: Condvar::new() }
    }

    fn lock(&self) -> MutexGuard<'_, Inner<P, A>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The next thing to do; `None` once the queue is stopped.
    pub(crate) fn take_task(&self) -> Option<Task<P>> {
        let mut inner = self.lock();
        loop {
            if inner.stopped {
                return None;
            }
            if let Some(entry) = inner.entries.iter_mut().find(|entry| entry.next < entry.job.rows) {
                let range = entry.next..(entry.next + entry.job.rows_a_task).min(entry.job.rows);
                entry.next = range.end;
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
                let pieces = job.rows.div_ceil(job.rows_a_task);
                inner.entries.push_back(Entry {
                    job: Arc::new(job),
                    next: 0,
                    pieces: std::iter::repeat_with(|| None).take(pieces).collect(),
                    missing: pieces,
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

    /// Takes the worker's hold on the job too: when nothing is missing, the queue is its only owner.
    pub(crate) fn done(&self, job: Arc<Job<P>>, piece: usize, arrays: Result<A>) {
        let mut inner = self.lock();
        let Some(entry) = inner.entries.iter_mut().find(|entry| Arc::ptr_eq(&entry.job, &job)) else { return };
        drop(job);
        entry.missing -= 1;
        match arrays {
            Ok(arrays) => entry.pieces[piece] = Some(arrays),
            Err(error) => {
                entry.error.get_or_insert(error);
            }
        }
        if entry.missing == 0 {
            drop(inner);
            self.ready.notify_all();
        }
    }

    /// The oldest batch, waiting for it no longer than `patience`.
    pub(crate) fn pop(&self, patience: Duration) -> Option<Popped<P, A>> {
        let until = Instant::now() + patience;
        let mut inner = self.lock();
        loop {
            match inner.entries.front() {
                Some(entry) if entry.missing == 0 => break,
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
        let Some(job) = Arc::into_inner(entry.job) else {
            return Some(Popped::Failed(Error::Internal("a batch is still in work".into())));
        };
        Some(Popped::Job(job.piece, entry.pieces.into_iter().flatten().collect()))
    }

    /// Sends the workers home; they look up after the piece in hand.
    pub(crate) fn stop(&self) {
        self.lock().stopped = true;
        self.work.notify_all();
    }
}
