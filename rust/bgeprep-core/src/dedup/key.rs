//! What dedup knows of one positive or negative: 84 bytes, wherever its text lies.

use crate::near::shingle::Rule;
use crate::near::table::NearTables;
use crate::shuffle::RowId;

/// Role of the text a record speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// A positive of the query.
    Positive,
    /// In symmetric sources: the pair seen from its other end.
    Mirror,
    /// A negative of the query.
    Negative,
}

/// One (query, text) of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct KeyRecord {
    /// xxh3-128 of the normalised query.
    pub query: u128,
    /// Exact key of the query; chooses the partition.
    pub query_key: u64,
    /// xxh3-128 of the normalised text.
    pub text: u128,
    /// Exact key of the text.
    pub text_key: u64,
    /// The row.
    pub row: RowId,
    /// The bucket that holds it.
    pub bucket: u32,
    /// Priority of its source: lower survives; 0 is that of rows that are only compared with.
    pub priority: u32,
    /// Source and task slot: merging stays within one.
    pub slot: u32,
    /// Score of the text, NaN for none: higher survives.
    pub score: f32,
    /// Index in the row's list.
    pub item: u32,
    /// Role of the text.
    pub kind: Kind,
    /// Whether the source is symmetric.
    pub symmetric: bool,
    /// Whether the source merges positives of one query.
    pub merge: bool,
    /// Whether near duplicates of it go, and not only equal ones.
    pub near: bool,
    /// Whether it is a document: its text is its query, too, and has its clusters among passages.
    pub document: bool,
}

impl KeyRecord {
    /// Bytes of an encoded record.
    pub const SIZE: usize = 16 + 16 + 8 + 8 + 4 + 8 + 4 * 5 + 4;

    /// The rule by which its text is compared with others.
    pub fn rule(&self) -> Rule {
        if self.symmetric { Rule::Query } else { Rule::Passage }
    }

    /// Appends the record to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.query.to_le_bytes());
        out.extend_from_slice(&self.text.to_le_bytes());
        out.extend_from_slice(&self.query_key.to_le_bytes());
        out.extend_from_slice(&self.text_key.to_le_bytes());
        out.extend_from_slice(&self.row.file.to_le_bytes());
        out.extend_from_slice(&self.row.line.to_le_bytes());
        for number in [self.bucket, self.priority, self.slot, self.score.to_bits(), self.item] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        let near = u8::from(self.near) | u8::from(self.document) << 1;
        out.extend_from_slice(&[self.kind as u8, u8::from(self.symmetric), u8::from(self.merge), near]);
    }

    /// Reads records from the bytes of a partition.
    pub fn decode_all(bytes: &[u8]) -> Vec<Self> {
        bytes.as_chunks::<{ Self::SIZE }>().0.iter().map(Self::decode).collect()
    }

    fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let wide = |at: usize| u128::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        Self {
            query: wide(0),
            text: wide(16),
            query_key: long(32),
            text_key: long(40),
            row: RowId { file: word(48), line: long(52) },
            bucket: word(60),
            priority: word(64),
            slot: word(68),
            score: f32::from_bits(word(72)),
            item: word(76),
            kind: [Kind::Positive, Kind::Mirror, Kind::Negative][usize::from(bytes[80])],
            symmetric: bytes[81] != 0,
            merge: bytes[82] != 0,
            near: bytes[83] & 1 != 0,
            document: bytes[83] & 2 != 0,
        }
    }

    /// The partition among `count`.
    pub fn partition(&self, count: usize) -> usize {
        (self.query_key % count as u64) as usize
    }

    /// The cluster whose records are decided together.
    pub fn family(&self, near: &NearTables) -> u64 {
        if self.document {
            near.of(Rule::Passage).cluster(self.text_key)
        } else {
            near.of(Rule::Query).cluster(self.query_key)
        }
    }

    /// Ascending order of survival: priority, then score (higher first, none last), then origin.
    pub fn survival(&self) -> (u32, u32, RowId, u32) {
        (self.priority, descending(self.score), self.row, self.item)
    }
}

/// Maps a score to a number that sorts higher scores first and missing ones last.
fn descending(score: f32) -> u32 {
    if score.is_nan() {
        return u32::MAX;
    }
    // Adding zero turns -0.0 into 0.0, so that equal scores map to equal numbers.
    let bits = (score + 0.0).to_bits();
    if bits >> 31 == 1 { bits } else { (1 << 31) - 1 - bits }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_sort_from_high_to_none() {
        let scores = [f32::INFINITY, 98.5, 1.0, 0.43, 0.0, -0.5, -7.0, f32::NEG_INFINITY, f32::NAN];
        let keys: Vec<u32> = scores.into_iter().map(descending).collect();
        assert!(keys.windows(2).all(|pair| pair[0] < pair[1]), "{keys:?}");
        assert_eq!(descending(0.0), descending(-0.0));
    }

    #[test]
    fn a_record_comes_back_as_it_was() {
        let record = KeyRecord {
            query: u128::MAX - 5,
            query_key: 3,
            text: 77,
            text_key: 1 << 63,
            row: RowId { file: 9, line: 1 << 50 },
            bucket: 3,
            priority: 2,
            slot: 8,
            score: 0.25,
            item: 4,
            kind: Kind::Negative,
            symmetric: true,
            merge: false,
            near: true,
            document: true,
        };
        let mut bytes = Vec::new();
        record.encode(&mut bytes);
        record.encode(&mut bytes);
        assert_eq!(bytes.len(), 2 * KeyRecord::SIZE);
        assert_eq!(KeyRecord::decode_all(&bytes), [record, record]);
    }
}
