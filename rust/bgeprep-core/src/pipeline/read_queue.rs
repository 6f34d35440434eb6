//! Which file, and which chunk of it, a thread reads next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use super::journal::Journal;
use super::layout::FileEntry;
use super::read_stage::ReadReport;
use crate::config::PrepPlan;
use crate::progress::Progress;
use crate::read::{Chunk, ChunkReader};
use crate::{Error, Result, read};

/// A file, or every so many-th chunk of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileShare {
    /// Index of the file.
    pub file: usize,
    /// The chunks whose number leaves this, divided by `of`.
    pub turn: u32,
    /// How many shares the file has.
    pub of: u32,
}

impl FileShare {
    /// All of a file.
    pub fn whole(file: usize) -> Self {
        Self { file, turn: 0, of: 1 }
    }

    /// Whether a chunk belongs to it.
    pub(super) fn has(self, chunk: u32) -> bool {
        chunk % self.of == self.turn
    }
}

/// What is known of a file's chunks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ChunkDone {
    /// This chunk is done.
    Chunk(u32),
    /// The file has this many chunks.
    End(u32),
}

/// A file that threads read.
pub(super) struct OpenFile {
    pub(super) share: FileShare,
    /// The reader, and the number of its next chunk.
    reader: Mutex<(Box<dyn ChunkReader>, u32)>,
    /// Chunks that a killed run has done.
    pub(super) done: BTreeSet<u32>,
}

impl OpenFile {
    /// Cuts the next chunk; its number, or the number of chunks at the end.
    pub(super) fn next(&self, progress: &Progress) -> Result<(u32, Option<Chunk>)> {
        let mut reader = lock(&self.reader);
        let before = reader.0.bytes_read();
        let chunk = reader.0.next_chunk()?;
        progress.bytes_done.fetch_add(reader.0.bytes_read() - before, Ordering::Relaxed);
        let number = reader.1;
        reader.1 += u32::from(chunk.is_some());
        Ok((number, chunk))
    }
}

/// What is open, and what comes next.
#[derive(Default)]
pub(super) struct QueueState {
    next: usize,
    open: Vec<Arc<OpenFile>>,
    pub(super) stopped: bool,
}

/// The files of a run, or of a task, and what is known of them.
pub(super) struct FileQueue<'a> {
    pub(super) files: &'a [FileEntry],
    pub(super) shares: &'a [FileShare],
    pub(super) plan: &'a PrepPlan,
    pub(super) state: Mutex<QueueState>,
    pub(super) threads: usize,
    pub(super) done: &'a BTreeMap<usize, Vec<ChunkDone>>,
    pub(super) journal: &'a Journal<'a, ChunkDone, ReadReport>,
}

impl FileQueue<'_> {
    /// Whether these shares are all of the input.
    pub(super) fn is_whole(&self) -> bool {
        self.shares.len() == self.files.len() && self.shares.iter().all(|share| share.of == 1)
    }

    /// A file to work on, or None when all are done.
    pub(super) fn take(&self, turn: usize) -> Result<Option<Arc<OpenFile>>> {
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(Error::Interrupted);
        }
        while state.next < self.shares.len() && state.open.len() < self.threads {
            let share = self.shares[state.next];
            let index = share.file;
            state.next += 1;
            let known = self.done.get(&index).map_or(&[][..], Vec::as_slice);
            let chunks = known.iter().filter_map(|done| if let ChunkDone::Chunk(at) = done { Some(*at) } else { None });
            let done: BTreeSet<u32> = chunks.collect();
            if known.contains(&ChunkDone::End(done.len() as u32)) {
                continue;
            }
            let entry = &self.files[index];
            let options = &self.plan.sources[entry.source].read;
            let reader = match &entry.part {
                Some(part) => read::open_part(&part.set, part.part, entry.bytes, options),
                None => read::open(&entry.location, options)?,
            };
            let file = Arc::new(OpenFile { share, reader: Mutex::new((reader, 0)), done });
            state.open.push(Arc::clone(&file));
            return Ok(Some(file));
        }
        let open = state.open.len();
        Ok((open > 0).then(|| Arc::clone(&state.open[turn % open])))
    }

    /// Notes that a file has been read to its end.
    pub(super) fn close(&self, file: &Arc<OpenFile>, chunks: u32) -> Result<()> {
        let mut state = lock(&self.state);
        let Some(at) = state.open.iter().position(|open| Arc::ptr_eq(open, file)) else { return Ok(()) };
        state.open.swap_remove(at);
        drop(state);
        let entry = &self.files[file.share.file];
        let empty = if entry.bytes == 0 { vec![entry.origin.clone()] } else { Vec::new() };
        self.journal.done(file.share.file, ChunkDone::End(chunks), Vec::new(), |sum| sum.empty_files.extend(empty))
    }

    /// Makes every thread stop at its next look.
    pub(super) fn stop(&self) {
        lock(&self.state).stopped = true;
    }
}

/// A lock, whatever became of a thread that held it.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}
