//! Text set → blocks of at most so many tokens → this rank's masked blocks.
//!
//! ```text
//!  documents ─ sentence ─ cut ─► block index (row, bytes, tokens), cached beside the shards
//!                                      │
//!            state ◄─ plan ─► the step's blocks ─ slices ─► this rank's ─ mask ─► TextBatch
//! ```
//!
//! The index is a function of (set, tokenizer, length) and made once; a plan is a function of the
//! index, the seed and the batch size. An epoch visits every block once, in an order of its own.

mod build;
mod cut;
mod document;
mod index;
mod loader;
mod plan;
mod sentence;
mod state;

pub use build::open_or_build;
pub use index::{Block, BlockIndex, BlockStats};
pub use loader::{TextBatch, TextLoader};
pub use plan::TextPlanOptions;
pub use state::TextState;
