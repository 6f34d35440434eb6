//! Text → token ids.
//!
//! ```text
//! tokenizer.json ─ config ─► understood: wordpiece (characters → words → pieces, one pass)
//!                       └──► anything else: fallback (the `tokenizers` crate)
//! ```
//!
//! Both give the same ids and places for the same file; the crate is also what the tests hold
//! [`wordpiece`] against.

mod batch;
mod characters;
mod config;
mod fallback;
mod normalize;
mod sink;
#[cfg(test)]
mod tests;
mod vocabulary;
mod wordpiece;

use std::path::{Path, PathBuf};

pub use batch::{Encoded, EncodedSpans, EncodedWords};
pub use sink::{SPECIAL, WORD_START};

use self::fallback::Fallback;
use self::sink::{Count, Ids, Spans, Words};
use self::wordpiece::WordPiece;
use crate::{Error, Result};

/// The file that holds a tokenizer in a model folder.
const FILE_NAME: &str = "tokenizer.json";

/// A tokenizer that truncates to a length given per call.
#[derive(Debug)]
pub struct TextEncoder {
    path: PathBuf,
    engine: Engine,
    why_not: Option<String>,
    special_tokens: usize,
    /// Ids that the file calls special and those around every text, sorted.
    special: Vec<u32>,
    special_ids: SpecialIds,
    padding: Option<u32>,
    vocab_size: usize,
}

#[derive(Debug)]
enum Engine {
    WordPiece(Box<WordPiece>),
    Fallback(Box<Fallback>),
}

/// Tokens with a role; `None` where the tokenizer has none for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SpecialIds {
    /// Put before every text, as `[CLS]`.
    pub cls: Option<u32>,
    /// Put behind every text, as `[SEP]`.
    pub sep: Option<u32>,
    /// `[PAD]` or `<pad>`.
    pub pad: Option<u32>,
    /// `[MASK]` or `<mask>`.
    pub mask: Option<u32>,
    /// For words that have no tokens: `[UNK]` or `<unk>`.
    pub unk: Option<u32>,
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
        // The crate reads every file: what is a tokenizer at all is for it to say.
        let read = |error: tokenizers::Error| refuse(format!("expected a fast tokenizer: {error}"));
        let fallback = Fallback::read(&bytes).map_err(read)?;
        let (around, vocab_size) = (fallback.around().map_err(read)?, fallback.vocab_size());
        let named = |names: [&str; 2]| names.iter().find_map(|name| fallback.id_of(name));
        let mut special_ids = SpecialIds {
            cls: (around.len() > 1).then(|| around[0]),
            sep: around.last().copied(),
            pad: named(["[PAD]", "<pad>"]),
            mask: named(["[MASK]", "<mask>"]),
            unk: named(["[UNK]", "<unk>"]),
        };
        let (special_tokens, padding) = (fallback.special_tokens(), fallback.padding());
        let mut special = fallback.special();
        special.extend(around);
        special.sort_unstable();
        special.dedup();
        let recipe = config::understand(&bytes, |token| fallback.id_of(token));
        let (engine, why_not) = match recipe {
            Ok(recipe) => (Engine::WordPiece(Box::new(WordPiece::new(recipe))), None),
            Err(reason) => (Engine::Fallback(Box::new(fallback)), Some(reason)),
        };
        if let Engine::WordPiece(wordpiece) = &engine {
            special_ids.unk = Some(wordpiece.unknown());
        }
        Ok(Self { path, engine, why_not, special_tokens, special, special_ids, padding, vocab_size })
    }

    /// The file in use.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// What does the work: `wordpiece`, which is fast, or `tokenizers`, the crate.
    pub fn engine(&self) -> &'static str {
        match self.engine {
            Engine::WordPiece(_) => "wordpiece",
            Engine::Fallback(_) => "tokenizers",
        }
    }

    /// The first thing in the file that keeps `wordpiece` from doing the work.
    pub fn why_not(&self) -> Option<&str> {
        self.why_not.as_deref()
    }

    /// Tokens that stand around every text, as `[CLS]` and `[SEP]`.
    pub fn special_tokens(&self) -> usize {
        self.special_tokens
    }

    /// Tokens with a role.
    pub fn special_ids(&self) -> SpecialIds {
        self.special_ids
    }

    /// The id that the file itself pads with, where it says so.
    pub fn padding(&self) -> Option<u32> {
        self.padding
    }

    /// Whether the file calls an id special, or it stands around every text.
    pub fn is_special(&self, id: u32) -> bool {
        self.special.binary_search(&id).is_ok()
    }

    /// The id of a token as it stands in the file, as `[MASK]` or `##ing`.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        match &self.engine {
            Engine::WordPiece(wordpiece) => wordpiece.id_of(token),
            Engine::Fallback(fallback) => fallback.id_of(token),
        }
    }

    /// Rows of a table that every id is to index: one more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Tokens of a text without the special ones.
    pub fn count(&self, text: &str) -> Result<usize> {
        match &self.engine {
            Engine::WordPiece(wordpiece) => {
                let mut count = Count::default();
                wordpiece.scan(text, &mut count);
                Ok(count.0)
            }
            Engine::Fallback(fallback) => fallback.count(text).map_err(|error| self.failed(&error)),
        }
    }

    /// Appends the ids of a text with its special tokens. What is beyond `max_len` tokens is cut
    /// off at the end of the text; the special tokens stay. Answers whether anything was cut.
    pub fn encode_into(&self, text: &str, max_len: usize, ids: &mut Vec<i32>) -> Result<bool> {
        match &self.engine {
            Engine::WordPiece(wordpiece) => {
                ids.extend(wordpiece.before.iter().map(|id| *id as i32));
                let most = ids.len().saturating_add(max_len.saturating_sub(self.special_tokens));
                let mut sink = Ids { out: ids, most, cut: false };
                wordpiece.scan(text, &mut sink);
                let cut = sink.cut;
                ids.extend(wordpiece.behind.iter().map(|id| *id as i32));
                Ok(cut)
            }
            Engine::Fallback(fallback) => fallback.encode(text, max_len, ids).map_err(|error| self.failed(&error)),
        }
    }

    /// The same, and one flag a token: [`WORD_START`] where it begins a word of the text (what
    /// follows without it belongs to that word, unless it is special), and [`SPECIAL`].
    pub fn encode_words_into(
        &self,
        text: &str,
        max_len: usize,
        ids: &mut Vec<i32>,
        flags: &mut Vec<u8>,
    ) -> Result<bool> {
        match &self.engine {
            Engine::WordPiece(wordpiece) => {
                let around = |some: &[u32], ids: &mut Vec<i32>, flags: &mut Vec<u8>| {
                    ids.extend(some.iter().map(|id| *id as i32));
                    flags.extend(std::iter::repeat_n(SPECIAL, some.len()));
                };
                around(&wordpiece.before, ids, flags);
                let most = ids.len().saturating_add(max_len.saturating_sub(self.special_tokens));
                let (shift, special) = (ids.len() as isize - flags.len() as isize, &self.special);
                let mut sink = Words { ids: Ids { out: ids, most, cut: false }, flags, special, shift };
                wordpiece.scan(text, &mut sink);
                let cut = sink.ids.cut;
                around(&wordpiece.behind, ids, flags);
                Ok(cut)
            }
            Engine::Fallback(fallback) => {
                fallback.encode_words(text, max_len, &self.special, (ids, flags)).map_err(|error| self.failed(&error))
            }
        }
    }

    /// Appends all ids of a text, without special tokens around it, and the bytes `[start, end)` of
    /// the text that each stands for.
    pub fn encode_offsets_into(&self, text: &str, ids: &mut Vec<i32>, offsets: &mut Vec<(u32, u32)>) -> Result<()> {
        if u32::try_from(text.len()).is_err() {
            let message = format!("expected a text of less than 4 GiB, found {} bytes", text.len());
            return Err(Error::Tokenizer { path: self.path.clone(), message });
        }
        match &self.engine {
            Engine::WordPiece(wordpiece) => {
                let shift = ids.len() as isize - offsets.len() as isize;
                wordpiece.scan(text, &mut Spans { out: ids, places: offsets, shift });
                Ok(())
            }
            Engine::Fallback(fallback) => {
                fallback.encode_offsets(text, ids, offsets).map_err(|error| self.failed(&error))
            }
        }
    }

    fn failed(&self, error: &tokenizers::Error) -> Error {
        Error::Tokenizer { path: self.path.clone(), message: format!("a text cannot be tokenised: {error}") }
    }
}
