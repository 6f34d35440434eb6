//! Reading: bytes of JSONL to parsed records, one thread, from memory-cached files.
//!
//! `cargo bench -p bgeprep-bench --bench read`. Figures are bytes of input a second.

use std::path::Path;

use bgeprep_bench::{Corpus, read_options};
use bgeprep_core::read::{self, Record, Unmapped};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 20_000;

fn records(path: &Path) -> usize {
    let mut reader = read::open(path, &read_options()).expect("readable");
    let mut count = 0;
    while let Some(chunk) = reader.next_chunk().expect("whole") {
        let mut visit = |_: Record<'_>| {
            count += 1;
            Ok(())
        };
        chunk.records(&mut Unmapped::default(), &mut visit).expect("records");
    }
    count
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let text = Corpus::new(1).jsonl(ROWS);
    let path = folder.path().join("pairs.jsonl");
    fs_err::write(&path, &text).expect("write");
    let mut group = criterion.benchmark_group("read");
    group.sample_size(20).throughput(Throughput::Bytes(text.len() as u64));
    group.bench_function("jsonl", |bencher| bencher.iter(|| assert_eq!(records(&path), ROWS)));
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
