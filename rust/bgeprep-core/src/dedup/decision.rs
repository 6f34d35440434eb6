//! What is to be done with a row, found by its bucket and origin.

use crate::report::{Reason, Similarity};
use crate::shuffle::RowId;

/// One thing to be done with one row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Action {
    /// The row goes; the row that stays in its place, and how alike they are.
    DropRow(Reason, RowId, Similarity),
    /// One positive goes.
    DropPositive(u32, Reason, RowId, Similarity),
    /// One negative goes.
    DropNegative(u32, Reason, RowId, Similarity),
    /// A positive moves to another row.
    GivePositive(u32, Target),
    /// A negative moves to another row.
    GiveNegative(u32, Target),
    /// A dropped positive leaves its score to its equal in another row: (own item, its item).
    GiveScore(u32, Target),
    /// A positive of another row with the same query: its batching key.
    AlsoPositive(u64),
    /// Known positives beyond the limit of a row: how many.
    AlsoExcess(u64),
}

/// Where a text moves to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Target {
    /// Bucket of the receiving row.
    pub bucket: u32,
    /// The receiving row.
    pub row: RowId,
}

/// An action and the row it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Decision {
    /// The row.
    pub row: RowId,
    /// What to do.
    pub action: Action,
}

impl Decision {
    /// Bytes of an encoded decision.
    pub const SIZE: usize = 12 + 1 + 1 + 4 + 4 + 12 + 4;

    /// Appends the decision to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let no_row = RowId::default();
        let none = Similarity::NONE;
        let (code, reason, item, bucket, other, alike) = match self.action {
            Action::DropRow(reason, twin, alike) => (0, reason as u8, 0, 0, twin, alike),
            Action::DropPositive(item, reason, twin, alike) => (1, reason as u8, item, 0, twin, alike),
            Action::DropNegative(item, reason, twin, alike) => (2, reason as u8, item, 0, twin, alike),
            Action::GivePositive(item, to) => (3, 0, item, to.bucket, to.row, none),
            Action::GiveNegative(item, to) => (4, 0, item, to.bucket, to.row, none),
            Action::GiveScore(item, to) => (5, 0, item, to.bucket, to.row, none),
            Action::AlsoPositive(key) => (6, 0, 0, 0, RowId { line: key, ..no_row }, none),
            Action::AlsoExcess(count) => (7, 0, 0, 0, RowId { line: count, ..no_row }, none),
        };
        out.extend_from_slice(&self.row.file.to_le_bytes());
        out.extend_from_slice(&self.row.line.to_le_bytes());
        out.extend_from_slice(&[code, reason]);
        out.extend_from_slice(&u32::to_le_bytes(item));
        out.extend_from_slice(&u32::to_le_bytes(bucket));
        out.extend_from_slice(&other.file.to_le_bytes());
        out.extend_from_slice(&other.line.to_le_bytes());
        out.extend_from_slice(&alike.bits().to_le_bytes());
    }

    /// Reads the decisions of a bucket, sorted by row, each once: a run that goes on after a kill may
    /// have written some of them twice.
    pub fn decode_all(bytes: &[u8]) -> Vec<Self> {
        let mut decisions: Vec<Self> = bytes.as_chunks::<{ Self::SIZE }>().0.iter().map(Self::decode).collect();
        decisions.sort_unstable();
        decisions.dedup();
        decisions
    }

    fn decode(bytes: &[u8; Self::SIZE]) -> Self {
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
        let row = RowId { file: word(0), line: long(4) };
        let reason = Reason::ALL[usize::from(bytes[13])];
        let (item, bucket, other) = (word(14), word(18), RowId { file: word(22), line: long(26) });
        let (target, alike) = (Target { bucket, row: other }, Similarity::from_bits(word(34)));
        let action = match bytes[12] {
            0 => Action::DropRow(reason, other, alike),
            1 => Action::DropPositive(item, reason, other, alike),
            2 => Action::DropNegative(item, reason, other, alike),
            3 => Action::GivePositive(item, target),
            4 => Action::GiveNegative(item, target),
            5 => Action::GiveScore(item, target),
            6 => Action::AlsoPositive(other.line),
            _ => Action::AlsoExcess(other.line),
        };
        Self { row, action }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_action_comes_back_and_rows_sort() {
        let twin = RowId { file: 2, line: 1 << 33 };
        let target = Target { bucket: 9, row: twin };
        let actions = [
            Action::DropRow(Reason::Duplicate, twin, Similarity::EQUAL),
            Action::DropPositive(3, Reason::NearDuplicate, twin, Similarity::of(0.81)),
            Action::DropNegative(4, Reason::NegativeIsPositive, twin, Similarity::NONE),
            Action::GivePositive(5, target),
            Action::GiveNegative(6, target),
            Action::GiveScore(7, target),
            Action::AlsoPositive(u64::MAX),
            Action::AlsoExcess(12),
        ];
        let mut bytes = Vec::new();
        for line in [2, 1] {
            for action in actions {
                Decision { row: RowId { file: 1, line }, action }.encode(&mut bytes);
            }
        }
        let decisions = Decision::decode_all(&bytes);
        assert_eq!(decisions.len(), 16);
        assert!(decisions[..8].iter().all(|decision| decision.row.line == 1));
        for action in actions {
            assert_eq!(decisions.iter().filter(|decision| decision.action == action).count(), 2);
        }
    }
}
