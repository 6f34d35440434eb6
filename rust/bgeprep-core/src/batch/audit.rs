//! Does a plan keep its promise? The batch rules once more, by sorting and merging lists of keys.
//!
//! Nothing of the plan's own bookkeeping is used. What a query's positives are is collected anew
//! from the exact keys of all rows of the set; the batching keys, which hold near duplicates
//! together, are checked in the same way. Then texts themselves are compared, on some batches: how
//! many rows share a batch with a near duplicate that near dedup did not find.

use std::cell::Cell;

use serde::Serialize;

use super::plan::GlobalBatch;
use super::rows::{NegativeKeys, PlanRows, RowKeys};
use super::set_rows::SetRows;
use crate::clean::text::normalise;
use crate::near::sample::near_pairs;
use crate::near::shingle::{Rule, Shingler};
use crate::pair::Task;
use crate::shard::reports::Rate;
use crate::{Error, Result};

/// Violations that are listed one by one.
const EXAMPLES: usize = 20;

/// How often each rule is broken.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Violations {
    /// Rows with a query that another row of the batch has.
    pub queries: u64,
    /// Documents that are a known positive, or the query, of another row of the batch.
    pub documents: u64,
    /// Negatives that are a known positive, or the query, of their own row, and documents a row has twice.
    pub own: u64,
}

impl Violations {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.queries + self.documents + self.own
    }
}

/// One violation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Example {
    /// The global batch.
    pub step: u64,
    /// Row ids of the two rows, the same twice where a row breaks a rule alone.
    pub rows: [u64; 2],
    /// What is wrong.
    pub rule: &'static str,
}

/// What the texts of some batches came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NearCheck {
    /// Batches whose texts were compared.
    pub batches: u64,
    /// Jaccard similarity from which two texts are near.
    pub threshold: f64,
    /// Rows with a query near that of another row; null without rows.
    pub queries: Option<Rate>,
    /// Rows with a document near the positive of another row; null without rows.
    pub documents: Option<Rate>,
}

/// What checking a plan came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AuditReport {
    /// Global batches.
    pub batches: u64,
    /// Rows in them.
    pub rows: u64,
    /// Rows of the smallest batch.
    pub smallest: u64,
    /// Violations by exact keys: equal texts.
    pub exact: Violations,
    /// Violations by batching keys: equal texts, and near ones that were found.
    pub by_key: Violations,
    /// The first violations.
    pub examples: Vec<Example>,
    /// Near duplicates by their texts.
    pub near: NearCheck,
}

/// Checks global batches one after the other.
pub struct Audit<'r> {
    rows: &'r SetRows,
    /// (exact key of a query, exact key of a positive), sorted.
    known: Vec<(u64, u64)>,
    report: AuditReport,
    near: [u64; 3],
    shingler: Shingler,
}

/// Keys of one kind of a batch, each with the place of its row.
#[derive(Default)]
struct Lists {
    queries: Vec<(u64, u32)>,
    documents: Vec<(u64, u32)>,
    known: Vec<(u64, u32)>,
    own: Vec<u32>,
}

impl<'r> Audit<'r> {
    /// Collects the positives of all queries of the set, 16 bytes each.
    pub fn new(rows: &'r SetRows, threshold: f64) -> Result<Self> {
        let mut known = Vec::new();
        for source in rows.sources() {
            for id in source.first..source.first + source.rows {
                let keys = rows.keys(id)?;
                known.extend(keys.pos_exact.iter().map(|positive| (keys.query_exact, *positive)));
                if source.task == Task::Symmetric {
                    known.extend(keys.pos_exact.iter().map(|positive| (*positive, keys.query_exact)));
                }
            }
        }
        known.sort_unstable();
        known.dedup();
        let report = AuditReport {
            batches: 0,
            rows: 0,
            smallest: u64::MAX,
            exact: Violations::default(),
            by_key: Violations::default(),
            examples: Vec::new(),
            near: NearCheck { batches: 0, threshold, queries: None, documents: None },
        };
        Ok(Self { rows, known, report, near: [0; 3], shingler: Shingler::default() })
    }

    /// Checks a batch; texts are compared in batches 0, 1, 3, 7, 15 … so that a long run takes little longer.
    pub fn batch(&mut self, batch: &GlobalBatch) -> Result<()> {
        let rows = batch.chosen.rows.len() as u64;
        self.report.batches += 1;
        self.report.rows += rows;
        self.report.smallest = self.report.smallest.min(rows);
        let tasks = batch.chosen.rows.iter().map(|id| self.task(*id)).collect::<Result<Vec<_>>>()?;
        for exact in [true, false] {
            let mut lists = Lists::default();
            for (place, id) in batch.chosen.rows.iter().enumerate() {
                self.list(batch, place, (&self.rows.keys(*id)?, self.rows.negatives(*id)?), exact, &mut lists);
            }
            self.count(batch, &tasks, exact, lists);
        }
        if (batch.step + 1).is_power_of_two() {
            self.compare_texts(batch, &tasks)?;
        }
        Ok(())
    }

    /// What all batches came to.
    pub fn finish(mut self) -> AuditReport {
        let [rows, queries, documents] = self.near;
        self.report.near.queries = Rate::of(rows, rows, queries);
        self.report.near.documents = Rate::of(rows, rows, documents);
        self.report.smallest = if self.report.batches == 0 { 0 } else { self.report.smallest };
        self.report
    }

    fn task(&self, id: u64) -> Result<Task> {
        let source = self.rows.source_of(id).map(|source| self.rows.sources()[source].task);
        source.ok_or_else(|| Error::Internal(format!("row {id} of a plan is not in the set")))
    }

    fn list(
        &self,
        batch: &GlobalBatch,
        place: usize,
        (keys, of_negatives): (&RowKeys<'_>, NegativeKeys<'_>),
        exact: bool,
        lists: &mut Lists,
    ) {
        let at = place as u32;
        let (query, pos, neg) = if exact {
            (keys.query_exact, keys.pos_exact, of_negatives.exact)
        } else {
            (keys.query, keys.pos, of_negatives.keys)
        };
        let known: Vec<u64> = if exact {
            let start = self.known.partition_point(|(key, _)| *key < query);
            self.known[start..].iter().take_while(|(key, _)| *key == query).map(|(_, positive)| *positive).collect()
        } else {
            pos.iter().chain(keys.also_pos).copied().collect()
        };
        let negatives: Vec<u64> = batch.chosen.negatives_of(place).iter().map(|item| neg[*item as usize]).collect();
        let mut documents = vec![pos[batch.chosen.positives[place] as usize]];
        documents.extend(&negatives);
        // The query of a row and its documents have names of their own unless these are exact.
        let false_own = |key: &&u64| known.contains(key) || (exact && **key == query);
        let mut twice = documents.clone();
        twice.sort_unstable();
        let repeated = twice.windows(2).filter(|pair| pair[0] == pair[1]).count();
        let wrong = negatives.iter().filter(false_own).count() + repeated;
        lists.own.extend(std::iter::repeat_n(at, wrong));
        lists.queries.push((query, at));
        lists.documents.extend(documents.into_iter().map(|key| (key, at)));
        lists.known.extend(known.into_iter().map(|key| (key, at)));
    }

    fn count(&mut self, batch: &GlobalBatch, tasks: &[Task], exact: bool, lists: Lists) {
        let Lists { mut queries, mut documents, mut known, own } = lists;
        for list in [&mut queries, &mut documents, &mut known] {
            list.sort_unstable();
            list.dedup();
        }
        let in_batch = |place: u32| tasks[place as usize] != Task::Classification;
        documents.retain(|(_, place)| in_batch(*place));
        let symmetric = |place: u32| tasks[place as usize] == Task::Symmetric;
        let mut found: Vec<(&'static str, u32, u32)> = own.into_iter().map(|at| ("own", at, at)).collect();
        found.extend(queries.windows(2).filter(|two| two[0].0 == two[1].0).map(|two| ("queries", two[1].1, two[0].1)));
        let known_of_others: Vec<(u64, u32)> = known.into_iter().filter(|(_, place)| in_batch(*place)).collect();
        meetings(&documents, &known_of_others, |document, row| found.push(("documents", document, row)));
        if exact {
            let asked: Vec<(u64, u32)> = queries.iter().copied().filter(|(_, place)| in_batch(*place)).collect();
            meetings(&documents, &asked, |document, row| found.push(("documents", document, row)));
        }
        let queries: Vec<(u64, u32)> = queries.into_iter().filter(|(_, place)| symmetric(*place)).collect();
        meetings(&queries, &known_of_others, |query, row| found.push(("documents", query, row)));

        let counts = if exact { &mut self.report.exact } else { &mut self.report.by_key };
        for (rule, one, other) in found {
            match rule {
                "queries" => counts.queries += 1,
                "own" => counts.own += 1,
                _ => counts.documents += 1,
            }
            if self.report.examples.len() < EXAMPLES {
                let rows = [one, other].map(|place| batch.chosen.rows[place as usize]);
                self.report.examples.push(Example { step: batch.step, rows, rule });
            }
        }
    }

    fn compare_texts(&mut self, batch: &GlobalBatch, tasks: &[Task]) -> Result<()> {
        let set = self.rows.set();
        let (mut queries, mut documents) = (Vec::new(), Vec::new());
        let mut normal = String::new();
        for (place, id) in batch.chosen.rows.iter().enumerate() {
            let row = set.row(*id)?;
            queries.push((place, true, self.shingler.set(normalise(row.query(), &mut normal), Rule::Query)));
            if tasks[place] == Task::Classification {
                continue;
            }
            let rule = Rule::of_passages(tasks[place]);
            let positive = row.pos(batch.chosen.positives[place] as usize);
            documents.push((place, true, self.shingler.set(normalise(positive, &mut normal), rule)));
            for item in batch.chosen.negatives_of(place) {
                let negative = row.neg(*item as usize);
                documents.push((place, false, self.shingler.set(normalise(negative, &mut normal), rule)));
            }
        }
        let threshold = self.report.near.threshold;
        self.near[0] += batch.chosen.rows.len() as u64;
        for (list, found) in [(queries, 1), (documents, 2)] {
            let (list, sets): (Vec<(usize, bool)>, Vec<Vec<u64>>) =
                list.into_iter().map(|(place, positive, set)| ((place, positive), set)).unzip();
            let near = vec![Cell::new(false); batch.chosen.rows.len()];
            let row = |at: usize| &near[list[at].0];
            let wanted = |one: usize, other: usize| {
                // Two negatives that are alike do no harm: neither is anybody's positive.
                list[one].0 != list[other].0 && (list[one].1 || list[other].1) && !(row(one).get() && row(other).get())
            };
            near_pairs(&sets, threshold, wanted, |one, other| {
                row(one).set(true);
                row(other).set(true);
            });
            self.near[found] += near.iter().filter(|near| near.get()).count() as u64;
        }
        self.report.near.batches += 1;
        Ok(())
    }
}

/// Calls `found` with the places of each entry of `of` and one entry of `others` with its key and another place.
fn meetings(of: &[(u64, u32)], others: &[(u64, u32)], mut found: impl FnMut(u32, u32)) {
    let mut from = 0;
    for (key, place) in of {
        from += others[from..].iter().take_while(|(other, _)| other < key).count();
        let same = others[from..].iter().take_while(|(other, _)| other == key);
        if let Some((_, other)) = same.into_iter().find(|(_, other)| other != place) {
            found(*place, *other);
        }
    }
}
