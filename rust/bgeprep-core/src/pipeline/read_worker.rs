//! What a thread does with a chunk: parse, clean, key, sketch, spill.

use std::collections::BTreeMap;

use super::exclusion::Exclusion;
use super::keys;
use super::layout::{BucketLayout, FileEntry};
use super::origins::Block;
use super::read_stage::{Filters, Outputs, ReadReport};
use super::rejects::{Reject, Twin};
use super::sketching::Sketching;
use crate::Result;
use crate::clean::{CleanPair, Cleaner, KeptRow};
use crate::config::{DedupMode, PrepPlan, SourceSpec};
use crate::pair::{RawPair, SetKind, Task};
use crate::read::{Body, Chunk, Unmapped};
use crate::report::{RejectPart, Similarity};
use crate::scores::ScoreFilter;
use crate::shard::rejects::excerpt;
use crate::shuffle::{RowId, order_key, row};

/// One thread's tools and scratch space.
pub(super) struct Worker<'a> {
    plan: &'a PrepPlan,
    pub(super) layout: &'a BucketLayout,
    filter: Option<&'a ScoreFilter>,
    outputs: &'a Outputs,
    /// By source.
    cleaners: Vec<Cleaner>,
    exclusion: Option<Exclusion<'a>>,
    near: Option<Sketching>,
    pair: CleanPair,
    origins: Block,
    bytes: Vec<u8>,
    rejects: Vec<Reject>,
    removed: Vec<crate::clean::Removed>,
    report: ReadReport,
}

impl<'a> Worker<'a> {
    pub(super) fn new(
        (plan, layout): (&'a PrepPlan, &'a BucketLayout),
        filters: &'a Filters,
        outputs: &'a Outputs,
    ) -> Self {
        Self {
            plan,
            layout,
            filter: filters.scores.as_ref(),
            outputs,
            cleaners: plan.sources.iter().map(|source| Cleaner::new(source.clean.clone())).collect(),
            exclusion: filters.benchmarks.as_ref().map(Exclusion::new),
            near: (plan.dedup.mode == DedupMode::Near).then(|| Sketching::new(plan, layout)),
            pair: CleanPair::default(),
            origins: Block::default(),
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
            self.pair.origin.set(record.origin.as_ref());
            if let (Some(origin), None) = (&record.origin, &entry.part) {
                self.origins.add(record.line, origin);
            }
            match record.body {
                Body::Pair(raw) => self.pair(entry, id, &raw),
                Body::Bad { reason, detail, text } => {
                    let slot = self.layout.slot(entry.source, self.plan.sources[entry.source].task);
                    let tally = self.report.tallies.entry(slot).or_default();
                    tally.rows_read += 1;
                    tally.add(RejectPart::Row, reason);
                    if reason.is_unreadable() && self.report.first_bad.is_none() {
                        let from =
                            record.origin.as_ref().map(|origin| format!(" (from {}:{})", origin.file, origin.line));
                        let told = format!("{detail}{}", from.unwrap_or_default());
                        self.report.first_bad = Some((file as u32, record.line, reason, told));
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
        self.origins.spill(file as u32, &self.outputs.origins)?;
        if let Some(near) = &mut self.near {
            self.report.sketched = near.spill(self.outputs)?;
        }
        if let Some(exclusion) = &mut self.exclusion {
            exclusion.hand_over(&mut self.report.hits);
        }
        let columns = unmapped.iter().map(|(column, count)| (column.to_owned(), count)).collect::<BTreeMap<_, _>>();
        if !columns.is_empty() {
            self.report.unmapped.insert(entry.source as u32, columns);
        }
        Ok(std::mem::take(&mut self.report))
    }

    fn pair(&mut self, entry: &FileEntry, id: RowId, raw: &RawPair<'_>) -> Result<()> {
        let source = &self.plan.sources[entry.source];
        self.report.kinds.entry(raw.kind).or_insert((id.file, id.line));
        if source.against {
            return self.compared(entry, id, raw);
        }
        // A document is a passage, whatever task its source is said to have.
        let task = if raw.kind == SetKind::Text { Task::Retrieval } else { raw.task.unwrap_or(source.task) };
        let slot = self.layout.slot(entry.source, task);
        let tally = self.report.tallies.entry(slot).or_default();
        tally.rows_read += 1;
        let mut stays = self.cleaners[entry.source].clean(raw, &mut self.pair, &mut self.removed);
        if let (true, Some(filter)) = (stays, self.filter) {
            let counts = self.report.scores.get_or_insert_default();
            stays = filter.apply(id, &mut self.pair, &mut self.removed, counts);
        }
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
        if let Some(exclusion) = &mut self.exclusion
            && !exclusion.apply(&mut self.pair, task == Task::Symmetric, (slot, id), tally, &mut self.rejects)
        {
            return Ok(());
        }
        let origin = &self.pair.origin;
        let order = if origin.is_some() {
            self.layout.order_of_origin(entry.source, &origin.file, origin.line)
        } else {
            order_key(entry.seed, id.line)
        };
        let bucket = self.spill_row(entry, id, task, order)?;
        self.report.bucket_rows[bucket as usize] += 1;
        // Where a set keeps its keys, nothing is compared.
        if self.layout.keep_keys { Ok(()) } else { self.keys(source, id, task, bucket) }
    }

    /// A row that others are compared with: it leaves what comparing takes, and is neither counted nor written.
    fn compared(&mut self, entry: &FileEntry, id: RowId, raw: &RawPair<'_>) -> Result<()> {
        let source = &self.plan.sources[entry.source];
        let stays = self.cleaners[entry.source].clean(raw, &mut self.pair, &mut self.removed);
        // Its set has said why a text went.
        self.removed.clear();
        if !stays {
            return Ok(());
        }
        keys::clusters(&self.pair, source.task, &self.outputs.clusters, &mut self.bytes)?;
        // That a text is no answer there says nothing about the rows of this run.
        self.pair.neg.clear();
        self.pair.kept = KeptRow::default();
        let order = order_key(entry.seed, id.line);
        let bucket = match &self.near {
            // Near texts are verified, for which they have to lie somewhere.
            Some(_) => self.spill_row(entry, id, source.task, order)?,
            None => self.layout.bucket(entry.source, source.task, order),
        };
        self.keys(source, id, source.task, bucket)
    }

    /// Spills the clean row; its bucket.
    fn spill_row(&self, entry: &FileEntry, id: RowId, task: Task, order: u64) -> Result<u32> {
        let bucket = self.layout.bucket(entry.source, task, order);
        self.outputs.rows.append_with(bucket as usize, |bytes| row::encode(&self.pair, id, order, bytes))?;
        Ok(bucket)
    }

    /// Spills what dedup has to know of the clean row.
    fn keys(&mut self, source: &SourceSpec, row: RowId, task: Task, bucket: u32) -> Result<()> {
        if let Some(near) = &mut self.near {
            near.pair(&self.pair, task, self.outputs)?;
        }
        let slot = self.layout.slot(self.layout.files[row.file as usize].source, task);
        let common = keys::common(source, row, task, slot, bucket);
        keys::records(&self.pair, common, self.layout.partitions, &self.outputs.keys, &mut self.bytes)?;
        if self.pair.kept.from_set {
            keys::clusters(&self.pair, task, &self.outputs.clusters, &mut self.bytes)?;
        }
        Ok(())
    }
}
