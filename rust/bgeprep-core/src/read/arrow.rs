//! Arrow: IPC files, IPC streams and record batches that another library hands over.

use std::io::BufReader;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::ArrowError;

use super::chunk::{Chunk, Data};
use super::container::Input;
use super::roles::Layout;
use super::{ChunkReader, Format, ReadOptions, detect, ipc_guard, table, tabular};
use crate::store::Location;
use crate::{Error, Result};

/// How the progress bar learns where the reader is.
pub(super) enum Position {
    /// Bytes that went through a counter.
    Counted(Arc<AtomicU64>),
    /// Rows done out of all rows, as a share of the file's bytes.
    Rows { rows: u64, bytes: u64 },
    /// Batches done out of all batches, as a share of the file's bytes.
    Batches { batches: u64, bytes: u64 },
    /// Not known.
    None,
}

/// Reads record batches and cuts large ones.
pub(super) struct BatchReader {
    batches: Box<dyn RecordBatchReader + Send>,
    layout: Arc<Layout>,
    format: Format,
    position: Position,
    chunk_bytes: usize,
    /// What is left of the last batch, and the rows of it that make a chunk.
    rest: Option<(RecordBatch, usize)>,
    /// Number of the next row.
    row: u64,
    done: u64,
}

impl BatchReader {
    /// Checks the schema against the roles.
    pub(super) fn new(
        batches: Box<dyn RecordBatchReader + Send>,
        layout: Layout,
        format: Format,
        position: Position,
        chunk_bytes: usize,
    ) -> Result<Self> {
        let schema = batches.schema();
        let examples = schema.fields().iter().map(|field| (field.name().as_str(), table::example(field.data_type())));
        tabular::check(&layout, examples)?;
        let layout = Arc::new(layout);
        Ok(Self { batches, layout, format, position, chunk_bytes, rest: None, row: 1, done: 0 })
    }

    fn broken(&self, error: ArrowError) -> Error {
        match error {
            ArrowError::IoError(_, source) if is_ours(&source) => Error::io(&self.layout.path, "read")(source),
            ArrowError::ExternalError(source) if source.is::<Error>() => {
                Error::corpus(&self.layout.path, Some(self.row), source.to_string())
            }
            error => {
                let message = format!("the {} data cannot be read: {error}", self.format.name());
                Error::corpus(&self.layout.path, Some(self.row), message)
            }
        }
    }
}

impl ChunkReader for BatchReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        while self.rest.is_none() {
            let batches = &mut self.batches;
            let Some(batch) = unbroken(|| batches.next().transpose()).transpose() else { return Ok(None) };
            let batch = batch.map_err(|error| self.broken(error))?;
            self.done += 1;
            let rows = batch.num_rows();
            if rows > 0 {
                let bytes = batch.get_array_memory_size().max(1);
                let share = (rows as u128 * self.chunk_bytes as u128 / bytes as u128) as usize;
                self.rest = Some((batch, share.clamp(1, rows)));
            }
        }
        let Some((batch, share)) = self.rest.take() else { return Ok(None) };
        let rows = share.min(batch.num_rows());
        let (piece, left) = (batch.slice(0, rows), batch.num_rows() - rows);
        if left > 0 {
            self.rest = Some((batch.slice(rows, left), share));
        }
        let first = self.row;
        self.row += rows as u64;
        Ok(Some(Chunk::new(&self.layout, Data::Rows { batch: piece, first })))
    }

    fn format(&self) -> Format {
        self.format
    }

    fn bytes_read(&self) -> u64 {
        let share = |done: u64, all: u64, bytes: u64| {
            (u128::from(done.min(all)) * u128::from(bytes)).checked_div(u128::from(all)).unwrap_or(0) as u64
        };
        match &self.position {
            Position::Counted(bytes) => bytes.load(Ordering::Relaxed),
            Position::Rows { rows, bytes } => share(self.row - 1, *rows, *bytes),
            Position::Batches { batches, bytes } => share(self.done, *batches, *bytes),
            Position::None => 0,
        }
    }
}

/// An IPC file (the form with a footer).
pub(super) fn open_file(from: &Location, layout: Layout, chunk_bytes: usize) -> Result<Box<dyn ChunkReader>> {
    let path = &from.path();
    let mut file = from.file()?;
    let checked = ipc_guard::check_file(&mut file).map_err(Error::io(path, "read"))?;
    checked.map_err(|problem| unreadable(path, ArrowError::IpcError(problem)))?;
    let bytes = file.metadata().map_err(Error::io(path, "read"))?.len();
    let reader = unbroken(|| FileReader::try_new(BufReader::new(file), None));
    let reader = reader.map_err(|error| unreadable(path, error))?;
    let position = Position::Batches { batches: reader.num_batches() as u64, bytes };
    Ok(Box::new(BatchReader::new(Box::new(reader), layout, Format::Arrow, position, chunk_bytes)?))
}

/// An IPC stream, as Hugging Face `save_to_disk` writes it; may lie in a compressed file.
pub(super) fn open_ipc_stream(input: Input, layout: Layout, chunk_bytes: usize) -> Result<Box<dyn ChunkReader>> {
    let position = Position::Counted(input.consumed_counter());
    let path = layout.path.clone();
    let input = BufReader::new(ipc_guard::Guarded::new(input));
    let reader = unbroken(|| StreamReader::try_new(input, None)).map_err(|error| unreadable(&path, error))?;
    Ok(Box::new(BatchReader::new(Box::new(reader), layout, Format::Arrow, position, chunk_bytes)?))
}

/// Record batches from another library.
pub(super) fn from_batches(
    reader: Box<dyn RecordBatchReader + Send>,
    name: &str,
    options: &ReadOptions,
) -> Result<Box<dyn ChunkReader>> {
    let layout = detect::layout(Path::new(name), options);
    let reader = BatchReader::new(reader, layout, Format::Arrow, Position::None, options.chunk_bytes)?;
    Ok(Box::new(reader))
}

/// What `ipc_guard` does not see, the arrow crates answer with a panic: that too is the file's fault, and no reason to
/// end the process. The reader is not used again after an error.
fn unbroken<T>(read: impl FnOnce() -> Result<T, ArrowError>) -> Result<T, ArrowError> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str).or_else(|| panic.downcast_ref().copied());
        Err(ArrowError::IpcError(format!("it contradicts itself: {}", said.unwrap_or("no word of where"))))
    })
}

fn unreadable(path: &Path, error: ArrowError) -> Error {
    let error = match error {
        ArrowError::IoError(_, source) if is_ours(&source) => return Error::io(path, "read")(source),
        error => error,
    };
    Error::corpus(path, None, format!("not a readable Arrow file: {error}; hint: it may be cut short"))
}

/// Whether a stream from a store broke: that is no fault of the data.
fn is_ours(error: &std::io::Error) -> bool {
    error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>)
}
