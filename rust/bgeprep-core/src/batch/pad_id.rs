//! Which id fills padded places.

use serde_json::Value;

use crate::tokenize::TextEncoder;
use crate::{Error, Result};

/// The padding id of a tokenizer: that of the token which `tokenizer_config.json` beside it names, else what the
/// tokenizer itself pads with, else that of the usual names. Padded places are masked, so where there is none 0 is as
/// good as any.
pub fn pad_id(encoder: &TextEncoder) -> Result<i32> {
    let path = encoder.path().with_file_name("tokenizer_config.json");
    let config: Value = match fs_err::read(&path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map_err(|error| Error::Tokenizer { path, message: format!("expected JSON: {error}") })?,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Value::Null,
        Err(error) => return Err(Error::io(path, "read")(error)),
    };
    let named = &config["pad_token"];
    let named = named.as_str().or_else(|| named["content"].as_str());
    let id = named.and_then(|name| encoder.id_of(name)).or(encoder.padding()).or(encoder.special_ids().pad);
    Ok(id.and_then(|id| i32::try_from(id).ok()).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_found_wherever_it_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
        let of = |padding: &str, vocabulary: &str, config: Option<&str>| {
            let added = r#"{"id": 9, "content": "<p>", "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true}"#;
            let model = format!(r#"{{"type": "WordLevel", "unk_token": "a", "vocab": {vocabulary}}}"#);
            let file =
                format!(r#"{{"version": "1.0", "padding": {padding}, "added_tokens": [{added}], "model": {model}}}"#);
            write("tokenizer.json", &file);
            match config {
                Some(config) => write("tokenizer_config.json", config),
                None => fs_err::remove_file(folder.path().join("tokenizer_config.json")).unwrap_or_default(),
            }
            let paths = [folder.path().to_owned(), folder.path().join("tokenizer.json")];
            let ids = paths.map(|path| pad_id(&TextEncoder::open(&path).unwrap()));
            let [Ok(one), Ok(other)] = ids else { return None };
            assert_eq!(one, other);
            Some(one)
        };
        let words = r#"{"a": 0, "[PAD]": 3, "<p>": 9}"#;
        let pads = r#"{"strategy": "BatchLongest", "direction": "Right", "pad_to_multiple_of": null, "pad_id": 5,
            "pad_type_id": 0, "pad_token": "x"}"#;
        assert_eq!(of("null", words, None), Some(3));
        assert_eq!(of("null", words, Some(r#"{"pad_token": "<p>"}"#)), Some(9));
        assert_eq!(of("null", words, Some(r#"{"pad_token": {"content": "a"}}"#)), Some(0));
        assert_eq!(of("null", words, Some(r#"{"pad_token": null}"#)), Some(3));
        assert_eq!(of(pads, words, None), Some(5));
        assert_eq!(of("null", r#"{"a": 0, "<pad>": 1}"#, None), Some(1));
        assert_eq!(of("null", r#"{"a": 0}"#, None), Some(0));
        assert_eq!(of("null", words, Some("{")), None);
    }
}
