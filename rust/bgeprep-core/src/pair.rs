//! The record that travels through all stages.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// What a source trains, after DESIGN "Records".
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Task {
    /// A short query finds a passage; the instruction belongs to the query.
    Retrieval,
    /// Both texts play the same role (duplicates, similarity).
    Symmetric,
    /// Texts against label texts; no in-batch negatives.
    Classification,
}

impl Task {
    /// All tasks, in the order of their sub-source slots.
    pub const ALL: [Self; 3] = [Self::Retrieval, Self::Symmetric, Self::Classification];

    /// The name used in configs and manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Retrieval => "retrieval",
            Self::Symmetric => "symmetric",
            Self::Classification => "classification",
        }
    }

    /// The task of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|task| task.name() == name)
    }

    /// The task that FlagEmbedding's per-row `type` stands for.
    pub fn from_flag_embedding_type(kind: &str) -> Option<Self> {
        match kind {
            "normal" | "only_1neg" => Some(Self::Retrieval),
            "symmetric_class" => Some(Self::Classification),
            "symmetric_sts" | "symmetric_clustering" => Some(Self::Symmetric),
            _ => None,
        }
    }
}

/// What the rows of a shard set are. A set has one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SetKind {
    /// Queries with their positives and negatives.
    #[default]
    Pairs,
    /// Documents for pre-training. Through all stages a document travels as a pair: its title is
    /// the query, empty where it has none, and its text the one positive.
    Text,
}

impl SetKind {
    /// The name used in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pairs => "pairs",
            Self::Text => "text",
        }
    }

    /// The kind of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Pairs, Self::Text].into_iter().find(|kind| kind.name() == name)
    }
}

/// One pair record as read, before cleaning. Texts are borrowed from the chunk where they can be.
///
/// `pos_scores` is empty or as long as `pos`; `neg_scores` is empty or as long as `neg`; a single
/// missing score is NaN. `pos` may be empty only for a labelled negative (label 0): its `neg`
/// belongs to another row with the same query.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RawPair<'a> {
    /// What the record is.
    pub kind: SetKind,
    /// The query (anchor, question, title …).
    pub query: Cow<'a, str>,
    /// Positives, at least one but for labelled negatives.
    pub pos: Vec<Cow<'a, str>>,
    /// Hard negatives, none or more.
    pub neg: Vec<Cow<'a, str>>,
    /// Teacher scores or grades of `pos`.
    pub pos_scores: Vec<f32>,
    /// Teacher scores of `neg`.
    pub neg_scores: Vec<f32>,
    /// The record's own id, empty if it has none.
    pub id: Cow<'a, str>,
    /// FlagEmbedding's `prompt`: overrides the source's instruction; empty if there is none.
    pub prompt: Cow<'a, str>,
    /// FlagEmbedding's `type`, where the record has one.
    pub task: Option<Task>,
    /// What it brings along if it is a row of a shard set.
    pub kept: Option<Box<Kept<'a>>>,
}

/// What a row of a shard set knows beside its texts and origin, from the run that made the set.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kept<'a> {
    /// Batching and exact key of the query.
    pub query_keys: (u64, u64),
    /// Batching keys of the positives.
    pub pos_keys: &'a [u64],
    /// Exact keys of the positives.
    pub pos_exact_keys: &'a [u64],
    /// Batching keys of the negatives.
    pub neg_keys: &'a [u64],
    /// Exact keys of the negatives.
    pub neg_exact_keys: &'a [u64],
    /// Keys of the positives that other rows gave the query.
    pub also_pos_keys: &'a [u64],
}
