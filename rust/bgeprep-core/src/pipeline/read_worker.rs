//! What a thread does with a chunk: parse, clean, key, sketch, spill.

use std::collections::BTreeMap;

use super::layout::{BucketLayout, FileEntry};
use super::read_stage::{Outputs, ReadReport};
use super::rejects::{Reject, Twin};
use super::sketching::Sketching;
use crate::Result;
use crate::clean::{CleanPair, CleanText, Cleaner};
use crate::config::{DedupMode, PrepPlan};
use crate::dedup::{KeyRecord, Kind};
use crate::pair::Task;
use crate::read::{Body, Chunk, Unmapped};
use crate::report::{RejectPart, Similarity};
use crate::shard::rejects::excerpt;
use crate::shuffle::{RowId, order_key, row};

/// One thread's tools and scratch space.
pub(super) struct Worker<'a> {
    plan: &'a PrepPlan,
    pub(super) layout: &'a BucketLayout,
    outputs: &'a Outputs,
    cleaner: Cleaner,
    near: Option<Sketching>,
    pair: CleanPair,
    bytes: Vec<u8>,
    rejects: Vec<Reject>,
    removed: Vec<crate::clean::Removed>,
    report: ReadReport,
}

impl<'a> Worker<'a> {
    pub(super) fn new(plan: &'a PrepPlan, layout: &'a BucketLayout, outputs: &'a Outputs) -> Self {
        Self {
            plan,
            layout,
            outputs,
            cleaner: Cleaner::new(plan.clean),
            near: (plan.dedup.mode == DedupMode::Near).then(|| Sketching::new(plan, layout)),
            pair: CleanPair::default(),
            bytes: Vec::new(),
            rejects: Vec::new(),
            removed: Vec::new(),
            report: ReadReport::default(),
        }
    }

    /// Cleans, keys and spills a chunk; what it came to.
    pub(super) fn chunk(&mut self, chunk: &Chunk, file: usize) -> Result<ReadReport> {
        self.report.bucket_rows.resize(self.layout.buckets, 0);
        let entry = &self.layout.files[file];
        let mut unmapped = Unmapped::default();
        chunk.records(&mut unmapped, &mut |record| {
            let id = RowId { file: file as u32, line: record.line };
            match record.body {
                Body::Pair(raw) => self.pair(entry, id, &raw),
                Body::Bad { reason, detail, text } => {
                    let slot = self.layout.slot(entry.source, self.plan.sources[entry.source].task);
                    let tally = self.report.tallies.entry(slot).or_default();
                    tally.rows_read += 1;
                    tally.add(RejectPart::Row, reason);
                    if reason.is_unreadable() && self.report.first_bad.is_none() {
                        self.report.first_bad = Some((file as u32, record.line, reason, detail.clone()));
                    }
                    self.rejects.push(Reject {
                        slot,
                        row: id,
                        part: RejectPart::Row,
                        item: 0,
                        reason,
                        detail,
                        twin: Twin::None,
                        similarity: Similarity::NONE,
                        query: String::new(),
                        text: excerpt(&text).to_owned(),
                    });
                    Ok(())
                }
            }
        })?;
        self.outputs.rejects.add(&mut self.rejects)?;
        if let Some(near) = &mut self.near {
            self.report.sketched = near.spill(self.outputs)?;
        }
        let columns = unmapped.iter().map(|(column, count)| (column.to_owned(), count)).collect::<BTreeMap<_, _>>();
        if !columns.is_empty() {
            self.report.unmapped.insert(entry.source as u32, columns);
        }
        Ok(std::mem::take(&mut self.report))
    }

    fn pair(&mut self, entry: &FileEntry, id: RowId, raw: &crate::pair::RawPair<'_>) -> Result<()> {
        let source = &self.plan.sources[entry.source];
        let task = raw.task.unwrap_or(source.task);
        let slot = self.layout.slot(entry.source, task);
        let tally = self.report.tallies.entry(slot).or_default();
        tally.rows_read += 1;
        let stays = self.cleaner.clean(raw, &mut self.pair, &mut self.removed);
        for lost in self.removed.drain(..) {
            tally.add(lost.part, lost.reason);
            let item = lost.item as usize;
            let text = match lost.part {
                RejectPart::Row | RejectPart::Positive => raw.pos.get(item).or_else(|| raw.neg.get(item)),
                RejectPart::Negative => raw.neg.get(item),
            };
            self.rejects.push(Reject {
                slot,
                row: id,
                part: lost.part,
                item: lost.item,
                reason: lost.reason,
                detail: lost.detail,
                twin: Twin::None,
                similarity: Similarity::NONE,
                query: excerpt(&raw.query).to_owned(),
                text: text.map_or_else(String::new, |text| excerpt(text).to_owned()),
            });
        }
        if !stays {
            return Ok(());
        }
        let order = order_key(entry.seed, id.line);
        let bucket = self.layout.bucket(entry.source, task, order);
        self.outputs.rows.append_with(bucket as usize, |bytes| row::encode(&self.pair, id, order, bytes))?;
        self.report.bucket_rows[bucket as usize] += 1;
        if let Some(near) = &mut self.near {
            near.pair(&self.pair, task == Task::Symmetric, self.outputs)?;
        }

        self.bytes.clear();
        let common = KeyRecord {
            query: self.pair.query.identity.hash,
            query_key: self.pair.query.identity.key,
            text: 0,
            text_key: 0,
            row: id,
            bucket,
            priority: source.priority,
            slot,
            score: f32::NAN,
            item: 0,
            kind: Kind::Positive,
            symmetric: task == Task::Symmetric,
            merge: source.merge_positives,
            near: task == Task::Retrieval,
        };
        let record = |text: &CleanText, item: usize, kind: Kind| KeyRecord {
            text: text.identity.hash,
            text_key: text.identity.key,
            // Survival is a matter of positives: a negative's score says nothing about its row.
            score: if kind == Kind::Negative { f32::NAN } else { text.score },
            item: item as u32,
            kind,
            ..common
        };
        for (item, text) in self.pair.pos.iter().enumerate() {
            record(text, item, Kind::Positive).encode(&mut self.bytes);
        }
        for (item, text) in self.pair.neg.iter().enumerate() {
            record(text, item, Kind::Negative).encode(&mut self.bytes);
        }
        self.outputs.keys.append(common.partition(self.layout.partitions), &self.bytes)?;
        if task == Task::Symmetric {
            for (item, text) in self.pair.pos.iter().enumerate() {
                self.bytes.clear();
                let mirror = KeyRecord {
                    query: text.identity.hash,
                    query_key: text.identity.key,
                    text: self.pair.query.identity.hash,
                    text_key: self.pair.query.identity.key,
                    score: text.score,
                    item: item as u32,
                    kind: Kind::Mirror,
                    ..common
                };
                mirror.encode(&mut self.bytes);
                self.outputs.keys.append(mirror.partition(self.layout.partitions), &self.bytes)?;
            }
        }
        Ok(())
    }
}
