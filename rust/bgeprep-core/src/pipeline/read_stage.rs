//! Read + clean: input files → spilled rows in buckets, key records in partitions, rejects.
//!
//! A worker takes a file nobody has opened, or helps with one that is open: cutting the next chunk
//! happens under the file's lock, all the rest outside of it. So one big file keeps every thread
//! busy, and so do many small ones.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use super::layout::{BucketLayout, FileEntry};
use super::rejects::{Reject, RejectSink};
use crate::clean::{CleanPair, CleanText, Cleaner};
use crate::config::PrepPlan;
use crate::dedup::{KeyRecord, Kind};
use crate::pair::Task;
use crate::progress::Progress;
use crate::read::{Body, Chunk, ChunkReader, Unmapped};
use crate::report::{Reason, RejectPart, Tally};
use crate::shard::rejects::excerpt;
use crate::shuffle::bucket::Spill;
use crate::shuffle::{RowId, order_key, row};
use crate::{Error, Result, read};

/// Rows after which `max_bad` is looked at.
const BAD_CHECK_ROWS: u64 = 10_000;

/// What the stage leaves to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ReadReport {
    /// Counts by source and task slot.
    pub tallies: BTreeMap<u32, Tally>,
    /// Columns found and not used, by source index.
    pub unmapped: BTreeMap<u32, BTreeMap<String, u64>>,
    /// Rows spilled, by bucket.
    pub bucket_rows: Vec<u64>,
    /// Files without a single record.
    pub empty_files: Vec<String>,
    /// The first row that could not be read: file, line, reason, detail.
    pub first_bad: Option<(u32, u64, Reason, String)>,
    /// Bytes of the spill files.
    pub spilled: u64,
}

/// Where the stage writes.
#[derive(Debug)]
pub struct Outputs {
    /// Rows, by bucket.
    pub rows: Spill,
    /// Key records, by partition.
    pub keys: Spill,
    /// Rejects.
    pub rejects: RejectSink,
}

/// Runs the stage on `threads` threads.
pub fn run(
    plan: &PrepPlan,
    layout: &BucketLayout,
    outputs: &Outputs,
    threads: usize,
    progress: &Progress,
) -> Result<ReadReport> {
    let queue = FileQueue { files: &layout.files, plan, state: Mutex::default(), threads };
    let shared = Mutex::new(ReadReport { bucket_rows: vec![0; layout.buckets], ..ReadReport::default() });
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut worker = Worker::new(plan, layout, outputs, progress, &shared);
                if let Err(error) = worker.run(&queue) {
                    let mut failed = lock(&failed);
                    // The others stop because of this one: their `Interrupted` says nothing.
                    if failed.is_none() || matches!(*failed, Some(Error::Interrupted)) {
                        *failed = Some(error);
                    }
                    queue.stop();
                }
            });
        }
    });
    if let Some(error) = lock(&failed).take() {
        return Err(error);
    }
    let mut report = std::mem::take(&mut *lock(&shared));
    check_bad(plan, layout, &report, 1)?;
    report.empty_files = std::mem::take(&mut lock(&queue.state).empty);
    report.empty_files.sort();
    Ok(report)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Stops a run that is mostly unreadable; `from` is the number of rows that makes a judgement fair.
fn check_bad(plan: &PrepPlan, layout: &BucketLayout, report: &ReadReport, from: u64) -> Result<()> {
    let sum = |count: fn(&Tally) -> u64| report.tallies.values().map(count).sum::<u64>();
    let (rows, bad) = (sum(|tally| tally.rows_read), sum(Tally::rows_unreadable));
    let Some((file, line, reason, detail)) = &report.first_bad else { return Ok(()) };
    if rows < from || bad as f64 <= plan.max_bad * rows as f64 {
        return Ok(());
    }
    Err(Error::corpus(
        layout.files[*file as usize].location.path(),
        Some(*line),
        format!(
            "{bad} of {rows} rows are unreadable, more than max_bad = {} allows; this is the first, {}: {detail}; \
             hint: mend the file, say how to read it (--format, --columns), or raise --max-bad",
            plan.max_bad,
            reason.name()
        ),
    ))
}

struct OpenFile {
    index: usize,
    reader: Mutex<Box<dyn ChunkReader>>,
}

#[derive(Default)]
struct QueueState {
    next: usize,
    open: Vec<Arc<OpenFile>>,
    empty: Vec<String>,
    stopped: bool,
}

struct FileQueue<'a> {
    files: &'a [FileEntry],
    plan: &'a PrepPlan,
    state: Mutex<QueueState>,
    threads: usize,
}

impl FileQueue<'_> {
    /// A file to work on, or None when all are done.
    fn take(&self, worker: usize) -> Result<Option<Arc<OpenFile>>> {
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(Error::Interrupted);
        }
        if state.next < self.files.len() && state.open.len() < self.threads {
            let index = state.next;
            state.next += 1;
            let entry = &self.files[index];
            let reader = read::open(&entry.location, &self.plan.sources[entry.source].read)?;
            let file = Arc::new(OpenFile { index, reader: Mutex::new(reader) });
            state.open.push(Arc::clone(&file));
            return Ok(Some(file));
        }
        let open = state.open.len();
        Ok((open > 0).then(|| Arc::clone(&state.open[worker % open])))
    }

    fn close(&self, file: &Arc<OpenFile>, was_empty: bool) {
        let mut state = lock(&self.state);
        if let Some(at) = state.open.iter().position(|open| Arc::ptr_eq(open, file)) {
            state.open.swap_remove(at);
            if was_empty {
                state.empty.push(self.files[file.index].origin.clone());
            }
        }
    }

    fn stop(&self) {
        lock(&self.state).stopped = true;
    }
}

struct Worker<'a> {
    plan: &'a PrepPlan,
    layout: &'a BucketLayout,
    outputs: &'a Outputs,
    progress: &'a Progress,
    shared: &'a Mutex<ReadReport>,
    cleaner: Cleaner,
    pair: CleanPair,
    bytes: Vec<u8>,
    rejects: Vec<Reject>,
    removed: Vec<crate::clean::Removed>,
    tallies: BTreeMap<u32, Tally>,
    bucket_rows: Vec<u64>,
    first_bad: Option<(u32, u64, Reason, String)>,
}

impl<'a> Worker<'a> {
    fn new(
        plan: &'a PrepPlan,
        layout: &'a BucketLayout,
        outputs: &'a Outputs,
        progress: &'a Progress,
        shared: &'a Mutex<ReadReport>,
    ) -> Self {
        Self {
            plan,
            layout,
            outputs,
            progress,
            shared,
            cleaner: Cleaner::new(plan.clean),
            pair: CleanPair::default(),
            bytes: Vec::new(),
            rejects: Vec::new(),
            removed: Vec::new(),
            tallies: BTreeMap::new(),
            bucket_rows: vec![0; layout.buckets],
            first_bad: None,
        }
    }

    fn run(&mut self, queue: &FileQueue<'_>) -> Result<()> {
        let mut turn = 0;
        while let Some(file) = queue.take(turn)? {
            turn += 1;
            loop {
                self.progress.check()?;
                if lock(&queue.state).stopped {
                    return Err(Error::Interrupted);
                }
                let (chunk, bytes) = {
                    let mut reader = lock(&file.reader);
                    let before = reader.bytes_read();
                    let chunk = reader.next_chunk()?;
                    (chunk, reader.bytes_read() - before)
                };
                self.progress.bytes_done.fetch_add(bytes, Ordering::Relaxed);
                let Some(chunk) = chunk else {
                    queue.close(&file, self.layout.files[file.index].bytes == 0);
                    break;
                };
                self.chunk(&chunk, file.index)?;
            }
        }
        Ok(())
    }

    fn chunk(&mut self, chunk: &Chunk, file: usize) -> Result<()> {
        let entry = &self.layout.files[file];
        let mut unmapped = Unmapped::default();
        chunk.records(&mut unmapped, &mut |record| {
            let id = RowId { file: file as u32, line: record.line };
            match record.body {
                Body::Pair(raw) => self.pair(entry, id, &raw),
                Body::Bad { reason, detail, text } => {
                    let slot = self.layout.slot(entry.source, self.plan.sources[entry.source].task);
                    let tally = self.tallies.entry(slot).or_default();
                    tally.rows_read += 1;
                    tally.add(RejectPart::Row, reason);
                    if reason.is_unreadable() && self.first_bad.is_none() {
                        self.first_bad = Some((file as u32, record.line, reason, detail.clone()));
                    }
                    self.rejects.push(Reject {
                        slot,
                        row: id,
                        part: RejectPart::Row,
                        item: 0,
                        reason,
                        detail,
                        twin: None,
                        query: String::new(),
                        text: excerpt(&text).to_owned(),
                    });
                    Ok(())
                }
            }
        })?;
        self.outputs.rejects.add(&mut self.rejects)?;
        self.hand_over(entry.source, &unmapped)
    }

    fn pair(&mut self, entry: &FileEntry, id: RowId, raw: &crate::pair::RawPair<'_>) -> Result<()> {
        let source = &self.plan.sources[entry.source];
        let task = raw.task.unwrap_or(source.task);
        let slot = self.layout.slot(entry.source, task);
        let tally = self.tallies.entry(slot).or_default();
        tally.rows_read += 1;
        let stays = self.cleaner.clean(raw, &mut self.pair, &mut self.removed);
        for lost in self.removed.drain(..) {
            tally.add(lost.part, lost.reason);
            let item = lost.item as usize;
            let text = match lost.part {
                RejectPart::Row | RejectPart::Positive => raw.pos.get(item).or_else(|| raw.neg.get(item)),
                RejectPart::Negative => raw.neg.get(item),
            };
            self.rejects.push(Reject {
                slot,
                row: id,
                part: lost.part,
                item: lost.item,
                reason: lost.reason,
                detail: lost.detail,
                twin: None,
                query: excerpt(&raw.query).to_owned(),
                text: text.map_or_else(String::new, |text| excerpt(text).to_owned()),
            });
        }
        if !stays {
            return Ok(());
        }
        let order = order_key(entry.seed, id.line);
        let bucket = self.layout.bucket(entry.source, task, order);
        self.outputs.rows.append_with(bucket as usize, |bytes| row::encode(&self.pair, id, order, bytes))?;
        self.bucket_rows[bucket as usize] += 1;

        self.bytes.clear();
        let common = KeyRecord {
            query: self.pair.query.identity.hash,
            text: 0,
            text_key: 0,
            row: id,
            bucket,
            priority: source.priority,
            slot,
            score: f32::NAN,
            item: 0,
            kind: Kind::Positive,
            symmetric: task == Task::Symmetric,
            merge: source.merge_positives,
        };
        let record = |text: &CleanText, item: usize, kind: Kind| KeyRecord {
            text: text.identity.hash,
            text_key: text.identity.key,
            // Survival is a matter of positives: a negative's score says nothing about its row.
            score: if kind == Kind::Negative { f32::NAN } else { text.score },
            item: item as u32,
            kind,
            ..common
        };
        for (item, text) in self.pair.pos.iter().enumerate() {
            record(text, item, Kind::Positive).encode(&mut self.bytes);
        }
        for (item, text) in self.pair.neg.iter().enumerate() {
            record(text, item, Kind::Negative).encode(&mut self.bytes);
        }
        self.outputs.keys.append(common.partition(self.layout.partitions), &self.bytes)?;
        if task == Task::Symmetric {
            for (item, text) in self.pair.pos.iter().enumerate() {
                self.bytes.clear();
                let mirror = KeyRecord {
                    query: text.identity.hash,
                    text: self.pair.query.identity.hash,
                    text_key: self.pair.query.identity.key,
                    score: text.score,
                    item: item as u32,
                    kind: Kind::Mirror,
                    ..common
                };
                mirror.encode(&mut self.bytes);
                self.outputs.keys.append(mirror.partition(self.layout.partitions), &self.bytes)?;
            }
        }
        Ok(())
    }

    /// Adds this worker's counts to the shared ones after each chunk, and looks at `max_bad`.
    fn hand_over(&mut self, source: usize, unmapped: &Unmapped) -> Result<()> {
        let mut shared = lock(self.shared);
        let (mut read, mut dropped) = (0, 0);
        for (slot, tally) in std::mem::take(&mut self.tallies) {
            read += tally.rows_read;
            dropped += tally.rows_dropped();
            shared.tallies.entry(slot).or_default().merge(&tally);
        }
        for (total, new) in shared.bucket_rows.iter_mut().zip(&mut self.bucket_rows) {
            *total += std::mem::take(new);
        }
        for (column, count) in unmapped.iter() {
            let columns = shared.unmapped.entry(source as u32).or_default();
            *columns.entry(column.to_owned()).or_insert(0) += count;
        }
        self.progress.rows_read.fetch_add(read, Ordering::Relaxed);
        self.progress.rows_dropped.fetch_add(dropped, Ordering::Relaxed);
        if let Some(bad) = self.first_bad.take()
            && shared.first_bad.as_ref().is_none_or(|first| bad < *first)
        {
            shared.first_bad = Some(bad);
        }
        check_bad(self.plan, self.layout, &shared, BAD_CHECK_ROWS)
    }
}
