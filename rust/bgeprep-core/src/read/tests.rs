//! Whole files through the front door: shapes, rejects, numbering, refusals.

use std::io::Write;

use super::testing::{options, read_bytes};
use super::{ColumnMapping, Format, LabelMeaning, ReadOptions, Unmapped};

fn records(name: &str, text: &str) -> Vec<(u64, String)> {
    read_bytes(name, text.as_bytes(), &options()).expect("a sound file").0
}

fn lines(text: &str) -> Vec<String> {
    records("a.jsonl", text).into_iter().map(|(_, shown)| shown).collect()
}

fn error(name: &str, bytes: &[u8], options: &ReadOptions) -> String {
    read_bytes(name, bytes, options).expect_err("an error").to_string()
}

#[test]
fn every_json_shape_in_one_file() {
    let text = r#"{"query": "q", "pos": ["p1", "p2"], "neg": ["n"]}
["a", "p"]
["a", "p", "n1", "n2"]
{"set": ["a", "b", "c"]}
{"anchor": "a", "positive": "p", "negative_1": "x", "negative_2": "y"}
{"Question": "q", "answer": "a", "id": 7}
{"sent0": "a", "sent1": "b", "hard_neg": "c"}
{"query": "q", "pos": "p", "neg": null, "pos": "last"}
"#;
    assert_eq!(
        lines(text),
        [
            "q | p1 + p2 | n",
            "a | p",
            "a | p | n1 + n2",
            "a | b + c",
            "a | p | x + y",
            "q | a id 7",
            "a | b | c",
            "q | last",
        ]
    );
}

#[test]
fn flag_embedding_rows() {
    let text = r#"{"query":"q","pos":["p"],"neg":["n","m"],"pos_scores":[1],"neg_scores":[0.5,null],"prompt":"find","type":"normal"}
{"query":"q","pos":["p"],"neg":["n"],"pos_scores":[],"neg_scores":null,"type":"symmetric_class"}
{"query":"q","pos":["p"],"pos_scores":[1.0,2.0]}
{"query":"q","pos":["p"],"type":"bridge"}"#;
    let (records, tally) = read_bytes("a.jsonl", text.as_bytes(), &options()).expect("a sound file");
    assert_eq!(records[0].1, "q | p | n + m pos_scores [1.0] neg_scores [0.5, NaN] prompt find task retrieval");
    assert_eq!(records[1].1, "q | p | n task classification");
    assert!(records[2].1.starts_with("bad unknown_shape"));
    assert_eq!(records[3].1, "q | p");
    assert_eq!(tally.iter().collect::<Vec<_>>(), [("type", 1)]);
}

#[test]
fn rejects_keep_their_line() {
    let text = b"\xef\xbb\xbf\n{\"query\":\"q\",\"pos\":\"p\"}\r\n  \r\n{\"query\": \n{\"query\":\"\xff\",\"pos\":\"p\"}\n\
        {\"query\":\"\0\",\"pos\":\"p\"}\n{\"query\":\"q\"}\n{\"query\":\"q\",\"pos\":[]}\n42\n{\"query\":1,\"pos\":\"p\"}\n\
        {\"query\":\"q\",\"pos\":[{\"text\":\"p\"}]}\n[\"one\"]\n{}\n{\"query\":null,\"pos\":\"p\"}\n{\"a\":1} x";
    let (records, _) = read_bytes("a.jsonl", text, &options()).expect("a sound file");
    let found: Vec<_> =
        records.iter().map(|(line, shown)| (*line, shown.split(" | ").next().unwrap_or_default())).collect();
    assert_eq!(
        found,
        [
            (2, "q"),
            (4, "bad bad_json"),
            (5, "bad invalid_utf8"),
            (6, "bad not_text"),
            (7, "bad unknown_shape"),
            (8, "bad no_positive"),
            (9, "bad unknown_shape"),
            (10, "bad unknown_shape"),
            (11, "bad unknown_shape"),
            (12, "bad unknown_shape"),
            (13, "bad unknown_shape"),
            (14, "bad empty_field"),
            (15, "bad bad_json"),
        ]
    );
    assert_eq!(records[2].1, "bad invalid_utf8 | {\"query\":\"\u{fffd}\",\"pos\":\"p\"}");
}

#[test]
fn labels_and_scores() {
    let text = r#"{"text1":"a","text2":"b","label":1}
{"text1":"a","text2":"c","label":0}
{"text1":"a","text2":"d","label":"-"}
{"text1":"a","text2":"e","label":0.5}
{"text1":"a","text2":"f","label":"entailment","score":0.25}
{"text1":"a","text2":"g"}
{"text1":"a","text2":"h","score":3}
{"query":"a","pos":["i"],"neg":["j"],"neg_scores":[0.5],"label":0}"#;
    assert_eq!(
        lines(text),
        [
            "a | b",
            "a |  | c",
            r#"bad no_label | {"text1":"a","text2":"d","label":"-"}"#,
            "a | e pos_scores [0.5]",
            "a | f pos_scores [0.25]",
            r#"bad no_label | {"text1":"a","text2":"g"}"#,
            "a | h pos_scores [3.0]",
            "a |  | i + j neg_scores [NaN, 0.5]",
        ]
    );
    let two = r#"{"text1":"a","text2":"b","label":2}"#;
    assert!(error("a.jsonl", two.as_bytes(), &options()).contains("a.jsonl:1: label `2` has no meaning"));
    let mapped = ReadOptions { labels: vec![("2".into(), LabelMeaning::Negative)], ..options() };
    assert_eq!(read_bytes("a.jsonl", two.as_bytes(), &mapped).expect("a sound file").0, [(1, "a |  | b".to_owned())]);
    let word = r#"{"text1":"a","text2":"b","score":"high"}"#;
    assert!(error("a.jsonl", word.as_bytes(), &options()).contains("score `high` is no number"));
}

#[test]
fn mapped_columns() {
    let columns = ColumnMapping {
        query: Some(vec!["q".into()]),
        neg: Some(vec!["bad".into(), "worse".into()]),
        id: Some(vec!["key".into()]),
        ..ColumnMapping::default()
    };
    let text = r#"{"query":"no","q":"yes","answer":"a","worse":["w"],"bad":"b","key":"k","neg":["no"]}"#;
    let (records, tally) =
        read_bytes("a.jsonl", text.as_bytes(), &ReadOptions { columns, ..options() }).expect("a sound file");
    assert_eq!(records, [(1, "yes | a | b + w id k".to_owned())]);
    assert_eq!(tally.iter().collect::<Vec<_>>(), [("neg", 1), ("query", 1)]);
}

#[test]
fn json_arrays() {
    let text = "\n [ {\"query\":\"q\",\"pos\":\"p\"}, {\"query\":\"]\\\"\",\n\"pos\":[\"p\"]},7, [\"a\",\"b\"] ,{] ]\n";
    let found = records("a.json", text);
    assert_eq!(
        found,
        [
            (1, "q | p".to_owned()),
            (2, "]\" | p".to_owned()),
            (3, "bad unknown_shape | 7".to_owned()),
            (4, "a | b".to_owned()),
        ]
        .into_iter()
        .chain([found[4].clone()])
        .collect::<Vec<_>>()
    );
    assert_eq!(records("a.json", "[]"), []);
    for (text, expected) in [
        ("[{\"query\":\"q\",\"pos\":\"p\"},{\"query\"", "a.json:2: the JSON array is not closed"),
        ("[{\"query\":\"q\",\"pos\":\"p\"}] {}", "expected the end of the file behind the array"),
    ] {
        let error = error("a.json", text.as_bytes(), &options());
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn tables_of_text() {
    for (name, text, expected) in [
        ("a.csv", "query,pos\r\nq,\"p, \"\"x\"\"\ny\"\r\n\r\nr,s\r\n", vec![(2, "q | p, \"x\"\ny"), (5, "r | s")]),
        ("a.csv", "q,p\nr,s", vec![(1, "q | p"), (2, "r | s")]),
        ("a.csv", "q,p,n\nr,s,\n", vec![(1, "q | p | n"), (2, "r | s")]),
        ("a.csv", "title;body\nq;p", vec![(2, "q | p")]),
        ("a.tsv", "q\t\"p\" x\nr\t5\" disk\n", vec![(1, "q | \"p\" x"), (2, "r | 5\" disk")]),
        ("a.tsv", "question\tanswer\nq\t\"two\nlines\"\n", vec![(2, "q | two\nlines")]),
        ("a.txt", "q\tp\nr\ts\n", vec![(1, "q | p"), (2, "r | s")]),
        ("a.txt", "anchor,positive,negative\na,b,c\n", vec![(2, "a | b | c")]),
        ("a.csv", "query,pos,label\na,b,0\na,c,\n", vec![(2, "a |  | b"), (3, "bad no_label | a,c,")]),
        (
            "a.csv",
            "query,pos\na,b,c\n\"a\"x,b\n,b\n",
            vec![(2, "bad bad_csv | a,b,c"), (3, "bad bad_csv | \"a\"x,b"), (4, " | b")],
        ),
        ("a.csv", "{a},b\n{c},d\n", vec![(1, "{a} | b"), (2, "{c} | d")]),
    ] {
        let expected: Vec<_> = expected.into_iter().map(|(line, shown)| (line, shown.to_owned())).collect();
        assert_eq!(records(name, text), expected, "{text}");
    }
}

#[test]
fn table_options() {
    let columns =
        ColumnMapping { query: Some(vec!["3".into()]), pos: Some(vec!["2".into()]), ..ColumnMapping::default() };
    let by_place = ReadOptions { columns: columns.clone(), header: Some(false), ..options() };
    let text = "to title\tlong 1\tshort 1\nto title\tlong 2\tshort 2\n";
    let (found, tally) = read_bytes("a.tsv", text.as_bytes(), &by_place).expect("a sound file");
    assert_eq!(found, [(1, "short 1 | long 1".to_owned()), (2, "short 2 | long 2".to_owned())]);
    assert_eq!(tally.iter().collect::<Vec<_>>(), [("1", 2)]);
    let label = ColumnMapping { label: Some(vec!["3".into()]), ..ColumnMapping::default() };
    let found = read_bytes("a.tsv", b"q\td\t1\nr\te\t0\n", &ReadOptions { columns: label, ..options() });
    assert_eq!(found.expect("a sound file").0, [(1, "q | d".to_owned()), (2, "r |  | e".to_owned())]);
    let named = ReadOptions { format: Format::Csv, ..options() };
    let found = read_bytes("a.dat", b"x;y\nz;w\n", &named).expect("a sound file").0;
    assert_eq!(found, [(1, "x | y".to_owned()), (2, "z | w".to_owned())]);
    let unquoted = ReadOptions { quoting: Some(false), delimiter: Some(b'|'), ..options() };
    let found = read_bytes("a.csv", b"query|pos\n\"q|p\n", &unquoted).expect("a sound file").0;
    assert_eq!(found, [(2, "\"q | p".to_owned())]);
    for (text, options, expected) in [
        (text, options(), "the same text in the first column of every row"),
        ("q\td\t1\nr\te\t0\n", options(), "a third column of numbers"),
        ("a\tb\tc\td\n", options(), "4 columns without a known header"),
        ("query\tfoo\nq\tp\n", options(), "no column for the positive; columns: query, foo"),
        ("question\ttitle\tanswer\na\tb\tc\n", options(), "several columns could be the query: question, title"),
        ("query\tpos\nq\tp\n", by_place, "columns.query: no column `3`"),
        ("query\tpos\nq\t\"p\n", ReadOptions { quoting: Some(true), ..options() }, "a.tsv:2: a quoted field"),
    ] {
        let error = error("a.tsv", text.as_bytes(), &options);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn what_is_refused_is_named() {
    let utf16: Vec<u8> = "query,pos\n".encode_utf16().flat_map(u16::to_le_bytes).collect();
    let cases: &[(&[u8], &str)] = &[
        (b"{\"data\": [{\"paragraphs\": [{\"qas\": []}]}]}", "SQuAD"),
        (b"{\n \"data\": [\n  {\"paragraphs\": [{\"qas\": []}]}\n ]\n}", "SQuAD"),
        (b"[{\"context_id\": \"c\", \"title\": \"t\", \"qas\": [{\"q\": 1}]}]", "SQuAD"),
        (b"{\n \"query\": \"q\",\n \"pos\": \"p\"\n}", "one JSON object over several lines"),
        (b"just prose, with a comma\nand no more", "no known format"),
        (b"[\n \"a\",\n \"b\"\n]", "no known format"),
        (b"PK\x03\x04rest", "zip archive"),
        (b"PAR1 but no more", "not a readable Parquet file"),
        (b"ARROW1\0\0 but no more", "not a readable Arrow file"),
        (&utf16, "UTF-16"),
    ];
    for (bytes, expected) in cases {
        let error = error("a.data", bytes, &options());
        assert!(error.contains(expected), "{error}");
    }
    let wrong = ReadOptions { format: Format::Parquet, ..options() };
    assert!(error("a.x", b"{}", &wrong).contains("expected format parquet, found text"));
}

#[test]
fn empty_files_have_no_records() {
    for bytes in [&b""[..], b"\n \n", b"\xef\xbb\xbf"] {
        let found = read_bytes("a.csv", bytes, &options());
        assert_eq!(found.expect("a sound file"), (vec![], Unmapped::default()), "{bytes:?}");
    }
}

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

fn bzip2(text: &[u8]) -> Vec<u8> {
    let mut encoder = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    encoder.write_all(text).expect("memory");
    encoder.finish().expect("memory")
}

#[test]
fn compressed_files_of_many_members() {
    let pieces = [&b"[\"a\",\"b\"]\n[\"c\""[..], b",\"d\"]\n", b"[\"e\",\"f\"]"];
    for name in ["gzip", "zstd", "bzip2"] {
        let pack = |piece: &&[u8]| match name {
            "gzip" => gzip(piece),
            "zstd" => zstd::encode_all(*piece, 1).expect("memory"),
            _ => bzip2(piece),
        };
        let bytes: Vec<u8> = pieces.iter().flat_map(pack).collect();
        let found = read_bytes("no-suffix", &bytes, &options()).expect(name).0;
        assert_eq!(found, [(1, "a | b".into()), (2, "c | d".into()), (3, "e | f".into())], "{name}");
        let cut = error("cut.gz", &bytes[..bytes.len() - 9], &options());
        assert!(cut.contains(&format!("cut.gz: the {name} data is")), "{cut}");
    }
}
