//! The audit of a plan: every kind of violation planted into a batch is found, and counted once.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::Arc;

use bgeprep_core::batch::{
    Audit, AuditReport, Chosen, GlobalBatch, Mix, NegativeChoice, PlanOptions, Planner, SetRows,
};
use bgeprep_core::clean::text::key;
use bgeprep_core::shard::{Manifest, PartWriter, ShardRow, ShardSet, SourceEntry};

/// A query, its positive, and its negatives.
type Texts = (&'static str, &'static str, &'static [&'static str]);

const ROWS: [Texts; 8] = [
    ("why is the sky blue", "air scatters blue light", &["the sea is salt", "rain falls from clouds"]),
    ("Why is the  SKY blue", "short waves are scattered more", &[]),
    ("what makes rain", "rain falls from clouds", &["air scatters blue light"]),
    ("what scatters light", "air scatters blue light", &[]),
    ("is the sea salt", "yes, by weight three parts in a hundred", &["what makes rain", "plain words", "plain words"]),
    ("rain falls from clouds", "a sentence", &[]),
    ("one two three four five six seven eight nine ten", "first of its kind", &[]),
    ("one two three four five six seven eight nine ten eleven", "second of its kind", &[]),
];

fn write_set(folder: &Path, task: &str) -> SetRows {
    let mut writer = PartWriter::create(&folder.join("one").join("part-00000.arrow"), "one").unwrap();
    for (line, (query, pos, neg)) in ROWS.iter().enumerate() {
        let (pos_keys, neg_keys) = ([key(pos)], neg.iter().map(|text| key(text)).collect::<Vec<_>>());
        // As sharding writes them: positives of other rows with the query.
        let same_query = ROWS.iter().filter(|other| key(other.0) == key(query) && other.1 != *pos);
        let also: Vec<u64> = same_query.map(|other| key(other.1)).collect();
        let row = ShardRow {
            query,
            pos: &[pos],
            neg,
            pos_scores: &[],
            neg_scores: &[],
            query_key: key(query),
            pos_keys: &pos_keys,
            neg_keys: &neg_keys,
            also_pos_keys: &also,
            query_exact_key: key(query),
            pos_exact_keys: &pos_keys,
            neg_exact_keys: &neg_keys,
            id: "",
            prompt: "",
            origin_file: "rows.jsonl",
            origin_line: line as u64 + 1,
        };
        writer.push(&row).unwrap();
    }
    let entry = SourceEntry {
        name: "one".to_owned(),
        task: task.to_owned(),
        rows: ROWS.len() as u64,
        rows_read: ROWS.len() as u64,
        bytes: writer.text_bytes(),
        files: vec![writer.finish().unwrap()],
        ..SourceEntry::default()
    };
    Manifest::new(serde_json::json!({}), 1, vec![entry], Vec::new()).write(folder).unwrap();
    SetRows::new(ShardSet::open(folder).unwrap()).unwrap()
}

/// A batch of rows with some of their negatives.
fn batch(rows: &[(u64, &[u32])]) -> GlobalBatch {
    let mut chosen = Chosen { negative_offsets: vec![0], ..Chosen::default() };
    for (row, negatives) in rows {
        chosen.rows.push(*row);
        chosen.positives.push(0);
        chosen.negatives.extend(*negatives);
        chosen.negative_offsets.push(chosen.negatives.len() as u32);
    }
    GlobalBatch { step: 0, epoch: 0, source: Some(0), chosen, unplaced: Vec::new() }
}

fn audited(task: &str, rows: &[(u64, &[u32])]) -> AuditReport {
    let folder = tempfile::tempdir().unwrap();
    let set = write_set(folder.path(), task);
    let mut audit = Audit::new(&set, 0.8).unwrap();
    audit.batch(&batch(rows)).unwrap();
    audit.finish()
}

#[test]
fn every_rule_is_seen_when_it_is_broken() {
    for (rows, exact) in [
        (&[(0, &[0_u32][..]), (2, &[]), (6, &[])][..], [0, 0, 0]),
        // One query twice; and what the one's row knows is a document of the other.
        (&[(0, &[]), (1, &[])], [1, 2, 0]),
        // One passage under two queries.
        (&[(0, &[]), (3, &[])], [0, 2, 0]),
        // A negative that is another row's positive.
        (&[(0, &[1]), (2, &[])], [0, 1, 0]),
        // A positive of the row's own query by another row of the set, which is not in the batch.
        (&[(1, &[]), (3, &[])], [0, 1, 0]),
        // A document that is another row's query.
        (&[(2, &[]), (5, &[])], [0, 1, 0]),
        (&[(4, &[0]), (2, &[])], [0, 1, 0]),
        // One document twice in a row.
        (&[(4, &[1, 2])], [0, 0, 1]),
    ] {
        let report = audited("retrieval", rows);
        let found = [report.exact.queries, report.exact.documents, report.exact.own];
        assert_eq!(found, exact, "{rows:?}: {:?}", report.examples);
        assert_eq!(report.examples.is_empty(), exact == [0; 3]);
    }
    assert_eq!(audited("classification", &[(0, &[1]), (2, &[]), (3, &[])]).exact.total(), 0, "no in-batch negatives");
    assert_eq!(audited("symmetric", &[(2, &[]), (5, &[])]).exact.documents, 3, "either text is a query");
}

#[test]
fn near_texts_are_counted_as_a_rate_not_as_violations() {
    let report = audited("retrieval", &[(6, &[]), (7, &[]), (0, &[])]);
    assert_eq!((report.exact.total(), report.by_key.total()), (0, 0));
    let queries = report.near.queries.unwrap();
    assert_eq!((queries.found, queries.pairs), (2, 3));
    assert_eq!(report.near.documents.unwrap().found, 0);
}

#[test]
fn the_plan_itself_breaks_no_rule() {
    let folder = tempfile::tempdir().unwrap();
    let set = Arc::new(write_set(folder.path(), "retrieval"));
    let options = PlanOptions {
        batch_size: 8,
        seed: 3,
        num_epochs: Some(5),
        max_steps: None,
        mix: Mix::AllRows,
        negatives: 3,
        negative_choice: NegativeChoice::Sample,
        drop_last: false,
        min_fill: 0.0,
        top_up: true,
        groups: Vec::new(),
        mixed: false,
        clusters: None,
    };
    let mut planner = Planner::new(Arc::clone(&set), &options).unwrap();
    let mut audit = Audit::new(&set, 0.8).unwrap();
    while let Some(batch) = planner.next_batch().unwrap() {
        audit.batch(&batch).unwrap();
    }
    let report = audit.finish();
    assert!(report.rows > 20 && report.exact.total() == 0 && report.by_key.own == 0, "{report:?}");
}
