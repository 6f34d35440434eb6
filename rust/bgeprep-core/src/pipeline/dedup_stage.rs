//! Dedup: key partitions → decisions by bucket, then the texts that change rows.

use std::ops::Range;

use serde::{Deserialize, Serialize};

use super::gate::{Gate, for_each};
use super::journal::Found;
use super::layout::BucketLayout;
use super::read_stage::KEYS;
use super::stage::Stage;
use crate::dedup::unite::CLUSTERS;
use crate::dedup::{Action, Decision, KeyRecord, exact, unite};
use crate::near::table::NearTables;
use crate::shuffle::RowId;
use crate::shuffle::bucket::SortedRows;
use crate::shuffle::row::{SpillRow, decode, peek};
use crate::shuffle::spill::{Packing, Spill, load, path, size};
use crate::shuffle::transfer::{Cargo, Transfer};
use crate::{Error, Result};

/// Names of the spill families.
pub const DECISIONS: &str = "decisions";
/// See `DECISIONS`.
pub const TRANSFERS: &str = "transfers";
/// See `DECISIONS`.
pub(super) const MOVED: &str = "moved";

/// What the stage leaves to know.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct DedupReport {
    /// Rows that go, by bucket.
    pub dropped_rows: Vec<u64>,
    /// Whether a bucket's rows give texts to others, by bucket.
    pub gives: Vec<bool>,
}

/// Decides every partition, then moves texts.
pub fn run(stage: &Stage<'_>, near: Option<&NearTables>) -> Result<DedupReport> {
    let (buckets, partitions) = (stage.layout.buckets, stage.layout.partitions);
    if let Some(near) = near {
        stage.work.once("families", || gather_families(stage, near, 0..partitions))?;
    }
    if stage.layout.unite_keys {
        unite::run(stage.read, &stage.dedup.join(CLUSTERS), near, stage.memory)?;
    }
    let report = decide(stage, near, 0..partitions)?;
    move_texts(stage, &report.gives, 0..buckets)?;
    Ok(report)
}

impl DedupReport {
    /// Adds what other partitions came to.
    pub(super) fn merge(&mut self, other: &Self) {
        self.dropped_rows.resize(self.dropped_rows.len().max(other.dropped_rows.len()), 0);
        self.gives.resize(self.gives.len().max(other.gives.len()), false);
        self.dropped_rows.iter_mut().zip(&other.dropped_rows).for_each(|(total, new)| *total += new);
        self.gives.iter_mut().zip(&other.gives).for_each(|(any, new)| *any |= new);
    }
}

/// What becomes of the rows, texts and keys of each partition.
pub(super) fn decide(stage: &Stage<'_>, near: Option<&NearTables>, jobs: Range<usize>) -> Result<DedupReport> {
    let (buckets, partitions) = (stage.layout.buckets, stage.layout.partitions);
    let found = Found::<(), DedupReport>::read(&stage.dedup.join("journal"))?;
    let lengths = found.lengths(0, buckets);
    let decisions = Spill::reopen(stage.dedup, DECISIONS, Packing::Plain, stage.memory / 4, &lengths)?;
    let journal = found.go_on(vec![&decisions])?;
    let gate = Gate::new(stage.memory);
    stage.begin(jobs.len());
    for_each(stage.threads, jobs.len(), |at| {
        stage.progress.check()?;
        let index = jobs.start + at;
        if found.done.contains_key(&index) {
            stage.step();
            return Ok(());
        }
        let (keys, moved) = (path(stage.read, KEYS, index), path(stage.dedup, MOVED, index));
        // Encoded and decoded records live side by side for a moment.
        let _pass = gate.enter((size(&keys)? + size(&moved)?) * 5 / 2);
        let mut records = KeyRecord::decode_all(&load(&keys)?);
        if let Some(near) = near {
            records.retain(|record| home(record, near, partitions) == index);
            records.extend(KeyRecord::decode_all(&load(&moved)?));
        }
        let (mut bytes, mut failed) = (Vec::new(), Ok(()));
        let mut report = DedupReport { dropped_rows: vec![0; buckets], gives: vec![false; buckets] };
        exact::decide(records, stage.plan.dedup.mode, near, &mut |bucket, decision| {
            if is_about_others(stage.layout, bucket, decision.action) {
                return;
            }
            match decision.action {
                Action::DropRow(..) => report.dropped_rows[bucket as usize] += 1,
                Action::GivePositive(..) | Action::GiveNegative(..) | Action::GiveScore(..) => {
                    report.gives[bucket as usize] = true;
                }
                _ => {}
            }
            bytes.clear();
            decision.encode(&mut bytes);
            if let Err(error) = decisions.append(bucket as usize, &bytes) {
                failed = Err(error);
            }
        });
        failed?;
        journal.done(index, (), vec![keys, moved], |sum| sum.merge(&report))?;
        stage.step();
        Ok(())
    })?;
    let mut report = journal.finish()?;
    report.dropped_rows.resize(buckets, 0);
    report.gives.resize(buckets, false);
    Ok(report)
}

/// Sends off the texts that rows of some buckets give to others; `gives` says which buckets have any.
pub(super) fn move_texts(stage: &Stage<'_>, gives: &[bool], jobs: Range<usize>) -> Result<()> {
    let transfers = Spill::create(stage.dedup, TRANSFERS, stage.layout.buckets, stage.memory / 4)?;
    let giving: Vec<usize> = jobs.filter(|&bucket| gives[bucket]).collect();
    let gate = Gate::new(stage.memory / 2);
    for_each(stage.threads, giving.len(), |index| {
        stage.progress.check()?;
        move_texts_of(stage, giving[index], &transfers, &gate)
    })?;
    transfers.finish()
}

/// Whether a decision changes, or gives to, a row that is only compared with: nothing comes of it.
fn is_about_others(layout: &BucketLayout, bucket: u32, action: Action) -> bool {
    let to = match action {
        Action::GivePositive(_, to) | Action::GiveNegative(_, to) | Action::GiveScore(_, to) => to.bucket,
        _ => bucket,
    };
    bucket.max(to) as usize >= layout.own_buckets
}

/// The partition of a record: that of its query's cluster, or of its text's for a document.
fn home(record: &KeyRecord, near: &NearTables, partitions: usize) -> usize {
    (record.family(near) % partitions as u64) as usize
}

/// Near queries are decided together, so their records meet in the partition of their cluster.
pub(super) fn gather_families(stage: &Stage<'_>, near: &NearTables, jobs: Range<usize>) -> Result<()> {
    let partitions = stage.layout.partitions;
    let found = Found::<(), ()>::read(&stage.dedup.join("moved"))?;
    let lengths = found.lengths(0, partitions);
    let spill = Spill::reopen(stage.dedup, MOVED, Packing::Plain, stage.memory / 4, &lengths)?;
    let journal = found.go_on(vec![&spill])?;
    let gate = Gate::new(stage.memory);
    for_each(stage.threads, jobs.len(), |at| {
        stage.progress.check()?;
        let index = jobs.start + at;
        if found.done.contains_key(&index) {
            return Ok(());
        }
        let keys = path(stage.read, KEYS, index);
        let _pass = gate.enter(size(&keys)? * 5 / 2);
        let mut bytes = Vec::new();
        for record in KeyRecord::decode_all(&load(&keys)?) {
            let home = home(&record, near, partitions);
            if home != index {
                bytes.clear();
                record.encode(&mut bytes);
                spill.append(home, &bytes)?;
            }
        }
        journal.done(index, (), Vec::new(), |()| ())
    })?;
    journal.finish()
}

/// Sends off every text of a bucket that a decision gives to another row.
fn move_texts_of(stage: &Stage<'_>, bucket: usize, transfers: &Spill, gate: &Gate) -> Result<()> {
    let rows = stage.rows(bucket)?;
    let decisions_path = path(stage.dedup, DECISIONS, bucket);
    let raw = rows.raw_size()?;
    let _pass = gate.enter(raw + 2 * size(&decisions_path)?);
    let decisions = Decision::decode_all(&load(&decisions_path)?);
    let rows = SortedRows::open(&rows, raw, stage.memory / 2)?;
    let (mut scratch, mut bytes) = (Vec::new(), Vec::new());
    for position in 0..rows.len() {
        let body = rows.body(position, &mut scratch)?;
        let (_, id) = peek(body)?;
        let own = about(&decisions, id, |one| one.row);
        if own.is_empty() {
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

/// What there is about a row among things sorted by the row that each is about.
pub fn about<T>(items: &[T], row: RowId, row_of: impl Fn(&T) -> RowId) -> &[T] {
    let from = &items[items.partition_point(|item| row_of(item) < row)..];
    &from[..from.iter().take_while(|item| row_of(item) == row).count()]
}
