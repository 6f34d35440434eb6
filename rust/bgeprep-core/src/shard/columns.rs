//! Column buffers of the batch being written: appended to, lent to Arrow, taken back.
//!
//! Texts enter as `&str`, so they are UTF-8 by construction and are handed to Arrow as Binary
//! (Binary and Utf8 have the same bytes in an IPC body): the safe Utf8 constructor would scan
//! every byte again.

use std::mem;
use std::sync::Arc;

use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{ArrayRef, BinaryArray, ListArray, PrimitiveArray, RecordBatch};
use arrow_buffer::{ArrowNativeType, Buffer, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef};
use xxhash_rust::xxh3::Xxh3;

use super::format::{Column, Layout, ShardRow};

/// A vector whose memory goes to Arrow without a copy and comes back for the next batch.
pub(super) struct Reused<T> {
    pub(super) values: Vec<T>,
    lent: Option<Buffer>,
}

impl<T: ArrowNativeType> Reused<T> {
    pub(super) fn new() -> Self {
        Self { values: Vec::new(), lent: None }
    }

    pub(super) fn lend(&mut self) -> Buffer {
        let buffer = Buffer::from_vec(mem::take(&mut self.values));
        self.lent = Some(buffer.clone());
        buffer
    }

    /// To be called once Arrow's arrays are gone; should one live on, the next batch allocates.
    pub(super) fn reclaim(&mut self) {
        if let Some(Ok(mut values)) = self.lent.take().map(Buffer::into_vec::<T>) {
            values.clear();
            self.values = values;
        }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        self.lent.as_ref().map_or(&[], Buffer::as_slice)
    }
}

/// List or text boundaries; the first is always 0.
pub(super) struct Offsets(pub(super) Reused<i32>);

impl Offsets {
    pub(super) fn new() -> Self {
        let mut offsets = Self(Reused::new());
        offsets.0.values.push(0);
        offsets
    }

    fn close(&mut self, end: usize) {
        // The writer bounds a batch below 2 GiB before it appends.
        self.0.values.push(end as i32);
    }

    pub(super) fn lend(&mut self) -> OffsetBuffer<i32> {
        OffsetBuffer::new(ScalarBuffer::from(self.0.lend()))
    }

    pub(super) fn reclaim(&mut self) {
        self.0.reclaim();
        self.0.values.push(0);
    }
}

pub(super) struct Texts {
    pub(super) offsets: Offsets,
    bytes: Reused<u8>,
}

impl Texts {
    pub(super) fn new() -> Self {
        Self { offsets: Offsets::new(), bytes: Reused::new() }
    }

    pub(super) fn push(&mut self, text: &str) {
        self.bytes.values.extend_from_slice(text.as_bytes());
        self.offsets.close(self.bytes.values.len());
    }

    fn count(&self) -> usize {
        self.offsets.0.values.len() - 1
    }

    pub(super) fn lend(&mut self) -> Result<ArrayRef, ArrowError> {
        Ok(Arc::new(BinaryArray::try_new(self.offsets.lend(), self.bytes.lend(), None)?))
    }

    pub(super) fn reclaim(&mut self) {
        self.offsets.reclaim();
        self.bytes.reclaim();
    }
}

struct TextLists {
    lists: Offsets,
    texts: Texts,
}

impl TextLists {
    fn new() -> Self {
        Self { lists: Offsets::new(), texts: Texts::new() }
    }

    fn push(&mut self, items: &[&str]) {
        for item in items {
            self.texts.push(item);
        }
        self.lists.close(self.texts.count());
    }

    fn lend(&mut self, column: Column) -> Result<ArrayRef, ArrowError> {
        let texts = self.texts.lend()?;
        Ok(Arc::new(ListArray::try_new(item_field(column)?, self.lists.lend(), texts, None)?))
    }

    fn reclaim(&mut self) {
        self.lists.reclaim();
        self.texts.reclaim();
    }
}

struct NumberLists<T> {
    lists: Offsets,
    numbers: Reused<T>,
}

impl<T: ArrowNativeType> NumberLists<T> {
    fn new() -> Self {
        Self { lists: Offsets::new(), numbers: Reused::new() }
    }

    fn push(&mut self, items: &[T]) {
        self.numbers.values.extend_from_slice(items);
        self.lists.close(self.numbers.values.len());
    }

    fn lend<P: arrow_array::ArrowPrimitiveType<Native = T>>(&mut self, column: Column) -> Result<ArrayRef, ArrowError> {
        let numbers = PrimitiveArray::<P>::try_new(ScalarBuffer::from(self.numbers.lend()), None)?;
        Ok(Arc::new(ListArray::try_new(item_field(column)?, self.lists.lend(), Arc::new(numbers), None)?))
    }

    fn reclaim(&mut self) {
        self.lists.reclaim();
        self.numbers.reclaim();
    }
}

fn item_field(column: Column) -> Result<FieldRef, ArrowError> {
    match Layout::current().binary.field(column as usize).data_type() {
        DataType::List(field) => Ok(Arc::clone(field)),
        other => Err(ArrowError::SchemaError(format!("{} is no list but {other}", column.name()))),
    }
}

pub(super) fn numbers(buffer: Buffer) -> Result<ArrayRef, ArrowError> {
    Ok(Arc::new(PrimitiveArray::<UInt64Type>::try_new(ScalarBuffer::from(buffer), None)?))
}

/// The batch being filled.
pub(super) struct Columns {
    rows: usize,
    bytes: usize,
    query: Texts,
    pos: TextLists,
    neg: TextLists,
    pos_scores: NumberLists<f32>,
    neg_scores: NumberLists<f32>,
    query_key: Reused<u64>,
    pos_keys: NumberLists<u64>,
    neg_keys: NumberLists<u64>,
    also_pos_keys: NumberLists<u64>,
    query_exact_key: Reused<u64>,
    pos_exact_keys: NumberLists<u64>,
    neg_exact_keys: NumberLists<u64>,
    id: Texts,
    prompt: Texts,
    source: Texts,
    origin_file: Texts,
    origin_line: Reused<u64>,
}

impl Columns {
    pub(super) fn new() -> Self {
        Self {
            rows: 0,
            bytes: 0,
            query: Texts::new(),
            pos: TextLists::new(),
            neg: TextLists::new(),
            pos_scores: NumberLists::new(),
            neg_scores: NumberLists::new(),
            query_key: Reused::new(),
            pos_keys: NumberLists::new(),
            neg_keys: NumberLists::new(),
            also_pos_keys: NumberLists::new(),
            query_exact_key: Reused::new(),
            pos_exact_keys: NumberLists::new(),
            neg_exact_keys: NumberLists::new(),
            id: Texts::new(),
            prompt: Texts::new(),
            source: Texts::new(),
            origin_file: Texts::new(),
            origin_line: Reused::new(),
        }
    }

    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Bytes of texts, keys and scores gathered so far.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Appends a row that takes `bytes` bytes (the caller has counted them to bound the batch).
    pub(super) fn push(&mut self, row: &ShardRow<'_>, source: &str, bytes: usize) {
        self.query.push(row.query);
        self.pos.push(row.pos);
        self.neg.push(row.neg);
        self.pos_scores.push(row.pos_scores);
        self.neg_scores.push(row.neg_scores);
        self.query_key.values.push(row.query_key);
        self.pos_keys.push(row.pos_keys);
        self.neg_keys.push(row.neg_keys);
        self.also_pos_keys.push(row.also_pos_keys);
        self.query_exact_key.values.push(row.query_exact_key);
        self.pos_exact_keys.push(row.pos_exact_keys);
        self.neg_exact_keys.push(row.neg_exact_keys);
        self.id.push(row.id);
        self.prompt.push(row.prompt);
        self.source.push(source);
        self.origin_file.push(row.origin_file);
        self.origin_line.values.push(row.origin_line);
        self.rows += 1;
        self.bytes += bytes;
    }

    /// The batch as Arrow sees it; it must be dropped before [`reclaim`](Self::reclaim).
    pub(super) fn lend(&mut self) -> Result<RecordBatch, ArrowError> {
        let columns = vec![
            self.query.lend()?,
            self.pos.lend(Column::Pos)?,
            self.neg.lend(Column::Neg)?,
            self.pos_scores.lend::<Float32Type>(Column::PosScores)?,
            self.neg_scores.lend::<Float32Type>(Column::NegScores)?,
            numbers(self.query_key.lend())?,
            self.pos_keys.lend::<UInt64Type>(Column::PosKeys)?,
            self.neg_keys.lend::<UInt64Type>(Column::NegKeys)?,
            self.also_pos_keys.lend::<UInt64Type>(Column::AlsoPosKeys)?,
            numbers(self.query_exact_key.lend())?,
            self.pos_exact_keys.lend::<UInt64Type>(Column::PosExactKeys)?,
            self.neg_exact_keys.lend::<UInt64Type>(Column::NegExactKeys)?,
            self.id.lend()?,
            self.prompt.lend()?,
            self.source.lend()?,
            self.origin_file.lend()?,
            numbers(self.origin_line.lend())?,
        ];
        RecordBatch::try_new(Arc::clone(&Layout::current().binary), columns)
    }

    /// Checksum of the lent buffers that planning reads, see `format.rs`.
    pub(super) fn index_checksum(&self) -> u64 {
        let mut hash = Xxh3::new();
        for offsets in
            [&self.query.offsets, &self.pos.lists, &self.pos.texts.offsets, &self.neg.lists, &self.neg.texts.offsets]
        {
            hash.update(offsets.0.bytes());
        }
        hash.update(self.query_key.bytes());
        for keys in [&self.pos_keys, &self.neg_keys, &self.also_pos_keys] {
            hash.update(keys.lists.0.bytes());
            hash.update(keys.numbers.bytes());
        }
        hash.update(self.query_exact_key.bytes());
        for keys in [&self.pos_exact_keys, &self.neg_exact_keys] {
            hash.update(keys.lists.0.bytes());
            hash.update(keys.numbers.bytes());
        }
        hash.digest()
    }

    /// Empties the batch and takes its memory back.
    pub(super) fn reclaim(&mut self) {
        for texts in [&mut self.query, &mut self.id, &mut self.prompt, &mut self.source, &mut self.origin_file] {
            texts.reclaim();
        }
        for lists in [&mut self.pos, &mut self.neg] {
            lists.reclaim();
        }
        for lists in [&mut self.pos_scores, &mut self.neg_scores] {
            lists.reclaim();
        }
        let batching = [&mut self.pos_keys, &mut self.neg_keys, &mut self.also_pos_keys];
        for lists in batching.into_iter().chain([&mut self.pos_exact_keys, &mut self.neg_exact_keys]) {
            lists.reclaim();
        }
        self.query_key.reclaim();
        self.query_exact_key.reclaim();
        self.origin_line.reclaim();
        self.rows = 0;
        self.bytes = 0;
    }
}
