//! A piece of one input, whole records only, to be parsed outside the reader's lock.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow_array::RecordBatch;

use super::field::head;
use super::roles::{Columns, Layout, Row};
use super::{Body, Record, Unmapped, csv, json, set, table, txt};
use crate::Result;
use crate::report::Reason;
use crate::shard::ShardSet;

/// Takes the records of a chunk, in input order.
pub(super) type Visit<'v> = dyn FnMut(Record<'_>) -> Result<()> + 'v;

/// Whole records of one input, unparsed.
#[derive(Debug)]
pub struct Chunk {
    layout: Arc<Layout>,
    data: Data,
}

#[derive(Debug)]
pub(super) enum Data {
    /// Lines of JSON; `first` is the number of the first line.
    Lines { bytes: Vec<u8>, first: u64 },
    /// CSV or TSV records; `first` is the number of the first line.
    Csv { bytes: Vec<u8>, first: u64 },
    /// Plain text; `first` is the number of the first line.
    Text { bytes: Vec<u8>, first: u64 },
    /// Elements of a JSON array: where each lies; `first` is the number of the first element.
    Elements { bytes: Vec<u8>, spans: Vec<(usize, usize)>, first: u64 },
    /// Rows of a table; `first` is the number of the first row.
    Rows { batch: RecordBatch, first: u64 },
    /// Rows of a shard set by their ids; `first` is the place of the first row in its part.
    Set { set: Arc<ShardSet>, ids: Range<u64>, first: u64 },
    /// A record that was too long to be kept: its number and how it begins.
    Long { line: u64, head: String },
}

impl Chunk {
    pub(super) fn new(layout: &Arc<Layout>, data: Data) -> Self {
        Self { layout: Arc::clone(layout), data }
    }

    /// Parses the chunk and hands over its records, in input order. Columns that play no role are
    /// counted in `tally`. Stops at the first error of `visit`.
    ///
    /// # Errors
    /// `Error::Corpus` for what the user must settle (see [`super::columns`], [`super::labels`]),
    /// and whatever `visit` returns. Records that are merely unusable are visited as `Body::Bad`.
    pub fn records(&self, tally: &mut Unmapped, visit: &mut Visit<'_>) -> Result<()> {
        let mut columns = Columns::new(&self.layout);
        let result = match &self.data {
            Data::Lines { bytes, first } => lines(bytes, *first, &mut columns, visit),
            Data::Csv { bytes, first } => csv::records(bytes, *first, &mut columns, visit),
            Data::Text { bytes, first } => txt::records(bytes, *first, &columns, visit),
            Data::Elements { bytes, spans, first } => elements(bytes, spans, *first, &mut columns, visit),
            Data::Rows { batch, first } => table::records(batch, *first, &mut columns, visit),
            Data::Set { set, ids, first } => set::records(set, ids.clone(), *first, visit),
            Data::Long { line, head } => {
                let body = too_long(self.layout.max_line_bytes, Cow::Borrowed(head));
                visit(Record::new(*line, body))
            }
        };
        columns.report(tally);
        result
    }
}

/// Text that was checked once for the whole chunk, or, where that failed, is checked by the record.
pub(super) struct Checked<'a> {
    bytes: &'a [u8],
    text: Option<&'a str>,
    nul: bool,
    max: usize,
}

impl<'a> Checked<'a> {
    pub(super) fn new(bytes: &'a [u8], max: usize) -> Self {
        Self { bytes, text: simdutf8::basic::from_utf8(bytes).ok(), nul: memchr::memchr(0, bytes).is_some(), max }
    }

    /// The text of a record, or why it is none.
    pub(super) fn get(&self, from: usize, to: usize) -> Result<&'a str, Box<Body<'a>>> {
        let bytes = &self.bytes[from..to];
        if bytes.len() > self.max {
            return Err(Box::new(too_long(self.max, Cow::Owned(head(bytes)))));
        }
        let bad =
            |reason, detail: &str| Box::new(Body::Bad { reason, detail: detail.into(), text: Cow::Owned(head(bytes)) });
        if self.nul && memchr::memchr(0, bytes).is_some() {
            return Err(bad(Reason::NotText, "NUL bytes"));
        }
        let text = match self.text {
            Some(text) => text.get(from..to),
            None => std::str::from_utf8(bytes).ok(),
        };
        text.ok_or_else(|| bad(Reason::InvalidUtf8, "not valid UTF-8"))
    }
}

fn too_long(max: usize, text: Cow<'_, str>) -> Body<'_> {
    Body::Bad { reason: Reason::LongLine, detail: format!("longer than {max} bytes (max_line_bytes)"), text }
}

fn lines(bytes: &[u8], first: u64, columns: &mut Columns<'_>, visit: &mut Visit<'_>) -> Result<()> {
    let checked = Checked::new(bytes, columns.layout.max_line_bytes);
    let (mut row, mut line, mut from) = (Row::new(), first, 0);
    while from < bytes.len() {
        let end = memchr::memchr(b'\n', &bytes[from..]).map_or(bytes.len(), |at| from + at);
        let stripped = bytes[from..end].strip_suffix(b"\r").unwrap_or(&bytes[from..end]);
        if !stripped.trim_ascii().is_empty() {
            visit(match checked.get(from, from + stripped.len()) {
                Ok(text) => json::record(text, line, columns, &mut row)?,
                Err(bad) => Record::new(line, *bad),
            })?;
        }
        from = end + 1;
        line += 1;
    }
    Ok(())
}

fn elements(
    bytes: &[u8],
    spans: &[(usize, usize)],
    first: u64,
    columns: &mut Columns<'_>,
    visit: &mut Visit<'_>,
) -> Result<()> {
    let checked = Checked::new(bytes, columns.layout.max_line_bytes);
    let mut row = Row::new();
    for (line, (from, to)) in (first..).zip(spans) {
        let blank = bytes[*from..*to].len() - bytes[*from..*to].trim_ascii_start().len();
        visit(match checked.get(from + blank, *to) {
            Ok(text) => json::record(text, line, columns, &mut row)?,
            Err(bad) => Record::new(line, *bad),
        })?;
    }
    Ok(())
}
