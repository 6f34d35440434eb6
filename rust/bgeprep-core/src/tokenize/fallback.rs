//! Every other tokenizer: the `tokenizers` crate, one text at a time on the caller's thread. Its own
//! thread pool is never touched, so a process that forks (PyTorch's data workers do) cannot inherit a
//! pool without threads.

use tokenizers::{EncodeInput, Encoding, PostProcessor, Result, Tokenizer, TruncationDirection};

use super::sink::{SPECIAL, WORD_START};

/// A tokenizer of any kind.
#[derive(Debug)]
pub(super) struct Fallback {
    tokenizer: Tokenizer,
    special_tokens: usize,
    padding: Option<u32>,
}

impl Fallback {
    /// Reads a `tokenizer.json`. Padding and truncation that it may carry are put aside.
    pub(super) fn read(bytes: &[u8]) -> Result<Self> {
        let mut tokenizer = Tokenizer::from_bytes(bytes)?;
        let padding = tokenizer.get_padding().map(|padding| padding.pad_id);
        tokenizer.with_padding(None);
        tokenizer.with_truncation(None)?;
        let special_tokens = tokenizer.get_post_processor().map_or(0, |processor| processor.added_tokens(false));
        Ok(Self { tokenizer, special_tokens, padding })
    }

    /// The id that the file pads with, where it pads.
    pub(super) fn padding(&self) -> Option<u32> {
        self.padding
    }

    /// Tokens that stand around every text.
    pub(super) fn special_tokens(&self) -> usize {
        self.special_tokens
    }

    /// The ids that stand around every text, those before it first.
    pub(super) fn around(&self) -> Result<Vec<u32>> {
        Ok(self.tokenizer.encode_fast("", true)?.get_ids().to_vec())
    }

    /// Ids that the file calls special, sorted.
    pub(super) fn special(&self) -> Vec<u32> {
        let added = self.tokenizer.get_added_vocabulary().get_added_tokens_decoder();
        let mut special: Vec<u32> = added.iter().filter(|(_, token)| token.special).map(|(id, _)| *id).collect();
        special.sort_unstable();
        special
    }

    /// The id of a token as it stands in the file.
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.tokenizer.token_to_id(token)
    }

    /// One more than the largest id.
    pub(super) fn vocab_size(&self) -> usize {
        self.tokenizer.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1)
    }

    /// Tokens of a text without those around it.
    pub(super) fn count(&self, text: &str) -> Result<usize> {
        Ok(self.tokenizer.encode_fast(EncodeInput::from(text), false)?.len())
    }

    /// Appends ids; see [`super::TextEncoder::encode_into`].
    pub(super) fn encode(&self, text: &str, max_len: usize, ids: &mut Vec<i32>) -> Result<bool> {
        let (encoding, cut) = self.truncated(self.tokenizer.encode_fast(EncodeInput::from(text), false)?, max_len)?;
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        Ok(cut)
    }

    /// Appends ids and flags; see [`super::TextEncoder::encode_words_into`].
    pub(super) fn encode_words(
        &self,
        text: &str,
        max_len: usize,
        special: &[u32],
        (ids, flags): (&mut Vec<i32>, &mut Vec<u8>),
    ) -> Result<bool> {
        let (encoding, cut) = self.truncated(self.tokenizer.encode(EncodeInput::from(text), false)?, max_len)?;
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        let mut last = None;
        for ((id, around), word) in
            encoding.get_ids().iter().zip(encoding.get_special_tokens_mask()).zip(encoding.get_word_ids())
        {
            let special = *around == 1 || special.binary_search(id).is_ok();
            let begins = word.is_some() && *word != last;
            last = *word;
            flags.push(if begins { WORD_START } else { 0 } | if special { SPECIAL } else { 0 });
        }
        Ok(cut)
    }

    /// Appends ids and places; see [`super::TextEncoder::encode_offsets_into`].
    pub(super) fn encode_offsets(&self, text: &str, ids: &mut Vec<i32>, spans: &mut Vec<(u32, u32)>) -> Result<()> {
        let encoding = self.tokenizer.encode(EncodeInput::from(text), false)?;
        ids.extend(encoding.get_ids().iter().map(|id| *id as i32));
        spans.extend(encoding.get_offsets().iter().map(|(start, end)| (*start as u32, *end as u32)));
        Ok(())
    }

    fn truncated(&self, mut encoding: Encoding, max_len: usize) -> Result<(Encoding, bool)> {
        let room = max_len.saturating_sub(self.special_tokens);
        let cut = encoding.len() > room;
        if cut {
            encoding.truncate(room, 0, TruncationDirection::Right);
            // The cut-off part would get special tokens of its own.
            encoding.take_overflowing();
        }
        Ok((self.tokenizer.post_process(encoding, None, true)?, cut))
    }
}
