//! BERT's normaliser: clean text, spaces around Chinese characters, accents, lower case; and what
//! its pre-tokeniser makes of the result.
//!
//! Each of these steps looks at one character at a time, so [`Normalizer::mapping`] says once for
//! every character what becomes of it. The exception is a run of combining marks, which canonical
//! decomposition sorts. Marks are dropped nearly always; for texts where some stay,
//! [`Normalizer::segment`] takes all steps one after another.
//!
//! Equal ids need equal tables, and those of the `tokenizers` crate are old: categories of Unicode
//! 8, decompositions of Unicode 9. Hence the same crates for them, and not newer ones.

use unicode_categories::UnicodeCategories;
use unicode_normalization_alignments::UnicodeNormalization;
use unicode_normalization_alignments::char::canonical_combining_class;

/// The flags of BERT's normaliser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Normalizer {
    pub(super) clean_text: bool,
    pub(super) chinese: bool,
    pub(super) strip_accents: bool,
    pub(super) lowercase: bool,
}

/// What becomes of a character, whatever stands beside it.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Mapping {
    /// Nothing: words go on over it.
    Dropped,
    /// The end of a word.
    Space,
    /// A word of its own.
    Alone(char),
    /// Characters of a word.
    Word(Vec<char>),
    /// This depends on its neighbours, or is several of the above.
    Context,
}

/// A character of the normalised text, and the bytes of the text that it comes from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Aligned {
    pub(super) c: char,
    pub(super) start: u32,
    pub(super) end: u32,
}

/// What a normalised character is to the pre-tokeniser.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Class {
    Space,
    Alone,
    Word,
}

/// The pre-tokeniser's view of a normalised character.
pub(super) fn class(c: char) -> Class {
    if c.is_whitespace() {
        Class::Space
    } else if c.is_ascii_punctuation() || c.is_punctuation() {
        Class::Alone
    } else {
        Class::Word
    }
}

fn is_chinese(c: char) -> bool {
    matches!(u32::from(c),
        0x4E00..=0x9FFF | 0x3400..=0x4DBF | 0x20000..=0x2A6DF | 0x2A700..=0x2B73F | 0x2B740..=0x2B81F
        | 0x2B920..=0x2CEAF | 0xF900..=0xFAFF | 0x2F800..=0x2FA1F)
}

impl Normalizer {
    /// The character after cleaning; `None` where it goes.
    fn clean(self, c: char) -> Option<char> {
        if !self.clean_text {
            return Some(c);
        }
        match c {
            '\t' | '\n' | '\r' => Some(' '),
            '\0' | '\u{fffd}' => None,
            _ if c.is_other() => None,
            _ if c.is_whitespace() => Some(' '),
            _ => Some(c),
        }
    }

    /// What becomes of a character.
    pub(super) fn mapping(self, c: char) -> Mapping {
        let Some(cleaned) = self.clean(c) else { return Mapping::Dropped };
        let spaced = self.chinese && is_chinese(cleaned);
        let kept: Vec<char> = if self.strip_accents {
            let decomposed = std::iter::once(cleaned).nfd().map(|(c, _)| c);
            decomposed.filter(|c| !c.is_mark_nonspacing()).collect()
        } else {
            vec![cleaned]
        };
        if self.strip_accents && kept.iter().any(|c| canonical_combining_class(*c) != 0) {
            return Mapping::Context;
        }
        let lower: Vec<char> = if self.lowercase { kept.iter().flat_map(|c| c.to_lowercase()).collect() } else { kept };
        let all = |wanted| lower.iter().all(|c| class(*c) == wanted);
        match *lower.as_slice() {
            [] if spaced => Mapping::Space,
            [] => Mapping::Dropped,
            [only] if spaced || class(only) == Class::Alone => Mapping::Alone(only),
            _ if all(Class::Space) => Mapping::Space,
            _ if spaced || !all(Class::Word) => Mapping::Context,
            _ => Mapping::Word(lower),
        }
    }

    /// The normalised text with its places in the original, which begins at `from` there.
    pub(super) fn segment(self, text: &str, from: usize) -> Vec<Aligned> {
        let mut found = Vec::with_capacity(text.len());
        for (at, original) in text.char_indices() {
            let Some(c) = self.clean(original) else { continue };
            let (start, end) = ((from + at) as u32, (from + at + original.len_utf8()) as u32);
            let space = Aligned { c: ' ', start, end };
            if self.chinese && is_chinese(c) {
                found.extend([space, Aligned { c, start, end }, space]);
            } else {
                found.push(Aligned { c, start, end });
            }
        }
        if self.strip_accents {
            found = decomposed(&found);
            found.retain(|aligned| !aligned.c.is_mark_nonspacing());
        }
        if self.lowercase {
            let lower = |aligned: Aligned| aligned.c.to_lowercase().map(move |c| Aligned { c, ..aligned });
            found = found.into_iter().flat_map(lower).collect();
        }
        found
    }
}

/// Canonical decomposition. A mark that was sorted away from its letter takes the place of what now
/// stands before it, as in the `tokenizers` crate.
fn decomposed(text: &[Aligned]) -> Vec<Aligned> {
    let mut origins = text.iter();
    let mut last = (0, 0);
    let mut found = Vec::with_capacity(text.len());
    for (c, added) in text.iter().map(|aligned| aligned.c).nfd() {
        if added == 0
            && let Some(origin) = origins.next()
        {
            last = (origin.start, origin.end);
        }
        found.push(Aligned { c, start: last.0, end: last.1 });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const BERT: Normalizer = Normalizer { clean_text: true, chinese: true, strip_accents: true, lowercase: true };

    #[test]
    fn characters_become_what_bert_makes_of_them() {
        let word = |text: &str| Mapping::Word(text.chars().collect());
        for (c, mapping) in [
            ('A', word("a")),
            ('é', word("e")),
            ('İ', word("i")),
            ('ﬁ', word("ﬁ")),
            ('한', word("\u{1112}\u{1161}\u{11ab}")),
            ('\u{301}', Mapping::Dropped),
            ('\u{200d}', Mapping::Dropped),
            ('\u{feff}', Mapping::Dropped),
            ('\u{fffd}', Mapping::Dropped),
            ('\u{3000}', Mapping::Space),
            ('\r', Mapping::Space),
            ('中', Mapping::Alone('中')),
            ('豈', Mapping::Alone('豈')),
            ('，', Mapping::Alone('，')),
            // An equals sign with a stroke; a Greek question mark.
            ('≠', Mapping::Alone('=')),
            ('\u{37e}', Mapping::Alone(';')),
            // A Hangul tone mark stays, and is sorted.
            ('\u{302e}', Mapping::Context),
        ] {
            assert_eq!(BERT.mapping(c), mapping, "{c:?}");
        }
        let cased = Normalizer { strip_accents: false, lowercase: false, ..BERT };
        assert_eq!(cased.mapping('É'), word("É"));
        let accents = Normalizer { strip_accents: false, ..BERT };
        assert_eq!(accents.mapping('İ'), word("i\u{307}"));
    }

    #[test]
    fn a_mapping_without_context_is_that_of_the_whole_text() {
        for c in ('\0'..=char::MAX).filter(|c| u32::from(*c) < 0x3_0000) {
            let text = format!("x{c}y");
            let segment: Vec<char> = BERT.segment(&text, 0).iter().map(|aligned| aligned.c).collect();
            let middle = &segment[1..segment.len() - 1];
            match BERT.mapping(c) {
                Mapping::Dropped => assert!(middle.is_empty(), "{c:?}"),
                Mapping::Space => assert!(!middle.is_empty() && middle.iter().all(|c| class(*c) == Class::Space)),
                Mapping::Alone(alone) => {
                    let rest: Vec<&char> = middle.iter().filter(|c| class(**c) != Class::Space).collect();
                    assert_eq!(rest, [&alone], "{c:?}");
                }
                Mapping::Word(word) => assert_eq!(middle, word, "{c:?}"),
                Mapping::Context => {}
            }
        }
    }
}
