//! The rows of a pass that come next, with their keys.
//!
//! A pass visits rows in no order that memory would like: every key of a row is a miss of the
//! caches, and of the table of pages too. So the keys of many rows ahead are fetched together, in
//! the order in which they lie in the set, and put down in the order of the pass. What a window
//! holds is a small part of its source, so that memory hardly grows with the rows.

use std::ops::Range;

use super::order::{Order, PLACE_BITS, threads_for};
use super::rows::{PlanRows, PlanSource, RowKeys};
use crate::{Error, Result};

/// The fewest rows of a window: beyond the first few thousand, memory is what they would cost.
const LEAST: u64 = 1 << 12;

/// One of so many rows of a source is in a window: some three bytes a row of the source, and a page
/// of keys still holds many rows of the window.
const SHARE: u64 = 16;

/// Rows of a window below which a second thread would cost more than it saves: where all cores are busy, it begins
/// milliseconds late.
const ROWS_A_THREAD: u64 = 1 << 15;

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
    /// Each was fetched by a thread of its own.
    parts: Vec<Part>,
    /// Parts before this one are spent.
    part: usize,
}

/// Rows of a pass that follow each other.
#[derive(Debug, Clone, Default)]
struct Part {
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
        self.parts[self.part.min(self.parts.len())..].iter().all(Part::is_spent)
    }

    /// Fetches rows from a place of the pass on, in place of those it has.
    pub(super) fn fill<R: PlanRows>(&mut self, rows: &R, source: &PlanSource, order: &Order, place: u64) -> Result<()> {
        let count = (source.rows / SHARE).clamp(LEAST, 1 << PLACE_BITS).min(source.rows - place);
        self.fetch(rows, source, order, place..place + count, threads_for(count, ROWS_A_THREAD))
    }

    fn fetch<R: PlanRows>(
        &mut self,
        rows: &R,
        source: &PlanSource,
        order: &Order,
        places: Range<u64>,
        threads: u64,
    ) -> Result<()> {
        let bound = |part: u64| places.start + (places.end - places.start) * part / threads;
        self.part = 0;
        self.parts.resize_with(threads as usize, Part::default);
        let mut parts = self.parts.iter_mut().zip(0..).map(|(part, number)| (part, bound(number)..bound(number + 1)));
        let fill = |(part, places): (&mut Part, Range<u64>)| part.fill(rows, source, order, places);
        // This thread takes the first part.
        let own = parts.next();
        let filled: Result<()> = std::thread::scope(|scope| {
            let fill = &fill;
            let others: Vec<_> = parts.map(|part| scope.spawn(move || fill(part))).collect();
            let failed = |_| Err(Error::Internal("a thread that reads keys panicked".into()));
            let mut all = vec![own.map_or(Ok(()), fill)];
            all.extend(others.into_iter().map(|thread| thread.join().unwrap_or_else(failed)));
            all.into_iter().collect()
        });
        if filled.is_err() {
            // Of some rows nothing is known.
            self.clear();
        }
        filled
    }

    /// The next row, counted from the source's first, and its keys where they are here.
    pub(super) fn next(&mut self) -> Option<(u64, Option<RowKeys<'_>>)> {
        while self.parts.get(self.part)?.is_spent() {
            self.part += 1;
        }
        self.parts.get_mut(self.part)?.next()
    }
}

impl Part {
    fn is_spent(&self) -> bool {
        self.next == self.records.len()
    }

    fn fill<R: PlanRows>(&mut self, rows: &R, source: &PlanSource, order: &Order, places: Range<u64>) -> Result<()> {
        let count = places.end - places.start;
        let mut fetched = order.sorted(places.start, count);
        self.next = 0;
        self.lists.clear();
        self.records.clear();
        self.records.resize(count as usize, Record::default());
        let most = count as usize * KEYS_A_ROW;
        let (records, lists) = (&mut self.records, &mut self.lists);
        let mut place_of = Vec::with_capacity(fetched.len());
        for entry in &mut fetched {
            place_of.push((*entry & ((1 << PLACE_BITS) - 1)) as u32);
            *entry = source.first + (*entry >> PLACE_BITS);
        }
        rows.visit(&fetched, |at, keys| {
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
            records[place_of[at] as usize] = Record {
                row: fetched[at] - source.first,
                query: keys.query,
                query_exact: keys.query_exact,
                pos: first(keys.pos),
                pos_exact: first(keys.pos_exact),
                lists,
            };
        })
    }

    fn next(&mut self) -> Option<(u64, Option<RowKeys<'_>>)> {
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

#[cfg(test)]
mod tests {
    use super::super::permute::Permutation;
    use super::super::rows::NegativeKeys;
    use super::*;
    use crate::pair::Task;

    /// Row `r` has `r % 3` more positives than one, and as many that others know; every hundredth has a great many.
    struct Counted(Vec<Vec<u64>>);

    impl PlanRows for Counted {
        fn sources(&self) -> &[PlanSource] {
            &[]
        }

        fn set_hash(&self) -> &'static str {
            "counted"
        }

        fn keys(&self, row: u64) -> Result<RowKeys<'_>> {
            let keys = self.0.get(row as usize).ok_or_else(|| Error::Internal(format!("no row {row}")))?;
            let third = keys.len() / 3;
            let (pos, also_pos) = (&keys[..=third], &keys[third + 1..third + 1 + third]);
            Ok(RowKeys { query: row, pos, also_pos, query_exact: row + 1, pos_exact: &keys[third..=2 * third] })
        }

        fn negatives(&self, _row: u64) -> Result<NegativeKeys<'_>> {
            Ok(NegativeKeys { keys: &[], exact: &[] })
        }

        fn bytes(&self, _row: u64, _positive: u32, _negatives: &[u32]) -> Result<u64> {
            Ok(0)
        }
    }

    fn counted(rows: u64) -> Counted {
        let keys = |row: u64| if row.is_multiple_of(100) { 3_000 } else { 1 + row % 3 * 3 };
        Counted((0..rows).map(|row| (0..keys(row)).map(|item| row * 10_000 + item).collect()).collect())
    }

    fn source(first: u64, rows: u64) -> PlanSource {
        let (name, group) = ("counted".to_owned(), String::new());
        PlanSource { name, task: Task::Retrieval, weight: None, group, first, rows }
    }

    #[test]
    fn rows_come_in_the_order_of_the_pass_with_their_own_keys() {
        let (first, rows) = (7, 20_000);
        let (set, source) = (counted(first + rows), source(first, rows));
        let permutation = Permutation::new(rows, 5);
        let listed = (0..rows).map(|place| permutation.at(place) as u32).collect();
        for order in [Order::Permuted(permutation.clone()), Order::Listed(listed)] {
            let (mut window, mut missing, mut threads) = (Window::default(), 0, 0);
            for place in 0..rows {
                if window.is_spent() {
                    threads += 1;
                    window.fetch(&set, &source, &order, place..rows.min(place + 5_000), threads).unwrap();
                }
                let (row, keys) = window.next().unwrap();
                assert_eq!(row, permutation.at(place));
                let expected = set.keys(first + row).unwrap();
                match keys {
                    Some(keys) => assert_eq!(format!("{keys:?}"), format!("{expected:?}")),
                    None => missing += 1,
                }
            }
            assert!(window.is_spent() && window.next().is_none());
            assert!((1..rows).contains(&missing), "{missing}");
        }
    }

    #[test]
    fn what_could_not_be_read_leaves_nothing_behind() {
        let (set, source) = (counted(100), source(0, 9_000));
        let mut window = Window::default();
        assert!(window.fill(&set, &source, &Order::Permuted(Permutation::new(9_000, 5)), 0).is_err());
        assert!(window.is_spent() && window.next().is_none());
    }
}
