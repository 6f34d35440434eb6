use fs_err as fs;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use super::*;

fn reject(line: u64) -> RejectRow {
    RejectRow {
        source: "faq".to_owned(),
        origin_file: "faq/a.jsonl".to_owned(),
        origin_line: line,
        part: RejectPart::Negative,
        item: line % 7,
        reason: Reason::NegativeIsPositive,
        detail: String::new(),
        twin_source: "faq".to_owned(),
        twin_file: "faq/b.jsonl".to_owned(),
        twin_line: line + 1,
        twin_id: String::new(),
        similarity: f32::NAN,
        query: "问".repeat(line as usize % 600),
        text: format!("text {line}"),
    }
}

#[test]
fn reject_files_read_back_and_are_the_same_bytes_each_time() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str| {
        let path = folder.path().join(name);
        (write_rejects(&path, (1..=10_000).map(|line| Ok(reject(line)))).unwrap(), fs::read(path).unwrap())
    };
    let (info, bytes) = write("one/faq.parquet");
    let (_, again) = write("two/faq.parquet");
    assert_eq!(bytes, again);
    assert_eq!((info.rows, info.bytes, info.path.as_str()), (10_000, bytes.len() as u64, "one/faq.parquet"));
    assert_eq!(info.xxh3_128, xxhash_rust::xxh3::xxh3_128(&bytes));

    let file = fs::File::open(folder.path().join("one/faq.parquet")).unwrap().into_parts().0;
    let mut line = 0;
    for batch in ParquetRecordBatchReaderBuilder::try_new(file).unwrap().build().unwrap() {
        let batch = batch.unwrap();
        assert_eq!(batch.schema().as_ref(), &schema());
        let expected: Vec<_> = (line + 1..=line + batch.num_rows() as u64).map(reject).collect();
        let expected = to_batch(&batch.schema(), &expected).unwrap();
        assert_eq!(batch.slice(0, batch.num_rows()).columns()[..11], expected.columns()[..11]);
        assert_eq!(batch.columns()[12..], expected.columns()[12..]);
        line += batch.num_rows() as u64;
    }
    assert_eq!(line, 10_000);
}

#[test]
fn excerpts_are_cut_between_characters() {
    assert_eq!(excerpt(&"é".repeat(501)), "é".repeat(500));
    assert_eq!(excerpt("short"), "short");
    assert_eq!(excerpt(&"文".repeat(600)).chars().count(), EXCERPT_CHARACTERS);
}

#[test]
fn a_failing_row_leaves_no_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rejects/faq.parquet");
    let rows = [Ok(reject(1)), Err(Error::Interrupted)];
    assert!(matches!(write_rejects(&path, rows.into_iter()), Err(Error::Interrupted)));
    assert_eq!(fs::read_dir(folder.path().join("rejects")).unwrap().count(), 0);
}
