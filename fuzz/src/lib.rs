//! What must hold for any bytes that a reader is given. Fuzz targets call these, and so does the plain test that
//! replays the committed corpus (`rust/bgeprep-core/tests/fuzz_corpus.rs`).

mod arrow;
mod gzip;
mod json;
mod reading;

pub use arrow::arrow;
pub use gzip::gzip;
pub use json::json;
