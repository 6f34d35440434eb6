//! Finds the format of a file from its content, and opens it.

use std::path::Path;
use std::sync::Arc;

use super::array::ArrayReader;
use super::container::{Compression, Input};
use super::depth::is_too_deep;
use super::element::{End, Scanner};
use super::json;
use super::lines::LineReader;
use super::roles::{Columns, Layout, Row};
use super::txt::Cut;
use super::{ChunkReader, Format, ReadOptions, arrow, parquet, tabular, txt};
use crate::store::Location;
use crate::{Error, Result};

/// What a layout is before the file is looked at.
pub(super) fn layout(path: &Path, options: &ReadOptions) -> Layout {
    let named = |names: &Option<Vec<String>>| names.as_ref().is_some_and(|names| !names.is_empty());
    Layout {
        path: path.to_owned(),
        columns: options.columns.clone(),
        labels: options.labels.clone(),
        max_line_bytes: options.max_line_bytes,
        labelled: named(&options.columns.label) || named(&options.columns.score),
        header: Vec::new(),
        delimiter: b',',
        quoting: false,
        cut: options.cut.unwrap_or(Cut::Paragraph),
    }
}

/// Opens a file; see [`super::open`].
pub(super) fn open(from: &Location, options: &ReadOptions) -> Result<Box<dyn ChunkReader>> {
    let path = &from.path();
    let mut input = Input::open(from)?;
    let mut layout = layout(path, options);
    if input.peek().starts_with(b"\xef\xbb\xbf") {
        input.skip(3);
    }
    let head = input.peek();
    let wanted = options.format;
    if head.trim_ascii().is_empty() && input.is_peeked_whole() {
        input.skip(usize::MAX);
        let format = if wanted == Format::Auto { Format::Jsonl } else { wanted };
        return Ok(Box::new(LineReader::new(input, Arc::new(layout), format, 1, options.chunk_bytes)));
    }
    if let Some(binary) = Binary::of(head) {
        expect(path, wanted, binary.format())?;
        if binary != Binary::ArrowStream && input.compression() != Compression::None {
            let message =
                format!("a compressed {} file; hint: decompress it, it is compressed inside", binary.format().name());
            return Err(Error::corpus(path, None, message));
        }
        return match binary {
            Binary::Parquet => parquet::open(from, layout, options.chunk_bytes),
            Binary::ArrowFile => arrow::open_file(from, layout, options.chunk_bytes),
            Binary::ArrowStream => arrow::open_ipc_stream(input, layout, options.chunk_bytes),
        };
    }
    refuse_what_is_no_text(path, head)?;
    let whole = input.is_peeked_whole();
    let text = text_of(input.peek());
    let format = match wanted {
        Format::Auto => text_format(path, &text, whole, options)?,
        Format::Parquet | Format::Arrow => return Err(mismatch(path, wanted, "text")),
        format => TextFormat::Named(format),
    };
    let chunk_bytes = options.chunk_bytes;
    match format {
        TextFormat::Named(Format::JsonArray) => {
            if !text.trim_ascii_start().starts_with('[') {
                return Err(mismatch(path, Format::JsonArray, "text that does not start with `[`"));
            }
            layout.labelled |= is_labelled(&layout, elements(&text).map(|(element, _)| element));
            Ok(Box::new(ArrayReader::new(input, Arc::new(layout), chunk_bytes)))
        }
        TextFormat::Named(format @ (Format::Csv | Format::Tsv)) => {
            let dialect = tabular::dialect(&text, whole, format, options);
            open_table(input, layout, &text, whole, &dialect, options)
        }
        TextFormat::Table(dialect) => open_table(input, layout, &text, whole, &dialect, options),
        TextFormat::Named(Format::Txt) => {
            if options.cut.is_none() {
                layout.cut = txt::settle(path, &text)?;
            }
            Ok(Box::new(LineReader::new(input, Arc::new(layout), Format::Txt, 1, chunk_bytes)))
        }
        TextFormat::Named(_) => {
            layout.labelled |= is_labelled(&layout, text.lines());
            Ok(Box::new(LineReader::new(input, Arc::new(layout), Format::Jsonl, 1, chunk_bytes)))
        }
    }
}

fn open_table(
    mut input: Input,
    mut layout: Layout,
    text: &str,
    whole: bool,
    dialect: &tabular::Dialect,
    options: &ReadOptions,
) -> Result<Box<dyn ChunkReader>> {
    let (bytes, lines) = tabular::columns(text, whole, dialect, options, &mut layout)?;
    input.skip(bytes);
    Ok(Box::new(LineReader::new(input, Arc::new(layout), dialect.format, 1 + lines, options.chunk_bytes)))
}

/// Formats that are told by their first bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Binary {
    Parquet,
    ArrowFile,
    ArrowStream,
}

impl Binary {
    fn of(head: &[u8]) -> Option<Self> {
        match head {
            [b'P', b'A', b'R', b'1', ..] => Some(Self::Parquet),
            [b'A', b'R', b'R', b'O', b'W', b'1', ..] => Some(Self::ArrowFile),
            [0xff, 0xff, 0xff, 0xff, ..] => Some(Self::ArrowStream),
            _ => None,
        }
    }

    fn format(self) -> Format {
        match self {
            Self::Parquet => Format::Parquet,
            Self::ArrowFile | Self::ArrowStream => Format::Arrow,
        }
    }
}

fn expect(path: &Path, wanted: Format, found: Format) -> Result<()> {
    if wanted == Format::Auto || wanted == found { Ok(()) } else { Err(mismatch(path, wanted, found.name())) }
}

fn mismatch(path: &Path, wanted: Format, found: &str) -> Error {
    let wanted = wanted.name();
    Error::corpus(path, None, format!("expected format {wanted}, found {found}; hint: set format, or leave it to auto"))
}

fn refuse_what_is_no_text(path: &Path, head: &[u8]) -> Result<()> {
    let half_nul = |odd: usize| head.len() >= 4 && head[..4].iter().skip(odd).step_by(2).all(|byte| *byte == 0);
    let what = if head.starts_with(b"\xff\xfe") || head.starts_with(b"\xfe\xff") || half_nul(0) != half_nul(1) {
        "UTF-16 or UTF-32 text, expected UTF-8; hint: convert it, as with iconv -t UTF-8"
    } else if head.get(257..262) == Some(b"ustar") {
        "a tar archive, which is not read; hint: unpack it"
    } else {
        return Ok(());
    };
    Err(Error::corpus(path, None, what))
}

/// The peeked bytes as text of the same length: bytes that are no UTF-8 are left to the records.
fn text_of(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.utf8_chunks().fold(String::with_capacity(bytes.len()), |mut text, chunk| {
            text.push_str(chunk.valid());
            text.extend(chunk.invalid().iter().map(|_| '?'));
            text
        }),
    }
}

enum TextFormat {
    Named(Format),
    Table(tabular::Dialect),
}

fn text_format(path: &Path, text: &str, whole: bool, options: &ReadOptions) -> Result<TextFormat> {
    let extension = extension(path);
    if extension == "txt" && options.cut.is_some() {
        return Ok(TextFormat::Named(Format::Txt));
    }
    let start = text.trim_ascii_start();
    let first_line = start.lines().next().unwrap_or_default().trim();
    let first_line_is_json =
        || !is_too_deep(first_line) && sonic_rs::from_str::<serde::de::IgnoredAny>(first_line).is_ok();
    let named_table = matches!(extension.as_str(), "csv" | "tsv");
    match start.bytes().next() {
        Some(b'{') if !named_table || first_line_is_json() => {
            refuse_one_object(path, start)?;
            return Ok(TextFormat::Named(Format::Jsonl));
        }
        Some(b'[') if !named_table || first_line_is_json() => {
            let second = start[1..].trim_ascii_start().bytes().next();
            if matches!(second, Some(b'{' | b'[' | b']')) {
                return Ok(TextFormat::Named(Format::JsonArray));
            }
            // A first line longer than what was peeked at cannot be judged.
            if first_line_is_json() || (!whole && !start.contains('\n')) {
                return Ok(TextFormat::Named(Format::Jsonl));
            }
        }
        _ => {}
    }
    if let Some(dialect) = tabular::detect(text, whole, &extension, options) {
        return Ok(TextFormat::Table(dialect));
    }
    if extension == "txt" {
        return Ok(TextFormat::Named(Format::Txt));
    }
    let shown: String = first_line.chars().take(60).collect();
    let message = format!(
        "no known format; expected JSON lines, a JSON array, CSV, TSV, Parquet or Arrow, found `{shown}`; hint: set format for this source (format = \"txt\" if it is plain text), or move the file away"
    );
    Err(Error::corpus(path, None, message))
}

/// The file's extension without that of its compression, in lower case.
fn extension(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_ascii_lowercase();
    let name = [".gz", ".zst", ".bz2"].iter().find_map(|end| name.strip_suffix(end)).unwrap_or(&name);
    name.rsplit_once('.').map_or(String::new(), |(_, extension)| extension.to_owned())
}

/// One object over several lines is no list of records; says what it is if that can be told.
fn refuse_one_object(path: &Path, start: &str) -> Result<()> {
    let mut lines = start.lines().map(str::trim).filter(|line| !line.is_empty());
    let first_closes = elements(lines.next().unwrap_or_default()).any(|(_, closes)| closes);
    // A first line that is merely damaged is followed by one that starts anew.
    let goes_on = lines.next().is_some_and(|second| second.starts_with('{'));
    if first_closes || goes_on {
        return Ok(());
    }
    let key = |name: &str| start.contains(&format!("\"{name}\":")) || start.contains(&format!("\"{name}\" :"));
    let message = if key("paragraphs") && key("qas") {
        "nested records as in SQuAD (paragraphs, questions inside), which need a recipe; recipes are not supported yet"
    } else if start.contains('\n') {
        "one JSON object over several lines; expected one record a line, or an array of records"
    } else {
        return Ok(());
    };
    Err(Error::corpus(path, Some(1), message))
}

/// Whether some of the first records have a label or a score.
fn is_labelled<'t>(layout: &Layout, records: impl Iterator<Item = &'t str>) -> bool {
    let mut columns = Columns::new(layout);
    let mut row = Row::new();
    // Records that cannot be parsed are counted later, when they are read.
    records.filter(|record| json::parse(record, &mut columns, &mut row).is_ok()).count();
    columns.has_labels()
}

/// The members of the array or object that `text` begins with, and whether each was the last.
fn elements(text: &str) -> impl Iterator<Item = (&str, bool)> {
    let (mut scanner, mut from, mut closed) = (Scanner::default(), 0, false);
    std::iter::from_fn(move || {
        let end = if closed { None } else { scanner.next(text.as_bytes(), from) }?;
        let (End::Comma(at) | End::Close(at)) = end;
        closed = matches!(end, End::Close(_));
        let element = &text[from..at];
        from = at + 1;
        Some((element.trim_start_matches(['[', ' ', '\n', '\r', '\t']), closed))
    })
}
