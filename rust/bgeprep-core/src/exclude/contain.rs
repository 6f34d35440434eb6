//! Long benchmark texts within texts of rows.
//!
//! 1. A text counts as long from 13 words (GPT-3's overlap) or 25 CJK characters on.
//! 2. It is filed under one of its 5-grams of tokens, the rarest among the benchmarks.
//! 3. A row's text is asked for each of its own 5-grams; a text found under one is looked for token
//!    by token.

use super::texts::Texts;
use crate::Result;
use crate::near::prefix::{Counters, Postings};
use crate::near::shingle::{Rule, Shingler, is_alone, tokens};
use crate::progress::Progress;

/// Fewest words, and fewest CJK characters, of a text that is looked for in others.
const LONG: (usize, usize) = (13, 25);

/// Marks the number of a passage.
const PASSAGE: u32 = 1 << 31;

/// Long texts by a 5-gram.
#[derive(Debug, Default)]
pub(super) struct Containment {
    counters: Counters,
    anchors: Postings,
}

/// Which text was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Held {
    /// A query.
    Query(u32),
    /// A judged passage.
    Passage(u32),
}

impl Containment {
    /// Files the long ones of all queries and of the judged passages.
    pub(super) fn build(queries: &Texts, passages: &Texts, judged: &[(u32, u32)], progress: &Progress) -> Result<Self> {
        let mut of_judged: Vec<u32> = judged.iter().map(|&(_, passage)| passage).collect();
        of_judged.sort_unstable();
        of_judged.dedup();
        let numbers = (0..queries.len() as u32).chain(of_judged.into_iter().map(|number| number | PASSAGE));
        let text =
            |number: u32| if number & PASSAGE == 0 { queries.get(number) } else { passages.get(number & !PASSAGE) };
        let long: Vec<u32> = numbers.filter(|&number| is_long(text(number))).collect();
        let mut shingler = Shingler::default();
        let total = long.iter().map(|&number| shingler.shingles(text(number), Rule::Passage).len()).sum();
        let mut counters = Counters::new(total);
        for &number in &long {
            progress.check()?;
            shingler.set(text(number), Rule::Passage).into_iter().for_each(|shingle| counters.add(shingle));
        }
        let anchor = |number: u32| {
            let places = shingler.shingles(text(number), Rule::Passage).iter().map(|&shingle| counters.place(shingle));
            places.min().map(|(_, shingle)| (shingle, number))
        };
        let anchors: Vec<(u64, u32)> = long.into_iter().filter_map(anchor).collect();
        // Every 5-gram of every row is asked for: the counts of these few stay in the processor's cache.
        let mut counters = Counters::new(anchors.len());
        for &(shingle, _) in &anchors {
            counters.add(shingle);
        }
        Ok(Self { counters, anchors: Postings::new(anchors) })
    }

    /// Whether there is nothing to look for.
    pub(super) fn is_empty(&self) -> bool {
        self.anchors.is_empty()
    }

    /// The first text that stands in `normal`, queries before passages.
    pub(super) fn find(
        &self,
        (queries, passages): (&Texts, &Texts),
        normal: &str,
        shingler: &mut Shingler,
    ) -> Option<Held> {
        if self.is_empty() {
            return None;
        }
        let mut candidates = Vec::new();
        for &shingle in shingler.shingles(normal, Rule::Passage) {
            if self.counters.place(shingle).0 > 0 {
                candidates.extend_from_slice(self.anchors.get(shingle));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        if candidates.is_empty() {
            return None;
        }
        let hay = split(normal);
        candidates.into_iter().find_map(|number| {
            let (held, text) = if number & PASSAGE == 0 {
                (Held::Query(number), queries.get(number))
            } else {
                (Held::Passage(number & !PASSAGE), passages.get(number & !PASSAGE))
            };
            let needle = split(text);
            hay.windows(needle.len()).any(|window| window == needle).then_some(held)
        })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.counters.bytes() + self.anchors.bytes()
    }
}

fn split(normal: &str) -> Vec<&str> {
    let mut found = Vec::new();
    tokens(normal, |token| found.push(token));
    found
}

/// Whether a text has enough words, or enough CJK characters, to be looked for in others.
fn is_long(normal: &str) -> bool {
    let (mut words, mut characters) = (0, 0);
    tokens(normal, |token| if is_alone(token) { characters += 1 } else { words += 1 });
    words >= LONG.0 || characters >= LONG.1
}
