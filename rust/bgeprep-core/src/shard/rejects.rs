//! What was dropped, as a Parquet file that people can query.

use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, Float32Array, RecordBatch, StringArray, UInt64Array};
use arrow_schema::{ArrowError, DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::{EnabledStatistics, WriterProperties};

use super::manifest::{PartInfo, relative_name};
use super::sink::AtomicFile;
use crate::report::{Reason, RejectPart};
use crate::{Error, Result};

/// Characters of `query` and `text` that a reject file keeps.
pub const EXCERPT_CHARACTERS: usize = 500;
/// Rows gathered before they go to the Parquet writer.
const ROWS_PER_BATCH: usize = 4096;
/// Rows in a Parquet row group; part of the file's bytes, so it is fixed.
const ROWS_PER_GROUP: usize = 64 << 10;

/// One dropped row, positive or negative. Strings that say nothing are empty.
#[derive(Debug, Clone, PartialEq)]
pub struct RejectRow {
    /// The source it came from.
    pub source: String,
    /// Input file, relative to the input folder.
    pub origin_file: String,
    /// Line, element or row in that file, from 1.
    pub origin_line: u64,
    /// What was dropped: the row or one of its texts.
    pub part: RejectPart,
    /// Place in the row's positives or negatives; 0 for a whole row.
    pub item: u64,
    /// Why.
    pub reason: Reason,
    /// More on why, as "3 characters, at least 5".
    pub detail: String,
    /// Source of the row that stays in its place.
    pub twin_source: String,
    /// Input file of that row.
    pub twin_file: String,
    /// Line of that row, 0 if there is none.
    pub twin_line: u64,
    /// Id of that row, or of a benchmark text.
    pub twin_id: String,
    /// Jaccard similarity to the twin; NaN where none was taken.
    pub similarity: f32,
    /// The row's query, cut to its first characters when written.
    pub query: String,
    /// The text at fault, cut likewise.
    pub text: String,
}

/// Writes `rows`, which come sorted by origin, to the Parquet file `path`. Holds one row group.
///
/// # Errors
/// The first error that `rows` yields, or what the disk says.
pub fn write_rejects(path: &Path, rows: impl Iterator<Item = Result<RejectRow>>) -> Result<PartInfo> {
    let file = AtomicFile::create(path)?;
    let fail = |error: ParquetError| parquet_error(path, error);
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1).map_err(fail)?))
        .set_max_row_group_row_count(Some(ROWS_PER_GROUP))
        // Texts hardly repeat: a dictionary of them costs time and saves nothing.
        .set_column_dictionary_enabled("query".into(), false)
        .set_column_dictionary_enabled("text".into(), false)
        .set_column_statistics_enabled("query".into(), EnabledStatistics::None)
        .set_column_statistics_enabled("text".into(), EnabledStatistics::None)
        .set_created_by("bgeprep".to_owned())
        .build();
    let schema = Arc::new(schema());
    let mut out = ArrowWriter::try_new(file, Arc::clone(&schema), Some(properties)).map_err(fail)?;
    let mut gathered = Vec::with_capacity(ROWS_PER_BATCH);
    let mut count = 0u64;
    for row in rows {
        gathered.push(row?);
        count += 1;
        if gathered.len() == ROWS_PER_BATCH {
            out.write(&to_batch(&schema, &gathered)?).map_err(fail)?;
            gathered.clear();
        }
    }
    if !gathered.is_empty() {
        out.write(&to_batch(&schema, &gathered)?).map_err(fail)?;
    }
    let file = out.into_inner().map_err(fail)?;
    let (bytes, xxh3_128) = file.commit()?;
    Ok(PartInfo { path: relative_name(path)?, rows: count, bytes, xxh3_128, blocks: Vec::new() })
}

fn schema() -> Schema {
    let field = |name: &str, kind: DataType| Field::new(name, kind, false);
    Schema::new(vec![
        field("source", DataType::Utf8),
        field("origin_file", DataType::Utf8),
        field("origin_line", DataType::UInt64),
        field("part", DataType::Utf8),
        field("item", DataType::UInt64),
        field("reason", DataType::Utf8),
        field("detail", DataType::Utf8),
        field("twin_source", DataType::Utf8),
        field("twin_file", DataType::Utf8),
        field("twin_line", DataType::UInt64),
        field("twin_id", DataType::Utf8),
        field("similarity", DataType::Float32),
        field("query", DataType::Utf8),
        field("text", DataType::Utf8),
    ])
}

fn to_batch(schema: &Arc<Schema>, rows: &[RejectRow]) -> Result<RecordBatch> {
    let text =
        |get: fn(&RejectRow) -> &str| -> ArrayRef { Arc::new(StringArray::from_iter_values(rows.iter().map(get))) };
    let number =
        |get: fn(&RejectRow) -> u64| -> ArrayRef { Arc::new(UInt64Array::from_iter_values(rows.iter().map(get))) };
    let columns = vec![
        text(|row| &row.source),
        text(|row| &row.origin_file),
        number(|row| row.origin_line),
        text(|row| row.part.name()),
        number(|row| row.item),
        text(|row| row.reason.name()),
        text(|row| &row.detail),
        text(|row| &row.twin_source),
        text(|row| &row.twin_file),
        number(|row| row.twin_line),
        text(|row| &row.twin_id),
        Arc::new(Float32Array::from_iter_values(rows.iter().map(|row| row.similarity))),
        text(|row| excerpt(&row.query)),
        text(|row| excerpt(&row.text)),
    ];
    RecordBatch::try_new(Arc::clone(schema), columns)
        .map_err(|error: ArrowError| Error::Internal(format!("reject rows: {error}")))
}

/// The first characters of a text: what a reject keeps of it, cut early so that waiting rejects stay small.
pub fn excerpt(text: &str) -> &str {
    text.char_indices().nth(EXCERPT_CHARACTERS).map_or(text, |(end, _)| &text[..end])
}

/// Parquet wraps what the disk said; it is unwrapped so that a full disk is told as one.
fn parquet_error(path: &Path, error: ParquetError) -> Error {
    match error {
        ParquetError::External(source) => match source.downcast::<std::io::Error>() {
            Ok(source) => Error::io(path, "write")(*source),
            Err(other) => Error::Internal(format!("{}: {other}", path.display())),
        },
        other => Error::Internal(format!("{}: {other}", path.display())),
    }
}

#[cfg(test)]
#[path = "rejects_tests.rs"]
mod tests;
