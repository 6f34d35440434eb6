//! CSV and TSV records → fields.

use std::borrow::Cow;

use super::assemble;
use super::chunk::{Checked, Visit};
use super::columns::Role;
use super::field::{Field, head};
use super::quotes::{Scanner, split};
use super::roles::{Columns, Row};
use super::{Body, Record};
use crate::Result;
use crate::report::Reason;

/// Parses whole records; `first` is the number of the first line.
pub(super) fn records(bytes: &[u8], first: u64, columns: &mut Columns<'_>, visit: &mut Visit<'_>) -> Result<()> {
    let layout = columns.layout;
    let checked = Checked::new(bytes, layout.max_line_bytes);
    let places: Vec<Place> = layout.header.iter().map(|name| Place::of(name, columns)).collect();
    let mut scanner = Scanner::new(layout.delimiter);
    let (mut cells, mut row, mut line, mut from) = (Vec::new(), Row::new(), first, 0);
    while from < bytes.len() {
        let end = if layout.quoting {
            scanner.record_end(&bytes[from..])
        } else {
            memchr::memchr(b'\n', &bytes[from..]).map(|at| at + 1)
        };
        let end = end.map_or(bytes.len(), |end| from + end);
        let stripped = strip_line_end(&bytes[from..end]);
        if !stripped.trim_ascii().is_empty() {
            visit(match checked.get(from, from + stripped.len()) {
                Ok(text) => record(text, line, &places, columns, &mut cells, &mut row)?,
                Err(bad) => Record::new(line, *bad),
            })?;
        }
        line += memchr::memchr_iter(b'\n', &bytes[from..end]).count() as u64;
        from = end;
    }
    Ok(())
}

pub(super) fn strip_line_end(record: &[u8]) -> &[u8] {
    let record = record.strip_suffix(b"\n").unwrap_or(record);
    record.strip_suffix(b"\r").unwrap_or(record)
}

/// A column of the header.
struct Place {
    number: u16,
    /// An empty cell says "nothing" here, while an empty query, positive or text is an empty text.
    empty_is_null: bool,
}

impl Place {
    fn of(name: &str, columns: &mut Columns<'_>) -> Self {
        let role = columns.layout.columns.claim(name).map(|claim| claim.role);
        let empty_is_null = !matches!(role, Some(Role::Query | Role::Pos | Role::Text));
        // The header is as short as a file's first record, far below the columns' limit.
        Self { number: columns.number(name, None).unwrap_or(u16::MAX), empty_is_null }
    }
}

fn record<'a>(
    text: &'a str,
    line: u64,
    places: &[Place],
    columns: &mut Columns<'_>,
    cells: &mut Vec<Cow<'a, str>>,
    row: &mut Row<'a>,
) -> Result<Record<'a>> {
    let layout = columns.layout;
    let shown = || head(text.as_bytes());
    let bad = |reason, detail| Ok(Record::new(line, Body::Bad { reason, detail, text: Cow::Owned(shown()) }));
    if let Err(detail) = split(text, layout.delimiter, layout.quoting, cells) {
        return bad(Reason::BadCsv, detail.to_owned());
    }
    if cells.len() != places.len() {
        return bad(Reason::BadCsv, format!("expected {} fields, found {}", places.len(), cells.len()));
    }
    row.clear();
    for (place, cell) in places.iter().zip(cells.drain(..)) {
        let field = if place.empty_is_null && cell.is_empty() { Field::Null } else { Field::Text(cell) };
        row.push((place.number, field));
    }
    assemble::record(columns, row, line, shown)
}
