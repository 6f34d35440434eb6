//! What the plan sees of a shard set: keys and byte lengths, never text.

use crate::Result;
use crate::pair::Task;

/// A named run of rows that are trained alike.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanSource {
    /// Its name in the manifest.
    pub name: String,
    /// Decides which batch rules hold; see [`super::conflict`].
    pub task: Task,
    /// Its weight where the manifest gives one.
    pub weight: Option<f64>,
    /// Sources of one group fill up each other's batches.
    pub group: String,
    /// Row id of its first row.
    pub first: u64,
    /// How many rows follow.
    pub rows: u64,
}

/// The keys of one row.
#[derive(Debug, Clone, Copy)]
pub struct RowKeys<'a> {
    /// Key of the query.
    pub query: u64,
    /// Keys of its positives, at least one.
    pub pos: &'a [u64],
    /// Positives of other rows with the same query.
    pub also_pos: &'a [u64],
    /// Exact key of the query.
    pub query_exact: u64,
    /// Exact keys of the positives.
    pub pos_exact: &'a [u64],
}

/// The keys of a row's hard negatives, which are asked for only where negatives are chosen.
#[derive(Debug, Clone, Copy)]
pub struct NegativeKeys<'a> {
    /// Batching keys.
    pub keys: &'a [u64],
    /// Exact keys.
    pub exact: &'a [u64],
}

impl RowKeys<'_> {
    /// Whether a document is a known positive of this row.
    pub(crate) fn knows(&self, key: u64) -> bool {
        self.pos.contains(&key) || self.also_pos.contains(&key)
    }
}

/// Rows to plan over. Implemented by the shard set; tests plant keys through another.
pub trait PlanRows: Send + Sync {
    /// The sources, in row order and without gaps.
    fn sources(&self) -> &[PlanSource];
    /// Names the set: a state made with another set is refused.
    fn set_hash(&self) -> &str;
    /// The keys of a row.
    fn keys(&self, row: u64) -> Result<RowKeys<'_>>;
    /// The keys of a row's hard negatives.
    fn negatives(&self, row: u64) -> Result<NegativeKeys<'_>>;
    /// Bytes of text of the query, one positive and the chosen negatives together.
    fn bytes(&self, row: u64, positive: u32, negatives: &[u32]) -> Result<u64>;

    /// Hands the keys of rows to `take`, with the place of each in the list. Fast where row ids rise.
    fn visit(&self, rows: &[u64], mut take: impl FnMut(usize, RowKeys<'_>)) -> Result<()> {
        for (place, row) in rows.iter().enumerate() {
            take(place, self.keys(*row)?);
        }
        Ok(())
    }

    /// Brings all keys of rows near to the processor: asked for one by one, each would be waited for alone.
    fn warm(&self, _rows: &[u64]) {}

    /// The source (index) that holds a row; `None` beyond the last row.
    fn source_of(&self, row: u64) -> Option<usize> {
        let after = self.sources().partition_point(|source| source.first <= row);
        let index = after.checked_sub(1)?;
        let source = &self.sources()[index];
        (row - source.first < source.rows).then_some(index)
    }
}
