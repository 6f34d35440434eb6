//! Views of one row, borrowed from the mapped file.

use super::index::BatchIndex;
use super::reader::Texts;

/// What planning needs of a row: keys and byte lengths. Reading it touches no text.
#[derive(Clone, Copy)]
pub struct RowIndex<'a> {
    pub(super) index: &'a BatchIndex,
    pub(super) row: usize,
    pub(super) source: usize,
}

impl<'a> RowIndex<'a> {
    /// A row of the same batch, whose first row has the id `start`.
    pub(crate) fn nearby(self, start: u64, id: u64) -> Self {
        Self { row: (id - start) as usize, ..self }
    }

    /// Place of the row's source in the manifest.
    pub fn source(&self) -> usize {
        self.source
    }

    /// Number of positives, at least one.
    pub fn num_pos(&self) -> usize {
        self.index.pos.range(self.row).len()
    }

    /// Number of negatives.
    pub fn num_neg(&self) -> usize {
        self.index.neg.range(self.row).len()
    }

    /// Batching key of the query.
    pub fn query_key(&self) -> u64 {
        self.index.query_key[self.row]
    }

    /// Batching keys of the positives.
    pub fn pos_keys(&self) -> &'a [u64] {
        self.index.pos_keys.get(self.row)
    }

    /// Batching keys of the negatives.
    pub fn neg_keys(&self) -> &'a [u64] {
        self.index.neg_keys.get(self.row)
    }

    /// Keys of the positives that other rows give the same query.
    pub fn also_pos_keys(&self) -> &'a [u64] {
        self.index.also_pos_keys.get(self.row)
    }

    /// Exact key of the query.
    pub fn query_exact_key(&self) -> u64 {
        self.index.query_exact_key[self.row]
    }

    /// Exact keys of the positives.
    pub fn pos_exact_keys(&self) -> &'a [u64] {
        self.index.pos_exact_keys.get(self.row)
    }

    /// Exact keys of the negatives.
    pub fn neg_exact_keys(&self) -> &'a [u64] {
        self.index.neg_exact_keys.get(self.row)
    }

    /// Length of the query in bytes.
    pub fn query_bytes(&self) -> usize {
        self.index.query.range(self.row).len()
    }

    /// Length of positive `item` in bytes, 0 if there is no such positive.
    pub fn pos_bytes(&self, item: usize) -> usize {
        nth(self.index.pos.range(self.row), item).map_or(0, |text| self.index.pos_texts.range(text).len())
    }

    /// Length of negative `item` in bytes, 0 if there is no such negative.
    pub fn neg_bytes(&self, item: usize) -> usize {
        nth(self.index.neg.range(self.row), item).map_or(0, |text| self.index.neg_texts.range(text).len())
    }
}

/// A whole row. Its batch passed its checksum before this could be made.
#[derive(Clone, Copy)]
pub struct Row<'a> {
    pub(super) index: RowIndex<'a>,
    pub(super) texts: &'a Texts,
}

impl<'a> Row<'a> {
    /// Keys and lengths.
    pub fn index(&self) -> RowIndex<'a> {
        self.index
    }

    /// The query.
    pub fn query(&self) -> &'a str {
        self.texts.query.value(self.index.row)
    }

    /// Number of positives, at least one.
    pub fn num_pos(&self) -> usize {
        self.index.num_pos()
    }

    /// Positive `item`.
    ///
    /// # Panics
    /// If `item` is not below [`num_pos`](Self::num_pos), as indexing a slice does.
    pub fn pos(&self, item: usize) -> &'a str {
        let range = self.index.index.pos.range(self.index.row);
        assert!(item < range.len(), "positive {item} of {}", range.len());
        self.texts.pos.value(range.start + item)
    }

    /// Number of negatives.
    pub fn num_neg(&self) -> usize {
        self.index.num_neg()
    }

    /// Negative `item`.
    ///
    /// # Panics
    /// If `item` is not below [`num_neg`](Self::num_neg), as indexing a slice does.
    pub fn neg(&self, item: usize) -> &'a str {
        let range = self.index.index.neg.range(self.index.row);
        assert!(item < range.len(), "negative {item} of {}", range.len());
        self.texts.neg.value(range.start + item)
    }

    /// Score of positive `item`, if it has one.
    pub fn pos_score(&self, item: usize) -> Option<f32> {
        self.texts.pos_scores.get(self.index.row).get(item).copied().filter(|score| !score.is_nan())
    }

    /// Score of negative `item`, if it has one.
    pub fn neg_score(&self, item: usize) -> Option<f32> {
        self.texts.neg_scores.get(self.index.row).get(item).copied().filter(|score| !score.is_nan())
    }

    /// Scores as stored: empty, or one a positive with NaN for none.
    pub fn pos_scores(&self) -> &'a [f32] {
        self.texts.pos_scores.get(self.index.row)
    }

    /// Scores as stored: empty, or one a negative with NaN for none.
    pub fn neg_scores(&self) -> &'a [f32] {
        self.texts.neg_scores.get(self.index.row)
    }

    /// Batching key of the query.
    pub fn query_key(&self) -> u64 {
        self.index.query_key()
    }

    /// Batching keys of the positives.
    pub fn pos_keys(&self) -> &'a [u64] {
        self.index.pos_keys()
    }

    /// Batching keys of the negatives.
    pub fn neg_keys(&self) -> &'a [u64] {
        self.index.neg_keys()
    }

    /// Keys of the positives that other rows give the same query.
    pub fn also_pos_keys(&self) -> &'a [u64] {
        self.index.also_pos_keys()
    }

    /// Exact key of the query.
    pub fn query_exact_key(&self) -> u64 {
        self.index.query_exact_key()
    }

    /// Exact keys of the positives.
    pub fn pos_exact_keys(&self) -> &'a [u64] {
        self.index.pos_exact_keys()
    }

    /// Exact keys of the negatives.
    pub fn neg_exact_keys(&self) -> &'a [u64] {
        self.index.neg_exact_keys()
    }

    /// The record's own id, or empty.
    pub fn id(&self) -> &'a str {
        self.texts.id.value(self.index.row)
    }

    /// The record's own instruction, or empty.
    pub fn prompt(&self) -> &'a str {
        self.texts.prompt.value(self.index.row)
    }

    /// Place of the row's source in the manifest.
    pub fn source(&self) -> usize {
        self.index.source
    }

    /// Input file, relative to the input folder.
    pub fn origin_file(&self) -> &'a str {
        self.texts.origin_file.value(self.index.row)
    }

    /// Line, element or row in the input file, from 1.
    pub fn origin_line(&self) -> u64 {
        self.texts.origin_line[self.index.row]
    }
}

fn nth(range: std::ops::Range<usize>, item: usize) -> Option<usize> {
    (item < range.len()).then(|| range.start + item)
}
