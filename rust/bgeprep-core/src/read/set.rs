//! A part of a shard set as input: its rows as they lie there, with keys and origin.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::chunk::{Chunk, Data, Visit};
use super::roles::Layout;
use super::{Body, ChunkReader, Format, Origin, ReadOptions, Record, detect};
use crate::Result;
use crate::pair::{Kept, RawPair, SetKind};
use crate::shard::{Row, ShardSet};

/// Cuts a part into runs of rows; each batch is checked against its checksum before a row of it is seen.
struct PartReader {
    set: Arc<ShardSet>,
    layout: Arc<Layout>,
    rows: Range<u64>,
    next: u64,
    rows_a_chunk: u64,
    bytes: u64,
}

/// Reads part `part` of a set that has `bytes` bytes.
pub fn open_part(set: &Arc<ShardSet>, part: usize, bytes: u64, options: &ReadOptions) -> Box<dyn ChunkReader> {
    let rows = set.part_rows(part);
    let count = rows.end - rows.start;
    let rows_a_chunk = u128::from(count) * options.chunk_bytes as u128 / u128::from(bytes.max(1));
    Box::new(PartReader {
        set: Arc::clone(set),
        layout: Arc::new(detect::layout(&set.part_path(part).map_or_else(PathBuf::new, PathBuf::from), options)),
        next: rows.start,
        rows,
        rows_a_chunk: (rows_a_chunk as u64).clamp(1, 4096),
        bytes,
    })
}

impl ChunkReader for PartReader {
    fn next_chunk(&mut self) -> Result<Option<Chunk>> {
        if self.next == self.rows.end {
            return Ok(None);
        }
        let (start, end) = (self.next, self.rows.end.min(self.next + self.rows_a_chunk));
        self.next = end;
        let data = Data::Set { set: Arc::clone(&self.set), ids: start..end, first: start - self.rows.start + 1 };
        Ok(Some(Chunk::new(&self.layout, data)))
    }

    fn format(&self) -> Format {
        Format::Arrow
    }

    fn bytes_read(&self) -> u64 {
        let (done, all) = (self.next - self.rows.start, self.rows.end - self.rows.start);
        (u128::from(done) * u128::from(self.bytes)).checked_div(u128::from(all)).unwrap_or(0) as u64
    }
}

/// The rows with these ids; the first is row `first` of its part.
pub(super) fn records(set: &ShardSet, ids: Range<u64>, first: u64, visit: &mut Visit<'_>) -> Result<()> {
    for (line, id) in (first..).zip(ids) {
        let row = set.row(id)?;
        let origin = Origin { file: row.origin_file().into(), line: row.origin_line() };
        visit(Record { line, origin: Some(origin), body: Body::Pair(pair(&row, set.kind())) })?;
    }
    Ok(())
}

fn pair<'a>(row: &Row<'a>, kind: SetKind) -> RawPair<'a> {
    RawPair {
        kind,
        query: row.query().into(),
        pos: (0..row.num_pos()).map(|item| row.pos(item).into()).collect(),
        neg: (0..row.num_neg()).map(|item| row.neg(item).into()).collect(),
        pos_scores: row.pos_scores().to_vec(),
        neg_scores: row.neg_scores().to_vec(),
        id: row.id().into(),
        prompt: row.prompt().into(),
        // The set's source has one task, which the run's source has taken over.
        task: None,
        kept: Some(Box::new(Kept {
            query_keys: (row.query_key(), row.query_exact_key()),
            pos_keys: row.pos_keys(),
            pos_exact_keys: row.pos_exact_keys(),
            neg_keys: row.neg_keys(),
            neg_exact_keys: row.neg_exact_keys(),
            also_pos_keys: row.also_pos_keys(),
        })),
    }
}
