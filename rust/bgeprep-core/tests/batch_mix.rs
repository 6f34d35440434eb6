//! Batches of several sources: filled up from a group, mixed, drawn within clusters; and rows spaced over a pass.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgeprep_core::batch::{Clusters, GlobalBatch, PlanOptions, PlanState, Planner};
use bgeprep_core::pair::Task;
use planted::{Planted, PlantedRow, check_used_once, free, options, plan, run, violations, weights};
use proptest::prelude::*;

mod planted;

/// `passages` passages with `questions` questions each.
fn asked(passages: u64, questions: u64, base: u64) -> Vec<PlantedRow> {
    let row =
        |n: u64| PlantedRow { query: base + passages + n, pos: vec![base + n % passages], ..PlantedRow::default() };
    (0..passages * questions).map(row).collect()
}

fn topped_up(batch_size: u64) -> PlanOptions {
    PlanOptions { top_up: true, ..options(batch_size) }
}

fn sources_of(rows: &Planted, batch: &GlobalBatch) -> BTreeMap<usize, usize> {
    let mut found = BTreeMap::new();
    for row in &batch.chosen.rows {
        let source = rows.sources.iter().position(|source| (source.first..source.first + source.rows).contains(row));
        *found.entry(source.unwrap()).or_default() += 1;
    }
    found
}

#[test]
fn a_source_that_cannot_fill_a_batch_is_filled_up_from_its_group() {
    // 20 passages allow 20 rows a batch of 100; the other retrieval source fills the rest, the symmetric one must not.
    let rows = Planted::new(vec![
        (Task::Retrieval, asked(20, 10, 1_000_000)),
        (Task::Retrieval, free(5_000, 0)),
        (Task::Symmetric, free(500, 100_000)),
    ]);
    let mut planner = Planner::new(Arc::clone(&rows), &topped_up(100)).unwrap();
    let (batches, unplaced) = run(&mut planner);
    check_used_once(&rows, 0, &batches, &unplaced);
    assert!(unplaced.is_empty());
    for batch in &batches {
        assert_eq!(violations(&rows, batch), Vec::<String>::new());
        assert_eq!(batch.chosen.rows.len(), 100, "every batch is full");
        let sources = sources_of(&rows, batch);
        assert!(!(sources.contains_key(&2) && sources.len() > 1));
        assert_eq!(
            batch.source.map(|source| source as usize),
            (sources.len() == 1).then(|| *sources.keys().next().unwrap())
        );
    }
    assert_eq!(batches.len(), 57);
    assert_eq!(batches.iter().filter(|batch| batch.source.is_none()).count(), 10);
    let report = planner.report();
    assert!(report.iter().all(|source| source.counts.short_batches == 0));
    assert_eq!(report[2].counts.lent_rows, 0);
    assert!(report[1].counts.lent_rows > 700, "{report:?}");
    assert_eq!(report.iter().map(|source| source.counts.rows).sum::<u64>(), 5_700);

    // Left alone, the source's batches are short.
    let (alone, _) = plan(&rows, &options(100));
    assert_eq!(alone.iter().filter(|batch| batch.chosen.rows.len() < 100).count(), 10);
    // Groups can be given: here the source has no one to fill it up.
    let groups = vec![("source-0".to_owned(), "own".to_owned())];
    let (own, _) = plan(&rows, &PlanOptions { groups, ..topped_up(100) });
    assert_eq!(own.iter().filter(|batch| batch.chosen.rows.len() < 100).count(), 10);
    let unknown = PlanOptions { groups: vec![("other".to_owned(), "own".to_owned())], ..topped_up(100) };
    let error = Planner::new(Arc::clone(&rows), &unknown).unwrap_err().to_string();
    assert!(error.starts_with("batch.groups") && error.contains("found \"other\""), "{error}");
}

#[test]
fn a_weighted_mix_is_filled_up_too_and_every_pass_is_whole() {
    let rows = Planted::new(vec![(Task::Retrieval, asked(20, 10, 1_000_000)), (Task::Retrieval, free(900, 0))]);
    let mix = weights(&[("source-0", 1.0), ("source-1", 1.0)]);
    let (batches, unplaced) = plan(&rows, &PlanOptions { mix, max_steps: Some(60), ..topped_up(100) });
    assert!(unplaced.is_empty());
    assert!(batches.iter().all(|batch| batch.chosen.rows.len() == 100 && violations(&rows, batch).is_empty()));
    let mut times = vec![0; rows.rows.len()];
    batches.iter().flat_map(|batch| &batch.chosen.rows).for_each(|row| times[*row as usize] += 1);
    for source in &rows.sources {
        let times = &times[source.first as usize..(source.first + source.rows) as usize];
        assert!(times.iter().max().unwrap() - times.iter().min().unwrap() <= 1, "{times:?}");
    }
}

#[test]
fn mixed_batches_hold_every_source_in_proportion() {
    let rows = Planted::new(vec![
        (Task::Retrieval, free(3_000, 0)),
        (Task::Symmetric, free(970, 100_000)),
        (Task::Retrieval, free(30, 200_000)),
        (Task::Classification, free(400, 300_000)),
    ]);
    let mixed = PlanOptions { mixed: true, ..options(100) };
    let (batches, unplaced) = plan(&rows, &mixed);
    check_used_once(&rows, 0, &batches, &unplaced);
    let (with, without): (Vec<_>, Vec<_>) =
        batches.iter().map(|batch| sources_of(&rows, batch)).partition(|sources| !sources.contains_key(&3));
    assert_eq!((with.len(), without.len()), (40, 4));
    assert!(without.iter().all(|sources| sources.len() == 1), "no in-batch negatives in a batch with them");
    for sources in &with {
        assert!((74..=76).contains(&sources[&0]) && (23..=26).contains(&sources[&1]), "{sources:?}");
        assert!(sources.get(&2).copied().unwrap_or(0) <= 2);
    }
    let (weighted, _) = plan(
        &rows,
        &PlanOptions { mix: weights(&[("source-0", 1.0), ("source-2", 1.0)]), max_steps: Some(50), ..mixed },
    );
    // The source of 30 rows starts anew, and a batch holds none of its rows twice.
    for batch in &weighted {
        let distinct: BTreeSet<u64> = batch.chosen.rows.iter().copied().collect();
        assert_eq!(distinct.len(), 100);
        let small = sources_of(&rows, batch)[&2];
        assert!((20..=30).contains(&small), "{small}");
    }
}

#[test]
fn rows_of_a_key_are_spaced_over_the_pass() {
    // 40 passages with 30 questions each among rows that share nothing: 90 batches of 100.
    let mut all = asked(40, 30, 1_000_000);
    all.extend(free(7_800, 0));
    let rows = Planted::new(vec![(Task::Retrieval, all)]);
    let mut planner = Planner::new(Arc::clone(&rows), &options(100)).unwrap();
    let (batches, unplaced) = run(&mut planner);
    assert!(unplaced.is_empty());
    check_used_once(&rows, 0, &batches, &unplaced);
    let mut steps: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    for batch in &batches {
        for row in batch.chosen.rows.iter().filter(|row| **row < 1_200) {
            steps.entry(row % 40).or_default().push(batch.step);
        }
    }
    for (passage, steps) in &steps {
        assert_eq!(steps.len(), 30);
        let gaps: Vec<u64> = steps.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert!(gaps.iter().all(|gap| (2..=4).contains(gap)), "passage {passage}: {gaps:?}");
    }
    assert_eq!(planner.report()[0].counts.waited, 0, "nobody has to wait");
    // Which places a passage gets is drawn anew in each pass.
    let (twice, _) = plan(&rows, &PlanOptions { num_epochs: Some(2), ..options(100) });
    let order = |epoch: u64| twice.iter().filter(move |batch| batch.epoch == epoch).map(|batch| &batch.chosen.rows);
    assert!(order(0).ne(order(1)));
}

#[test]
fn batches_are_drawn_within_clusters_in_the_share_asked_for() {
    let rows = Planted::new(vec![(Task::Retrieval, free(8_000, 0))]);
    let ids: Vec<u32> = (0..8_000).map(|row| row * 7 % 20).collect();
    let clusters_in =
        |batch: &GlobalBatch| batch.chosen.rows.iter().map(|row| ids[*row as usize]).collect::<BTreeSet<_>>().len();
    let with = |share: f64| {
        let clusters = Some(Arc::new(Clusters::new(ids.clone(), 8_000, share).unwrap()));
        plan(&rows, &PlanOptions { clusters, num_epochs: Some(2), ..options(100) })
    };
    let (batches, unplaced) = with(0.5);
    for epoch in 0..2 {
        check_used_once(&rows, epoch, &batches, &unplaced);
    }
    let hard: Vec<bool> = batches.iter().map(|batch| clusters_in(batch) <= 2).collect();
    let share = hard.iter().filter(|hard| **hard).count() as f64 / hard.len() as f64;
    assert!((0.4..=0.6).contains(&share), "{share}");
    assert!(hard.windows(2).filter(|pair| pair[0] != pair[1]).count() > 40, "hard and ordinary batches alternate");
    assert!(with(1.0).0.iter().all(|batch| clusters_in(batch) <= 2));
    assert!(with(0.0).0.iter().all(|batch| clusters_in(batch) > 15));

    let error = Clusters::new(ids.clone(), 8_001, 0.5).unwrap_err().to_string();
    assert!(error.contains("each of the 8001 rows of the set, found 8000"), "{error}");
    assert!(Clusters::new(ids.clone(), 8_000, 1.5).is_err());
    // A state made with other clusters is refused.
    let planner = |ids: Vec<u32>| {
        let clusters = Some(Arc::new(Clusters::new(ids, 8_000, 0.5).unwrap()));
        Planner::new(Arc::clone(&rows), &PlanOptions { clusters, ..options(100) }).unwrap()
    };
    let state = planner(ids.clone()).state();
    assert!(planner(vec![0; 8_000]).restore(&state).unwrap_err().to_string().contains("clusters was"));
}

fn planted_set() -> impl Strategy<Value = Arc<Planted>> {
    let list = |keys: u64, most| prop::collection::vec(0..keys, 0..most);
    let row = move |keys: u64| {
        (0..keys, prop::collection::vec(0..keys, 1..3), list(keys, 4), list(keys, 2))
            .prop_map(|(query, pos, neg, also_pos)| PlantedRow { query, pos, neg, also_pos })
    };
    let task = prop::sample::select(&Task::ALL[..]);
    let rows = prop_oneof![Just(8_u64), Just(60), Just(1_000)]
        .prop_flat_map(move |keys| prop::collection::vec(row(keys), 0..60));
    prop::collection::vec((task, rows), 1..5)
        .prop_filter("rows", |sources| sources.iter().any(|(_, rows)| !rows.is_empty()))
        .prop_map(Planted::new)
}

proptest! {
    #[test]
    fn whatever_shares_a_batch_no_rule_is_broken_and_every_row_comes_once(
        rows in planted_set(),
        (batch_size, seed, mixed, drop_last, share) in
            (1_u64..20, any::<u64>(), any::<bool>(), any::<bool>(), prop::option::of(0.0..=1.0)),
    ) {
        let count = rows.rows.len() as u64;
        let clusters = share.map(|share| {
            Arc::new(Clusters::new((0..count as u32).map(|row| row % 5).collect(), count, share).unwrap())
        });
        let options =
            PlanOptions { seed, mixed, drop_last, clusters, num_epochs: Some(2), ..topped_up(batch_size) };
        let mut planner = Planner::new(Arc::clone(&rows), &options).unwrap();
        let (mut batches, mut states) = (Vec::new(), vec![planner.state()]);
        while let Some(batch) = planner.next_batch().unwrap() {
            prop_assert!(!batch.chosen.rows.is_empty() && batch.chosen.rows.len() as u64 <= batch_size);
            prop_assert!(!drop_last || batch.chosen.rows.len() as u64 == batch_size);
            prop_assert_eq!(violations(&rows, &batch), Vec::<String>::new());
            batches.push(batch);
            states.push(planner.state());
        }
        let mut unplaced: Vec<_> = batches.iter().flat_map(|batch| batch.unplaced.iter().copied()).collect();
        unplaced.extend(planner.take_unplaced());
        for epoch in 0..2 {
            check_used_once(&rows, epoch, &batches, &unplaced);
        }
        for (step, state) in states.iter().enumerate().step_by(3) {
            let state = PlanState::from_json(&state.to_json().unwrap()).unwrap();
            let mut resumed = Planner::new(Arc::clone(&rows), &options).unwrap();
            resumed.restore(&state).unwrap();
            prop_assert_eq!(&run(&mut resumed).0[..], &batches[step..]);
        }
    }
}
