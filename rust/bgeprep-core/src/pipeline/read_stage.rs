//! Read + clean: input files → spilled rows in buckets, key records in partitions, rejects.
//!
//! A worker takes a file nobody has opened, or helps with one that is open: cutting the next chunk
//! happens under the file's lock, all the rest outside of it. So one big file keeps every thread
//! busy, and so do many small ones.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};

use serde::{Deserialize, Serialize};

use super::journal::{Found, Journal, Output};
use super::layout::{BucketLayout, FileEntry};
use super::origins::{ORIGINS, Origins};
use super::read_worker::Worker;
use super::rejects::RejectSink;
use crate::config::{DedupMode, PrepPlan, RunOptions};
use crate::dedup::unite::CLUSTERS;
use crate::exclude::Benchmarks;
use crate::near::shingle::Rule;
use crate::pair::SetKind;
use crate::progress::Progress;
use crate::read::{Chunk, ChunkReader};
use crate::report::{Reason, Tally};
use crate::scores::{ScoreCounts, ScoreFilter};
use crate::shard::reports::{BenchmarkEntry, BenchmarkHits};
use crate::shuffle::spill::{Packing, Spill};
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
    /// The first record of each kind: file, line. A set has one kind.
    #[serde(default)]
    pub kinds: BTreeMap<SetKind, (u32, u64)>,
    /// Rows spilled, by bucket.
    pub bucket_rows: Vec<u64>,
    /// Texts sketched, by space.
    pub sketched: [u64; 2],
    /// Files without a single record.
    pub empty_files: Vec<String>,
    /// The first row that could not be read: file, line, reason, detail.
    pub first_bad: Option<(u32, u64, Reason, String)>,
    /// Rows that went because of a benchmark, by its index.
    pub hits: BTreeMap<u32, BenchmarkHits>,
    /// The benchmarks; once the stage is done, with these hits.
    pub benchmarks: Vec<BenchmarkEntry>,
    /// What a user should know.
    pub warnings: Vec<String>,
    /// What the filter by scores saw, if there was one.
    pub scores: Option<ScoreCounts>,
}

impl ReadReport {
    /// What the records are.
    pub fn kind(&self) -> SetKind {
        self.kinds.keys().next_back().copied().unwrap_or_default()
    }

    /// Adds what one chunk came to.
    pub(super) fn merge(&mut self, other: Self) {
        for (slot, tally) in other.tallies {
            self.tallies.entry(slot).or_default().merge(&tally);
        }
        for (source, columns) in other.unmapped {
            let own = self.unmapped.entry(source).or_default();
            for (column, count) in columns {
                *own.entry(column).or_insert(0) += count;
            }
        }
        for (kind, place) in other.kinds {
            let first = self.kinds.entry(kind).or_insert(place);
            *first = place.min(*first);
        }
        if self.bucket_rows.len() < other.bucket_rows.len() {
            self.bucket_rows.resize(other.bucket_rows.len(), 0);
        }
        for (total, new) in self.bucket_rows.iter_mut().zip(&other.bucket_rows) {
            *total += new;
        }
        for (total, new) in self.sketched.iter_mut().zip(other.sketched) {
            *total += new;
        }
        for (benchmark, hits) in other.hits {
            self.hits.entry(benchmark).or_default().add(hits);
        }
        if let Some(scores) = other.scores {
            self.scores.get_or_insert_default().merge(scores);
        }
        self.empty_files.extend(other.empty_files);
        if let Some(bad) = other.first_bad
            && self.first_bad.as_ref().is_none_or(|first| bad < *first)
        {
            self.first_bad = Some(bad);
        }
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

/// Where the stage writes.
#[derive(Debug)]
pub struct Outputs {
    /// Rows, by bucket.
    pub rows: Spill,
    /// Key records, by partition.
    pub keys: Spill,
    /// Rejects.
    pub rejects: RejectSink,
    /// Sketches, by space; only near dedup writes some.
    pub sketches: Spill,
    /// The sample that recall is measured on, by space.
    pub sample: Spill,
    /// Texts that shard sets keep in clusters, by space.
    pub clusters: Spill,
    /// What records say of their origin, in one file.
    pub origins: Spill,
}

/// What rows are held against while they are read, beside the cleaning rules.
#[derive(Debug)]
pub struct Filters {
    /// The filter by scores.
    pub scores: Option<ScoreFilter>,
    /// Benchmarks that the set must not give away.
    pub benchmarks: Option<Benchmarks>,
}

/// Names of the spill families.
pub const ROWS: &str = "rows";
/// See `ROWS`.
pub const KEYS: &str = "keys";
/// See `ROWS`.
pub const SKETCHES: &str = "sketches";
/// See `ROWS`.
pub const SAMPLE: &str = "sample";

/// Name of the stage's journal, in its folder.
const JOURNAL: &str = "journal";

/// Runs the stage in `folder`, or goes on with what a killed run left there.
pub fn run(
    (plan, layout): (&PrepPlan, &BucketLayout),
    filters: &Filters,
    options: &RunOptions,
    (folder, rejects): (&Path, &Path),
    progress: &Progress,
) -> Result<ReadReport> {
    let found = Found::<ChunkDone, ReadReport>::read(&folder.join(JOURNAL))?;
    let spaces = if plan.dedup.mode == DedupMode::Near { Rule::ALL.len() } else { 0 };
    let spill = |output, name, count, packing, memory| {
        Spill::reopen(folder, name, packing, memory, &found.lengths(output, count))
    };
    let runs = found.lengths(2, 1)[0] as usize;
    let outputs = Outputs {
        rows: spill(0, ROWS, layout.buckets, Packing::Zstd, options.memory / 4)?,
        keys: spill(1, KEYS, layout.partitions, Packing::Plain, options.memory / 8)?,
        rejects: RejectSink::reopen(rejects, options.memory / 16, runs)?,
        sketches: spill(3, SKETCHES, spaces, Packing::Plain, 2 << 20)?,
        sample: spill(4, SAMPLE, spaces, Packing::Plain, 1 << 20)?,
        clusters: spill(5, CLUSTERS, Rule::ALL.len(), Packing::Plain, 1 << 20)?,
        origins: spill(6, ORIGINS, 1, Packing::Plain, 1 << 20)?,
    };
    let Outputs { rows, keys, rejects, sketches, sample, clusters, origins } = &outputs;
    let all: Vec<&dyn Output> = vec![rows, keys, rejects, sketches, sample, clusters, origins];
    let journal = found.go_on(all)?;
    let sum = |count: fn(&Tally) -> u64| found.state.tallies.values().map(count).sum();
    progress.rows_read.store(sum(|tally| tally.rows_read), Ordering::Relaxed);
    progress.rows_dropped.store(sum(Tally::rows_dropped), Ordering::Relaxed);

    let threads = options.threads;
    let queue = FileQueue {
        files: &layout.files,
        plan,
        state: Mutex::default(),
        threads,
        done: &found.done,
        journal: &journal,
    };
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                if let Err(error) = work(&queue, Worker::new((plan, layout), filters, &outputs), progress) {
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
        // What is done stays done, unless the disk is the very thing that failed.
        let _ = journal.finish();
        return Err(error);
    }
    let mut report = journal.finish()?;
    report.bucket_rows.resize(layout.buckets, 0);
    check_bad(plan, layout, &report, 1)?;
    // Again: what stopped one run is already done for the next that goes on with its work.
    check_kinds(plan, layout, &report)?;
    if let Some(filter) = &filters.scores {
        let origins = Origins::open(layout, folder)?;
        filter.check(report.scores.get_or_insert_default(), |row| origins.of(row))?;
    }
    report.empty_files.sort();
    if let Some(benchmarks) = &filters.benchmarks {
        (report.benchmarks, report.warnings) = (benchmarks.entries.clone(), benchmarks.warnings.clone());
        for (&benchmark, &hits) in &report.hits {
            report.benchmarks[benchmark as usize].hits = hits;
        }
    }
    Ok(report)
}

/// One thread's part: chunk after chunk of whichever file is open.
fn work(queue: &FileQueue<'_>, mut worker: Worker<'_>, progress: &Progress) -> Result<()> {
    let mut turn = 0;
    while let Some(file) = queue.take(turn)? {
        turn += 1;
        loop {
            progress.check()?;
            if lock(&queue.state).stopped {
                return Err(Error::Interrupted);
            }
            let (number, chunk) = file.next(progress)?;
            let Some(chunk) = chunk else {
                queue.close(&file, number)?;
                break;
            };
            if file.done.contains(&number) {
                continue;
            }
            let report = worker.chunk(&chunk, file.index)?;
            let count = |count: fn(&Tally) -> u64| report.tallies.values().map(count).sum();
            progress.rows_read.fetch_add(count(|tally| tally.rows_read), Ordering::Relaxed);
            progress.rows_dropped.fetch_add(count(Tally::rows_dropped), Ordering::Relaxed);
            let mut verdict = Ok(());
            queue.journal.done(file.index, ChunkDone::Chunk(number), Vec::new(), |sum| {
                sum.merge(report);
                verdict = check_bad(queue.plan, worker.layout, sum, BAD_CHECK_ROWS);
                if verdict.is_ok() {
                    verdict = check_kinds(queue.plan, worker.layout, sum);
                }
            })?;
            verdict?;
        }
    }
    Ok(())
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

/// Stops a run over records of two kinds, or one that is told what only pairs can have.
fn check_kinds(plan: &PrepPlan, layout: &BucketLayout, report: &ReadReport) -> Result<()> {
    let Some(&(file, line)) = report.kinds.get(&SetKind::Text) else { return Ok(()) };
    let path = |file: u32| layout.files[file as usize].location.path();
    if let Some(&(pairs, pairs_line)) = report.kinds.get(&SetKind::Pairs) {
        let message = format!(
            "this is a text record, but {}:{pairs_line} holds a pair; a set has one kind; hint: shard them apart, or map \
             columns.query and columns.pos",
            path(pairs).display()
        );
        return Err(Error::corpus(path(file), Some(line), message));
    }
    if plan.scores.is_some() {
        let message = format!("scores are of pairs, {} holds texts; hint: leave them out", path(file).display());
        return Err(Error::config("scores.path", message));
    }
    Ok(())
}

struct OpenFile {
    index: usize,
    /// The reader, and the number of its next chunk.
    reader: Mutex<(Box<dyn ChunkReader>, u32)>,
    /// Chunks that a killed run has done.
    done: BTreeSet<u32>,
}

impl OpenFile {
    /// Cuts the next chunk; its number, or the number of chunks at the end.
    fn next(&self, progress: &Progress) -> Result<(u32, Option<Chunk>)> {
        let mut reader = lock(&self.reader);
        let before = reader.0.bytes_read();
        let chunk = reader.0.next_chunk()?;
        progress.bytes_done.fetch_add(reader.0.bytes_read() - before, Ordering::Relaxed);
        let number = reader.1;
        reader.1 += u32::from(chunk.is_some());
        Ok((number, chunk))
    }
}

#[derive(Default)]
struct QueueState {
    next: usize,
    open: Vec<Arc<OpenFile>>,
    stopped: bool,
}

struct FileQueue<'a> {
    files: &'a [FileEntry],
    plan: &'a PrepPlan,
    state: Mutex<QueueState>,
    threads: usize,
    done: &'a BTreeMap<usize, Vec<ChunkDone>>,
    journal: &'a Journal<'a, ChunkDone, ReadReport>,
}

impl FileQueue<'_> {
    /// A file to work on, or None when all are done.
    fn take(&self, turn: usize) -> Result<Option<Arc<OpenFile>>> {
        let mut state = lock(&self.state);
        if state.stopped {
            return Err(Error::Interrupted);
        }
        while state.next < self.files.len() && state.open.len() < self.threads {
            let index = state.next;
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
            let file = Arc::new(OpenFile { index, reader: Mutex::new((reader, 0)), done });
            state.open.push(Arc::clone(&file));
            return Ok(Some(file));
        }
        let open = state.open.len();
        Ok((open > 0).then(|| Arc::clone(&state.open[turn % open])))
    }

    fn close(&self, file: &Arc<OpenFile>, chunks: u32) -> Result<()> {
        let mut state = lock(&self.state);
        let Some(at) = state.open.iter().position(|open| Arc::ptr_eq(open, file)) else { return Ok(()) };
        state.open.swap_remove(at);
        drop(state);
        let entry = &self.files[file.index];
        let empty = if entry.bytes == 0 { vec![entry.origin.clone()] } else { Vec::new() };
        self.journal.done(file.index, ChunkDone::End(chunks), Vec::new(), |sum| sum.empty_files.extend(empty))
    }

    fn stop(&self) {
        lock(&self.state).stopped = true;
    }
}
