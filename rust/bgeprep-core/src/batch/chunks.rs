//! Texts of unequal length → a few padded rectangles that waste little.
//!
//! Texts are sorted by length and cut by a budget of tokens, padding included, so that a rectangle
//! holds texts of nearly one length. The rule is that of `bgetrain.padding.length_sorted_chunks`;
//! a test holds the two together.

use std::cmp::Reverse;
use std::ops::Range;

use super::collate::RowArrays;
use crate::{Error, Result};

/// In which form texts are handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Flat ids with offsets, no padding.
    Packed,
    /// Padded rectangles beside the flat ids.
    Padded {
        /// Most tokens of a rectangle, padding included; a longer text is one of its own.
        max_tokens: usize,
        /// The width of a rectangle is a multiple of this.
        pad_multiple_of: usize,
        /// Fills what is behind the end of a text.
        pad_id: i32,
    },
}

impl Layout {
    pub(crate) fn check(self) -> Result<()> {
        let Self::Padded { max_tokens, pad_multiple_of, .. } = self else { return Ok(()) };
        for (key, count) in [("max_tokens", max_tokens), ("pad_multiple_of", pad_multiple_of)] {
            if count == 0 {
                return Err(Error::config(format!("batch.{key}"), "expected at least 1, found 0"));
            }
        }
        Ok(())
    }
}

/// One padded rectangle: `rows.len()` texts, each `width` ids.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chunk {
    /// Places of the texts in the batch, longest text first.
    pub rows: Vec<i64>,
    /// Ids, text after text, each padded to `width`.
    pub input_ids: Vec<i32>,
    /// Tokens of each text.
    pub lengths: Vec<i32>,
    /// Ids a text, padding included.
    pub width: usize,
}

/// The rectangles of a batch, longest texts first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chunks {
    /// Of the queries.
    pub queries: Vec<Chunk>,
    /// Of the documents.
    pub documents: Vec<Chunk>,
}

/// What padding costs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenCounts {
    /// Tokens of all texts.
    pub tokens: u64,
    /// Tokens handed out, padding included.
    pub padded_tokens: u64,
    /// The same, had all queries of a batch been one rectangle and all its documents another.
    pub unsorted_padded_tokens: u64,
}

impl std::ops::AddAssign for TokenCounts {
    fn add_assign(&mut self, other: Self) {
        self.tokens += other.tokens;
        self.padded_tokens += other.padded_tokens;
        self.unsorted_padded_tokens += other.unsorted_padded_tokens;
    }
}

/// The rectangles of a batch, none where the layout is packed, and what they cost.
pub(crate) fn lay_out(arrays: &RowArrays, layout: Layout) -> (Option<Chunks>, TokenCounts) {
    let mut counts = TokenCounts::default();
    for offsets in [&arrays.query_offsets, &arrays.doc_offsets] {
        let longest = offsets.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        counts.tokens += offsets.last().copied().unwrap_or(0) as u64;
        counts.unsorted_padded_tokens += longest as u64 * (offsets.len() as u64 - 1);
    }
    let Layout::Padded { max_tokens, pad_multiple_of, pad_id } = layout else {
        counts.padded_tokens = counts.tokens;
        return (None, counts);
    };
    let fill = |ids: &[i32], offsets: &[i64]| rectangles(ids, offsets, max_tokens, pad_multiple_of, pad_id);
    let chunks = Chunks {
        queries: fill(&arrays.query_ids, &arrays.query_offsets),
        documents: fill(&arrays.doc_ids, &arrays.doc_offsets),
    };
    counts.padded_tokens =
        chunks.queries.iter().chain(&chunks.documents).map(|chunk| chunk.input_ids.len() as u64).sum();
    (Some(chunks), counts)
}

fn rectangles(ids: &[i32], offsets: &[i64], max_tokens: usize, multiple: usize, pad_id: i32) -> Vec<Chunk> {
    let lengths: Vec<usize> = offsets.windows(2).map(|pair| (pair[1] - pair[0]) as usize).collect();
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    // Stable: texts of one length keep their order.
    order.sort_by_key(|text| Reverse(lengths[*text]));
    let sorted: Vec<usize> = order.iter().map(|text| lengths[*text]).collect();
    let ranges = length_sorted_ranges(&sorted, max_tokens, multiple).into_iter();
    ranges
        .map(|range| {
            let width = sorted[range.start].next_multiple_of(multiple);
            let mut input_ids = Vec::with_capacity(width * range.len());
            for (place, text) in order[range.clone()].iter().enumerate() {
                input_ids.extend_from_slice(&ids[offsets[*text] as usize..offsets[*text + 1] as usize]);
                input_ids.resize((place + 1) * width, pad_id);
            }
            Chunk {
                rows: order[range.clone()].iter().map(|text| *text as i64).collect(),
                input_ids,
                lengths: sorted[range].iter().map(|length| *length as i32).collect(),
                width,
            }
        })
        .collect()
}

/// Cuts falling lengths into runs of at most `max_tokens`, padding included, but one text at least. A
/// run of an eighth of that also ends where texts get shorter than three quarters of its longest, so
/// that a few long texts do not share a rectangle with many short ones.
fn length_sorted_ranges(sorted: &[usize], max_tokens: usize, multiple: usize) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    let mut start = 0;
    while start < sorted.len() {
        let longest = sorted[start].max(1);
        let width = longest.next_multiple_of(multiple);
        let rest = &sorted[start..];
        let alike = rest.partition_point(|length| 4 * length >= 3 * longest);
        let rows = (max_tokens / width).max(1).min(alike.max(max_tokens / 8 / width).max(1)).min(rest.len());
        ranges.push(start..start + rows);
        start += rows;
    }
    ranges
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_text_stands_once_in_a_rectangle_that_fits(
            lengths in prop::collection::vec(0_usize..80, 0..120), max_tokens in 1_usize..600, multiple in 1_usize..9,
        ) {
            let mut offsets = vec![0_i64];
            let mut ids = Vec::new();
            for length in &lengths {
                let next = ids.len() as i32;
                ids.extend(next..next + *length as i32);
                offsets.push(ids.len() as i64);
            }
            let chunks = rectangles(&ids, &offsets, max_tokens, multiple, -1);
            let places: Vec<usize> = chunks.iter().flat_map(|chunk| &chunk.rows).map(|row| *row as usize).collect();
            let mut expected: Vec<usize> = (0..lengths.len()).collect();
            expected.sort_by_key(|text| Reverse(lengths[*text]));
            prop_assert_eq!(places, expected);
            for chunk in &chunks {
                prop_assert_eq!(chunk.input_ids.len(), chunk.width * chunk.rows.len());
                prop_assert!(chunk.input_ids.len() <= max_tokens || chunk.rows.len() == 1);
                prop_assert!(chunk.width.is_multiple_of(multiple) && chunk.width < chunk.lengths[0] as usize + multiple);
                for (place, (row, length)) in chunk.rows.iter().zip(&chunk.lengths).enumerate() {
                    let own = &chunk.input_ids[place * chunk.width..(place + 1) * chunk.width];
                    let (text, rest) = own.split_at(*length as usize);
                    prop_assert_eq!(text, &ids[offsets[*row as usize] as usize..offsets[*row as usize + 1] as usize]);
                    prop_assert!(rest.iter().all(|id| *id == -1));
                }
            }
        }
    }

    #[test]
    fn a_rectangle_ends_where_texts_get_much_shorter() {
        // The budget takes 16 texts of 64; an eighth of it is 2, and only 3 are alike.
        let ranges = length_sorted_ranges(&[64, 60, 48, 47, 10, 10], 1024, 1);
        assert_eq!(ranges, [0..3, 3..5, 5..6]);
        assert_eq!(length_sorted_ranges(&[9, 9, 9], 8, 1), [0..1, 1..2, 2..3]);
        assert_eq!(length_sorted_ranges(&[5, 5, 5], 16, 8), [0..2, 2..3]);
    }

    #[test]
    fn counts_tell_what_padding_costs() {
        let arrays = RowArrays {
            query_ids: vec![7; 6],
            query_offsets: vec![0, 2, 6],
            doc_ids: vec![7; 40],
            doc_offsets: vec![0, 10, 12, 40],
            ..RowArrays::default()
        };
        let (chunks, counts) = lay_out(&arrays, Layout::Packed);
        assert!(chunks.is_none());
        assert_eq!(counts, TokenCounts { tokens: 46, padded_tokens: 46, unsorted_padded_tokens: 8 + 84 });
        let layout = Layout::Padded { max_tokens: 30, pad_multiple_of: 1, pad_id: 0 };
        let (chunks, counts) = lay_out(&arrays, layout);
        let rows: Vec<Vec<i64>> = chunks.unwrap().documents.into_iter().map(|chunk| chunk.rows).collect();
        assert_eq!(rows, [vec![2], vec![0], vec![1]]);
        assert_eq!(counts.padded_tokens, 4 + 2 + 28 + 10 + 2);
    }
}
