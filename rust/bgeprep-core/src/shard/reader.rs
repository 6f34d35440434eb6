//! A shard set, memory-mapped: any row in constant time, nothing read before it is needed.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt64Type};
use arrow_array::{Array, ListArray, RecordBatch};
use arrow_buffer::{Buffer, OffsetBuffer, ScalarBuffer};
use arrow_ipc::reader::FileDecoder;
use arrow_ipc::{Block as IpcBlock, MetadataVersion};
use arrow_schema::SchemaRef;
use fs_err as fs;
use xxhash_rust::xxh3::xxh3_64;

use super::format::{Column, Layout};
use super::index::{BatchIndex, metadata_length, none_each};
use super::manifest::{Block, Manifest, PartInfo};
use super::map::{map, wrong_length};
use super::row::{Row, RowIndex};
use super::text_column::TextColumn;
use crate::pair::SetKind;
use crate::{Error, Result};

/// Rows of one source: `first..first + rows`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceRange {
    /// Id of the source's first row.
    pub first: u64,
    /// Number of its rows.
    pub rows: u64,
}

/// An open shard set. Row ids count through sources, parts and rows in manifest order.
///
/// All methods may be called from many threads. A batch is checked against its checksum once,
/// before Arrow decodes it.
pub struct ShardSet {
    folder: PathBuf,
    manifest: Manifest,
    sources: Vec<SourceRange>,
    parts: Vec<Part>,
    batches: Vec<Batch>,
    places: Places,
}

struct Part {
    path: PathBuf,
    source: usize,
    length: u64,
    first_batch: usize,
    mapped: OnceLock<Buffer>,
}

struct Batch {
    part: usize,
    block: Block,
    index: OnceLock<BatchIndex>,
    texts: OnceLock<Texts>,
}

/// The columns of a batch that the index does not hold.
pub(super) struct Texts {
    pub(super) query: TextColumn,
    pub(super) pos: TextColumn,
    pub(super) neg: TextColumn,
    pub(super) pos_scores: Scores,
    pub(super) neg_scores: Scores,
    pub(super) id: TextColumn,
    pub(super) prompt: TextColumn,
    pub(super) origin_file: TextColumn,
    pub(super) origin_line: ScalarBuffer<u64>,
}

pub(super) struct Scores {
    lists: OffsetBuffer<i32>,
    scores: ScalarBuffer<f32>,
}

impl Scores {
    pub(super) fn none(rows: usize) -> Self {
        Self { lists: OffsetBuffer::new(none_each(rows)), scores: ScalarBuffer::from(Vec::new()) }
    }

    fn new(lists: &ListArray) -> Self {
        let scores = lists.values().as_primitive::<Float32Type>().values().clone();
        Self { lists: lists.offsets().clone(), scores }
    }

    pub(super) fn get(&self, row: usize) -> &[f32] {
        &self.scores[self.lists[row] as usize..self.lists[row + 1] as usize]
    }
}

/// Row id → batch: a table over ids at the mean batch size, then a search among the few batches
/// that start within one step of it.
struct Places {
    /// First row of each batch, and the number of rows at the end.
    starts: Vec<u64>,
    shift: u32,
    table: Vec<u32>,
}

impl Places {
    fn new(rows_of_batches: impl Iterator<Item = u32>) -> Self {
        let mut starts = vec![0];
        let mut end = 0;
        for rows in rows_of_batches {
            end += u64::from(rows);
            starts.push(end);
        }
        let shift = (end / starts.len() as u64).max(1).ilog2();
        let mut batch = 0;
        let mut table: Vec<u32> = Vec::new();
        for step in 0..=(end >> shift) {
            while starts.get(batch + 1).is_some_and(|next| *next <= step << shift) {
                batch += 1;
            }
            table.push(batch as u32);
        }
        Self { starts, shift, table }
    }

    fn rows(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }

    /// Batch and row in it; `id` is below [`rows`](Self::rows).
    fn find(&self, id: u64) -> (usize, usize) {
        let step = (id >> self.shift) as usize;
        let low = self.table[step] as usize;
        let end = self.starts.len() - 1;
        let high = self.table.get(step + 1).map_or(end, |high| end.min(*high as usize + 1));
        let batch = low + self.starts[low + 1..=high].partition_point(|start| *start <= id);
        (batch, (id - self.starts[batch]) as usize)
    }
}

impl ShardSet {
    /// Opens the set in `folder`: reads the manifest and looks at the length of every part.
    ///
    /// # Errors
    /// `Shard` if there is no complete set, or if a part is missing or has another length.
    pub fn open(folder: &Path) -> Result<Arc<Self>> {
        let manifest = Manifest::read(folder)?;
        let mut sources = Vec::new();
        let mut parts = Vec::new();
        let mut batches = Vec::new();
        let mut first = 0;
        for (source, entry) in manifest.sources.iter().enumerate() {
            sources.push(SourceRange { first, rows: entry.rows });
            first += entry.rows;
            for file in &entry.files {
                let path = present(folder, file)?;
                let part = parts.len();
                let first_batch = batches.len();
                parts.push(Part { path, source, length: file.bytes, first_batch, mapped: OnceLock::new() });
                batches.extend(file.blocks.iter().map(|block| Batch {
                    part,
                    block: *block,
                    index: OnceLock::new(),
                    texts: OnceLock::new(),
                }));
            }
        }
        let places = Places::new(batches.iter().map(|batch| batch.block.rows));
        Ok(Arc::new(Self { folder: folder.to_owned(), manifest, sources, parts, batches, places }))
    }

    /// The folder the set lies in.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// What the set says of itself.
    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// What its rows are.
    pub fn kind(&self) -> SetKind {
        self.manifest.kind
    }

    /// Number of rows.
    pub fn len(&self) -> u64 {
        self.places.rows()
    }

    /// Whether there is no row at all.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Row ranges of the sources, in manifest order.
    pub fn sources(&self) -> &[SourceRange] {
        &self.sources
    }

    /// Number of parts, over all sources.
    pub fn num_parts(&self) -> usize {
        self.parts.len()
    }

    /// Path of a part, for readers that open it without this software.
    pub fn part_path(&self, part: usize) -> Option<&Path> {
        self.parts.get(part).map(|part| part.path.as_path())
    }

    /// Number of record batches in a part, 0 if there is no such part.
    pub fn num_batches(&self, part: usize) -> usize {
        let start = |part: usize| self.parts.get(part).map_or(self.batches.len(), |part| part.first_batch);
        start(part.saturating_add(1)).saturating_sub(start(part))
    }

    /// The row ids of a part, empty if there is no such part.
    pub fn part_rows(&self, part: usize) -> std::ops::Range<u64> {
        let first = self.parts.get(part).map_or(self.batches.len(), |part| part.first_batch);
        self.places.starts[first]..self.places.starts[first + self.num_batches(part)]
    }

    /// Keys and lengths of row `id`; touches no text.
    pub fn index(&self, id: u64) -> Result<RowIndex<'_>> {
        let (batch, row) = self.find(id)?;
        let index = self.batch_index(batch).map_err(|error| at_row(id, error))?;
        Ok(RowIndex { index, row, source: self.parts[self.batches[batch].part].source })
    }

    /// Keys and lengths of row `id`, and the ids of the rows that share its batch.
    pub(crate) fn index_from(&self, id: u64) -> Result<(RowIndex<'_>, std::ops::Range<u64>)> {
        let (batch, row) = self.find(id)?;
        let start = id - row as u64;
        Ok((self.index(id)?, start..start + u64::from(self.batches[batch].block.rows)))
    }

    /// Row `id`.
    ///
    /// # Errors
    /// `Shard` if the batch it lies in is damaged, `Config` if there is no such row.
    pub fn row(&self, id: u64) -> Result<Row<'_>> {
        let (batch, row) = self.find(id)?;
        // Texts first: their checksum covers all of the batch, so that damage is called damage, wherever it is.
        let texts = self.batch_texts(batch).map_err(|error| at_row(id, error))?;
        let index = self.batch_index(batch)?;
        let source = self.parts[self.batches[batch].part].source;
        Ok(Row { index: RowIndex { index, row, source }, texts })
    }

    /// Record batch `batch` of part `part`, zero-copy from the mapped file.
    pub fn batch(&self, part: usize, batch: usize) -> Result<RecordBatch> {
        if batch >= self.num_batches(part) {
            return Err(Error::config("batch", format!("part {part} has {} batches", self.num_batches(part))));
        }
        self.decode(self.parts[part].first_batch + batch)
    }

    fn find(&self, id: u64) -> Result<(usize, usize)> {
        if id < self.len() {
            Ok(self.places.find(id))
        } else {
            Err(Error::config("row", format!("no row {id}, the set has {}", self.len())))
        }
    }

    fn batch_index(&self, batch: usize) -> Result<&BatchIndex> {
        let slot = &self.batches[batch].index;
        if let Some(index) = slot.get() {
            return Ok(index);
        }
        let message = self.message(batch)?;
        let index = BatchIndex::load(&message, &self.batches[batch].block, self.kind())
            .map_err(|what| self.damaged(batch, &what))?;
        // Two threads may both come here; both results are the same and one is kept.
        Ok(slot.get_or_init(|| index))
    }

    fn batch_texts(&self, batch: usize) -> Result<&Texts> {
        let slot = &self.batches[batch].texts;
        if let Some(texts) = slot.get() {
            return Ok(texts);
        }
        // As bytes: Arrow's own check of texts costs more than all else of the first look at a batch.
        let texts = decode(&self.message(batch)?, &self.batches[batch].block, &Layout::of(self.kind()).binary)
            .and_then(|columns| Texts::new(&columns, self.kind()))
            .map_err(|what| self.damaged(batch, &what))?;
        Ok(slot.get_or_init(|| texts))
    }

    fn decode(&self, batch: usize) -> Result<RecordBatch> {
        let block = &self.batches[batch].block;
        let schema = &Layout::of(self.kind()).schema;
        decode(&self.message(batch)?, block, schema).map_err(|what| self.damaged(batch, &what))
    }

    /// The bytes of the batch's IPC message.
    fn message(&self, batch: usize) -> Result<Buffer> {
        let Batch { part, block, .. } = &self.batches[batch];
        let part = &self.parts[*part];
        let mapped = if let Some(mapped) = part.mapped.get() {
            mapped
        } else {
            let mapped = map(&part.path, part.length)?;
            part.mapped.get_or_init(|| mapped)
        };
        Ok(mapped.slice_with_length(block.offset as usize, block.length as usize))
    }

    fn damaged(&self, batch: usize, what: &str) -> Error {
        let part = &self.parts[self.batches[batch].part];
        let place = batch - part.first_batch;
        let rows = self.places.starts[batch]..self.places.starts[batch + 1];
        let message =
            format!("batch {place} (rows {} to {} of the set): {what}", rows.start, rows.end.saturating_sub(1));
        Error::shard(&part.path, format!("{message}; see all damage with `bgeprep verify`"))
    }
}

impl std::fmt::Debug for ShardSet {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ShardSet").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// Names the row that was asked for when damage was found.
fn at_row(id: u64, error: Error) -> Error {
    match error {
        Error::Shard { path, message } => Error::shard(path, format!("row {id}: {message}")),
        other => other,
    }
}

/// The path of a file of the set, if it is there and has its length.
pub(super) fn present(folder: &Path, file: &PartInfo) -> Result<PathBuf> {
    let path = folder.join(&file.path);
    match fs::metadata(&path) {
        Ok(metadata) if metadata.len() == file.bytes => Ok(path),
        Ok(metadata) => Err(Error::shard(path, wrong_length(metadata.len(), file.bytes))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Err(Error::shard(path, "missing, though the manifest names it; restore the file or make the set again"))
        }
        Err(error) => Err(Error::io(path, "read")(error)),
    }
}

/// Checks a message against its checksum, then lets Arrow decode (and validate) it as columns of one
/// of the two schemas of [`Layout`].
pub(super) fn decode(message: &Buffer, block: &Block, schema: &SchemaRef) -> Result<RecordBatch, String> {
    let found = xxh3_64(message);
    if found != block.xxh3_64 {
        return Err(format!("damaged: xxh3-64 {found:016x}, the manifest says {:016x}", block.xxh3_64));
    }
    let metadata = metadata_length(message)?;
    let place = IpcBlock::new(0, metadata as i32, (message.len() - metadata) as i64);
    let decoder = FileDecoder::new(Arc::clone(schema), MetadataVersion::V5);
    let batch = decoder
        .read_record_batch(&place, message)
        .map_err(|error| format!("not a record batch of a part: {error}"))?
        .ok_or("an empty message")?;
    if batch.num_rows() != block.rows as usize {
        return Err(format!("{} rows, the manifest says {}", batch.num_rows(), block.rows));
    }
    match batch.columns().iter().zip(batch.schema().fields()).find(|(column, _)| column.null_count() > 0) {
        Some((_, column)) => Err(format!("column {} has nulls", column.name())),
        None => Ok(batch),
    }
}

impl Texts {
    /// Takes apart a batch that [`decode`] has checked, so all types are the schema's.
    pub(super) fn new(batch: &RecordBatch, kind: SetKind) -> Result<Self, String> {
        if kind == SetKind::Text {
            return Self::of_documents(batch);
        }
        let text = |column: Column| TextColumn::new(batch.column(column as usize), column.name());
        let list = |column: Column| batch.column(column as usize).as_list::<i32>();
        Ok(Self {
            query: text(Column::Query)?,
            pos: TextColumn::new(list(Column::Pos).values(), Column::Pos.name())?,
            neg: TextColumn::new(list(Column::Neg).values(), Column::Neg.name())?,
            pos_scores: Scores::new(list(Column::PosScores)),
            neg_scores: Scores::new(list(Column::NegScores)),
            id: text(Column::Id)?,
            prompt: text(Column::Prompt)?,
            origin_file: text(Column::OriginFile)?,
            origin_line: batch.column(Column::OriginLine as usize).as_primitive::<UInt64Type>().values().clone(),
        })
    }
}

#[cfg(test)]
#[path = "reader_tests.rs"]
mod tests;
