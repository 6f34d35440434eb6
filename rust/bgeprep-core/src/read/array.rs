//! Cuts one big JSON array into chunks of whole elements.

use std::sync::Arc;

use super::chunk::{Chunk, Data};
use super::container::Input;
use super::element::{End, Scanner};
use super::field::{HEAD_BYTES, head};
use super::roles::Layout;
use super::{ChunkReader, Format};
use crate::{Error, Result};

/// Reads the elements of a JSON array.
pub(super) struct ArrayReader {
    input: Input,
    layout: Arc<Layout>,
    scanner: Scanner,
    chunk_bytes: usize,
    /// Read, but not yet given out: the beginning of an element, scanned.
    pending: Vec<u8>,
    /// Number of the element that `pending` begins.
    element: u64,
    closed: bool,
}

impl ArrayReader {
    /// The input must stand at the opening bracket.
    pub(super) fn new(mut input: Input, layout: Arc<Layout>, chunk_bytes: usize) -> Self {
        let mut scanner = Scanner::default();
        let blank = input.peek().len() - input.peek().trim_ascii_start().len();
        scanner.next(b"[", 0);
        input.skip(blank + 1);
        Self { input, layout, scanner, chunk_bytes, pending: Vec::new(), element: 1, closed: false }
    }

    /// Behind the closing bracket only white space may follow.
    fn finish(&mut self, rest: &[u8]) -> Result<()> {
        self.closed = true;
        let (mut rest, mut more) = (rest.to_vec(), true);
        loop {
            if !rest.trim_ascii().is_empty() {
                return Err(self.broken("expected the end of the file behind the array, found more"));
            }
            if !more {
                return Ok(());
            }
            rest.clear();
            more = self.input.fill(&mut rest, self.chunk_bytes)?;
        }
    }

    fn broken(&self, message: &str) -> Error {
        Error::corpus(self.input.path(), Some(self.element), message)
    }

    /// Passes over an element that is too long to be kept: only its beginning and its number stay.
    fn skip_long(&mut self, begun: &[u8]) -> Result<Chunk> {
        let line = self.element;
        let mut kept = begun[..begun.len().min(HEAD_BYTES)].to_vec();
        loop {
            let mut block = Vec::new();
            let more = self.input.fill(&mut block, self.chunk_bytes)?;
            let end = self.scanner.next(&block, 0);
            let at = match end {
                Some(End::Comma(at) | End::Close(at)) => at,
                None => block.len(),
            };
            kept.extend_from_slice(&block[..at.min(HEAD_BYTES.saturating_sub(kept.len()))]);
            match end {
                Some(End::Comma(at)) => {
                    self.element += 1;
                    // Put back unscanned: the scanner stands right behind the comma.
                    self.input.unread(block.split_off(at + 1));
                    break;
                }
                Some(End::Close(at)) => {
                    self.element += 1;
                    self.finish(&block[at + 1..])?;
                    break;
                }
                None if !more => return Err(self.broken(NOT_CLOSED)),
                None => {}
            }
        }
        Ok(Chunk::new(&self.layout, Data::Long { line, head: head(&kept) }))
    }
}

const NOT_CLOSED: &str =
    "the JSON array is not closed by the end of the file: it is cut short in this element; hint: fetch the file again";

impl ChunkReader for ArrayReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.closed {
            return Ok(None);
        }
        let first = self.element;
        let mut bytes = std::mem::take(&mut self.pending);
        let (mut spans, mut start, mut scanned) = (Vec::new(), 0, bytes.len());
        let mut target = self.chunk_bytes.max(bytes.len());
        loop {
            let more = self.input.fill(&mut bytes, target)?;
            let mut close = None;
            while let Some(end) = self.scanner.next(&bytes, scanned) {
                let (End::Comma(at) | End::Close(at)) = end;
                let empty = bytes[start..at].trim_ascii().is_empty();
                let array_is_empty = empty && self.element == 1 && matches!(end, End::Close(_));
                if !array_is_empty {
                    spans.push((start, at));
                    self.element += 1;
                }
                (start, scanned) = (at + 1, at + 1);
                if matches!(end, End::Close(_)) {
                    close = Some(at);
                    break;
                }
            }
            if let Some(at) = close {
                let rest = bytes.split_off(at + 1);
                self.finish(&rest)?;
                let chunk = Chunk::new(&self.layout, Data::Elements { bytes, spans, first });
                return Ok(Some(chunk));
            }
            scanned = bytes.len();
            if !more {
                return Err(self.broken(NOT_CLOSED));
            }
            if !spans.is_empty() {
                self.pending = bytes.split_off(start);
                return Ok(Some(Chunk::new(&self.layout, Data::Elements { bytes, spans, first })));
            }
            let blank = bytes.len() - bytes.trim_ascii_start().len();
            bytes.drain(..blank);
            scanned -= blank;
            if bytes.len() > self.layout.max_line_bytes {
                return self.skip_long(&bytes).map(Some);
            }
            target = bytes.len() + self.chunk_bytes;
        }
    }

    fn format(&self) -> Format {
        Format::JsonArray
    }

    fn bytes_read(&self) -> u64 {
        self.input.consumed()
    }
}
