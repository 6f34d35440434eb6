//! Rows of a rank → flat token ids with offsets, keys and scores.

use std::sync::Arc;

use super::chunks::{Chunks, Layout, TokenCounts, lay_out};
use super::filling::Chosen;
use super::rows::PlanRows;
use super::set_rows::SetRows;
use crate::shard::Row;
use crate::tokenize::TextEncoder;
use crate::{Error, Result};

/// What stands before a query.
#[derive(Debug, Clone, PartialEq)]
pub enum Instruction {
    /// Nothing, whatever the set says.
    Off,
    /// The row's own prompt, else the source's instruction in the manifest, else nothing.
    Manifest,
    /// The row's own prompt, else this text for `retrieval` sources.
    Retrieval(String),
    /// The row's own prompt, else these texts by source name; nothing for other sources.
    Sources(Vec<(String, String)>),
}

/// Lengths and texts that turn rows into tokens.
#[derive(Debug, Clone, PartialEq)]
pub struct CollateOptions {
    /// Tokens of a query with its instruction and the special tokens, at most.
    pub query_max_len: usize,
    /// Tokens of a passage with the special tokens, at most.
    pub passage_max_len: usize,
    /// What stands before queries.
    pub instruction: Instruction,
    /// Whether texts come padded too.
    pub layout: Layout,
}

/// Some rows in order, one entry of `row_ids` each; documents of a row are contiguous, its
/// positive first. All `*_offsets` begin with 0.
#[derive(Debug, Clone, PartialEq)]
pub struct RowArrays {
    /// Row ids in the set.
    pub row_ids: Vec<u64>,
    /// Index of each row's source.
    pub source_ids: Vec<u32>,
    /// Query tokens, row after row.
    pub query_ids: Vec<i32>,
    /// Row `i` owns `query_ids[query_offsets[i]..query_offsets[i + 1]]`.
    pub query_offsets: Vec<i64>,
    /// Document tokens.
    pub doc_ids: Vec<i32>,
    /// Document `j` owns `doc_ids[doc_offsets[j]..doc_offsets[j + 1]]`.
    pub doc_offsets: Vec<i64>,
    /// Place in `row_ids` of each document's row.
    pub doc_rows: Vec<i64>,
    /// Whether the document is its row's positive.
    pub doc_is_positive: Vec<bool>,
    /// Teacher score of each document, NaN where there is none.
    pub doc_scores: Vec<f32>,
    /// Key of each query.
    pub query_keys: Vec<u64>,
    /// Key of each document.
    pub doc_keys: Vec<u64>,
    /// Keys of every row's known positives.
    pub known_keys: Vec<u64>,
    /// Row `i` owns `known_keys[known_offsets[i]..known_offsets[i + 1]]`.
    pub known_offsets: Vec<i64>,
}

impl Default for RowArrays {
    fn default() -> Self {
        Self {
            row_ids: Vec::new(),
            source_ids: Vec::new(),
            query_ids: Vec::new(),
            query_offsets: vec![0],
            doc_ids: Vec::new(),
            doc_offsets: vec![0],
            doc_rows: Vec::new(),
            doc_is_positive: Vec::new(),
            doc_scores: Vec::new(),
            query_keys: Vec::new(),
            doc_keys: Vec::new(),
            known_keys: Vec::new(),
            known_offsets: vec![0],
        }
    }
}

pub(crate) fn append_offsets(own: &mut Vec<i64>, other: &[i64]) {
    let end = own.last().copied().unwrap_or(0);
    own.extend(other.iter().skip(1).map(|offset| end + offset));
}

impl RowArrays {
    /// Joins pieces in order; the single piece of a small batch is handed on as it is.
    pub(crate) fn concat(mut pieces: Vec<Self>) -> Self {
        if pieces.len() == 1
            && let Some(only) = pieces.pop()
        {
            return only;
        }
        let mut joined = Self::default();
        joined.query_ids.reserve_exact(pieces.iter().map(|piece| piece.query_ids.len()).sum());
        joined.doc_ids.reserve_exact(pieces.iter().map(|piece| piece.doc_ids.len()).sum());
        for piece in pieces {
            let rows = joined.row_ids.len() as i64;
            joined.row_ids.extend(piece.row_ids);
            joined.source_ids.extend(piece.source_ids);
            joined.query_ids.extend(piece.query_ids);
            append_offsets(&mut joined.query_offsets, &piece.query_offsets);
            joined.doc_ids.extend(piece.doc_ids);
            append_offsets(&mut joined.doc_offsets, &piece.doc_offsets);
            joined.doc_rows.extend(piece.doc_rows.iter().map(|row| rows + row));
            joined.doc_is_positive.extend(piece.doc_is_positive);
            joined.doc_scores.extend(piece.doc_scores);
            joined.query_keys.extend(piece.query_keys);
            joined.doc_keys.extend(piece.doc_keys);
            joined.known_keys.extend(piece.known_keys);
            append_offsets(&mut joined.known_offsets, &piece.known_offsets);
        }
        joined
    }
}

/// All rows of a rank in a batch.
pub(crate) struct Joined {
    pub(crate) arrays: RowArrays,
    pub(crate) chunks: Option<Chunks>,
    pub(crate) counts: TokenCounts,
}

/// Turns rows into arrays; shared by all threads.
pub(crate) struct Collator {
    rows: Arc<SetRows>,
    encoder: Arc<TextEncoder>,
    query_max_len: usize,
    passage_max_len: usize,
    /// One a source; empty for none.
    instructions: Vec<String>,
    row_prompts: bool,
    layout: Layout,
}

impl Collator {
    /// Checks that lengths and instructions leave room for a text.
    pub(crate) fn new(rows: Arc<SetRows>, encoder: Arc<TextEncoder>, options: &CollateOptions) -> Result<Self> {
        options.layout.check()?;
        let least = encoder.special_tokens() + 1;
        for (key, length) in [("query_max_len", options.query_max_len), ("passage_max_len", options.passage_max_len)] {
            if length < least {
                let message = format!("expected at least {least} (special tokens and one of text), found {length}");
                return Err(Error::config(format!("batch.{key}"), message));
            }
        }
        let instructions = instructions(&rows, &options.instruction)?;
        let collator = Self {
            rows,
            encoder,
            query_max_len: options.query_max_len,
            passage_max_len: options.passage_max_len,
            instructions,
            row_prompts: options.instruction != Instruction::Off,
            layout: options.layout,
        };
        for (instruction, source) in collator.instructions.iter().zip(collator.rows.sources()) {
            collator.check_room(instruction, || format!("the instruction of source {:?}", source.name))?;
        }
        Ok(collator)
    }

    fn check_room(&self, instruction: &str, what: impl Fn() -> String) -> Result<()> {
        let tokens = self.encoder.count(instruction)? + self.encoder.special_tokens();
        if !instruction.is_empty() && tokens >= self.query_max_len {
            let message = format!(
                "{} takes {tokens} tokens with the special ones, which leaves no room for a query in {}; raise \
                 query_max_len or shorten it",
                what(),
                self.query_max_len
            );
            return Err(Error::config("batch.query_max_len", message));
        }
        Ok(())
    }

    /// The arrays of some places of a batch.
    pub(crate) fn collate(&self, chosen: &Chosen, places: &[usize]) -> Result<RowArrays> {
        let mut arrays = RowArrays::default();
        for place in places {
            let id = chosen.rows[*place];
            let row = self.rows.set().row(id)?;
            self.push(&mut arrays, id, &row, chosen.positives[*place], chosen.negatives_of(*place))?;
        }
        Ok(arrays)
    }

    /// The pieces of a batch as one, in order.
    pub(crate) fn join(&self, pieces: Vec<RowArrays>) -> Joined {
        let arrays = RowArrays::concat(pieces);
        let (chunks, counts) = lay_out(&arrays, self.layout);
        Joined { arrays, chunks, counts }
    }

    fn push(&self, out: &mut RowArrays, id: u64, row: &Row<'_>, positive: u32, negatives: &[u32]) -> Result<()> {
        let place = out.row_ids.len() as i64;
        out.row_ids.push(id);
        out.source_ids.push(row.source() as u32);
        self.push_query(out, id, row)?;
        out.query_offsets.push(out.query_ids.len() as i64);
        out.query_keys.push(row.query_key());

        let positive = positive as usize;
        self.push_document(out, row.pos(positive), row.pos_keys()[positive], row.pos_score(positive))?;
        for negative in negatives.iter().map(|negative| *negative as usize) {
            self.push_document(out, row.neg(negative), row.neg_keys()[negative], row.neg_score(negative))?;
        }
        let documents = 1 + negatives.len();
        out.doc_rows.extend(std::iter::repeat_n(place, documents));
        out.doc_is_positive.extend((0..documents).map(|document| document == 0));

        let start = out.known_keys.len();
        for key in row.pos_keys().iter().chain(row.also_pos_keys()) {
            if !out.known_keys[start..].contains(key) {
                out.known_keys.push(*key);
            }
        }
        out.known_offsets.push(out.known_keys.len() as i64);
        Ok(())
    }

    fn push_query(&self, out: &mut RowArrays, id: u64, row: &Row<'_>) -> Result<()> {
        let own = if self.row_prompts { row.prompt() } else { "" };
        let instruction = if own.is_empty() { self.instructions[row.source()].as_str() } else { own };
        let joined;
        let text = if instruction.is_empty() {
            row.query()
        } else {
            joined = [instruction, row.query()].concat();
            &joined
        };
        let cut = self.encoder.encode_into(text, self.query_max_len, &mut out.query_ids)?;
        if cut && !own.is_empty() {
            self.check_room(own, || format!("the prompt of row {id} ({}:{})", row.origin_file(), row.origin_line()))?;
        }
        Ok(())
    }

    fn push_document(&self, out: &mut RowArrays, text: &str, key: u64, score: Option<f32>) -> Result<()> {
        self.encoder.encode_into(text, self.passage_max_len, &mut out.doc_ids)?;
        out.doc_offsets.push(out.doc_ids.len() as i64);
        out.doc_keys.push(key);
        out.doc_scores.push(score.unwrap_or(f32::NAN));
        Ok(())
    }
}

fn instructions(rows: &SetRows, instruction: &Instruction) -> Result<Vec<String>> {
    let sources = rows.sources();
    Ok(match instruction {
        Instruction::Off => vec![String::new(); sources.len()],
        Instruction::Manifest => {
            let entries = &rows.set().manifest().sources;
            entries.iter().map(|entry| entry.instruction.clone().unwrap_or_default()).collect()
        }
        Instruction::Retrieval(text) => {
            let of = |task| if task == crate::pair::Task::Retrieval { text.clone() } else { String::new() };
            sources.iter().map(|source| of(source.task)).collect()
        }
        Instruction::Sources(given) => {
            if let Some((unknown, _)) = given.iter().find(|(name, _)| sources.iter().all(|source| source.name != *name))
            {
                let message = format!("expected names of sources of the set, found {unknown:?}");
                return Err(Error::config("batch.query_instruction", message));
            }
            let of = |name: &str| given.iter().find(|(given, _)| given == name).map(|(_, text)| text.clone());
            sources.iter().map(|source| of(&source.name).unwrap_or_default()).collect()
        }
    })
}
