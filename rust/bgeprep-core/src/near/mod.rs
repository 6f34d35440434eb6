//! Near duplicates, from text to cluster.
//!
//! ```text
//! text ─ shingle ─► set ─ minhash ─► band hashes ─ sketch ─► file
//! file ─ candidates ─► pairs that agree in a band ─ components ─► partitions
//! partition + its texts ─ verify ─► true similarities, clusters ─ table ─► key → cluster
//! ```
//!
//! Queries and passages are two spaces, each with its own shingles. Every step works on exact keys,
//! so equal texts are one text, and none depends on the order in which threads come along.

pub mod candidates;
pub mod components;
pub mod minhash;
pub(crate) mod prefix;
pub mod sample;
pub mod shingle;
pub mod sketch;
pub mod table;
pub mod verify;
