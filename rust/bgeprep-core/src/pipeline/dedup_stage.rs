//! Dedup: key partitions → decisions by bucket, then the texts that change rows.

use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use super::gate::{Gate, for_each};
use super::layout::BucketLayout;
use crate::config::PrepPlan;
use crate::dedup::{AGAINST, Action, Decision, KeyRecord, exact};
use crate::progress::Progress;
use crate::shuffle::RowId;
use crate::shuffle::bucket::{SortedRows, Spill, load, path, size};
use crate::shuffle::row::{SpillRow, decode, peek};
use crate::shuffle::transfer::{Cargo, Transfer};
use crate::{Error, Result};

/// Names of the spill families.
pub const ROWS: &str = "rows";
/// See `ROWS`.
pub const KEYS: &str = "keys";
/// See `ROWS`.
pub const DECISIONS: &str = "decisions";
/// See `ROWS`.
pub const TRANSFERS: &str = "transfers";

/// What the stage leaves to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DedupReport {
    /// Rows that go, by bucket.
    pub dropped_rows: Vec<u64>,
    /// Bytes of the decision and transfer files.
    pub spilled: u64,
}

/// Folders, limits and counters that a stage after reading works with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The plan.
    pub plan: &'a PrepPlan,
    /// Buckets and files.
    pub layout: &'a BucketLayout,
    /// Folder of spilled rows and keys.
    pub read: &'a Path,
    /// Folder of decisions and transfers.
    pub dedup: &'a Path,
    /// Worker threads.
    pub threads: usize,
    /// Bytes that all threads together may hold.
    pub memory: u64,
    /// Counters.
    pub progress: &'a Progress,
}

/// Decides every partition, then moves texts.
pub fn run(stage: &Stage<'_>) -> Result<DedupReport> {
    let buckets = stage.layout.buckets;
    let decisions = Spill::create(stage.dedup, DECISIONS, buckets, stage.memory / 4)?;
    let dropped: Vec<AtomicU64> = (0..buckets).map(|_| AtomicU64::new(0)).collect();
    let gives: Vec<AtomicBool> = (0..buckets).map(|_| AtomicBool::new(false)).collect();
    let gate = Gate::new(stage.memory);
    let partitions = stage.layout.partitions;
    stage.progress.parts_total.store(partitions as u64, Ordering::Relaxed);
    stage.progress.parts_done.store(0, Ordering::Relaxed);
    for_each(stage.threads, partitions, |index| {
        stage.progress.check()?;
        let keys = path(stage.read, KEYS, index);
        // Encoded and decoded records live side by side for a moment.
        let _pass = gate.enter(size(&keys)? * 5 / 2);
        let records = KeyRecord::decode_all(&load(&keys)?);
        let (mut bytes, mut failed) = (Vec::new(), None);
        exact::decide(records, stage.plan.dedup.mode, &mut |bucket, decision| {
            if is_about_others(bucket, decision.action) {
                return;
            }
            match decision.action {
                Action::DropRow(..) => {
                    dropped[bucket as usize].fetch_add(1, Ordering::Relaxed);
                }
                Action::GivePositive(..) | Action::GiveNegative(..) | Action::GiveScore(..) => {
                    gives[bucket as usize].store(true, Ordering::Relaxed);
                }
                _ => {}
            }
            bytes.clear();
            decision.encode(&mut bytes);
            if let Err(error) = decisions.append(bucket as usize, &bytes) {
                failed.get_or_insert(error);
            }
        });
        stage.progress.parts_done.fetch_add(1, Ordering::Relaxed);
        failed.map_or(Ok(()), Err)
    })?;
    decisions.finish()?;

    let transfers = Spill::create(stage.dedup, TRANSFERS, buckets, stage.memory / 4)?;
    let giving: Vec<usize> = (0..buckets).filter(|&bucket| gives[bucket].load(Ordering::Relaxed)).collect();
    let gate = Gate::new(stage.memory / 2);
    for_each(stage.threads, giving.len(), |index| {
        stage.progress.check()?;
        move_texts(stage, giving[index], &transfers, &gate)
    })?;
    transfers.finish()?;
    Ok(DedupReport {
        dropped_rows: dropped.into_iter().map(AtomicU64::into_inner).collect(),
        spilled: super::work::bytes_in(stage.dedup)?,
    })
}

/// Whether a decision changes, or gives to, a row that is only compared with: nothing comes of it.
fn is_about_others(bucket: u32, action: Action) -> bool {
    let to = match action {
        Action::GivePositive(_, to) | Action::GiveNegative(_, to) | Action::GiveScore(_, to) => to.bucket,
        _ => bucket,
    };
    bucket == AGAINST || to == AGAINST
}

/// Sends off every text of a bucket that a decision gives to another row.
fn move_texts(stage: &Stage<'_>, bucket: usize, transfers: &Spill, gate: &Gate) -> Result<()> {
    let rows_path = path(stage.read, ROWS, bucket);
    let decisions_path = path(stage.dedup, DECISIONS, bucket);
    let _pass = gate.enter(size(&rows_path)? + 2 * size(&decisions_path)?);
    let mut decisions = Along::new(Decision::decode_all(&load(&decisions_path)?), stage.layout, |one| one.row)?;
    let rows = SortedRows::open(&rows_path, stage.memory / 2)?;
    let (mut scratch, mut bytes) = (Vec::new(), Vec::new());
    for position in 0..rows.len() {
        let body = rows.body(position, &mut scratch)?;
        let (order, id) = peek(body)?;
        let own = decisions.next(order, id);
        if own.clone().next().is_none() {
            continue;
        }
        let mut row = SpillRow::default();
        decode(body, &mut row)?;
        for decision in own {
            let (cargo, item, target) = match decision.action {
                Action::GivePositive(item, target) => (Cargo::Positive, item, target),
                Action::GiveNegative(item, target) => (Cargo::Negative, item, target),
                Action::GiveScore(item, target) => (Cargo::Score, item, target),
                _ => continue,
            };
            let list = if cargo == Cargo::Negative { &row.neg } else { &row.pos };
            let found = list.get(item as usize).ok_or_else(|| Error::Internal("a decision names no text".into()))?;
            let text = if cargo == Cargo::Score { "" } else { found.text };
            let transfer = Transfer {
                to: target.row,
                cargo,
                from: id,
                item,
                key: found.key,
                score: found.score,
                text: text.to_owned(),
            };
            bytes.clear();
            transfer.encode(&mut bytes);
            transfers.append(target.bucket as usize, &bytes)?;
        }
    }
    Ok(())
}

/// Things about rows, in the shuffled order of the rows, to be walked along with the rows themselves.
#[derive(Debug)]
pub struct Along<T> {
    items: Vec<(u64, RowId, T)>,
    at: usize,
}

impl<T> Along<T> {
    /// Sorts `items`, each about the row that `row` names, into shuffled order; items of one row keep theirs.
    pub fn new(items: Vec<T>, layout: &BucketLayout, row: impl Fn(&T) -> RowId) -> Result<Self> {
        let place = |item: T| {
            let row = row(&item);
            Ok((layout.order(row)?, row, item))
        };
        let mut items = items.into_iter().map(place).collect::<Result<Vec<_>>>()?;
        items.sort_by_key(|&(order, row, _)| (order, row));
        Ok(Self { items, at: 0 })
    }

    /// The items about the next row, which must come after all rows asked for before.
    pub fn next(&mut self, order: u64, row: RowId) -> impl Iterator<Item = &T> + Clone {
        let start = self.at + self.items[self.at..].iter().take_while(|item| (item.0, item.1) < (order, row)).count();
        let count = self.items[start..].iter().take_while(|item| (item.0, item.1) == (order, row)).count();
        self.at = start + count;
        self.items[start..self.at].iter().map(|(_, _, item)| item)
    }
}
