//! Where bytes lie: on this machine or in an object store (S3 and what speaks its protocol).
//!
//! ```text
//!  Location ── Local ──► a file
//!         └─── Object ─► ranged GETs, a few ahead ─► Read          text, compressed or not
//!                                              └──► unlinked file  Parquet and Arrow files
//!  put(file) ─► PUT or multipart ─► HEAD: length and checksum ─► there
//! ```
//!
//! Everything asynchronous stays in here: one thread drives all requests of a run, and the rest of
//! the crate sees `Read` and plain functions. What goes wrong on the way (a dropped connection, a
//! 5xx answer, a body that ends early) is tried again; what would give other bytes (an object that
//! was replaced while it was read) is an error, never the end of the input.
//!
//! Files that need random access are fetched whole into a file without a name before they are
//! opened: a Parquet reader asks for many small ranges, each a round trip, and holds whole column
//! chunks otherwise. So the readers stay the same for both places, memory stays bounded, and every
//! byte travels once. The space is given back when the file is closed, however the run ends.

mod connect;
mod download;
mod engine;
mod failure;
mod location;
mod ranges;
mod retry;
mod upload;
mod url;

#[cfg(test)]
mod tests;

pub use connect::{Bucket, Entry, Stores};
pub use location::{Location, Object};
pub use url::ObjectUrl;
