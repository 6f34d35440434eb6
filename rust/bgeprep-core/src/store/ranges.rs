//! An object as a stream of bytes: ranges are asked for a few ahead and handed out in order.

use std::collections::VecDeque;
use std::io::{self, Read};
use std::ops::Range;
use std::sync::Arc;

use super::engine::{Engine, Ticket};
use super::failure::{Failure, Kind};
use super::retry::{Patience, Pending};
use crate::Error;

/// Bytes of the first range. What a format is told by fits in, so a file that is then fetched in another way, or not
/// at all, has cost one small request.
pub(super) const FIRST_BYTES: u64 = 256 << 10;

/// Bytes of every further range.
pub(super) const BLOCK_BYTES: u64 = 2 << 20;

/// Ranges asked for before they are needed; with the one being read they are all that is in memory.
pub(super) const AHEAD: usize = 2;

/// One answer: the bytes, and what the server says of the whole object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Piece {
    pub(super) bytes: Vec<u8>,
    pub(super) size: u64,
    pub(super) etag: Option<String>,
}

/// Where ranges come from: a store, or a test.
pub(super) trait Ranges: Send + Sync + 'static {
    /// One request for one range.
    fn get(&self, range: Range<u64>) -> Pending<Piece>;
}

/// What the listing said of an object; all its pieces have to agree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) place: String,
    pub(super) size: u64,
    pub(super) etag: Option<String>,
}

impl Listed {
    /// Whether a piece is all of the range that was asked for, and of this very object.
    pub(super) fn check(&self, range: &Range<u64>, piece: Piece) -> Result<Vec<u8>, Failure> {
        if piece.size != self.size {
            let detail = format!("expected {} bytes as listed, found {}", self.size, piece.size);
            return Err(Failure::new(Kind::Changed, detail));
        }
        if let (Some(listed), Some(found)) = (&self.etag, &piece.etag)
            && listed != found
        {
            return Err(Failure::new(Kind::Changed, format!("expected the etag {listed} as listed, found {found}")));
        }
        let (expected, found) = (range.end - range.start, piece.bytes.len() as u64);
        if found != expected {
            return Err(Failure::new(Kind::Passing, format!("expected {expected} bytes of a range, found {found}")));
        }
        Ok(piece.bytes)
    }
}

/// Reads an object from its start to its end.
pub(super) struct RangeReader {
    ranges: Arc<dyn Ranges>,
    engine: Arc<Engine>,
    patience: Patience,
    listed: Arc<Listed>,
    /// First byte nobody has asked for yet.
    next: u64,
    waiting: VecDeque<Ticket<Result<Vec<u8>, Failure>>>,
    block: Vec<u8>,
    given: usize,
    /// Why a range was not had, for good: reading on would leave a hole. The same words each time, because another
    /// thread that shares the reader may be the one that is heard.
    failed: Option<String>,
}

impl RangeReader {
    pub(super) fn new(ranges: Arc<dyn Ranges>, engine: Arc<Engine>, patience: Patience, listed: Listed) -> Self {
        let (listed, waiting) = (Arc::new(listed), VecDeque::new());
        Self { ranges, engine, patience, listed, next: 0, waiting, block: Vec::new(), given: 0, failed: None }
    }

    fn ask(&mut self) {
        let length = if self.next == 0 { FIRST_BYTES } else { BLOCK_BYTES };
        let range = self.next..self.listed.size.min(self.next + length);
        self.next = range.end;
        let (ranges, listed, patience) = (Arc::clone(&self.ranges), Arc::clone(&self.listed), self.patience);
        self.waiting.push_back(self.engine.submit(patience.attempt(move || {
            let (answer, listed, range) = (ranges.get(range.clone()), Arc::clone(&listed), range.clone());
            Box::pin(async move { listed.check(&range, answer.await?) })
        })));
    }

    /// The next range in order, None at the end of the object.
    fn next_block(&mut self) -> crate::Result<Option<Vec<u8>>> {
        // Only the first range is asked for alone.
        let most = if self.next == 0 { 1 } else { AHEAD + 1 };
        while self.next < self.listed.size && self.waiting.len() < most {
            self.ask();
        }
        let Some(ticket) = self.waiting.pop_front() else { return Ok(None) };
        ticket.wait()?.map(Some).map_err(|failure| failure.at(&self.listed.place))
    }
}

impl Read for RangeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(message) = &self.failed {
            return Err(io::Error::other(Error::store(&self.listed.place, message)));
        }
        if self.given == self.block.len() {
            // Gone before the next ones come: what is held is what the constants above say.
            (self.block, self.given) = (Vec::new(), 0);
            match self.next_block() {
                Ok(block) => self.block = block.unwrap_or_default(),
                Err(error) => {
                    self.failed = Some(match &error {
                        Error::Store { message, .. } => message.clone(),
                        error => error.to_string(),
                    });
                    self.waiting.clear();
                    return Err(io::Error::other(error));
                }
            }
        }
        let read = (&self.block[self.given..]).read(buffer)?;
        self.given += read;
        Ok(read)
    }
}
