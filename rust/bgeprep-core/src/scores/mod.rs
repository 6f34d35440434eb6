//! The filter by scores: what the scorer wrote of (query, positive) pairs, joined by content.
//!
//! ```text
//! *.parquet (query_hash, pos_hash, score) ─ table: sorted runs ─ merge ─► one sorted file, mapped
//!                                                                              │
//! cleaned pair ─ filter: content hashes of query and positive ─────────────────┴─► stays, or a reject
//! ```
//!
//! Keyed by content, not by place: a pair keeps its score when rows are merged, moved or sharded
//! again. Both hashes are [`content_hash`](crate::clean::text::content_hash).

mod filter;
mod parquet;
mod table;

pub use filter::{ScoreCounts, ScoreFilter};
pub use table::{SCORES, ScoreTable};
