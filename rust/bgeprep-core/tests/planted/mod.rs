//! Rows with planted keys to plan over, and DESIGN's batch rules read row against row.

use std::collections::BTreeSet;
use std::sync::Arc;

use bgeprep_core::Result;
use bgeprep_core::batch::{
    GlobalBatch, Mix, NegativeChoice, NegativeKeys, PlanOptions, PlanRows, PlanSource, Planner, RowKeys, Unplaced,
};
use bgeprep_core::pair::Task;

#[derive(Debug, Clone, Default)]
pub(crate) struct PlantedRow {
    pub(crate) query: u64,
    pub(crate) pos: Vec<u64>,
    pub(crate) neg: Vec<u64>,
    pub(crate) also_pos: Vec<u64>,
}

#[derive(Debug)]
pub(crate) struct Planted {
    pub(crate) sources: Vec<PlanSource>,
    pub(crate) rows: Vec<PlantedRow>,
}

impl Planted {
    pub(crate) fn new(sources: Vec<(Task, Vec<PlantedRow>)>) -> Arc<Self> {
        let mut planted = Self { sources: Vec::new(), rows: Vec::new() };
        for (task, rows) in sources {
            planted.sources.push(PlanSource {
                name: format!("source-{}", planted.sources.len()),
                task,
                weight: None,
                group: task.name().to_owned(),
                first: planted.rows.len() as u64,
                rows: rows.len() as u64,
            });
            planted.rows.extend(rows);
        }
        Arc::new(planted)
    }
}

impl PlanRows for Planted {
    fn sources(&self) -> &[PlanSource] {
        &self.sources
    }

    fn set_hash(&self) -> &'static str {
        "planted"
    }

    fn keys(&self, row: u64) -> Result<RowKeys<'_>> {
        let row = &self.rows[row as usize];
        Ok(RowKeys {
            query: row.query,
            pos: &row.pos,
            also_pos: &row.also_pos,
            query_exact: row.query,
            pos_exact: &row.pos,
        })
    }

    fn negatives(&self, row: u64) -> Result<NegativeKeys<'_>> {
        let neg = &self.rows[row as usize].neg;
        Ok(NegativeKeys { keys: neg, exact: neg })
    }

    fn bytes(&self, row: u64, positive: u32, negatives: &[u32]) -> Result<u64> {
        Ok(row % 13 + u64::from(positive) + negatives.len() as u64)
    }
}

pub(crate) fn options(batch_size: u64) -> PlanOptions {
    PlanOptions {
        batch_size,
        seed: 42,
        num_epochs: Some(1),
        max_steps: None,
        mix: Mix::AllRows,
        negatives: 2,
        negative_choice: NegativeChoice::Sample,
        drop_last: false,
        min_fill: 0.0,
        top_up: false,
        groups: Vec::new(),
        mixed: false,
        clusters: None,
    }
}

pub(crate) fn weights(of: &[(&str, f64)]) -> Mix {
    Mix::Weighted { weights: Some(of.iter().map(|(name, weight)| ((*name).to_owned(), *weight)).collect()), alpha: 0.0 }
}

/// Rows without any collision: query and positive keys of their own.
pub(crate) fn free(count: u64, base: u64) -> Vec<PlantedRow> {
    let row = |n: u64| PlantedRow { query: base + 2 * n, pos: vec![base + 2 * n + 1], ..PlantedRow::default() };
    (0..count).map(row).collect()
}

pub(crate) fn run(planner: &mut Planner<Planted>) -> (Vec<GlobalBatch>, Vec<Unplaced>) {
    let mut batches = Vec::new();
    while let Some(batch) = planner.next_batch().unwrap() {
        batches.push(batch);
    }
    let mut unplaced: Vec<Unplaced> = batches.iter().flat_map(|batch| batch.unplaced.iter().copied()).collect();
    unplaced.extend(planner.take_unplaced());
    (batches, unplaced)
}

pub(crate) fn plan(rows: &Arc<Planted>, options: &PlanOptions) -> (Vec<GlobalBatch>, Vec<Unplaced>) {
    run(&mut Planner::new(Arc::clone(rows), options).unwrap())
}

/// DESIGN's batch rules as they read, every row against every other.
pub(crate) fn violations(rows: &Planted, batch: &GlobalBatch) -> Vec<String> {
    let chosen = &batch.chosen;
    let task_of = |row: u64| rows.sources[rows.source_of(row).unwrap()].task;
    let mut found = Vec::new();
    for one in 0..chosen.rows.len() {
        let row = &rows.rows[chosen.rows[one] as usize];
        let known: BTreeSet<u64> = row.pos.iter().chain(&row.also_pos).copied().collect();
        for other in 0..chosen.rows.len() {
            let second = &rows.rows[chosen.rows[other] as usize];
            let negatives = chosen.negatives_of(other).iter().map(|place| second.neg[*place as usize]);
            if one == other {
                let places: BTreeSet<u32> = chosen.negatives_of(one).iter().copied().collect();
                if places.len() != chosen.negatives_of(one).len() {
                    found.push(format!("row {} takes a negative twice", chosen.rows[one]));
                }
                if negatives.into_iter().any(|key| known.contains(&key) || key == row.query) {
                    found.push(format!("row {} has a false negative of its own", chosen.rows[one]));
                }
                continue;
            }
            if row.query == second.query {
                found.push(format!("query key {} twice", row.query));
            }
            let tasks = [task_of(chosen.rows[one]), task_of(chosen.rows[other])];
            if tasks.contains(&Task::Classification) {
                continue;
            }
            for document in negatives.chain([second.pos[chosen.positives[other] as usize]]) {
                if known.contains(&document) || document == row.query {
                    found.push(format!("document {document} is false for row {}", chosen.rows[one]));
                }
            }
            if tasks[1] == Task::Symmetric && known.contains(&second.query) {
                found.push(format!("query {} is a positive of row {}", second.query, chosen.rows[one]));
            }
        }
    }
    found
}

/// Every row of the set in one epoch: either in one batch or in the list of the unplaced.
pub(crate) fn check_used_once(rows: &Planted, epoch: u64, batches: &[GlobalBatch], unplaced: &[Unplaced]) {
    let mut times = vec![0; rows.rows.len()];
    for batch in batches.iter().filter(|batch| batch.epoch == epoch) {
        for row in &batch.chosen.rows {
            times[*row as usize] += 1;
        }
    }
    for entry in unplaced.iter().filter(|entry| entry.pass == epoch) {
        times[entry.row as usize] += 1;
    }
    assert!(times.iter().all(|count| *count == 1), "epoch {epoch}: {times:?}");
}
