use fs_err as fs;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::*;

/// A row with all columns filled and nothing repeated between rows.
pub(in super::super) fn row(query: &str, line: u64) -> ShardRow<'_> {
    ShardRow {
        query,
        pos: &["first passage", "第二段"],
        neg: &["", "not it"],
        pos_scores: &[0.5, f32::NAN],
        neg_scores: &[],
        query_key: line * 3,
        pos_keys: &[7, 8],
        neg_keys: &[9, u64::MAX],
        also_pos_keys: &[1, 2, 3],
        query_exact_key: line * 3,
        pos_exact_keys: &[7, 8],
        neg_exact_keys: &[9, u64::MAX],
        id: "id",
        prompt: "",
        origin_file: "faq/a.jsonl",
        origin_line: line,
    }
}

pub(in super::super) fn part_of(path: &Path, rows: &[ShardRow<'_>]) -> PartInfo {
    let mut writer = PartWriter::create(path, "faq").unwrap();
    for row in rows {
        writer.push(row).unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn a_part_says_where_its_batches_lie() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq/part-00000.arrow");
    let rows: Vec<_> = (1..=10_000).map(|line| row("query", line)).collect();
    let part = part_of(&path, &rows);
    let bytes = fs::read(&path).unwrap();
    assert_eq!(part.path, "faq/part-00000.arrow");
    assert_eq!((part.rows, part.bytes), (10_000, bytes.len() as u64));
    assert_eq!(part.xxh3_128, xxh3_128(&bytes));
    assert_eq!(part.blocks.iter().map(|block| block.rows).collect::<Vec<_>>(), [4096, 4096, 1808]);
    for block in &part.blocks {
        let message = &bytes[block.offset as usize..(block.offset + block.length) as usize];
        assert_eq!(message[..4], [0xff; 4], "a block starts with an IPC continuation marker");
        assert_eq!(xxh3_64(message), block.xxh3_64);
        assert_eq!(block.offset % 64, 0);
    }
}

#[test]
fn batches_are_bounded_by_bytes_and_a_large_row_stands_alone() {
    let folder = tempfile::tempdir().unwrap();
    let mebi = "x".repeat(1 << 20);
    let large = "x".repeat(9 << 20);
    let rows: Vec<_> = [&mebi, &mebi, &large, &mebi, &mebi, &mebi, &mebi].iter().map(|query| row(query, 1)).collect();
    let part = part_of(&folder.path().join("faq/part-00000.arrow"), &rows);
    assert_eq!(part.blocks.iter().map(|block| block.rows).collect::<Vec<_>>(), [2, 1, 3, 1]);
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (1..=5000).map(|line| row("query", line)).collect();
    let one = part_of(&folder.path().join("faq/one.arrow"), &rows);
    let two = part_of(&folder.path().join("faq/two.arrow"), &rows);
    assert_eq!((one.xxh3_128, one.blocks), (two.xxh3_128, two.blocks));
}

#[test]
fn an_unfinished_part_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = PartWriter::create(&folder.path().join("part-00000.arrow"), "faq").unwrap();
    writer.push(&row("query", 1)).unwrap();
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    drop(writer);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_part_without_rows_is_a_whole_file() {
    let folder = tempfile::tempdir().unwrap();
    let part = part_of(&folder.path().join("faq/part-00000.arrow"), &[]);
    assert_eq!((part.rows, part.blocks.len()), (0, 0));
    assert!(part.bytes > 0);
}

#[test]
fn rows_whose_lists_disagree_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = PartWriter::create(&folder.path().join("part-00000.arrow"), "faq").unwrap();
    let good = row("query", 1);
    assert!(writer.push(&ShardRow { pos_keys: &[1], pos_exact_keys: &[1], ..good }).is_err());
    assert!(writer.push(&ShardRow { neg_scores: &[1.0], ..good }).is_err());
    assert_eq!(writer.rows(), 0);
}
