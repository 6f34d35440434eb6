//! Shard set → global batches → this rank's token ids.
//!
//! ```text
//!  keys ─ sampler ─► pass ─ order, wait ─► filling ─ conflict ─► GlobalBatch ─ slices ─► rows ─ collate, chunks ─► RankBatch
//!         (source)   (its next rows)       (rows that fit)       (state)      (this rank's)     (token ids, padded)
//! ```
//!
//! The plan is a function of the set's keys, the seed and the options. It reads no text, does not
//! know how many ranks there are, and costs a few key look-ups a row.

pub(crate) mod ahead;
pub mod audit;
mod bits;
pub mod chunks;
pub mod clusters;
pub mod collate;
pub mod conflict;
pub(crate) mod crew;
mod filling;
pub mod loader;
pub mod options;
mod order;
mod pad_id;
mod pass;
pub(crate) mod permute;
pub mod plan;
mod roles;
pub mod rows;
mod sampler;
pub mod set_rows;
pub(crate) mod slices;
pub mod state;
mod wait;
mod window;
pub(crate) mod work;

pub use audit::{Audit, AuditReport};
pub use chunks::{Chunk, Chunks, Layout, TokenCounts};
pub use clusters::Clusters;
pub use collate::{CollateOptions, Instruction, RowArrays};
pub use filling::Chosen;
pub use loader::{Loader, LoaderOptions, Next, RankBatch};
pub use options::{Mix, NegativeChoice, PlanOptions};
pub use pad_id::pad_id;
pub use plan::{GlobalBatch, Planner, SourceReport};
pub use rows::{NegativeKeys, PlanRows, PlanSource, RowKeys};
pub use set_rows::SetRows;
pub use state::{Counts, PlanState, SourceState, Unplaced, UnplacedReason};
