//! The rows of a pass that come next, with their keys.
//!
//! A pass visits rows in no order that memory would like: every key of a row is a miss of the
//! caches, and of the table of pages too. So the keys of many rows ahead are fetched together, in
//! the order in which they lie in the set, and put down in the order of the pass. What a window
//! holds is a small part of its source, so that memory hardly grows with the rows.

use super::order::{Order, PLACE_BITS};
use super::rows::{PlanRows, PlanSource, RowKeys};
use crate::Result;

/// The fewest rows of a window: beyond the first few thousand, memory is what they would cost.
const LEAST: u64 = 1 << 12;

/// One of so many rows of a source is in a window: about two bytes a row of the source, and a page
/// of keys still holds many rows of the window.
const SHARE: u64 = 32;

/// Keys of lists that a window holds, for each of its rows; rows beyond that are asked for singly.
const KEYS_A_ROW: usize = 8;

/// A row and its keys.
#[derive(Debug, Clone, Copy, Default)]
struct Record {
    row: u64,
    query: u64,
    query_exact: u64,
    /// Its only positive.
    pos: u64,
    pos_exact: u64,
    /// Where its lists begin; for a row with one positive there are none.
    lists: usize,
}

/// Its lists are empty but for one positive.
const ONE_POSITIVE: usize = usize::MAX;
/// Its lists are too long for the window.
const NOT_HERE: usize = usize::MAX - 1;

/// Some rows of a pass, the next one first.
#[derive(Debug, Clone, Default)]
pub(super) struct Window {
    next: usize,
    records: Vec<Record>,
    /// For each row with lists: how many positives and other positives, then their keys, exact keys and others' keys.
    lists: Vec<u64>,
}

impl Window {
    /// Forgets all rows, and gives the memory back.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// Whether no row is left.
    pub(super) fn is_spent(&self) -> bool {
        self.next == self.records.len()
    }

    /// Fetches rows from a place of the pass on, in place of those it has.
    pub(super) fn fill<R: PlanRows>(&mut self, rows: &R, source: &PlanSource, order: &Order, place: u64) -> Result<()> {
        let count = (source.rows / SHARE).clamp(LEAST, 1 << PLACE_BITS).min(source.rows - place);
        let mut fetched = order.sorted(place, count);
        self.next = 0;
        self.lists.clear();
        self.records.clear();
        self.records.resize(count as usize, Record::default());
        let most = count as usize * KEYS_A_ROW;
        let (records, lists) = (&mut self.records, &mut self.lists);
        let mut places = Vec::with_capacity(fetched.len());
        for entry in &mut fetched {
            places.push((*entry & ((1 << PLACE_BITS) - 1)) as u32);
            *entry = source.first + (*entry >> PLACE_BITS);
        }
        let visited = rows.visit(&fetched, |at, keys| {
            let lists = match (keys.pos, keys.also_pos) {
                ([_], []) => ONE_POSITIVE,
                _ if lists.len() + 1 + 2 * keys.pos.len() + keys.also_pos.len() > most => NOT_HERE,
                (pos, also_pos) => {
                    lists.push((pos.len() as u64) << 32 | also_pos.len() as u64);
                    for keys in [pos, keys.pos_exact, also_pos] {
                        lists.extend_from_slice(keys);
                    }
                    lists.len() - 1 - 2 * pos.len() - also_pos.len()
                }
            };
            let first = |keys: &[u64]| keys.first().copied().unwrap_or(0);
            records[places[at] as usize] = Record {
                row: fetched[at] - source.first,
                query: keys.query,
                query_exact: keys.query_exact,
                pos: first(keys.pos),
                pos_exact: first(keys.pos_exact),
                lists,
            };
        });
        if visited.is_err() {
            // Of some rows nothing is known.
            self.clear();
        }
        visited
    }

    /// The next row, counted from the source's first, and its keys where they are here.
    pub(super) fn next(&mut self) -> Option<(u64, Option<RowKeys<'_>>)> {
        let record = self.records.get(self.next)?;
        self.next += 1;
        let (query, query_exact) = (record.query, record.query_exact);
        let of = |pos, pos_exact, also_pos| RowKeys { query, pos, also_pos, query_exact, pos_exact };
        let keys = match record.lists {
            NOT_HERE => None,
            ONE_POSITIVE => Some(of(std::slice::from_ref(&record.pos), std::slice::from_ref(&record.pos_exact), &[])),
            start => {
                let (pos, also) = ((self.lists[start] >> 32) as usize, self.lists[start] as u32 as usize);
                let (pos_keys, rest) = self.lists[start + 1..start + 1 + 2 * pos + also].split_at(pos);
                let (pos_exact, also_pos) = rest.split_at(pos);
                Some(of(pos_keys, pos_exact, also_pos))
            }
        };
        Some((record.row, keys))
    }
}
