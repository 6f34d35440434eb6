//! Files → records.
//!
//! ```text
//!  file ─ container ─► detect ─► cutter (lines, elements, row batches) ─► Chunk      under a lock, cheap
//!           (gz …)     (format)                                            │
//!                                                     json · csv · table · txt ◄─┘         in a worker
//!                                                              │
//!                                    columns + labels ─► assemble ─► RawPair or a counted reject
//! ```
//!
//! A [`ChunkReader`] reads one file and cuts it into chunks of whole records; a [`Chunk`] is parsed
//! by whoever holds it. Which column plays which role stands in one table, in [`columns`]; what a
//! label or a score means, in [`labels`]. Neither the chunk size nor the number of threads has any
//! say in which records come out or how they are numbered.

pub mod columns;
pub mod labels;

mod array;
mod arrow;
mod assemble;
mod chunk;
mod container;
mod csv;
mod depth;
mod detect;
mod element;
mod field;
mod ipc_guard;
mod json;
mod lines;
mod origin;
mod parquet;
mod quotes;
mod roles;
mod set;
mod spool;
mod table;
mod tabular;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_cutting;
#[cfg(test)]
mod tests_damaged;
mod text_lines;
mod txt;
mod unmapped;

use std::borrow::Cow;

use arrow_array::RecordBatchReader;

use crate::Result;
use crate::pair::RawPair;
use crate::report::Reason;
use crate::store::Location;

pub use chunk::Chunk;
pub use columns::ColumnMapping;
pub use labels::LabelMeaning;
pub use origin::Origin;
pub use set::open_part;
pub use spool::spool;
pub use text_lines::TextLines;
pub use txt::Cut;
pub use unmapped::Unmapped;

/// Bytes of whole records that a chunk aims to hold.
pub const CHUNK_BYTES: usize = 1 << 20;

/// How one file is to be read. Nothing here has a default: the caller's config is the one home of
/// defaults.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadOptions {
    /// The format, or `Auto` to find out from the content.
    pub format: Format,
    /// Which columns play which role, where that is not left to the usual names.
    pub columns: ColumnMapping,
    /// What label values mean; looked at before the built-in meanings.
    pub labels: Vec<(String, LabelMeaning)>,
    /// Whether CSV and TSV start with a header; `None` to find out from the first row.
    pub header: Option<bool>,
    /// Field delimiter of CSV and TSV; `None` for the one of the format.
    pub delimiter: Option<u8>,
    /// Whether `"` quotes fields; `None` for yes in CSV and for what the content says in TSV.
    pub quoting: Option<bool>,
    /// What of plain text is one document; `None` for the lines between blank ones, where there are any.
    pub cut: Option<Cut>,
    /// Longest line, CSV record, array element or plain text in bytes; a longer one is skipped and counted.
    pub max_line_bytes: usize,
    /// Bytes a chunk aims to hold, [`CHUNK_BYTES`] outside tests.
    pub chunk_bytes: usize,
}

/// The formats that are read without a recipe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Format {
    /// Find out from the content.
    Auto,
    /// One JSON value a line.
    Jsonl,
    /// One JSON array that holds all records.
    JsonArray,
    /// Comma-separated values.
    Csv,
    /// Tab-separated values.
    Tsv,
    /// Parquet.
    Parquet,
    /// Arrow IPC, file or stream format.
    Arrow,
    /// Plain text.
    Txt,
}

impl Format {
    /// All formats, as a config may name them.
    pub const ALL: [Self; 8] =
        [Self::Auto, Self::Jsonl, Self::JsonArray, Self::Csv, Self::Tsv, Self::Parquet, Self::Arrow, Self::Txt];

    /// The name used in configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Jsonl => "jsonl",
            Self::JsonArray => "json",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Parquet => "parquet",
            Self::Arrow => "arrow",
            Self::Txt => "txt",
        }
    }

    /// The format of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|format| format.name() == name)
    }
}

/// Cuts one input into chunks of whole records, in input order.
pub trait ChunkReader: Send {
    /// The next chunk, `None` after the last. Cheap for text: reads, finds record ends and cuts;
    /// parsing happens in [`Chunk::records`]. Memory stays within `max_line_bytes` + `chunk_bytes`
    /// whatever the input holds.
    fn next_chunk(&mut self) -> Result<Option<Chunk>>;

    /// The format that was named or found.
    fn format(&self) -> Format;

    /// How far the input file was read, in (compressed) bytes; 0 for streams.
    fn bytes_read(&self) -> u64;
}

/// One record with its place in the input.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    /// Physical line where the record starts (JSONL, CSV, TSV, plain text), element (JSON array) or row
    /// (Parquet, Arrow), each counted from 1.
    pub line: u64,
    /// Where it was first read, if it says so itself; else its origin is this file and line.
    pub origin: Option<Origin<'a>>,
    /// What it holds.
    pub body: Body<'a>,
}

impl<'a> Record<'a> {
    /// A record that says nothing of its origin.
    fn new(line: u64, body: Body<'a>) -> Self {
        Self { line, origin: None, body }
    }
}

/// A record that was understood, or why it was not.
#[derive(Debug, Clone, PartialEq)]
pub enum Body<'a> {
    /// A pair, before cleaning.
    Pair(RawPair<'a>),
    /// A record to count and list.
    Bad {
        /// The reason it is counted under.
        reason: Reason,
        /// What was expected and what was found.
        detail: String,
        /// The first 500 characters, invalid bytes replaced.
        text: Cow<'a, str>,
    },
}

/// Opens a file or an object of a store: looks through its compression (gzip, zstd, bzip2, by magic bytes), finds its
/// format (unless named) and settles its columns where the format has a header or a schema.
///
/// # Errors
/// `Error::Io` if the file cannot be read, `Error::Store` if the object cannot; `Error::Corpus` if it is of no known format, is
/// something that is not read as it is (part of a shard set, nested JSON) or has no query or
/// positive column; `Error::Config` if a column that the config names is not there.
pub fn open(from: impl Into<Location>, options: &ReadOptions) -> Result<Box<dyn ChunkReader>> {
    detect::open(&from.into(), options)
}

/// Reads record batches that another library hands over; `name` stands in for the path in errors.
///
/// # Errors
/// As [`open`], for the schema of the stream.
pub fn open_stream(
    reader: Box<dyn RecordBatchReader + Send>,
    name: &str,
    options: &ReadOptions,
) -> Result<Box<dyn ChunkReader>> {
    arrow::from_batches(reader, name, options)
}
