//! The bytes inside a file: compression is seen by its magic bytes and taken off.

use std::io::{BufReader, Cursor, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;

use crate::store::Location;
use crate::{Error, Result};

/// Bytes that are looked at to find the format of a file.
pub(super) const SNIFF_BYTES: usize = 256 << 10;

/// How a file is compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
    Bzip2,
}

impl Compression {
    fn name(self) -> &'static str {
        match self {
            Self::None => "plain",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
            Self::Bzip2 => "bzip2",
        }
    }

    fn of(head: &[u8]) -> Self {
        match head {
            [0x1f, 0x8b, ..] => Self::Gzip,
            // A frame, or one of the sixteen kinds of skippable frames (as `pzstd` puts first).
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            [b'B', b'Z', b'h', b'1'..=b'9', ..] => Self::Bzip2,
            _ => Self::None,
        }
    }
}

/// A file as a stream of uncompressed bytes.
pub(super) struct Input {
    path: PathBuf,
    compression: Compression,
    reader: Box<dyn Read + Send>,
    /// Bytes that were looked at but not yet handed out, from `given` on.
    peeked: Vec<u8>,
    given: usize,
    ended: bool,
    consumed: Arc<AtomicU64>,
}

impl Input {
    /// Opens a file or object and looks at its first bytes.
    pub(super) fn open(from: &Location) -> Result<Self> {
        let path = &from.path();
        let consumed = Arc::new(AtomicU64::new(0));
        let counted = Counted { file: from.open()?, consumed: Arc::clone(&consumed) };
        let mut file = BufReader::with_capacity(SNIFF_BYTES, counted);
        let mut magic = Vec::new();
        file.by_ref().take(8).read_to_end(&mut magic).map_err(Error::io(path, "read"))?;
        let compression = Compression::of(&magic);
        refuse_archives(path, &magic)?;
        let whole = Cursor::new(magic).chain(file);
        let reader: Box<dyn Read + Send> = match compression {
            Compression::None => Box::new(whole),
            Compression::Gzip => Box::new(MultiGzDecoder::new(whole)),
            Compression::Zstd => Box::new(zstd::Decoder::new(whole).map_err(Error::io(path, "read"))?),
            Compression::Bzip2 => Box::new(MultiBzDecoder::new(whole)),
        };
        let (peeked, path) = (Vec::new(), path.to_owned());
        let mut input = Self { path, compression, reader, peeked, given: 0, ended: false, consumed };
        let mut peeked = Vec::new();
        input.fill(&mut peeked, SNIFF_BYTES)?;
        input.peeked = peeked;
        Ok(input)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn compression(&self) -> Compression {
        self.compression
    }

    /// The first bytes, at most `SNIFF_BYTES`, less those that were skipped.
    pub(super) fn peek(&self) -> &[u8] {
        &self.peeked[self.given..]
    }

    /// Whether `peek` shows all there is.
    pub(super) fn is_peeked_whole(&self) -> bool {
        self.ended
    }

    /// Drops bytes that were peeked at.
    pub(super) fn skip(&mut self, bytes: usize) {
        self.given = self.peeked.len().min(self.given.saturating_add(bytes));
    }

    /// Gives bytes back, to be handed out again first.
    pub(super) fn unread(&mut self, mut bytes: Vec<u8>) {
        bytes.extend_from_slice(&self.peeked[self.given..]);
        (self.peeked, self.given) = (bytes, 0);
    }

    /// Bytes of the file (compressed) read so far.
    pub(super) fn consumed(&self) -> u64 {
        self.consumed.load(Ordering::Relaxed)
    }

    pub(super) fn consumed_counter(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.consumed)
    }

    /// Appends to `buffer` until it holds `target` bytes or the input ends; whether there may be
    /// more.
    ///
    /// # Errors
    /// `Error::Corpus` if the compressed data is damaged or cut short.
    pub(super) fn fill(&mut self, buffer: &mut Vec<u8>, target: usize) -> Result<bool> {
        let room = target.saturating_sub(buffer.len());
        let ready = room.min(self.peeked.len() - self.given);
        buffer.extend_from_slice(&self.peeked[self.given..self.given + ready]);
        self.given += ready;
        if self.given == self.peeked.len() && self.given > 0 {
            (self.peeked, self.given) = (Vec::new(), 0);
        }
        let room = room - ready;
        if !self.ended && room > 0 {
            buffer.reserve(room);
            let read = self.reader.by_ref().take(room as u64).read_to_end(buffer);
            let read = read.map_err(|error| damaged(&self.path, self.compression, error))?;
            self.ended = read < room;
        }
        Ok(!self.ended || self.given < self.peeked.len())
    }
}

impl Read for Input {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given < self.peeked.len() {
            let read = (&self.peeked[self.given..]).read(buffer)?;
            self.given += read;
            return Ok(read);
        }
        self.reader.read(buffer)
    }
}

/// Counts what is read from the file or object itself, for the progress bar.
struct Counted {
    file: Box<dyn Read + Send>,
    consumed: Arc<AtomicU64>,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.consumed.fetch_add(read as u64, Ordering::Relaxed);
        Ok(read)
    }
}

fn damaged(path: &Path, compression: Compression, error: std::io::Error) -> Error {
    // Decoders make their own errors; those of the system carry a number, those of a store one of ours.
    let is_ours = error.get_ref().is_some_and(<dyn std::error::Error + Send + Sync>::is::<Error>);
    if compression == Compression::None || error.raw_os_error().is_some() || is_ours {
        return Error::io(path, "read")(error);
    }
    let how = if error.kind() == std::io::ErrorKind::UnexpectedEof { "is cut short" } else { "is damaged" };
    Error::corpus(path, None, format!("the {} data {how} ({error}); hint: fetch the file again", compression.name()))
}

fn refuse_archives(path: &Path, magic: &[u8]) -> Result<()> {
    let name = match magic {
        [b'P', b'K', 3 | 5, 4 | 6, ..] => "a zip archive",
        [b'7', b'z', 0xbc, 0xaf, ..] => "a 7z archive",
        [0xfd, b'7', b'z', b'X', b'Z', ..] => "compressed with xz",
        _ => return Ok(()),
    };
    let message = format!("{name}, which is not read; hint: unpack it, or compress with gzip, zstd or bzip2");
    Err(Error::corpus(path, None, message))
}
