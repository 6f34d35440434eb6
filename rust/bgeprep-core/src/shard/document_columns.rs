//! Documents on their way into a part, in column buffers (see `columns.rs`), and out of it, as pairs.

use std::sync::Arc;

use arrow_array::cast::AsArray;
use arrow_array::types::UInt64Type;
use arrow_array::{ArrayRef, BinaryArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer};
use arrow_schema::ArrowError;
use xxhash_rust::xxh3::Xxh3;

use super::columns::{self, Reused, numbers};
use super::format::{DocumentColumn, Layout, ShardRow};
use super::index::none_each;
use super::reader::{Scores, Texts};
use super::text_column::TextColumn;
use crate::pair::SetKind;
use crate::{Error, Result};

/// The batch being filled.
pub(super) struct DocumentColumns {
    bytes: usize,
    text: columns::Texts,
    title: columns::Texts,
    key: Reused<u64>,
    exact_key: Reused<u64>,
    source: columns::Texts,
    origin_file: columns::Texts,
    origin_line: Reused<u64>,
}

impl DocumentColumns {
    pub(super) fn new() -> Self {
        Self {
            bytes: 0,
            text: columns::Texts::new(),
            title: columns::Texts::new(),
            key: Reused::new(),
            exact_key: Reused::new(),
            source: columns::Texts::new(),
            origin_file: columns::Texts::new(),
            origin_line: Reused::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.origin_line.values.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a document that travelled as a pair.
    pub(super) fn push(&mut self, row: &ShardRow<'_>, source: &str, bytes: usize) -> Result<()> {
        let (&[text], &[key], &[exact_key]) = (row.pos, row.pos_keys, row.pos_exact_keys) else {
            return Err(Error::Internal(format!("{}:{}: a document has one text", row.origin_file, row.origin_line)));
        };
        self.text.push(text);
        self.title.push(row.query);
        self.key.values.push(key);
        self.exact_key.values.push(exact_key);
        self.source.push(source);
        self.origin_file.push(row.origin_file);
        self.origin_line.values.push(row.origin_line);
        self.bytes += bytes;
        Ok(())
    }

    /// The batch as Arrow sees it; it must be dropped before [`reclaim`](Self::reclaim).
    pub(super) fn lend(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = vec![
            self.text.lend()?,
            self.title.lend()?,
            numbers(self.key.lend())?,
            numbers(self.exact_key.lend())?,
            self.source.lend()?,
            self.origin_file.lend()?,
            numbers(self.origin_line.lend())?,
        ];
        RecordBatch::try_new(Arc::clone(&Layout::of(SetKind::Text).binary), columns)
    }

    /// Checksum of the lent buffers that are read without the texts, see `format.rs`.
    pub(super) fn index_checksum(&self) -> u64 {
        let mut hash = Xxh3::new();
        hash.update(self.text.offsets.0.bytes());
        hash.update(self.title.offsets.0.bytes());
        hash.update(self.key.bytes());
        hash.update(self.exact_key.bytes());
        hash.digest()
    }

    /// Empties the batch and takes its memory back.
    pub(super) fn reclaim(&mut self) {
        for texts in [&mut self.text, &mut self.title, &mut self.source, &mut self.origin_file] {
            texts.reclaim();
        }
        for numbers in [&mut self.key, &mut self.exact_key, &mut self.origin_line] {
            numbers.reclaim();
        }
        self.bytes = 0;
    }
}

impl Texts {
    /// Documents as pairs: the title is the query, the text the one positive.
    pub(super) fn of_documents(batch: &RecordBatch) -> Result<Self, String> {
        let text = |column: DocumentColumn| TextColumn::new(batch.column(column as usize), "text");
        let rows = batch.num_rows();
        let none = |count: usize| -> Result<TextColumn, String> {
            let offsets = OffsetBuffer::new(none_each(count));
            let empty = BinaryArray::try_new(offsets, Buffer::from_vec(Vec::<u8>::new()), None);
            TextColumn::new(&(Arc::new(empty.map_err(|error| error.to_string())?) as ArrayRef), "none")
        };
        Ok(Self {
            query: text(DocumentColumn::Title)?,
            pos: text(DocumentColumn::Text)?,
            neg: none(0)?,
            pos_scores: Scores::none(rows),
            neg_scores: Scores::none(rows),
            id: none(rows)?,
            prompt: none(rows)?,
            origin_file: text(DocumentColumn::OriginFile)?,
            origin_line: batch
                .column(DocumentColumn::OriginLine as usize)
                .as_primitive::<UInt64Type>()
                .values()
                .clone(),
        })
    }
}
