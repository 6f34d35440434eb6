//! Where the rows of a run go: source and task slots, buckets, partitions. Decided by the input
//! listing alone.

use crate::config::PrepPlan;
use crate::pair::Task;
use crate::shuffle::{bucket_count, bucket_of, file_seed};
use crate::store::Location;

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
}

/// Files, slots and buckets of a run.
#[derive(Debug)]
pub struct BucketLayout {
    /// All files; `RowId::file` counts in here.
    pub files: Vec<FileEntry>,
    /// Number of buckets over all sources and slots.
    pub buckets: usize,
    /// Bytes of text that the input is taken to hold.
    pub text_bytes: u64,
    /// Number of key partitions.
    pub partitions: usize,
    /// For each source: first bucket and buckets a slot.
    sources: Vec<(u32, u32)>,
}

impl BucketLayout {
    /// The layout of a plan.
    pub fn new(plan: &PrepPlan) -> Self {
        let (mut files, mut sources) = (Vec::new(), Vec::new());
        let (mut first, mut total) = (0, 0);
        for (index, source) in plan.sources.iter().enumerate() {
            let mut bytes = 0;
            for input in &source.inputs {
                bytes += input.bytes * if is_dense(&input.origin) { EXPANSION } else { 1 };
                files.push(FileEntry {
                    location: input.location.clone(),
                    origin: input.origin.clone(),
                    source: index,
                    seed: file_seed(plan.seed, &source.name, &input.origin),
                    bytes: input.bytes,
                });
            }
            let count = bucket_count(bytes, plan.part_bytes);
            sources.push((first, count));
            first += count * TASKS;
            total += bytes;
        }
        let partitions = total.div_ceil(PARTITION_BYTES).clamp(1, 4096) as usize;
        Self { files, buckets: first as usize, text_bytes: total, partitions, sources }
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

/// Whether a file's bytes hold more text than they are: by name, because only the listing may
/// decide the number of buckets.
fn is_dense(origin: &str) -> bool {
    let name = origin.to_ascii_lowercase();
    [".gz", ".bz2", ".zst", ".zstd", ".parquet"].iter().any(|suffix| name.ends_with(suffix))
}
