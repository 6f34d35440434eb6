//! The corpus that the benches run on: seeded, English and Chinese, with planted duplicates.
//!
//! Of the rows, 15 % are Chinese, 10 % repeat an earlier row exactly and 10 % repeat one with a few
//! words changed. A row is about 1.2 KB of JSON. The same seed gives the same bytes everywhere.

mod settings;
mod vocabulary;

use std::fmt::Write as _;

pub use settings::{clean_rules, plan, read_options, run_options};
pub use vocabulary::word_piece;

const ENGLISH: &str = "the of and to in a is that for it as was with be by on not he his but at are this have \
    from or had an they which one you were her all she there would their we him been has when who will more no \
    if out so said what up its about into than them can only other new some could time these two may then do \
    first any my now such like our over man me even most made after also did many before must through back \
    years where much your way well down should because each just those people how too little state good very \
    make world still own see men work long get here between both life being under never day same another know \
    while last might us great old year off come since against go came right used take three";
const CHINESE: &str = "的一是在不了有和人这中大为上个国我以要他时来用们生到作地于出就分对成会可主发年动同工也能下\
    过子说产种面而方后多定行学法所民得经十三之进着等部度家电力里如水化高自二理起小物现实加量都两体制机当使点从业\
    本去把性好应开它合还因由其些然前外天政四日那社义事平形相全表间样与关各重新线内数正心反你明看原又么利比或但质";

/// A generator of pair records.
#[derive(Debug)]
pub struct Corpus {
    state: u64,
    words: Vec<&'static str>,
    characters: Vec<char>,
    rows: Vec<(String, String)>,
}

impl Corpus {
    /// A generator with this seed.
    pub fn new(seed: u64) -> Self {
        Self {
            state: seed,
            words: ENGLISH.split_whitespace().collect(),
            characters: CHINESE.chars().filter(|c| !c.is_whitespace()).collect(),
            rows: Vec::new(),
        }
    }

    /// The next pair, (query, positive).
    pub fn pair(&mut self) -> (String, String) {
        let kind = self.below(100);
        let copy = if kind < 20 && !self.rows.is_empty() {
            let at = self.below(self.rows.len());
            Some(self.rows[at].clone())
        } else {
            None
        };
        let pair = match copy {
            Some(exact) if kind < 10 => exact,
            Some((query, positive)) => (query, self.nearly(&positive)),
            None if self.below(100) < 15 => (self.chinese(20), self.chinese(360)),
            None => (self.english(10), self.english(190)),
        };
        if self.rows.len() < 4096 {
            self.rows.push(pair.clone());
        }
        pair
    }

    /// `count` pairs as JSON lines in the FlagEmbedding shape.
    pub fn jsonl(&mut self, count: usize) -> String {
        let mut out = String::new();
        for _ in 0..count {
            let (query, positive) = self.pair();
            // The texts hold nothing that JSON would escape.
            let _ = writeln!(out, r#"{{"query": "{query}", "pos": ["{positive}"], "neg": []}}"#);
        }
        out
    }

    fn english(&mut self, words: usize) -> String {
        let count = words / 2 + self.below(words);
        let mut text = String::new();
        for number in 0..count {
            if number > 0 {
                text.push_str(if self.below(12) == 0 { ", " } else { " " });
            }
            let word = self.skewed(self.words.len());
            text.push_str(self.words[word]);
        }
        text.push('.');
        text
    }

    fn chinese(&mut self, characters: usize) -> String {
        let count = characters / 2 + self.below(characters);
        let mut text = String::new();
        for number in 0..count {
            if number > 0 && self.below(14) == 0 {
                text.push('，');
            }
            let character = self.skewed(self.characters.len());
            text.push(self.characters[character]);
        }
        text.push('。');
        text
    }

    /// The text with about three of a hundred words, or characters, changed.
    fn nearly(&mut self, text: &str) -> String {
        if text.is_ascii() {
            let mut words: Vec<&str> = text.split(' ').collect();
            for word in &mut words {
                if self.below(100) < 3 {
                    let other = self.skewed(self.words.len());
                    *word = self.words[other];
                }
            }
            words.join(" ")
        } else {
            let mut characters: Vec<char> = text.chars().collect();
            for character in &mut characters {
                if self.below(100) < 3 {
                    let other = self.skewed(self.characters.len());
                    *character = self.characters[other];
                }
            }
            characters.into_iter().collect()
        }
    }

    /// Low numbers come up more often, as frequent words do.
    fn skewed(&mut self, count: usize) -> usize {
        let (a, b) = (self.below(count), self.below(count));
        a.min(b)
    }

    fn below(&mut self, count: usize) -> usize {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) % count as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_corpus_is_what_it_says() {
        let text = Corpus::new(7).jsonl(4000);
        assert_eq!(text, Corpus::new(7).jsonl(4000));
        let lines: Vec<&str> = text.lines().collect();
        let mut unique = lines.clone();
        unique.sort_unstable();
        unique.dedup();
        let share = |count: usize| count as f64 / lines.len() as f64;
        assert!((0.07..0.13).contains(&share(lines.len() - unique.len())));
        assert!((0.12..0.18).contains(&share(lines.iter().filter(|line| !line.is_ascii()).count())));
        assert!((900..1500).contains(&(text.len() / lines.len())), "{}", text.len() / lines.len());
    }
}
