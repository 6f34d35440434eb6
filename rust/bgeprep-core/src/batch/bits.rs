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

    /// Where ones stand, asked for from the first to the last.
    pub(crate) fn ones_in_order(&self) -> Ones<'_> {
        let first = self.words.first().copied().unwrap_or(0);
        Ones { words: &self.words, word: 0, before: 0, inside: first.count_ones() as usize }
    }
}

/// A walk over the ones of a list of bits.
#[derive(Debug)]
pub(crate) struct Ones<'b> {
    words: &'b [u64],
    word: usize,
    /// Ones before the word, and in it.
    before: usize,
    inside: usize,
}

impl Ones<'_> {
    /// The place of the `nth` one, counted from 0; it must be there, and none behind it was asked for before.
    pub(crate) fn place_of(&mut self, nth: usize) -> usize {
        while self.before + self.inside <= nth {
            self.before += self.inside;
            self.word += 1;
            self.inside = self.words[self.word].count_ones() as usize;
        }
        self.word * 64 + nth_one(self.words[self.word], (nth - self.before) as u64) as usize
    }
}

/// The place of the `nth` one of a word, counted from 0; it must be there.
fn nth_one(word: u64, nth: u64) -> u32 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let pairs = word - (word >> 1 & 0x5555_5555_5555_5555);
    let fours = (pairs & 0x3333_3333_3333_3333) + (pairs >> 2 & 0x3333_3333_3333_3333);
    // Byte by byte: how many ones stand up to its end. No sum passes 64, so bytes do not borrow.
    let up_to = ((fours + (fours >> 4)) & 0x0f0f_0f0f_0f0f_0f0f).wrapping_mul(EACH);
    let passed = (((nth * EACH) | (0x80 * EACH)) - up_to) >> 7 & EACH;
    let place = (passed.wrapping_mul(EACH) >> 56) * 8;
    let before = (up_to << 8) >> place & 0xff;
    let rest = (before..nth).fold(word >> place, |rest, _| rest & (rest - 1));
    place as u32 + rest.trailing_zeros()
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
            let (mut places, mut places_of_zeros) = (bits.ones_in_order(), cleared.ones_in_order());
            for (at, bit) in list.iter().enumerate() {
                prop_assert_eq!(bits.get(at), *bit);
                prop_assert_eq!(bits.ones_before(at), ones);
                prop_assert_eq!(cleared.ones_before(at), zeros);
                let (of, nth) = if *bit { (&mut places, &mut ones) } else { (&mut places_of_zeros, &mut zeros) };
                // Some are passed over.
                if at % 3 > 0 {
                    prop_assert_eq!(of.place_of(*nth), at);
                }
                *nth += 1;
            }
        }
    }
}
