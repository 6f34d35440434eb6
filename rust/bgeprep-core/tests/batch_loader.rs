//! The loader on real shard sets: token ids, ranks, threads, resuming, and what breaks.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bgeprep_core::Error;
use bgeprep_core::batch::{
    CollateOptions, Instruction, Layout, Loader, LoaderOptions, Mix, NegativeChoice, Next, PlanOptions, RankBatch,
};
use bgeprep_core::shard::{Manifest, PartWriter, ShardRow, ShardSet, SourceEntry};
use bgeprep_core::tokenize::TextEncoder;

/// One token a lower-case letter; `[CLS]` 1, `[SEP]` 2.
fn write_tokenizer(folder: &Path) {
    let letters: Vec<String> = ('a'..='z').enumerate().map(|(n, letter)| format!("\"{letter}\": {}", n + 4)).collect();
    let text = format!(
        r#"{{"version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
        "pre_tokenizer": {{"type": "Split", "pattern": {{"Regex": "\\s|"}}, "behavior": "Removed", "invert": false}},
        "post_processor": {{"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}}, "decoder": null,
        "model": {{"type": "WordLevel", "unk_token": "[UNK]",
                   "vocab": {{"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, {}}}}}}}"#,
        letters.join(", ")
    );
    fs_err::write(folder.join("tokenizer.json"), text).unwrap();
}

fn letters(text: &str) -> Vec<i32> {
    let ids = text.bytes().filter(u8::is_ascii_lowercase).map(|letter| i32::from(letter - b'a') + 4);
    [1].into_iter().chain(ids).chain([2]).collect()
}

/// Row `n`: query of `n % 7 + 1` letters, positives and negatives of their own.
fn query(n: u64) -> String {
    (0..=n % 7).map(|at| char::from(b'a' + ((n + at) % 26) as u8)).collect()
}

fn write_set(folder: &Path, sources: &[(&str, u64, Option<&str>)]) -> Arc<ShardSet> {
    let mut entries = Vec::new();
    for (number, (name, rows, instruction)) in sources.iter().enumerate() {
        let mut writer = PartWriter::create(&folder.join(name).join("part-00000.arrow"), name).unwrap();
        for n in 0..*rows {
            let base = 1_000_000 * number as u64 + 100 * n;
            writer
                .push(&ShardRow {
                    query: &query(n),
                    pos: &["p", "pp"],
                    neg: &["n", "nn", "nnn"],
                    pos_scores: &[0.5, f32::NAN],
                    neg_scores: &[],
                    query_key: base,
                    pos_keys: &[base + 1, base + 2],
                    neg_keys: &[base + 3, base + 4, base + 5],
                    also_pos_keys: &[base + 2, base + 6],
                    query_exact_key: base,
                    pos_exact_keys: &[base + 1, base + 2],
                    neg_exact_keys: &[base + 3, base + 4, base + 5],
                    id: "",
                    prompt: if n % 10 == 3 { "x " } else { "" },
                    origin_file: "rows.jsonl",
                    origin_line: n + 1,
                })
                .unwrap();
        }
        let bytes = writer.text_bytes();
        entries.push(SourceEntry {
            name: (*name).to_owned(),
            task: "retrieval".to_owned(),
            instruction: instruction.map(str::to_owned),
            rows: *rows,
            rows_read: *rows,
            bytes,
            files: vec![writer.finish().unwrap()],
            ..SourceEntry::default()
        });
    }
    Manifest::new(serde_json::json!({}), 1, entries, Vec::new()).write(folder).unwrap();
    ShardSet::open(folder).unwrap()
}

struct Setting {
    _folder: tempfile::TempDir,
    set: Arc<ShardSet>,
    encoder: Arc<TextEncoder>,
}

fn setting() -> Setting {
    let folder = tempfile::tempdir().unwrap();
    write_tokenizer(folder.path());
    let set = write_set(&folder.path().join("set"), &[("first", 230, Some("zz ")), ("second", 90, None)]);
    let encoder = Arc::new(TextEncoder::open(folder.path()).unwrap());
    Setting { _folder: folder, set, encoder }
}

fn plan() -> PlanOptions {
    PlanOptions {
        batch_size: 32,
        seed: 7,
        num_epochs: Some(2),
        max_steps: None,
        mix: Mix::Manifest,
        negatives: 2,
        negative_choice: NegativeChoice::Sample,
        drop_last: false,
        min_fill: 0.01,
        top_up: false,
        groups: Vec::new(),
        mixed: false,
        clusters: None,
    }
}

fn collate() -> CollateOptions {
    CollateOptions { query_max_len: 8, passage_max_len: 4, instruction: Instruction::Manifest, layout: Layout::Packed }
}

impl Setting {
    fn open(&self, collate: &CollateOptions, options: LoaderOptions) -> Result<Loader, Error> {
        Loader::new(Arc::clone(&self.set), Arc::clone(&self.encoder), &plan(), collate, options)
    }

    fn loader(&self, rank: u32, world_size: u32, threads: usize) -> Loader {
        self.open(&collate(), LoaderOptions { rank, world_size, prefetch: 3, threads }).unwrap()
    }
}

fn next(loader: &mut Loader) -> Option<RankBatch> {
    loop {
        match loader.next(Duration::from_secs(5)).unwrap() {
            Next::Batch(batch) => return Some(*batch),
            Next::End => return None,
            Next::NotYet => {}
        }
    }
}

fn all(loader: &mut Loader) -> Vec<RankBatch> {
    std::iter::from_fn(|| next(loader)).collect()
}

/// NaN differs from itself, so scores are compared apart.
fn assert_same(left: &[RankBatch], right: &[RankBatch]) {
    assert_eq!(left.len(), right.len());
    for (left, right) in left.iter().zip(right) {
        let bits = |batch: &RankBatch| batch.arrays.doc_scores.iter().map(|score| score.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(left), bits(right));
        assert_eq!(left.arrays.row_ids, right.arrays.row_ids);
        assert_eq!(left.arrays.query_ids, right.arrays.query_ids);
        assert_eq!(left.arrays.doc_ids, right.arrays.doc_ids);
        assert_eq!((left.step, left.epoch, left.source), (right.step, right.epoch, right.source));
        assert_eq!(left.state.sources, right.state.sources);
    }
}

#[test]
fn every_array_says_what_the_row_says() {
    let setting = setting();
    let mut loader = setting.loader(0, 1, 2);
    let batches = all(&mut loader);
    assert_eq!(batches.len(), 2 * (8 + 3));
    for batch in &batches {
        let arrays = &batch.arrays;
        let rows = arrays.row_ids.len();
        assert_eq!(batch.global_rows, rows as u64);
        assert_eq!((arrays.query_offsets.len(), arrays.known_offsets.len()), (rows + 1, rows + 1));
        assert_eq!(arrays.doc_rows, (0..rows as i64).flat_map(|row| [row; 3]).collect::<Vec<_>>());
        assert_eq!(arrays.doc_is_positive, [true, false, false].repeat(rows));
        for (place, id) in arrays.row_ids.iter().enumerate() {
            let row = setting.set.row(*id).unwrap();
            assert_eq!(arrays.source_ids[place] as usize, row.source());
            assert_eq!(Some(arrays.source_ids[place]), batch.source);
            let instruction = if row.prompt().is_empty() && row.source() == 0 { "zz " } else { row.prompt() };
            let mut expected = letters(&format!("{instruction}{}", row.query()));
            if expected.len() > 8 {
                expected.truncate(7);
                expected.push(2);
            }
            let tokens = arrays.query_offsets[place] as usize..arrays.query_offsets[place + 1] as usize;
            assert_eq!(arrays.query_ids[tokens], expected);
            let known = arrays.known_offsets[place] as usize..arrays.known_offsets[place + 1] as usize;
            let key = row.query_key();
            assert_eq!(arrays.query_keys[place], key);
            assert_eq!(arrays.known_keys[known], [key + 1, key + 2, key + 6]);
            for document in 3 * place..3 * place + 3 {
                let item = (arrays.doc_keys[document] - key - 1) as usize;
                let (text, score) = match item {
                    0 | 1 => (row.pos(item), row.pos_score(item)),
                    _ => (row.neg(item - 2), None),
                };
                assert_eq!(arrays.doc_is_positive[document], item < 2);
                let tokens = arrays.doc_offsets[document] as usize..arrays.doc_offsets[document + 1] as usize;
                let mut expected = letters(text);
                if expected.len() > 4 {
                    expected = vec![1, expected[1], expected[2], 2];
                }
                assert_eq!(arrays.doc_ids[tokens], expected);
                let found = arrays.doc_scores[document];
                assert!(score.map_or(found.is_nan(), |score| (score - found).abs() < f32::EPSILON));
            }
        }
    }
}

#[test]
fn threads_change_nothing_and_ranks_part_the_same_batches() {
    let setting = setting();
    let whole = all(&mut setting.loader(0, 1, 1));
    assert_same(&whole, &all(&mut setting.loader(0, 1, 3)));
    for world_size in [2, 3, 8, 40] {
        let ranks: Vec<_> = (0..world_size).map(|rank| all(&mut setting.loader(rank, world_size, 1))).collect();
        for (step, batch) in whole.iter().enumerate() {
            let sizes = ranks.iter().map(|batches| batches[step].arrays.row_ids.len());
            assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let mut rows: Vec<u64> = ranks.iter().flat_map(|batches| batches[step].arrays.row_ids.clone()).collect();
            let mut expected = batch.arrays.row_ids.clone();
            rows.sort_unstable();
            expected.sort_unstable();
            assert_eq!(rows, expected);
            assert!(ranks.iter().all(|batches| batches[step].global_rows == batch.global_rows));
        }
    }
}

#[test]
fn a_loader_resumes_behind_the_batch_whose_state_it_is_given() {
    let setting = setting();
    let whole = all(&mut setting.loader(0, 1, 2));
    for step in [0, 1, 10, 11, 20, 21] {
        let mut loader = setting.loader(0, 1, 2);
        loader.restore((*whole[step].state).clone()).unwrap();
        assert_same(&all(&mut loader), &whole[step + 1..]);
    }
    let mut loader = setting.loader(0, 1, 2);
    for batch in &whole[..5] {
        assert_same(&[next(&mut loader).unwrap()], std::slice::from_ref(batch));
        assert_eq!(loader.state().step, batch.step + 1);
        loader.close();
    }
    loader.restore((*whole[0].state).clone()).unwrap();
    assert_same(&all(&mut loader), &whole[1..]);
    assert!(next(&mut loader).is_none());
    let rows: u64 = loader.report().iter().map(|source| source.counts.rows).sum();
    assert_eq!(rows, 2 * 320);
}

#[test]
fn instructions_come_from_where_they_are_asked_for() {
    let setting = setting();
    let sources = Instruction::Sources(vec![("second".into(), "y ".into())]);
    let expected: [(Instruction, BTreeMap<u32, &str>, bool); 4] = [
        (Instruction::Off, BTreeMap::from([(0, ""), (1, "")]), false),
        (Instruction::Manifest, BTreeMap::from([(0, "zz "), (1, "")]), true),
        (Instruction::Retrieval("w ".into()), BTreeMap::from([(0, "w "), (1, "w ")]), true),
        (sources, BTreeMap::from([(0, ""), (1, "y ")]), true),
    ];
    for (instruction, texts, prompts) in expected {
        let collate = CollateOptions { query_max_len: 20, instruction, ..collate() };
        let mut loader =
            setting.open(&collate, LoaderOptions { rank: 0, world_size: 1, prefetch: 1, threads: 1 }).unwrap();
        for batch in all(&mut loader) {
            for (place, id) in batch.arrays.row_ids.iter().enumerate() {
                let row = setting.set.row(*id).unwrap();
                let own = prompts && !row.prompt().is_empty();
                let before = if own { row.prompt() } else { texts[&batch.source.unwrap()] };
                let offsets = &batch.arrays.query_offsets;
                let tokens = offsets[place] as usize..offsets[place + 1] as usize;
                assert_eq!(batch.arrays.query_ids[tokens], letters(&format!("{before}{}", row.query())));
            }
        }
    }
}

#[test]
fn settings_that_cannot_work_are_named() {
    let setting = setting();
    let one = LoaderOptions { rank: 0, world_size: 1, prefetch: 1, threads: 1 };
    let refused = |collate: CollateOptions, options: LoaderOptions| {
        setting.open(&collate, options).err().map(|error| error.to_string()).unwrap_or_default()
    };
    let long = Instruction::Retrieval("abcdefgh ".into());
    let message = refused(CollateOptions { instruction: long, ..collate() }, one.clone());
    assert!(message.contains("the instruction of source \"first\" takes 10 tokens"), "{message}");
    let message = refused(CollateOptions { passage_max_len: 2, ..collate() }, one.clone());
    assert!(message.starts_with("batch.passage_max_len: expected at least 3"), "{message}");
    let other = Instruction::Sources(vec![("third".into(), "y ".into())]);
    let message = refused(CollateOptions { instruction: other, ..collate() }, one.clone());
    assert!(message.contains("found \"third\""), "{message}");
    let message = refused(collate(), LoaderOptions { rank: 2, world_size: 2, ..one.clone() });
    assert!(message.contains("below world_size 2, found 2"), "{message}");
    let message = refused(collate(), LoaderOptions { threads: 0, ..one });
    assert!(message.starts_with("batch.threads"), "{message}");
}

#[test]
fn a_prompt_that_leaves_no_room_names_its_row() {
    let setting = setting();
    let collate = CollateOptions { query_max_len: 3, instruction: Instruction::Sources(Vec::new()), ..collate() };
    let mut loader = setting.open(&collate, LoaderOptions { rank: 0, world_size: 1, prefetch: 1, threads: 2 }).unwrap();
    let error = loop {
        match loader.next(Duration::from_secs(5)) {
            Ok(Next::End) => panic!("no error"),
            Ok(_) => {}
            Err(error) => break error.to_string(),
        }
    };
    assert!(error.contains("the prompt of row") && error.contains("rows.jsonl:"), "{error}");
}

#[test]
fn a_damaged_part_is_an_error_with_its_name_and_no_end() {
    let setting = setting();
    let part = setting.set.part_path(1).unwrap().to_owned();
    let folder = setting.set.folder().to_owned();
    let mut bytes = fs_err::read(&part).unwrap();
    let place = bytes.windows(10).position(|window| window == b"rows.jsonl").unwrap();
    bytes[place] ^= 1;
    fs_err::write(&part, bytes).unwrap();
    let set = ShardSet::open(&folder).unwrap();
    let one = LoaderOptions { rank: 0, world_size: 1, prefetch: 2, threads: 2 };
    let mut loader = Loader::new(set, Arc::clone(&setting.encoder), &plan(), &collate(), one).unwrap();
    for _ in 0..2 {
        let error = loop {
            match loader.next(Duration::from_secs(5)) {
                Ok(Next::End) => panic!("no error"),
                Ok(_) => {}
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("second/part-00000.arrow: row ") && error.contains("batch 0 (rows"), "{error}");
    }
}
