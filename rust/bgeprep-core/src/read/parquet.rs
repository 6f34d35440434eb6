//! Parquet files.

use std::path::Path;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::errors::ParquetError;
use parquet::file::metadata::RowGroupMetaData;

use super::arrow::{BatchReader, Position};
use super::roles::Layout;
use super::{ChunkReader, Format};
use crate::store::Location;
use crate::{Error, Result};

/// Opens a Parquet file. All columns are read, since those that play no role are counted.
pub(super) fn open(from: &Location, layout: Layout, chunk_bytes: usize) -> Result<Box<dyn ChunkReader>> {
    let path = &from.path();
    let file = from.file()?;
    let bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(|error| unreadable(path, &error))?;
    let metadata = builder.metadata();
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or(0);
    let unpacked: i64 = metadata.row_groups().iter().map(RowGroupMetaData::total_byte_size).sum();
    let row_bytes = (u64::try_from(unpacked).unwrap_or(0) / rows.max(1)).max(1);
    let batch_rows = (chunk_bytes as u64 / row_bytes).clamp(1, 8192) as usize;
    let reader = builder.with_batch_size(batch_rows).build().map_err(|error| unreadable(path, &error))?;
    let position = Position::Rows { rows, bytes };
    Ok(Box::new(BatchReader::new(Box::new(reader), layout, Format::Parquet, position, chunk_bytes)?))
}

fn unreadable(path: &Path, error: &ParquetError) -> Error {
    Error::corpus(path, None, format!("not a readable Parquet file: {error}; hint: it may be cut short"))
}
