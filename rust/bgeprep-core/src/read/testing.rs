//! Helpers of this room's tests.

use std::path::Path;

use super::columns::ColumnMapping;
use super::roles::Layout;
use super::txt::Cut;
use super::{Body, CHUNK_BYTES, ChunkReader, Format, ReadOptions, Unmapped, open};
use crate::Result;

/// A record without its lifetime: line, and the pair's or the reject's parts as text.
pub(super) type Owned = (u64, String);

pub(super) fn options() -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        columns: ColumnMapping::default(),
        labels: Vec::new(),
        header: None,
        delimiter: None,
        quoting: None,
        cut: None,
        max_line_bytes: 1 << 20,
        chunk_bytes: CHUNK_BYTES,
    }
}

pub(super) fn layout(columns: ColumnMapping) -> Layout {
    Layout {
        path: "test".into(),
        columns,
        labels: Vec::new(),
        max_line_bytes: 1 << 20,
        labelled: false,
        header: Vec::new(),
        delimiter: b',',
        quoting: true,
        cut: Cut::Paragraph,
    }
}

/// All records, as `pair q | p p | n` or `bad reason | text`, with scores and the like where set.
pub(super) fn drain(reader: &mut dyn ChunkReader) -> Result<(Vec<Owned>, Unmapped)> {
    let (mut records, mut tally) = (Vec::new(), Unmapped::default());
    while let Some(chunk) = reader.next_chunk()? {
        chunk.records(&mut tally, &mut |record| {
            records.push((record.line, show(&record.body)));
            Ok(())
        })?;
    }
    Ok((records, tally))
}

/// What a record says of its origin: file and line.
pub(super) type Said = Option<(String, u64)>;

/// The origin that each record brings along.
pub(super) fn drain_origins(reader: &mut dyn ChunkReader) -> Result<(Vec<Said>, Unmapped)> {
    let (mut origins, mut tally) = (Vec::new(), Unmapped::default());
    while let Some(chunk) = reader.next_chunk()? {
        chunk.records(&mut tally, &mut |record| {
            origins.push(record.origin.map(|origin| (origin.file.into_owned(), origin.line)));
            Ok(())
        })?;
    }
    Ok((origins, tally))
}

/// Writes the bytes to a file of that name and reads it.
pub(super) fn read_bytes(name: &str, bytes: &[u8], options: &ReadOptions) -> Result<(Vec<Owned>, Unmapped)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join(name);
    fs_err::write(&path, bytes).expect("a small file");
    read_path(&path, options)
}

pub(super) fn read_path(path: &Path, options: &ReadOptions) -> Result<(Vec<Owned>, Unmapped)> {
    drain(open(path, options)?.as_mut())
}

fn show(body: &Body<'_>) -> String {
    match body {
        Body::Pair(pair) => {
            let mut shown = format!("{} | {}", pair.query, pair.pos.join(" + "));
            if !pair.neg.is_empty() {
                shown.extend([format!(" | {}", pair.neg.join(" + "))]);
            }
            if !pair.pos_scores.is_empty() {
                shown.extend([format!(" pos_scores {:?}", pair.pos_scores)]);
            }
            if !pair.neg_scores.is_empty() {
                shown.extend([format!(" neg_scores {:?}", pair.neg_scores)]);
            }
            for (name, value) in [("id", &pair.id), ("prompt", &pair.prompt)] {
                if !value.is_empty() {
                    shown.extend([format!(" {name} {value}")]);
                }
            }
            if let Some(task) = pair.task {
                shown.extend([format!(" task {}", task.name())]);
            }
            shown
        }
        Body::Bad { reason, text, .. } => format!("bad {} | {text}", reason.name()),
    }
}
