//! Planning: a shard set to its global batches, on keys alone, one thread. And loading: the same set
//! to padded rectangles on two threads, with a tokenizer that does next to nothing, so that what is
//! measured is all that stands around tokenising.
//!
//! `cargo bench -p bgeprep-bench --bench batch`. Figures are rows a second, over one epoch.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bgeprep_bench::{Corpus, plan, run_options};
use bgeprep_core::batch::{
    CollateOptions, Instruction, Layout, Loader, LoaderOptions, Mix, NegativeChoice, Next, PlanOptions, Planner,
    SetRows,
};
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::ShardSet;
use bgeprep_core::tokenize::TextEncoder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 50_000;

/// A whole text is one unknown token.
const WORDS: &str = r#"{"version": "1.0", "added_tokens": [], "normalizer": null, "pre_tokenizer": null,
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]", "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3}}}"#;

fn loader(set: &Arc<ShardSet>, tokenizer: &Path, plan: &PlanOptions) -> Loader {
    let encoder = Arc::new(TextEncoder::open(tokenizer).expect("tokenizer"));
    let layout = Layout::Padded { max_tokens: 16_384, pad_multiple_of: 1, pad_id: 0 };
    let collate = CollateOptions { query_max_len: 64, passage_max_len: 256, instruction: Instruction::Off, layout };
    let own = LoaderOptions { rank: 0, world_size: 1, prefetch: 4, threads: 2 };
    Loader::new(Arc::clone(set), encoder, plan, &collate, own).expect("loader")
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let text = Corpus::new(5).jsonl(ROWS);
    let path = folder.path().join("pairs.jsonl");
    fs_err::write(&path, &text).expect("write");
    let out = folder.path().join("shards");
    let outcome = pipeline::run(&plan(&path, text.len() as u64), &run_options(&out), &Progress::default());
    let rows = outcome.expect("run").manifest.rows_kept;
    let set = ShardSet::open(&out).expect("set");
    let tokenizer = folder.path().join("tokenizer.json");
    fs_err::write(&tokenizer, WORDS).expect("write");

    let mut group = criterion.benchmark_group("batch");
    group.sample_size(20).throughput(Throughput::Elements(rows));
    for batch_size in [256, 4096] {
        let options = PlanOptions {
            batch_size,
            seed: 1,
            num_epochs: Some(1),
            max_steps: None,
            mix: Mix::AllRows,
            negatives: 0,
            negative_choice: NegativeChoice::Sample,
            drop_last: false,
            min_fill: 0.01,
            top_up: true,
            groups: Vec::new(),
            mixed: false,
            clusters: None,
        };
        group.bench_function(BenchmarkId::new("plan", batch_size), |bencher| {
            bencher.iter(|| {
                let source = Arc::new(SetRows::new(Arc::clone(&set)).expect("rows"));
                let mut planner = Planner::new(source, &options).expect("plan");
                let mut planned = 0;
                while let Some(batch) = planner.next_batch().expect("batch") {
                    planned += batch.chosen.rows.len() as u64;
                }
                assert!(planned > rows * 9 / 10);
            });
        });
        group.bench_function(BenchmarkId::new("load", batch_size), |bencher| {
            bencher.iter(|| {
                let mut loader = loader(&set, &tokenizer, &options);
                let mut loaded = 0;
                loop {
                    match loader.next(Duration::from_secs(1)).expect("batch") {
                        Next::Batch(batch) => loaded += batch.arrays.row_ids.len() as u64,
                        Next::NotYet => {}
                        Next::End => break,
                    }
                }
                assert!(loaded > rows * 9 / 10);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
