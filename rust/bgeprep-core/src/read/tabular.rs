//! What a table's columns are, settled before its first row: the header, delimiter and quoting of
//! CSV and TSV, and the check of a header or schema against the roles.

use std::borrow::Cow;

use super::columns::ColumnMapping;
use super::csv::strip_line_end;
use super::field::Field;
use super::quotes::{Scanner, split};
use super::roles::{Columns, Layout, Row, Shape};
use super::{Format, ReadOptions};
use crate::{Error, Result};

/// Records that are looked at.
const SAMPLE_RECORDS: usize = 100;

/// What separates the fields of files that call themselves CSV, in order of trial.
const CSV_DELIMITERS: &[u8] = b",;\t";

/// How a CSV or TSV file is written.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Dialect {
    pub(super) format: Format,
    delimiter: u8,
    quoting: bool,
}

/// The first records of a file in one dialect.
struct Sample<'a> {
    /// The fields of each record; `None` where its quoting is broken.
    records: Vec<Option<Vec<Cow<'a, str>>>>,
    /// Bytes and lines up to the end of the first record.
    first_end: (usize, u64),
    /// Whether quotes did something in at least one field.
    quotes_needed: bool,
}

impl<'a> Sample<'a> {
    fn take(text: &'a str, whole: bool, delimiter: u8, quoting: bool) -> Self {
        let mut sample = Self { records: Vec::new(), first_end: (0, 0), quotes_needed: false };
        let (mut scanner, mut from) = (Scanner::new(delimiter), 0);
        while from < text.len() && sample.records.len() < SAMPLE_RECORDS {
            let rest = &text.as_bytes()[from..];
            let found = if quoting { scanner.record_end(rest) } else { memchr::memchr(b'\n', rest).map(|at| at + 1) };
            // The piece that was peeked at ends in the middle of a record, unless it is all.
            let Some(end) = found.or(whole.then_some(rest.len())) else { break };
            let stripped = strip_line_end(&rest[..end]);
            let record = &text[from..from + stripped.len()];
            from += end;
            if stripped.trim_ascii().is_empty() {
                continue;
            }
            let mut fields = Vec::new();
            let sound = split(record, delimiter, quoting, &mut fields).is_ok();
            sample.quotes_needed |= quoting
                && fields
                    .iter()
                    .any(|field| matches!(field, Cow::Owned(_)) || field.contains([char::from(delimiter), '\n']));
            if sample.records.is_empty() {
                let lines = memchr::memchr_iter(b'\n', &text.as_bytes()[..from]).count() as u64;
                sample.first_end = (from, lines);
            }
            sample.records.push(sound.then_some(fields));
        }
        sample
    }

    /// Two or more fields, as many in (nearly) every record.
    fn is_consistent(&self) -> bool {
        let Some(Some(first)) = self.records.first() else { return false };
        let alike = self.records.iter().flatten().filter(|fields| fields.len() == first.len()).count();
        first.len() >= 2 && alike * 5 >= self.records.len() * 4
    }

    fn is_sound(&self) -> bool {
        self.records.iter().all(Option::is_some)
    }

    fn first(&self) -> &[Cow<'a, str>] {
        self.records.first().and_then(Option::as_deref).unwrap_or_default()
    }
}

/// Finds out whether text is CSV or TSV, and how it is written; `None` if it is neither.
/// `extension` is the file's own, without that of its compression.
pub(super) fn detect(text: &str, whole: bool, extension: &str, options: &ReadOptions) -> Option<Dialect> {
    let by_name = Format::from_name(extension);
    let candidates: &[Format] = match (options.delimiter, by_name) {
        (_, Some(Format::Csv)) | (Some(_), None | Some(Format::Txt)) => &[Format::Csv],
        _ => &[Format::Tsv, Format::Csv],
    };
    for format in candidates {
        let dialect = dialect(text, whole, *format, options);
        let sample = Sample::take(text, whole, dialect.delimiter, dialect.quoting);
        let header = sample.first().len() >= 2 && is_header(sample.first(), &options.columns);
        // Commas are common in prose: without the file's name only a known header is proof, and in a file that calls
        // itself text not even that, if the lines below it are no rows.
        let told = *format == Format::Tsv || by_name == Some(Format::Csv) || options.delimiter.is_some();
        let prose = extension == "txt" && !sample.is_consistent();
        if (header && !prose) || (told && sample.is_consistent()) {
            return Some(dialect);
        }
    }
    None
}

/// The dialect of a file whose format is known.
pub(super) fn dialect(text: &str, whole: bool, format: Format, options: &ReadOptions) -> Dialect {
    let usual: &[u8] = if format == Format::Tsv { b"\t" } else { CSV_DELIMITERS };
    let consistent = |delimiter: &u8| {
        let quoting = settle(text, whole, format, *delimiter, options).quoting;
        Sample::take(text, whole, *delimiter, quoting).is_consistent()
    };
    let delimiter = options.delimiter.or_else(|| usual.iter().copied().find(consistent)).unwrap_or(usual[0]);
    settle(text, whole, format, delimiter, options)
}

/// TSV is written both ways: with quotes that mean something (spreadsheets, pandas) and with quotes
/// that are text (GLUE). It counts as quoted if every field that starts with a quote is a proper
/// quoted field, and at least one of them needed to be.
fn settle(text: &str, whole: bool, format: Format, delimiter: u8, options: &ReadOptions) -> Dialect {
    let quoting = options.quoting.unwrap_or_else(|| {
        format == Format::Csv || {
            let sample = Sample::take(text, whole, delimiter, true);
            sample.is_sound() && sample.quotes_needed
        }
    });
    Dialect { format, delimiter, quoting }
}

/// Settles the columns of a CSV or TSV file: fills `layout` and returns the bytes and lines that
/// its header takes.
///
/// # Errors
/// `Error::Corpus` if there is no query or positive column, or none that could be told.
pub(super) fn columns(
    text: &str,
    whole: bool,
    dialect: &Dialect,
    options: &ReadOptions,
    layout: &mut Layout,
) -> Result<(usize, u64)> {
    (layout.delimiter, layout.quoting) = (dialect.delimiter, dialect.quoting);
    let sample = Sample::take(text, whole, dialect.delimiter, dialect.quoting);
    let first = sample.first();
    if first.is_empty() {
        let message = "the first record is broken or longer than 256 KiB; hint: if quotes are plain text here, set quoting = false";
        return Err(Error::corpus(&layout.path, Some(1), message));
    }
    let header = options.header.unwrap_or_else(|| is_header(first, &options.columns));
    let names: Vec<String> = if header {
        first.iter().map(|name| name.trim().to_owned()).collect()
    } else {
        (1..=first.len()).map(|number| number.to_string()).collect()
    };
    let mapped = options.columns.query.is_some() || options.columns.pos.is_some() || options.columns.is_of_texts();
    if !header && !mapped {
        by_place(&sample, layout)?;
    }
    check(layout, names.iter().map(|name| (name.as_str(), Field::Text("".into()))))?;
    layout.header = names;
    Ok(if header { sample.first_end } else { (0, 0) })
}

/// Whether a first record is a header: it has a name that some role knows.
fn is_header(first: &[Cow<'_, str>], columns: &ColumnMapping) -> bool {
    first.iter().any(|name| columns.claim(name.trim()).is_some())
}

/// Gives roles by place, for files without a header: query and positive, or query, positive,
/// negative. What the user said of other roles stays.
fn by_place(sample: &Sample<'_>, layout: &mut Layout) -> Result<()> {
    let place = |number: usize| Some(vec![number.to_string()]);
    let width = sample.first().len();
    let third_is_taken = layout.columns.named().any(|(_, name)| name == "3");
    let rows: Vec<_> = sample.records.iter().flatten().filter(|fields| fields.len() == width).collect();
    let is_number = |field: &str| field.trim().parse::<f64>().is_ok();
    let problem = if !(2..=3).contains(&width) {
        format!("{width} columns without a known header")
    } else if width == 3 && !third_is_taken && rows.iter().all(|fields| is_number(&fields[2])) {
        "no header, and a third column of numbers".to_owned()
    } else if rows.len() > 1 && rows.iter().all(|fields| fields[0] == rows[0][0]) {
        "no header, and the same text in the first column of every row".to_owned()
    } else {
        layout.columns.query = place(1);
        layout.columns.pos = place(2);
        if width == 3 && !third_is_taken {
            layout.columns.neg = place(3);
        }
        return Ok(());
    };
    let message = format!(
        "{problem}; hint: say which column is which, by its place, as columns.query = [\"2\"] and columns.pos = [\"1\"], or columns.text = [\"1\"], or set header = true"
    );
    Err(Error::corpus(&layout.path, Some(1), message))
}

/// Checks a header or schema: the columns that the config names are there, and so are a query and
/// a positive, or a set. `fields` are the names with an example of what they hold.
///
/// # Errors
/// `Error::Config` for a column that the config names in vain, else `Error::Corpus`.
pub(super) fn check<'f>(layout: &Layout, fields: impl Iterator<Item = (&'f str, Field<'f>)>) -> Result<()> {
    let mut columns = Columns::new(layout);
    let (mut row, mut names) = (Row::new(), Vec::new());
    for (name, field) in fields {
        names.push(name);
        if let Some(number) = columns.number(name, None) {
            row.push((number, field));
        }
    }
    if let Some((key, name)) = layout.columns.named().find(|(_, name)| !names.contains(name)) {
        let message = format!("no column `{name}` in {}; columns: {}", layout.path.display(), names.join(", "));
        return Err(Error::config(key, message));
    }
    match columns.resolve(&row, None)? {
        Shape::Bad { detail, .. } => {
            let message = format!(
                "{detail}; hint: name the columns, as columns.query = [\"…\"] and columns.pos = [\"…\"], or columns.text = [\"…\"] for texts"
            );
            Err(Error::corpus(&layout.path, None, message))
        }
        Shape::Pair { .. } | Shape::Set { .. } | Shape::Text { .. } => Ok(()),
    }
}
