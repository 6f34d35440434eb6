//! What a `tokenizer.json` says, read strictly: a field, type or value that is not known here is a
//! reason not to tokenise by [`super::wordpiece`], and is named.

use std::collections::BTreeMap;
use std::collections::HashMap;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::normalize::Normalizer;

/// Everything that decides the tokens of a text.
#[derive(Debug)]
pub(super) struct Recipe {
    pub(super) normalizer: Normalizer,
    pub(super) vocabulary: HashMap<String, u32>,
    pub(super) unknown: u32,
    pub(super) prefix: String,
    pub(super) max_word_chars: usize,
    /// Texts that are one token wherever they stand, with their ids.
    pub(super) added: Vec<(String, u32)>,
    /// Ids put before every text.
    pub(super) before: Vec<u32>,
    /// Ids put behind every text.
    pub(super) behind: Vec<u32>,
}

/// Why a file is not for [`super::wordpiece`]: the first thing in it that is not understood.
pub(super) type Reason = String;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: Value,
    // Lengths are the caller's.
    #[serde(rename = "truncation")]
    _truncation: Option<Value>,
    #[serde(rename = "padding")]
    _padding: Option<Value>,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
    normalizer: Value,
    pre_tokenizer: Value,
    post_processor: Value,
    // Only ids → text.
    #[serde(rename = "decoder")]
    _decoder: Option<Value>,
    model: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AddedToken {
    id: u32,
    content: String,
    single_word: bool,
    lstrip: bool,
    rstrip: bool,
    normalized: bool,
    #[serde(rename = "special")]
    _special: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BertNormalizer {
    clean_text: bool,
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    lowercase: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BertPreTokenizer {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WordPiece {
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
    vocab: HashMap<String, u32>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BertProcessing {
    sep: (String, u32),
    cls: (String, u32),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateProcessing {
    single: Vec<Piece>,
    // Two texts at a time are never asked for.
    #[serde(rename = "pair")]
    _pair: Value,
    special_tokens: BTreeMap<String, TemplateToken>,
}

#[derive(Deserialize)]
enum Piece {
    Sequence(TemplateSequence),
    SpecialToken(TemplateSpecial),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateSequence {
    id: String,
    #[serde(rename = "type_id")]
    _type_id: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateSpecial {
    id: String,
    #[serde(rename = "type_id")]
    _type_id: u32,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TemplateToken {
    #[serde(rename = "id")]
    _id: String,
    ids: Vec<u32>,
    #[serde(rename = "tokens")]
    _tokens: Vec<String>,
}

/// Reads a file whose added tokens have the ids that `id_of` says: those in the file are only a hint.
pub(super) fn understand(bytes: &[u8], id_of: impl Fn(&str) -> Option<u32>) -> Result<Recipe, Reason> {
    let file: File = serde_json::from_slice(bytes).map_err(|error| error.to_string())?;
    if file.version != "1.0" {
        return Err(format!("version is {}", file.version));
    }
    let model: WordPiece = part("model", file.model, "WordPiece")?;
    let normalizer: BertNormalizer = part("normalizer", file.normalizer, "BertNormalizer")?;
    let BertPreTokenizer {} = part("pre_tokenizer", file.pre_tokenizer, "BertPreTokenizer")?;
    let (before, behind) = around(file.post_processor)?;
    let Some(unknown) = model.vocab.get(&model.unk_token).copied() else {
        return Err(format!("model.unk_token {:?} is not in model.vocab", model.unk_token));
    };
    let mut added: Vec<(String, u32)> = Vec::with_capacity(file.added_tokens.len());
    for token in file.added_tokens {
        if let Some(reason) = unusual(&token, &added, id_of(&token.content)) {
            return Err(format!("added token {:?} {reason}", token.content));
        }
        added.push((token.content, token.id));
    }
    Ok(Recipe {
        normalizer: Normalizer {
            clean_text: normalizer.clean_text,
            chinese: normalizer.handle_chinese_chars,
            strip_accents: normalizer.strip_accents.unwrap_or(normalizer.lowercase),
            lowercase: normalizer.lowercase,
        },
        vocabulary: model.vocab,
        unknown,
        prefix: model.continuing_subword_prefix,
        max_word_chars: model.max_input_chars_per_word,
        added,
        before,
        behind,
    })
}

/// A part of the file, of the type that is expected.
fn part<T: DeserializeOwned>(name: &str, mut value: Value, expected: &str) -> Result<T, Reason> {
    match type_of(&mut value) {
        Some(kind) if kind == expected => serde_json::from_value(value).map_err(|error| format!("{name}: {error}")),
        Some(kind) => Err(format!("{name}.type is {kind:?}")),
        None => Err(format!("{name} is {}", brief(&value))),
    }
}

fn type_of(value: &mut Value) -> Option<String> {
    match value.as_object_mut()?.remove("type")? {
        Value::String(kind) => Some(kind),
        _ => None,
    }
}

/// A value in a few characters.
fn brief(value: &Value) -> String {
    match value {
        Value::Object(_) => "an object without a type".to_owned(),
        other => other.to_string().chars().take(40).collect(),
    }
}

fn around(mut value: Value) -> Result<(Vec<u32>, Vec<u32>), Reason> {
    if value.is_null() {
        return Ok((Vec::new(), Vec::new()));
    }
    let failed = |error: serde_json::Error| format!("post_processor: {error}");
    match type_of(&mut value).as_deref() {
        Some("BertProcessing") => {
            let processing: BertProcessing = serde_json::from_value(value).map_err(failed)?;
            Ok((vec![processing.cls.1], vec![processing.sep.1]))
        }
        Some("TemplateProcessing") => template(&serde_json::from_value(value).map_err(failed)?),
        Some(kind) => Err(format!("post_processor.type is {kind:?}")),
        None => Err(format!("post_processor is {}", brief(&value))),
    }
}

fn template(template: &TemplateProcessing) -> Result<(Vec<u32>, Vec<u32>), Reason> {
    let (mut before, mut behind) = (Vec::new(), Vec::new());
    let mut texts = 0;
    for piece in &template.single {
        match piece {
            Piece::Sequence(sequence) if sequence.id == "A" && texts == 0 => texts = 1,
            Piece::Sequence(_) => return Err("post_processor.single takes something else than one text".to_owned()),
            Piece::SpecialToken(special) => {
                let Some(token) = template.special_tokens.get(&special.id) else {
                    return Err(format!("post_processor.single names {:?} without ids", special.id));
                };
                if texts == 0 { &mut before } else { &mut behind }.extend_from_slice(&token.ids);
            }
        }
    }
    if texts == 0 { Err("post_processor.single takes no text".to_owned()) } else { Ok((before, behind)) }
}

/// What sets an added token apart from those of BERT's files.
fn unusual(token: &AddedToken, earlier: &[(String, u32)], real_id: Option<u32>) -> Option<String> {
    let flags = [
        ("single_word", token.single_word),
        ("lstrip", token.lstrip),
        ("rstrip", token.rstrip),
        ("normalized", token.normalized),
    ];
    if let Some((name, _)) = flags.iter().find(|(_, set)| *set) {
        return Some(format!("is {name}"));
    }
    // Such a byte ends a word in any case: there, and only there, an added token is looked for.
    if !token.content.as_bytes().first().is_some_and(u8::is_ascii_punctuation) {
        return Some("does not begin with ASCII punctuation".to_owned());
    }
    if real_id != Some(token.id) {
        return Some(format!("has id {} in the file and {real_id:?} in the vocabulary", token.id));
    }
    earlier.iter().any(|(content, id)| *content == token.content || *id == token.id).then(|| "comes twice".to_owned())
}
