//! The words of a text, and drawing some of them.

use crate::batch::permute::Stream;
use crate::tokenize::{SPECIAL, WORD_START};

/// Tokens beyond which a run without a word start is no word: scripts without spaces come out of
/// some tokenizers as one endless word, which as a whole could never be masked.
const MAX_WORD: u16 = 16;

/// Neighbouring tokens that are masked together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Word {
    pub(super) start: u16,
    pub(super) tokens: u16,
}

impl Word {
    pub(super) fn positions(self) -> std::ops::Range<usize> {
        usize::from(self.start)..usize::from(self.start) + usize::from(self.tokens)
    }

    /// Its tokens as bits of the 128 that begin at the multiple of 64 below its start.
    pub(super) fn run(self) -> u128 {
        ((1 << self.tokens) - 1) << (self.start % 64)
    }
}

/// The words of a text in order. Special tokens are none, but with `specials` those behind the
/// first position are words of their own.
pub(super) fn words(flags: &[u8], specials: bool) -> Vec<Word> {
    let mut words: Vec<Word> = Vec::with_capacity(flags.len());
    let mut open = false;
    for (at, &flag) in flags.iter().enumerate() {
        let special = flag & SPECIAL != 0;
        match words.last_mut() {
            Some(word) if open && !special && flag & WORD_START == 0 => word.tokens += 1,
            _ if !special || (specials && at > 0) => words.push(Word { start: at as u16, tokens: 1 }),
            _ => {}
        }
        open = !special;
    }
    if words.iter().all(|word| word.tokens <= MAX_WORD) {
        return words;
    }
    let mut cut = Vec::with_capacity(flags.len());
    for word in words {
        if word.tokens > MAX_WORD {
            cut.extend((0..word.tokens).map(|token| Word { start: word.start + token, tokens: 1 }));
        } else {
            cut.push(word);
        }
    }
    cut
}

/// Takes words in a random order until `target` tokens are taken; a word that would take more is
/// passed over. The order is a Fisher-Yates shuffle that goes only as far as it is needed. It works
/// in place: what an earlier draw left is as good a start as any.
pub(super) fn draw(words: &mut [Word], target: usize, stream: &mut Stream, mut take: impl FnMut(Word)) {
    let mut left = target;
    for at in 0..words.len() {
        if left == 0 {
            break;
        }
        let other = at + stream.below((words.len() - at) as u64) as usize;
        words.swap(at, other);
        let tokens = usize::from(words[at].tokens);
        if tokens <= left {
            left -= tokens;
            take(words[at]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: u8 = SPECIAL;
    const W: u8 = WORD_START;

    #[test]
    fn pieces_belong_to_their_word_and_special_tokens_to_none() {
        let spans = |flags: &[u8], specials| -> Vec<(u16, u16)> {
            words(flags, specials).iter().map(|word| (word.start, word.tokens)).collect()
        };
        assert_eq!(spans(&[S, W, 0, 0, W, S], false), [(1, 3), (4, 1)]);
        assert_eq!(spans(&[S, W, 0, 0, W, S], true), [(1, 3), (4, 1), (5, 1)]);
        // A special token ends a word, and what goes on behind it is a word.
        assert_eq!(spans(&[S, W, S, 0, 0, S], false), [(1, 1), (3, 2)]);
        assert_eq!(spans(&[S, S], false), []);
        let endless = [&[S, W][..], &[0; 20], &[S]].concat();
        assert_eq!(words(&endless, false).len(), 21);
    }

    #[test]
    fn a_draw_takes_what_fits_and_leaves_what_does_not() {
        let flags = [S, W, 0, 0, W, W, 0, S];
        for seed in 0..50 {
            for target in 1..8 {
                let mut all = words(&flags, false);
                let (mut taken, whole) = (Vec::new(), all.clone());
                draw(&mut all, target, &mut Stream::new(seed), |word| taken.push(word));
                let tokens: u16 = taken.iter().map(|word| word.tokens).sum();
                let left = target.checked_sub(usize::from(tokens)).expect("no more than the target");
                let fits = |word: &&Word| !taken.contains(word) && usize::from(word.tokens) <= left;
                assert_eq!(whole.iter().find(fits), None, "{taken:?} of {target}");
            }
        }
    }
}
