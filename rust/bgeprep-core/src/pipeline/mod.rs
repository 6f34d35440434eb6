//! The whole preparation: read + clean → dedup → shuffle + shard → manifest.
//!
//! Stages are functions from files to files. A killed run starts again behind the last stage that
//! is done and comes to the same bytes.

pub mod dedup_stage;
pub mod gate;
pub mod layout;
pub mod lengths;
pub mod read_stage;
pub mod rejects;
pub mod shard_stage;
pub mod work;

mod commit;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::config::{PrepPlan, RunOptions};
use crate::pair::Task;
use crate::progress::Progress;
use crate::shard::Manifest;
use crate::shuffle::bucket::Spill;
use crate::{Error, Result};
use dedup_stage::{DedupReport, KEYS, ROWS, Stage};
use layout::{BucketLayout, TASKS};
use read_stage::{Outputs, ReadReport};
use rejects::RejectSink;
use shard_stage::PartJob;
use work::{WorkFolder, bytes_in};

/// Least memory that a run can work with.
pub const MIN_MEMORY: u64 = 64 << 20;

/// What a run did, beside the set itself.
#[derive(Debug)]
pub struct Outcome {
    /// The manifest written.
    pub manifest: Manifest,
    /// Files without a single record.
    pub empty_files: Vec<String>,
    /// Whether an earlier, killed run was gone on with.
    pub resumed: bool,
    /// Whether work files of another input or config were thrown away.
    pub discarded: bool,
}

/// Makes the shard set.
pub fn run(plan: &PrepPlan, options: &RunOptions, progress: &Progress) -> Result<Outcome> {
    if options.memory < MIN_MEMORY {
        let found = options.memory >> 20;
        return Err(Error::config("memory", format!("expected at least {} MiB, found {found} MiB", MIN_MEMORY >> 20)));
    }
    let work = WorkFolder::open(&options.work, &options.fingerprint)?;
    let (resumed, discarded) = (work.resumed, work.discarded);
    let layout = BucketLayout::new(plan);
    progress.bytes_total.store(layout.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);

    let read_folder = work.stage("read");
    let read_rejects = work.stage("read-rejects");
    progress.enter("read");
    let read = match work.done::<ReadReport>("read")? {
        Some(report) if bytes_in(&read_folder)? == report.spilled => {
            progress.bytes_done.store(progress.bytes_total.load(Ordering::Relaxed), Ordering::Relaxed);
            report
        }
        _ => {
            reset(&read_folder)?;
            let outputs = Outputs {
                rows: Spill::create(&read_folder, ROWS, layout.buckets, options.memory / 4)?,
                keys: Spill::create(&read_folder, KEYS, layout.partitions, options.memory / 8)?,
                rejects: RejectSink::create(&read_rejects, options.memory / 16)?,
            };
            let mut report = read_stage::run(plan, &layout, &outputs, options.threads, progress)?;
            outputs.rows.finish()?;
            outputs.keys.finish()?;
            outputs.rejects.finish()?;
            report.spilled = bytes_in(&read_folder)?;
            work.mark("read", &report)?;
            report
        }
    };

    progress.enter("dedup");
    let dedup_folder = work.stage("dedup");
    let stage = Stage {
        plan,
        layout: &layout,
        read: &read_folder,
        dedup: &dedup_folder,
        threads: options.threads,
        // What is left is for buffers of writers and the loaded decisions.
        memory: options.memory / 4 * 3,
        progress,
    };
    let dedup = match work.done::<DedupReport>("dedup")? {
        Some(report) if bytes_in(&dedup_folder)? == report.spilled => report,
        _ => {
            reset(&dedup_folder)?;
            let report = dedup_stage::run(&stage)?;
            work.mark("dedup", &report)?;
            report
        }
    };

    progress.enter("shard");
    let names = SlotNames::new(plan, &read)?;
    let jobs = part_jobs(&layout, &read, &dedup, &names);
    if jobs.iter().all(|job| job.number.is_none()) {
        return Err(nothing_kept(plan, &read, &dedup));
    }
    let set = options.out.join(".work").join("set");
    reset(&set)?;
    let shard_rejects = work.stage("shard-rejects");
    let sink = RejectSink::create(&shard_rejects, options.memory / 16)?;
    let results = shard_stage::run(&stage, &jobs, &set, &sink)?;
    sink.finish()?;

    progress.enter("commit");
    let finish = commit::Commit { plan, options, layout: &layout, read: &read, names: &names, set: &set };
    let manifest = finish.run(results, &[read_rejects, shard_rejects])?;
    work.remove()?;
    // The set was assembled beside its place even where the work files lay elsewhere.
    let beside = options.out.join(".work");
    if beside.exists() {
        fs_err::remove_dir_all(&beside).map_err(Error::io(&beside, "remove"))?;
    }
    Ok(Outcome { manifest, empty_files: read.empty_files, resumed, discarded })
}

/// An empty folder, whatever was there.
fn reset(folder: &std::path::Path) -> Result<()> {
    if folder.exists() {
        fs_err::remove_dir_all(folder).map_err(Error::io(folder, "remove"))?;
    }
    fs_err::create_dir_all(folder).map_err(Error::io(folder, "create"))
}

/// The source names of the slots that rows were read for: a source whose rows have one task keeps
/// its name, others become sub-sources `<name>-<task>`.
#[derive(Debug)]
pub struct SlotNames(BTreeMap<u32, String>);

impl SlotNames {
    fn new(plan: &PrepPlan, read: &ReadReport) -> Result<Self> {
        let mut names = BTreeMap::new();
        for (index, source) in plan.sources.iter().enumerate() {
            let first = index as u32 * TASKS;
            let used: Vec<u32> = (first..first + TASKS).filter(|slot| read.tallies.contains_key(slot)).collect();
            for &slot in &used {
                let task = Task::ALL[(slot % TASKS) as usize];
                let own = used.len() == 1 || task == source.task;
                let name = if own { source.name.clone() } else { format!("{}-{}", source.name, task.name()) };
                names.insert(slot, name);
            }
        }
        let mut sorted: Vec<&String> = names.values().collect();
        sorted.sort();
        if let Some((name, _)) = sorted.iter().zip(sorted.iter().skip(1)).find(|(a, b)| a == b) {
            let message = format!("two sources are called {name}; hint: name them in a config file");
            return Err(Error::config("sources.name", message));
        }
        Ok(Self(names))
    }

    /// The name of a slot, empty if it has no rows.
    pub fn get(&self, slot: u32) -> &str {
        self.0.get(&slot).map_or("", String::as_str)
    }

    /// All slots with rows, in set order.
    pub fn slots(&self) -> impl Iterator<Item = (u32, &str)> {
        self.0.iter().map(|(&slot, name)| (slot, name.as_str()))
    }
}

fn part_jobs(layout: &BucketLayout, read: &ReadReport, dedup: &DedupReport, names: &SlotNames) -> Vec<PartJob> {
    let mut jobs = Vec::new();
    for (slot, source) in names.slots() {
        let mut number = 0;
        for bucket in layout.slot_buckets(slot) {
            let rows = read.bucket_rows[bucket];
            if rows == 0 {
                continue;
            }
            let keeps = rows > dedup.dropped_rows[bucket];
            jobs.push(PartJob { bucket, slot, source: source.to_owned(), number: keeps.then_some(number) });
            number += usize::from(keeps);
        }
    }
    jobs
}

fn nothing_kept(plan: &PrepPlan, read: &ReadReport, dedup: &DedupReport) -> Error {
    let rows: u64 = read.tallies.values().map(|tally| tally.rows_read).sum();
    let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
    for tally in read.tallies.values() {
        for (name, count) in tally.by_name(crate::report::RejectPart::Row) {
            *reasons.entry(name).or_insert(0) += count;
        }
    }
    let by_dedup: u64 = dedup.dropped_rows.iter().sum();
    if by_dedup > 0 {
        reasons.insert("dedup".to_owned(), by_dedup);
    }
    let first = plan.sources.iter().flat_map(|source| &source.inputs).map(|input| input.location.path()).next();
    let message = if rows == 0 {
        "expected pairs, found no record in any input file".to_owned()
    } else {
        format!("no row is left of {rows} read; dropped: {reasons:?}; hint: look at the cleaning rules or the columns")
    };
    Error::corpus(first.unwrap_or_else(|| PathBuf::from(".")), None, message)
}
