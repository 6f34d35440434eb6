//! Benchmarks that training data must not know: rows that share a text with one go.
//!
//! 1. Load the queries, the passages judged relevant to them, and with `corpus` all passages. Texts
//!    are cleaned and normalised as rows are; a passage is compared as title + text and as text alone.
//! 2. A row goes when its query equals or nearly equals a benchmark query. In symmetric sources
//!    both texts are queries. Where a positive meets a passage judged for that query as well, the
//!    row is counted as a pair.
//! 3. A row goes when its query or a positive holds, token for token, a benchmark query or a judged
//!    passage of at least 13 words or 25 CJK characters: shorter texts stand in others by chance.
//! 4. With `corpus` a positive goes that equals or nearly equals any passage, and the row with its
//!    last positive. Negatives stay: that a passage is no answer to a training query gives no
//!    benchmark answer away.
//!
//! Near is a true Jaccard similarity at the threshold of near dedup, over the same shingles.
//! Candidates come from prefixes of shingle sets ([`near`]), which miss none, so nothing here
//! depends on luck or on near dedup being on.

mod check;
mod contain;
mod load;
mod near;
mod records;
#[cfg(test)]
mod tests;
mod texts;

use std::path::PathBuf;

use crate::Result;
use crate::near::shingle::Rule;
use crate::progress::Progress;
use crate::shard::reports::BenchmarkEntry;
use contain::Containment;
use near::NearIndex;
use texts::Texts;

pub use check::{Checker, Hit, HitKind, Hits};

/// What a benchmark consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BenchmarkKind {
    /// A collection: queries, passages, judgements.
    Beir,
    /// Texts, each taken as a query.
    Text,
}

impl BenchmarkKind {
    /// The name used in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Beir => "beir",
            Self::Text => "text",
        }
    }

    /// The kind of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Beir, Self::Text].into_iter().find(|kind| kind.name() == name)
    }
}

/// What a file of a benchmark holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileRole {
    /// JSON lines with `_id`, `title`, `text`: passages.
    Corpus,
    /// JSON lines with `_id`, `text`: queries.
    Queries,
    /// Judgements: query id, passage id, grade.
    Qrels,
    /// One query a line.
    Lines,
    /// JSON lines with `query`, `question` or `text`: queries.
    Records,
}

impl FileRole {
    /// The role of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Some(match name {
            "corpus" => Self::Corpus,
            "queries" => Self::Queries,
            "qrels" => Self::Qrels,
            "lines" => Self::Lines,
            "records" => Self::Records,
            _ => return None,
        })
    }
}

/// One file of a benchmark.
#[derive(Debug, Clone)]
pub struct BenchmarkFile {
    /// Where it is.
    pub path: PathBuf,
    /// What rejects call it: relative to the benchmark.
    pub origin: String,
    /// What it holds.
    pub role: FileRole,
}

/// One benchmark to compare with.
#[derive(Debug, Clone)]
pub struct BenchmarkSpec {
    /// Name in manifest and rejects.
    pub name: String,
    /// What it consists of.
    pub kind: BenchmarkKind,
    /// Its files.
    pub files: Vec<BenchmarkFile>,
}

/// What rows are compared with.
#[derive(Debug, Clone, Default)]
pub struct ExcludeRules {
    /// The benchmarks.
    pub benchmarks: Vec<BenchmarkSpec>,
    /// Compare positives with all passages, not judged ones of a hit query only.
    pub corpus: bool,
    /// Look for long benchmark texts within longer texts.
    pub containment: bool,
}

/// All benchmarks of a run, ready to be compared with; shared by all threads.
#[derive(Debug)]
pub struct Benchmarks {
    names: Vec<BenchmarkSpec>,
    queries: Texts,
    near_queries: NearIndex,
    passages: Texts,
    near_passages: NearIndex,
    /// (query, passage judged relevant to it), sorted.
    judged: Vec<(u32, u32)>,
    containment: Containment,
    corpus: bool,
    /// What was loaded; hits are counted by the read stage.
    pub entries: Vec<BenchmarkEntry>,
    /// What a user should know of the files.
    pub warnings: Vec<String>,
}

impl Benchmarks {
    /// Reads and indexes all benchmarks within `memory` bytes; texts are near from a Jaccard similarity of `threshold` on.
    ///
    /// # Errors
    /// `Corpus` for a file that does not hold what its role says, `Config` if `memory` is too small.
    pub fn load(rules: &ExcludeRules, threshold: f64, memory: u64, progress: &Progress) -> Result<Self> {
        let loaded = load::load(rules, memory, progress)?;
        let load::Loaded { queries, passages, judged, entries, warnings, budget } = loaded;
        let mut budget = budget;
        let near_queries = NearIndex::build(&queries, Rule::Query, threshold, progress)?;
        budget.take(near_queries.bytes())?;
        let near_passages = NearIndex::build(&passages, Rule::Passage, threshold, progress)?;
        budget.take(near_passages.bytes())?;
        let containment = if rules.containment {
            Containment::build(&queries, &passages, &judged, progress)?
        } else {
            Containment::default()
        };
        budget.take(containment.bytes())?;
        let (names, corpus) = (rules.benchmarks.clone(), rules.corpus);
        Ok(Self {
            names,
            queries,
            near_queries,
            passages,
            near_passages,
            judged,
            containment,
            corpus,
            entries,
            warnings,
        })
    }
}
