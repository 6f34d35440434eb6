//! The order of rows, and the way to it when the rows do not fit in memory.
//!
//! Every row gets an order key, a keyed hash of (seed, source, file, line). Its high bits choose a
//! *bucket*, a spill file small enough to sort in memory; buckets in order, each sorted, are the
//! whole source in shuffled order. One bucket becomes one part, and the number of buckets depends
//! on the size of the input alone, so neither threads nor memory decide a byte.

pub mod bucket;
pub mod packed;
pub mod row;
pub mod spill;
pub mod transfer;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

/// Where a record came from: unique in a run, and the order in which "later" is meant.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RowId {
    /// Index of the file in the run's listing.
    pub file: u32,
    /// Line, element or row in it, from 1.
    pub line: u64,
}

/// The seed of all order keys of one file.
pub fn file_seed(seed: u64, source: &str, origin: &str) -> u64 {
    xxh3_64_with_seed(format!("{source}\0{origin}").as_bytes(), seed)
}

/// The order key of one record of a file.
pub fn order_key(file_seed: u64, line: u64) -> u64 {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&file_seed.to_le_bytes());
    bytes[8..].copy_from_slice(&line.to_le_bytes());
    xxh3_64(&bytes)
}

/// The bucket of an order key among `count`, in the order of keys.
pub fn bucket_of(order: u64, count: u32) -> u32 {
    ((u128::from(order) * u128::from(count)) >> 64) as u32
}

/// Number of buckets for `bytes` of text when a part should hold `part_bytes`.
pub fn bucket_count(bytes: u64, part_bytes: u64) -> u32 {
    bytes.div_ceil(part_bytes.max(1)).clamp(1, 1 << 20) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_the_order_of_keys_and_are_even() {
        let seed = file_seed(7, "nq", "nq.jsonl");
        let mut keys: Vec<u64> = (1..=40_000).map(|line| order_key(seed, line)).collect();
        keys.sort_unstable();
        let mut counts = [0usize; 13];
        let mut last = 0;
        for key in keys {
            let bucket = bucket_of(key, 13);
            assert!(bucket >= last);
            last = bucket;
            counts[bucket as usize] += 1;
        }
        assert!(counts.iter().all(|&count| (2_800..3_400).contains(&count)), "{counts:?}");
        assert_ne!(file_seed(7, "a", "b"), file_seed(8, "a", "b"));
    }
}
