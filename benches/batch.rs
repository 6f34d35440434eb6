//! Planning: a shard set to its global batches, on keys alone, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench batch`. Figures are rows a second, over one epoch.

use std::sync::Arc;

use bgeprep_bench::{Corpus, plan, run_options};
use bgeprep_core::batch::{Mix, NegativeChoice, PlanOptions, Planner, SetRows};
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::ShardSet;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 50_000;

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let text = Corpus::new(5).jsonl(ROWS);
    let path = folder.path().join("pairs.jsonl");
    fs_err::write(&path, &text).expect("write");
    let out = folder.path().join("shards");
    let outcome = pipeline::run(&plan(&path, text.len() as u64), &run_options(&out), &Progress::default());
    let rows = outcome.expect("run").manifest.rows_kept;
    let set = ShardSet::open(&out).expect("set");

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
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
