//! The order of a pass over a source.
//!
//! A keyed permutation puts the rows into an order that needs no memory. Rows that share a key with
//! others would pile up towards its end, where too few different ones are left for a batch. So they
//! are spaced over the pass beforehand: the `k` rows of a key stand `rows / k` places apart, and the
//! permutation fills the places between them.
//!
//! Where a pass is drawn within clusters, the order is made of runs of one batch each: rows of one
//! cluster, or of as few as it takes.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::{Arc, LazyLock, OnceLock};

use super::bits::Bits;
use super::clusters::Clusters;
use super::permute::{Permutation, Stream, Use, fraction, seed_of};
use super::rows::{PlanRows, PlanSource};
use crate::{Error, Result};

/// What the orders of a source's passes have in common. Made when the first row is asked for.
#[derive(Debug, Default)]
pub(crate) struct Layout {
    /// Rows of a batch: rows of one key in a pass of one batch cannot be spaced.
    batch_size: u64,
    clusters: Option<Arc<Clusters>>,
    groups: OnceLock<Groups>,
}

/// The rows of one pass, by their place in it.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// No row shares a key with another.
    Permuted(Permutation),
    /// Rows that share keys have places of their own.
    Spaced(Spaced),
    /// Rows one by one.
    Listed(Vec<u32>),
}

impl Layout {
    pub(crate) fn new(batch_size: u64, clusters: Option<Arc<Clusters>>) -> Self {
        Self { batch_size, clusters, groups: OnceLock::new() }
    }

    /// The order of a pass; `coordinates` are seed, pass and source.
    pub(crate) fn order<R: PlanRows>(&self, rows: &R, source: &PlanSource, coordinates: &[u64]) -> Result<Order> {
        let key = seed_of(Use::Order, coordinates);
        if let Some(clusters) = self.clusters.as_ref().filter(|_| Groups::fit(source)) {
            return Ok(Order::Listed(clusters.order(source, self.batch_size as usize, key)));
        }
        let groups = self.groups(rows, source)?;
        Ok(if groups.rows.is_empty() || source.rows <= self.batch_size {
            Order::Permuted(Permutation::new(source.rows, key))
        } else {
            Order::Spaced(Spaced::new(groups, source.rows, key))
        })
    }

    /// How many batches a pass takes, about: more than its rows alone would need where too few of them go together.
    pub(crate) fn turns<R: PlanRows>(&self, rows: &R, source: &PlanSource) -> Result<u64> {
        let whole = source.rows.div_ceil(self.batch_size);
        let groups = self.groups(rows, source)?;
        let together = source.rows - groups.rows.len() as u64 + groups.starts.len().saturating_sub(1) as u64;
        Ok(if together < self.batch_size { whole.max(groups.largest) } else { whole })
    }

    fn groups<R: PlanRows>(&self, rows: &R, source: &PlanSource) -> Result<&Groups> {
        if let Some(groups) = self.groups.get() {
            return Ok(groups);
        }
        let found = if Groups::fit(source) { Groups::find(rows, source)? } else { Groups::default() };
        Ok(self.groups.get_or_init(|| found))
    }
}

/// Bits of a place among rows that are asked for together.
pub(super) const PLACE_BITS: u32 = 18;

/// A row, and its place among the rows asked for.
fn entry(row: u64, place: usize) -> u64 {
    row << PLACE_BITS | place as u64
}

impl Order {
    /// The rows of `count` places from `first` on, counted from the source's first row: `row << PLACE_BITS | place`,
    /// where `place` is counted from `first`. They come in rising order, or in two runs of which each rises.
    pub(super) fn sorted(&self, first: u64, count: u64) -> Vec<u64> {
        debug_assert!(count <= 1 << PLACE_BITS);
        let mut rows = vec![0; count as usize];
        match self {
            Self::Permuted(permutation) => permutation.fill(first, &mut rows),
            Self::Spaced(spaced) => return spaced.sorted(first, rows),
            Self::Listed(list) => {
                let listed = &list[first as usize..(first + count) as usize];
                rows.iter_mut().zip(listed).for_each(|(row, listed)| *row = u64::from(*listed));
            }
        }
        for (place, row) in rows.iter_mut().enumerate() {
            *row = entry(*row, place);
        }
        rows.sort_unstable();
        rows
    }
}

/// Rows of a source that share a key with another of its rows, each in the largest group it could be in.
#[derive(Debug, Default)]
struct Groups {
    /// Group after group.
    rows: Vec<u32>,
    /// Group `g` is `rows[starts[g]..starts[g + 1]]`.
    starts: Vec<u32>,
    /// Rows of the largest group.
    largest: u64,
    /// Rows that are in no group.
    others: Arc<Bits>,
}

impl Groups {
    /// Whether the rows of a source can be counted in 32 bits.
    fn fit(source: &PlanSource) -> bool {
        u32::try_from(source.rows).is_ok()
    }

    fn find<R: PlanRows>(rows: &R, source: &PlanSource) -> Result<Self> {
        // Keys are told apart by 32 bits and their partition. Of twenty million keys some two hundred are taken for
        // another one by that, and their rows are spaced for nothing.
        let partitions = (source.rows / ROWS_A_PARTITION).clamp(1, 1 << 8);
        let split = in_ranges(source.rows, ROWS_A_THREAD, |range| {
            // A query and one positive a row, mostly.
            let keys = (range.end - range.start) * 2 / partitions;
            let mut split: Vec<Vec<u64>> = Vec::new();
            split.resize_with(partitions as usize, || Vec::with_capacity((keys + keys / 16) as usize));
            let mut ids = Vec::new();
            for first in range.clone().step_by(ROWS_A_VISIT) {
                ids.clear();
                ids.extend((first..range.end.min(first + ROWS_A_VISIT as u64)).map(|row| source.first + row));
                rows.visit(&ids, |at, keys| {
                    for key in std::iter::once(&keys.query).chain(keys.pos) {
                        // Keys of real texts are hashes already, those of a test may count from 1.
                        let mixed = key.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                        split[(((mixed >> 32) * partitions) >> 32) as usize].push(mixed << 32 | (first + at as u64));
                    }
                })?;
            }
            Ok(split)
        })?;
        // Small enough for the processor's cache, so that sorting does not wait for memory.
        let found = in_ranges(partitions, 1, |range| {
            let mut members = Vec::new();
            for partition in range {
                let mut keys: Vec<u64> = split.iter().flat_map(|split| &split[partition as usize]).copied().collect();
                keep_repeated(&mut keys);
                keys.sort_unstable();
                keys.dedup();
                let groups = keys.chunk_by(|one, other| one >> 32 == other >> 32).filter(|group| group.len() > 1);
                let named = |group: &[u64]| (Reverse(group.len() as u32), (partition as u32, (group[0] >> 32) as u32));
                members.extend(groups.flat_map(|group| {
                    let (size, name) = named(group);
                    group.iter().map(move |key| (*key as u32, size, name))
                }));
            }
            Ok(members)
        })?;
        drop(split);
        // A row with several keys is in the group of the one that most rows have.
        let mut best: Vec<(u32, Reverse<u32>, (u32, u32))> = found.into_iter().flatten().collect();
        best.sort_unstable();
        best.dedup_by_key(|(row, ..)| *row);
        let mut members: Vec<((u32, u32), u32)> = best.into_iter().map(|(row, _, name)| (name, row)).collect();
        members.sort_unstable();

        let mut groups = Self { starts: vec![0], ..Self::default() };
        let mut others = Bits::ones(source.rows as usize);
        for group in members.chunk_by(|one, other| one.0 == other.0).filter(|group| group.len() > 1) {
            groups.rows.extend(group.iter().map(|(_, row)| row));
            groups.starts.push(groups.rows.len() as u32);
            groups.largest = groups.largest.max(group.len() as u64);
            for (_, row) in group {
                others.clear(*row as usize);
            }
        }
        others.count();
        groups.others = Arc::new(others);
        Ok(groups)
    }
}

/// Rows below which a second thread would cost more than it saves.
const ROWS_A_THREAD: u64 = 20_000;

/// Rows whose keys are asked for together.
const ROWS_A_VISIT: usize = 1024;

/// Rows whose keys are sorted together.
const ROWS_A_PARTITION: u64 = 40_000;

/// Keeps every entry whose upper half another entry has, and some others: most keys are nobody else's, and need no
/// sorting to be told so.
fn keep_repeated(entries: &mut Vec<u64>) {
    let slots = (entries.len() * 8).next_power_of_two().max(64);
    let slot = |entry: u64| (entry >> 32) as usize & (slots - 1);
    let (mut seen, mut again) = (Bits::zeros(slots), Bits::zeros(slots));
    for entry in entries.iter() {
        let slot = slot(*entry);
        if seen.get(slot) {
            again.set(slot);
        }
        seen.set(slot);
    }
    entries.retain(|entry| again.get(slot(*entry)));
}

/// How many threads to share `count` of something among, so that each has at least `least`.
pub(super) fn threads_for(count: u64, least: u64) -> u64 {
    // Asked once: the answer is read from files of the system.
    static CORES: LazyLock<u64> =
        LazyLock::new(|| std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64));
    CORES.min(count / least).clamp(1, 8)
}

/// Runs `work` on ranges of `0..count`, each of at least `least` and on a thread of its own; the results, in order.
fn in_ranges<T: Send>(count: u64, least: u64, work: impl Fn(Range<u64>) -> Result<T> + Sync) -> Result<Vec<T>> {
    let threads = threads_for(count, least);
    let bound = |part: u64| count * part / threads;
    let ranges = (0..threads).map(|part| bound(part)..bound(part + 1));
    if threads == 1 {
        return ranges.map(work).collect();
    }
    let work = &work;
    std::thread::scope(|scope| {
        let running: Vec<_> = ranges.map(|range| scope.spawn(move || work(range))).collect();
        let failed = |_| Err(Error::Internal("a thread that reads keys panicked".into()));
        running.into_iter().map(|thread| thread.join().unwrap_or_else(failed)).collect()
    })
}

/// Rows of groups at places of their own, the others in permuted order between them.
#[derive(Debug, Clone)]
pub(crate) struct Spaced {
    /// The places of rows that are in a group.
    places: Bits,
    /// These rows, by place.
    grouped: Vec<u32>,
    others: Arc<Bits>,
    permutation: Permutation,
}

impl Spaced {
    fn new(groups: &Groups, rows: u64, key: u64) -> Self {
        // A group begins anywhere in the pass and goes round: (fraction of the pass, row).
        let mut due: Vec<(u32, u32)> = Vec::with_capacity(groups.rows.len());
        let mut members = Vec::new();
        for (group, bounds) in groups.starts.windows(2).enumerate() {
            members.clear();
            members.extend_from_slice(&groups.rows[bounds[0] as usize..bounds[1] as usize]);
            let mut stream = Stream::new(seed_of(Use::Spacing, &[key, group as u64]));
            for at in (1..members.len()).rev() {
                members.swap(at, stream.below(at as u64 + 1) as usize);
            }
            let (start, size) = (fraction(stream.next()), members.len() as f64);
            let turn = |at: usize| ((at as f64 + start) / size * f64::from(u32::MAX)) as u32;
            due.extend(members.iter().enumerate().map(|(at, row)| (turn(at), *row)));
        }
        due.sort_unstable();
        let mut places = Bits::zeros(rows as usize);
        let mut next = 0;
        for (at, (turn, _)) in due.iter().enumerate() {
            let wanted = (u64::from(*turn) * rows) >> 32;
            // Never so late that those behind it have no place.
            let place = wanted.max(next).min(rows - (due.len() - at) as u64);
            places.set(place as usize);
            next = place + 1;
        }
        places.count();
        let permutation = Permutation::new(rows - due.len() as u64, key);
        let grouped = due.into_iter().map(|(_, row)| row).collect();
        Self { places, grouped, others: Arc::clone(&groups.others), permutation }
    }

    /// See [`Order::sorted`]; `rows` has their number, and the memory.
    fn sorted(&self, first: u64, mut rows: Vec<u64>) -> Vec<u64> {
        let mut before = self.places.ones_before(first as usize);
        let first_other = first - before as u64;
        let (mut grouped, mut places_of_others) = (Vec::new(), Vec::with_capacity(rows.len()));
        for place in 0..rows.len() {
            if self.places.get(first as usize + place) {
                grouped.push(entry(u64::from(self.grouped[before]), place));
                before += 1;
            } else {
                places_of_others.push(place as u32);
            }
        }
        rows.truncate(places_of_others.len());
        self.permutation.fill(first_other, &mut rows);
        for (row, place) in rows.iter_mut().zip(places_of_others) {
            *row = entry(*row, place as usize);
        }
        // A row's number among the others rises with the row, so that these are found by walking on.
        rows.sort_unstable();
        let mut others = self.others.ones_in_order();
        for row in &mut rows {
            let place = *row & ((1 << PLACE_BITS) - 1);
            *row = entry(others.place_of((*row >> PLACE_BITS) as usize) as u64, place as usize);
        }
        grouped.sort_unstable();
        rows.append(&mut grouped);
        rows
    }
}
