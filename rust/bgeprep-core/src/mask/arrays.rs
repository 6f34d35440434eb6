//! Masked texts side by side.

use crate::batch::collate::append_offsets;

/// Some texts in order, one entry of `block_ids` each, T tokens in all. All `*_offsets` begin with 0.
#[derive(Debug, Clone, PartialEq)]
pub struct TextArrays {
    /// Which block a text is; keys its masks.
    pub block_ids: Vec<u64>,
    /// The set's row it comes from.
    pub row_ids: Vec<u64>,
    /// Tokens as they are, text after text.
    pub input_ids: Vec<i32>,
    /// Text `i` owns `offsets[i]..offsets[i + 1]` of all token arrays.
    pub offsets: Vec<i64>,
    /// [`WORD_START`](crate::tokenize::WORD_START) and [`SPECIAL`](crate::tokenize::SPECIAL) of each token.
    pub flags: Vec<u8>,
    /// Tokens as the encoder sees them.
    pub corrupted_ids: Vec<i32>,
    /// Places in the token arrays that the encoder is asked for, rising.
    pub mask_positions: Vec<i64>,
    /// What stood there.
    pub labels: Vec<i32>,
    /// Text `i` owns `mask_offsets[i]..mask_offsets[i + 1]` of positions and labels.
    pub mask_offsets: Vec<i64>,
    /// Base masks, each `ceil(L / 8)` bytes: bit `j % 8` of byte `j / 8` says whether `j` is visible.
    pub base_bits: Vec<u8>,
    /// Text `i` owns `base_bits[base_offsets[i]..base_offsets[i + 1]]`.
    pub base_offsets: Vec<i64>,
    /// Which of its text's base masks the row of each token has.
    pub choices: Vec<u16>,
}

impl Default for TextArrays {
    fn default() -> Self {
        Self {
            block_ids: Vec::new(),
            row_ids: Vec::new(),
            input_ids: Vec::new(),
            offsets: vec![0],
            flags: Vec::new(),
            corrupted_ids: Vec::new(),
            mask_positions: Vec::new(),
            labels: Vec::new(),
            mask_offsets: vec![0],
            base_bits: Vec::new(),
            base_offsets: vec![0],
            choices: Vec::new(),
        }
    }
}

impl TextArrays {
    /// Joins pieces in order; a single piece is handed on as it is.
    pub fn concat(mut pieces: Vec<Self>) -> Self {
        if pieces.len() == 1
            && let Some(only) = pieces.pop()
        {
            return only;
        }
        let mut joined = Self::default();
        joined.base_bits.reserve_exact(pieces.iter().map(|piece| piece.base_bits.len()).sum());
        for piece in pieces {
            let tokens = joined.input_ids.len() as i64;
            joined.block_ids.extend(piece.block_ids);
            joined.row_ids.extend(piece.row_ids);
            joined.input_ids.extend(piece.input_ids);
            append_offsets(&mut joined.offsets, &piece.offsets);
            joined.flags.extend(piece.flags);
            joined.corrupted_ids.extend(piece.corrupted_ids);
            joined.mask_positions.extend(piece.mask_positions.iter().map(|at| tokens + at));
            joined.labels.extend(piece.labels);
            append_offsets(&mut joined.mask_offsets, &piece.mask_offsets);
            joined.base_bits.extend(piece.base_bits);
            append_offsets(&mut joined.base_offsets, &piece.base_offsets);
            joined.choices.extend(piece.choices);
        }
        joined
    }
}
