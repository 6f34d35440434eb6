//! Lines of a text file, whatever it is compressed with: for files that are no pairs.

use std::path::Path;

use super::container::Input;
use crate::{Error, Result};

/// Bytes read at a time.
const BLOCK: usize = 1 << 20;

/// Longest line.
const MAX_LINE: usize = 64 << 20;

/// Reads a file line by line.
pub struct TextLines {
    input: Input,
    buffer: Vec<u8>,
    /// Where the next line starts in `buffer`.
    at: usize,
    line: u64,
    more: bool,
}

impl TextLines {
    /// Opens a file, compressed or not.
    ///
    /// # Errors
    /// `Io` if it cannot be opened, `Corpus` if it is damaged or an archive.
    pub fn open(path: &Path) -> Result<Self> {
        Ok(Self { input: Input::open(&path.into())?, buffer: Vec::new(), at: 0, line: 0, more: true })
    }

    /// The next line that is not blank, without white space around it, and its number from 1.
    ///
    /// # Errors
    /// `Corpus` with the line if it is not UTF-8 or longer than 64 MiB.
    pub fn next_line(&mut self) -> Result<Option<(u64, &str)>> {
        loop {
            let Some(range) = self.cut()? else { return Ok(None) };
            self.line += 1;
            let from = if self.line == 1 && self.buffer[range.clone()].starts_with(b"\xef\xbb\xbf") { 3 } else { 0 };
            let bytes = range.start + from..range.end;
            if self.buffer[bytes.clone()].trim_ascii().is_empty() {
                continue;
            }
            let line = self.line;
            let text = simdutf8::basic::from_utf8(&self.buffer[bytes])
                .map_err(|_| Error::corpus(self.input.path(), Some(line), "expected UTF-8, found other bytes"))?;
            return Ok(Some((line, text.trim())));
        }
    }

    /// The place of the next line in the buffer, without its line end.
    fn cut(&mut self) -> Result<Option<std::ops::Range<usize>>> {
        let mut scanned = self.at;
        loop {
            if let Some(end) = memchr::memchr(b'\n', &self.buffer[scanned..]) {
                let range = self.at..scanned + end;
                self.at = range.end + 1;
                return Ok(Some(range));
            }
            if !self.more {
                let range = self.at..self.buffer.len();
                self.at = range.end;
                return Ok((!range.is_empty()).then_some(range));
            }
            self.buffer.drain(..self.at);
            self.at = 0;
            scanned = self.buffer.len();
            if scanned > MAX_LINE {
                let message = format!("expected lines of at most {} MiB, found a longer one", MAX_LINE >> 20);
                return Err(Error::corpus(self.input.path(), Some(self.line + 1), message));
            }
            self.more = self.input.fill(&mut self.buffer, scanned + BLOCK)?;
        }
    }
}

impl std::fmt::Debug for TextLines {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_struct("TextLines")
            .field("path", &self.input.path())
            .field("line", &self.line)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn lines(bytes: &[u8]) -> Result<Vec<(u64, String)>> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        fs_err::write(&path, bytes).expect("write");
        let mut lines = TextLines::open(&path)?;
        let mut found = Vec::new();
        while let Some((number, text)) = lines.next_line()? {
            found.push((number, text.to_owned()));
        }
        Ok(found)
    }

    #[test]
    fn blank_lines_count_and_do_not_come() {
        let expected = [(1, "one".to_owned()), (3, "zwei 二".to_owned()), (4, "last".to_owned())];
        let text = "\u{feff}one\r\n \n\tzwei 二 \nlast".as_bytes();
        assert_eq!(lines(text).expect("lines"), expected);
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packed.write_all(text).expect("gzip");
        assert_eq!(lines(&packed.finish().expect("gzip")).expect("lines"), expected);
        assert!(lines(b"").expect("lines").is_empty());
    }

    #[test]
    fn a_line_longer_than_a_block_is_one_line() {
        let long = "x".repeat(3 * BLOCK + 5);
        let found = lines(format!("{long}\nshort\n").as_bytes()).expect("lines");
        assert_eq!(
            found.iter().map(|(number, text)| (*number, text.len())).collect::<Vec<_>>(),
            [(1, long.len()), (2, 5)]
        );
    }

    #[test]
    fn other_bytes_are_named_with_their_line() {
        let error = lines(b"good\n\xff\xfe\n").expect_err("no UTF-8").to_string();
        assert!(error.contains(":2: expected UTF-8"), "{error}");
    }
}
