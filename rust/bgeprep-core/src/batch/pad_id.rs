//! Which id fills padded places.

use std::path::Path;

use serde_json::Value;

use crate::{Error, Result};

/// Names of the padding token where no file tells it.
const NAMES: [&str; 2] = ["[PAD]", "<pad>"];

/// The padding id of the tokenizer at `path` (a `tokenizer.json` or a folder that holds one): that of
/// the token `tokenizer_config.json` names, else what the tokenizer itself pads with, else that of the
/// usual names. Padded places are masked, so where there is none 0 is as good as any.
pub fn pad_id(path: &Path) -> Result<i32> {
    let file = if path.is_dir() { path.join("tokenizer.json") } else { path.to_owned() };
    let tokenizer = read(&file)?.unwrap_or_default();
    let config = read(&file.with_file_name("tokenizer_config.json"))?.unwrap_or_default();
    let named = &config["pad_token"];
    let named = named.as_str().or_else(|| named["content"].as_str());
    let id = named
        .and_then(|name| id_of(&tokenizer, name))
        .or_else(|| tokenizer["padding"]["pad_id"].as_i64())
        .or_else(|| NAMES.iter().find_map(|name| id_of(&tokenizer, name)));
    Ok(id.and_then(|id| i32::try_from(id).ok()).unwrap_or(0))
}

fn read(path: &Path) -> Result<Option<Value>> {
    match fs_err::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| Error::Tokenizer { path: path.to_owned(), message: format!("expected JSON: {error}") }),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io(path, "read")(error)),
    }
}

fn id_of(tokenizer: &Value, token: &str) -> Option<i64> {
    let added = tokenizer["added_tokens"].as_array().into_iter().flatten();
    let added = added.into_iter().find(|added| added["content"] == token).and_then(|added| added["id"].as_i64());
    added.or_else(|| match &tokenizer["model"]["vocab"] {
        Value::Object(ids) => ids.get(token).and_then(Value::as_i64),
        // Unigram: pieces with their scores, the id is the place.
        Value::Array(pieces) => pieces.iter().position(|piece| piece[0] == token).map(|place| place as i64),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let of = |tokenizer: &str, config: Option<&str>| {
            let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
            write("tokenizer.json", tokenizer);
            match config {
                Some(config) => write("tokenizer_config.json", config),
                None => fs_err::remove_file(folder.path().join("tokenizer_config.json")).unwrap_or_default(),
            }
            let ids =
                [folder.path().to_owned(), folder.path().join("tokenizer.json")].map(|path| pad_id(&path).unwrap());
            assert_eq!(ids[0], ids[1]);
            ids[0]
        };
        let words = r#"{"added_tokens": [{"id": 9, "content": "<p>"}], "model": {"vocab": {"a": 0, "[PAD]": 3}}}"#;
        assert_eq!(of(words, None), 3);
        assert_eq!(of(words, Some(r#"{"pad_token": "<p>"}"#)), 9);
        assert_eq!(of(words, Some(r#"{"pad_token": {"content": "a"}}"#)), 0);
        assert_eq!(of(words, Some(r#"{"pad_token": null}"#)), 3);
        assert_eq!(of(r#"{"padding": {"pad_id": 5}, "model": {"vocab": {"[PAD]": 3}}}"#, None), 5);
        assert_eq!(of(r#"{"padding": null, "model": {"vocab": [["<s>", 0.0], ["<pad>", 0.0]]}}"#, None), 1);
        assert_eq!(of(r#"{"model": {"vocab": {"a": 0}}}"#, None), 0);
        assert!(matches!(pad_id(&folder.path().join("tokenizer.json")), Ok(0)));
        fs_err::write(folder.path().join("tokenizer.json"), "{").unwrap();
        assert!(matches!(pad_id(folder.path()), Err(Error::Tokenizer { .. })));
    }
}
