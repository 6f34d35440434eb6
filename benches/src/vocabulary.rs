//! A BERT tokenizer for the corpus: its words, their beginnings and ends, and every character.

use std::collections::BTreeMap;

use serde_json::{Value, json};

const SPECIAL: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];

/// The `tokenizer.json` of a WordPiece vocabulary in which one English word of three is in pieces.
pub fn word_piece() -> Value {
    let mut tokens: Vec<String> = SPECIAL.map(str::to_owned).to_vec();
    for (number, word) in super::ENGLISH.split_whitespace().enumerate() {
        let middle = word.len() / 2;
        tokens.extend([word[..middle.max(1)].to_owned(), format!("##{}", &word[middle..])]);
        tokens.extend((number % 3 != 0).then(|| word.to_owned()));
    }
    let characters = super::CHINESE.chars().chain(" ~".chars()).filter(|c| !c.is_whitespace());
    tokens.extend(characters.chain('!'..='~').chain("，。".chars()).map(String::from));
    let mut vocab = BTreeMap::new();
    for token in tokens {
        let id = vocab.len();
        vocab.entry(token).or_insert(id);
    }
    let added = SPECIAL.map(|token| {
        json!({"id": vocab[token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
               "normalized": false, "special": true})
    });
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": true, "handle_chinese_chars": true,
                       "strip_accents": null, "lowercase": true},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
        "decoder": null,
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 100, "vocab": vocab},
    })
}
