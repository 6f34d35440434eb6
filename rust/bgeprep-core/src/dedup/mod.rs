//! Which rows, positives and negatives go, decided on hashes alone.
//!
//! Reading leaves one key record a positive and a negative, partitioned by the hash of the query.
//! All that exact dedup asks — is this pair there already, what else is known to answer this
//! query, is this negative somebody's positive — is a question within one query, so each partition
//! is decided alone and in memory (`exact`). What comes out are decisions, routed to the bucket
//! that holds the row; the texts are touched once, when the parts are written.

pub mod decision;
pub mod exact;
pub mod key;
pub mod unite;

mod near;

pub use decision::{Action, Decision};
pub use key::{KeyRecord, Kind};
