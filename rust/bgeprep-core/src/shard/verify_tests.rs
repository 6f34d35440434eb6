use fs_err as fs;

use serde_json::json;

use super::super::format::ShardRow;
use super::super::manifest::SourceEntry;
use super::super::rejects::{RejectRow, write_rejects};
use super::super::writer::tests::{part_of, row};
use super::*;
use crate::report::{Reason, RejectPart};

fn key(text: &str) -> u64 {
    xxh3_64(text.as_bytes())
}

/// The keys of the texts that `row` of the writer's tests has.
fn keyed(row: ShardRow<'_>) -> ShardRow<'_> {
    static POS: std::sync::LazyLock<Vec<u64>> = std::sync::LazyLock::new(|| vec![key("first passage"), key("第二段")]);
    static NEG: std::sync::LazyLock<Vec<u64>> = std::sync::LazyLock::new(|| vec![key(""), key("not it")]);
    let query = key(row.query);
    ShardRow {
        query_key: query,
        pos_keys: &POS,
        neg_keys: &NEG,
        query_exact_key: query,
        pos_exact_keys: &POS,
        neg_exact_keys: &NEG,
        ..row
    }
}

fn set(folder: &Path, rows: &[ShardRow<'_>]) {
    let (one, two) = rows.split_at(rows.len() / 2);
    let parts =
        vec![part_of(&folder.join("faq/part-00000.arrow"), one), part_of(&folder.join("faq/part-00001.arrow"), two)];
    let reject = RejectRow {
        source: "faq".to_owned(),
        origin_file: "a".to_owned(),
        origin_line: 9,
        part: RejectPart::Row,
        item: 0,
        reason: Reason::Duplicate,
        detail: String::new(),
        twin_source: String::new(),
        twin_file: String::new(),
        twin_line: 0,
        twin_id: String::new(),
        similarity: f32::NAN,
        query: "q".to_owned(),
        text: "t".to_owned(),
    };
    let rejects = write_rejects(&folder.join("rejects/faq.parquet"), [Ok(reject)].into_iter()).unwrap();
    let source = SourceEntry {
        name: "faq".to_owned(),
        task: "symmetric".to_owned(),
        rows: rows.len() as u64,
        rows_read: rows.len() as u64 + 1,
        dropped: [("duplicate".to_owned(), 1)].into(),
        files: parts,
        ..SourceEntry::default()
    };
    Manifest::new(json!({}), 1, vec![source], vec![rejects]).write(folder).unwrap();
}

fn rows(count: u64) -> Vec<ShardRow<'static>> {
    (1..=count).map(|line| keyed(row("a query", line))).collect()
}

fn problems(folder: &Path) -> Vec<String> {
    let report = verify(folder, 2, key, &Progress::default()).unwrap();
    report.problems.iter().map(|problem| problem.to_string().replace(folder.to_str().unwrap(), "")).collect()
}

#[test]
fn a_whole_set_has_no_problem() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &rows(10_000));
    let progress = Progress::default();
    let report = verify(folder.path(), 3, key, &progress).unwrap();
    assert!(report.is_ok(), "{:?}", report.problems);
    assert_eq!((report.parts, report.rows), (2, 10_000));
    assert_eq!(progress.bytes_done.load(Ordering::Relaxed), report.bytes);
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &rows(8));
    let blocks = Manifest::read(folder.path()).unwrap().sources[0].files[0].blocks.clone();
    for name in ["faq/part-00000.arrow", "rejects/faq.parquet"] {
        let path = folder.path().join(name);
        let whole = fs::read(&path).unwrap();
        for place in (0..whole.len()).step_by(5) {
            let mut damaged = whole.clone();
            damaged[place] ^= 1 << (place % 8);
            fs::write(&path, damaged).unwrap();
            let found = problems(folder.path());
            assert_eq!(found.len(), 1, "byte {place} of {name}: {found:?}");
            assert!(found[0].starts_with(&format!("/{name}: ")), "{found:?}");
            let inside = blocks[0].offset..blocks[0].offset + blocks[0].length;
            let in_batch = name.starts_with("faq") && inside.contains(&(place as u64));
            assert_eq!(found[0].contains("batch 0: damaged"), in_batch, "byte {place} of {name}: {found:?}");
        }
        fs::write(&path, whole).unwrap();
    }
    assert_eq!(problems(folder.path()), [""; 0]);
}

#[test]
fn missing_truncated_and_unknown_files_are_named() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &rows(8));
    let first = folder.path().join("faq/part-00000.arrow");
    let second = folder.path().join("faq/part-00001.arrow");
    fs::copy(&first, folder.path().join("faq/part-00002.arrow")).unwrap();
    let whole = fs::read(&first).unwrap();
    fs::write(&first, &whole[..whole.len() / 2]).unwrap();
    fs::remove_file(&second).unwrap();
    let found = problems(folder.path());
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found[0].contains("part-00000.arrow: truncated"), "{found:?}");
    assert!(found[1].contains("part-00001.arrow: missing"), "{found:?}");
    assert!(found[2].contains("part-00002.arrow: not in the manifest"), "{found:?}");
}

#[test]
fn rows_that_break_a_promise_are_found_behind_right_checksums() {
    let good = rows(6);
    let told = |change: fn(&mut ShardRow<'static>)| {
        let folder = tempfile::tempdir().unwrap();
        let mut rows = good.clone();
        change(&mut rows[4]);
        set(folder.path(), &rows);
        let found = problems(folder.path());
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].contains("part-00001.arrow: batch 0: row 1"), "{found:?}");
        found[0].clone()
    };
    assert!(told(|row| row.query_exact_key ^= 1).contains("query_exact_key"));
    assert!(told(|row| row.query_key = row.query_exact_key + 1).contains("batching key"));
    assert!(told(|row| row.pos_exact_keys = &[1, 2]).contains("pos_exact_keys"));
    assert!(told(|row| row.pos_keys = &[u64::MAX, 2]).contains("batching key"));
    assert!(told(|row| row.neg_exact_keys = &[1, 2]).contains("neg_exact_keys"));
    assert!(told(|row| row.origin_line = 0).contains("from 1"));
    assert!(
        told(|row| (row.pos, row.pos_keys, row.pos_exact_keys, row.pos_scores) = (&[], &[], &[], &[]))
            .contains("no positive")
    );
}

#[test]
fn a_cancelled_run_stops() {
    let folder = tempfile::tempdir().unwrap();
    set(folder.path(), &rows(8));
    let progress = Progress::default();
    progress.cancel();
    assert!(matches!(verify(folder.path(), 1, key, &progress), Err(Error::Interrupted)));
}
