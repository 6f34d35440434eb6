//! Text → token ids.
//!
//! The `tokenizers` crate does the work, one text at a time on the caller's thread: its own thread
//! pool is never touched, so a process that forks (PyTorch's data workers do) cannot inherit a pool
//! without threads.

use std::path::{Path, PathBuf};

use tokenizers::{EncodeInput, Encoding, PostProcessor, Tokenizer, TruncationDirection};

use crate::{Error, Result};

/// The file that holds a tokenizer in a model folder.
const FILE_NAME: &str = "tokenizer.json";

/// Flag of a token that begins a word.
pub const WORD_START: u8 = 1;

/// Flag of a token that stands for no text, as `[CLS]`, wherever it comes from.
pub const SPECIAL: u8 = 2;

/// A tokenizer that truncates to a length given per call.
#[derive(Debug)]
pub struct TextEncoder {
    path: PathBuf,
    tokenizer: Tokenizer,
    special_tokens: usize,
}

impl TextEncoder {
    /// Opens a `tokenizer.json`, or the one in a model folder. Padding and truncation that the file
    /// may carry are put aside: lengths are the caller's.
    pub fn open(path: &Path) -> Result<Self> {
        let path = if path.is_dir() { path.join(FILE_NAME) } else { path.to_owned() };
        let refuse = |message: String| Error::Tokenizer { path: path.clone(), message };
        let bytes = fs_err::read(&path).map_err(|error| {
            refuse(format!(
                "expected a fast tokenizer ({FILE_NAME}): {}; a folder without one gets it from \
                 transformers: AutoTokenizer.from_pretrained(folder).save_pretrained(folder)",
                error.kind()
            ))
        })?;
        let mut tokenizer =
            Tokenizer::from_bytes(&bytes).map_err(|error| refuse(format!("expected a fast tokenizer: {error}")))?;
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None).map_err(|error| refuse(error.to_string()))?;
        let special_tokens = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        Ok(Self { path, tokenizer, special_tokens })
    }

    /// The file in use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Tokens that stand around every text, as `[CLS]` and `[SEP]`.
    pub fn special_tokens(&self) -> usize {
        self.special_tokens
    }

    /// Tokens of a text without the special ones.
    pub fn count(&self, text: &str) -> Result<usize> {
        Ok(self.bare(text)?.len())
    }

    /// Appends the ids of a text with its special tokens. What is beyond `max_len` tokens is cut
    /// off at the end of the text; the special tokens stay. Answers whether anything was cut.
    pub fn encode_into(&self, text: &str, max_len: usize, ids: &mut Vec<i32>) -> Result<bool> {
        let mut encoding = self.bare(text)?;
        let room = max_len.saturating_sub(self.special_tokens);
        let cut = encoding.len() > room;
        if cut {
            encoding.truncate(room, 0, TruncationDirection::Right);
            // The cut-off part would get special tokens of its own.
            encoding.take_overflowing();
        }
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(|error| self.failed(&error))?;
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        Ok(cut)
    }

    /// As [`encode_into`](Self::encode_into), with [`WORD_START`] and [`SPECIAL`] flags for each token.
    pub fn encode_words_into(
        &self,
        text: &str,
        max_len: usize,
        ids: &mut Vec<i32>,
        flags: &mut Vec<u8>,
    ) -> Result<bool> {
        let mut encoding =
            self.tokenizer.encode(EncodeInput::from(text), false).map_err(|error| self.failed(&error))?;
        let room = max_len.saturating_sub(self.special_tokens);
        let cut = encoding.len() > room;
        if cut {
            encoding.truncate(room, 0, TruncationDirection::Right);
            encoding.take_overflowing();
        }
        let encoding = self.tokenizer.post_process(encoding, None, true).map_err(|error| self.failed(&error))?;
        let mut before = None;
        let words = encoding.get_word_ids().iter().zip(encoding.get_special_tokens_mask());
        for (id, (word, added)) in encoding.get_ids().iter().zip(words) {
            let id = *id as i32;
            let special = *added == 1 || self.is_special(id);
            let starts = word.is_none() || *word != before;
            before = *word;
            ids.push(id);
            flags.push(if special { SPECIAL } else { u8::from(starts) * WORD_START });
        }
        Ok(cut)
    }

    /// Appends the ids of a text without special tokens, and the bytes of the text that each covers.
    pub fn encode_offsets_into(&self, text: &str, ids: &mut Vec<i32>, offsets: &mut Vec<(u32, u32)>) -> Result<()> {
        let encoding = self.tokenizer.encode(EncodeInput::from(text), false).map_err(|error| self.failed(&error))?;
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        offsets.extend(encoding.get_offsets().iter().map(|&(start, end)| (start as u32, end as u32)));
        Ok(())
    }

    /// The id of a token, if the vocabulary has it.
    pub fn id_of(&self, token: &str) -> Option<i32> {
        self.tokenizer.token_to_id(token).map(|id| id as i32)
    }

    /// Number of ids, those of added tokens included.
    pub fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab_size(true)
    }

    /// Whether an id is that of a special token.
    pub fn is_special(&self, id: i32) -> bool {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        added.get(&(id as u32)).is_some_and(|token| token.special)
    }

    fn bare(&self, text: &str) -> Result<Encoding> {
        self.tokenizer.encode_fast(EncodeInput::from(text), false).map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), message: format!("a text cannot be tokenised: {error}") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Eight words, `[CLS] … [SEP]` around a text, and a truncation to 3 that must not count.
    const WORDS: &str = r#"{
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
        fs_err::write(folder.path().join(FILE_NAME), WORDS).unwrap();
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
    fn words_offsets_and_special_tokens_are_told() {
        let (_folder, encoder) = words();
        let (mut ids, mut flags, mut offsets) = (Vec::new(), Vec::new(), Vec::new());
        assert!(encoder.encode_words_into("a b c d", 4, &mut ids, &mut flags).unwrap());
        assert_eq!((ids, flags), (vec![1, 4, 5, 2], vec![SPECIAL, WORD_START, WORD_START, SPECIAL]));
        let mut ids = Vec::new();
        encoder.encode_offsets_into("a  ü c", &mut ids, &mut offsets).unwrap();
        assert_eq!((ids, offsets), (vec![4, 3, 6], vec![(0, 1), (3, 5), (6, 7)]));
        assert_eq!((encoder.id_of("[SEP]"), encoder.id_of("e"), encoder.vocab_size()), (Some(2), None, 8));
        assert!(!encoder.is_special(4));
    }

    #[test]
    fn files_that_are_no_tokenizer_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let missing = TextEncoder::open(folder.path()).unwrap_err().to_string();
        assert!(missing.contains("tokenizer.json") && missing.contains("save_pretrained"), "{missing}");
        fs_err::write(folder.path().join(FILE_NAME), "{}").unwrap();
        assert!(matches!(TextEncoder::open(folder.path()), Err(Error::Tokenizer { .. })));
    }
}
