//! What a set says of the stages that compared or scored its texts.

use serde::{Deserialize, Serialize};

/// A rate found on a sample, with its 95 % interval (Wilson).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rate {
    /// Texts looked at.
    pub sample: u64,
    /// Pairs that decide: true near pairs (recall), or pairs called near (precision).
    pub pairs: u64,
    /// Of these, pairs that were right.
    pub found: u64,
    /// `found / pairs`.
    pub rate: f64,
    /// Lower end of the interval.
    pub low: f64,
    /// Upper end of the interval.
    pub high: f64,
}

impl Rate {
    /// `found` of `pairs` that decide, in a sample of `sample` texts; None where nothing decides.
    pub fn of(sample: u64, pairs: u64, found: u64) -> Option<Self> {
        const Z: f64 = 1.96;
        if pairs == 0 {
            return None;
        }
        let (n, share) = (pairs as f64, found as f64 / pairs as f64);
        let centre = (share + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
        let half = Z / (1.0 + Z * Z / n) * (share * (1.0 - share) / n + Z * Z / (4.0 * n * n)).sqrt();
        // Six decimals: the manifest is read by people, and no sample has more to say.
        let round = |number: f64| (number * 1e6).round() / 1e6;
        Some(Self {
            sample,
            pairs,
            found,
            rate: round(share),
            low: round((centre - half).max(0.0)),
            high: round((centre + half).min(1.0)),
        })
    }
}

/// Near duplicates among the queries, or among the passages.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearSpace {
    /// `query` or `passage`.
    pub name: String,
    /// Texts sketched.
    pub texts: u64,
    /// Pairs of different texts whose true Jaccard similarity was taken.
    pub candidates: u64,
    /// Pairs at or above the threshold.
    pub near_pairs: u64,
    /// Clusters of two texts and more.
    pub clusters: u64,
    /// Different texts in clusters.
    pub clustered_texts: u64,
    /// Texts of the largest cluster.
    pub largest: u64,
    /// Clusters larger than `max_cluster`: not all of their texts were compared with each other.
    pub over_cap: u64,
    /// Clusters by size: (least size, clusters), the sizes powers of two.
    pub sizes: Vec<(u64, u64)>,
    /// Of the true near pairs of a sample, how many are in one cluster.
    pub recall: Option<Rate>,
    /// Of the pairs called near in a sample, how many are.
    pub precision: Option<Rate>,
}

/// The shingles that texts are compared by; a number at the end counts the versions of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearRules {
    /// Of queries, and of both texts of symmetric sources.
    pub query: String,
    /// Of positives and negatives.
    pub passage: String,
}

/// How near dedup went.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NearReport {
    /// Jaccard similarity from which two texts are near.
    pub threshold: f64,
    /// Permutations of a signature.
    pub permutations: u64,
    /// Bands of a signature.
    pub bands: u64,
    /// Permutations of a band.
    pub rows_per_band: u64,
    /// Most texts of a cluster that are all compared with each other.
    pub max_cluster: u64,
    /// The shingles of the two spaces.
    pub rules: NearRules,
    /// The two spaces.
    pub spaces: Vec<NearSpace>,
}

/// Rows that went because of one benchmark, by what they met.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkHits {
    /// A query equal or near.
    pub query: u64,
    /// A query and a judged passage.
    pub pair: u64,
    /// A passage of the corpus.
    pub passage: u64,
    /// A long benchmark text within a text of the row.
    pub containment: u64,
}

impl BenchmarkHits {
    /// Adds what was counted elsewhere.
    pub(crate) fn add(&mut self, other: Self) {
        self.query += other.query;
        self.pair += other.pair;
        self.passage += other.passage;
        self.containment += other.containment;
    }
}

/// One excluded benchmark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BenchmarkEntry {
    /// Name of its folder or file.
    pub name: String,
    /// `beir` or `text`.
    pub kind: String,
    /// Queries, or lines of a text file.
    pub queries: u64,
    /// Passages compared.
    pub passages: u64,
    /// Rows that went.
    pub hits: BenchmarkHits,
}

/// What the filter by scores did.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScoreReport {
    /// (query, positive) pairs looked up.
    pub pairs: u64,
    /// Pairs without a score.
    pub missing: u64,
    /// Pairs below the threshold.
    pub below: u64,
    /// The threshold.
    pub threshold: f64,
    /// Pairs by score: (lower end of a bin, pairs).
    pub histogram: Vec<(f64, u64)>,
}
