//! The whole preparation, JSONL to a finished shard set, on two threads.
//!
//! `cargo bench -p bgeprep-bench --bench shard`. Figures are bytes of input a second.

use bgeprep_bench::{Corpus, plan, run_options};
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 50_000;

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let text = Corpus::new(4).jsonl(ROWS);
    let path = folder.path().join("pairs.jsonl");
    fs_err::write(&path, &text).expect("write");
    let plan = plan(&path, text.len() as u64);
    let mut group = criterion.benchmark_group("shard");
    group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("jsonl to set", |bencher| {
        bencher.iter_batched(
            || tempfile::tempdir().expect("folder"),
            |out| {
                let outcome = pipeline::run(&plan, &run_options(out.path()), &Progress::default()).expect("run");
                assert_eq!(outcome.manifest.rows_read, ROWS as u64);
                out
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
