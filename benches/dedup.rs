//! Exact dedup: one partition of key records to decisions, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench dedup`. Figures are records a second.

use bgeprep_bench::Corpus;
use bgeprep_core::clean::text::Identity;
use bgeprep_core::config::DedupMode;
use bgeprep_core::dedup::{KeyRecord, Kind, exact};
use bgeprep_core::shuffle::RowId;
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 100_000;

fn bench(criterion: &mut Criterion) {
    let (mut corpus, mut buffer) = (Corpus::new(3), String::new());
    let records: Vec<KeyRecord> = (1..=ROWS as u64)
        .map(|line| {
            let (query, positive) = corpus.pair();
            let text = Identity::of(&positive, &mut buffer);
            let query_identity = Identity::of(&query, &mut buffer);
            KeyRecord {
                query: query_identity.hash,
                query_key: query_identity.key,
                text: text.hash,
                text_key: text.key,
                row: RowId { file: 0, line },
                bucket: 0,
                priority: 0,
                slot: 0,
                score: f32::NAN,
                item: 0,
                kind: Kind::Positive,
                symmetric: false,
                merge: false,
                near: true,
                document: false,
            }
        })
        .collect();
    let mut group = criterion.benchmark_group("dedup");
    group.sample_size(20).throughput(Throughput::Elements(ROWS as u64));
    group.bench_function("exact", |bencher| {
        bencher.iter_batched(
            || records.clone(),
            |records| {
                let mut decisions = 0;
                exact::decide(records, DedupMode::Exact, None, &mut |_, _| decisions += 1);
                assert!(decisions > 0);
            },
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
