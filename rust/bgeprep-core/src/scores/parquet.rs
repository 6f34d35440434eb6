//! Score files: Parquet with `query_hash` and `pos_hash` (16 bytes each) and `score` (Float32).

use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::Float32Type;
use arrow_array::{Array, FixedSizeBinaryArray, Float32Array, RecordBatch};
use arrow_schema::{DataType, Schema};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::{Error, Result};

/// The columns; others are left alone.
const COLUMNS: [(&str, DataType); 3] = [
    ("query_hash", DataType::FixedSizeBinary(16)),
    ("pos_hash", DataType::FixedSizeBinary(16)),
    ("score", DataType::Float32),
];

/// Takes a query hash, a hash of a positive, and their score.
pub(super) type Visit<'v> = dyn FnMut(&[u8], &[u8], f32) -> Result<()> + 'v;

/// Visits (query hash, positive hash, score) of every row; a score that is null is NaN.
///
/// # Errors
/// `Corpus` if the file is no Parquet file, lacks a column, or has one of another type or a hash that is null.
pub(super) fn visit(path: &Path, row: &mut Visit<'_>) -> Result<()> {
    let unreadable = |error: &dyn std::fmt::Display| {
        Error::corpus(path, None, format!("not a readable Parquet file of scores: {error}; hint: it may be cut short"))
    };
    let file = fs_err::File::open(path).map_err(Error::io(path, "open"))?.into_parts().0;
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(&error))?;
    check(path, builder.schema())?;
    let mask = ProjectionMask::columns(builder.parquet_schema(), COLUMNS.iter().map(|(name, _)| *name));
    let batches = builder.with_projection(mask).with_batch_size(8192).build().map_err(|error| unreadable(&error))?;
    let mut first = 1;
    for batch in batches {
        let batch = batch.map_err(|error| unreadable(&error))?;
        let [queries, positives] = [hashes(path, first, &batch, 0)?, hashes(path, first, &batch, 1)?];
        let scores = column(&batch, 2).as_primitive::<Float32Type>();
        for at in 0..batch.num_rows() {
            row(queries.value(at), positives.value(at), score(scores, at))?;
        }
        first += batch.num_rows() as u64;
    }
    Ok(())
}

fn check(path: &Path, schema: &Schema) -> Result<()> {
    for (name, expected) in COLUMNS {
        let message = match schema.field_with_name(name) {
            Ok(field) if *field.data_type() == expected => continue,
            Ok(field) => format!("column {name}: expected {expected}, found {}", field.data_type()),
            Err(_) => {
                let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
                format!("no column {name}; expected query_hash, pos_hash and score, found {}", names.join(", "))
            }
        };
        return Err(Error::corpus(path, None, message));
    }
    Ok(())
}

/// A column by its place in [`COLUMNS`]; `check` has seen that it is there.
fn column(batch: &RecordBatch, place: usize) -> &dyn Array {
    batch.column_by_name(COLUMNS[place].0).unwrap_or(&batch.columns()[0]).as_ref()
}

fn hashes<'a>(path: &Path, first: u64, batch: &'a RecordBatch, place: usize) -> Result<&'a FixedSizeBinaryArray> {
    let hashes = column(batch, place).as_fixed_size_binary();
    match (0..hashes.len()).find(|&at| hashes.is_null(at)) {
        Some(at) => Err(Error::corpus(path, Some(first + at as u64), format!("{} is null", COLUMNS[place].0))),
        None => Ok(hashes),
    }
}

fn score(scores: &Float32Array, at: usize) -> f32 {
    if scores.is_null(at) { f32::NAN } else { scores.value(at) }
}
