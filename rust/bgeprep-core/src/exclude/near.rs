//! All texts of a set that are near a given one, by prefixes ([`crate::near::prefix`]), which miss none.
//!
//! 1. Rare shingles first makes most prefixes unknown to the benchmark: the usual text is done after
//!    a few counters, a likely one meets a few candidates.
//! 2. A candidate of fitting size is taken apart again and its similarity computed.

use super::texts::Texts;
use crate::Result;
use crate::near::prefix::{Counters, Postings, ROUNDING, first, prefix};
use crate::near::shingle::{Rule, Shingler, jaccard};
use crate::progress::Progress;

/// Texts of a set by the first of their shingles.
#[derive(Debug)]
pub(super) struct NearIndex {
    rule: Rule,
    threshold: f64,
    counters: Counters,
    prefixes: Postings,
    /// Shingles of each text.
    sizes: Vec<u32>,
}

/// Space that a search needs; one for each thread.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    shingler: Shingler,
    set: Vec<u64>,
    order: Vec<(u16, u64)>,
    candidates: Vec<u32>,
}

impl Scratch {
    /// Takes texts apart.
    pub(super) fn shingler(&mut self) -> &mut Shingler {
        &mut self.shingler
    }
}

impl NearIndex {
    /// Indexes texts by the shingles of `rule`.
    pub(super) fn build(texts: &Texts, rule: Rule, threshold: f64, progress: &Progress) -> Result<Self> {
        let mut shingler = Shingler::default();
        let mut sizes = Vec::with_capacity(texts.len());
        for number in 0..texts.len() as u32 {
            progress.check()?;
            sizes.push(shingler.set(texts.get(number), rule).len() as u32);
        }
        let mut counters = Counters::new(sizes.iter().map(|&size| size as usize).sum());
        for number in 0..texts.len() as u32 {
            progress.check()?;
            shingler.set(texts.get(number), rule).into_iter().for_each(|shingle| counters.add(shingle));
        }
        let mut pairs = Vec::new();
        let mut order = Vec::new();
        for number in 0..texts.len() as u32 {
            progress.check()?;
            order.clear();
            order.extend(shingler.set(texts.get(number), rule).into_iter().map(|shingle| counters.place(shingle)));
            pairs.extend(first(&mut order, threshold).iter().map(|&(_, shingle)| (shingle, number)));
        }
        Ok(Self { rule, threshold, counters, prefixes: Postings::new(pairs), sizes })
    }

    /// Appends (similarity, number) of every near text, numbers ascending.
    pub(super) fn find(&self, texts: &Texts, normal: &str, scratch: &mut Scratch, found: &mut Vec<(f64, u32)>) {
        if self.prefixes.is_empty() {
            return;
        }
        let Scratch { shingler, set, order, candidates } = scratch;
        set.clear();
        set.extend_from_slice(shingler.shingles(normal, self.rule));
        set.sort_unstable();
        set.dedup();
        order.clear();
        order.extend(set.iter().map(|&shingle| self.counters.place(shingle)));
        let unknown = order.iter().filter(|(count, _)| *count == 0).count();
        if unknown >= prefix(set.len(), self.threshold) {
            return;
        }
        candidates.clear();
        for &(count, shingle) in first(order, self.threshold) {
            if count > 0 {
                candidates.extend_from_slice(self.prefixes.get(shingle));
            }
        }
        candidates.sort_unstable();
        candidates.dedup();
        let size = set.len() as f64;
        for &number in candidates.iter() {
            let other = f64::from(self.sizes[number as usize]);
            if size.min(other) < self.threshold * size.max(other) - ROUNDING {
                continue;
            }
            let similarity = jaccard(set, &shingler.set(texts.get(number), self.rule));
            if similarity >= self.threshold {
                found.push((similarity, number));
            }
        }
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        self.counters.bytes() + self.prefixes.bytes() + self.sizes.len() as u64 * 4
    }
}
