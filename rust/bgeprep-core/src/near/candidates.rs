//! One band → pairs of texts that agree in it.

use super::table::key_pairs;

/// Two texts that agree in a band.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CandidatePair {
    /// The smaller exact key.
    pub left: u64,
    /// The larger exact key.
    pub right: u64,
}

impl CandidatePair {
    /// Appends the pair to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.left.to_le_bytes());
        out.extend_from_slice(&self.right.to_le_bytes());
    }

    /// Reads pairs; sorted, each once.
    pub fn decode_all(bytes: &[u8]) -> Vec<Self> {
        key_pairs(bytes).into_iter().map(|[left, right]| Self { left, right }).collect()
    }
}

/// Up to this many texts of one band hash, every pair is a candidate.
const ALL_PAIRS: usize = 12;

/// In larger groups each text is paired with this many fixed ones, and with its neighbour: the
/// number of candidates stays linear however many texts are alike.
const ANCHORS: usize = 4;

/// Emits candidate pairs (smaller key first) of records `hash << 64 | key`, which are sorted on the
/// way. Equal texts have one key and are no pair.
pub fn pairs(records: &mut Vec<u128>, emit: &mut dyn FnMut(u64, u64)) {
    records.sort_unstable();
    records.dedup();
    for group in records.chunk_by(|a, b| a >> 64 == b >> 64) {
        if group.len() <= ALL_PAIRS {
            for (at, &left) in group.iter().enumerate() {
                for &right in &group[at + 1..] {
                    emit(left as u64, right as u64);
                }
            }
        } else {
            for (at, &right) in group.iter().enumerate().skip(1) {
                for &left in &group[..at.min(ANCHORS)] {
                    emit(left as u64, right as u64);
                }
                if at > ANCHORS {
                    emit(group[at - 1] as u64, right as u64);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(groups: &[(u128, u64)]) -> Vec<(u64, u64)> {
        let mut records = Vec::new();
        for &(hash, texts) in groups {
            records.extend((0..texts).rev().map(|key| hash << 64 | u128::from(key)));
        }
        records.extend_from_within(..);
        let mut found = Vec::new();
        pairs(&mut records, &mut |left, right| found.push((left, right)));
        found
    }

    #[test]
    fn small_groups_give_all_pairs_and_large_ones_a_connected_few() {
        assert!(of(&[(1, 1), (2, 1)]).is_empty());
        assert_eq!(of(&[(1, 3), (9, 2)]), [(0, 1), (0, 2), (1, 2), (0, 1)]);
        let found = of(&[(5, 10_000)]);
        assert!(found.len() < 60_000);
        assert!((1..10_000).all(|key| found.contains(&(0, key)) || key > 50));
        assert!(found.iter().all(|(left, right)| left < right));
    }
}
