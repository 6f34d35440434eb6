//! What a preparation run is told. Python owns every default; here a field left out is an error.

use std::path::PathBuf;

use crate::clean::CleanRules;
use crate::exclude::ExcludeRules;
use crate::pair::Task;
use crate::read::ReadOptions;
use crate::store::Location;

/// One named set of files of one task, with its place in the order of priority.
#[derive(Debug)]
pub struct SourceSpec {
    /// Name: folder name in the shard set.
    pub name: String,
    /// What it trains, unless a row's own `type` says otherwise.
    pub task: Task,
    /// Language tag, empty if unknown.
    pub language: String,
    /// Sampling weight, or NaN where the mix decides.
    pub weight: f64,
    /// Instruction put before queries, empty for none.
    pub instruction: String,
    /// Lower survives: of two equal rows the one with the lower number stays.
    pub priority: u32,
    /// Merge all positives of one query into one row.
    pub merge_positives: bool,
    /// How its files are read.
    pub read: ReadOptions,
    /// The rules its texts are cleaned by.
    pub clean: CleanRules,
    /// Its files in reading order.
    pub inputs: Vec<InputFile>,
    /// Whether it is there to be compared with only: its rows stand before all others and are never written.
    pub against: bool,
}

/// One input file.
#[derive(Debug, Clone)]
pub struct InputFile {
    /// Where it is.
    pub location: Location,
    /// What the shard set calls it: relative to the input folder, with `/`.
    pub origin: String,
    /// Its size in bytes; decides the number of partitions.
    pub bytes: u64,
    /// The folder of the shard set that it is a part of, if it is one.
    pub set: Option<PathBuf>,
}

/// What becomes of a (query, positive) pair that the scorer has not seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MissingScores {
    /// The run ends with an error that names the first of them.
    Error,
    /// It stays.
    Keep,
    /// It goes.
    Drop,
}

/// The filter by scores.
#[derive(Debug, Clone)]
pub struct ScoreRules {
    /// Where the scores lie, for messages.
    pub path: PathBuf,
    /// Parquet files of (query_hash, pos_hash, score).
    pub files: Vec<PathBuf>,
    /// The lowest score that stays.
    pub min_score: f32,
    /// What becomes of pairs without a score.
    pub missing: MissingScores,
}

/// How far duplicates are looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DedupMode {
    /// Nothing is dropped; known positives of a query are still collected.
    None,
    /// Equal (query, positive) pairs, and negatives that are positives, go.
    Exact,
    /// Near duplicates go too, and near texts share a batching key.
    Near,
}

/// How duplicates are treated.
#[derive(Debug, Clone, Copy)]
pub struct DedupRules {
    /// How far they are looked for.
    pub mode: DedupMode,
    /// Jaccard similarity from which two texts are near.
    pub near_threshold: f64,
    /// Permutations of a MinHash signature.
    pub permutations: usize,
    /// Most texts of a cluster that are all compared with each other.
    pub max_cluster: usize,
}

/// Everything that decides the bytes of a shard set.
#[derive(Debug)]
pub struct PrepPlan {
    /// Sources, in the order of the manifest.
    pub sources: Vec<SourceSpec>,
    /// Duplicates.
    pub dedup: DedupRules,
    /// Benchmarks whose texts go.
    pub exclude: ExcludeRules,
    /// The filter by scores, if there is to be one.
    pub scores: Option<ScoreRules>,
    /// Largest share of rows read that may be unreadable.
    pub max_bad: f64,
    /// Keys the shuffle.
    pub seed: u64,
    /// Text bytes a part should hold.
    pub part_bytes: u64,
    /// The resolved config as the manifest shows it.
    pub config: serde_json::Value,
}

/// What changes how a run goes, but no byte of what it writes.
#[derive(Debug, Clone)]
pub struct RunOptions {
    /// Worker threads.
    pub threads: usize,
    /// Bytes of memory the run may hold.
    pub memory: u64,
    /// Folder of the shard set.
    pub out: PathBuf,
    /// Folder of the work files.
    pub work: PathBuf,
    /// Identifies input listing and config: work files of another fingerprint are discarded.
    pub fingerprint: String,
    /// What `run.json`, the log beside the set, says beside the fingerprint and the counts.
    pub log: serde_json::Map<String, serde_json::Value>,
}
