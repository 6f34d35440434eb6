//! Near dedup's kernels, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench near`. Signatures are of 128 lanes over 24 shingles, a
//! passage of 28 words; shingling is on normalised text. Figures are texts and bytes a second.

use bgeprep_bench::Corpus;
use bgeprep_core::near::minhash::{Banding, MinHash, Sketcher};
use bgeprep_core::near::shingle::{Rule, Shingler};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const TEXTS: usize = 1000;

fn bench(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("near");
    group.throughput(Throughput::Elements(TEXTS as u64));
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        state ^ (state >> 31)
    };
    let sets: Vec<Vec<u64>> = (0..TEXTS).map(|_| (0..24).map(|_| next()).collect()).collect();
    let (hashes, mut signature) = (MinHash::new(128), Vec::new());
    group.bench_function("signature", |bencher| {
        bencher.iter(|| {
            sets.iter().fold(0, |sum: u32, set| {
                hashes.signature(set, &mut signature);
                sum.wrapping_add(signature[0])
            })
        });
    });
    let mut sketcher = Sketcher::new(Banding::for_threshold(0.8, 128));
    group.bench_function("bands", |bencher| {
        bencher
            .iter(|| sets.iter().map(|set| sketcher.bands(set).fold(0, u64::wrapping_add)).fold(0, u64::wrapping_add));
    });

    let mut corpus = Corpus::new(5);
    let texts: Vec<String> = (0..TEXTS).map(|_| corpus.pair().1.to_lowercase()).collect();
    group.throughput(Throughput::Bytes(texts.iter().map(|text| text.len() as u64).sum()));
    let mut shingler = Shingler::default();
    group.bench_function("shingles", |bencher| {
        bencher.iter(|| texts.iter().map(|text| shingler.shingles(text, Rule::Passage).len()).sum::<usize>());
    });
}

criterion_group!(benches, bench);
criterion_main!(benches);
