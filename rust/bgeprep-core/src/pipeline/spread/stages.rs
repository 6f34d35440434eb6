//! What each task gathers, which function of the pipeline it calls, and what it leaves.

use std::path::{Path, PathBuf};

use serde::Serialize;

use super::bundle::BundleWriter;
use super::{Done, Run, StageName};
use crate::config::{DedupMode, RunOptions};
use crate::near::shingle::Rule;
use crate::near::sketch::SketchFile;
use crate::near::table::NearTables;
use crate::pipeline::commit::Commit;
use crate::pipeline::dedup_stage::{self, DECISIONS, DedupReport, MOVED, TRANSFERS};
use crate::pipeline::near_components::{COMPONENT_PAIRS, NODES, Nodes, write_components};
use crate::pipeline::near_stage::{self, Counts, MEMBERS, NEARS, PAIRS, TEXTS, bands_of, both};
use crate::pipeline::origins::{ORIGINS, Origins};
use crate::pipeline::read_stage::{self, Filters, KEYS, ROWS, ReadReport, SAMPLE, SKETCHES};
use crate::pipeline::shard_stage::{self, Parts, SlotResult};
use crate::pipeline::sketching::banding;
use crate::pipeline::stage::Stage;
use crate::pipeline::work::WorkFolder;
use crate::pipeline::{SlotNames, load_benchmarks, nothing_kept, part_jobs};
use crate::report::Tally;
use crate::shard::reports::NearSpace;
use crate::shuffle::spill::path;
use crate::store::ObjectUrl;
use crate::{Error, Result};

/// Families of a bundle that are laid out in another way than they were spilled: all keys of a space, then all
/// hashes of a band.
const SKETCH_KEYS: &str = "sketch-keys";
/// See `SKETCH_KEYS`.
const SKETCH_BANDS: &str = "sketch-bands";
/// Rejects of a stage, run by run.
const REJECTS: &str = "rejects";

/// Does the task.
pub(super) fn run(run: &Run<'_>) -> Result<Done> {
    match run.task.stage {
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
        StageName::Transfers => transfers(run),
        StageName::Parts => parts(run),
        StageName::Commit => commit(run),
    }
}

/// Leaves a bundle; `fill` writes its families.
fn leave(
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
fn with_stage<T>(run: &Run<'_>, job: impl FnOnce(&Stage<'_>) -> Result<T>) -> Result<T> {
    let work = WorkFolder::open(&run.folder("steps"), "task")?;
    let (read, dedup) = (run.folder("read"), run.folder("dedup"));
    for folder in [&read, &dedup] {
        fs_err::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    }
    job(&Stage {
        plan: run.plan,
        layout: run.layout,
        work: &work,
        read: &read,
        dedup: &dedup,
        threads: run.options.threads,
        memory: run.options.memory / 4 * 3,
        progress: run.progress,
    })
}

fn read(run: &Run<'_>) -> Result<Done> {
    let (folder, rejects) = (run.folder("read"), run.folder(REJECTS));
    fs_err::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
    let filters = Filters { scores: None, benchmarks: load_benchmarks(run.plan, run.options, run.progress)? };
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
        if run.plan.dedup.mode == DedupMode::Near {
            bundle.spilled(&folder, SAMPLE, Rule::ALL.len())?;
            sketches(run, bundle)?;
        }
        Ok(())
    })
}

/// All keys of each space, then all hashes of each band: so that one range of the bundle is some bands of all texts.
fn sketches(run: &Run<'_>, bundle: &mut BundleWriter) -> Result<()> {
    let bands = banding(&run.plan.dedup).bands;
    let files = both(|space| SketchFile::open(&path(&run.folder("read"), SKETCHES, space), 0..bands))?;
    bundle.family(SKETCH_KEYS);
    for file in &files {
        file.columns(None, &mut |bytes| bundle.write(bytes))?;
        bundle.end_segment();
    }
    bundle.family(SKETCH_BANDS);
    for file in &files {
        for band in 0..bands {
            file.columns(Some(band), &mut |bytes| bundle.write(bytes))?;
            bundle.end_segment();
        }
    }
    Ok(())
}

fn settle_read(run: &Run<'_>) -> Result<Done> {
    let mut report = ReadReport::default();
    for bundle in run.bundles(StageName::Read)?.iter() {
        report.merge(bundle.report()?);
    }
    read_stage::settle(run.plan, run.layout, &mut report)?;
    let done =
        Done { empty_files: report.empty_files.clone(), warnings: report.warnings.clone(), ..Done::default() };
    leave(run, &report, done, |_| Ok(()))
}

/// The one report of a stage that settles.
fn settled<T: serde::de::DeserializeOwned>(run: &Run<'_>, stage: StageName) -> Result<T> {
    let bundles = run.bundles(stage)?;
    let one = bundles.iter().next().ok_or_else(|| Error::Internal("a stage left nothing".to_owned()))?;
    one.report()
}

fn candidates(run: &Run<'_>) -> Result<Done> {
    let (bands, near) = (banding(&run.plan.dedup).bands, run.folder("near"));
    let read = run.bundles(StageName::Read)?;
    with_stage(run, |stage| {
        for space in 0..2 {
            let wanted = bands_of(&run.jobs(), space, bands);
            if !wanted.is_empty() {
                // One block a bundle, which holds these bands alone.
                read.gather_blocks(
                    (SKETCH_KEYS, space),
                    (SKETCH_BANDS, space * bands + wanted.start..space * bands + wanted.end),
                    &path(stage.read, SKETCHES, space),
                )?;
            }
        }
        near_stage::find_candidates(stage, &near, run.jobs())
    })?;
    leave(run, &(), Done::default(), |bundle| {
        PAIRS.iter().try_for_each(|name| bundle.spilled(&near, name, run.layout.partitions))
    })
}

fn components(run: &Run<'_>) -> Result<Done> {
    let (space, near) = (run.task.jobs.0, run.folder("near"));
    run.bundles(StageName::Candidates)?.gather(PAIRS[space], 0..run.layout.partitions, &near)?;
    with_stage(run, |stage| write_components(stage, &near, space))?;
    NODES.iter().try_for_each(|name| give(run, &path(&near, name, space)))?;
    leave(run, &(), Done::default(), |bundle| {
        bundle.spilled(&near, COMPONENT_PAIRS[space], run.layout.partitions)
    })
}

/// Leaves a file that others map: beside the bundle, in a folder of the same name.
fn give(run: &Run<'_>, file: &Path) -> Result<()> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = run.name(&format!(".files/{name}"));
    let draft = run.place.draft(&name)?;
    fs_err::copy(file, &draft).map_err(Error::io(&draft, "write"))?;
    run.place.put(&draft, &name, run.progress)
}

/// The folders, one a space, of what the tasks of a stage gave.
fn given(run: &Run<'_>, stage: StageName, files: impl Fn(usize) -> Vec<String>) -> Result<[PathBuf; 2]> {
    let names = run.task.inputs.get(&stage).map(Vec::as_slice).unwrap_or_default();
    both(|space| {
        let name = names.get(space).ok_or_else(|| Error::Internal(format!("{} left nothing", stage.name())))?;
        let mut folder = PathBuf::new();
        for file in files(space) {
            let file = run.place.on_this_machine(&format!("{name}.files/{file}"))?;
            folder = file.parent().map(PathBuf::from).unwrap_or_default();
        }
        Ok(folder)
    })
}

fn nodes(run: &Run<'_>) -> Result<[Nodes; 2]> {
    let files = |space| NODES.iter().map(|name| format!("{name}-{space:06}")).collect();
    let folders = given(run, StageName::Components, files)?;
    both(|space| Nodes::open(&folders[space], space))
}

fn near_tables(run: &Run<'_>) -> Result<Option<NearTables>> {
    if run.plan.dedup.mode != DedupMode::Near {
        return Ok(None);
    }
    let files = |space: usize| NearTables::files(Rule::ALL[space]);
    let [query, passage] = given(run, StageName::Tables, files)?;
    NearTables::open_each([&query, &passage]).map(Some)
}

fn texts(run: &Run<'_>) -> Result<Done> {
    let near = run.folder("near");
    let nodes = nodes(run)?;
    with_stage(run, |stage| {
        run.bundles(StageName::Read)?.gather(ROWS, run.jobs(), stage.read)?;
        near_stage::take_texts(stage, &near, &nodes, run.jobs())
    })?;
    leave(run, &(), Done::default(), |bundle| {
        TEXTS.iter().try_for_each(|name| bundle.spilled(&near, name, run.layout.partitions))
    })
}

fn verify(run: &Run<'_>) -> Result<Done> {
    let (near, partitions) = (run.folder("near"), run.layout.partitions);
    let nodes = nodes(run)?;
    let (texts, components) = (run.bundles(StageName::Texts)?, run.bundles(StageName::Components)?);
    for space in 0..2 {
        let wanted = bands_of(&run.jobs(), space, partitions);
        texts.gather(TEXTS[space], wanted.clone(), &near)?;
        components.gather(COMPONENT_PAIRS[space], wanted, &near)?;
    }
    let counts = with_stage(run, |stage| near_stage::verify(stage, &near, &nodes, run.jobs()))?;
    leave(run, &counts, Done::default(), |bundle| {
        MEMBERS.iter().chain(&NEARS).try_for_each(|name| bundle.spilled(&near, name, partitions))
    })
}

fn tables(run: &Run<'_>) -> Result<Done> {
    let (space, near, partitions) = (run.task.jobs.0, run.folder("near"), run.layout.partitions);
    let verified = run.bundles(StageName::Verify)?;
    for family in [MEMBERS[space], NEARS[space]] {
        verified.gather(family, 0..partitions, &near)?;
    }
    let mut counts = Counts::default();
    for bundle in verified.iter() {
        counts.merge(&bundle.report::<[Counts; 2]>()?[space]);
    }
    let report = settled(run, StageName::SettleRead)?;
    let rule = Rule::ALL[space];
    let described = with_stage(run, |stage| {
        run.bundles(StageName::Read)?.gather(SAMPLE, space..space + 1, stage.read)?;
        near_stage::describe(stage, &near, rule, &counts, &report)
    })?;
    for name in NearTables::files(rule) {
        give(run, &near.join(name))?;
    }
    leave(run, &described, Done::default(), |_| Ok(()))
}

fn families(run: &Run<'_>) -> Result<Done> {
    let near = near_tables(run)?.ok_or_else(|| Error::Internal("families without near dedup".to_owned()))?;
    with_stage(run, |stage| {
        run.bundles(StageName::Read)?.gather(KEYS, run.jobs(), stage.read)?;
        dedup_stage::gather_families(stage, &near, run.jobs())
    })?;
    let folder = run.folder("dedup");
    leave(run, &(), Done::default(), |bundle| bundle.spilled(&folder, MOVED, run.layout.partitions))
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
    let (read, decided) = (run.bundles(StageName::Read)?, run.bundles(StageName::Decide)?);
    with_stage(run, |stage| {
        for bucket in run.jobs().filter(|&bucket| report.gives[bucket]) {
            read.gather(ROWS, bucket..bucket + 1, stage.read)?;
            decided.gather(DECISIONS, bucket..bucket + 1, stage.dedup)?;
        }
        dedup_stage::move_texts(stage, &report.gives, run.jobs())
    })?;
    let folder = run.folder("dedup");
    leave(run, &(), Done::default(), |bundle| bundle.spilled(&folder, TRANSFERS, run.layout.buckets))
}

/// What the parts of a task came to, by slot.
type SlotResults = std::collections::BTreeMap<u32, SlotResult>;

fn parts(run: &Run<'_>) -> Result<Done> {
    let (read, dedup) = (settled(run, StageName::SettleRead)?, settled(run, StageName::SettleDedup)?);
    let near = near_tables(run)?;
    let jobs = part_jobs(run.layout, &read, &dedup, &SlotNames::new(run.plan, &read)?);
    let jobs = &jobs[run.jobs()];
    let (set, folder) = (run.place.drafts(&run.name(""))?, run.folder("shard"));
    let (rows, decided) = (run.bundles(StageName::Read)?, run.bundles(StageName::Decide)?);
    let transfers = run.bundles(StageName::Transfers)?;
    let results = with_stage(run, |stage| {
        for job in jobs {
            let one = job.bucket..job.bucket + 1;
            rows.gather(ROWS, one.clone(), stage.read)?;
            decided.gather(DECISIONS, one.clone(), stage.dedup)?;
            transfers.gather(TRANSFERS, one, stage.dedup)?;
        }
        let parts = Parts { jobs, set: &set, folder: &folder, read: &read, near: near.as_ref() };
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
            let spaces = run.bundles(StageName::Tables)?.iter().map(|bundle| bundle.report::<NearSpace>()).collect();
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
    let done = Done {
        hash: manifest.hash,
        rows_read: manifest.rows_read,
        rows_kept: manifest.rows_kept,
        ..Done::default()
    };
    leave(run, &(), done, |_| Ok(()))
}
