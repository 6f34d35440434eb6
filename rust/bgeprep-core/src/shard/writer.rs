//! Rows become a part.

use std::path::Path;

use arrow_ipc::writer::{FileWriter, IpcWriteOptions};

use super::columns::Columns;
use super::document_columns::DocumentColumns;
use super::format::{Layout, MAX_BATCH_ROWS, MAX_ROW_BYTES, ShardRow, TARGET_BATCH_BYTES};
use super::manifest::{Block, PartInfo, relative_name};
use super::sink::AtomicFile;
use crate::pair::SetKind;
use crate::{Error, Result};

/// The batch being filled, in the columns of its kind.
enum Filling {
    Pairs(Box<Columns>),
    Text(Box<DocumentColumns>),
}

/// Calls a method that both kinds of columns have.
macro_rules! of_kind {
    ($filling:expr, $columns:ident => $call:expr) => {
        match $filling {
            Filling::Pairs($columns) => $call,
            Filling::Text($columns) => $call,
        }
    };
}

/// Writes one part: rows in, an Arrow IPC file out, its checksums beside it.
///
/// The bytes depend on the rows and the source name alone. The file gets its name only in
/// [`finish`](Self::finish); a writer that is dropped before leaves nothing behind.
pub struct PartWriter {
    out: FileWriter<AtomicFile>,
    source: String,
    columns: Filling,
    blocks: Vec<Block>,
    rows: u64,
    text_bytes: u64,
}

impl PartWriter {
    /// Starts a part of pairs at `path` (its folder is made if it is missing) that holds rows of `source`.
    pub fn create(path: &Path, source: &str) -> Result<Self> {
        Self::create_of(SetKind::Pairs, path, source)
    }

    /// Starts a part of a set of this kind. Documents are pushed as pairs, see [`SetKind::Text`].
    pub fn create_of(kind: SetKind, path: &Path, source: &str) -> Result<Self> {
        let file = AtomicFile::create(path)?;
        let mut out = FileWriter::try_new_with_options(file, &Layout::of(kind).schema, IpcWriteOptions::default())
            .map_err(AtomicFile::arrow_error(path))?;
        out.get_mut().cut();
        let columns = match kind {
            SetKind::Pairs => Filling::Pairs(Box::new(Columns::new())),
            SetKind::Text => Filling::Text(Box::new(DocumentColumns::new())),
        };
        Ok(Self { out, source: source.to_owned(), columns, blocks: Vec::new(), rows: 0, text_bytes: 0 })
    }

    /// Appends a row.
    ///
    /// # Errors
    /// A row of 2 GiB or more (`Corpus`), lists whose lengths do not agree (`Internal`), and what
    /// the disk says (`Io`).
    pub fn push(&mut self, row: &ShardRow<'_>) -> Result<()> {
        let text = text_bytes(row);
        let bytes = text + fixed_bytes(row);
        check(row, bytes)?;
        let (rows, filled) = of_kind!(&self.columns, columns => (columns.rows(), columns.bytes()));
        let full = rows == MAX_BATCH_ROWS || filled + bytes > TARGET_BATCH_BYTES;
        if full && rows > 0 {
            self.flush()?;
        }
        match &mut self.columns {
            Filling::Pairs(columns) => columns.push(row, &self.source, bytes),
            Filling::Text(columns) => columns.push(row, &self.source, bytes)?,
        }
        self.rows += 1;
        self.text_bytes += text as u64;
        Ok(())
    }

    /// Rows pushed so far.
    pub fn rows(&self) -> u64 {
        self.rows
    }

    /// Bytes of query, positives and negatives pushed so far (what a source's `bytes` sums up).
    pub fn text_bytes(&self) -> u64 {
        self.text_bytes
    }

    /// Bytes in the file so far, and in the batch that is being filled: when to start a new part.
    pub fn bytes(&self) -> u64 {
        self.out.get_ref().written() + of_kind!(&self.columns, columns => columns.bytes()) as u64
    }

    /// Writes the rest, makes the file durable and gives it its name.
    pub fn finish(mut self) -> Result<PartInfo> {
        if of_kind!(&self.columns, columns => columns.rows()) > 0 {
            self.flush()?;
        }
        let path = self.out.get_ref().path().to_owned();
        let file = self.out.into_inner().map_err(AtomicFile::arrow_error(&path))?;
        let (bytes, xxh3_128) = file.commit()?;
        Ok(PartInfo { path: relative_name(&path)?, rows: self.rows, bytes, xxh3_128, blocks: self.blocks })
    }

    fn flush(&mut self) -> Result<()> {
        let rows = of_kind!(&self.columns, columns => columns.rows()) as u32;
        let lent = of_kind!(&mut self.columns, columns => columns.lend());
        let written = lent.and_then(|batch| self.out.write(&batch));
        let index_xxh3_64 = of_kind!(&self.columns, columns => columns.index_checksum());
        of_kind!(&mut self.columns, columns => columns.reclaim());
        if let Err(error) = written {
            return Err(AtomicFile::arrow_error(self.out.get_ref().path())(error));
        }
        let stretch = self.out.get_mut().cut();
        self.blocks.push(Block {
            offset: stretch.offset,
            length: stretch.length,
            rows,
            xxh3_64: stretch.xxh3_64,
            index_xxh3_64,
        });
        Ok(())
    }
}

/// Refuses a row that cannot be stored.
fn check(row: &ShardRow<'_>, bytes: usize) -> Result<()> {
    if bytes > MAX_ROW_BYTES {
        return Err(Error::corpus(
            row.origin_file,
            Some(row.origin_line),
            format!(
                "a row of {bytes} bytes, at most {MAX_ROW_BYTES} can be stored; drop it with clean.max_passage_chars"
            ),
        ));
    }
    let aligned = |scores: &[f32], texts: &[&str]| scores.is_empty() || scores.len() == texts.len();
    let keyed = |keys: &[u64], texts: &[&str]| keys.len() == texts.len();
    let all_keyed = keyed(row.pos_keys, row.pos)
        && keyed(row.neg_keys, row.neg)
        && keyed(row.pos_exact_keys, row.pos)
        && keyed(row.neg_exact_keys, row.neg);
    if all_keyed && aligned(row.pos_scores, row.pos) && aligned(row.neg_scores, row.neg) {
        return Ok(());
    }
    Err(Error::Internal(format!(
        "{}:{}: keys or scores are not as many as their texts",
        row.origin_file, row.origin_line
    )))
}

fn text_bytes(row: &ShardRow<'_>) -> usize {
    let sum = |texts: &[&str]| texts.iter().map(|text| text.len()).sum::<usize>();
    row.query.len() + sum(row.pos) + sum(row.neg)
}

fn fixed_bytes(row: &ShardRow<'_>) -> usize {
    let words = 2 * (row.pos_keys.len() + row.neg_keys.len()) + row.also_pos_keys.len();
    let scores = row.pos_scores.len() + row.neg_scores.len();
    words * 12 + scores * 4 + row.id.len() + row.prompt.len() + row.origin_file.len() + 72
}

#[cfg(test)]
#[path = "writer_tests.rs"]
pub(super) mod tests;
