//! Shuffle + shard: each bucket, sorted, with its decisions applied, becomes one part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use super::dedup_stage::{Along, DECISIONS, ROWS, Stage, TRANSFERS};
use super::gate::{Gate, for_each};
use super::layout::TASKS;
use super::lengths::LengthCounts;
use super::rejects::{Reject, RejectSink, Similarity, Twin};
use crate::Result;
use crate::dedup::exact::ALSO_LIMIT;
use crate::dedup::unite::{Space, United};
use crate::dedup::{Action, Decision};
use crate::pair::Task;
use crate::report::{Reason, RejectPart, Tally};
use crate::shard::rejects::excerpt;
use crate::shard::{PartInfo, PartWriter, ShardRow};
use crate::shuffle::RowId;
use crate::shuffle::bucket::{SortedRows, load, path, size};
use crate::shuffle::row::{Item, SpillRow, decode};
use crate::shuffle::transfer::{Cargo, Transfer};

/// A part to be written.
#[derive(Debug, Clone)]
pub struct PartJob {
    /// Its bucket.
    pub bucket: usize,
    /// Its slot.
    pub slot: u32,
    /// Name of its source.
    pub source: String,
    /// Number within the source; None for a bucket that keeps no row and only has rejects.
    pub number: Option<usize>,
}

/// What became of one slot.
#[derive(Debug, Default)]
pub struct SlotResult {
    /// Rows and texts that went in this stage.
    pub tally: Tally,
    /// Parts by number.
    pub parts: BTreeMap<usize, PartInfo>,
    /// Bytes of the texts kept.
    pub text_bytes: u64,
    /// Known positives beyond the limit.
    pub also_excess: u64,
    /// Lengths of queries, positives and negatives kept.
    pub lengths: [LengthCounts; 3],
}

impl SlotResult {
    fn merge(&mut self, other: Self) {
        self.tally.merge(&other.tally);
        self.parts.extend(other.parts);
        self.text_bytes += other.text_bytes;
        self.also_excess += other.also_excess;
        for (own, new) in self.lengths.iter_mut().zip(&other.lengths) {
            own.merge(new);
        }
    }
}

/// Writes all parts below `set`; what they came to, by slot.
pub fn run(stage: &Stage<'_>, jobs: &[PartJob], set: &Path, rejects: &RejectSink) -> Result<BTreeMap<u32, SlotResult>> {
    let results = Mutex::new(BTreeMap::<u32, SlotResult>::new());
    let united = United::open(stage.dedup)?;
    let gate = Gate::new(stage.memory);
    stage.progress.parts_total.store(jobs.len() as u64, Ordering::Relaxed);
    stage.progress.parts_done.store(0, Ordering::Relaxed);
    for_each(stage.threads, jobs.len(), |index| {
        let job = &jobs[index];
        let result = write_part(stage, job, &united, set, rejects, &gate)?;
        stage.progress.parts_done.fetch_add(1, Ordering::Relaxed);
        let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        results.entry(job.slot).or_default().merge(result);
        Ok(())
    })?;
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

fn write_part(
    stage: &Stage<'_>,
    job: &PartJob,
    united: &United,
    set: &Path,
    rejects: &RejectSink,
    gate: &Gate,
) -> Result<SlotResult> {
    let rows_path = path(stage.read, ROWS, job.bucket);
    let decisions_path = path(stage.dedup, DECISIONS, job.bucket);
    let transfers_path = path(stage.dedup, TRANSFERS, job.bucket);
    let beside = 2 * size(&decisions_path)? + 2 * size(&transfers_path)?;
    let _pass = gate.enter(size(&rows_path)? + beside);
    let mut decisions = Along::new(Decision::decode_all(&load(&decisions_path)?), stage.layout, |one| one.row)?;
    let mut transfers = Along::new(Transfer::decode_all(&load(&transfers_path)?)?, stage.layout, |one| one.to)?;
    let rows = SortedRows::open(&rows_path, stage.memory)?;

    let mut part = Part {
        stage,
        job,
        united,
        writer: match job.number {
            Some(number) => {
                let file = set.join(&job.source).join(format!("part-{number:05}.arrow"));
                Some(PartWriter::create(&file, &job.source)?)
            }
            None => None,
        },
        result: SlotResult::default(),
        rejects: Vec::new(),
    };
    let mut scratch = Vec::new();
    for position in 0..rows.len() {
        if position % 1024 == 0 {
            stage.progress.check()?;
            rejects.add(&mut part.rejects)?;
        }
        let mut row = SpillRow::default();
        decode(rows.body(position, &mut scratch)?, &mut row)?;
        let (order, id) = (row.order, row.row);
        part.row(row, decisions.next(order, id), transfers.next(order, id))?;
    }
    rejects.add(&mut part.rejects)?;
    let mut result = part.result;
    if let (Some(writer), Some(number)) = (part.writer, job.number) {
        stage.progress.rows_kept.fetch_add(writer.rows(), Ordering::Relaxed);
        result.text_bytes = writer.text_bytes();
        result.parts.insert(number, writer.finish()?);
    }
    Ok(result)
}

struct Part<'a> {
    stage: &'a Stage<'a>,
    job: &'a PartJob,
    united: &'a United,
    writer: Option<PartWriter>,
    result: SlotResult,
    rejects: Vec<Reject>,
}

impl Part<'_> {
    fn row<'r>(
        &mut self,
        mut row: SpillRow<'r>,
        decisions: impl Iterator<Item = &'r Decision>,
        transfers: impl Iterator<Item = &'r Transfer>,
    ) -> Result<()> {
        let (mut also, mut gone) = (Vec::new(), [Vec::new(), Vec::new()]);
        for decision in decisions {
            match decision.action {
                Action::DropRow(reason, twin) => {
                    let text = row.pos.first().or(row.neg.first()).map_or("", |item| item.text);
                    self.reject(&row, RejectPart::Row, 0, reason, twin, text);
                    return Ok(());
                }
                Action::DropPositive(item, reason, twin) => {
                    self.reject(&row, RejectPart::Positive, item, reason, twin, row.pos[item as usize].text);
                    gone[0].push(item as usize);
                }
                Action::DropNegative(item, reason, twin) => {
                    self.reject(&row, RejectPart::Negative, item, reason, twin, row.neg[item as usize].text);
                    gone[1].push(item as usize);
                }
                Action::AlsoPositive(key) => also.push(key),
                Action::AlsoExcess(count) => self.result.also_excess += count,
                // Texts that leave were sent off before this stage.
                Action::GivePositive(..) | Action::GiveNegative(..) | Action::GiveScore(..) => {}
            }
        }
        remove(&mut row.pos, &gone[0]);
        remove(&mut row.neg, &gone[1]);
        for transfer in transfers {
            let item = Item { text: &transfer.text, key: transfer.key, score: transfer.score };
            match transfer.cargo {
                Cargo::Positive => row.pos.push(item),
                Cargo::Negative => row.neg.push(item),
                Cargo::Score => {
                    let equal = row.pos.iter_mut().find(|own| own.key == item.key && own.score.is_nan());
                    if let Some(own) = equal {
                        own.score = item.score;
                    }
                }
            }
        }
        self.write(&row, &also)
    }

    fn write(&mut self, row: &SpillRow<'_>, also: &[u64]) -> Result<()> {
        let [queries, positives, negatives] = &mut self.result.lengths;
        queries.add(row.query.chars().count() as u64);
        for (lengths, items) in [(positives, &row.pos), (negatives, &row.neg)] {
            for item in items {
                lengths.add(item.text.chars().count() as u64);
            }
        }
        let (pos, pos_exact_keys, pos_scores) = columns(&row.pos);
        let (neg, neg_exact_keys, neg_scores) = columns(&row.neg);
        let keys = self.batching_keys(row, also);
        let (origin_file, origin_line) = match &row.kept {
            Some(kept) => (kept.origin_file, kept.origin_line),
            None => (self.stage.layout.files[row.row.file as usize].origin.as_str(), row.row.line),
        };
        self.result.also_excess += keys.also_excess;
        let Some(writer) = &mut self.writer else {
            return Err(crate::Error::Internal("a bucket without rows has a row".to_owned()));
        };
        writer.push(&ShardRow {
            query: row.query,
            pos: &pos,
            neg: &neg,
            pos_scores: &pos_scores,
            neg_scores: &neg_scores,
            query_key: keys.query,
            pos_keys: &keys.pos,
            neg_keys: &keys.neg,
            also_pos_keys: &keys.also,
            query_exact_key: row.query_key,
            pos_exact_keys: &pos_exact_keys,
            neg_exact_keys: &neg_exact_keys,
            id: row.id,
            prompt: row.prompt,
            origin_file,
            origin_line,
        })
    }

    /// What the row is batched by: the keys it brought along, or those of the clusters that its texts are in now.
    fn batching_keys(&self, row: &SpillRow<'_>, also: &[u64]) -> BatchingKeys {
        let task = Task::ALL[(self.job.slot % TASKS) as usize];
        let key = |item: &Item<'_>| self.united.key(Space::of_passages(task), item.key);
        match &row.kept {
            Some(kept) if self.stage.layout.keep_keys => {
                let (pos, neg) = kept.clusters.split_at(row.pos.len());
                let also = kept.also_pos_keys.clone();
                BatchingKeys { query: kept.query_cluster, pos: pos.to_vec(), neg: neg.to_vec(), also, also_excess: 0 }
            }
            kept => {
                let pos: Vec<u64> = row.pos.iter().map(key).collect();
                let before = kept.iter().flat_map(|kept| &kept.also_pos_keys);
                let also = also.iter().chain(before).map(|&key| self.united.key(Space::of_passages(task), key));
                let mut also: BTreeSet<u64> = also.collect();
                also.retain(|key| !pos.contains(key));
                BatchingKeys {
                    query: self.united.key(Space::Query, row.query_key),
                    neg: row.neg.iter().map(key).collect(),
                    also_excess: also.len().saturating_sub(ALSO_LIMIT) as u64,
                    also: also.into_iter().take(ALSO_LIMIT).collect(),
                    pos,
                }
            }
        }
    }

    fn reject(&mut self, row: &SpillRow<'_>, part: RejectPart, item: u32, reason: Reason, twin: RowId, text: &str) {
        self.result.tally.add(part, reason);
        if part == RejectPart::Row {
            self.stage.progress.rows_dropped.fetch_add(1, Ordering::Relaxed);
        }
        self.rejects.push(Reject {
            slot: self.job.slot,
            row: row.row,
            part,
            item,
            reason,
            detail: String::new(),
            // A line is counted from 1: the empty origin means that there is no twin.
            twin: if twin.line > 0 { Twin::Row(twin) } else { Twin::None },
            similarity: if twin.line > 0 { Similarity::EQUAL } else { Similarity::NONE },
            query: excerpt(row.query).to_owned(),
            text: excerpt(text).to_owned(),
        });
    }
}

fn remove(items: &mut Vec<Item<'_>>, gone: &[usize]) {
    if !gone.is_empty() {
        let mut index = 0;
        items.retain(|_| {
            index += 1;
            !gone.contains(&(index - 1))
        });
    }
}

/// Keys of one row as they are written.
struct BatchingKeys {
    query: u64,
    pos: Vec<u64>,
    neg: Vec<u64>,
    also: Vec<u64>,
    /// Known positives beyond the limit.
    also_excess: u64,
}

/// Texts, keys and scores as columns; no scores where no text has one.
fn columns<'a>(items: &[Item<'a>]) -> (Vec<&'a str>, Vec<u64>, Vec<f32>) {
    let scored = items.iter().any(|item| !item.score.is_nan());
    (
        items.iter().map(|item| item.text).collect(),
        items.iter().map(|item| item.key).collect(),
        if scored { items.iter().map(|item| item.score).collect() } else { Vec::new() },
    )
}
