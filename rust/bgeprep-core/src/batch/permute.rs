//! The random stream of the plan, and the keyed permutation of a pass.
//!
//! Both are part of the plan's format: a checkpoint made by one version must resume in the next,
//! so nothing here comes from a crate whose stream might change. The generator is SplitMix64
//! (Steele, Lea and Flood 2014), the permutation a Feistel network with cycle walking (Black and
//! Rogaway 2002).

const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64's finaliser: a bijection on 64 bits whose every output bit depends on every input bit.
fn mix(mut value: u64) -> u64 {
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

/// What a random number is drawn for: streams of different uses never coincide.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Use {
    /// The order of a source's rows in one pass.
    Order = 1,
    /// Which positive stands for a row.
    Positive = 2,
    /// Which negatives go with a row.
    Negatives = 3,
    /// When a source's next batch comes.
    Schedule = 4,
    /// Where the rows of a key stand in a pass.
    Spacing = 5,
    /// Which rows come in batches of one cluster, and in which order.
    Clusters = 6,
    /// How many rows of a source a mixed batch takes.
    Quota = 7,
    /// The order of a text set's blocks in one epoch.
    BlockOrder = 32,
    /// Which words of a block the encoder does not see.
    EncoderMask = 33,
    /// What stands in their place.
    Corruption = 34,
    /// Which words the rows of the decoder do not see.
    DecoderMasks = 35,
    /// Which of those masks a row has.
    RowChoice = 36,
}

/// Hash of a use and its coordinates (seed, pass, row …), in their order.
pub(crate) fn seed_of(purpose: Use, parts: &[u64]) -> u64 {
    parts.iter().fold(mix(purpose as u64), |hash, part| mix(hash.wrapping_add(GOLDEN) ^ mix(*part)))
}

/// A SplitMix64 stream.
#[derive(Debug, Clone)]
pub(crate) struct Stream(u64);

impl Stream {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(GOLDEN);
        mix(self.0)
    }

    /// A number in `0..bound` by multiply-shift; its bias is below `bound / 2^64`.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(bound)) >> 64) as u64
    }
}

/// A hash as a fraction in `[0, 1)`, exact on every machine: its 53 high bits.
pub(crate) fn fraction(hash: u64) -> f64 {
    (hash >> 11) as f64 / (1_u64 << 53) as f64
}

/// Places whose rows are found together: they stay in the processor's nearest cache.
const FILLED_TOGETHER: usize = 512;

/// A keyed bijection of `0..len` that needs no memory: place in the pass → row.
///
/// Two halves of the smallest bit width that holds `len` are mixed into each other in turn; a
/// result outside the range is fed in again until it falls inside, fewer than two rounds on average.
#[derive(Debug, Clone)]
pub(crate) struct Permutation {
    len: u64,
    right_bits: u32,
    left_mask: u64,
    right_mask: u64,
    keys: [u64; Self::HALF_ROUNDS],
}

impl Permutation {
    const HALF_ROUNDS: usize = 6;

    pub(crate) fn new(len: u64, key: u64) -> Self {
        let bits = len.saturating_sub(1).checked_ilog2().map_or(0, |log| log + 1);
        let right_bits = bits.div_ceil(2);
        let mut stream = Stream::new(key);
        let mut keys = [0; Self::HALF_ROUNDS];
        keys.fill_with(|| stream.next());
        Self { len, right_bits, left_mask: low_bits(bits - right_bits), right_mask: low_bits(right_bits), keys }
    }

    /// The row at a place; `place` must be below the length.
    pub(crate) fn at(&self, place: u64) -> u64 {
        debug_assert!(place < self.len);
        let mut value = place;
        loop {
            value = self.scramble(value);
            if value < self.len {
                return value;
            }
        }
    }

    /// The rows at `rows.len()` places from `first` on. Nothing waits for the row before it.
    pub(crate) fn fill(&self, first: u64, rows: &mut [u64]) {
        let mut outside = Vec::with_capacity(FILLED_TOGETHER);
        for (chunk, rows) in rows.chunks_mut(FILLED_TOGETHER).enumerate() {
            let first = first + (chunk * FILLED_TOGETHER) as u64;
            for (at, row) in rows.iter_mut().enumerate() {
                *row = self.scramble(first + at as u64);
            }
            outside.clear();
            outside.extend((0..rows.len()).filter(|at| rows[*at] >= self.len));
            while !outside.is_empty() {
                outside.retain(|at| {
                    rows[*at] = self.scramble(rows[*at]);
                    rows[*at] >= self.len
                });
            }
        }
    }

    fn scramble(&self, value: u64) -> u64 {
        let mut left = value >> self.right_bits;
        let mut right = value & self.right_mask;
        for pair in self.keys.chunks_exact(2) {
            left ^= mix(right ^ pair[0]) & self.left_mask;
            right ^= mix(left ^ pair[1]) & self.right_mask;
        }
        (left << self.right_bits) | right
    }
}

fn low_bits(count: u32) -> u64 {
    (1_u64 << count) - 1
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_stream_is_frozen() {
        // Reference values of SplitMix64 from seed 1234567 (the generator's published test vector).
        let mut stream = Stream::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| stream.next()).collect();
        assert_eq!(drawn, [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]);
    }

    #[test]
    fn the_permutation_is_frozen() {
        let permutation = Permutation::new(10, 42);
        let order: Vec<u64> = (0..10).map(|place| permutation.at(place)).collect();
        // Checkpoints depend on it: another order here is another version of the state.
        assert_eq!(order, [2, 7, 4, 0, 8, 3, 6, 9, 5, 1]);
    }

    proptest! {
        #[test]
        fn a_permutation_is_a_bijection(len in 1_u64..3_000, key: u64) {
            let permutation = Permutation::new(len, key);
            let mut seen = vec![false; len as usize];
            for place in 0..len {
                let row = permutation.at(place);
                prop_assert!(row < len);
                prop_assert!(!std::mem::replace(&mut seen[row as usize], true));
            }
            let first = key % len;
            let mut rows = vec![0; (len - first) as usize];
            permutation.fill(first, &mut rows);
            prop_assert_eq!(rows, (first..len).map(|place| permutation.at(place)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn neighbours_of_one_pass_meet_in_the_next_no_more_often_than_chance() {
        // 200 batches of 50 rows: a pair that shares a batch meets again by chance with 49 / 9,999.
        const ROWS: u64 = 10_000;
        const BATCH: u64 = 50;
        let mut met = 0_u64;
        let mut pairs = 0_u64;
        for run in 0..20 {
            let place_in = |pass: u64| {
                let permutation = Permutation::new(ROWS, seed_of(Use::Order, &[run, pass]));
                let mut batch_of = vec![0; ROWS as usize];
                for place in 0..ROWS {
                    batch_of[permutation.at(place) as usize] = place / BATCH;
                }
                batch_of
            };
            let (first, second) = (place_in(0), place_in(1));
            let permutation = Permutation::new(ROWS, seed_of(Use::Order, &[run, 0]));
            for place in (0..ROWS).filter(|place| place % BATCH != 0) {
                let (row, before) = (permutation.at(place) as usize, permutation.at(place - 1) as usize);
                assert_eq!(first[row], first[before]);
                pairs += 1;
                met += u64::from(second[row] == second[before]);
            }
        }
        let (expected, rate) = (49.0 / 9_999.0, met as f64 / pairs as f64);
        let deviation = (expected / pairs as f64).sqrt();
        assert!((rate - expected).abs() < 5.0 * deviation, "{rate} against {expected} ± {deviation}");
    }
}
