//! What a shard set is: Arrow IPC parts that hold text, and a manifest that covers every byte.
//!
//! ```text
//! shards/
//!   manifest.json              written last; no manifest = no shard set
//!   <source>/part-00000.arrow  one row a record, the columns of [`format`]
//!   rejects/<source>.parquet   every dropped row, positive or negative, with its reason
//! ```
//!
//! [`PartWriter`] and [`write_rejects`] make the files, [`Manifest`] binds them together,
//! [`ShardSet`] maps them and reaches any row in constant time, [`verify()`] finds what is damaged.

pub mod fetch;
pub mod format;
pub mod manifest;
pub mod publish;
pub mod reader;
pub mod rejects;
pub mod reports;
pub mod row;
pub mod verify;
pub mod writer;

mod check;
mod columns;
mod content;
mod document_columns;
mod index;
mod json;
pub(crate) mod map;
pub(crate) mod sink;
mod text_column;

pub use fetch::fetch;
pub use format::{Layout, ShardRow};
pub use manifest::{Block, LengthStats, Lengths, Manifest, PartInfo, Removed, SourceEntry};
pub use publish::{published, published_log};
pub use reader::{ShardSet, SourceRange};
pub use rejects::{RejectRow, write_rejects};
pub use row::{Row, RowIndex};
pub use verify::{Problem, VerifyReport, verify};
pub use writer::PartWriter;
