//! Shuffle + shard: each bucket, sorted, with its decisions applied, becomes one part.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::Ordering;

use serde::{Deserialize, Serialize};

use super::batching_keys::KeySource;
use super::dedup_stage::{DECISIONS, TRANSFERS, about};
use super::gate::{Gate, for_each};
use super::journal::Found;
use super::lengths::LengthCounts;
use super::read_stage::{ROWS, ReadReport};
use super::rejects::{Reject, RejectSink, Twin};
use super::stage::Stage;
use crate::dedup::{Action, Decision};
use crate::near::table::NearTables;
use crate::report::{Reason, RejectPart, Similarity, Tally};
use crate::shard::rejects::excerpt;
use crate::shard::{PartInfo, PartWriter, ShardRow};
use crate::shuffle::RowId;
use crate::shuffle::bucket::SortedRows;
use crate::shuffle::row::{Item, SpillRow, decode};
use crate::shuffle::spill::{load, path, size};
use crate::shuffle::transfer::{Cargo, Transfer};
use crate::{Error, Result};

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

impl PartJob {
    /// The part's file below `set`, if it has one.
    fn path(&self, set: &Path) -> Option<PathBuf> {
        self.number.map(|number| set.join(&self.source).join(format!("part-{number:05}.arrow")))
    }
}

/// What became of one slot.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
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
    fn rows(&self) -> u64 {
        self.parts.values().map(|part| part.rows).sum()
    }

    pub(super) fn merge(&mut self, other: Self) {
        self.tally.merge(&other.tally);
        self.parts.extend(other.parts);
        self.text_bytes += other.text_bytes;
        self.also_excess += other.also_excess;
        for (own, new) in self.lengths.iter_mut().zip(&other.lengths) {
            own.merge(new);
        }
    }
}

/// What the stage works with beside what all stages have.
#[derive(Debug, Clone, Copy)]
pub struct Parts<'a> {
    /// The parts to write.
    pub jobs: &'a [PartJob],
    /// Where they go.
    pub set: &'a Path,
    /// Folder of the stage's own files.
    pub folder: &'a Path,
    /// How many rows each bucket must have.
    pub read: &'a ReadReport,
    /// Clusters of texts, where near dedup ran.
    pub near: Option<&'a NearTables>,
    /// Clusters of shard sets brought together, where there are some.
    pub united: Option<&'a NearTables>,
}

/// Writes all parts below `set`, or goes on with what a killed run left there; what they came to, by slot.
pub fn run(stage: &Stage<'_>, parts: &Parts<'_>) -> Result<BTreeMap<u32, SlotResult>> {
    let Parts { jobs, set, folder, .. } = *parts;
    fs_err::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let found = Found::<SlotResult, ()>::read(&folder.join("journal"))?;
    let done: BTreeSet<PathBuf> = jobs
        .iter()
        .enumerate()
        .filter(|(at, _)| found.done.contains_key(at))
        .filter_map(|(_, job)| job.path(set))
        .collect();
    remove_strangers(set, &done)?;
    let runs = found.lengths(0, 1)[0] as usize;
    let rejects = RejectSink::reopen(&folder.join(REJECTS), stage.memory / 12, runs)?;
    let journal = found.go_on(vec![&rejects])?;
    let mut results = BTreeMap::<u32, SlotResult>::new();
    for (&at, known) in &found.done {
        stage.progress.rows_kept.fetch_add(known[0].rows(), Ordering::Relaxed);
        results.entry(jobs[at].slot).or_default().merge(known[0].clone());
    }
    let results = Mutex::new(results);
    let gate = Gate::new(stage.memory);
    stage.begin(jobs.len());
    for_each(stage.threads, jobs.len(), |index| {
        let job = &jobs[index];
        if !found.done.contains_key(&index) {
            let result = write_part(stage, parts, job, &rejects, &gate)?;
            let mut results = results.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            results.entry(job.slot).or_default().merge(result.clone());
            drop(results);
            let trash = vec![
                path(stage.read, ROWS, job.bucket),
                path(stage.dedup, DECISIONS, job.bucket),
                path(stage.dedup, TRANSFERS, job.bucket),
            ];
            journal.done(index, result, trash, |()| ())?;
        }
        stage.step();
        Ok(())
    })?;
    journal.finish()?;
    Ok(results.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner))
}

/// Folder of the stage's rejects, in the stage's own.
pub const REJECTS: &str = "rejects";

/// Removes whatever lies in `set` and is not among the parts that are done.
fn remove_strangers(set: &Path, done: &BTreeSet<PathBuf>) -> Result<()> {
    fs_err::create_dir_all(set).map_err(Error::io(set, "create"))?;
    for folder in fs_err::read_dir(set).map_err(Error::io(set, "read"))? {
        let folder = folder.map_err(Error::io(set, "read"))?.path();
        if !folder.is_dir() {
            fs_err::remove_file(&folder).map_err(Error::io(&folder, "remove"))?;
            continue;
        }
        for file in fs_err::read_dir(&folder).map_err(Error::io(&folder, "read"))? {
            let file = file.map_err(Error::io(&folder, "read"))?.path();
            if !done.contains(&file) {
                fs_err::remove_file(&file).map_err(Error::io(&file, "remove"))?;
            }
        }
    }
    Ok(())
}

fn write_part(
    stage: &Stage<'_>,
    parts: &Parts<'_>,
    job: &PartJob,
    rejects: &RejectSink,
    gate: &Gate,
) -> Result<SlotResult> {
    let packed = stage.rows(job.bucket)?;
    let decisions_path = path(stage.dedup, DECISIONS, job.bucket);
    let transfers_path = path(stage.dedup, TRANSFERS, job.bucket);
    let beside = 2 * size(&decisions_path)? + 2 * size(&transfers_path)?;
    let raw = packed.raw_size()?;
    let _pass = gate.enter(raw + beside);
    let decisions = Decision::decode_all(&load(&decisions_path)?);
    let transfers = Transfer::decode_all(&load(&transfers_path)?)?;
    let rows = SortedRows::open(&packed, raw, stage.memory)?;
    let expected = parts.read.bucket_rows[job.bucket];
    if rows.len() as u64 != expected {
        let message = format!(
            "work files were damaged: expected {expected} rows, found {}; hint: remove the work folder and start again",
            rows.len()
        );
        return Err(Error::shard(&packed.path, message));
    }

    let mut part = Part {
        stage,
        job,
        keys: KeySource {
            kept: stage.layout.keep_keys,
            near: parts.near,
            united: parts.united,
            task: stage.layout.task(job.bucket),
        },
        writer: match job.path(parts.set) {
            Some(file) => Some(PartWriter::create_of(parts.read.kind(), &file, &job.source)?),
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
        let id = row.row;
        part.row(row, about(&decisions, id, |one| one.row), about(&transfers, id, |one| one.to))?;
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
    keys: KeySource<'a>,
    writer: Option<PartWriter>,
    result: SlotResult,
    rejects: Vec<Reject>,
}

impl Part<'_> {
    fn row<'r>(&mut self, mut row: SpillRow<'r>, decisions: &[Decision], transfers: &'r [Transfer]) -> Result<()> {
        let (mut also, mut gone) = (Vec::new(), [Vec::new(), Vec::new()]);
        for decision in decisions {
            match decision.action {
                Action::DropRow(reason, twin, alike) => {
                    let text = row.pos.first().or(row.neg.first()).map_or("", |item| item.text);
                    self.reject(&row, (RejectPart::Row, 0), reason, (twin, alike), text);
                    return Ok(());
                }
                Action::DropPositive(item, reason, twin, alike) => {
                    let text = row.pos[item as usize].text;
                    self.reject(&row, (RejectPart::Positive, item), reason, (twin, alike), text);
                    gone[0].push(item as usize);
                }
                Action::DropNegative(item, reason, twin, alike) => {
                    let text = row.neg[item as usize].text;
                    self.reject(&row, (RejectPart::Negative, item), reason, (twin, alike), text);
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
        let keys = self.keys.of(row, also);
        let place = || (self.stage.layout.files[row.row.file as usize].origin.as_str(), row.row.line);
        let (origin_file, origin_line) = row.origin.unwrap_or_else(place);
        self.result.also_excess += keys.also_excess;
        let Some(writer) = &mut self.writer else {
            return Err(Error::Internal("a bucket without rows has a row".to_owned()));
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

    fn reject(
        &mut self,
        row: &SpillRow<'_>,
        (part, item): (RejectPart, u32),
        reason: Reason,
        (twin, similarity): (RowId, Similarity),
        text: &str,
    ) {
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
            similarity,
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

/// Texts, keys and scores as columns; no scores where no text has one.
fn columns<'a>(items: &[Item<'a>]) -> (Vec<&'a str>, Vec<u64>, Vec<f32>) {
    let scored = items.iter().any(|item| !item.score.is_nan());
    (
        items.iter().map(|item| item.text).collect(),
        items.iter().map(|item| item.key).collect(),
        if scored { items.iter().map(|item| item.score).collect() } else { Vec::new() },
    )
}
