//! The byte layout of a part, before any code.
//!
//! A part is an Arrow IPC *file* (magic, schema message, record batches, footer), little endian,
//! metadata version 5, bodies uncompressed, buffers aligned to 64 bytes. All rows of a part belong
//! to one source. Columns, none of them ever null (what is absent is an empty string or list):
//!
//! | column          | type           | meaning                                                     |
//! |-----------------|----------------|-------------------------------------------------------------|
//! | `query`         | Utf8           | the cleaned query                                           |
//! | `pos`           | List\<Utf8>    | positives, at least one                                     |
//! | `neg`           | List\<Utf8>    | hard negatives, none or more                                |
//! | `pos_scores`    | List\<Float32> | empty, or one a positive (NaN = this one has none)          |
//! | `neg_scores`    | List\<Float32> | empty, or one a negative                                    |
//! | `query_key`     | UInt64         | batching key of the query                                   |
//! | `pos_keys`      | List\<UInt64>  | one key a positive                                          |
//! | `neg_keys`      | List\<UInt64>  | one key a negative                                          |
//! | `also_pos_keys` | List\<UInt64>  | keys of the positives that other rows give the same query   |
//! | `query_exact_key` | UInt64       | exact key of the query, see below                           |
//! | `pos_exact_keys` | List\<UInt64> | one exact key a positive                                    |
//! | `neg_exact_keys` | List\<UInt64> | one exact key a negative                                    |
//! | `id`            | Utf8           | the record's own id, or empty                               |
//! | `prompt`        | Utf8           | the record's own instruction, or empty                      |
//! | `source`        | Utf8           | the source's name, the same in every row of the part        |
//! | `origin_file`   | Utf8           | input file, relative to the input folder, with `/`          |
//! | `origin_line`   | UInt64         | line, element or row in that file, from 1                   |
//!
//! A set of kind `text` holds documents, each in these columns:
//!
//! | column           | type   | meaning                                             |
//! |------------------|--------|-----------------------------------------------------|
//! | `text`           | Utf8   | the cleaned text                                    |
//! | `title`          | Utf8   | its title, or empty                                 |
//! | `text_key`       | UInt64 | batching key of the text                            |
//! | `text_exact_key` | UInt64 | exact key of the text                               |
//! | `source`, `origin_file`, `origin_line` | | as above                            |
//!
//! An *exact key* is xxh3-64 of the normalised text, whatever its role. A *batching key* is the
//! smallest exact key of the text's near-duplicate cluster; where near dedup did not run, it is the
//! exact key.
//!
//! A record batch holds at most [`MAX_BATCH_ROWS`] rows and about [`TARGET_BATCH_BYTES`]; a row
//! that alone is larger stands alone. The manifest lists, for each batch, where its IPC message
//! (metadata and body) lies and two checksums: `xxh3_64` of the whole message, and
//! `index_xxh3_64` of the buffers that planning reads, in this order: the offsets of `query`, of
//! `pos`, of its texts, of `neg`, of its texts; `query_key`; then offsets and values of
//! `pos_keys`, `neg_keys` and `also_pos_keys`; then the same of the exact keys. So keys and lengths can be read, and trusted,
//! without touching the texts. In a set of texts it is of the offsets of `text` and of `title`, then
//! the two keys.

use std::sync::{Arc, LazyLock};

use arrow_schema::{DataType, Field, Schema, SchemaRef};

use crate::pair::SetKind;

/// Version of this layout and of the manifest; another one is refused.
pub const FORMAT_VERSION: u32 = 2;
/// Most rows in a record batch.
pub const MAX_BATCH_ROWS: usize = 4096;
/// A batch is closed before the row that would take it beyond this many bytes.
pub const TARGET_BATCH_BYTES: usize = 4 << 20;
/// Most bytes in the texts of one row: Utf8 offsets are 32 bits wide.
pub const MAX_ROW_BYTES: usize = (i32::MAX as usize) - TARGET_BATCH_BYTES;
/// File name of the manifest.
pub const MANIFEST: &str = "manifest.json";
/// Folder of the reject files, and so no source may have this name.
pub const REJECTS: &str = "rejects";
/// Suffix of a file that is being written.
pub(super) const TEMPORARY: &str = ".tmp";

/// One row as it goes into a part; everything is borrowed from the caller.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ShardRow<'a> {
    /// The cleaned query.
    pub query: &'a str,
    /// Positives, at least one.
    pub pos: &'a [&'a str],
    /// Hard negatives.
    pub neg: &'a [&'a str],
    /// Empty, or as long as `pos`; NaN where a positive has none.
    pub pos_scores: &'a [f32],
    /// Empty, or as long as `neg`; NaN where a negative has none.
    pub neg_scores: &'a [f32],
    /// Batching key of the query.
    pub query_key: u64,
    /// As long as `pos`.
    pub pos_keys: &'a [u64],
    /// As long as `neg`.
    pub neg_keys: &'a [u64],
    /// Keys of the positives that other rows of the set give this query.
    pub also_pos_keys: &'a [u64],
    /// Exact key of the query.
    pub query_exact_key: u64,
    /// As long as `pos`.
    pub pos_exact_keys: &'a [u64],
    /// As long as `neg`.
    pub neg_exact_keys: &'a [u64],
    /// The record's own id, or empty.
    pub id: &'a str,
    /// The record's own instruction, or empty.
    pub prompt: &'a str,
    /// Input file relative to the input folder, with `/`.
    pub origin_file: &'a str,
    /// Line, element or row in that file, from 1.
    pub origin_line: u64,
}

/// Places of the columns in a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
#[expect(missing_docs, reason = "the table at the head of this file says what each column holds")]
pub enum Column {
    Query,
    Pos,
    Neg,
    PosScores,
    NegScores,
    QueryKey,
    PosKeys,
    NegKeys,
    AlsoPosKeys,
    QueryExactKey,
    PosExactKeys,
    NegExactKeys,
    Id,
    Prompt,
    Source,
    OriginFile,
    OriginLine,
}

impl Column {
    /// All columns in file order.
    pub const ALL: [Self; 17] = [
        Self::Query,
        Self::Pos,
        Self::Neg,
        Self::PosScores,
        Self::NegScores,
        Self::QueryKey,
        Self::PosKeys,
        Self::NegKeys,
        Self::AlsoPosKeys,
        Self::QueryExactKey,
        Self::PosExactKeys,
        Self::NegExactKeys,
        Self::Id,
        Self::Prompt,
        Self::Source,
        Self::OriginFile,
        Self::OriginLine,
    ];

    /// The column's name in the file.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "query",
            Self::Pos => "pos",
            Self::Neg => "neg",
            Self::PosScores => "pos_scores",
            Self::NegScores => "neg_scores",
            Self::QueryKey => "query_key",
            Self::PosKeys => "pos_keys",
            Self::NegKeys => "neg_keys",
            Self::AlsoPosKeys => "also_pos_keys",
            Self::QueryExactKey => "query_exact_key",
            Self::PosExactKeys => "pos_exact_keys",
            Self::NegExactKeys => "neg_exact_keys",
            Self::Id => "id",
            Self::Prompt => "prompt",
            Self::Source => "source",
            Self::OriginFile => "origin_file",
            Self::OriginLine => "origin_line",
        }
    }

    fn data_type(self, text: &DataType) -> DataType {
        let list = |item: DataType| DataType::List(Arc::new(Field::new("item", item, false)));
        match self {
            Self::Query | Self::Id | Self::Prompt | Self::Source | Self::OriginFile => text.clone(),
            Self::Pos | Self::Neg => list(text.clone()),
            Self::PosScores | Self::NegScores => list(DataType::Float32),
            Self::QueryKey | Self::QueryExactKey | Self::OriginLine => DataType::UInt64,
            Self::PosKeys | Self::NegKeys | Self::AlsoPosKeys | Self::PosExactKeys | Self::NegExactKeys => {
                list(DataType::UInt64)
            }
        }
    }
}

fn schema_with(text: &DataType) -> SchemaRef {
    let field = |column: Column| Field::new(column.name(), column.data_type(text), false);
    Arc::new(Schema::new(Column::ALL.map(field).to_vec()))
}

/// Places of the columns that are read by place in a part of a set of texts; the keys between are
/// found as buffers, in `index.rs`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(usize)]
pub(super) enum DocumentColumn {
    Text = 0,
    Title = 1,
    Source = 4,
    OriginFile = 5,
    OriginLine = 6,
}

fn text_schema_with(text: &DataType) -> SchemaRef {
    let texts = ["text", "title"].map(|name| Field::new(name, text.clone(), false));
    let keys = ["text_key", "text_exact_key"].map(|name| Field::new(name, DataType::UInt64, false));
    let origin = ["source", "origin_file"].map(|name| Field::new(name, text.clone(), false));
    let line = Field::new("origin_line", DataType::UInt64, false);
    Arc::new(Schema::new(texts.into_iter().chain(keys).chain(origin).chain([line]).collect::<Vec<_>>()))
}

/// The Arrow schemas of a part.
#[derive(Debug)]
pub struct Layout {
    /// What the file says.
    pub schema: SchemaRef,
    /// The same with Binary for Utf8: the writer's in-memory view, see `columns.rs`.
    pub(super) binary: SchemaRef,
}

impl Layout {
    /// The layout of the current format version for a set of this kind.
    pub fn of(kind: SetKind) -> &'static Self {
        static TEXT: LazyLock<Layout> = LazyLock::new(|| Layout {
            schema: text_schema_with(&DataType::Utf8),
            binary: text_schema_with(&DataType::Binary),
        });
        match kind {
            SetKind::Pairs => Self::current(),
            SetKind::Text => &TEXT,
        }
    }

    /// The layout of a set of pairs.
    pub fn current() -> &'static Self {
        static LAYOUT: LazyLock<Layout> =
            LazyLock::new(|| Layout { schema: schema_with(&DataType::Utf8), binary: schema_with(&DataType::Binary) });
        &LAYOUT
    }
}
