//! One document → the byte ranges of its blocks.

use super::sentence::{borders, is_word_border};
use crate::Result;
use crate::tokenize::TextEncoder;

/// A block of a document: bytes `start..end`, and its tokens without special ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cut {
    pub(super) start: u32,
    pub(super) end: u32,
    pub(super) tokens: u32,
}

/// Cuts documents; buffers are reused from one to the next.
pub(super) struct Cutter<'a> {
    encoder: &'a TextEncoder,
    /// Tokens of a block without special ones, at most.
    room: usize,
    ids: Vec<i32>,
    offsets: Vec<(u32, u32)>,
    /// Sentences longer than a block, cut between words.
    pub(super) split_sentences: u64,
}

impl<'a> Cutter<'a> {
    pub(super) fn new(encoder: &'a TextEncoder, room: usize) -> Self {
        Self { encoder, room, ids: Vec::new(), offsets: Vec::new(), split_sentences: 0 }
    }

    /// Appends the blocks of a text, which tile it; none if it has no token.
    ///
    /// Whole sentences are packed as long as they fit. A sentence that alone does not fit is cut at
    /// the last word border that does, and its rest goes on with the sentences behind it.
    pub(super) fn cut(&mut self, text: &str, out: &mut Vec<Cut>) -> Result<()> {
        self.ids.clear();
        self.offsets.clear();
        self.encoder.encode_offsets_into(text, &mut self.ids, &mut self.offsets)?;
        let count = self.ids.len();
        if count == 0 {
            return Ok(());
        }
        if count <= self.room {
            out.push(Cut { start: 0, end: text.len() as u32, tokens: count as u32 });
            return Ok(());
        }
        let starts = self.starts();
        let sentences = borders(text);
        let (mut at, mut from) = (0, 0);
        while at < count {
            let mut limit = (at + self.room).min(count);
            let cut = loop {
                let (next, end, whole) = place(text, &starts, &sentences, (at, from), limit);
                // Alone, a piece may have other tokens than within its text.
                let tokens = self.encoder.count(&text[from as usize..end as usize])?;
                if tokens <= self.room || next <= at + 1 || limit <= at + 1 {
                    break (next, end, whole, tokens.min(self.room));
                }
                limit = (next - (tokens - self.room).min(next - at - 1)).min(limit - 1);
            };
            let (next, end, whole, tokens) = cut;
            self.split_sentences += u64::from(!whole);
            if tokens > 0 {
                out.push(Cut { start: from, end, tokens: tokens as u32 });
            }
            (at, from) = (next, end);
        }
        Ok(())
    }

    /// Where tokens begin, never falling.
    fn starts(&self) -> Vec<u32> {
        let mut highest = 0;
        let rising = self.offsets.iter().map(|&(start, _)| {
            highest = highest.max(start);
            highest
        });
        rising.collect()
    }
}

/// The best place to end a block that begins at token `at` (byte `from`) and must end at token
/// `limit` or before: (first token behind, byte, whether that is the end of a sentence). A text that
/// leaves no choice, such as one character of more tokens than a block has, ends it later.
fn place(text: &str, starts: &[u32], sentences: &[u32], (at, from): (usize, u32), limit: usize) -> (usize, u32, bool) {
    if limit == starts.len() {
        return (limit, text.len() as u32, true);
    }
    // The last sentence that begins no later than the token at the limit.
    let known = sentences.partition_point(|border| *border <= starts[limit]);
    if let Some(&border) = sentences[..known].last().filter(|border| **border > from) {
        let next = starts.partition_point(|start| *start < border);
        if next > at {
            return (next, border, true);
        }
    }
    let may_end = |token: &usize| starts[*token] > starts[*token - 1] && text.is_char_boundary(starts[*token] as usize);
    let between_words = |token: &usize| may_end(token) && is_word_border(text, starts[*token] as usize);
    let before = || (at + 1..=limit).rev();
    let found = before().find(between_words).or_else(|| before().find(may_end));
    match found.or_else(|| (limit + 1..starts.len()).find(may_end)) {
        Some(token) => (token, starts[token], false),
        None => (starts.len(), text.len() as u32, true),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Letters are tokens, each alone; a word is a run of them.
    fn encoder() -> (tempfile::TempDir, TextEncoder) {
        let folder = tempfile::tempdir().unwrap();
        let mut vocab = serde_json::Map::new();
        for token in ["[UNK]", "[CLS]", "[SEP]", "[MASK]"].into_iter().map(str::to_owned) {
            vocab.insert(token, vocab.len().into());
        }
        for letter in ('a'..='z').chain('A'..='Z') {
            vocab.insert(letter.to_string(), vocab.len().into());
            vocab.insert(format!("##{letter}"), vocab.len().into());
        }
        let file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": [], "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null, "post_processor": null,
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab},
        });
        fs_err::write(folder.path().join("tokenizer.json"), file.to_string()).unwrap();
        let encoder = TextEncoder::open(folder.path()).unwrap();
        (folder, encoder)
    }

    fn pieces<'t>(encoder: &TextEncoder, text: &'t str, room: usize) -> (Vec<&'t str>, u64) {
        let (mut cutter, mut cuts) = (Cutter::new(encoder, room), Vec::new());
        cutter.cut(text, &mut cuts).unwrap();
        for cut in &cuts {
            let piece = &text[cut.start as usize..cut.end as usize];
            assert_eq!(encoder.count(piece).unwrap(), cut.tokens as usize, "{piece}");
        }
        (cuts.iter().map(|cut| &text[cut.start as usize..cut.end as usize]).collect(), cutter.split_sentences)
    }

    #[test]
    fn sentences_are_packed_and_long_ones_cut_between_words() {
        let (_folder, encoder) = encoder();
        assert_eq!(pieces(&encoder, "Ab c. De f. Gh i.", 8), (vec!["Ab c. De f. ", "Gh i."], 0));
        assert_eq!(pieces(&encoder, "Ab c. De f. Gh i.", 12), (vec!["Ab c. De f. Gh i."], 0));
        // Six tokens are in `abc def`; what is left of the sentence goes on with the next one.
        assert_eq!(pieces(&encoder, "abc def ghi. Jk l.", 7), (vec!["abc def ", "ghi. ", "Jk l."], 1));
        assert_eq!(pieces(&encoder, "abcdefghij k", 4), (vec!["abcd", "efgh", "ij k"], 2));
        assert_eq!(pieces(&encoder, " \n ", 4), (vec![], 0));
    }

    proptest! {
        #[test]
        fn pieces_tile_the_text_and_fit(text in "([a-f]{1,9}[ .!?中。\n]{1,2}){0,40}", room in 1_usize..30) {
            let (_folder, encoder) = encoder();
            let (found, _) = pieces(&encoder, &text, room);
            if !text.trim().is_empty() {
                prop_assert_eq!(found.concat(), text.as_str());
            }
            for piece in found {
                prop_assert!(encoder.count(piece).unwrap() <= room);
            }
        }
    }
}
