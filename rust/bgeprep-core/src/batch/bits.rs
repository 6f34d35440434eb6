//! A bit a row, with counting: how many ones stand before a place, and where the n-th one stands.

/// Words between two running counts.
const BLOCK: usize = 8;

/// A list of bits. [`Bits::count`] has to be called before it is asked for counts.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bits {
    words: Vec<u64>,
    /// Ones before each block of words.
    before: Vec<u32>,
}

impl Bits {
    /// `len` zeros.
    pub(crate) fn zeros(len: usize) -> Self {
        Self { words: vec![0; len.div_ceil(64)], before: Vec::new() }
    }

    /// `len` ones.
    pub(crate) fn ones(len: usize) -> Self {
        let mut bits = Self { words: vec![u64::MAX; len.div_ceil(64)], before: Vec::new() };
        if let (Some(last), rest @ 1..) = (bits.words.last_mut(), len % 64) {
            *last = (1 << rest) - 1;
        }
        bits
    }

    pub(crate) fn set(&mut self, at: usize) {
        self.words[at / 64] |= 1 << (at % 64);
    }

    pub(crate) fn clear(&mut self, at: usize) {
        self.words[at / 64] &= !(1 << (at % 64));
    }

    pub(crate) fn get(&self, at: usize) -> bool {
        self.words[at / 64] >> (at % 64) & 1 == 1
    }

    /// Counts the ones; to be called when all bits are set.
    pub(crate) fn count(&mut self) {
        self.before.clear();
        let mut ones = 0;
        for block in self.words.chunks(BLOCK) {
            self.before.push(ones);
            ones += block.iter().map(|word| word.count_ones()).sum::<u32>();
        }
    }

    /// Ones before a place.
    pub(crate) fn ones_before(&self, at: usize) -> usize {
        let (word, block) = (at / 64, at / 64 / BLOCK);
        let whole: u32 = self.words[block * BLOCK..word].iter().map(|word| word.count_ones()).sum();
        let part = (self.words[word] & ((1 << (at % 64)) - 1)).count_ones();
        (self.before[block] + whole + part) as usize
    }

    /// The place of the `nth` one, counted from 0; it must be there.
    pub(crate) fn place_of(&self, nth: usize) -> usize {
        let block = self.before.partition_point(|ones| *ones as usize <= nth) - 1;
        let mut left = nth - self.before[block] as usize;
        for (at, word) in self.words.iter().enumerate().skip(block * BLOCK) {
            let ones = word.count_ones() as usize;
            if left < ones {
                let rest = (0..left).fold(*word, |rest, _| rest & (rest - 1));
                return at * 64 + rest.trailing_zeros() as usize;
            }
            left -= ones;
        }
        debug_assert!(false, "there are fewer ones");
        0
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn counts_are_those_of_a_list(list in prop::collection::vec(any::<bool>(), 1..3_000)) {
            let (mut bits, mut cleared) = (Bits::zeros(list.len()), Bits::ones(list.len()));
            for (at, _) in list.iter().enumerate().filter(|(_, bit)| **bit) {
                bits.set(at);
                cleared.clear(at);
            }
            bits.count();
            cleared.count();
            let (mut ones, mut zeros) = (0, 0);
            for (at, bit) in list.iter().enumerate() {
                prop_assert_eq!(bits.get(at), *bit);
                prop_assert_eq!(bits.ones_before(at), ones);
                prop_assert_eq!(cleared.ones_before(at), zeros);
                let (of, nth) = if *bit { (&bits, &mut ones) } else { (&cleared, &mut zeros) };
                prop_assert_eq!(of.place_of(*nth), at);
                *nth += 1;
            }
        }
    }
}
