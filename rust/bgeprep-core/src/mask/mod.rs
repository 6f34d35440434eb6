//! Tokens of a text → what RetroMAE trains on: a corrupted copy for the encoder, visibility for the decoder.
//!
//! ```text
//!  ids, flags ─ words ─┬─ encoder mask ─► corrupted ids, masked positions and their labels
//!                      └─ M decoder masks ─► base bits [M, L] ─ one chosen a row ─► choices [L]
//! ```
//!
//! Row i of the decoder sees position j if bit j of base mask `choices[i]` is set and j is not i. The
//! matrix [L, L] is never made here: whoever trains expands it where the attention is computed.
//! Position 0 is set in every base mask, so every row but row 0 sees it, by construction.
//!
//! Every draw is a function of (seed, epoch, block id), on streams of their own ([`crate::batch`]):
//! ranks, threads and what stands beside a text in its batch have no say in them.

mod arrays;
mod masker;
mod options;
mod words;

pub use arrays::TextArrays;
pub(crate) use masker::MAX_TOKENS;
pub use masker::Masker;
pub use options::{BaseMasks, MaskCount, MaskOptions};
