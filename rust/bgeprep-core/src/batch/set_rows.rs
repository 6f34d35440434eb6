//! The shard set as rows to plan over.

use std::sync::Arc;

use super::rows::{NegativeKeys, PlanRows, PlanSource, RowKeys};
use crate::pair::{SetKind, Task};
use crate::shard::{RowIndex, ShardSet};
use crate::{Error, Result};

/// A shard set as the plan sees it.
pub struct SetRows {
    set: Arc<ShardSet>,
    sources: Vec<PlanSource>,
}

impl SetRows {
    /// Reads the sources out of the manifest.
    pub fn new(set: Arc<ShardSet>) -> Result<Self> {
        if set.kind() != SetKind::Pairs {
            let message = "expected a set of pairs, found texts; hint: open it with TextLoader";
            return Err(Error::shard(set.folder(), message));
        }
        let entries = set.manifest().sources.iter().zip(set.sources());
        let sources = entries.map(|(entry, range)| {
            let task = Task::from_name(&entry.task).ok_or_else(|| {
                let names = Task::ALL.map(Task::name).join(", ");
                let message = format!("source {:?}: expected a task of {names}, found {:?}", entry.name, entry.task);
                Error::shard(set.folder(), message)
            })?;
            let (name, weight) = (entry.name.clone(), entry.weight);
            let group = format!("{}, {}", entry.task, entry.language.as_deref().unwrap_or("no language"));
            Ok(PlanSource { name, task, weight, group, first: range.first, rows: range.rows })
        });
        let sources = sources.collect::<Result<_>>()?;
        Ok(Self { set, sources })
    }

    /// Name and task of a source.
    pub fn describe(&self, source: u32) -> Option<(String, &'static str)> {
        self.sources.get(source as usize).map(|source| (source.name.clone(), source.task.name()))
    }

    /// The set.
    pub fn set(&self) -> &Arc<ShardSet> {
        &self.set
    }
}

impl PlanRows for SetRows {
    fn sources(&self) -> &[PlanSource] {
        &self.sources
    }

    fn set_hash(&self) -> &str {
        &self.set.manifest().hash
    }

    fn keys(&self, row: u64) -> Result<RowKeys<'_>> {
        Ok(keys_of(self.set.index(row)?))
    }

    fn negatives(&self, row: u64) -> Result<NegativeKeys<'_>> {
        let row = self.set.index(row)?;
        Ok(NegativeKeys { keys: row.neg_keys(), exact: row.neg_exact_keys() })
    }

    fn visit(&self, rows: &[u64], mut take: impl FnMut(usize, RowKeys<'_>)) -> Result<()> {
        let mut place = 0;
        while let Some(row) = rows.get(place) {
            let (first, batch) = self.set.index_from(*row)?;
            while let Some(row) = rows.get(place).filter(|row| batch.contains(row)) {
                take(place, keys_of(first.nearby(batch.start, *row)));
                place += 1;
            }
        }
        Ok(())
    }

    fn warm(&self, rows: &[u64]) {
        // None of these reads depends on another, so the processor waits for many of them at once.
        let touched = rows.iter().filter_map(|row| self.set.index(*row).ok()).fold(0, |sum, row| {
            let first = |keys: &[u64]| keys.first().copied().unwrap_or(0);
            sum ^ row.query_key()
                ^ row.query_exact_key()
                ^ first(row.pos_keys())
                ^ first(row.also_pos_keys())
                ^ first(row.neg_keys())
                ^ first(row.neg_exact_keys())
        });
        std::hint::black_box(touched);
    }

    fn bytes(&self, row: u64, positive: u32, negatives: &[u32]) -> Result<u64> {
        let row = self.set.index(row)?;
        let negatives: usize = negatives.iter().map(|place| row.neg_bytes(*place as usize)).sum();
        Ok((row.query_bytes() + row.pos_bytes(positive as usize) + negatives) as u64)
    }
}

fn keys_of(row: RowIndex<'_>) -> RowKeys<'_> {
    RowKeys {
        query: row.query_key(),
        pos: row.pos_keys(),
        also_pos: row.also_pos_keys(),
        query_exact: row.query_exact_key(),
        pos_exact: row.pos_exact_keys(),
    }
}
