//! The keys that a row is batched by: those it brought along, or those of the clusters that its texts are in now.

use crate::dedup::exact::ALSO_LIMIT;
use crate::near::shingle::Rule;
use crate::near::table::NearTables;
use crate::pair::Task;
use crate::shuffle::row::{Item, SpillRow};

/// Where the keys of a bucket's rows come from.
#[derive(Debug, Clone, Copy)]
pub(super) struct KeySource<'a> {
    /// Rows of a shard set keep what they brought along.
    pub(super) kept: bool,
    /// Clusters of near dedup, where it ran.
    pub(super) near: Option<&'a NearTables>,
    /// Clusters of shard sets, brought together, where there are any.
    pub(super) united: Option<&'a NearTables>,
    /// The task of the rows.
    pub(super) task: Task,
}

/// Keys of one row as they are written.
#[derive(Debug)]
pub(super) struct BatchingKeys {
    pub(super) query: u64,
    pub(super) pos: Vec<u64>,
    pub(super) neg: Vec<u64>,
    pub(super) also: Vec<u64>,
    /// Known positives beyond the limit.
    pub(super) also_excess: u64,
}

impl KeySource<'_> {
    /// The keys of a row; `also` are the batching keys that dedup tells it, or exact ones where near dedup did not run.
    pub(super) fn of(&self, row: &SpillRow<'_>, also: &[u64]) -> BatchingKeys {
        if let (Some(kept), true) = (&row.kept, self.kept) {
            let (pos, neg) = kept.clusters.split_at(row.pos.len());
            let also = kept.also_pos_keys.clone();
            let (pos, neg) = (pos.to_vec(), neg.to_vec());
            return BatchingKeys { query: kept.query_cluster, pos, neg, also, also_excess: 0 };
        }
        let rule = Rule::of_passages(self.task);
        let list = |items: &[Item<'_>]| items.iter().map(|item| self.key(rule, item.key)).collect::<Vec<_>>();
        let pos = list(&row.pos);
        let (mut also, mut also_excess) = (also.to_vec(), 0);
        if self.united.is_some() {
            also.extend(row.kept.iter().flat_map(|kept| &kept.also_pos_keys));
            for known in &mut also {
                *known = self.key(rule, *known);
            }
            also.sort_unstable();
            also.dedup();
            also.retain(|key| !pos.contains(key));
            also_excess = also.len().saturating_sub(ALSO_LIMIT) as u64;
            also.truncate(ALSO_LIMIT);
        }
        BatchingKeys { query: self.key(Rule::Query, row.query_key), neg: list(&row.neg), pos, also, also_excess }
    }

    fn key(&self, rule: Rule, key: u64) -> u64 {
        let tables = self.near.into_iter().chain(self.united);
        tables.fold(key, |key, tables| tables.of(rule).cluster(key))
    }
}
