//! The blocks of a text set, memory-mapped.
//!
//! ```text
//! magic 8 B │ identity 16 B │ (row u64, start u32, end u32, tokens u32) × blocks
//! │ blocks u64 │ documents u64 │ tokens u64 │ split sentences u64 │ xxh3-64 of all before
//! ```
//!
//! Little-endian. `identity` hashes what decides the blocks: the set, the tokenizer file, the length
//! and the rules of cutting. A file that is damaged, or of another identity, is made anew.

use std::path::{Path, PathBuf};

use arrow_buffer::Buffer;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use super::sentence::RULES;
use crate::shard::ShardSet;
use crate::shard::map::map;
use crate::tokenize::TextEncoder;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"bgeblk01";
pub(super) const HEAD: usize = 8 + 16;
pub(super) const RECORD: usize = 8 + 3 * 4;
const FOOT: usize = 5 * 8;

/// A block: bytes `start..end` of its row's document.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block {
    /// The row in the set.
    pub row: u64,
    /// First byte in the document: title, line break, text; the text alone where there is no title.
    pub start: u32,
    /// The byte behind the last.
    pub end: u32,
    /// Tokens without special ones.
    pub tokens: u32,
}

impl Block {
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.row.to_le_bytes());
        for number in [self.start, self.end, self.tokens] {
            out.extend_from_slice(&number.to_le_bytes());
        }
    }

    fn decode(bytes: &[u8]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|place| bytes[at + place]));
        let row = u64::from_le_bytes(std::array::from_fn(|place| bytes[place]));
        Self { row, start: word(8), end: word(12), tokens: word(16) }
    }
}

/// What making an index came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BlockStats {
    /// Blocks.
    pub blocks: u64,
    /// Documents with at least one token.
    pub documents: u64,
    /// Tokens of all blocks without special ones.
    pub tokens: u64,
    /// Sentences longer than a block, which were cut between words.
    pub split_sentences: u64,
}

/// The blocks of a text set for one tokenizer and length.
#[derive(Debug)]
pub struct BlockIndex {
    path: PathBuf,
    identity: u128,
    bytes: Buffer,
    stats: BlockStats,
}

impl BlockIndex {
    /// Opens a file that has this identity and is whole; `None` if there is none.
    pub(super) fn open(path: &Path, identity: u128) -> Result<Option<Self>> {
        let length = match fs_err::metadata(path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        let bytes = map(path, length)?;
        let Some(stats) = whole(&bytes, identity) else { return Ok(None) };
        Ok(Some(Self { path: path.to_owned(), identity, bytes, stats }))
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Names the blocks: part of the state of whatever was planned on them.
    pub fn hash(&self) -> String {
        format!("{:032x}", self.identity)
    }

    /// Number of blocks.
    pub fn len(&self) -> u64 {
        self.stats.blocks
    }

    /// Whether there is no block at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// What making it came to.
    pub fn stats(&self) -> BlockStats {
        self.stats
    }

    /// Block `id`, if there is one.
    pub fn get(&self, id: u64) -> Option<Block> {
        let start = HEAD + usize::try_from(id).ok()?.checked_mul(RECORD)?;
        (id < self.len()).then(|| Block::decode(&self.bytes[start..start + RECORD]))
    }
}

/// What identifies the blocks of a set under a tokenizer.
pub(super) fn identity(set: &ShardSet, encoder: &TextEncoder, max_length: usize) -> Result<u128> {
    let tokenizer = fs_err::read(encoder.path()).map_err(Error::io(encoder.path(), "read"))?;
    let parts = format!("{}\n{:032x}\n{max_length}\n{RULES}", set.manifest().hash, xxh3_128(&tokenizer));
    Ok(xxh3_128(parts.as_bytes()))
}

pub(super) fn head(identity: u128) -> Vec<u8> {
    [MAGIC.as_slice(), &identity.to_le_bytes()].concat()
}

/// The end of a file but for its checksum.
pub(super) fn foot(stats: &BlockStats) -> Vec<u8> {
    let numbers = [stats.blocks, stats.documents, stats.tokens, stats.split_sentences];
    numbers.into_iter().flat_map(u64::to_le_bytes).collect()
}

fn whole(bytes: &[u8], identity: u128) -> Option<BlockStats> {
    let (rest, checksum) = bytes.split_last_chunk::<8>()?;
    let numbers = rest.get(rest.len().checked_sub(FOOT - 8)?..)?;
    let number = |at: usize| u64::from_le_bytes(std::array::from_fn(|place| numbers[at * 8 + place]));
    let stats = BlockStats { blocks: number(0), documents: number(1), tokens: number(2), split_sentences: number(3) };
    let records = usize::try_from(stats.blocks).ok()?.checked_mul(RECORD)?;
    let fits = bytes.len() == records.checked_add(HEAD + FOOT)? && bytes.starts_with(&head(identity));
    (fits && xxh3_64(rest) == u64::from_le_bytes(*checksum)).then_some(stats)
}
