//! Shard set → global batches → this rank's token ids.
//!
//! ```text
//!  keys ─ sampler ─► pass ─ conflict, wait ─► GlobalBatch ─ slices ─► this rank's rows ─ collate ─► RankBatch
//!         (source)   (order, rows that fit)    (state)                                 (token ids)
//! ```
//!
//! The plan is a function of the set's keys, the seed and the options. It reads no text, does not
//! know how many ranks there are, and costs a few key look-ups a row.

pub mod collate;
pub mod conflict;
pub(crate) mod crew;
pub mod loader;
pub mod options;
pub mod pass;
pub(crate) mod permute;
pub mod plan;
pub mod rows;
mod sampler;
pub mod set_rows;
pub(crate) mod slices;
pub mod state;
mod wait;
pub(crate) mod work;

pub use collate::{CollateOptions, Instruction, RowArrays};
pub use loader::{Loader, LoaderOptions, Next, RankBatch};
pub use options::{Mix, NegativeChoice, PlanOptions};
pub use pass::Chosen;
pub use plan::{GlobalBatch, Planner, SourceReport};
pub use rows::{PlanRows, PlanSource, RowKeys};
pub use set_rows::SetRows;
pub use state::{Counts, PlanState, SourceState, Unplaced, UnplacedReason};
