//! Near duplicates: sketches → candidates → components → texts → clusters, each step files to files.
//!
//! 1. Band by band, texts that agree become candidate pairs, spilled by the first key.
//! 2. Components of candidates are found; each pair goes to the partition of its component.
//! 3. One walk over the rows takes the texts that have a candidate to the same partitions.
//! 4. Each partition is verified alone: true similarities, clusters.
//! 5. Members and near pairs, spilled by key, become the sorted tables that later stages look into.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::gate::{Gate, for_each};
use super::journal::{Found, Output};
use super::near_components::{COMPONENT_PAIRS, Nodes, find_components};
use super::read_stage::{ReadReport, SAMPLE, SKETCHES};
use super::sketching::banding;
use super::stage::Stage;
use crate::config::DedupRules;
use crate::near::candidates::{CandidatePair, pairs};
use crate::near::minhash::BAND_BITS;
use crate::near::sample::measure;
use crate::near::shingle::Rule;
use crate::near::sketch::SketchFile;
use crate::near::table::{Member, NearPair, NearTable, TableWriter};
use crate::near::verify::{TextStore, Verifier};
use crate::shard::reports::{NearReport, NearRules, NearSpace};
use crate::shuffle::bucket::for_each_row;
use crate::shuffle::bucket_of;
use crate::shuffle::row::{SpillRow, decode};
use crate::shuffle::spill::{Packing, Spill, load, path, remove_if_there, size};
use crate::{Error, Result};

/// Spill families of both spaces.
pub(super) const PAIRS: [&str; 2] = ["query-pairs", "passage-pairs"];
pub(super) const TEXTS: [&str; 2] = ["query-texts", "passage-texts"];
pub(super) const MEMBERS: [&str; 2] = ["query-members", "passage-members"];
pub(super) const NEARS: [&str; 2] = ["query-nears", "passage-nears"];

/// What verifying a partition came to.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub(super) struct Counts {
    compared: u64,
    sizes: BTreeMap<u64, u64>,
}

/// Finds the clusters of both spaces and leaves their tables in `folder`.
pub fn run(stage: &Stage<'_>, folder: &Path, read: &ReadReport) -> Result<NearReport> {
    fs_err::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let (partitions, bands) = (stage.layout.partitions, banding(&stage.plan.dedup).bands);
    stage.work.once("near-candidates", || find_candidates(stage, folder, 0..2 * bands))?;
    let nodes = find_components(stage, folder)?;
    stage.work.once("near-texts", || take_texts(stage, folder, &nodes, 0..stage.layout.buckets))?;
    let counts = stage.work.once("near-verify", || verify(stage, folder, &nodes, 0..2 * partitions))?;
    drop(nodes);
    let spaces = Mutex::new(BTreeMap::new());
    for_each(stage.threads, Rule::ALL.len(), |space| {
        let report = describe(stage, folder, Rule::ALL[space], &counts[space], read)?;
        spaces.lock().unwrap_or_else(PoisonError::into_inner).insert(space, report);
        Ok(())
    })?;
    let spaces = spaces.into_inner().unwrap_or_else(PoisonError::into_inner).into_values().collect();
    Ok(report(&stage.plan.dedup, spaces))
}

/// What the manifest says of near dedup.
pub(super) fn report(rules: &DedupRules, spaces: Vec<NearSpace>) -> NearReport {
    let banding = banding(rules);
    NearReport {
        threshold: rules.near_threshold,
        permutations: rules.permutations as u64,
        bands: banding.bands as u64,
        rows_per_band: banding.rows as u64,
        max_cluster: rules.max_cluster as u64,
        rules: NearRules { query: Rule::Query.describe().to_owned(), passage: Rule::Passage.describe().to_owned() },
        spaces,
    }
}

/// Writes the table of a space, and says what is in it and how much of it was found.
pub(super) fn describe(
    stage: &Stage<'_>,
    folder: &Path,
    rule: Rule,
    counts: &Counts,
    read: &ReadReport,
) -> Result<NearSpace> {
    let (clustered_texts, near_pairs) = write_table(stage, folder, rule)?;
    let table = NearTable::open(folder, rule.space())?;
    let sample = path(stage.read, SAMPLE, rule as usize);
    let (recall, precision) = measure(&sample, rule, stage.plan.dedup.near_threshold, &table)?;
    let mut sizes = BTreeMap::new();
    for (size, clusters) in &counts.sizes {
        *sizes.entry(1 << size.ilog2()).or_insert(0) += clusters;
    }
    let cap = stage.plan.dedup.max_cluster as u64;
    Ok(NearSpace {
        name: rule.space().to_owned(),
        texts: read.sketched[rule as usize],
        candidates: counts.compared,
        near_pairs,
        clusters: counts.sizes.values().sum(),
        clustered_texts,
        largest: counts.sizes.keys().next_back().copied().unwrap_or(0),
        over_cap: counts.sizes.range(cap + 1..).map(|(_, clusters)| clusters).sum(),
        sizes: sizes.into_iter().collect(),
        recall,
        precision,
    })
}

impl Counts {
    /// Adds what other partitions came to.
    pub(super) fn merge(&mut self, other: &Self) {
        self.compared += other.compared;
        for (&size, clusters) in &other.sizes {
            *self.sizes.entry(size).or_default() += clusters;
        }
    }
}

/// Step 1. A job is a band of a space: query bands first.
pub(super) fn find_candidates(stage: &Stage<'_>, folder: &Path, jobs: Range<usize>) -> Result<()> {
    let bands = banding(&stage.plan.dedup).bands;
    let found = Found::<(), ()>::read(&folder.join("candidates"))?;
    let partitions = stage.layout.partitions;
    let spills = both(|space| {
        let lengths = found.lengths(space, partitions);
        Spill::reopen(folder, PAIRS[space], Packing::Plain, stage.memory / 16, &lengths)
    })?;
    let journal = found.go_on(spills.iter().map(|spill| spill as &dyn Output).collect())?;
    let files = both(|space| SketchFile::open(&path(stage.read, SKETCHES, space), bands_of(&jobs, space, bands)))?;
    // Records are sorted where they lie; the other half of a thread's share is for what it spills.
    let room = (stage.memory / stage.threads as u64 / 2).max(1 << 20);
    stage.begin(jobs.len());
    for_each(stage.threads, jobs.len(), |at| {
        stage.progress.check()?;
        let job = jobs.start + at;
        let (space, band) = (job / bands, job % bands);
        if !found.done.contains_key(&job) {
            let ranges = (files[space].texts() * size_of::<u128>() as u64).div_ceil(room).max(1);
            let bound = |range: u64| ((u128::from(range) << BAND_BITS) / u128::from(ranges)) as u64;
            let (mut records, mut bytes, mut failed) = (Vec::new(), Vec::new(), Ok(()));
            for range in 0..ranges {
                records.clear();
                files[space].read_band(band, bound(range)..bound(range + 1), &mut records)?;
                pairs(&mut records, &mut |left, right| {
                    bytes.clear();
                    CandidatePair { left, right }.encode(&mut bytes);
                    let partition = bucket_of(left, partitions as u32) as usize;
                    if let Err(error) = spills[space].append(partition, &bytes) {
                        failed = Err(error);
                    }
                });
                stage.progress.check()?;
            }
            failed?;
            journal.done(job, (), Vec::new(), |()| ())?;
        }
        stage.step();
        Ok(())
    })?;
    journal.finish()?;
    Ok(())
}

/// The bands of a space among the jobs of step 1, of `bands` a space.
pub(super) fn bands_of(jobs: &Range<usize>, space: usize, bands: usize) -> Range<usize> {
    let within = |job: usize| job.clamp(space * bands, (space + 1) * bands) - space * bands;
    within(jobs.start)..within(jobs.end)
}

/// Step 3. A job is a bucket.
pub(super) fn take_texts(stage: &Stage<'_>, folder: &Path, nodes: &[Nodes; 2], jobs: Range<usize>) -> Result<()> {
    let partitions = stage.layout.partitions;
    let found = Found::<(), ()>::read(&folder.join("texts"))?;
    let spills = both(|space| {
        let lengths = found.lengths(space, partitions);
        Spill::reopen(folder, TEXTS[space], Packing::Plain, stage.memory / 16, &lengths)
    })?;
    let journal = found.go_on(spills.iter().map(|spill| spill as &dyn Output).collect())?;
    let taken = [0, 1].map(|space: usize| {
        let words = nodes[space].keys.len().div_ceil(64);
        (0..words).map(|_| AtomicU64::new(0)).collect::<Vec<_>>()
    });
    let take = |space: usize, key: u64, text: &str| -> Result<()> {
        let Some(at) = nodes[space].index.find(&nodes[space].keys, key) else { return Ok(()) };
        let bit = 1 << (at % 64);
        if taken[space][at / 64].fetch_or(bit, Ordering::Relaxed) & bit != 0 {
            return Ok(());
        }
        let home = nodes[space].homes[at] as usize;
        spills[space].append_with(home, |bytes| TextStore::encode(at as u32, text, bytes))
    };
    stage.begin(jobs.len());
    for_each(stage.threads, jobs.len(), |at| {
        stage.progress.check()?;
        let bucket = jobs.start + at;
        if !found.done.contains_key(&bucket) {
            let space = Rule::of_passages(stage.layout.task(bucket)) as usize;
            for_each_row(&stage.rows(bucket)?, &mut |body| {
                let mut row = SpillRow::default();
                decode(body, &mut row)?;
                take(Rule::Query as usize, row.query_key, row.query)?;
                row.pos.iter().chain(&row.neg).try_for_each(|item| take(space, item.key, item.text))
            })?;
            journal.done(bucket, (), Vec::new(), |()| ())?;
        }
        stage.step();
        Ok(())
    })?;
    journal.finish()?;
    Ok(())
}

/// Step 4. A job is a partition of a space: those of queries first.
pub(super) fn verify(stage: &Stage<'_>, folder: &Path, nodes: &[Nodes; 2], jobs: Range<usize>) -> Result<[Counts; 2]> {
    let partitions = stage.layout.partitions;
    let found = Found::<(), [Counts; 2]>::read(&folder.join("verify"))?;
    let spills = |names: [&'static str; 2], first: usize| {
        both(|space| {
            let lengths = found.lengths(first + space, partitions);
            Spill::reopen(folder, names[space], Packing::Plain, stage.memory / 16, &lengths)
        })
    };
    let (members, nears) = (spills(MEMBERS, 0)?, spills(NEARS, 2)?);
    let journal = found.go_on(members.iter().chain(&nears).map(|spill| spill as &dyn Output).collect())?;
    let gate = Gate::new(stage.memory / 2);
    stage.begin(jobs.len());
    for_each(stage.threads, jobs.len(), |at| {
        stage.progress.check()?;
        let job = jobs.start + at;
        let (space, partition) = (job / partitions, job % partitions);
        if !found.done.contains_key(&job) {
            let files = [TEXTS[space], COMPONENT_PAIRS[space]].map(|name| path(folder, name, partition));
            let (texts, pairs) = (size(&files[0])?, size(&files[1])?);
            let _pass = gate.enter(3 * texts + 2 * pairs);
            let decode = |bytes: &[u8; 8]| {
                let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
                (word(0), word(4))
            };
            let mut pairs: Vec<(u32, u32)> = load(&files[1])?.as_chunks::<8>().0.iter().map(decode).collect();
            pairs.sort_unstable();
            pairs.dedup();
            let room = stage.memory / 2 / stage.threads as u64;
            let store = TextStore::open(&files[0], room)?;
            let verifier = Verifier {
                keys: &nodes[space].keys,
                rule: Rule::ALL[space],
                threshold: stage.plan.dedup.near_threshold,
                max_cluster: stage.plan.dedup.max_cluster,
                memory: room,
            };
            let verified = verifier.run(&store, &pairs)?;
            let mut bytes = Vec::new();
            let mut send = |spill: &Spill, key: u64, encode: &dyn Fn(&mut Vec<u8>)| {
                bytes.clear();
                encode(&mut bytes);
                spill.append(bucket_of(key, partitions as u32) as usize, &bytes)
            };
            for member in &verified.members {
                send(&members[space], member.key, &|out| member.encode(out))?;
            }
            for pair in &verified.pairs {
                send(&nears[space], pair.left, &|out| pair.encode(out))?;
            }
            journal.done(job, (), files.to_vec(), |sum| {
                sum[space].compared += verified.compared;
                for size in verified.sizes {
                    *sum[space].sizes.entry(size).or_default() += 1;
                }
            })?;
        }
        stage.step();
        Ok(())
    })?;
    journal.finish()
}

/// Step 5: the sorted table of a space; its members and pairs.
fn write_table(stage: &Stage<'_>, folder: &Path, rule: Rule) -> Result<(u64, u64)> {
    let mut table = TableWriter::create(folder, rule.space())?;
    let (mut members, mut pairs) = (0, 0);
    for partition in 0..stage.layout.partitions {
        stage.progress.check()?;
        for member in Member::decode_all(&load(&path(folder, MEMBERS[rule as usize], partition))?) {
            table.member(member)?;
            members += 1;
        }
        for pair in NearPair::decode_all(&load(&path(folder, NEARS[rule as usize], partition))?) {
            table.pair(pair)?;
            pairs += 1;
        }
    }
    table.finish()?;
    Ok((members, pairs))
}

/// Removes what nobody needs once the tables are there.
pub fn clean_up(stage: &Stage<'_>, folder: &Path) -> Result<()> {
    for space in 0..2 {
        for partition in 0..stage.layout.partitions {
            for name in [MEMBERS[space], NEARS[space], TEXTS[space], COMPONENT_PAIRS[space]] {
                remove_if_there(&path(folder, name, partition))?;
            }
        }
        for file in [path(folder, "nodes", space), path(folder, "homes", space), path(stage.read, SAMPLE, space)] {
            remove_if_there(&file)?;
        }
    }
    Ok(())
}

/// The same for queries and passages.
pub(super) fn both<T>(make: impl FnMut(usize) -> Result<T>) -> Result<[T; 2]> {
    let [query, passage] = [0, 1].map(make);
    Ok([query?, passage?])
}
