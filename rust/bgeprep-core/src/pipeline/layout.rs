//! Where the rows of a run go: source and task slots, buckets, partitions. Decided by the input
//! listing alone.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{DedupMode, PrepPlan};
use crate::pair::Task;
use crate::shard::ShardSet;
use crate::shuffle::{bucket_count, bucket_of, file_seed, order_key};
use crate::store::Location;
use crate::{Error, Result};

/// Tasks a source's rows may have: each is a slot, and becomes a sub-source if it is used beside
/// another.
pub const TASKS: u32 = Task::ALL.len() as u32;

/// Text bytes that a compressed or columnar byte is taken to hold.
const EXPANSION: u64 = 4;

/// Text bytes whose key records one partition holds.
const PARTITION_BYTES: u64 = 64 << 20;

/// One input file with what follows from its place.
#[derive(Debug, Clone)]
pub struct FileEntry {
    /// Where it is.
    pub location: Location,
    /// What the shard set calls it.
    pub origin: String,
    /// Index of its source.
    pub source: usize,
    /// Seed of its rows' order keys.
    pub seed: u64,
    /// Size in bytes.
    pub bytes: u64,
    /// The part of a shard set that it is, if it is one.
    pub part: Option<SetPart>,
}

impl FileEntry {
    /// Bytes of text that it is taken to hold.
    pub fn text_bytes(&self) -> u64 {
        text_bytes(&self.origin, self.bytes)
    }
}

fn text_bytes(origin: &str, bytes: u64) -> u64 {
    bytes * if is_dense(origin) { EXPANSION } else { 1 }
}

/// A part of a shard set that is read again.
#[derive(Debug, Clone)]
pub struct SetPart {
    /// The set.
    pub set: Arc<ShardSet>,
    /// Place of the part in it.
    pub part: usize,
}

/// Files, slots and buckets of a run.
#[derive(Debug)]
pub struct BucketLayout {
    /// All files; [`RowId::file`](crate::shuffle::RowId) counts in here.
    pub files: Vec<FileEntry>,
    /// Number of buckets over all sources and slots.
    pub buckets: usize,
    /// The buckets from here on hold rows that are only compared with: their sources come last.
    pub own_buckets: usize,
    /// Bytes of text that the input is taken to hold.
    pub text_bytes: u64,
    /// Number of key partitions.
    pub partitions: usize,
    /// The input is one shard set and no dedup is asked for: its batching keys stay as they are.
    pub keep_keys: bool,
    /// Batching keys of shard sets have to be brought together.
    pub unite_keys: bool,
    /// For each source: first bucket and buckets a slot.
    sources: Vec<(u32, u32)>,
    /// Names of the sources, which with the seed decide the order of their rows.
    names: Vec<String>,
    seed: u64,
}

impl BucketLayout {
    /// The layout of a plan; opens the shard sets it reads.
    ///
    /// # Errors
    /// `Shard` if one of them is absent, incomplete or of another kind.
    pub fn new(plan: &PrepPlan) -> Result<Self> {
        let (mut files, mut sources) = (Vec::<FileEntry>::new(), Vec::new());
        let mut sets = Sets::default();
        let (mut first, mut own, mut total) = (0, 0, 0);
        for (index, source) in plan.sources.iter().enumerate() {
            let mut bytes = 0;
            for input in &source.inputs {
                bytes += text_bytes(&input.origin, input.bytes);
                files.push(FileEntry {
                    location: input.location.clone(),
                    origin: input.origin.clone(),
                    source: index,
                    seed: file_seed(plan.seed, &source.name, &input.origin),
                    bytes: input.bytes,
                    part: input.set.as_deref().map(|set| sets.part(set, &input.location.path())).transpose()?,
                });
            }
            let count = bucket_count(bytes, plan.part_bytes);
            sources.push((first, count));
            first += count * TASKS;
            own = if source.against { own } else { first };
            total += bytes;
        }
        let partitions = total.div_ceil(PARTITION_BYTES).clamp(1, 4096) as usize;
        let names = plan.sources.iter().map(|source| source.name.clone()).collect();
        let one_set = sets.0.len() == 1 && files.iter().all(|file| file.part.is_some());
        let keep_keys =
            one_set && plan.dedup.mode == DedupMode::None && plan.sources.iter().all(|source| !source.against);
        let unite_keys = !sets.0.is_empty() && !keep_keys;
        Ok(Self {
            files,
            buckets: first as usize,
            own_buckets: own as usize,
            text_bytes: total,
            partitions,
            keep_keys,
            unite_keys,
            sources,
            names,
            seed: plan.seed,
        })
    }

    /// Files alone, for tests.
    #[cfg(test)]
    pub(super) fn of_files(files: Vec<FileEntry>) -> Self {
        Self {
            files,
            buckets: 0,
            own_buckets: 0,
            text_bytes: 0,
            partitions: 1,
            keep_keys: false,
            unite_keys: false,
            sources: Vec::new(),
            names: Vec::new(),
            seed: 0,
        }
    }

    /// The order key of a row that says it was first read from this file and line: the same whether the raw file is
    /// read, a file that was made from it, or a set. Rows that say the same keep the order of the input.
    pub fn order_of_origin(&self, source: usize, origin: &str, line: u64) -> u64 {
        order_key(file_seed(self.seed, &self.names[source], origin), line)
    }

    /// The slot of a source and task.
    pub fn slot(&self, source: usize, task: Task) -> u32 {
        source as u32 * TASKS + task as u32
    }

    /// The bucket of a row.
    pub fn bucket(&self, source: usize, task: Task, order: u64) -> u32 {
        let (first, count) = self.sources[source];
        first + task as u32 * count + bucket_of(order, count)
    }

    /// The task of a bucket's rows.
    pub fn task(&self, bucket: usize) -> Task {
        let source = self.sources.partition_point(|&(first, _)| first as usize <= bucket) - 1;
        let (first, count) = self.sources[source];
        Task::ALL[(bucket - first as usize) / count as usize]
    }

    /// The buckets of a slot, in shuffled order.
    pub fn slot_buckets(&self, slot: u32) -> std::ops::Range<usize> {
        let (first, count) = self.sources[(slot / TASKS) as usize];
        let start = (first + slot % TASKS * count) as usize;
        start..start + count as usize
    }
}

/// The shard sets of a run, each opened once, with the places of their parts.
#[derive(Default)]
struct Sets(BTreeMap<PathBuf, (Arc<ShardSet>, BTreeMap<PathBuf, usize>)>);

impl Sets {
    fn part(&mut self, folder: &Path, path: &Path) -> Result<SetPart> {
        if !self.0.contains_key(folder) {
            let set = ShardSet::open(folder)?;
            let parts = (0..set.num_parts()).filter_map(|part| Some((set.part_path(part)?.to_owned(), part))).collect();
            self.0.insert(folder.to_owned(), (set, parts));
        }
        let found = self.0.get(folder).and_then(|(set, parts)| Some((set, *parts.get(path)?)));
        let (set, part) = found.ok_or_else(|| Error::shard(path, "no part of its shard set; run the command again"))?;
        Ok(SetPart { set: Arc::clone(set), part })
    }
}

/// Whether a file's bytes hold more text than they are: by name, because only the listing may
/// decide the number of buckets.
fn is_dense(origin: &str) -> bool {
    let name = origin.to_ascii_lowercase();
    [".gz", ".bz2", ".zst", ".zstd", ".parquet"].iter().any(|suffix| name.ends_with(suffix))
}
