//! Read + clean: input files → spilled rows in buckets, key records in partitions, rejects.
//!
//! A worker takes a file nobody has opened, or helps with one that is open: cutting the next chunk
//! happens under the file's lock, all the rest outside of it. So one big file keeps every thread
//! busy, and so do many small ones.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::journal::{Found, Output};
use super::layout::BucketLayout;
use super::origins::{ORIGINS, Origins};
use super::read_queue::{ChunkDone, FileQueue, FileShare, lock};
use super::read_worker::Worker;
use super::rejects::RejectSink;
use crate::config::{DedupMode, PrepPlan, RunOptions};
use crate::dedup::unite::CLUSTERS;
use crate::exclude::Benchmarks;
use crate::near::shingle::Rule;
use crate::pair::SetKind;
use crate::progress::Progress;
use crate::report::{Reason, Tally};
use crate::scores::{ScoreCounts, ScoreFilter};
use crate::shard::reports::{BenchmarkEntry, BenchmarkHits};
use crate::shuffle::spill::{Packing, Spill};
use crate::{Error, Result};

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
        if self.benchmarks.is_empty() {
            (self.benchmarks, self.warnings) = (other.benchmarks, other.warnings);
        }
        self.empty_files.extend(other.empty_files);
        if let Some(bad) = other.first_bad
            && self.first_bad.as_ref().is_none_or(|first| bad < *first)
        {
            self.first_bad = Some(bad);
        }
    }
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
    let all: Vec<FileShare> = (0..layout.files.len()).map(FileShare::whole).collect();
    let mut report = read_share((plan, layout), &all, filters, options, (folder, rejects), progress)?;
    settle(plan, layout, &mut report)?;
    check_scores(plan, layout, &mut report, folder)?;
    Ok(report)
}

/// Judges what reading all of the input came to.
///
/// # Errors
/// `Corpus` for input that is mostly unreadable, or of two kinds; `Config` for scores of texts.
pub(super) fn settle(plan: &PrepPlan, layout: &BucketLayout, report: &mut ReadReport) -> Result<()> {
    report.bucket_rows.resize(layout.buckets, 0);
    check_bad(plan, layout, report, 1)?;
    // Again: what stopped one run is already done for the next that goes on with its work.
    check_kinds(plan, layout, report)?;
    report.empty_files.sort();
    for (&benchmark, &hits) in &report.hits {
        report.benchmarks[benchmark as usize].hits = hits;
    }
    Ok(())
}

/// Stops a run that may miss no score and did; `folder` holds what records say of their origin.
pub(super) fn check_scores(
    plan: &PrepPlan,
    layout: &BucketLayout,
    report: &mut ReadReport,
    folder: &Path,
) -> Result<()> {
    let Some(rules) = &plan.scores else { return Ok(()) };
    let origins = Origins::open(layout, folder)?;
    report.scores.get_or_insert_default().check(rules, |row| origins.of(row))
}

/// Reads some shares of files; each file is in one of them at most.
pub(super) fn read_share(
    (plan, layout): (&PrepPlan, &BucketLayout),
    shares: &[FileShare],
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
        shares,
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
    if let Some(benchmarks) = &filters.benchmarks {
        (report.benchmarks, report.warnings) = (benchmarks.entries.clone(), benchmarks.warnings.clone());
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
            if !file.share.has(number) || file.done.contains(&number) {
                continue;
            }
            let report = worker.chunk(&chunk, file.share.file)?;
            let count = |count: fn(&Tally) -> u64| report.tallies.values().map(count).sum();
            progress.rows_read.fetch_add(count(|tally| tally.rows_read), Ordering::Relaxed);
            progress.rows_dropped.fetch_add(count(Tally::rows_dropped), Ordering::Relaxed);
            let mut verdict = Ok(());
            queue.journal.done(file.share.file, ChunkDone::Chunk(number), Vec::new(), |sum| {
                sum.merge(report);
                // Of a part of the input it says nothing that some rows are bad.
                if queue.is_whole() {
                    verdict = check_bad(queue.plan, worker.layout, sum, BAD_CHECK_ROWS);
                }
                if verdict.is_ok() {
                    verdict = check_kinds(queue.plan, worker.layout, sum);
                }
            })?;
            verdict?;
        }
    }
    Ok(())
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
