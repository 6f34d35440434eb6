//! How much is masked, and how often anew.

use serde::Serialize;

use crate::{Error, Result};

/// How many decoder masks a text has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum BaseMasks {
    /// This many, or one a token where the text is shorter; rows draw from them with replacement.
    Count(u32),
    /// One a row, as in the paper.
    Fresh,
}

impl BaseMasks {
    /// Masks of a text of `tokens` tokens.
    pub fn of(self, tokens: usize) -> usize {
        match self {
            Self::Count(count) => tokens.min(count as usize),
            Self::Fresh => tokens,
        }
    }
}

/// What a probability is a share of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum MaskCount {
    /// All tokens, special ones included, as in the published code: short texts are masked more.
    Tokens,
    /// The tokens that may be masked.
    Maskable,
}

impl MaskCount {
    /// The count of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "tokens" => Some(Self::Tokens),
            "maskable" => Some(Self::Maskable),
            _ => None,
        }
    }

    /// Tokens to mask: at least one, else the share rounded, halves to even as Python rounds.
    pub(super) fn target(self, probability: f64, tokens: usize, maskable: usize) -> usize {
        let of = match self {
            Self::Tokens => tokens,
            Self::Maskable => maskable,
        };
        ((of as f64 * probability).round_ties_even() as usize).max(1)
    }
}

/// Options of the masks. No defaults here: Python has them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MaskOptions {
    /// Decides every draw.
    pub seed: u64,
    /// Share of the tokens that the encoder does not see.
    pub encoder_mlm_probability: f64,
    /// Share of the tokens that a decoder row does not see.
    pub decoder_mlm_probability: f64,
    /// Decoder masks a text.
    pub base_masks: BaseMasks,
    /// Whether special tokens behind the first are visible to all decoder rows (as in the published
    /// code), or drawn like a word (as in the paper).
    pub sep_visible: bool,
    /// What the probabilities are shares of.
    pub mask_count: MaskCount,
}

impl MaskOptions {
    /// Refuses what cannot work.
    ///
    /// # Errors
    /// `Config` for a probability that is none, or no mask at all.
    pub fn check(&self) -> Result<()> {
        for (key, probability) in [
            ("encoder_mlm_probability", self.encoder_mlm_probability),
            ("decoder_mlm_probability", self.decoder_mlm_probability),
        ] {
            if !(probability > 0.0 && probability < 1.0) {
                let message = format!("expected a share above 0 and below 1, found {probability}");
                return Err(Error::config(format!("text.{key}"), message));
            }
        }
        if self.base_masks == BaseMasks::Count(0) {
            return Err(Error::config("text.base_masks", "expected at least 1 mask or \"fresh\", found 0"));
        }
        Ok(())
    }
}
