use fs_err as fs;

use proptest::prelude::*;
use serde_json::json;

use super::super::format::ShardRow;
use super::super::manifest::SourceEntry;
use super::super::writer::PartWriter;
use super::super::writer::tests::{part_of, row};
use super::*;

/// A set of these parts, all in one source a list element.
fn set_of(folder: &Path, sources: Vec<(&str, Vec<PartInfo>)>) -> Manifest {
    let sources = sources.into_iter().map(|(name, files)| {
        let rows = files.iter().map(|file| file.rows).sum();
        SourceEntry {
            name: name.to_owned(),
            task: "retrieval".to_owned(),
            rows,
            rows_read: rows,
            files,
            ..SourceEntry::default()
        }
    });
    let manifest = Manifest::new(json!({}), 1, sources.collect(), Vec::new());
    manifest.write(folder).unwrap();
    manifest
}

#[derive(Debug, Clone)]
struct Owned {
    query: String,
    pos: Vec<String>,
    neg: Vec<String>,
    scored: bool,
    keys: Vec<u64>,
}

fn owned() -> impl Strategy<Value = Owned> {
    let texts = |least: usize| prop::collection::vec(any::<String>(), least..4);
    (any::<String>(), texts(1), texts(0), any::<bool>(), prop::collection::vec(any::<u64>(), 0..4))
        .prop_map(|(query, pos, neg, scored, keys)| Owned { query, pos, neg, scored, keys })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn what_was_written_is_read(rows in prop::collection::vec(owned(), 0..60), split in 0usize..60) {
        let folder = tempfile::tempdir().unwrap();
        let split = split.min(rows.len());
        let mut parts = Vec::new();
        for (part, rows) in [&rows[..split], &rows[split..]].into_iter().enumerate() {
            let path = folder.path().join(format!("s{part}/part-00000.arrow"));
            let mut writer = PartWriter::create(&path, &format!("s{part}")).unwrap();
            for (line, row) in rows.iter().enumerate() {
                let pos: Vec<&str> = row.pos.iter().map(String::as_str).collect();
                let neg: Vec<&str> = row.neg.iter().map(String::as_str).collect();
                let pos_keys: Vec<u64> = pos.iter().map(|text| xxh3_64(text.as_bytes())).collect();
                let neg_keys: Vec<u64> = neg.iter().map(|text| xxh3_64(text.as_bytes())).collect();
                let scores = vec![0.25; if row.scored { neg.len() } else { 0 }];
                let (id, prompt) = (row.query.as_str(), row.pos[0].as_str());
                writer.push(&ShardRow {
                    query: &row.query, pos: &pos, neg: &neg, pos_scores: &[], neg_scores: &scores,
                    query_key: xxh3_64(row.query.as_bytes()), pos_keys: &pos_keys, neg_keys: &neg_keys,
                    also_pos_keys: &row.keys, query_exact_key: xxh3_64(row.query.as_bytes()),
                    pos_exact_keys: &pos_keys, neg_exact_keys: &neg_keys, id, prompt, origin_file: "f", origin_line: line as u64 + 1,
                }).unwrap();
            }
            parts.push(writer.finish().unwrap());
        }
        let second = parts.pop().unwrap();
        set_of(folder.path(), vec![("s0", parts), ("s1", vec![second])]);
        let set = ShardSet::open(folder.path()).unwrap();
        prop_assert_eq!(set.len(), rows.len() as u64);
        for (id, expected) in rows.iter().enumerate() {
            let source = usize::from(id >= split);
            let index = set.index(id as u64).unwrap();
            prop_assert_eq!(index.query_bytes(), expected.query.len());
            let row = set.row(id as u64).unwrap();
            prop_assert_eq!(row.query(), &expected.query);
            prop_assert_eq!((row.id(), row.prompt()), (expected.query.as_str(), expected.pos[0].as_str()));
            prop_assert_eq!(row.source(), source);
            prop_assert_eq!(row.origin_line(), (id - source * split) as u64 + 1);
            prop_assert_eq!(row.query_key(), xxh3_64(expected.query.as_bytes()));
            prop_assert_eq!(row.also_pos_keys(), &expected.keys[..]);
            prop_assert_eq!(row.query_exact_key(), row.query_key());
            prop_assert_eq!((row.pos_exact_keys(), row.neg_exact_keys()), (row.pos_keys(), row.neg_keys()));
            prop_assert_eq!((row.num_pos(), row.num_neg()), (expected.pos.len(), expected.neg.len()));
            for (item, text) in expected.pos.iter().enumerate() {
                prop_assert_eq!(row.pos(item), text);
                prop_assert_eq!(index.pos_bytes(item), text.len());
                prop_assert_eq!(row.pos_keys()[item], xxh3_64(text.as_bytes()));
                prop_assert_eq!(row.pos_score(item), None);
            }
            for (item, text) in expected.neg.iter().enumerate() {
                prop_assert_eq!(row.neg(item), text);
                prop_assert_eq!(index.neg_bytes(item), text.len());
                prop_assert_eq!(row.neg_keys()[item], xxh3_64(text.as_bytes()));
                prop_assert_eq!(row.neg_score(item), expected.scored.then_some(0.25));
            }
        }
        prop_assert!(set.row(rows.len() as u64).is_err());
    }

    #[test]
    fn places_agree_with_counting(batches in prop::collection::vec(1u32..50, 0..40)) {
        let places = Places::new(batches.iter().copied());
        let mut id = 0;
        for (batch, rows) in batches.iter().enumerate() {
            for row in 0..*rows as usize {
                prop_assert_eq!(places.find(id), (batch, row));
                id += 1;
            }
        }
        prop_assert_eq!(places.rows(), id);
    }
}

#[test]
fn batches_are_views_of_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let rows: Vec<_> = (1..=5000).map(|line| row("query", line)).collect();
    let part = part_of(&folder.path().join("faq/part-00000.arrow"), &rows);
    set_of(folder.path(), vec![("faq", vec![part])]);
    let set = ShardSet::open(folder.path()).unwrap();
    assert_eq!((set.num_parts(), set.num_batches(0), set.num_batches(1)), (1, 2, 0));
    let batch = set.batch(0, 1).unwrap();
    assert_eq!(batch.num_rows(), 904);
    assert_eq!(batch.schema(), Layout::current().schema);
    assert!(set.batch(0, 2).is_err() && set.batch(1, 0).is_err());
    let one = set.row(4096).unwrap().query().as_ptr();
    assert_eq!(one, batch.column(0).as_string::<i32>().value(0).as_ptr(), "text was copied");
    assert_eq!(set.row(4999).unwrap().origin_line(), 5000);
    assert_eq!((set.row(0).unwrap().pos_score(0), set.row(0).unwrap().pos_score(1)), (Some(0.5), None));
}

#[test]
fn a_flipped_bit_is_found_before_it_is_used() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq/part-00000.arrow");
    let rows: Vec<_> = (1..=20).map(|line| row("a query", line)).collect();
    let part = part_of(&path, &rows);
    let block = part.blocks[0];
    set_of(folder.path(), vec![("faq", vec![part])]);
    let whole = fs::read(&path).unwrap();
    let mut found_by_index = 0;
    // Seven is no divisor of any word, so every byte of a word and every bit of a byte has its turn.
    for place in (block.offset..block.offset + block.length).step_by(7).map(|place| place as usize) {
        let mut damaged = whole.clone();
        damaged[place] ^= 1 << (place % 8);
        fs::write(&path, &damaged).unwrap();
        let set = ShardSet::open(folder.path()).unwrap();
        assert!(set.row(3).is_err(), "byte {place}");
        assert!(set.batch(0, 0).is_err(), "byte {place}");
        found_by_index += usize::from(set.index(3).is_err());
    }
    let keys = 20 * 8 * (1 + 2 + 2 + 3) / 7;
    assert!(found_by_index >= keys, "{found_by_index} of at least {keys} flips seen by the index");
}

#[test]
fn a_missing_or_truncated_part_is_told_on_opening() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("faq/part-00000.arrow");
    let part = part_of(&path, &[row("q", 1)]);
    set_of(folder.path(), vec![("faq", vec![part])]);
    let whole = fs::read(&path).unwrap();
    fs::write(&path, &whole[..whole.len() - 1]).unwrap();
    assert!(ShardSet::open(folder.path()).err().unwrap().to_string().contains("truncated"));
    fs::remove_file(&path).unwrap();
    assert!(ShardSet::open(folder.path()).err().unwrap().to_string().contains("missing"));
}
