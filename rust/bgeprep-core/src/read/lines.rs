//! Cuts JSONL, CSV, TSV and plain text into chunks of whole records.

use std::sync::Arc;

use super::chunk::{Chunk, Data};
use super::container::Input;
use super::csv::strip_line_end;
use super::field::{HEAD_BYTES, head};
use super::quotes::Scanner;
use super::roles::Layout;
use super::txt::{BlankLines, Cut};
use super::{ChunkReader, Format};
use crate::{Error, Result};

/// Where a record ends.
#[derive(Debug)]
pub(super) enum Ends {
    /// At every line end.
    Lines,
    /// At line ends outside quotes.
    Quotes(Scanner),
    /// Behind every blank line.
    BlankLines(BlankLines),
    /// At the end of the file alone.
    File,
}

impl Ends {
    /// The place behind the first record end; `None` takes all bytes in.
    fn first(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => memchr::memchr(b'\n', bytes).map(|at| at + 1),
            Self::Quotes(scanner) => scanner.record_end(bytes),
            Self::BlankLines(blank) => blank.record_end(bytes),
            Self::File => None,
        }
    }

    /// The place behind the last record end; takes all bytes in.
    fn last(&mut self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => memchr::memrchr(b'\n', bytes).map(|at| at + 1),
            Self::File => None,
            Self::Quotes(_) | Self::BlankLines(_) => {
                let mut last = None;
                while let Some(end) = self.first(&bytes[last.unwrap_or(0)..]) {
                    last = Some(last.unwrap_or(0) + end);
                }
                last
            }
        }
    }

    fn is_open(&self) -> bool {
        match self {
            Self::Lines | Self::BlankLines(_) | Self::File => false,
            Self::Quotes(scanner) => scanner.is_open(),
        }
    }
}

/// Reads records that end where a line does.
pub(super) struct LineReader {
    input: Input,
    layout: Arc<Layout>,
    format: Format,
    ends: Ends,
    chunk_bytes: usize,
    /// Read, but not yet given out; the first `scanned` bytes are known to hold no record end.
    pending: Vec<u8>,
    scanned: usize,
    /// Number of the line at which `pending` starts.
    line: u64,
}

impl LineReader {
    /// `line` is the number of the line at which the input now stands.
    pub(super) fn new(input: Input, layout: Arc<Layout>, format: Format, line: u64, chunk_bytes: usize) -> Self {
        let ends = match format {
            Format::Txt if layout.cut == Cut::Paragraph => Ends::BlankLines(BlankLines::default()),
            Format::Txt if layout.cut == Cut::Document => Ends::File,
            Format::Csv | Format::Tsv if layout.quoting => Ends::Quotes(Scanner::new(layout.delimiter)),
            _ => Ends::Lines,
        };
        Self { input, layout, format, ends, chunk_bytes, pending: Vec::new(), scanned: 0, line }
    }

    /// Passes over a record that is too long to be kept: only its beginning and its number stay.
    fn skip_long(&mut self, begun: &[u8]) -> Result<Chunk> {
        let line = self.line;
        let mut kept = begun[..begun.len().min(HEAD_BYTES)].to_vec();
        let mut blank = begun.trim_ascii().is_empty();
        self.line += line_breaks(begun);
        loop {
            let mut block = Vec::new();
            let more = self.input.fill(&mut block, self.chunk_bytes)?;
            let end = self.ends.first(&block);
            let record = &block[..end.unwrap_or(block.len())];
            self.line += line_breaks(record);
            blank &= record.trim_ascii().is_empty();
            kept.extend_from_slice(&record[..record.len().min(HEAD_BYTES.saturating_sub(kept.len()))]);
            if let Some(end) = end {
                block.drain(..end);
                (self.pending, self.scanned) = (block, 0);
                break;
            }
            if !more {
                self.refuse_open_quote(line)?;
                break;
            }
        }
        // A blank line is no record, however long.
        if blank {
            return Ok(Chunk::new(&self.layout, Data::Lines { bytes: Vec::new(), first: line }));
        }
        Ok(Chunk::new(&self.layout, Data::Long { line, head: head(strip_line_end(&kept)) }))
    }

    fn refuse_open_quote(&self, line: u64) -> Result<()> {
        if !self.ends.is_open() {
            return Ok(());
        }
        let message = "a quoted field that starts in this record or a later one is not closed by the end of the file; hint: if quotes are plain text here, set quoting = false";
        Err(Error::corpus(self.input.path(), Some(line), message))
    }

    fn chunk(&mut self, bytes: Vec<u8>) -> Chunk {
        let first = self.line;
        self.line += line_breaks(&bytes);
        let data = match self.format {
            Format::Jsonl => Data::Lines { bytes, first },
            Format::Txt => Data::Text { bytes, first },
            _ => Data::Csv { bytes, first },
        };
        Chunk::new(&self.layout, data)
    }
}

impl ChunkReader for LineReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        let mut buffer = std::mem::take(&mut self.pending);
        let mut scanned = std::mem::take(&mut self.scanned);
        let mut target = self.chunk_bytes.max(buffer.len());
        loop {
            let more = self.input.fill(&mut buffer, target)?;
            let end = self.ends.last(&buffer[scanned..]).map(|end| scanned + end);
            scanned = buffer.len();
            if !more {
                if buffer.is_empty() {
                    return Ok(None);
                }
                let open = self.line + line_breaks(&buffer[..end.unwrap_or(0)]);
                self.refuse_open_quote(open)?;
                return Ok(Some(self.chunk(buffer)));
            }
            if let Some(end) = end {
                self.pending = buffer[end..].to_vec();
                self.scanned = self.pending.len();
                buffer.truncate(end);
                return Ok(Some(self.chunk(buffer)));
            }
            // Two bytes of grace for the line end, which is no part of the length.
            if buffer.len() > self.layout.max_line_bytes.saturating_add(2) {
                return self.skip_long(&buffer).map(Some);
            }
            target = buffer.len() + self.chunk_bytes;
        }
    }

    fn format(&self) -> Format {
        self.format
    }

    fn bytes_read(&self) -> u64 {
        self.input.consumed()
    }
}

fn line_breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}
