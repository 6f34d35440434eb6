//! What must be true inside a part whose checksums are right.

use arrow_array::cast::AsArray;
use arrow_buffer::Buffer;
use arrow_ipc::convert::fb_to_schema;
use arrow_ipc::root_as_footer;

use super::format::{Column, DocumentColumn, Layout};
use super::index::{BatchIndex, metadata_length};
use super::manifest::{Block, PartInfo};
use super::reader::{Texts, decode};
use super::row::{Row, RowIndex};
use crate::pair::SetKind;

/// The magic word at both ends of an Arrow IPC file.
const MAGIC: &[u8] = b"ARROW1";

/// The footer, which other readers go by, names the same batches and columns as the manifest.
pub(super) fn footer(bytes: &[u8], file: &PartInfo, kind: SetKind) -> Result<(), String> {
    let rest = bytes.strip_suffix(MAGIC).filter(|rest| rest.starts_with(MAGIC)).ok_or("not an Arrow IPC file")?;
    let (rest, length) = rest.split_last_chunk::<4>().ok_or("not an Arrow IPC file")?;
    let start = usize::try_from(i32::from_le_bytes(*length)).ok().and_then(|length| rest.len().checked_sub(length));
    let footer = root_as_footer(&rest[start.ok_or("the footer is longer than the file")?..])
        .map_err(|error| format!("bad footer: {error}"))?;
    let schema = footer.schema().ok_or("the footer has no schema")?;
    let (found, expected) = (fb_to_schema(schema), &Layout::of(kind).schema);
    if found.fields() != expected.fields() {
        return Err(format!("another schema: expected {expected:?}, found {found:?}"));
    }
    let batches = footer.recordBatches().ok_or("the footer names no batches")?;
    let agrees = batches.len() == file.blocks.len()
        && batches.iter().zip(&file.blocks).all(|(found, block)| {
            let length = i64::from(found.metaDataLength()) + found.bodyLength();
            u64::try_from(found.offset()) == Ok(block.offset) && u64::try_from(length) == Ok(block.length)
        });
    if agrees { Ok(()) } else { Err("the footer names other batches than the manifest".to_owned()) }
}

/// A batch decodes, and each of its rows keeps what the format promises.
pub(super) fn batch(
    message: &Buffer,
    block: &Block,
    kind: SetKind,
    source: &str,
    key: fn(&str) -> u64,
) -> Result<(), String> {
    metadata_length(message)?;
    let columns = decode(message, block, &Layout::of(kind).schema)?;
    let index = BatchIndex::load(message, block, kind)?;
    let texts = Texts::new(&columns, kind)?;
    let source_column = if kind == SetKind::Text { DocumentColumn::Source as usize } else { Column::Source as usize };
    let sources = columns.column(source_column).as_string::<i32>();
    for row in 0..block.rows as usize {
        let view = Row { index: RowIndex { index: &index, row, source: 0 }, texts: &texts };
        let named = if sources.value(row) == source { Ok(()) } else { Err("column source is of another source") };
        named
            .and_then(|()| promises(&view, kind, key))
            .map_err(|what| format!("row {row} (from {}:{}): {what}", view.origin_file(), view.origin_line()))?;
    }
    Ok(())
}

fn promises(row: &Row<'_>, kind: SetKind, key: fn(&str) -> u64) -> Result<(), &'static str> {
    let scored = |scores: &[f32], texts: usize| scores.is_empty() || scores.len() == texts;
    if row.num_pos() == 0 {
        return Err("no positive");
    }
    for (pos, neg) in [(row.pos_keys(), row.neg_keys()), (row.pos_exact_keys(), row.neg_exact_keys())] {
        if pos.len() != row.num_pos() || neg.len() != row.num_neg() {
            return Err("keys are not as many as their texts");
        }
    }
    if !scored(row.pos_scores(), row.num_pos()) || !scored(row.neg_scores(), row.num_neg()) {
        return Err("scores are not as many as their texts");
    }
    if row.origin_line() == 0 {
        return Err("origin_line counts from 1, found 0");
    }
    if kind == SetKind::Pairs && row.query_exact_key() != key(row.query()) {
        return Err("query_exact_key is not the key of the query");
    }
    let keyed =
        |keys: &[u64], text: &dyn Fn(usize) -> u64| keys.iter().enumerate().all(|(item, key)| *key == text(item));
    if !keyed(row.pos_exact_keys(), &|item| key(row.pos(item))) {
        return Err("pos_exact_keys are not the keys of the positives");
    }
    if !keyed(row.neg_exact_keys(), &|item| key(row.neg(item))) {
        return Err("neg_exact_keys are not the keys of the negatives");
    }
    // The smallest exact key names a cluster, so no member's can be below it.
    let named = |clusters: &[u64], exact: &[u64]| clusters.iter().zip(exact).all(|(cluster, exact)| cluster <= exact);
    if row.query_key() > row.query_exact_key()
        || !named(row.pos_keys(), row.pos_exact_keys())
        || !named(row.neg_keys(), row.neg_exact_keys())
    {
        return Err("a batching key is above the exact key of its text");
    }
    Ok(())
}
