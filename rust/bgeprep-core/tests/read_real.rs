//! Reads real files: small pieces that lie in `tests/data`, and, where `BGE_DATA` names a folder
//! of whole data sets, those.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use bgeprep_core::read::{Body, CHUNK_BYTES, ColumnMapping, Format, LabelMeaning, ReadOptions, Unmapped, open};

fn options() -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        columns: ColumnMapping::default(),
        labels: vec![("neutral".to_owned(), LabelMeaning::Drop)],
        header: None,
        delimiter: None,
        quoting: None,
        cut: None,
        max_line_bytes: 1 << 20,
        chunk_bytes: CHUNK_BYTES,
    }
}

#[derive(Debug, Default, PartialEq)]
struct Counts {
    pairs: u64,
    labelled_negatives: u64,
    positives: usize,
    negatives: usize,
    bad: BTreeMap<&'static str, u64>,
    ignored: Vec<String>,
}

fn count(path: &Path, options: &ReadOptions) -> Counts {
    let mut reader = open(path, options).unwrap_or_else(|error| panic!("{error}"));
    let (mut counts, mut tally, mut last) = (Counts::default(), Unmapped::default(), 0);
    while let Some(chunk) = reader.next_chunk().unwrap_or_else(|error| panic!("{error}")) {
        let visited = chunk.records(&mut tally, &mut |record| {
            assert!(record.line > last, "{}: line {} after {last}", path.display(), record.line);
            last = record.line;
            match record.body {
                Body::Pair(pair) if pair.pos.is_empty() => counts.labelled_negatives += 1,
                Body::Pair(pair) => {
                    counts.pairs += 1;
                    counts.positives += pair.pos.len();
                    counts.negatives += pair.neg.len();
                    assert!(pair.pos_scores.is_empty() || pair.pos_scores.len() == pair.pos.len());
                    assert!(pair.neg_scores.is_empty() || pair.neg_scores.len() == pair.neg.len());
                }
                Body::Bad { reason, .. } => *counts.bad.entry(reason.name()).or_default() += 1,
            }
            Ok(())
        });
        visited.unwrap_or_else(|error| panic!("{error}"));
    }
    counts.ignored = tally.iter().map(|(name, records)| format!("{name} {records}")).collect();
    counts
}

fn small(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

#[test]
fn small_pieces() {
    for (name, pairs, positives, negatives) in [
        ("gsm8k_pairs.jsonl", 20, 20, 0),
        ("gsm8k_test.jsonl", 20, 20, 0),
        ("csl_pairs_zh.jsonl", 15, 15, 0),
        ("squadshifts_query_pos.jsonl.bz2", 12, 12, 0),
        ("snli_triplets.json", 30, 30, 30),
        ("nli_for_simcse.csv", 40, 40, 40),
        ("nq_scored.jsonl", 2, 2, 20),
        ("sts_zh.jsonl", 20, 20, 200),
    ] {
        let expected = Counts { pairs, positives, negatives, ..Counts::default() };
        assert_eq!(count(&small(name), &options()), expected, "{name}");
    }
    let trivia = count(&small("open_trivia_query_pos_neg.jsonl.gz"), &options());
    assert_eq!((trivia.pairs, trivia.positives, trivia.bad.len()), (30, 30, 0));
    let sets = count(&small("snli_sets.jsonl"), &options());
    assert_eq!((sets.pairs, sets.bad.len()), (30, 0));
    assert!(sets.positives >= 30);
}

#[test]
fn labels_of_natural_language_inference() {
    let counts = count(&small("snli_dev.tsv"), &options());
    let neutral = counts.bad.get("no_label").copied().unwrap_or(0);
    assert_eq!(counts.pairs + counts.labelled_negatives + neutral, 40);
    assert!(counts.pairs > 0 && counts.labelled_negatives > 0 && neutral > 0, "{counts:?}");
}

#[test]
fn a_label_without_a_meaning_asks_for_a_mapping() {
    let options = ReadOptions { labels: Vec::new(), ..options() };
    let mut reader = open(&small("snli_dev.tsv"), &options).expect("a sound header");
    let chunk = reader.next_chunk().expect("a sound file").expect("a chunk");
    let error = chunk.records(&mut Unmapped::default(), &mut |_| Ok(())).expect_err("neutral").to_string();
    assert!(error.contains("snli_dev.tsv:2: label `neutral` has no meaning"), "{error}");
    assert!(error.contains("hint: say what it means, as labels.neutral"), "{error}");
}

#[test]
fn scores_and_prompts_of_flag_embedding_rows() {
    let mut reader = open(&small("nq_scored.jsonl"), &options()).expect("a sound file");
    let chunk = reader.next_chunk().expect("a sound file").expect("a chunk");
    let mut seen = 0;
    let visited = chunk.records(&mut Unmapped::default(), &mut |record| {
        let Body::Pair(pair) = record.body else { panic!("{record:?}") };
        assert_eq!(pair.neg_scores.len(), 10);
        assert!(pair.pos_scores[0] > 80.0);
        assert_eq!(pair.prompt, "Given a question, retrieve Wikipedia passages that answer the question.");
        assert_eq!(pair.task, Some(bgeprep_core::pair::Task::Retrieval));
        seen += 1;
        Ok(())
    });
    visited.expect("a sound file");
    assert_eq!(seen, 2);
}

/// Rows of the whole data sets, as their READMEs count them.
#[test]
fn whole_data_sets() {
    let Some(folder) = std::env::var_os("BGE_DATA").map(PathBuf::from) else {
        // A skip is said aloud, for whoever runs the tests.
        let _ = writeln!(std::io::stderr(), "skipped: BGE_DATA is not set");
        return;
    };
    for (name, pairs) in [
        ("st-format/gsm8k_pairs.jsonl.gz", 7_473),
        ("st-format/medquad_pairs.jsonl.gz", 16_407),
        ("st-format/stackexchange_title_best_voted_answer.jsonl.gz", 987),
        ("st-format/stackexchange_titlebody_best_voted_answer.jsonl.gz", 987),
        ("st-format/stackexchange_duplicate_title_title.jsonl.gz", 24),
        ("st-format/csl_title_abstract_pairs_zh.jsonl.gz", 2_000),
        ("st-format/classical_modern_pairs_zh.jsonl.gz", 60_000),
        ("st-format/nli_triplets.jsonl.gz", 6_505),
        ("st-format/ocnli_triplets_zh.jsonl.gz", 2_987),
        ("st-format/query_pos.jsonl.gz", 9_885),
        ("st-format/query_pos_neg.jsonl.gz", 38_535),
        ("bge-format-nq/nq.jsonl.gz", 10),
        ("bge-format-zh-sts/bge_finetune_data.jsonl.gz", 2_701),
        ("nli-simcse-csv/nli_for_simcse.csv.gz", 6_505),
        ("gsm8k/train.jsonl.gz", 7_473),
        ("gsm8k/test.jsonl.gz", 1_319),
    ] {
        let counts = count(&folder.join(name), &options());
        assert_eq!((counts.pairs, counts.bad), (pairs, BTreeMap::new()), "{name}");
        assert!(counts.ignored.is_empty(), "{name}: {:?}", counts.ignored);
    }
    let sets = count(&folder.join("st-format/sets.jsonl.gz"), &options());
    assert_eq!((sets.pairs, sets.bad), (6_158, BTreeMap::from([("no_positive", 4)])), "four sets hold one text");
    for (name, rows, undecided) in [("train.3k", 3_000, 6), ("train.10k", 10_000, 15), ("dev", 3_000, 50)] {
        let counts = count(&folder.join(format!("ocnli/{name}.json.gz")), &options());
        let dropped = counts.bad.get("no_label").copied().unwrap_or(0);
        assert_eq!(counts.pairs + counts.labelled_negatives + dropped, rows, "{name}");
        assert_eq!(counts.bad.len(), 1, "{name}: {:?}", counts.bad);
        assert!(dropped > undecided && counts.labelled_negatives > rows / 5, "{name}: {counts:?}");
        assert!(counts.ignored.contains(&format!("genre {rows}")) || dropped > 0, "{name}: {:?}", counts.ignored);
    }
    for name in ["xquad/xquad.en.json.gz", "xquad/xquad.zh.json.gz"] {
        let error = open(&folder.join(name), &options()).err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains("SQuAD"), "{name}: {error}");
    }
}
