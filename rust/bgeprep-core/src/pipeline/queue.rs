//! The files that workers read: one nobody has opened, or one that is open and can be helped with.

use std::sync::{Arc, Mutex};

use super::layout::FileEntry;
use super::read_stage::lock;
use crate::config::PrepPlan;
use crate::read::{self, ChunkReader};
use crate::{Error, Result};

/// A file that workers read together.
pub(super) struct OpenFile {
    /// Index in the listing.
    pub(super) index: usize,
    pub(super) reader: Mutex<Box<dyn ChunkReader>>,
}

#[derive(Default)]
struct QueueState {
    next: usize,
    open: Vec<Arc<OpenFile>>,
    empty: Vec<String>,
    stopped: bool,
}

/// All files of a run.
pub(super) struct FileQueue<'a> {
    files: &'a [FileEntry],
    plan: &'a PrepPlan,
    state: Mutex<QueueState>,
    threads: usize,
}

impl<'a> FileQueue<'a> {
    pub(super) fn new(files: &'a [FileEntry], plan: &'a PrepPlan, threads: usize) -> Self {
        Self { files, plan, state: Mutex::default(), threads }
    }

    /// A file to work on, or None when all are done.
    pub(super) fn take(&self, worker: usize) -> Result<Option<Arc<OpenFile>>> {
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(Error::Interrupted);
        }
        if state.next < self.files.len() && state.open.len() < self.threads {
            let index = state.next;
            state.next += 1;
            let entry = &self.files[index];
            let reader = read::open(&entry.path, &self.plan.sources[entry.source].read)?;
            let file = Arc::new(OpenFile { index, reader: Mutex::new(reader) });
            state.open.push(Arc::clone(&file));
            return Ok(Some(file));
        }
        let open = state.open.len();
        Ok((open > 0).then(|| Arc::clone(&state.open[worker % open])))
    }

    pub(super) fn close(&self, file: &Arc<OpenFile>, was_empty: bool) {
        let mut state = lock(&self.state);
        if let Some(at) = state.open.iter().position(|open| Arc::ptr_eq(open, file)) {
            state.open.swap_remove(at);
            if was_empty {
                state.empty.push(self.files[file.index].origin.clone());
            }
        }
    }

    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
    }

    pub(super) fn is_stopped(&self) -> bool {
        lock(&self.state).stopped
    }

    /// Files that had no record, sorted.
    pub(super) fn empty_files(&self) -> Vec<String> {
        let mut empty = lock(&self.state).empty.clone();
        empty.sort();
        empty
    }
}
