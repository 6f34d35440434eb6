//! Set similarity joins by prefixes (Chaudhuri, Ganti, Kaushik, ICDE 2006; Bayardo, Ma, Srikant, WWW 2007).
//!
//! Two sets with a Jaccard similarity of at least t share at least ⌈t·n⌉ shingles, n being the size
//! of either. So in any order of shingles, the first n − ⌈t·n⌉ + 1 of the one and those of the other
//! have one in common. Rare shingles first makes these prefixes tell most.

/// Numbers by 64-bit hash, in three flat arrays: hashes are even, so their first bits are a directory.
#[derive(Debug, Default)]
pub(crate) struct Postings {
    shift: u32,
    /// Where each bucket of first bits starts, and the end.
    starts: Vec<u32>,
    hashes: Vec<u64>,
    numbers: Vec<u32>,
}

impl Postings {
    /// From (hash, number) in any order.
    pub(crate) fn new(mut pairs: Vec<(u64, u32)>) -> Self {
        pairs.sort_unstable();
        pairs.dedup();
        // About one pair a bucket; at least two buckets, because a shift by 64 is none.
        let bits = (usize::BITS - pairs.len().leading_zeros()).clamp(1, 28);
        let shift = 64 - bits;
        let mut starts = vec![0; (1 << bits) + 1];
        for &(hash, _) in &pairs {
            starts[(hash >> shift) as usize + 1] += 1;
        }
        for bucket in 1..starts.len() {
            starts[bucket] += starts[bucket - 1];
        }
        let (hashes, numbers) = pairs.into_iter().unzip();
        Self { shift, starts, hashes, numbers }
    }

    /// The numbers of a hash, ascending.
    pub(crate) fn get(&self, hash: u64) -> &[u32] {
        if self.hashes.is_empty() {
            return &[];
        }
        let bucket = (hash >> self.shift) as usize;
        let range = self.starts[bucket] as usize..self.starts[bucket + 1] as usize;
        let hashes = &self.hashes[range.clone()];
        let first = hashes.partition_point(|&found| found < hash);
        let count = hashes[first..].partition_point(|&found| found == hash);
        &self.numbers[range][first..first + count]
    }

    /// Whether nothing is in it.
    pub(crate) fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        (self.starts.len() * 4 + self.hashes.len() * 12) as u64
    }
}

/// How many texts hold a shingle, about: shingles share counters, a count of 0 is certain. Both
/// sides of a comparison order shingles by it, and any common order is a right one.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    shift: u32,
    counts: Vec<u16>,
}

impl Counters {
    /// Room for `expected` shingles.
    pub(crate) fn new(expected: usize) -> Self {
        let bits = (usize::BITS - expected.saturating_mul(4).leading_zeros()).clamp(10, 26);
        Self { shift: 64 - bits, counts: vec![0; 1 << bits] }
    }

    /// Counts one.
    pub(crate) fn add(&mut self, shingle: u64) {
        let count = &mut self.counts[(shingle >> self.shift) as usize];
        *count = count.saturating_add(1);
    }

    /// The place of a shingle in the order, rare ones first.
    pub(crate) fn place(&self, shingle: u64) -> (u16, u64) {
        (self.counts[(shingle >> self.shift) as usize], shingle)
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.counts.len() as u64 * 2
    }
}

/// More than what a product of a threshold and a size is rounded by.
pub(crate) const ROUNDING: f64 = 1e-6;

/// How many of `size` shingles must hold one that a near text has among its first; 0 for no shingles.
pub(crate) fn prefix(size: usize, threshold: f64) -> usize {
    if size == 0 {
        return 0;
    }
    let common = (threshold * size as f64 - ROUNDING).ceil() as usize;
    size + 1 - common.clamp(1, size)
}

/// The prefix of a set in the order of places.
pub(crate) fn first(order: &mut [(u16, u64)], threshold: f64) -> &[(u16, u64)] {
    let length = prefix(order.len(), threshold);
    if 0 < length && length < order.len() {
        order.select_nth_unstable(length - 1);
    }
    &order[..length]
}

#[cfg(test)]
mod tests {
    use xxhash_rust::xxh3::xxh3_64;

    use super::*;

    #[test]
    fn every_hash_finds_its_numbers_and_no_others() {
        let hash = |n: u32| xxh3_64(&n.to_le_bytes());
        for count in [0u32, 1, 2, 3, 1000] {
            let pairs =
                (0..count).flat_map(|n| [(hash(n), n + 7), (hash(n), n)]).chain((0..count).map(|n| (hash(n), n)));
            let postings = Postings::new(pairs.collect());
            assert!((0..count).all(|n| postings.get(hash(n)) == [n, n + 7]));
            assert!((count..2000).all(|n| postings.get(hash(n)).is_empty()));
            assert!([0, u64::MAX].into_iter().all(|edge| postings.get(edge).is_empty()));
        }
    }

    #[test]
    fn a_prefix_is_not_shortened_by_rounding() {
        // .7 · 10 is a little more than 7 in binary: ⌈.7 · 10⌉ must be 7 all the same.
        assert_eq!([prefix(10, 0.7), prefix(10, 0.8), prefix(1, 0.8), prefix(0, 0.8)], [4, 3, 1, 0]);
    }

    #[test]
    fn a_count_is_never_too_small() {
        let mut counters = Counters::new(100);
        let shingle = |n: u64| xxh3_64(&n.to_le_bytes());
        for n in 0..100 {
            (0..=n).for_each(|_| counters.add(shingle(n)));
        }
        assert!((0..100).all(|n| u64::from(counters.place(shingle(n)).0) > n));
        assert!((100..400).filter(|&n| counters.place(shingle(n)).0 == 0).count() > 200);
    }
}
