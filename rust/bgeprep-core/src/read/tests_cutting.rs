//! The chunk size, and with it the place of every cut, must not show in the records.

use std::sync::Arc;

use arrow_array::builder::{ListBuilder, StringBuilder, StringDictionaryBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{
    ArrayRef, Float32Array, Int64Array, LargeStringArray, RecordBatch, RecordBatchIterator, StringArray,
    StringViewArray,
};
use arrow_ipc::writer::{FileWriter, StreamWriter};
use proptest::prelude::*;

use super::testing::{Owned, drain, options, read_bytes};
use super::{Format, ReadOptions, open_stream};

fn read(name: &str, text: &str, chunk_bytes: usize, max_line_bytes: usize) -> Result<Vec<Owned>, String> {
    let options = ReadOptions { max_line_bytes, chunk_bytes, ..options() };
    read_bytes(name, text.as_bytes(), &options).map(|(records, _)| records).map_err(|error| {
        // The folder is another one each time.
        error.to_string().rsplit('/').next().unwrap_or_default().to_owned()
    })
}

fn line() -> impl Strategy<Value = String> {
    prop_oneof![
        6 => ("[a-zé漢 \\\\n]{0,12}", "[a-z]{1,30}").prop_map(|(query, pos)| {
            serde_json::json!({"query": query, "pos": [pos]}).to_string()
        }),
        1 => "[ \t]{0,3}",
        1 => "[a-z{}\"\\[]{0,9}",
        1 => Just("[\"a\", \"b\"]\r".to_owned()),
        1 => "x{60,300}",
        1 => "[ \t]{60,300}",
    ]
}

#[test]
fn a_long_blank_line_is_no_record() {
    for (name, header) in [("a.jsonl", "[\"q\", \"p\"]"), ("a.csv", "query,pos\nq,p")] {
        let text = format!("{header}\n{}\n{}\t\r\n", " ".repeat(99), " ".repeat(200));
        for chunk_bytes in [1, 10, 50, 1 << 20] {
            let records = read(name, &text, chunk_bytes, 20).expect("one record");
            assert_eq!(records.len(), 1, "chunks of {chunk_bytes} bytes: {records:?}");
        }
    }
}

proptest! {
    #[test]
    fn of_lines(lines in prop::collection::vec(line(), 0..30), ends_with_break: bool, size in 1..200usize, max in 40..120usize) {
        let mut text = format!("{{\"query\":\"q\",\"pos\":\"p\"}}\n{}", lines.join("\n"));
        if ends_with_break {
            text.push('\n');
        }
        let whole = read("a.jsonl", &text, 1 << 20, max);
        prop_assert!(whole.is_ok());
        prop_assert_eq!(read("a.jsonl", &text, size, max), whole);
    }

    #[test]
    fn of_quoted_records(
        rows in prop::collection::vec(prop::collection::vec("[ab,\"\n\r é]{0,9}|x{60,200}", 2), 0..20),
        stray in "[\"a,\n]{0,4}",
        size in 1..100usize,
        max in 20..100usize,
    ) {
        let mut writer = csv::WriterBuilder::new().from_writer(Vec::new());
        writer.write_record(["query", "pos"]).expect("memory");
        for row in &rows {
            writer.write_record(row).expect("memory");
        }
        let text = String::from_utf8(writer.into_inner().expect("memory")).expect("text") + &stray;
        prop_assert_eq!(read("a.csv", &text, size, max), read("a.csv", &text, 1 << 20, max));
    }

    #[test]
    fn of_elements(elements in prop::collection::vec(line(), 0..20), blank in "[ \n]{0,80}", size in 1..200usize, max in 40..120usize) {
        let elements: Vec<_> = elements.iter().filter(|element| serde_json::from_str::<serde_json::Value>(element).is_ok()).collect();
        let separator = format!("{blank},{blank}");
        let inner = elements.iter().map(|element| element.as_str()).collect::<Vec<_>>().join(&separator);
        let text = if inner.is_empty() { format!("[{blank}]") } else { format!("[{{}}{separator}{inner}{blank}]") };
        let whole = read("a.json", &text, 1 << 20, max);
        prop_assert!(whole.is_ok());
        prop_assert_eq!(read("a.json", &text, size, max), whole);
    }
}

#[test]
fn a_line_too_long_to_keep_is_counted_with_its_number() {
    let long = "y".repeat(3_000_000);
    let text = format!("[\"a\",\"b\"]\n[\"{long}\",\"b\"]\n\n[\"c\",\"d\"]");
    let found = read("a.jsonl", &text, 1000, 10_000).expect("a sound file");
    let lines: Vec<_> = found.iter().map(|(line, shown)| (*line, &shown[..5])).collect();
    assert_eq!(lines, [(1, "a | b"), (2, "bad l"), (4, "c | d")]);
    assert_eq!(found[1].1, format!("bad long_line | [\"{}", "y".repeat(498)));
}

#[test]
fn bytes_read_ends_at_the_size_of_the_file() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("a.jsonl");
    fs_err::write(&path, "[\"a\",\"b\"]\n".repeat(1000)).expect("a small file");
    let mut reader = super::open(&path, &ReadOptions { chunk_bytes: 100, ..options() }).expect("a sound file");
    drain(reader.as_mut()).expect("a sound file");
    assert_eq!((reader.bytes_read(), reader.format()), (10_000, Format::Jsonl));
}

/// Five rows in every type of column that is accepted; rows 4 and 5 cannot be used.
fn batch() -> RecordBatch {
    let texts = |prefix: &str| (1..=5).map(|row| format!("{prefix}{row}")).collect::<Vec<_>>();
    let mut neg = ListBuilder::new(StringBuilder::new());
    let mut prompt = StringDictionaryBuilder::<Int32Type>::new();
    for row in 1..=5 {
        for item in 1..row {
            neg.values().append_value(format!("n{row}.{item}"));
        }
        neg.append(row != 1);
        prompt.append_value(["even", "odd"][row % 2]);
    }
    let pos = (1..=5).map(|row| (row != 4).then(|| format!("p{row}")));
    let queries = (1..=5).map(|row| (row != 5).then(|| format!("q{row}")));
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("query", Arc::new(queries.collect::<StringViewArray>())),
        ("pos", Arc::new(pos.collect::<LargeStringArray>())),
        ("neg", Arc::new(neg.finish())),
        ("prompt", Arc::new(prompt.finish())),
        ("id", Arc::new(Int64Array::from_iter_values(1..=5))),
        ("score", Arc::new(Float32Array::from_iter_values([0.5, 1.0, 1.5, 2.0, 2.5]))),
        ("note", Arc::new(StringArray::from(texts("x")))),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true)))
        .expect("columns of one length")
}

const ROWS: [&str; 5] = [
    "q1 | p1 pos_scores [0.5] id 1 prompt odd",
    "q2 | p2 | n2.1 pos_scores [1.0] id 2 prompt even",
    "q3 | p3 | n3.1 + n3.2 pos_scores [1.5] id 3 prompt odd",
    "bad no_positive | q4",
    "bad empty_field | p5",
];

#[test]
fn tables_of_every_kind() {
    let batch = batch();
    let (mut file, mut stream, mut packed) = (Vec::new(), Vec::new(), Vec::new());
    let mut writer = FileWriter::try_new(&mut file, &batch.schema()).expect("memory");
    writer.write(&batch.slice(0, 2)).and_then(|()| writer.write(&batch.slice(2, 3))).expect("memory");
    writer.finish().expect("memory");
    drop(writer);
    let mut writer = StreamWriter::try_new(&mut stream, &batch.schema()).expect("memory");
    writer.write(&batch).and_then(|()| writer.finish()).expect("memory");
    drop(writer);
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut packed, batch.schema(), None).expect("memory");
    writer.write(&batch).expect("memory");
    writer.close().expect("memory");
    let expected: Vec<Owned> = (1..).zip(ROWS).map(|(row, shown)| (row, shown.to_owned())).collect();
    let gz = zstd::encode_all(&stream[..], 1).expect("memory");
    for (name, bytes) in [("file", file), ("stream", stream), ("parquet", packed), ("stream in zstd", gz)] {
        for chunk_bytes in [1, 1 << 20] {
            let options = ReadOptions { chunk_bytes, ..options() };
            let (found, tally) = read_bytes("table", &bytes, &options).expect(name);
            assert_eq!(found, expected, "{name}");
            assert_eq!(tally.iter().collect::<Vec<_>>(), [("note", 3)], "{name}");
        }
        let cut = read_bytes("table", &bytes[..bytes.len() - 40], &options());
        assert!(cut.is_err() || name == "stream", "{name}");
    }
}

#[test]
fn streams_from_other_libraries() {
    let batch = batch();
    let schema = batch.schema();
    let stream = |batches: Vec<RecordBatch>| {
        Box::new(RecordBatchIterator::new(batches.into_iter().map(Ok), Arc::clone(&schema)))
    };
    let mut reader =
        open_stream(stream(vec![batch.clone(), batch.clone()]), "frame", &options()).expect("a sound schema");
    let (found, _) = drain(reader.as_mut()).expect("sound batches");
    assert_eq!(found.len(), 10);
    assert_eq!(found[6], (7, ROWS[1].to_owned()));
    let notes = batch.project(&[0, 6]).expect("two columns");
    let reader = RecordBatchIterator::new([Ok(notes.clone())], notes.schema());
    let error = open_stream(Box::new(reader), "frame", &options()).err().map(|error| error.to_string());
    assert!(error.as_deref().is_some_and(|error| error.starts_with("frame: no column for the positive")), "{error:?}");
}
