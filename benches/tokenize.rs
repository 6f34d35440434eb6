//! Tokenising: the `tokenizers` crate beside ours, one thread, the same texts and vocabulary.
//!
//! `cargo bench -p bgeprep-bench --bench tokenize`. Figures are tokens a second; the
//! names say how many tokens and bytes a round has. The texts are those of the seeded corpus,
//! or the lines of the files that `BGEPREP_BENCH_ENGLISH` and `BGEPREP_BENCH_CHINESE` name;
//! `BGEPREP_BENCH_TOKENIZER` names a `tokenizer.json` to use instead of a small one.

use std::path::PathBuf;

use bgeprep_bench::{Corpus, word_piece};
use bgeprep_core::tokenize::TextEncoder;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use tokenizers::Tokenizer;

const TEXTS: usize = 2000;

fn texts(variable: &str, chinese: bool) -> Vec<String> {
    if let Some(path) = std::env::var_os(variable) {
        let text = fs_err::read_to_string(PathBuf::from(path)).expect("texts");
        return text.lines().take(TEXTS).map(str::to_owned).collect();
    }
    let mut corpus = Corpus::new(7);
    let passages = std::iter::repeat_with(|| corpus.pair().1);
    passages.filter(|text| text.is_ascii() != chinese).take(TEXTS).collect()
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    let path = std::env::var_os("BGEPREP_BENCH_TOKENIZER").map_or_else(
        || {
            let path = folder.path().join("tokenizer.json");
            fs_err::write(&path, word_piece().to_string()).expect("write");
            path
        },
        PathBuf::from,
    );
    let ours = TextEncoder::open(&path).expect("tokenizer");
    assert_eq!(ours.engine(), "wordpiece");
    let mut theirs = Tokenizer::from_bytes(fs_err::read(&path).expect("file")).expect("tokenizer");
    theirs.with_padding(None).with_truncation(None).expect("no truncation");

    let mut group = criterion.benchmark_group("tokenize");
    group.sample_size(10);
    group.bench_function("open", |bencher| bencher.iter(|| TextEncoder::open(&path).expect("tokenizer")));
    group.finish();

    for (language, variable, chinese) in
        [("english", "BGEPREP_BENCH_ENGLISH", false), ("chinese", "BGEPREP_BENCH_CHINESE", true)]
    {
        let texts = texts(variable, chinese);
        let bytes: usize = texts.iter().map(String::len).sum();
        let tokens: usize = texts.iter().map(|text| ours.count(text).expect("count")).sum();
        let about = format!("{} texts, {bytes} bytes, {tokens} tokens", texts.len());
        let mut group = criterion.benchmark_group(format!("tokenize/{language}"));
        group.sample_size(10).throughput(Throughput::Elements(tokens as u64));
        group.bench_function(BenchmarkId::new("wordpiece", &about), |bencher| {
            let mut ids = Vec::new();
            bencher.iter(|| {
                ids.clear();
                for text in &texts {
                    ours.encode_into(text, usize::MAX, &mut ids).expect("ids");
                }
                assert!(ids.len() > tokens);
            });
        });
        group.bench_function(BenchmarkId::new("wordpiece-offsets", &about), |bencher| {
            let (mut ids, mut spans) = (Vec::new(), Vec::new());
            bencher.iter(|| {
                ids.clear();
                spans.clear();
                for text in &texts {
                    ours.encode_offsets_into(text, &mut ids, &mut spans).expect("ids");
                }
                assert_eq!(ids.len(), tokens);
            });
        });
        group.bench_function(BenchmarkId::new("tokenizers-encode-fast", &about), |bencher| {
            bencher.iter(|| {
                let found: usize =
                    texts.iter().map(|text| theirs.encode_fast(text.as_str(), true).expect("ids").len()).sum();
                assert!(found > tokens);
            });
        });
        group.finish();
    }
}

criterion_group!(benches, bench);
criterion_main!(benches);
