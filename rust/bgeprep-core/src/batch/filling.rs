//! A batch being filled: the rows so far, by source, and the keys that keep others out.

use super::conflict::{KeyTable, Rules};
use super::options::{NegativeChoice, Resolved};
use super::pass::SourcePass;
use super::permute::{Stream, Use, seed_of};
use super::rows::{PlanRows, RowKeys};
use crate::Result;

/// Rows whose negatives are fetched together.
const AHEAD: usize = 64;

/// The rows of a batch with the documents chosen for them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chosen {
    /// Row ids, in the order they were placed.
    pub rows: Vec<u64>,
    /// For each row, the place of its positive in its list.
    pub positives: Vec<u32>,
    /// The places of all chosen negatives in their rows' lists, row after row.
    pub negatives: Vec<u32>,
    /// Row `i` owns `negatives[offsets[i]..offsets[i + 1]]`.
    pub negative_offsets: Vec<u32>,
}

impl Chosen {
    /// The negatives chosen for the row at a place of the batch.
    pub fn negatives_of(&self, place: usize) -> &[u32] {
        &self.negatives[self.negative_offsets[place] as usize..self.negative_offsets[place + 1] as usize]
    }
}

/// Rows that one source gave, up to a place of the batch.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Segment {
    pub(crate) source: usize,
    pub(crate) end: usize,
}

/// A batch being filled.
#[derive(Debug, Clone, Default)]
pub(crate) struct Filling {
    rules: Rules,
    table: KeyTable,
    chosen: Chosen,
    segments: Vec<Segment>,
}

impl Filling {
    /// Empties the batch; `rules` hold for its rows.
    pub(crate) fn clear(&mut self, rules: Rules) {
        self.rules = rules;
        self.table.clear();
        self.chosen = Chosen::default();
        self.segments.clear();
    }

    /// Rows so far.
    pub(crate) fn len(&self) -> usize {
        self.chosen.rows.len()
    }

    /// The rows that follow come from this source.
    pub(crate) fn begin(&mut self, source: usize) {
        if self.segments.last().is_none_or(|last| last.source != source) {
            self.segments.push(Segment { source, end: self.len() });
        }
    }

    /// Takes a row in, or names the key that keeps it out.
    pub(crate) fn offer(&mut self, id: u64, keys: &RowKeys<'_>, positive: u32) -> Option<u64> {
        let blocked = self.table.admit(self.rules, keys, positive as usize);
        if blocked.is_none() {
            self.chosen.rows.push(id);
            self.chosen.positives.push(positive);
            if let Some(segment) = self.segments.last_mut() {
                segment.end = self.chosen.rows.len();
            }
        }
        blocked
    }

    /// Who gave which rows: source and range of places, without empty ranges.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (usize, std::ops::Range<usize>)> + '_ {
        let starts = std::iter::once(0).chain(self.segments.iter().map(|segment| segment.end));
        let parts = self.segments.iter().zip(starts).map(|(segment, start)| (segment.source, start..segment.end));
        parts.filter(|(_, places)| !places.is_empty())
    }

    /// The rows at some places.
    pub(crate) fn rows_at(&self, places: std::ops::Range<usize>) -> &[u64] {
        &self.chosen.rows[places]
    }

    /// The source of all rows; None where there are several.
    pub(crate) fn only_source(&self) -> Option<usize> {
        let mut sources = self.parts().map(|(source, _)| source);
        let first = sources.next()?;
        sources.all(|source| source == first).then_some(first)
    }

    /// Chooses up to `wanted` negatives a row, around everything that is in the batch, and counts what became of them.
    pub(crate) fn choose_negatives<R: PlanRows>(
        &mut self,
        rows: &R,
        options: &Resolved,
        wanted: u32,
        sources: &mut [SourcePass],
    ) -> Result<Chosen> {
        let mut chosen = std::mem::take(&mut self.chosen);
        chosen.negative_offsets.reserve(chosen.rows.len() + 1);
        chosen.negative_offsets.push(0);
        for (source, places) in self.parts().collect::<Vec<_>>() {
            let pass = &mut sources[source];
            for (at, id) in chosen.rows[places.clone()].iter().enumerate() {
                if wanted > 0 {
                    if at % AHEAD == 0 {
                        let start = places.start + at;
                        rows.warm(&chosen.rows[start..places.end.min(start + AHEAD)]);
                    }
                    let (keys, negatives) = (rows.keys(*id)?, rows.negatives(*id)?);
                    let sampled = (options.negative_choice == NegativeChoice::Sample)
                        .then(|| Stream::new(seed_of(Use::Negatives, &[options.seed, pass.pass, *id])));
                    let counts = self.table.choose_negatives(
                        self.rules,
                        &keys,
                        negatives,
                        wanted as usize,
                        sampled,
                        &mut chosen.negatives,
                    );
                    pass.counts.negatives_swapped += counts.swapped;
                    pass.counts.negatives_left_out += counts.left_out;
                }
                chosen.negative_offsets.push(chosen.negatives.len() as u32);
            }
        }
        Ok(chosen)
    }
}
