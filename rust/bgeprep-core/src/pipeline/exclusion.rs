//! Drops what benchmarks hold, right after cleaning.

use std::collections::BTreeMap;

use super::rejects::{Reject, Twin};
use crate::clean::CleanPair;
use crate::exclude::{Benchmarks, Checker, Hit, HitKind, Hits};
use crate::report::{Reason, RejectPart, Similarity, Tally};
use crate::shard::rejects::excerpt;
use crate::shard::reports::BenchmarkHits;
use crate::shuffle::RowId;

/// One thread's comparison with the benchmarks.
#[derive(Debug)]
pub(super) struct Exclusion<'a> {
    checker: Checker<'a>,
    /// Benchmark and kind of each hit since the last hand-over.
    hits: Vec<(u32, HitKind)>,
}

impl<'a> Exclusion<'a> {
    pub(super) fn new(benchmarks: &'a Benchmarks) -> Self {
        Self { checker: Checker::new(benchmarks), hits: Vec::new() }
    }

    /// Takes what has to go from a row; whether the row stays.
    pub(super) fn apply(
        &mut self,
        pair: &mut CleanPair,
        symmetric: bool,
        (slot, row): (u32, RowId),
        tally: &mut Tally,
        rejects: &mut Vec<Reject>,
    ) -> bool {
        let mut reject = |pair: &CleanPair, part: RejectPart, hit: Hit| {
            self.hits.push((hit.benchmark, hit.kind));
            tally.add(part, Reason::InBenchmark);
            let first = || pair.pos.first().or(pair.neg.first());
            let text = hit.positive.and_then(|item| pair.pos.get(item)).or_else(first);
            rejects.push(Reject {
                slot,
                row,
                part,
                item: if part == RejectPart::Row { 0 } else { hit.positive.unwrap_or_default() as u32 },
                reason: Reason::InBenchmark,
                detail: hit.detail,
                twin: Twin::Text { source: hit.name, file: hit.file, line: hit.line, id: hit.id },
                similarity: hit.similarity.map_or(Similarity::NONE, |jaccard| Similarity::of(jaccard as f32)),
                query: excerpt(&pair.query.text).to_owned(),
                text: text.map_or_else(String::new, |text| excerpt(&text.text).to_owned()),
            });
        };
        match self.checker.check(pair, symmetric) {
            Hits::None => true,
            Hits::Row(hit) => {
                reject(pair, RejectPart::Row, *hit);
                false
            }
            // A row whose last positive goes is named after the first.
            Hits::Positives(hits) if hits.len() == pair.pos.len() => {
                if let Some((_, hit)) = hits.into_iter().next() {
                    reject(pair, RejectPart::Row, hit);
                }
                false
            }
            Hits::Positives(hits) => {
                let gone: Vec<usize> = hits.iter().map(|&(item, _)| item).collect();
                for (_, hit) in hits {
                    reject(pair, RejectPart::Positive, hit);
                }
                let mut item = 0;
                pair.pos.retain(|_| {
                    item += 1;
                    !gone.contains(&(item - 1))
                });
                pair.has_pos_scores = pair.pos.iter().any(|text| !text.score.is_nan());
                true
            }
        }
    }

    /// Adds the hits since the last call, by benchmark.
    pub(super) fn hand_over(&mut self, benchmarks: &mut BTreeMap<u32, BenchmarkHits>) {
        for (benchmark, kind) in self.hits.drain(..) {
            kind.count(benchmarks.entry(benchmark).or_default());
        }
    }
}
