//! Cleaning: raw pairs to clean pairs with their identities, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench clean`. Figures are bytes of text a second.

use bgeprep_bench::{Corpus, clean_rules};
use bgeprep_core::clean::{CleanPair, Cleaner};
use bgeprep_core::pair::RawPair;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 10_000;

fn bench(criterion: &mut Criterion) {
    let mut corpus = Corpus::new(2);
    let texts: Vec<(String, String)> = (0..ROWS).map(|_| corpus.pair()).collect();
    let bytes: usize = texts.iter().map(|(query, positive)| query.len() + positive.len()).sum();
    let mut group = criterion.benchmark_group("clean");
    group.sample_size(20).throughput(Throughput::Bytes(bytes as u64));
    group.bench_function("pairs", |bencher| {
        let (mut cleaner, mut pair, mut removed) = (Cleaner::new(clean_rules()), CleanPair::default(), Vec::new());
        bencher.iter(|| {
            for (query, positive) in &texts {
                let raw = RawPair { query: query.into(), pos: vec![positive.into()], ..RawPair::default() };
                assert!(cleaner.clean(&raw, &mut pair, &mut removed));
            }
        });
    });
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
