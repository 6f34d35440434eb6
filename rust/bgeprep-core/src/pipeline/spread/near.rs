//! What the tasks of near dedup gather, call and leave.

use std::path::{Path, PathBuf};

use super::bundle::BundleWriter;
use super::stages::{leave, settled, with_rows, with_stage};
use super::{Done, Run, StageName};
use crate::config::DedupMode;
use crate::dedup::unite::{self, CLUSTERS};
use crate::near::shingle::Rule;
use crate::near::sketch::SketchFile;
use crate::near::table::NearTables;
use crate::pipeline::dedup_stage::{self, MOVED};
use crate::pipeline::near_components::{COMPONENT_PAIRS, NODES, Nodes, write_components};
use crate::pipeline::near_stage::{self, Counts, MEMBERS, NEARS, PAIRS, TEXTS, bands_of, both};
use crate::pipeline::read_stage::{KEYS, SAMPLE, SKETCHES};
use crate::pipeline::sketching::banding;
use crate::shuffle::spill::path;
use crate::{Error, Result};

/// Families of a bundle that are laid out in another way than they were spilled: all keys of a space, then all
/// hashes of a band.
const SKETCH_KEYS: &str = "sketch-keys";
/// See `SKETCH_KEYS`.
const SKETCH_BANDS: &str = "sketch-bands";

/// All keys of each space, then all hashes of each band: so that one range of the bundle is some bands of all texts.
pub(super) fn sketches(run: &Run<'_>, bundle: &mut BundleWriter) -> Result<()> {
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

/// Step 1 of near dedup.
pub(super) fn candidates(run: &Run<'_>) -> Result<Done> {
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

/// Step 2 of near dedup.
pub(super) fn components(run: &Run<'_>) -> Result<Done> {
    let (space, near) = (run.task.jobs.0, run.folder("near"));
    run.bundles(StageName::Candidates)?.gather(PAIRS[space], 0..run.layout.partitions, &near)?;
    with_stage(run, |stage| write_components(stage, &near, space))?;
    NODES.iter().try_for_each(|name| give(run, &path(&near, name, space)))?;
    leave(run, &(), Done::default(), |bundle| bundle.spilled(&near, COMPONENT_PAIRS[space], run.layout.partitions))
}

/// Leaves a file that others map: beside the bundle, in a folder of the same name.
pub(super) fn give(run: &Run<'_>, file: &Path) -> Result<()> {
    let name = file.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let name = run.name(&format!(".files/{name}"));
    let draft = run.place.draft(&name)?;
    fs_err::copy(file, &draft).map_err(Error::io(&draft, "write"))?;
    run.place.put(&draft, &name, run.progress)
}

/// The folder with files that a task of a stage gave.
pub(super) fn given(run: &Run<'_>, stage: StageName, task: usize, files: &[String]) -> Result<PathBuf> {
    let names = run.task.inputs.get(&stage).map(Vec::as_slice).unwrap_or_default();
    let name = names.get(task).ok_or_else(|| Error::Internal(format!("{} left nothing", stage.name())))?;
    let mut folder = PathBuf::new();
    for file in files {
        let file = run.place.on_this_machine(&format!("{name}.files/{file}"))?;
        folder = file.parent().map(PathBuf::from).unwrap_or_default();
    }
    Ok(folder)
}

/// The tables of both spaces that the tasks of a stage gave, one each.
fn given_tables(run: &Run<'_>, stage: StageName) -> Result<NearTables> {
    let [query, passage] = both(|space| given(run, stage, space, &NearTables::files(Rule::ALL[space])))?;
    NearTables::open_each([&query, &passage])
}

fn nodes(run: &Run<'_>) -> Result<[Nodes; 2]> {
    both(|space| {
        let files = NODES.map(|name| format!("{name}-{space:06}"));
        Nodes::open(&given(run, StageName::Components, space, &files)?, space)
    })
}

/// The tables of both spaces, if there is near dedup.
pub(super) fn near_tables(run: &Run<'_>) -> Result<Option<NearTables>> {
    if run.plan.dedup.mode != DedupMode::Near {
        return Ok(None);
    }
    given_tables(run, StageName::Tables).map(Some)
}

/// Batching keys of shard sets, where sets are read: see [`unite`](crate::dedup::unite).
pub(super) fn unite(run: &Run<'_>) -> Result<Done> {
    let (rule, folder, near) = (Rule::ALL[run.task.jobs.0], run.folder(CLUSTERS), near_tables(run)?);
    run.bundles(StageName::Read)?.gather(CLUSTERS, rule as usize..rule as usize + 1, &folder)?;
    with_stage(run, |stage| unite::space(rule, &folder, &folder, near.as_ref(), stage.memory))?;
    NearTables::files(rule).iter().try_for_each(|name| give(run, &folder.join(name)))?;
    leave(run, &(), Done::default(), |_| Ok(()))
}

/// The batching keys brought together, if there are some.
pub(super) fn united(run: &Run<'_>) -> Result<Option<NearTables>> {
    run.layout.unite_keys.then(|| given_tables(run, StageName::Unite)).transpose()
}

/// Step 3 of near dedup.
pub(super) fn texts(run: &Run<'_>) -> Result<Done> {
    let near = run.folder("near");
    let nodes = nodes(run)?;
    with_rows(run, &[run.jobs()], |stage| near_stage::take_texts(stage, &near, &nodes, run.jobs()))?;
    leave(run, &(), Done::default(), |bundle| {
        TEXTS.iter().try_for_each(|name| bundle.spilled(&near, name, run.layout.partitions))
    })
}

/// Step 4 of near dedup.
pub(super) fn verify(run: &Run<'_>) -> Result<Done> {
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

/// Step 5 of near dedup.
pub(super) fn tables(run: &Run<'_>) -> Result<Done> {
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

/// Key records go to the partition of their family.
pub(super) fn families(run: &Run<'_>) -> Result<Done> {
    let near = near_tables(run)?.ok_or_else(|| Error::Internal("families without near dedup".to_owned()))?;
    with_stage(run, |stage| {
        run.bundles(StageName::Read)?.gather(KEYS, run.jobs(), stage.read)?;
        dedup_stage::gather_families(stage, &near, run.jobs())
    })?;
    let folder = run.folder("dedup");
    leave(run, &(), Done::default(), |bundle| bundle.spilled(&folder, MOVED, run.layout.partitions))
}
