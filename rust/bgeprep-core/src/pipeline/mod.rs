//! The whole preparation: read + clean → dedup → shuffle + shard → manifest.
//!
//! Stages are functions from files to files. A killed run starts again behind the last stage that
//! is done and comes to the same bytes.

pub mod dedup_stage;
pub mod gate;
pub mod journal;
pub mod layout;
pub mod lengths;
pub mod near_stage;
pub mod read_queue;
pub mod read_stage;
pub mod rejects;
pub mod shard_stage;
pub mod spread;
pub mod stage;
pub mod work;

mod batching_keys;
mod commit;
mod exclusion;
mod keys;
mod near_components;
mod origins;
mod read_worker;
mod sketching;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;

use crate::config::{DedupMode, PrepPlan, RunOptions};
use crate::dedup::unite::CLUSTERS;
use crate::exclude::Benchmarks;
use crate::near::table::NearTables;
use crate::pair::Task;
use crate::progress::Progress;
use crate::scores::{ScoreFilter, ScoreTable};
use crate::shard::Manifest;
use crate::{Error, Result};
use dedup_stage::DedupReport;
use layout::{BucketLayout, TASKS};
use origins::Origins;
use read_stage::{Filters, ReadReport};
use shard_stage::{PartJob, Parts};
use stage::Stage;
use work::WorkFolder;

/// Least memory that a run can work with.
pub const MIN_MEMORY: u64 = 64 << 20;

/// What a run did, beside the set itself.
#[derive(Debug)]
pub struct Outcome {
    /// The manifest written.
    pub manifest: Manifest,
    /// Files without a single record.
    pub empty_files: Vec<String>,
    /// What a user should know.
    pub warnings: Vec<String>,
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
    let layout = BucketLayout::new(plan)?;
    progress.bytes_total.store(layout.files.iter().map(|file| file.bytes).sum(), Ordering::Relaxed);

    let [read_folder, read_rejects, near_folder, dedup_folder, shard_folder] =
        ["read", "read-rejects", "near", "dedup", "shard"].map(|name| work.stage(name));
    progress.enter("read");
    let read = work.once("read", || {
        fs_err::create_dir_all(&read_folder).map_err(Error::io(&read_folder, "create"))?;
        let filters = Filters {
            scores: score_filter(plan, options, &work, progress)?,
            benchmarks: load_benchmarks(plan, options, progress)?,
        };
        progress.enter("read");
        let place = (read_folder.as_path(), read_rejects.as_path());
        read_stage::run((plan, &layout), &filters, options, place, progress)
    })?;
    progress.bytes_done.store(progress.bytes_total.load(Ordering::Relaxed), Ordering::Relaxed);

    let stage = Stage {
        plan,
        layout: &layout,
        work: &work,
        read: &read_folder,
        elsewhere: BTreeMap::new(),
        dedup: &dedup_folder,
        threads: options.threads,
        // What is left is for buffers of writers and the loaded decisions.
        memory: options.memory / 4 * 3,
        progress,
    };
    let near = match plan.dedup.mode {
        DedupMode::Near => {
            progress.enter("near");
            let report = work.once("near", || near_stage::run(&stage, &near_folder, &read))?;
            near_stage::clean_up(&stage, &near_folder)?;
            Some((report, NearTables::open(&near_folder)?))
        }
        DedupMode::None | DedupMode::Exact => None,
    };
    let tables = near.as_ref().map(|(_, tables)| tables);

    progress.enter("dedup");
    let dedup = work.once("dedup", || {
        fs_err::create_dir_all(&dedup_folder).map_err(Error::io(&dedup_folder, "create"))?;
        dedup_stage::run(&stage, tables)
    })?;

    progress.enter("shard");
    let names = SlotNames::new(plan, &read)?;
    let jobs = part_jobs(&layout, &read, &dedup, &names);
    if jobs.iter().all(|job| job.number.is_none()) {
        return Err(nothing_kept(plan, &read, &dedup));
    }
    let set = options.out.join(".work").join("set");
    let united = layout.unite_keys.then(|| NearTables::open(&dedup_folder.join(CLUSTERS))).transpose()?;
    let united = united.as_ref();
    let parts = Parts { jobs: &jobs, set: &set, folder: &shard_folder, read: &read, near: tables, united };
    let results = shard_stage::run(&stage, &parts)?;
    let shard_rejects = shard_folder.join(shard_stage::REJECTS);

    progress.enter("commit");
    let origins = Origins::open(&layout, &read_folder)?;
    let finish = commit::Commit { plan, options, layout: &layout, origins, read: &read, names: &names, set: &set };
    let manifest = finish.run(results, near.map(|(report, _)| report), &[read_rejects, shard_rejects])?;
    work.remove()?;
    // The set was assembled beside its place even where the work files lay elsewhere.
    let beside = options.out.join(".work");
    if beside.exists() {
        fs_err::remove_dir_all(&beside).map_err(Error::io(&beside, "remove"))?;
    }
    Ok(Outcome { manifest, empty_files: read.empty_files, warnings: read.warnings, resumed, discarded })
}

/// The benchmarks that rows are compared with, if there are any. They may take a quarter of memory:
/// with the spill buffers and the chunks being read that is most of it.
fn load_benchmarks(plan: &PrepPlan, options: &RunOptions, progress: &Progress) -> Result<Option<Benchmarks>> {
    if plan.exclude.benchmarks.is_empty() {
        return Ok(None);
    }
    progress.enter("exclude");
    Benchmarks::load(&plan.exclude, plan.dedup.near_threshold, options.memory / 4, progress).map(Some)
}

/// The filter by scores, its table made or found in the work folder.
fn score_filter(
    plan: &PrepPlan,
    options: &RunOptions,
    work: &WorkFolder,
    progress: &Progress,
) -> Result<Option<ScoreFilter>> {
    let Some(rules) = &plan.scores else { return Ok(None) };
    let folder = work.stage("scores");
    work.once("scores", || {
        if folder.exists() {
            fs_err::remove_dir_all(&folder).map_err(Error::io(&folder, "remove"))?;
        }
        fs_err::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        ScoreTable::make(&rules.files, &folder, options.memory / 4, &|| progress.check())
    })?;
    Ok(Some(ScoreFilter::new(rules.clone(), ScoreTable::open(&folder)?)))
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
        "expected pairs or texts, found no record in any input file".to_owned()
    } else {
        format!("no row is left of {rows} read; dropped: {reasons:?}; hint: look at the cleaning rules or the columns")
    };
    Error::corpus(first.unwrap_or_else(|| PathBuf::from(".")), None, message)
}
