//! What each task gathers, which function of the pipeline it calls, and what it leaves.

use std::collections::BTreeMap;
use std::ops::Range;

use serde::Serialize;

use super::bundle::{Bundle, BundleWriter};
use super::near::{
    candidates, components, families, give, given, near_tables, sketches, tables, texts, unite, united, verify,
};
use super::{Done, Run, StageName};
use crate::config::{DedupMode, RunOptions};
use crate::dedup::unite::CLUSTERS;
use crate::near::shingle::Rule;
use crate::pipeline::commit::Commit;
use crate::pipeline::dedup_stage::{self, DECISIONS, DedupReport, MOVED, TRANSFERS};
use crate::pipeline::near_stage;
use crate::pipeline::origins::{ORIGINS, Origins};
use crate::pipeline::read_stage::{self, Filters, KEYS, ROWS, ReadReport, SAMPLE};
use crate::pipeline::shard_stage::{self, Parts, SlotResult};
use crate::pipeline::stage::Stage;
use crate::pipeline::work::WorkFolder;
use crate::pipeline::{SlotNames, load_benchmarks, nothing_kept, part_jobs};
use crate::report::Tally;
use crate::scores::{SCORES, ScoreFilter, ScoreTable};
use crate::shard::reports::NearSpace;
use crate::store::ObjectUrl;
use crate::{Error, Result};

/// Rejects of a stage, run by run.
const REJECTS: &str = "rejects";

/// Does the task.
pub(super) fn run(run: &Run<'_>) -> Result<Done> {
    match run.task.stage {
        StageName::Scores => scores(run),
        StageName::Read => read(run),
        StageName::SettleRead => settle_read(run),
        StageName::Candidates => candidates(run),
        StageName::Components => components(run),
        StageName::Texts => texts(run),
        StageName::Verify => verify(run),
        StageName::Tables => tables(run),
        StageName::Families => families(run),
        StageName::Decide => decide(run),
        StageName::SettleDedup => settle_dedup(run),
        StageName::Unite => unite(run),
        StageName::Transfers => transfers(run),
        StageName::Parts => parts(run),
        StageName::Commit => commit(run),
    }
}

/// Leaves a bundle; `fill` writes its families.
pub(super) fn leave(
    run: &Run<'_>,
    report: &impl Serialize,
    done: Done,
    fill: impl FnOnce(&mut BundleWriter) -> Result<()>,
) -> Result<Done> {
    run.progress.check()?;
    let name = run.name("");
    let draft = run.place.draft(&name)?;
    let mut bundle = BundleWriter::create(&draft)?;
    fill(&mut bundle)?;
    bundle.finish(report, &done)?;
    let bytes = fs_err::metadata(&draft).map_err(Error::io(&draft, "read"))?.len();
    run.place.put(&draft, &name, run.progress)?;
    Ok(Done { bundle: name, bytes, ..done })
}

/// The folders and limits of a stage, as a run on one machine has them.
pub(super) fn with_stage<T>(run: &Run<'_>, job: impl FnOnce(&Stage<'_>) -> Result<T>) -> Result<T> {
    with_rows(run, &[], job)
}

/// The same, with the rows of some ranges of buckets.
pub(super) fn with_rows<T>(
    run: &Run<'_>,
    buckets: &[Range<usize>],
    job: impl FnOnce(&Stage<'_>) -> Result<T>,
) -> Result<T> {
    let work = WorkFolder::open(&run.folder("steps"), "task")?;
    let (read, dedup) = (run.folder("read"), run.folder("dedup"));
    for folder in [&read, &dedup] {
        fs_err::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    }
    let mut elsewhere = BTreeMap::new();
    if !buckets.is_empty() {
        let bundles = run.bundles(StageName::Read)?;
        for range in buckets {
            elsewhere.extend(bundles.rows(range.clone(), &read)?);
        }
    }
    job(&Stage {
        plan: run.plan,
        layout: run.layout,
        work: &work,
        read: &read,
        elsewhere,
        dedup: &dedup,
        threads: run.options.threads,
        memory: run.options.memory / 4 * 3,
        progress: run.progress,
    })
}

fn scores(run: &Run<'_>) -> Result<Done> {
    let rules = run.plan.scores.as_ref().ok_or_else(|| Error::Internal("no scores to filter by".to_owned()))?;
    let folder = run.folder("scores");
    fs_err::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    ScoreTable::make(&rules.files, &folder, run.options.memory / 4, &|| run.progress.check())?;
    give(run, &folder.join(SCORES))?;
    leave(run, &(), Done::default(), |_| Ok(()))
}

/// The filter by scores, if there is one.
fn score_filter(run: &Run<'_>) -> Result<Option<ScoreFilter>> {
    let Some(rules) = &run.plan.scores else { return Ok(None) };
    let folder = given(run, StageName::Scores, 0, &[SCORES.to_owned()])?;
    Ok(Some(ScoreFilter::new(rules.clone(), ScoreTable::open(&folder)?)))
}

fn read(run: &Run<'_>) -> Result<Done> {
    let (folder, rejects) = (run.folder("read"), run.folder(REJECTS));
    fs_err::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let filters =
        Filters { scores: score_filter(run)?, benchmarks: load_benchmarks(run.plan, run.options, run.progress)? };
    let (given, place) = ((run.plan, run.layout), (folder.as_path(), rejects.as_path()));
    let report = read_stage::read_share(given, &run.task.shares, &filters, run.options, place, run.progress)?;
    let sum = |count: fn(&Tally) -> u64| report.tallies.values().map(count).sum();
    let done = Done {
        rows_read: sum(|tally| tally.rows_read),
        rows_unreadable: sum(Tally::rows_unreadable),
        rows_dropped: sum(Tally::rows_dropped),
        ..Done::default()
    };
    leave(run, &report, done, |bundle| {
        bundle.spilled(&folder, ROWS, run.layout.buckets)?;
        bundle.spilled(&folder, KEYS, run.layout.partitions)?;
        bundle.spilled(&folder, ORIGINS, 1)?;
        bundle.folder(&rejects, REJECTS)?;
        if run.layout.unite_keys {
            bundle.spilled(&folder, CLUSTERS, Rule::ALL.len())?;
        }
        if run.plan.dedup.mode == DedupMode::Near {
            bundle.spilled(&folder, SAMPLE, Rule::ALL.len())?;
            sketches(run, bundle)?;
        }
        Ok(())
    })
}

fn settle_read(run: &Run<'_>) -> Result<Done> {
    let mut report = ReadReport::default();
    let read = run.bundles(StageName::Read)?;
    let mut clusters = [0; Rule::ALL.len()];
    for bundle in read.iter() {
        report.merge(bundle.report()?);
        // Asked only where there are some: out of a store each answer is a request.
        if run.layout.unite_keys {
            for (space, bytes) in clusters.iter_mut().enumerate() {
                *bytes += bundle.bytes(CLUSTERS, space)?;
            }
        }
    }
    read_stage::settle(run.plan, run.layout, &mut report)?;
    if run.plan.scores.is_some() {
        let folder = run.folder("read");
        read.gather(ORIGINS, 0..1, &folder)?;
        read_stage::check_scores(run.plan, run.layout, &mut report, &folder)?;
    }
    let done = Done {
        empty_files: report.empty_files.clone(),
        warnings: report.warnings.clone(),
        clusters: clusters.into_iter().max().unwrap_or(0),
        ..Done::default()
    };
    leave(run, &report, done, |_| Ok(()))
}

/// The one report of a stage that settles.
pub(super) fn settled<T: serde::de::DeserializeOwned>(run: &Run<'_>, stage: StageName) -> Result<T> {
    let bundles = run.bundles(stage)?;
    let one = bundles.iter().next().ok_or_else(|| Error::Internal("a stage left nothing".to_owned()))?;
    one.report()
}

fn decide(run: &Run<'_>) -> Result<Done> {
    let near = near_tables(run)?;
    let report = with_stage(run, |stage| {
        run.bundles(StageName::Read)?.gather(KEYS, run.jobs(), stage.read)?;
        if near.is_some() {
            run.bundles(StageName::Families)?.gather(MOVED, run.jobs(), stage.dedup)?;
        }
        dedup_stage::decide(stage, near.as_ref(), run.jobs())
    })?;
    let folder = run.folder("dedup");
    let done = Done { rows_dropped: report.dropped_rows.iter().sum(), ..Done::default() };
    leave(run, &report, done, |bundle| bundle.spilled(&folder, DECISIONS, run.layout.buckets))
}

fn settle_dedup(run: &Run<'_>) -> Result<Done> {
    let mut report = DedupReport::default();
    for bundle in run.bundles(StageName::Decide)?.iter() {
        report.merge(&bundle.report()?);
    }
    let read: ReadReport = settled(run, StageName::SettleRead)?;
    let jobs = part_jobs(run.layout, &read, &report, &SlotNames::new(run.plan, &read)?);
    if jobs.iter().all(|job| job.number.is_none()) {
        return Err(nothing_kept(run.plan, &read, &report));
    }
    leave(run, &report, Done { parts: jobs.len(), ..Done::default() }, |_| Ok(()))
}

fn transfers(run: &Run<'_>) -> Result<Done> {
    let report: DedupReport = settled(run, StageName::SettleDedup)?;
    let giving = run.jobs().filter(|&bucket| report.gives[bucket]);
    let giving: Vec<_> = giving.map(|bucket| bucket..bucket + 1).collect();
    let decided = run.bundles(StageName::Decide)?;
    with_rows(run, &giving, |stage| {
        for bucket in &giving {
            decided.gather(DECISIONS, bucket.clone(), stage.dedup)?;
        }
        dedup_stage::move_texts(stage, &report.gives, run.jobs())
    })?;
    let folder = run.folder("dedup");
    leave(run, &(), Done::default(), |bundle| bundle.spilled(&folder, TRANSFERS, run.layout.buckets))
}

/// What the parts of a task came to, by slot.
type SlotResults = BTreeMap<u32, SlotResult>;

fn parts(run: &Run<'_>) -> Result<Done> {
    let (read, dedup) = (settled(run, StageName::SettleRead)?, settled(run, StageName::SettleDedup)?);
    let (near, united) = (near_tables(run)?, united(run)?);
    let jobs = part_jobs(run.layout, &read, &dedup, &SlotNames::new(run.plan, &read)?);
    let jobs = &jobs[run.jobs()];
    let (set, folder) = (run.place.drafts(&run.name(""))?, run.folder("shard"));
    let (decided, transfers) = (run.bundles(StageName::Decide)?, run.bundles(StageName::Transfers)?);
    // Jobs are in the order of their buckets: one range of each bundle, however many jobs a task has.
    let ends = jobs.first().zip(jobs.last());
    let buckets: Vec<_> = ends.map(|(first, last)| first.bucket..last.bucket + 1).into_iter().collect();
    let results = with_rows(run, &buckets, |stage| {
        for range in &buckets {
            decided.gather(DECISIONS, range.clone(), stage.dedup)?;
            transfers.gather(TRANSFERS, range.clone(), stage.dedup)?;
        }
        let (near, united) = (near.as_ref(), united.as_ref());
        let parts = Parts { jobs, set: &set, folder: &folder, read: &read, near, united };
        shard_stage::run(stage, &parts)
    })?;
    let files: Vec<String> =
        results.values().flat_map(|slot| slot.parts.values()).map(|part| part.path.clone()).collect();
    for file in files {
        run.place.put(&set.join(&file), &format!("set/{file}"), run.progress)?;
    }
    fs_err::remove_dir_all(&set).map_err(Error::io(&set, "remove"))?;
    let done = Done {
        rows_kept: results.values().flat_map(|slot| slot.parts.values()).map(|part| part.rows).sum(),
        ..Done::default()
    };
    leave(run, &results, done, |bundle| bundle.folder(&folder.join(shard_stage::REJECTS), REJECTS))
}

fn commit(run: &Run<'_>) -> Result<Done> {
    let read: ReadReport = settled(run, StageName::SettleRead)?;
    let (read_bundles, written) = (run.bundles(StageName::Read)?, run.bundles(StageName::Parts)?);
    let mut results = SlotResults::new();
    for bundle in written.iter() {
        for (slot, result) in bundle.report::<SlotResults>()? {
            results.entry(slot).or_default().merge(result);
        }
    }
    let near = match run.plan.dedup.mode {
        DedupMode::Near => {
            let spaces = run.bundles(StageName::Tables)?.iter().map(Bundle::report::<NearSpace>).collect();
            let spaces: Result<Vec<NearSpace>> = spaces;
            Some(near_stage::report(&run.plan.dedup, spaces?))
        }
        DedupMode::None | DedupMode::Exact => None,
    };
    let (folder, rejects) = (run.folder("read"), run.folder(REJECTS));
    read_bundles.gather(ORIGINS, 0..1, &folder)?;
    read_bundles.scatter(REJECTS, &rejects, "read")?;
    written.scatter(REJECTS, &rejects, "shard")?;
    let names = SlotNames::new(run.plan, &read)?;
    let set = run.place.folder("set").unwrap_or_else(|| run.folder("set"));
    let origins = Origins::open(run.layout, &folder)?;
    let (plan, options, layout) = (run.plan, run.options, run.layout);
    // For a store, what is made here lies in the set's own folder until it is sent.
    let url = ObjectUrl::from_path(&options.out)?;
    let options = &RunOptions { out: if url.is_some() { set.clone() } else { options.out.clone() }, ..options.clone() };
    let commit = Commit { plan, options, layout, origins, read: &read, names: &names, set: &set };
    let manifest = match url {
        None => commit.run(results, near, &[rejects])?,
        Some(url) => {
            fs_err::create_dir_all(&set).map_err(Error::io(&set, "create"))?;
            let manifest = commit.build(results, near, &[rejects])?;
            commit.write_log(&manifest)?;
            run.place.move_set(&manifest, &set, &url, run.progress)?;
            manifest
        }
    };
    let done =
        Done { hash: manifest.hash, rows_read: manifest.rows_read, rows_kept: manifest.rows_kept, ..Done::default() };
    leave(run, &(), done, |_| Ok(()))
}
