//! The plan against a brute-force reading of the batch rules, on planted keys.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bgeprep_core::batch::{GlobalBatch, Mix, NegativeChoice, PlanOptions, PlanState, Planner, UnplacedReason};
use bgeprep_core::pair::Task;
use planted::{Planted, PlantedRow, check_used_once, free, options, plan, run, violations, weights};
use proptest::prelude::*;

mod planted;

fn planted_row(keys: u64) -> impl Strategy<Value = PlantedRow> {
    let list = |most| prop::collection::vec(0..keys, 0..most);
    (0..keys, prop::collection::vec(0..keys, 1..3), list(5), list(2))
        .prop_map(|(query, pos, neg, also_pos)| PlantedRow { query, pos, neg, also_pos })
}

fn planted_set() -> impl Strategy<Value = Arc<Planted>> {
    let task = prop::sample::select(&Task::ALL[..]);
    // Few keys make almost every row collide, many make almost none.
    let rows = prop_oneof![Just(8_u64), Just(60), Just(1_000)]
        .prop_flat_map(|keys| prop::collection::vec(planted_row(keys), 0..60));
    prop::collection::vec((task, rows), 1..4)
        .prop_filter("rows", |sources| sources.iter().any(|(_, rows)| !rows.is_empty()))
        .prop_map(Planted::new)
}

fn plan_options() -> impl Strategy<Value = PlanOptions> {
    let choice = prop::sample::select(vec![NegativeChoice::Sample, NegativeChoice::Top]);
    (1_u64..20, any::<u64>(), 0_u32..4, choice, prop::sample::select(vec![0.0, 0.5])).prop_map(
        |(batch_size, seed, negatives, negative_choice, min_fill)| PlanOptions {
            seed,
            num_epochs: Some(2),
            negatives,
            negative_choice,
            min_fill,
            ..options(batch_size)
        },
    )
}

proptest! {
    #[test]
    fn no_batch_breaks_a_rule_and_every_row_comes_once(rows in planted_set(), options in plan_options()) {
        let (batches, unplaced) = plan(&rows, &options);
        for (step, batch) in batches.iter().enumerate() {
            prop_assert_eq!(batch.step, step as u64);
            prop_assert!(!batch.chosen.rows.is_empty() && batch.chosen.rows.len() as u64 <= options.batch_size);
            prop_assert_eq!(violations(&rows, batch), Vec::<String>::new());
            let source = &rows.sources[batch.source.unwrap() as usize];
            for row in &batch.chosen.rows {
                prop_assert!((source.first..source.first + source.rows).contains(row));
            }
        }
        for epoch in 0..2 {
            check_used_once(&rows, epoch, &batches, &unplaced);
        }
    }

    #[test]
    fn resumed_anywhere_the_plan_goes_on_as_if_uninterrupted(rows in planted_set(), options in plan_options()) {
        let mut planner = Planner::new(Arc::clone(&rows), &options).unwrap();
        let mut states = vec![planner.state()];
        let mut batches = Vec::new();
        while let Some(batch) = planner.next_batch().unwrap() {
            batches.push(batch);
            states.push(planner.state());
        }
        for (step, state) in states.iter().enumerate() {
            let state = PlanState::from_json(&state.to_json().unwrap()).unwrap();
            prop_assert_eq!(state.step, step as u64);
            let mut resumed = Planner::new(Arc::clone(&rows), &options).unwrap();
            resumed.restore(&state).unwrap();
            prop_assert_eq!(&run(&mut resumed).0[..], &batches[step..]);
        }
    }
}

#[test]
fn a_set_without_collisions_fills_every_batch_and_another_seed_orders_anew() {
    let rows = Planted::new(vec![(Task::Retrieval, free(1_000, 0)), (Task::Retrieval, free(100, 10_000))]);
    let (batches, unplaced) = plan(&rows, &options(64));
    assert!(unplaced.is_empty());
    let short = batches.iter().filter(|batch| batch.chosen.rows.len() < 64);
    assert_eq!(short.map(|batch| batch.chosen.rows.len()).collect::<BTreeSet<_>>(), BTreeSet::from([36, 40]));
    assert_eq!(batches.len(), 16 + 2);
    let (again, _) = plan(&rows, &options(64));
    assert_eq!(batches, again);
    let (other, _) = plan(&rows, &PlanOptions { seed: 43, ..options(64) });
    assert_ne!(batches[0].chosen.rows, other[0].chosen.rows);
}

#[test]
fn many_questions_on_few_passages_give_as_few_batches_as_the_fullest_passage_allows() {
    // 1,000 passages with 1 to 6 questions each: 6 batches are needed and enough.
    let mut rows = Vec::new();
    for passage in 0..1_000_u64 {
        for question in 0..=passage % 6 {
            rows.push(PlantedRow {
                query: 10_000 + passage * 10 + question,
                pos: vec![passage],
                ..PlantedRow::default()
            });
        }
    }
    let planted = Planted::new(vec![(Task::Retrieval, rows)]);
    let (batches, unplaced) = plan(&planted, &options(32_768));
    assert_eq!(batches[0].chosen.rows.len(), 1_000);
    assert_eq!(batches.len(), 6);
    assert!(unplaced.is_empty());
}

#[test]
fn rows_that_all_collide_are_listed_with_the_reason() {
    let row = |query| PlantedRow { query, pos: vec![7], ..PlantedRow::default() };
    let mut rows = free(20, 1_000);
    rows.extend((100..140).map(row));
    let planted = Planted::new(vec![(Task::Retrieval, rows)]);
    let mut planner = Planner::new(Arc::clone(&planted), &options(10)).unwrap();
    let (batches, unplaced) = run(&mut planner);
    check_used_once(&planted, 0, &batches, &unplaced);
    assert!(unplaced.len() > 30 && unplaced.iter().all(|entry| entry.reason == UnplacedReason::Conflict));
    let report = planner.report();
    assert_eq!(report[0].counts.unplaced_conflict, unplaced.len() as u64);
    assert_eq!(report[0].counts.rows + report[0].counts.unplaced_conflict, 60);
    assert_eq!(report[0].waiting, 0);
}

#[test]
fn drop_last_leaves_out_what_ends_a_pass() {
    let planted = Planted::new(vec![(Task::Retrieval, free(105, 0))]);
    let (batches, unplaced) = plan(&planted, &PlanOptions { drop_last: true, ..options(10) });
    assert_eq!(batches.len(), 10);
    assert_eq!(unplaced.len(), 5);
    assert!(unplaced.iter().all(|entry| entry.reason == UnplacedReason::LastBatch));
}

#[test]
fn a_row_shows_another_positive_and_other_negatives_in_the_next_pass() {
    let mut rows = free(50, 0);
    for (place, row) in rows.iter_mut().enumerate() {
        let base = 100_000 + place as u64 * 100;
        row.pos.extend([base, base + 1]);
        row.neg = (base + 10..base + 40).collect();
    }
    let planted = Planted::new(vec![(Task::Retrieval, rows)]);
    let (batches, _) = plan(&planted, &PlanOptions { num_epochs: Some(3), negatives: 5, ..options(10) });
    let mut shown: BTreeMap<u64, BTreeSet<u32>> = BTreeMap::new();
    let mut drawn: BTreeMap<u64, BTreeSet<Vec<u32>>> = BTreeMap::new();
    for batch in &batches {
        for (place, row) in batch.chosen.rows.iter().enumerate() {
            shown.entry(*row).or_default().insert(batch.chosen.positives[place]);
            drawn.entry(*row).or_default().insert(batch.chosen.negatives_of(place).to_vec());
        }
    }
    assert!(shown.values().all(|positives| positives.len() == 3));
    assert!(drawn.values().all(|negatives| negatives.len() == 3));
    let first: BTreeSet<u32> = batches[..5].iter().flat_map(|batch| batch.chosen.positives.iter().copied()).collect();
    assert_eq!(first.len(), 3, "rows must not all begin with the same positive");
}

#[test]
fn weights_share_the_steps_and_a_small_source_starts_anew() {
    let sources = vec![(Task::Retrieval, free(1_000, 0)), (Task::Retrieval, free(95, 10_000))];
    let planted = Planted::new(sources);
    let mix = weights(&[("source-0", 1.0), ("source-1", 3.0)]);
    let weighted = PlanOptions { mix, num_epochs: Some(2), ..options(10) };
    let mut planner = Planner::new(Arc::clone(&planted), &weighted).unwrap();
    assert_eq!(planner.known_steps(), Some(220));
    let (batches, unplaced) = run(&mut planner);
    assert_eq!(batches.len(), 220);
    assert_eq!(batches.iter().filter(|batch| batch.epoch == 0).count(), 110);
    let of_small: Vec<&GlobalBatch> = batches.iter().filter(|batch| batch.source == Some(1)).collect();
    assert!((164..=166).contains(&of_small.len()));
    for pass in of_small.chunks_exact(10) {
        let rows: BTreeSet<u64> = pass.iter().flat_map(|batch| batch.chosen.rows.iter().copied()).collect();
        assert_eq!(rows.len(), 95, "every row once a pass");
    }
    let of_large: Vec<u64> =
        batches.iter().filter(|batch| batch.source == Some(0)).flat_map(|batch| batch.chosen.rows.clone()).collect();
    let distinct: BTreeSet<u64> = of_large.iter().copied().collect();
    assert_eq!(distinct.len(), of_large.len(), "an under-sampled source goes on where it stopped");
    assert!(unplaced.is_empty());
    assert_eq!(planner.report()[1].passes, 17);
}

#[test]
fn sources_are_interleaved_in_proportion() {
    let planted = Planted::new(vec![(Task::Retrieval, free(1_000, 0)), (Task::Retrieval, free(500, 10_000))]);
    let (batches, _) = plan(&planted, &options(10));
    for part in batches.chunks(30) {
        let small = part.iter().filter(|batch| batch.source == Some(1)).count();
        assert!((8..=12).contains(&small), "{small} of 30");
    }
}

#[test]
fn max_steps_rules_over_epochs_and_counting_plans_the_run() {
    let planted = Planted::new(vec![(Task::Retrieval, free(45, 0))]);
    let steps = PlanOptions { max_steps: Some(13), ..options(10) };
    let (batches, _) = plan(&planted, &steps);
    assert_eq!((batches.len(), batches[12].epoch), (13, 2));
    let epochs = PlanOptions { num_epochs: Some(3), ..options(10) };
    let mut planner = Planner::new(planted, &epochs).unwrap();
    assert_eq!(planner.known_steps(), None);
    assert_eq!(planner.count_steps(|| Ok(())).unwrap(), 15);
}

#[test]
fn settings_that_cannot_work_are_named() {
    let planted = Planted::new(vec![(Task::Retrieval, free(45, 0))]);
    let refused = |options: PlanOptions| Planner::new(Arc::clone(&planted), &options).unwrap_err().to_string();
    assert!(refused(options(0)).starts_with("batch.batch_size: expected at least 1"));
    let unknown = weights(&[("other", 1.0)]);
    assert!(refused(PlanOptions { mix: unknown, ..options(4) }).contains("(source-0), found \"other\""));
    let nothing = weights(&[("source-0", 0.0)]);
    assert!(refused(PlanOptions { mix: nothing, ..options(4) }).contains("no source with rows"));
    assert!(
        refused(PlanOptions { mix: Mix::Weighted { weights: None, alpha: f64::NAN }, ..options(4) })
            .starts_with("batch.alpha")
    );
    assert!(refused(PlanOptions { num_epochs: None, ..options(4) }).contains("found neither"));
    let endless = PlanOptions { drop_last: true, num_epochs: None, max_steps: Some(3), ..options(64) };
    let error = Planner::new(Arc::clone(&planted), &endless).unwrap().next_batch().unwrap_err();
    assert!(error.to_string().contains("gives no batch of 64 rows"), "{error}");
}

#[test]
fn a_state_of_another_plan_is_refused_with_what_differs() {
    let planted = Planted::new(vec![(Task::Retrieval, free(45, 0))]);
    let state = Planner::new(Arc::clone(&planted), &options(10)).unwrap().state();
    let mut other = Planner::new(Arc::clone(&planted), &options(12)).unwrap();
    let error = other.restore(&state).unwrap_err().to_string();
    assert!(error.contains("batch_size was 10, is 12"), "{error}");
    let mut same = Planner::new(planted, &options(10)).unwrap();
    let error = same.restore(&PlanState { manifest: "else".into(), ..state.clone() }).unwrap_err().to_string();
    assert!(error.contains("shard set else, this one is planted"), "{error}");
    let mut damaged = state;
    damaged.sources[0].cursor = 46;
    assert!(same.restore(&damaged).unwrap_err().to_string().contains("source-0"));
}
