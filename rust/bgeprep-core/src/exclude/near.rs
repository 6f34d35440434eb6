//! All texts of a set that are near a given one: a set similarity join by prefixes (Chaudhuri,
//! Ganti, Kaushik, ICDE 2006; Bayardo, Ma, Srikant, WWW 2007), which misses none.
//!
//! 1. Two sets with a Jaccard similarity of at least t share at least ⌈t·n⌉ shingles, n being the
//!    size of either. So in any order of shingles, the first n − ⌈t·n⌉ + 1 of the one and those of
//!    the other have one in common.
//! 2. Rare shingles first makes most of these prefixes unknown to the benchmark: the usual text is
//!    done after a few counters, a likely one meets a few candidates.
//! 3. A candidate of fitting size is taken apart again and its similarity computed.

use super::postings::{Counters, Postings};
use super::texts::Texts;
use crate::Result;
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

/// More than what a product of a threshold and a size is rounded by.
const ROUNDING: f64 = 1e-6;

/// How many of `size` shingles must hold one that a near text has among its first; 0 for no shingles.
fn prefix(size: usize, threshold: f64) -> usize {
    if size == 0 {
        return 0;
    }
    let common = (threshold * size as f64 - ROUNDING).ceil() as usize;
    size + 1 - common.clamp(1, size)
}

/// The prefix of a set in the order of places.
fn first(order: &mut [(u16, u64)], threshold: f64) -> &[(u16, u64)] {
    let length = prefix(order.len(), threshold);
    if 0 < length && length < order.len() {
        order.select_nth_unstable(length - 1);
    }
    &order[..length]
}
