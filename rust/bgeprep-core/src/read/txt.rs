//! Plain text: what of a file is one document.
//!
//! A blank line is one of nothing but ASCII white space. Under [`Cut::Paragraph`] every blank line ends a record,
//! so that a run of them ends one record and several empty ones, which are none.

use std::path::Path;

use super::chunk::{Checked, Visit};
use super::roles::Columns;
use super::{Body, Record};
use crate::pair::{RawPair, SetKind};
use crate::{Error, Result};

/// Bytes without a blank line from which a file says nothing of where its documents end.
const TELLING_BYTES: usize = 64 << 10;

/// What of a text file is one document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cut {
    /// The lines between two blank lines.
    Paragraph,
    /// The whole file.
    Document,
    /// Each line.
    Line,
}

impl Cut {
    /// All cuts, as a config may name them.
    pub const ALL: [Self; 3] = [Self::Paragraph, Self::Document, Self::Line];

    /// The name used in configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Paragraph => "paragraph",
            Self::Document => "document",
            Self::Line => "line",
        }
    }

    /// The cut of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|cut| cut.name() == name)
    }
}

/// Finds blank lines in text that comes in pieces.
#[derive(Debug, Clone, Default)]
pub(super) struct BlankLines {
    /// Whether the line so far holds something.
    filled: bool,
}

impl BlankLines {
    /// The place behind the first blank line in `bytes`; `None` takes all of `bytes` in.
    pub(super) fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        while let Some(at) = memchr::memchr(b'\n', &bytes[from..]) {
            let blank = !self.filled && bytes[from..from + at].trim_ascii().is_empty();
            self.filled = false;
            from += at + 1;
            if blank {
                return Some(from);
            }
        }
        self.filled |= !bytes[from..].trim_ascii().is_empty();
        None
    }
}

/// The cut of a file that the user said nothing about: by blank lines, if it has any where it begins.
///
/// # Errors
/// `Error::Corpus` for many lines without a blank one: they may be one document or as many as there are lines, and a
/// guess would train on the wrong ones without a word.
pub(super) fn settle(path: &Path, text: &str) -> Result<Cut> {
    let lines = text.trim_ascii_end().lines().count();
    if lines > 1 && text.len() >= TELLING_BYTES && BlankLines::default().record_end(text.as_bytes()).is_none() {
        let message = format!(
            "plain text without a blank line in its first {} KiB, expected documents between blank lines; \
             hint: say what is one document, as cut = \"line\", cut = \"document\" or cut = \"paragraph\"",
            TELLING_BYTES >> 10
        );
        return Err(Error::corpus(path, None, message));
    }
    Ok(Cut::Paragraph)
}

/// Hands over the documents of whole records; `first` is the number of the first line.
pub(super) fn records(bytes: &[u8], first: u64, columns: &Columns<'_>, visit: &mut Visit<'_>) -> Result<()> {
    let checked = Checked::new(bytes, columns.layout.max_line_bytes);
    let mut blank_lines = BlankLines::default();
    let (mut line, mut from) = (first, 0);
    while from < bytes.len() {
        let rest = &bytes[from..];
        let end = match columns.layout.cut {
            Cut::Paragraph => blank_lines.record_end(rest),
            Cut::Line => memchr::memchr(b'\n', rest).map(|at| at + 1),
            Cut::Document => None,
        };
        let end = end.map_or(bytes.len(), |end| from + end);
        let record = &bytes[from..end];
        let text = record.trim_ascii();
        if !text.is_empty() {
            // Blank lines may stand before a document's first line.
            let before = record.len() - record.trim_ascii_start().len();
            let start = from + before;
            let body = match checked.get(start, start + text.len()) {
                Ok(text) => Body::Pair(RawPair { kind: SetKind::Text, pos: vec![text.into()], ..RawPair::default() }),
                Err(bad) => *bad,
            };
            visit(Record::new(line + line_breaks(&record[..before]), body))?;
        }
        line += line_breaks(record);
        from = end;
    }
    Ok(())
}

fn line_breaks(bytes: &[u8]) -> u64 {
    memchr::memchr_iter(b'\n', bytes).count() as u64
}

#[cfg(test)]
mod tests {
    use super::Cut;
    use crate::read::testing::{Owned, options, read_bytes};
    use crate::read::{Format, ReadOptions};

    const TEXT: &str = "\n \nThe first\r\nparagraph.\r\n\t\r\n\n第二段。\n\nThe \"third, \t{one\n";

    fn read(name: &str, text: &str, cut: Option<Cut>, chunk_bytes: usize) -> Vec<Owned> {
        let options = ReadOptions { cut, chunk_bytes, ..options() };
        read_bytes(name, text.as_bytes(), &options).expect("text").0
    }

    fn owned(expected: &[(u64, &str)]) -> Vec<Owned> {
        expected.iter().map(|(line, text)| (*line, (*text).to_owned())).collect()
    }

    #[test]
    fn paragraphs_have_the_line_they_start_on() {
        let expected = owned(&[(3, " | The first\r\nparagraph."), (7, " | 第二段。"), (9, " | The \"third, \t{one")]);
        for chunk_bytes in 1..TEXT.len() + 2 {
            assert_eq!(read("a.txt", TEXT, None, chunk_bytes), expected, "chunks of {chunk_bytes}");
            assert_eq!(read("a.txt", TEXT, Some(Cut::Paragraph), chunk_bytes), expected);
        }
    }

    #[test]
    fn a_file_or_a_line_can_be_a_document() {
        for chunk_bytes in [1, 7, 1000] {
            let whole = read("a.txt", TEXT, Some(Cut::Document), chunk_bytes);
            assert_eq!(whole, [(3, format!(" | {}", TEXT.trim()))]);
            let expected =
                owned(&[(3, " | The first"), (4, " | paragraph."), (7, " | 第二段。"), (9, " | The \"third, \t{one")]);
            assert_eq!(read("a.txt", TEXT, Some(Cut::Line), chunk_bytes), expected);
        }
        assert!(read("a.txt", "\n \n", Some(Cut::Document), 1000).is_empty());
    }

    #[test]
    fn what_is_longer_than_the_limit_is_a_reject_and_not_held() {
        let text = format!("one\n\n{}\n\nthree\n", "long line\n".repeat(30));
        for (cut, expected) in [
            (Cut::Paragraph, &[(1, " | one"), (3, "bad long_line | "), (35, " | three")][..]),
            (Cut::Document, &[(1, "bad long_line | ")][..]),
        ] {
            let options = ReadOptions { cut: Some(cut), chunk_bytes: 16, max_line_bytes: 100, ..options() };
            let found = read_bytes("a.txt", text.as_bytes(), &options).expect("text").0;
            assert_eq!(found.len(), expected.len(), "{found:?}");
            for ((line, shown), (expected_line, start)) in found.iter().zip(expected) {
                assert!(line == expected_line && shown.starts_with(start), "{line} {shown}");
            }
        }
    }

    #[test]
    fn other_formats_may_call_themselves_txt_and_text_may_have_any_name() {
        let shown = |name: &str, text: &str| read(name, text, None, 1000).remove(0).1;
        assert_eq!(shown("a.txt", "{\"query\": \"q\", \"pos\": \"p\"}\n"), "q | p");
        assert_eq!(shown("a.txt", "q\tp\nq2\tp2\n"), "q | p");
        assert_eq!(shown("a.txt", "Of soul, body, and spirit,\nhe said.\n"), " | Of soul, body, and spirit,\nhe said.");
        assert_eq!(shown("a.txt.gz", "[1] A note.\n"), " | [1] A note.");
        let cut = read("a.txt", "{\"text\": \"t\"}\n", Some(Cut::Line), 1000);
        assert_eq!(cut, [(1, " | {\"text\": \"t\"}".to_owned())]);
        let named = ReadOptions { format: Format::Txt, ..options() };
        let found = read_bytes("notes", b"{\"query\": \"kept as it is\"}", &named).expect("text").0;
        assert_eq!(found, [(1, " | {\"query\": \"kept as it is\"}".to_owned())]);
        let error = read_bytes("notes", b"Just prose.", &options()).expect_err("no name").to_string();
        assert!(error.contains("format = \"txt\""), "{error}");
    }

    #[test]
    fn many_lines_without_a_blank_one_ask() {
        let text = "An article a line.\n".repeat(4000);
        let error = read_bytes("a.txt", text.as_bytes(), &options()).expect_err("not told").to_string();
        assert!(error.contains("cut = \"line\""), "{error}");
        assert_eq!(read("a.txt", &text, Some(Cut::Line), 1 << 20).len(), 4000);
        assert_eq!(read("a.txt", &text, Some(Cut::Paragraph), 1 << 20).len(), 1);
    }
}
