//! Normalised text → the set of shingles that Jaccard similarity is taken over.
//!
//! A token is a run of characters of the Unicode categories L and N; a Han, Hiragana or Katakana
//! character is a token alone, because Chinese and Japanese put no spaces between words. Marks
//! belong to the token before them. Passages
//! are sets of 5-grams of tokens, and a text of fewer tokens is one shingle. Five words are half a
//! query: one changed word of ten would leave a similarity of .1, so queries are sets of single
//! tokens and pairs of neighbours.

use unicode_normalization::char::is_combining_mark;
use xxhash_rust::xxh3::xxh3_64;

use crate::pair::Task;

/// Which shingles.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Rule {
    /// Single tokens and pairs: queries, and both texts of symmetric sources.
    Query,
    /// 5-grams of tokens: positives and negatives.
    Passage,
}

/// Tokens in a shingle of a passage.
const PASSAGE_TOKENS: usize = 5;

/// Odd numbers by which the tokens of a shingle are told apart by their place.
const PLACES: [u64; PASSAGE_TOKENS] =
    [0x9e37_79b9_7f4a_7c15, 0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];

impl Rule {
    /// Both rules.
    pub const ALL: [Self; 2] = [Self::Query, Self::Passage];

    /// The rule for the positives and negatives of a task.
    pub fn of_passages(task: Task) -> Self {
        if task == Task::Symmetric { Self::Query } else { Self::Passage }
    }

    /// The space of texts that this rule compares, as the manifest calls it.
    pub fn space(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Passage => "passage",
        }
    }

    /// What the manifest says of the rule. The number counts its versions.
    pub fn describe(self) -> &'static str {
        match self {
            Self::Query => "tokens and pairs of tokens, 1",
            Self::Passage => "5-grams of tokens, 1",
        }
    }

    /// Appends the shingles of a text of `tokens`, repeated ones repeatedly.
    fn shingles(self, tokens: &[u64], out: &mut Vec<u64>) {
        match self {
            Self::Query => {
                out.extend(tokens.iter().map(|&token| combine(&[token])));
                out.extend(tokens.windows(2).map(combine));
            }
            Self::Passage if tokens.is_empty() => {}
            Self::Passage if tokens.len() < PASSAGE_TOKENS => out.push(combine(tokens)),
            Self::Passage => out.extend(tokens.windows(PASSAGE_TOKENS).map(combine)),
        }
    }
}

/// A hash of a token. Most are short, and one multiplication mixes eight bytes.
fn hash(token: &[u8]) -> u64 {
    let mut word = [0; 8];
    match word.get_mut(..token.len()) {
        Some(start) => {
            start.copy_from_slice(token);
            let word = (u64::from_le_bytes(word) ^ token.len() as u64).wrapping_mul(PLACES[2]);
            word ^ (word >> 32)
        }
        None => xxh3_64(token),
    }
}

fn combine(tokens: &[u64]) -> u64 {
    let sum =
        tokens.iter().zip(PLACES).fold(0, |sum: u64, (&token, place)| sum.wrapping_add(token.wrapping_mul(place)));
    // The sum's low bits know little of its tokens' high ones.
    let mixed = (sum ^ (sum >> 29)).wrapping_mul(PLACES[1]);
    mixed ^ (mixed >> 32)
}

/// Takes texts apart; owns scratch space, one for each thread.
#[derive(Debug, Default)]
pub struct Shingler {
    tokens: Vec<u64>,
    shingles: Vec<u64>,
}

impl Shingler {
    /// Shingles of a normalised text, in order of appearance, repeated ones repeatedly; empty for a
    /// text without letters and digits.
    pub fn shingles(&mut self, normal: &str, rule: Rule) -> &[u64] {
        self.tokens.clear();
        self.shingles.clear();
        tokens(normal, |token| self.tokens.push(hash(token.as_bytes())));
        rule.shingles(&self.tokens, &mut self.shingles);
        &self.shingles
    }

    /// The shingles as a sorted set.
    pub fn set(&mut self, normal: &str, rule: Rule) -> Vec<u64> {
        let mut set = self.shingles(normal, rule).to_vec();
        set.sort_unstable();
        set.dedup();
        set
    }
}

/// Jaccard similarity of two sorted sets; two empty sets are not alike.
pub fn jaccard(left: &[u64], right: &[u64]) -> f64 {
    let (mut at, mut common) = (0, 0usize);
    for shingle in left {
        while at < right.len() && right[at] < *shingle {
            at += 1;
        }
        common += usize::from(right.get(at) == Some(shingle));
    }
    let union = left.len() + right.len() - common;
    if union == 0 { 0.0 } else { common as f64 / union as f64 }
}

/// Calls `visit` with each token of a normalised text.
pub fn tokens<'t>(normal: &'t str, mut visit: impl FnMut(&'t str)) {
    let bytes = normal.as_bytes();
    let ascii_end = |from: usize| bytes[from..].iter().position(|byte| !IN_RUN[usize::from(*byte)]);
    let mut at = 0;
    while at < bytes.len() {
        if IN_RUN[usize::from(bytes[at])] {
            // Most tokens of most corpora: letters and digits of ASCII, and something else of ASCII behind them.
            let end = ascii_end(at + 1).map_or(bytes.len(), |length| at + 1 + length);
            at = if bytes.get(end).is_none_or(u8::is_ascii) {
                visit(&normal[at..end]);
                end
            } else {
                any_token(normal, at, &mut visit)
            };
        } else if bytes[at].is_ascii() {
            at += 1;
        } else {
            at = any_token(normal, at, &mut visit);
        }
    }
}

/// Which bytes are letters and digits of ASCII.
const IN_RUN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        table[byte] = (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    table
};

/// Visits the token that starts at `start`, if one does, whatever it is made of; where to go on.
fn any_token<'t>(normal: &'t str, start: usize, visit: &mut impl FnMut(&'t str)) -> usize {
    let mut characters = normal[start..].char_indices();
    let Some((_, first)) = characters.next() else { return normal.len() };
    let opened = kind(first);
    if !matches!(opened, Kind::Part | Kind::Alone) {
        return start + first.len_utf8();
    }
    let goes_on = |character| match kind(character) {
        Kind::Mark => true,
        Kind::Part => opened == Kind::Part,
        Kind::Between | Kind::Alone => false,
    };
    let end = characters.find(|&(_, character)| !goes_on(character)).map_or(normal.len(), |(length, _)| start + length);
    visit(&normal[start..end]);
    end
}

/// Whether a token is a Han, Hiragana or Katakana character: a token alone, which needs no space beside it.
pub fn is_alone(token: &str) -> bool {
    token.chars().next().is_some_and(|first| kind(first) == Kind::Alone)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Between tokens.
    Between,
    /// Part of a run.
    Part,
    /// A token alone.
    Alone,
    /// Belongs to the token before it, if there is one.
    Mark,
}

fn kind(character: char) -> Kind {
    match character {
        // Han with its extensions and compatibility forms, Hiragana, Katakana. Code points without a
        // character are in: a new version of Unicode must move no token.
        '\u{4e00}'..='\u{9fff}'
        | '\u{3005}'..='\u{3007}'
        | '\u{3021}'..='\u{3029}'
        | '\u{3038}'..='\u{303c}'
        | '\u{3041}'..='\u{3096}'
        | '\u{309d}'..='\u{309f}'
        | '\u{30a1}'..='\u{30fa}'
        | '\u{30fc}'..='\u{30ff}'
        | '\u{31f0}'..='\u{31ff}'
        | '\u{3400}'..='\u{4dbf}'
        | '\u{f900}'..='\u{faff}'
        | '\u{1aff0}'..='\u{1b16f}'
        | '\u{20000}'..='\u{3ffff}' => Kind::Alone,
        '\0'..='\x7f' if character.is_ascii_alphanumeric() => Kind::Part,
        // Letters in circles and boxes: alphabetic to Unicode's property, symbols by category.
        '\u{24b6}'..='\u{24e9}' | '\u{1f130}'..='\u{1f189}' => Kind::Between,
        _ if is_combining_mark(character) => Kind::Mark,
        _ if character.is_alphanumeric() => Kind::Part,
        _ => Kind::Between,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Vec<&str> {
        let mut found = Vec::new();
        tokens(text, |token| found.push(token));
        found
    }

    #[test]
    fn tokens_are_runs_and_single_ideographs() {
        assert_eq!(of("what's the 2nd café, ok?"), ["what", "s", "the", "2nd", "café", "ok"]);
        assert_eq!(of("天空是blue的。かな"), ["天", "空", "是", "blue", "的", "か", "な"]);
        assert_eq!(of("हिन्दी भाषा 한국어"), ["हिन्दी", "भाषा", "한국어"]);
        assert_eq!(of("か\u{3099}なb\u{301}c天b \u{301}x"), ["か\u{3099}", "な", "b\u{301}c", "天", "b", "x"]);
        assert!(of(" —… 🙂 Ⓐ").is_empty());
    }

    #[test]
    fn each_rule_has_its_own_shingles() {
        let mut shingler = Shingler::default();
        assert_eq!(shingler.shingles("a b c", Rule::Query).len(), 5);
        assert_eq!(shingler.shingles("a b c", Rule::Passage).len(), 1);
        assert_eq!(shingler.shingles("a b c d e f", Rule::Passage).len(), 2);
        assert!(shingler.shingles("?!", Rule::Passage).is_empty());
        assert_ne!(shingler.set("a b", Rule::Passage), shingler.set("b a", Rule::Passage));
        assert_eq!(shingler.set("a, b", Rule::Query), shingler.set("a b", Rule::Query));
    }

    #[test]
    fn jaccard_counts_common_over_all() {
        assert!((jaccard(&[1, 2, 3], &[2, 3, 4]) - 0.5).abs() < 1e-12);
        assert!((jaccard(&[1, 2], &[1, 2]) - 1.0).abs() < 1e-12);
        assert!(jaccard(&[], &[1]).abs() < 1e-12 && jaccard(&[], &[]).abs() < 1e-12);
        // One changed word of ten: a query stays recognisable, a passage's 5-grams would not.
        let (old, new) =
            ("what is the best way to learn the piano quickly", "what is the best way to learn the organ quickly");
        let mut shingler = Shingler::default();
        let (left, right) = (shingler.set(old, Rule::Query), shingler.set(new, Rule::Query));
        assert!(jaccard(&left, &right) > 0.7);
        let (left, right) = (shingler.set(old, Rule::Passage), shingler.set(new, Rule::Passage));
        assert!(jaccard(&left, &right) <= 0.5);
    }
}
