//! An Arrow stream becomes a file, so that it can be read again after a kill and in parallel.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use arrow_array::RecordBatchReader;
use arrow_ipc::writer::FileWriter;

use crate::progress::Progress;
use crate::{Error, Result};

/// Writes all batches of `reader` to an Arrow IPC file; returns the number of rows.
///
/// # Errors
/// `Corpus` if the stream breaks off; `Io` if the disk refuses; `Interrupted` on cancel.
pub fn spool(reader: Box<dyn RecordBatchReader + Send>, path: &Path, progress: &Progress) -> Result<u64> {
    let broken = |error: arrow_schema::ArrowError| Error::corpus(path, None, format!("Arrow stream: {error}"));
    let file = BufWriter::new(File::create(path).map_err(Error::io(path, "write"))?);
    let mut writer = FileWriter::try_new(file, &reader.schema()).map_err(broken)?;
    let mut rows = 0;
    for batch in reader {
        progress.check()?;
        let batch = batch.map_err(broken)?;
        rows += batch.num_rows() as u64;
        writer.write(&batch).map_err(broken)?;
    }
    writer.finish().map_err(broken)?;
    Ok(rows)
}
