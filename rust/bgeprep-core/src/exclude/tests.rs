//! Planted rows against small collections; the search for near texts against all comparisons.

use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::clean::text::TextForm;
use crate::clean::{CleanPair, CleanRules, Cleaner};
use crate::near::shingle::{Rule, Shingler, jaccard};
use crate::pair::RawPair;

const THRESHOLD: f64 = 0.8;

const LONG: &str = "one two three four five six seven eight nine ten eleven twelve thirteen";
const PASSAGE: &str = "Magnets draw iron because the small currents in their atoms all point the same way and add up";

fn write(folder: &Path, name: &str, lines: &[&str]) {
    let path = folder.join(name);
    fs_err::create_dir_all(path.parent().expect("parent")).expect("folder");
    fs_err::write(path, lines.join("\n")).expect("write");
}

fn collection(folder: &Path) -> BenchmarkSpec {
    write(
        folder,
        "corpus.jsonl",
        &[
            &format!(r#"{{"_id": "d1", "title": "Magnets", "text": "{PASSAGE}"}}"#),
            r#"{"_id": "d2", "title": "", "text": "Iron rusts where water and air get at it at the same time"}"#,
        ],
    );
    write(
        folder,
        "queries.jsonl",
        &[
            r#"{"_id": "q1", "text": "Why do magnets attract  iron nails and not copper coins at all"}"#,
            &format!(r#"{{"_id": "q2", "text": "{LONG}"}}"#),
            r#"{"_id": "t1", "text": "a training query that is judged in the training split"}"#,
            r#"{"_id": "q3", "text": "磁铁为什么会吸引铁钉而不吸引铜币"}"#,
        ],
    );
    write(
        folder,
        "qrels/test.tsv",
        &["query-id\tcorpus-id\tscore", "q1\td1\t1", "q1\td2\t0", "q2\td9\t1", "q8\td1\t1"],
    );
    write(folder, "qrels/train.tsv", &["query-id\tcorpus-id\tscore", "t1\td2\t1"]);
    let file = |name: &str, role| BenchmarkFile { path: folder.join(name), origin: name.to_owned(), role };
    BenchmarkSpec {
        name: "magnets".to_owned(),
        kind: BenchmarkKind::Beir,
        files: vec![
            file("corpus.jsonl", FileRole::Corpus),
            file("queries.jsonl", FileRole::Queries),
            file("qrels/test.tsv", FileRole::Qrels),
            file("qrels/train.tsv", FileRole::Qrels),
        ],
    }
}

fn load(rules: &ExcludeRules, memory: u64) -> Result<Benchmarks> {
    Benchmarks::load(rules, THRESHOLD, memory, &Progress::default())
}

fn magnets(corpus: bool, containment: bool) -> Benchmarks {
    let folder = tempfile::tempdir().expect("folder");
    let rules = ExcludeRules { benchmarks: vec![collection(folder.path())], corpus, containment };
    load(&rules, 64 << 20).expect("load")
}

fn pair(query: &str, pos: &[&str]) -> CleanPair {
    let rules = CleanRules {
        form: TextForm::STRICT,
        min_query_chars: 1,
        max_query_chars: 0,
        min_passage_chars: 1,
        max_passage_chars: 0,
        query_equals_positive: false,
        max_repeated_share: 2.0,
        max_symbol_share: 2.0,
        noise_min_chars: 10,
        language: None,
        max_repeated_phrase_share: 2.0,
        boilerplate: None,
    };
    let raw = RawPair { query: query.into(), pos: pos.iter().map(|&text| text.into()).collect(), ..RawPair::default() };
    let mut pair = CleanPair::default();
    assert!(Cleaner::new(rules).clean(&raw, &mut pair, &mut Vec::new()));
    pair
}

/// Kind and id of what a row goes for.
fn fate(benchmarks: &Benchmarks, symmetric: bool, query: &str, pos: &[&str]) -> Option<(HitKind, String)> {
    match Checker::new(benchmarks).check(&pair(query, pos), symmetric) {
        Hits::None => None,
        Hits::Row(hit) => Some((hit.kind, hit.id)),
        Hits::Positives(hits) => panic!("only positives: {hits:?}"),
    }
}

#[test]
fn queries_hit_equal_and_near_and_pairs_are_told_apart() {
    let benchmarks = magnets(false, false);
    let row = |query: &str, pos: &str| fate(&benchmarks, false, query, &[pos]);
    let found = |kind, id: &str| Some((kind, id.to_owned()));
    let equal = "WHY do magnets attract iron\u{3000}nails and not copper coins at all";
    assert_eq!(row(equal, "because"), found(HitKind::Query, "q1"));
    assert_eq!(row(equal, &PASSAGE.to_uppercase()), found(HitKind::Pair, "q1"));
    assert_eq!(row(equal, &format!("Magnets {PASSAGE}")), found(HitKind::Pair, "q1"));
    // Judged, and judged irrelevant.
    assert_eq!(row(equal, "Iron rusts where water and air get at it at the same time"), found(HitKind::Query, "q1"));
    let near = "why do magnets attract iron nails and not copper coins at all please";
    assert_eq!(row(near, "because"), found(HitKind::Query, "q1"));
    assert_eq!(row("磁铁 为什么会吸引铁钉而不吸引铜币?", "电子"), found(HitKind::Query, "q3"));
    assert_eq!(row("why do magnets attract iron", "because"), None);
    assert_eq!(row("another question", PASSAGE), None, "a corpus passage, without --exclude-corpus");
    assert_eq!(row("a training query that is judged in the training split", "yes"), None);
    assert_eq!(row("?!", "…"), None, "texts without a token");
}

#[test]
fn both_texts_of_a_symmetric_pair_are_queries() {
    let benchmarks = magnets(false, false);
    let query = "why do magnets attract iron nails and not copper coins at all";
    assert_eq!(fate(&benchmarks, true, "is it so", &[query]), Some((HitKind::Query, "q1".to_owned())));
    assert_eq!(fate(&benchmarks, true, PASSAGE, &[query]), Some((HitKind::Pair, "q1".to_owned())));
    assert_eq!(fate(&benchmarks, false, "is it so", &[query]), None);
}

#[test]
fn only_long_texts_are_looked_for_within_others() {
    let benchmarks = magnets(false, true);
    let held = |query: &str, pos: &str| fate(&benchmarks, false, query, &["first", pos]);
    let of = |id: &str| Some((HitKind::Containment, id.to_owned()));
    assert_eq!(held("count", &format!("so {LONG}, fourteen")), of("q2"));
    assert_eq!(held(&format!("count with me, my friends: {}", LONG.to_uppercase()), "yes"), of("q2"));
    assert_eq!(held("tell me", &format!("It is said: {PASSAGE}! Or so.")), of("d1"));
    assert_eq!(held("count", &LONG.replace("seven", "seven and")), None, "not in one piece");
    assert_eq!(held("count", &format!("s{LONG}")), None, "half a word");
    let short = "again: why do magnets attract iron nails and not copper coins at all, asked the teacher of the class";
    assert_eq!(held("count", short), None, "twelve words");
    assert_eq!(fate(&magnets(false, false), false, "count", &[&format!("so {LONG}, fourteen")]), None, "switched off");
}

#[test]
fn a_corpus_takes_positives_and_the_row_with_the_last() {
    let benchmarks = magnets(true, false);
    let rust = "iron rusts where water and air get at it at the same time.";
    let Hits::Positives(hits) = Checker::new(&benchmarks).check(&pair("why", &["air", rust, PASSAGE]), false) else {
        panic!("expected positives")
    };
    let found: Vec<_> = hits.iter().map(|(item, hit)| (*item, hit.kind, hit.id.as_str(), hit.line)).collect();
    assert_eq!(found, [(1, HitKind::Passage, "d2", 2), (2, HitKind::Passage, "d1", 1)]);
    assert_eq!(fate(&benchmarks, true, rust, &["air"]), Some((HitKind::Passage, "d2".to_owned())));
}

#[test]
fn what_was_loaded_is_counted_and_oddities_are_named() {
    let benchmarks = magnets(false, true);
    let entry = &benchmarks.entries[0];
    assert_eq!((entry.name.as_str(), entry.kind.as_str(), entry.queries, entry.passages), ("magnets", "beir", 3, 1));
    let warnings = benchmarks.warnings.join("\n");
    for part in [
        "1 queries of the training split",
        "1 queries that are not there, as q8",
        "1 passages that are not there, as d9",
    ] {
        assert!(warnings.contains(part), "{part}: {warnings}");
    }
    assert_eq!(magnets(true, true).entries[0].passages, 2);
}

#[test]
fn errors_say_file_line_and_what_was_expected() {
    let folder = tempfile::tempdir().expect("folder");
    let spec = collection(folder.path());
    let rules = ExcludeRules { benchmarks: vec![spec], corpus: false, containment: true };
    let error = |file: &str, lines: &[&str]| {
        collection(folder.path());
        write(folder.path(), file, lines);
        load(&rules, 64 << 20).expect_err("bad file").to_string()
    };
    let expected = |error: String, parts: [&str; 2]| assert!(parts.iter().all(|part| error.contains(part)), "{error}");
    expected(error("queries.jsonl", &[r#"{"_id": "q1", "text": "x y"}"#, "{"]), ["queries.jsonl:2", "JSON object"]);
    expected(error("queries.jsonl", &[r#"{"_id": "q1"}"#]), ["queries.jsonl:1", "\"text\""]);
    expected(error("corpus.jsonl", &[r#"["d1"]"#]), ["corpus.jsonl:1", "JSON object"]);
    expected(error("qrels/test.tsv", &["query-id\tcorpus-id\tscore", "q1\td1"]), ["test.tsv:2", "query-id"]);
    expected(error("queries.jsonl", &[""]), ["corpus.jsonl", "found none"]);
    collection(folder.path());
    expected(load(&rules, 1000).expect_err("no room").to_string(), ["memory:", "hint"]);
}

proptest! {
    #[test]
    fn near_texts_are_all_found(
        texts in prop::collection::vec("([abcd] ){1,9}", 1..30),
        row in "([abcd] ){1,9}",
        threshold in prop::sample::select(vec![0.3, 0.5, 0.8, 1.0]),
        passage in any::<bool>(),
    ) {
        let rule = if passage { Rule::Passage } else { Rule::Query };
        let (mut builder, mut budget) = (texts::TextsBuilder::default(), texts::Budget::new(1 << 20));
        for (line, text) in texts.iter().enumerate() {
            let place = texts::Place { benchmark: 0, file: 0, line: line as u64 };
            let hash = xxhash_rust::xxh3::xxh3_128(text.as_bytes());
            builder.add((text, hash), "", place, &mut budget).expect("room");
        }
        let texts = builder.finish();
        let index = NearIndex::build(&texts, rule, threshold, &Progress::default()).expect("index");
        let mut found = Vec::new();
        index.find(&texts, &row, &mut near::Scratch::default(), &mut found);
        let mut shingler = Shingler::default();
        let set = shingler.set(&row, rule);
        let all = (0..texts.len() as u32).map(|number| (jaccard(&set, &shingler.set(texts.get(number), rule)), number));
        let expected: Vec<_> = all.filter(|&(similarity, _)| similarity >= threshold).collect();
        prop_assert_eq!(found, expected);
    }
}
