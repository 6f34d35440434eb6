//! BERT's tokenizer in one pass: bytes → characters → words → pieces, without a normalised copy of
//! the text.
//!
//! Nearly all words are ASCII letters and digits of at most [`SHORT`] bytes between spaces and
//! punctuation: those are measured, lowered and looked up as one number. A Chinese character is one
//! lookup by its number. What is neither is gathered character by character, and a text with combining
//! marks that stay, whose order matters, is normalised step by step.

use std::collections::HashMap;

use super::characters::{Byte, Characters, Wide};
use super::config::Recipe;
use super::normalize::{Class, class};
use super::sink::Sink;
use super::vocabulary::{Piece, SHORT, Vocabulary, first_bytes, load};

/// A tokenizer of BERT's kind.
#[derive(Debug)]
pub(super) struct WordPiece {
    characters: Characters,
    vocabulary: Vocabulary,
    added: HashMap<Box<[u8]>, u32>,
    /// Lengths of the added tokens, longest first.
    added_lengths: Vec<usize>,
    /// All bits where capital letters become small ones.
    lowering: u128,
    pub(super) before: Vec<u32>,
    pub(super) behind: Vec<u32>,
}

/// The word being gathered.
#[derive(Debug, Default)]
struct Word {
    bytes: Vec<u8>,
    /// The part of the text each byte comes from; kept only where spans are asked for.
    origins: Vec<(u32, u32)>,
    chars: usize,
    span: (u32, u32),
    pieces: Vec<Piece>,
}

/// How gathering a word went on.
enum Gathered {
    /// The word is over here.
    At(usize),
    /// The normaliser has to see more than one character at a time.
    Context,
}

const ONES: u128 = u128::from_le_bytes([1; SHORT]);
const HIGH: u128 = 0x80 * ONES;

/// The letters and digits (ASCII) that a chunk begins with: how many, and lowered where `lowering` says so.
#[inline]
fn letters(chunk: u128, lowering: u128) -> (usize, u128) {
    let low = chunk & !HIGH;
    // The high bit of each byte that is `least` or more: no carry leaves a byte.
    let from = |least: u8| low + ONES * u128::from(0x80 - least);
    let capital = from(b'A') & !from(b'Z' + 1) & !chunk & HIGH;
    let others = (from(b'a') & !from(b'z' + 1)) | (from(b'0') & !from(b'9' + 1));
    let ends = !(capital | (others & !chunk)) & HIGH;
    let length = (ends.trailing_zeros() / 8) as usize;
    (length, chunk | ((capital & lowering) >> 2))
}

/// The character that begins at `at`, which is not ASCII.
#[inline]
fn decode(text: &str, at: usize) -> char {
    let bytes = text.as_bytes();
    if let [first @ 0xe0..=0xef, second, third, ..] = bytes[at..] {
        let number = u32::from(first & 0xf) << 12 | u32::from(second & 0x3f) << 6 | u32::from(third & 0x3f);
        if let Some(c) = char::from_u32(number) {
            return c;
        }
    }
    text[at..].chars().next().unwrap_or('\0')
}

impl Word {
    fn clear(&mut self) {
        self.bytes.clear();
        self.origins.clear();
        self.chars = 0;
    }

    /// Appends a character that comes from the bytes `span` of the text.
    #[inline]
    fn push<S: Sink>(&mut self, c: char, span: (usize, usize), max_chars: usize) {
        let span = (span.0 as u32, span.1 as u32);
        if self.chars == 0 {
            self.span.0 = span.0;
        }
        self.span.1 = span.1;
        self.chars += 1;
        // A word that is too long is one unknown token, whatever is in it.
        if self.chars <= max_chars {
            let start = self.bytes.len();
            self.bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
            if S::SPANS {
                self.origins.extend(std::iter::repeat_n(span, self.bytes.len() - start));
            }
        }
    }
}

impl WordPiece {
    /// Makes the tables of a tokenizer.
    pub(super) fn new(recipe: Recipe) -> Self {
        let Recipe { normalizer, vocabulary, unknown, prefix, max_word_chars, added, before, behind } = recipe;
        let vocabulary = Vocabulary::new(&vocabulary, &prefix, unknown, max_word_chars);
        let begins = |byte| added.iter().any(|(content, _)| content.as_bytes().first() == Some(&byte));
        let characters = Characters::new(normalizer, &vocabulary, begins);
        let mut added_lengths: Vec<usize> = added.iter().map(|(content, _)| content.len()).collect();
        added_lengths.sort_unstable_by(|a, b| b.cmp(a));
        added_lengths.dedup();
        let added = added.into_iter().map(|(content, id)| (content.into_bytes().into(), id)).collect();
        let lowering = if normalizer.lowercase { HIGH } else { 0 };
        Self { characters, vocabulary, added, added_lengths, lowering, before, behind }
    }

    /// The id of a token as it stands in the file.
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.added.get(token.as_bytes()).copied().or_else(|| self.vocabulary.id_of(token))
    }

    /// The token for a word that has no pieces.
    pub(super) fn unknown(&self) -> u32 {
        self.vocabulary.unknown()
    }

    /// Gives the tokens of a text, without those that stand around it, until the sink wants no more.
    pub(super) fn scan<S: Sink>(&self, text: &str, sink: &mut S) {
        let bytes = text.as_bytes();
        let mut word = Word::default();
        // Where the normaliser's view begins: behind the last added token.
        let mut segment = (0, sink.taken());
        let mut at = 0;
        while let Some(byte) = bytes.get(at).copied() {
            let gathered = match self.characters.byte(byte) {
                Byte::Space | Byte::Dropped => Gathered::At(at + 1),
                Byte::Alone => {
                    if !sink.token(self.characters.alone(byte), true, (at as u32, at as u32 + 1)) {
                        return;
                    }
                    Gathered::At(at + 1)
                }
                Byte::MayBegin => {
                    let added = self.added_at(bytes, at);
                    let (id, length) = added.unwrap_or((self.characters.alone(byte), 1));
                    if !sink.token(id, true, (at as u32, (at + length) as u32)) {
                        return;
                    }
                    if added.is_some() {
                        segment = (at + length, sink.taken());
                    }
                    Gathered::At(at + length)
                }
                Byte::Word => {
                    let (length, key) = letters(load(&bytes[at..]), self.lowering);
                    if length > 0 && self.ends_at(bytes, at + length) && length <= self.vocabulary.max_word_chars() {
                        if !self.short_word(first_bytes(key, length), length, at, &mut word, sink) {
                            return;
                        }
                        Gathered::At(at + length)
                    } else {
                        self.gather::<S>(text, at, &mut word)
                    }
                }
                Byte::Wide => {
                    let c = decode(text, at);
                    let end = at + c.len_utf8();
                    match self.characters.wide(c, &self.vocabulary) {
                        Wide::Dropped | Wide::Space => Gathered::At(end),
                        Wide::Alone(id) => {
                            if !sink.token(id, true, (at as u32, end as u32)) {
                                return;
                            }
                            Gathered::At(end)
                        }
                        Wide::Word(_) | Wide::Several(_) => self.gather::<S>(text, at, &mut word),
                        Wide::Context => Gathered::Context,
                    }
                }
            };
            match gathered {
                Gathered::At(next) => {
                    at = next;
                    if word.chars > 0 && !self.give(&mut word, sink) {
                        return;
                    }
                }
                Gathered::Context => {
                    word.clear();
                    sink.forget(segment.1);
                    let end = (at..bytes.len())
                        .find(|at| self.may_begin(bytes[*at]) && self.added_at(bytes, *at).is_some())
                        .unwrap_or(bytes.len());
                    if !self.stepwise(&text[segment.0..end], segment.0, &mut word, sink) {
                        return;
                    }
                    at = end;
                }
            }
        }
    }

    fn may_begin(&self, byte: u8) -> bool {
        self.characters.byte(byte) == Byte::MayBegin
    }

    /// The longest added token at a place, and its length.
    fn added_at(&self, bytes: &[u8], at: usize) -> Option<(u32, usize)> {
        let rest = &bytes[at..];
        self.added_lengths.iter().find_map(|length| Some((*self.added.get(rest.get(..*length)?)?, *length)))
    }

    /// Whether a word that goes up to here certainly ends here.
    #[inline]
    fn ends_at(&self, bytes: &[u8], at: usize) -> bool {
        let Some(byte) = bytes.get(at) else { return true };
        matches!(self.characters.byte(*byte), Byte::Space | Byte::Alone | Byte::MayBegin)
    }

    /// Gives the tokens of a word of ASCII letters and digits that begins at `at`.
    #[inline]
    fn short_word<S: Sink>(&self, key: u128, length: usize, at: usize, word: &mut Word, sink: &mut S) -> bool {
        if let Some(id) = self.vocabulary.whole(key, length) {
            return sink.token(id, true, (at as u32, (at + length) as u32));
        }
        self.vocabulary.split_short(key, length, &mut word.pieces);
        let mut start = 0;
        word.pieces.iter().all(|piece| {
            let span = ((at + start) as u32, (at + piece.end) as u32);
            start = piece.end;
            sink.token(piece.id, span.0 == at as u32, span)
        })
    }

    /// Collects the word that begins at `at`, or goes on there.
    fn gather<S: Sink>(&self, text: &str, mut at: usize, word: &mut Word) -> Gathered {
        let max_chars = self.vocabulary.max_word_chars();
        let bytes = text.as_bytes();
        while let Some(byte) = bytes.get(at).copied() {
            match self.characters.byte(byte) {
                Byte::Word => {
                    word.push::<S>(char::from(self.characters.lower(byte)), (at, at + 1), max_chars);
                    at += 1;
                }
                Byte::Dropped => at += 1,
                Byte::Space | Byte::Alone | Byte::MayBegin => break,
                Byte::Wide => {
                    let c = decode(text, at);
                    let span = (at, at + c.len_utf8());
                    match self.characters.wide(c, &self.vocabulary) {
                        Wide::Dropped => {}
                        Wide::Word(c) => word.push::<S>(c, span, max_chars),
                        Wide::Several(several) => {
                            for c in several {
                                word.push::<S>(*c, span, max_chars);
                            }
                        }
                        Wide::Space | Wide::Alone(_) => break,
                        Wide::Context => return Gathered::Context,
                    }
                    at = span.1;
                }
            }
        }
        Gathered::At(at)
    }

    /// Gives the tokens of the gathered word, and begins another.
    fn give<S: Sink>(&self, word: &mut Word, sink: &mut S) -> bool {
        let more = if word.chars > self.vocabulary.max_word_chars() {
            sink.token(self.vocabulary.unknown(), true, word.span)
        } else {
            self.vocabulary.split(&word.bytes, &mut word.pieces);
            let mut start = 0;
            word.pieces.iter().all(|piece| {
                let span = if S::SPANS { (word.origins[start].0, word.origins[piece.end - 1].1) } else { (0, 0) };
                let begins = start == 0;
                start = piece.end;
                sink.token(piece.id, begins, span)
            })
        };
        word.clear();
        more
    }

    /// Gives the tokens of a part of the text, which begins at `from`, normalised as a whole.
    #[cold]
    fn stepwise<S: Sink>(&self, part: &str, from: usize, word: &mut Word, sink: &mut S) -> bool {
        for aligned in self.characters.normalizer().segment(part, from) {
            let kind = class(aligned.c);
            if kind != Class::Word && word.chars > 0 && !self.give(word, sink) {
                return false;
            }
            let span = (aligned.start, aligned.end);
            match kind {
                Class::Space => {}
                Class::Alone => {
                    if !sink.token(self.vocabulary.single(aligned.c), true, span) {
                        return false;
                    }
                }
                Class::Word => {
                    let span = (aligned.start as usize, aligned.end as usize);
                    word.push::<S>(aligned.c, span, self.vocabulary.max_word_chars());
                }
            }
        }
        word.chars == 0 || self.give(word, sink)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chunk_is_measured_and_lowered() {
        for (text, length, lowered) in [
            ("Hello, World", 5, "hello"),
            ("AZaz09[`@{/:", 6, "azaz09"),
            ("ABCDEFGHIJKLMNOPQ", 16, "abcdefghijklmnop"),
            ("caf\u{e9}", 3, "caf"),
            (" x", 0, ""),
            ("", 0, ""),
        ] {
            let (found, key) = letters(load(text.as_bytes()), HIGH);
            assert_eq!((found, first_bytes(key, found)), (length, load(lowered.as_bytes())), "{text}");
            assert_eq!(letters(load(text.as_bytes()), 0).1, load(text.as_bytes()));
        }
        for byte in 0..=255_u8 {
            assert_eq!(letters(load(&[byte]), HIGH).0, usize::from(byte.is_ascii_alphanumeric()), "{byte}");
        }
    }
}
