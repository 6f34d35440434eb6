//! Pairs on disk become shards, and shards become batches; so do texts, as masked blocks.
//!
//! ```text
//!  files ─ read ─► clean ─► dedup ─► shuffle ─► shard ─► (shard set)
//!                                                            │
//!                 batch, or blocks and mask ◄─ tokenize ◄─┘
//! ```
//!
//! Each room below is one stage of that flow, in flow order; `store` is where files may lie beside
//! this machine. Nothing here knows Python.

pub mod config;
pub mod error;
pub mod pair;
pub mod progress;
pub mod report;

pub mod store;

pub mod read;

pub mod clean;

pub mod exclude;

pub mod dedup;
pub mod near;

mod key_map;

pub mod shuffle;

pub mod scores;
pub mod shard;

pub mod pipeline;

pub mod tokenize;

pub mod batch;

pub mod blocks;
pub mod mask;

pub use error::{Error, Result};
