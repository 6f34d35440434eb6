//! Masks of RetroMAE: a text of 512 tokens to its corrupted copy and 128 base masks, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench mask`. Figures are texts a second; `tokens alone` is how many of them the
//! tokenizer in use takes, and is in all the others.

use std::sync::Arc;

use bgeprep_core::mask::{BaseMasks, MaskCount, MaskOptions, Masker, TextArrays};
use bgeprep_core::tokenize::TextEncoder;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// Words of a text; about every second has a second piece, as in English under BERT's vocabulary.
const WORDS: usize = 350;
const TOKENS: usize = 512;

fn tokenizer() -> serde_json::Value {
    let special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = (0..2000).map(|number| format!("w{number}")).chain(["##x".to_owned()]);
    let vocab: serde_json::Map<_, _> =
        special.iter().map(ToString::to_string).chain(words).zip((0..).map(Into::into)).collect();
    let added: Vec<_> = (0..)
        .zip(special)
        .map(|(id, content)| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        })
        .collect();
    serde_json::json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
            "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
            "max_input_chars_per_word": 100, "vocab": vocab},
    })
}

fn bench(criterion: &mut Criterion) {
    let folder = tempfile::tempdir().expect("folder");
    fs_err::write(folder.path().join("tokenizer.json"), tokenizer().to_string()).expect("write");
    let encoder = Arc::new(TextEncoder::open(folder.path()).expect("tokenizer"));
    let words = (0..WORDS).map(|at| format!("w{}{}", at * 7 % 2000, if at % 2 == 0 { "x" } else { "" }));
    let text = words.collect::<Vec<_>>().join(" ");

    let mut group = criterion.benchmark_group("mask");
    group.throughput(Throughput::Elements(1));
    group.bench_function("tokens alone", |bencher| {
        let (mut ids, mut flags) = (Vec::new(), Vec::new());
        bencher.iter(|| {
            ids.clear();
            flags.clear();
            encoder.encode_words_into(&text, TOKENS, &mut ids, &mut flags).expect("tokens")
        });
        assert_eq!(ids.len(), TOKENS);
    });
    for (name, base_masks) in
        [("1 mask", BaseMasks::Count(1)), ("128 masks", BaseMasks::Count(128)), ("one a row", BaseMasks::Fresh)]
    {
        let options = MaskOptions {
            seed: 1,
            encoder_mlm_probability: 0.3,
            decoder_mlm_probability: 0.5,
            base_masks,
            sep_visible: true,
            mask_count: MaskCount::Tokens,
        };
        let masker = Masker::new(Arc::clone(&encoder), options, TOKENS).expect("options");
        let mut block = 0;
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                block += 1;
                let mut out = TextArrays::default();
                masker.text(&text, (0, block, 0), &mut out).expect("masks");
                out
            });
        });
    }
    group.finish();
}

criterion_group!(benches, bench);
criterion_main!(benches);
