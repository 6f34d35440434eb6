//! One text's tokens → its entry in the arrays.

use std::sync::Arc;

use super::arrays::TextArrays;
use super::options::{BaseMasks, MaskOptions};
use super::words::{Word, draw, words};
use crate::batch::permute::{Stream, Use, seed_of};
use crate::tokenize::{SPECIAL, TextEncoder};
use crate::{Error, Result};

/// Names under which tokenizers keep their mask token.
const MASK_TOKENS: [&str; 2] = ["[MASK]", "<mask>"];

/// Longest text in tokens: positions and choices are 16 bits wide.
pub(crate) const MAX_TOKENS: usize = 1 << 16;

/// Of ten masked tokens, this many become the mask token, one another, one stays.
const BECOME_MASK: u64 = 8;

/// Tokenises and masks; shared by all threads.
#[derive(Debug)]
pub struct Masker {
    encoder: Arc<TextEncoder>,
    options: MaskOptions,
    max_len: usize,
    mask_id: i32,
    /// Every id that is not special: what a random token is drawn from.
    ordinary: Vec<i32>,
}

impl Masker {
    /// A masker of texts of at most `max_len` tokens.
    ///
    /// # Errors
    /// `Config` for options that cannot work; `Tokenizer` for one without a mask token, or that puts
    /// no special token before a text: the decoder gets the text's embedding in that place.
    pub fn new(encoder: Arc<TextEncoder>, options: MaskOptions, max_len: usize) -> Result<Self> {
        options.check()?;
        let fewest = encoder.special_tokens() + 1;
        if !(fewest..=MAX_TOKENS).contains(&max_len) {
            let message = format!(
                "expected from {fewest} (the {} special tokens and one more) to {MAX_TOKENS} tokens, found {max_len}",
                encoder.special_tokens()
            );
            return Err(Error::config("text.max_seq_length", message));
        }
        let refuse = |message: &str| Error::Tokenizer { path: encoder.path().to_owned(), message: message.to_owned() };
        let mask_id = MASK_TOKENS.iter().find_map(|token| encoder.id_of(token)).map(|id| id as i32);
        let mask_id = mask_id.ok_or_else(|| {
            refuse("expected a mask token ([MASK] or <mask>), found none; masked texts need the tokenizer of a masked-language model")
        })?;
        let (mut ids, mut flags) = (Vec::new(), Vec::new());
        encoder.encode_words_into("a", max_len, &mut ids, &mut flags)?;
        if flags.first().is_none_or(|flag| flag & SPECIAL == 0) {
            return Err(refuse(
                "expected a special token (as [CLS]) before every text, found none; RetroMAE takes its place for the \
                 text's embedding",
            ));
        }
        let ordinary =
            (0..encoder.vocab_size() as u32).filter(|id| !encoder.is_special(*id)).map(|id| id as i32).collect();
        Ok(Self { encoder, options, max_len, mask_id, ordinary })
    }

    /// The tokenizer.
    pub fn encoder(&self) -> &TextEncoder {
        &self.encoder
    }

    /// Appends a text of row `row` as block `block` of an epoch. Answers whether it had to be cut.
    pub fn text(&self, text: &str, (row, block, epoch): (u64, u64, u64), out: &mut TextArrays) -> Result<bool> {
        let start = out.input_ids.len();
        let cut = self.encoder.encode_words_into(text, self.max_len, &mut out.input_ids, &mut out.flags)?;
        out.block_ids.push(block);
        out.row_ids.push(row);
        out.offsets.push(out.input_ids.len() as i64);
        let stream = |purpose| Stream::new(seed_of(purpose, &[self.options.seed, epoch, block]));
        self.corrupt(start, [Use::EncoderMask, Use::Corruption].map(stream), out);
        self.cover(start, [Use::DecoderMasks, Use::RowChoice].map(stream), out);
        Ok(cut)
    }

    fn target(&self, probability: f64, tokens: usize, words: &[Word]) -> usize {
        let maskable = words.iter().map(|word| usize::from(word.tokens)).sum();
        self.options.mask_count.target(probability, tokens, maskable)
    }

    /// The encoder's side of the text that begins at token `start`.
    fn corrupt(&self, start: usize, [mut masks, mut noise]: [Stream; 2], out: &mut TextArrays) {
        let ids = &out.input_ids[start..];
        let mut words = words(&out.flags[start..], false);
        let target = self.target(self.options.encoder_mlm_probability, ids.len(), &words);
        let first = out.mask_positions.len();
        draw(&mut words, target, &mut masks, |word| {
            out.mask_positions.extend(word.positions().map(|at| (start + at) as i64));
        });
        out.mask_positions[first..].sort_unstable();
        out.corrupted_ids.extend_from_slice(ids);
        for &at in &out.mask_positions[first..] {
            let id = &mut out.corrupted_ids[at as usize];
            out.labels.push(*id);
            match noise.below(10) {
                lot if lot < BECOME_MASK => *id = self.mask_id,
                BECOME_MASK => *id = self.ordinary[noise.below(self.ordinary.len() as u64) as usize],
                _ => {}
            }
        }
        out.mask_offsets.push(out.mask_positions.len() as i64);
    }

    /// The decoder's side of the text that begins at token `start`.
    fn cover(&self, start: usize, [mut masks, mut choice]: [Stream; 2], out: &mut TextArrays) {
        let tokens = out.input_ids.len() - start;
        let mut words = words(&out.flags[start..], !self.options.sep_visible);
        let target = self.target(self.options.decoder_mlm_probability, tokens, &words);
        let count = self.options.base_masks.of(tokens);
        let stride = tokens.div_ceil(8);
        // A word of padding at the end, so that every run of tokens lies in two.
        let mut open: Vec<u64> = vec![0; tokens.div_ceil(64) + 1];
        for (at, bits) in open.iter_mut().enumerate().take_while(|(at, _)| at * 64 < tokens) {
            *bits = u64::MAX >> 64_usize.saturating_sub(tokens - at * 64);
        }
        let mut bits = open.clone();
        out.base_bits.reserve(count * stride);
        for _ in 0..count {
            bits.copy_from_slice(&open);
            // Without a loop over the tokens: its end would be guessed wrong at every other word.
            draw(&mut words, target, &mut masks, |word| {
                let run = word.run();
                let at = usize::from(word.start) / 64;
                bits[at] &= !(run as u64);
                bits[at + 1] &= !((run >> 64) as u64);
            });
            out.base_bits.extend(bits.iter().flat_map(|bits| bits.to_le_bytes()).take(stride));
        }
        out.base_offsets.push(out.base_bits.len() as i64);
        match self.options.base_masks {
            BaseMasks::Fresh => out.choices.extend((0..tokens).map(|row| row as u16)),
            BaseMasks::Count(_) => {
                out.choices.extend(std::iter::repeat_with(|| choice.below(count as u64) as u16).take(tokens));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::MaskCount;
    use super::*;

    /// Thirty words, a piece that goes on, and the tokens of BERT.
    fn encoder(folder: &std::path::Path) -> Arc<TextEncoder> {
        let mut vocab = serde_json::Map::new();
        for (id, token) in ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "##x"].into_iter().enumerate() {
            vocab.insert(token.to_owned(), id.into());
        }
        for number in 0..30 {
            vocab.insert(format!("w{number}"), vocab.len().into());
        }
        let special = |id: u32, content: &str| {
            serde_json::json!({"id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true})
        };
        let added: Vec<_> =
            (0..).zip(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]).map(|(id, token)| special(id, token)).collect();
        let file = serde_json::json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": null,
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]},
            "model": {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocab},
        });
        fs_err::write(folder.join("tokenizer.json"), file.to_string()).unwrap();
        Arc::new(TextEncoder::open(folder).unwrap())
    }

    fn options() -> MaskOptions {
        MaskOptions {
            seed: 7,
            encoder_mlm_probability: 0.3,
            decoder_mlm_probability: 0.5,
            base_masks: BaseMasks::Count(128),
            sep_visible: true,
            mask_count: MaskCount::Tokens,
        }
    }

    fn mask(options: MaskOptions, texts: &[&str]) -> TextArrays {
        let folder = tempfile::tempdir().unwrap();
        let masker = Masker::new(encoder(folder.path()), options, 64).unwrap();
        let mut out = TextArrays::default();
        for (block, text) in (0..).zip(texts) {
            masker.text(text, (block + 100, block, 0), &mut out).unwrap();
        }
        out
    }

    fn sees(out: &TextArrays, text: usize, row: usize, column: usize) -> bool {
        let tokens = (out.offsets[text + 1] - out.offsets[text]) as usize;
        let mask = usize::from(out.choices[out.offsets[text] as usize + row]);
        let bits = &out.base_bits[out.base_offsets[text] as usize + mask * tokens.div_ceil(8)..];
        bits[column / 8] >> (column % 8) & 1 == 1 && row != column
    }

    const TEXT: &str = "w1 w2xx w3 w4x w5 w6 w7 w8 w9 w10 w11 w12 w13 w14xxx w15 w16";

    #[test]
    fn the_first_column_is_seen_by_all_other_rows_and_the_last_as_asked() {
        for base_masks in [BaseMasks::Count(128), BaseMasks::Count(3), BaseMasks::Fresh] {
            for sep_visible in [true, false] {
                let out = mask(MaskOptions { base_masks, sep_visible, ..options() }, &[TEXT, "w1"]);
                for text in 0..2 {
                    let tokens = (out.offsets[text + 1] - out.offsets[text]) as usize;
                    let count = (out.base_offsets[text + 1] - out.base_offsets[text]) as usize / tokens.div_ceil(8);
                    assert_eq!(count, base_masks.of(tokens));
                    assert!((1..tokens).all(|row| sees(&out, text, row, 0)) && !sees(&out, text, 0, 0));
                    assert!((0..tokens).all(|row| !sees(&out, text, row, row)));
                    let last = (0..tokens - 1).filter(|row| sees(&out, text, *row, tokens - 1)).count();
                    assert!(if sep_visible { last == tokens - 1 } else { last < tokens - 1 }, "{last} of {tokens}");
                }
            }
        }
    }

    #[test]
    fn words_go_together_and_special_tokens_stay() {
        let out = mask(options(), &[TEXT, "w1", "w2 [SEP] w3"]);
        for text in 0..3 {
            let range = out.offsets[text] as usize..out.offsets[text + 1] as usize;
            let masked = |at: usize| out.mask_positions.contains(&(at as i64));
            for at in range.start + 1..range.end {
                assert!(out.flags[at] != 0 || masked(at) == masked(at - 1), "a piece without its word");
                assert!(out.flags[at] & SPECIAL == 0 || !masked(at));
            }
            assert!(out.mask_offsets[text + 1] > out.mask_offsets[text], "every text has a label");
        }
        for (&at, &label) in out.mask_positions.iter().zip(&out.labels) {
            assert_eq!(out.input_ids[at as usize], label);
            assert!(out.corrupted_ids[at as usize] >= 4, "a special token as noise");
        }
        let kept = (0..).zip(&out.input_ids).filter(|(at, _)| !out.mask_positions.contains(at));
        assert!(kept.into_iter().all(|(at, id)| out.corrupted_ids[at as usize] == *id));
    }

    #[test]
    fn masks_depend_on_seed_epoch_and_block_alone() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = encoder(folder.path());
        let one = |seed, block, epoch, before: &[&str]| {
            let masker = Masker::new(Arc::clone(&encoder), MaskOptions { seed, ..options() }, 64).unwrap();
            let mut out = TextArrays::default();
            for text in before {
                masker.text(text, (0, 999, 0), &mut out).unwrap();
            }
            let (token, bits) = (out.input_ids.len(), out.base_bits.len());
            masker.text(TEXT, (0, block, epoch), &mut out).unwrap();
            (out.corrupted_ids[token..].to_vec(), out.base_bits[bits..].to_vec(), out.choices[token..].to_vec())
        };
        let here = one(7, 5, 0, &[]);
        assert_eq!(here, one(7, 5, 0, &["w1 w2", "w3"]));
        for other in [one(8, 5, 0, &[]), one(7, 6, 0, &[]), one(7, 5, 1, &[])] {
            assert!(here.0 != other.0 && here.1 != other.1 && here.2 != other.2);
        }
    }

    #[test]
    fn what_cannot_work_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let encoder = encoder(folder.path());
        for (bad, key) in [
            (MaskOptions { encoder_mlm_probability: 1.0, ..options() }, "encoder_mlm_probability"),
            (MaskOptions { decoder_mlm_probability: f64::NAN, ..options() }, "decoder_mlm_probability"),
            (MaskOptions { base_masks: BaseMasks::Count(0), ..options() }, "base_masks"),
        ] {
            let error = Masker::new(Arc::clone(&encoder), bad, 64).unwrap_err().to_string();
            assert!(error.contains(key), "{error}");
        }
        assert!(Masker::new(Arc::clone(&encoder), options(), 2).is_err());
        assert!(Masker::new(encoder, options(), MAX_TOKENS + 1).is_err());
    }
}
