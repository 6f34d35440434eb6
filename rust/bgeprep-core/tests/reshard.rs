//! Batching keys of shard sets that are read again: kept, or brought together where sets share a text.

use std::path::{Path, PathBuf};

use bgeprep_core::clean::CleanRules;
use bgeprep_core::clean::text::{TextForm, key};
use bgeprep_core::config::{DedupMode, DedupRules, InputFile, PrepPlan, RunOptions, SourceSpec};
use bgeprep_core::exclude::ExcludeRules;
use bgeprep_core::pair::Task;
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use bgeprep_core::read::{CHUNK_BYTES, ColumnMapping, Format, ReadOptions};
use bgeprep_core::shard::{Manifest, PartWriter, ShardRow, ShardSet, SourceEntry};
use bgeprep_core::store::Location;

/// A row, each text with the name of its cluster; OWN for a text that is in none.
struct Row {
    query: (&'static str, u64),
    pos: &'static [(&'static str, u64)],
    neg: (&'static str, u64),
    also: &'static [u64],
}

const OWN: u64 = 0;

/// The batching key of a text.
fn cluster((text, name): (&str, u64)) -> u64 {
    if name == OWN { key(text) } else { name }
}

/// Writes a set of one source and gives its part as an input.
fn set(folder: &Path, source: &str, rows: &[Row]) -> InputFile {
    let path = folder.join(source).join("part-00000.arrow");
    let mut writer = PartWriter::create(&path, source).expect("part");
    for (line, row) in rows.iter().enumerate() {
        let pos: Vec<&str> = row.pos.iter().map(|text| text.0).collect();
        let keys = |texts: &[&str]| texts.iter().map(|text| key(text)).collect::<Vec<_>>();
        writer
            .push(&ShardRow {
                query: row.query.0,
                pos: &pos,
                neg: &[row.neg.0],
                pos_scores: &[],
                neg_scores: &[],
                query_key: cluster(row.query),
                pos_keys: &row.pos.iter().map(|&text| cluster(text)).collect::<Vec<_>>(),
                neg_keys: &[cluster(row.neg)],
                also_pos_keys: row.also,
                query_exact_key: key(row.query.0),
                pos_exact_keys: &keys(&pos),
                neg_exact_keys: &keys(&[row.neg.0]),
                id: "",
                prompt: "",
                origin_file: "raw.jsonl",
                origin_line: line as u64 + 1,
            })
            .expect("row");
    }
    let part = writer.finish().expect("part");
    let (rows, bytes) = (part.rows, part.bytes);
    let entry = SourceEntry {
        name: source.to_owned(),
        task: "retrieval".to_owned(),
        rows,
        rows_read: rows,
        files: vec![part],
        ..SourceEntry::default()
    };
    Manifest::new(serde_json::json!({}), 1, vec![entry], Vec::new()).write(folder).expect("manifest");
    InputFile { location: Location::Local(path), origin: source.to_owned(), bytes, set: Some(folder.to_owned()) }
}

fn source(name: &str, input: InputFile, against: bool) -> SourceSpec {
    SourceSpec {
        name: name.to_owned(),
        task: Task::Retrieval,
        language: String::new(),
        weight: f64::NAN,
        instruction: String::new(),
        priority: 0,
        merge_positives: false,
        read: ReadOptions {
            format: Format::Auto,
            columns: ColumnMapping::default(),
            labels: Vec::new(),
            header: None,
            delimiter: None,
            quoting: None,
            cut: None,
            max_line_bytes: 1 << 20,
            chunk_bytes: CHUNK_BYTES,
        },
        clean: CleanRules {
            form: TextForm::STRICT,
            min_query_chars: 1,
            max_query_chars: 0,
            min_passage_chars: 1,
            max_passage_chars: 0,
            query_equals_positive: true,
            max_repeated_share: 2.0,
            max_symbol_share: 2.0,
            noise_min_chars: 10,
            language: None,
            max_repeated_phrase_share: 2.0,
            boilerplate: None,
        },
        inputs: vec![input],
        against,
    }
}

/// Runs over these sources and opens what comes out.
fn run(out: &Path, mode: DedupMode, sources: Vec<SourceSpec>) -> std::sync::Arc<ShardSet> {
    let plan = PrepPlan {
        sources,
        dedup: DedupRules { mode, near_threshold: 0.8, permutations: 128, max_cluster: 32 },
        exclude: ExcludeRules { benchmarks: Vec::new(), corpus: false, containment: true },
        scores: None,
        max_bad: 0.0,
        seed: 42,
        part_bytes: 1 << 20,
        config: serde_json::Value::Null,
    };
    let options = RunOptions {
        threads: 2,
        memory: pipeline::MIN_MEMORY,
        out: out.to_owned(),
        work: out.join(".work"),
        fingerprint: "test".to_owned(),
        log: serde_json::Map::new(),
    };
    pipeline::run(&plan, &options, &Progress::default()).expect("run");
    ShardSet::open(out).expect("set")
}

/// The row with this query.
fn find<'a>(set: &'a ShardSet, query: &str) -> bgeprep_core::shard::Row<'a> {
    (0..set.len()).map(|id| set.row(id).expect("row")).find(|row| row.query() == query).expect("a row of this query")
}

// Clusters are called after their smallest key; hashes this small belong to no text of this test, as if
// the texts that the clusters are called after had gone since.
const FIRST: &[Row] = &[
    Row { query: ("what is rust", 5), pos: &[("a language", 7), ("own", OWN)], neg: ("iron oxide", 8), also: &[9] },
    Row { query: ("who", OWN), pos: &[("nobody", OWN)], neg: ("a shoe", OWN), also: &[] },
];

/// Its query and its positive stand in the first set too, in clusters of other names; so does the cluster 9.
const SECOND: &[Row] = &[
    Row { query: ("What is Rust", 3), pos: &[("a programming language", 7)], neg: ("elsewhere", 9), also: &[] },
    Row { query: ("which one", 3), pos: &[("A language", 6)], neg: ("elsewhere", 4), also: &[] },
];

fn folders() -> (tempfile::TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().expect("folder");
    let (first, second) = (folder.path().join("first"), folder.path().join("second"));
    (folder, first, second)
}

#[test]
fn one_set_keeps_its_keys() {
    let (folder, first, _) = folders();
    let input = set(&first, "a", FIRST);
    let again = run(&folder.path().join("out"), DedupMode::None, vec![source("a", input, false)]);
    let row = find(&again, "what is rust");
    assert_eq!((row.query_key(), row.pos_keys(), row.neg_keys()), (5, &[7, key("own")][..], &[8][..]));
    assert_eq!(row.also_pos_keys(), [9]);
    assert_eq!((row.query_exact_key(), row.neg_exact_keys()), (key("what is rust"), &[key("iron oxide")][..]));
    assert_eq!(row.pos_exact_keys(), [key("a language"), key("own")]);
    assert_eq!((row.origin_file(), row.origin_line()), ("raw.jsonl", 1));
    assert_eq!(again.len(), 2);
}

#[test]
fn clusters_of_two_sets_that_share_a_text_become_one() {
    for mode in [DedupMode::None, DedupMode::Exact] {
        for against in [false, true] {
            let (folder, first, second) = folders();
            let sources =
                vec![source("a", set(&first, "a", FIRST), false), source("b", set(&second, "b", SECOND), against)];
            let out = run(&folder.path().join("out"), mode, sources);
            assert_eq!(out.len(), if against { 2 } else { 4 });
            let row = find(&out, "what is rust");
            // 5 and 3 by the query; 7 and 6 by "a language"; 9 and 4 by "elsewhere", 8 beside them.
            assert_eq!((row.query_key(), row.pos_keys(), row.neg_keys()), (3, &[6, key("own")][..], &[8][..]));
            // The old key under its new name; the other set's answer is in a cluster that the row has already.
            assert_eq!(row.also_pos_keys(), [4]);
            let untouched = find(&out, "who");
            assert_eq!((untouched.query_key(), untouched.pos_keys()), (key("who"), &[key("nobody")][..]));
            if !against {
                let other = find(&out, "which one");
                assert_eq!((other.query_key(), other.pos_keys(), other.neg_keys()), (3, &[6][..], &[4][..]));
                let same = find(&out, "What is Rust");
                assert_eq!((same.query_key(), same.pos_keys()), (3, &[6][..]));
                assert_eq!(same.query_exact_key(), row.query_exact_key());
                // The first set's other answer to this query.
                assert_eq!(same.also_pos_keys(), [key("own")]);
            }
        }
    }
}
