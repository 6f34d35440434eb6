//! [`TextEncoder`] against the `tokenizers` crate.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::normalize::{Mapping, Normalizer};
use super::*;

/// Eight words, `[CLS] … [SEP]` around a text, and a truncation to 3 that must not count.
const WORD_LEVEL: &str = r#"{
    "version": "1.0",
    "truncation": {"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0},
    "padding": {"strategy": {"Fixed": 9}, "direction": "Right", "pad_to_multiple_of": null, "pad_id": 0,
                "pad_type_id": 0, "pad_token": "[PAD]"},
    "added_tokens": [], "normalizer": null, "pre_tokenizer": {"type": "Whitespace"},
    "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 2], "cls": ["[CLS]", 1]}, "decoder": null,
    "model": {"type": "WordLevel", "unk_token": "[UNK]",
              "vocab": {"[PAD]": 0, "[CLS]": 1, "[SEP]": 2, "[UNK]": 3, "a": 4, "b": 5, "c": 6, "d": 7}}
}"#;

fn words() -> (tempfile::TempDir, TextEncoder) {
    let folder = tempfile::tempdir().unwrap();
    fs_err::write(folder.path().join(FILE_NAME), WORD_LEVEL).unwrap();
    let encoder = TextEncoder::open(folder.path()).unwrap();
    (folder, encoder)
}

#[test]
fn truncation_is_at_the_end_and_keeps_the_special_tokens() {
    let (_folder, encoder) = words();
    assert_eq!(encoder.special_tokens(), 2);
    assert_eq!(encoder.count("a b c d").unwrap(), 4);
    for (max_len, expected, cut) in
        [(9, vec![1, 4, 5, 6, 7, 2], false), (6, vec![1, 4, 5, 6, 7, 2], false), (4, vec![1, 4, 5, 2], true)]
    {
        let mut ids = Vec::new();
        assert_eq!(encoder.encode_into("a b c d", max_len, &mut ids).unwrap(), cut);
        assert_eq!(ids, expected);
    }
}

#[test]
fn files_that_are_no_tokenizer_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let missing = TextEncoder::open(folder.path()).unwrap_err().to_string();
    assert!(missing.contains("tokenizer.json") && missing.contains("save_pretrained"), "{missing}");
    fs_err::write(folder.path().join(FILE_NAME), "{}").unwrap();
    assert!(matches!(TextEncoder::open(folder.path()), Err(Error::Tokenizer { .. })));
}

const SPECIAL_TOKENS: [&str; 5] = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
const BERT: Normalizer = Normalizer { clean_text: true, chinese: true, strip_accents: true, lowercase: true };

/// Characters that the generated texts prefer, in groups.
const GROUPS: [&str; 9] = [
    "abcdefghijklmnopqrstuvwxyzABCXYZ0123456789",
    ".,;:!?'\"()[]{}<>|#$%&*+-/\\^_`~@=",
    " \t\n\r\u{a0}\u{2003}\u{3000}\u{2028}\u{85}\u{200b}\u{200d}\u{feff}\u{ad}\u{0}\u{7}\u{7f}\u{fffd}\u{e000}\u{d7ff}",
    "的一是在中国文本检索模型豈侮\u{2f800}\u{20000}\u{2a6df}\u{2b73f}\u{9fff}\u{4dbf}、。，！「」ー々〆",
    "éÀüñçßøŁžŸạ̈ǖ\u{390}\u{344}ﬁﬃŒ\u{1e9e}İıΣσςΩ\u{212a}\u{2126}\u{37e}\u{1fef}≠≮",
    "\u{300}\u{301}\u{308}\u{327}\u{328}\u{345}\u{302e}\u{302f}\u{1d165}\u{1d16d}\u{93c}\u{9be}\u{8d4}\u{1dfb}\u{1e944}\u{11b6}",
    "한국어가각힣\u{1100}\u{1161}\u{11a8}\u{30a2}\u{3099}\u{304c}\u{ff8a}\u{ff9f}\u{e2a}\u{e27}\u{e31}\u{e2a}\u{e14}\u{e35}\u{939}\u{93f}\u{928}\u{94d}\u{926}\u{940}\u{995}\u{9cd}\u{9b7}\u{5e2}\u{5b4}\u{5d1}\u{5b0}\u{631}\u{650}\u{64a}\u{64e}\u{651}\u{629}\u{e44}\u{e17}\u{e22}",
    "😀👨\u{200d}👩\u{fe0f}🏽🇩🇪\u{1f9ff}€™½²①Ⅷ\u{1d400}",
    "\u{1e00}\u{1f80}\u{10a0}\u{13a0}\u{ab70}\u{10400}\u{1e900}\u{a640}\u{2c00}\u{1f6b}\u{fb1d}",
];
const WORDS: [&str; 12] = [
    "the",
    "retrieval",
    "un",
    "embed",
    "naive",
    "strasse",
    "internationalization",
    "counterrevolutionaries",
    "1984",
    "antidisestablishmentarianism",
    "日本",
    "co",
];
const PIECES: [&str; 10] =
    ["ing", "able", "ed", "s", "disestablishmentarian", "ization", "able", "ism", "ationalization", "文"];

/// A tokenizer's file with flags of the normaliser, and a vocabulary that knows most, not all, of [`GROUPS`].
fn file(flags: Normalizer) -> Value {
    let mut tokens: Vec<String> = SPECIAL_TOKENS.map(str::to_owned).to_vec();
    tokens.extend(WORDS.map(str::to_owned));
    tokens.extend(PIECES.map(|piece| format!("##{piece}")));
    for group in GROUPS {
        for (number, c) in group.chars().flat_map(|c| BERT.segment(&c.to_string(), 0)).enumerate() {
            if number % 11 != 10 {
                tokens.push(c.c.to_string());
            }
            if number % 3 != 2 {
                tokens.push(format!("##{}", c.c));
            }
        }
    }
    tokens.extend(["É", "##é", "i\u{307}", "##\u{301}", "Σ"].map(str::to_owned));
    let mut vocab = BTreeMap::new();
    for token in tokens {
        let id = vocab.len();
        vocab.entry(token).or_insert(id);
    }
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .map(|token| {
            json!({"id": vocab[*token], "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        })
        .collect();
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added,
        "normalizer": {"type": "BertNormalizer", "clean_text": flags.clean_text,
                       "handle_chinese_chars": flags.chinese, "strip_accents": flags.strip_accents,
                       "lowercase": flags.lowercase},
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": {"type": "TemplateProcessing",
            "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                       {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [vocab["[CLS]"]], "tokens": ["[CLS]"]},
                               "[SEP]": {"id": "[SEP]", "ids": [vocab["[SEP]"]], "tokens": ["[SEP]"]}}},
        "decoder": {"type": "WordPiece", "prefix": "##", "cleanup": true},
        "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                  "max_input_chars_per_word": 30, "vocab": vocab},
    })
}

/// Ours, and the crate, for a file.
fn both(file: &Value) -> (TextEncoder, Fallback) {
    let folder = tempfile::tempdir().unwrap();
    let bytes = file.to_string().into_bytes();
    fs_err::write(folder.path().join(FILE_NAME), &bytes).unwrap();
    (TextEncoder::open(folder.path()).unwrap(), Fallback::read(&bytes).unwrap())
}

/// What a tokenizer says of a text, in full and cut to some lengths.
type Said = (Vec<i32>, Vec<(u32, u32)>, Vec<(bool, Vec<i32>, Vec<u8>)>, usize);

fn said(encoder: &TextEncoder, text: &str, lengths: &[usize]) -> Said {
    let (mut ids, mut spans) = (Vec::new(), Vec::new());
    encoder.encode_offsets_into(text, &mut ids, &mut spans).unwrap();
    let cut = |length: &usize| {
        let (mut plain, mut ids, mut flags) = (Vec::new(), Vec::new(), Vec::new());
        let cut = encoder.encode_into(text, *length, &mut plain).unwrap();
        assert_eq!(encoder.encode_words_into(text, *length, &mut ids, &mut flags).unwrap(), cut);
        assert_eq!(plain, ids);
        (cut, ids, flags)
    };
    (ids, spans, lengths.iter().map(cut).collect(), encoder.count(text).unwrap())
}

fn expected(oracle: &Fallback, special: &[u32], text: &str, lengths: &[usize]) -> Said {
    let (mut ids, mut spans) = (Vec::new(), Vec::new());
    oracle.encode_offsets(text, &mut ids, &mut spans).unwrap();
    let cut = |length: &usize| {
        let (mut ids, mut flags) = (Vec::new(), Vec::new());
        let cut = oracle.encode_words(text, *length, special, (&mut ids, &mut flags)).unwrap();
        (cut, ids, flags)
    };
    (ids, spans, lengths.iter().map(cut).collect(), oracle.count(text).unwrap())
}

fn check(encoder: &TextEncoder, oracle: &Fallback, text: &str) {
    let whole = encoder.count(text).unwrap();
    let lengths = [0, 2, 3, 7, whole + 1, whole + 2, usize::MAX];
    assert_eq!(said(encoder, text, &lengths), expected(oracle, &encoder.special, text, &lengths), "{text:?}");
}

fn flags() -> impl Strategy<Value = Normalizer> {
    (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(
        |(clean_text, chinese, strip_accents, lowercase)| Normalizer { clean_text, chinese, strip_accents, lowercase },
    )
}

/// Words, characters of the groups, special tokens whole and torn, and any character at all.
fn text() -> impl Strategy<Value = String> {
    let one_of = |group: &'static str| {
        let characters: Vec<char> = group.chars().collect();
        prop::collection::vec(prop::sample::select(characters), 1..6).prop_map(|found| found.into_iter().collect())
    };
    let torn =
        vec!["[CLS]", "[SEP]", "[MASK]", "[UNK]", "[mask]", "[CLS", "CLS]", "[[SEP]]", "##", "##ing", "[ MASK ]"];
    let long = vec!["antidisestablishmentarianism", "counterrevolutionariesing", "internationalizations"];
    let fragment = prop_oneof![
        3 => prop::sample::select(WORDS.to_vec()).prop_map(str::to_owned),
        2 => prop::sample::select(PIECES.to_vec()).prop_map(str::to_owned),
        2 => Just(" ".to_owned()),
        2 => prop::sample::select(torn).prop_map(str::to_owned),
        1 => prop::sample::select(long).prop_map(str::to_owned),
        1 => (14_usize..34, "[a-cé中]").prop_map(|(count, piece)| piece.repeat(count)),
        2 => any::<char>().prop_map(String::from),
        9 => prop::sample::select(GROUPS.to_vec()).prop_flat_map(one_of),
    ];
    prop::collection::vec(fragment, 0..14).prop_map(|found| found.concat())
}

proptest! {
    #[test]
    fn ids_places_words_and_cuts_are_those_of_the_crate(texts in prop::collection::vec(text(), 12), flags in flags()) {
        let (encoder, oracle) = both(&file(flags));
        prop_assert_eq!(encoder.engine(), "wordpiece");
        for text in texts {
            check(&encoder, &oracle, &text);
        }
    }
}

#[test]
fn every_character_is_tokenised_as_by_the_crate() {
    let (encoder, oracle) = both(&file(BERT));
    let all: Vec<char> = ('\0'..=char::MAX).filter(|c| u32::from(*c) < 0x3_2000 || u32::from(*c) >= 0xe_0000).collect();
    for some in all.chunks(512) {
        let text: String = some.iter().flat_map(|c| ['a', *c, 'b', ' ', *c, ' ']).collect();
        let (mut ids, mut spans) = (Vec::new(), Vec::new());
        encoder.encode_offsets_into(&text, &mut ids, &mut spans).unwrap();
        let (mut other_ids, mut other_spans) = (Vec::new(), Vec::new());
        oracle.encode_offsets(&text, &mut other_ids, &mut other_spans).unwrap();
        assert_eq!((ids, spans), (other_ids, other_spans), "{:?} to {:?}", some.first(), some.last());
    }
}

#[test]
fn every_character_is_normalised_as_by_the_crate() {
    use tokenizers::normalizer::Range;
    use tokenizers::{NormalizedString, Normalizer as _};
    for flags in [
        BERT,
        Normalizer { strip_accents: false, ..BERT },
        Normalizer { lowercase: false, ..BERT },
        Normalizer { clean_text: false, chinese: false, strip_accents: true, lowercase: true },
    ] {
        let Normalizer { clean_text, chinese, strip_accents, lowercase } = flags;
        let oracle = tokenizers::normalizers::BertNormalizer::new(clean_text, chinese, Some(strip_accents), lowercase);
        let all: Vec<char> = ('\0'..=char::MAX).filter(|c| u32::from(*c) < 0x3_2000).collect();
        for some in all.chunks(512) {
            // Two of each: marks that stay change places.
            let text: String = some.iter().flat_map(|c| ['x', *c, '\u{316}', *c, '\u{302e}', '\u{301}', *c]).collect();
            let mut normalized = NormalizedString::from(text.as_str());
            oracle.normalize(&mut normalized).unwrap();
            let ours = flags.segment(&text, 0);
            assert_eq!(ours.iter().map(|aligned| aligned.c).collect::<String>(), normalized.get());
            let mut at = 0;
            for aligned in ours {
                let end = at + aligned.c.len_utf8();
                let place = normalized.convert_offsets(Range::Normalized(at..end)).unwrap();
                assert_eq!(place, aligned.start as usize..aligned.end as usize, "{:?}", aligned.c);
                at = end;
            }
        }
    }
}

#[test]
fn the_comparison_notices_another_normaliser() {
    let texts = ["Émile", "naïve café", "ÀÉ x", "中国"];
    for changed in [
        Normalizer { strip_accents: false, ..BERT },
        Normalizer { lowercase: false, ..BERT },
        Normalizer { chinese: false, ..BERT },
        Normalizer { clean_text: false, ..BERT },
    ] {
        let ((encoder, _), (_, oracle)) = (both(&file(changed)), both(&file(BERT)));
        let differs = |text: &&str| said(&encoder, text, &[9]) != expected(&oracle, &encoder.special, text, &[9]);
        assert!(texts.iter().chain(&["the\u{200b}"]).any(differs), "{changed:?}");
    }
}

#[test]
fn marks_that_stay_are_sorted() {
    // Else no test would reach the stepwise path.
    assert_eq!(BERT.mapping('\u{302e}'), Mapping::Context);
    let (encoder, oracle) = both(&file(BERT));
    for text in ["a\u{302e}\u{1d165}b", "ab[SEP]a\u{1d165}\u{302e}\u{301}é[MASK]co \u{302e}", "the é\u{302e}"] {
        check(&encoder, &oracle, text);
    }
}

#[test]
fn what_is_not_understood_goes_to_the_crate_and_is_named() {
    let changed = |pointer: &str, value: Value| {
        let mut file = file(BERT);
        *file.pointer_mut(pointer).unwrap() = value;
        both(&file).0
    };
    for (pointer, value, reason) in [
        ("/added_tokens/4/lstrip", json!(true), r#"added token "[MASK]" is lstrip"#),
        ("/added_tokens/0/normalized", json!(true), r#"added token "[PAD]" is normalized"#),
        ("/added_tokens/1/content", json!("covid"), r#"added token "covid" does not begin with ASCII punctuation"#),
        ("/added_tokens/0/id", json!(7), r#"added token "[PAD]" has id 7 in the file"#),
        ("/normalizer", json!({"type": "Lowercase"}), r#"normalizer.type is "Lowercase""#),
        ("/normalizer", json!(null), "normalizer is null"),
        ("/pre_tokenizer", json!({"type": "Whitespace"}), r#"pre_tokenizer.type is "Whitespace""#),
        ("/model/unk_token", json!("[OTHER]"), r#"model.unk_token "[OTHER]" is not in model.vocab"#),
    ] {
        let encoder = changed(pointer, value);
        assert_eq!(encoder.engine(), "tokenizers", "{pointer}");
        assert!(encoder.why_not().unwrap().contains(reason), "{pointer}: {:?}", encoder.why_not());
    }
    let mut unknown = file(BERT);
    unknown["normalizer"]["stemming"] = json!(true);
    let (encoder, _) = both(&unknown);
    assert!(encoder.why_not().unwrap().contains("unknown field `stemming`"), "{:?}", encoder.why_not());

    let (_folder, encoder) = words();
    assert_eq!((encoder.engine(), encoder.why_not()), ("tokenizers", Some(r#"model.type is "WordLevel""#)));
    let (encoder, _) = both(&file(BERT));
    assert_eq!((encoder.engine(), encoder.why_not()), ("wordpiece", None));
}

#[test]
fn vocabularies_of_other_shapes_are_understood_or_not_but_never_wrong() {
    let base = file(BERT);
    let mut shapes = Vec::new();
    // Holes, two tokens with one id, an empty token and a bare prefix, an added token behind all others.
    let mut odd = base.clone();
    odd["model"]["vocab"]["the"] = json!(5_000_000);
    odd["model"]["vocab"]["##s"] = odd["model"]["vocab"]["##ed"].clone();
    odd["model"]["vocab"][""] = json!(5_000_001);
    odd["model"]["vocab"]["##"] = json!(5_000_002);
    shapes.push(odd);
    let mut other_prefix = base.clone();
    other_prefix["model"]["continuing_subword_prefix"] = json!("");
    shapes.push(other_prefix);
    let mut short = base.clone();
    short["model"]["max_input_chars_per_word"] = json!(0);
    shapes.push(short);
    let mut bare = base.clone();
    bare["post_processor"] = json!(null);
    bare["normalizer"]["strip_accents"] = json!(null);
    bare["truncation"] = json!({"direction": "Left", "max_length": 3, "strategy": "LongestFirst", "stride": 0});
    shapes.push(bare);
    let mut more = base.clone();
    let id = more["model"]["vocab"].as_object().unwrap().len();
    let token = json!({"id": id, "content": "[Q] ", "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": false});
    more["added_tokens"].as_array_mut().unwrap().push(token);
    shapes.push(more);
    let mut bert = base;
    bert["post_processor"] = json!({"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]});
    shapes.push(bert);
    for shape in shapes {
        let (encoder, oracle) = both(&shape);
        assert_eq!(encoder.engine(), "wordpiece", "{:?}", encoder.why_not());
        for text in ["the embeds, [Q] theing 中 [Q]co\u{302e}", "", "[MASK]", "retrieval##s the internationalizations"]
        {
            check(&encoder, &oracle, text);
        }
        assert!(
            ["the", "[MASK]", "##ed", "absent", "[Q] "].iter().all(|token| encoder.id_of(token) == oracle.id_of(token))
        );
        assert_eq!(encoder.vocab_size(), oracle.vocab_size());
    }
}
