//! Cleaning: raw pairs to clean pairs with their identities, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench clean`. Figures are bytes of text a second.

use std::hint::black_box;
use std::sync::Arc;

use bgeprep_bench::{Corpus, clean_rules};
use bgeprep_core::clean::boilerplate::{BUILT_IN_NAME, Boilerplate};
use bgeprep_core::clean::language::LanguageRule;
use bgeprep_core::clean::{CleanPair, CleanRules, Cleaner};
use bgeprep_core::pair::RawPair;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const ROWS: usize = 10_000;

fn boilerplate(phrases: &[String]) -> Option<Arc<Boilerplate>> {
    Boilerplate::new(phrases, "").expect("phrases that are no error").map(Arc::new)
}

fn bench(criterion: &mut Criterion) {
    let mut corpus = Corpus::new(2);
    let texts: Vec<(String, String)> = (0..ROWS).map(|_| corpus.pair()).collect();
    let bytes: usize = texts.iter().map(|(query, positive)| query.len() + positive.len()).sum();
    let mut group = criterion.benchmark_group("clean");
    group.sample_size(20).throughput(Throughput::Bytes(bytes as u64));
    let built_in = [BUILT_IN_NAME.to_owned()];
    let language = LanguageRule::new("en", 0.95, 30, "").expect("a language that can be detected");
    let cases = [
        ("pairs", clean_rules()),
        ("boilerplate", CleanRules { boilerplate: boilerplate(&built_in), ..clean_rules() }),
        ("repeated phrases", CleanRules { max_repeated_phrase_share: 0.99, ..clean_rules() }),
        ("language", CleanRules { language: Some(language), ..clean_rules() }),
    ];
    for (name, rules) in cases {
        group.bench_function(name, |bencher| {
            let (cleaner, mut pair, mut removed) = (Cleaner::new(rules.clone()), CleanPair::default(), Vec::new());
            bencher.iter(|| {
                for (query, positive) in &texts {
                    let raw = RawPair { query: query.into(), pos: vec![positive.into()], ..RawPair::default() };
                    black_box(cleaner.clean(&raw, &mut pair, &mut removed));
                }
                removed.clear();
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
