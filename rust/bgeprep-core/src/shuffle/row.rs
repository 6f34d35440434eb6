//! One row as it lies in a spill file.
//!
//! ```text
//! length u32 │ order u64 │ file u32 │ line u64 │ query key u64 │ origin line u64
//! │ #pos u32 │ #neg u32 │ query bytes u32 │ id bytes u32 │ prompt bytes u32 │ origin bytes u32 │ from a set u32
//! │ (key u64, score f32, bytes u32) × (#pos + #neg) │ kept │ query, id, prompt, origin, pos…, neg… (UTF-8)
//! ```
//!
//! `key` is the exact key. The origin is that which the row itself brought along, its line 0 for none. `kept` is there
//! for rows that come from a shard set:
//!
//! ```text
//! query cluster u64 │ cluster u64 × (#pos + #neg) │ #also u32 │ also u64 × #also
//! ```
//!
//! Little-endian, unaligned; `length` counts what follows it. The format lives and dies with the
//! work folder.

use super::RowId;
use crate::clean::{CleanPair, CleanText};
use crate::{Error, Result};

const HEAD: usize = 8 + 4 + 8 + 8 + 8 + 7 * 4;
const ITEM: usize = 8 + 4 + 4;

/// A positive or negative of a spilled row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Item<'a> {
    /// The text.
    pub text: &'a str,
    /// Its exact key.
    pub key: u64,
    /// Its score, NaN for none.
    pub score: f32,
}

/// A spilled row, borrowed from the bytes it was read from.
#[derive(Debug, Clone, Default)]
pub struct SpillRow<'a> {
    /// Its place in the shuffled order.
    pub order: u64,
    /// Its place in the input.
    pub row: RowId,
    /// The raw file and line that it was first read from, if it brought them along.
    pub origin: Option<(&'a str, u64)>,
    /// The exact key of the query.
    pub query_key: u64,
    /// The query.
    pub query: &'a str,
    /// The record's own id.
    pub id: &'a str,
    /// The record's own instruction.
    pub prompt: &'a str,
    /// Positives.
    pub pos: Vec<Item<'a>>,
    /// Negatives.
    pub neg: Vec<Item<'a>>,
    /// What it brought along, if it comes from a shard set.
    pub kept: Option<KeptItems>,
}

/// What a row that comes from a shard set brought along.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptItems {
    /// Batching key of the query.
    pub query_cluster: u64,
    /// Batching keys of the positives, then of the negatives.
    pub clusters: Vec<u64>,
    /// Keys of the positives that other rows gave the query.
    pub also_pos_keys: Vec<u64>,
}

/// Appends the row to `out`.
pub fn encode(pair: &CleanPair, row: RowId, order: u64, out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&order.to_le_bytes());
    out.extend_from_slice(&row.file.to_le_bytes());
    out.extend_from_slice(&row.line.to_le_bytes());
    out.extend_from_slice(&pair.query.identity.key.to_le_bytes());
    out.extend_from_slice(&pair.origin.line.to_le_bytes());
    let texts = [&pair.query.text, &pair.id, &pair.prompt, &pair.origin.file];
    let from_set = usize::from(pair.kept.from_set);
    for size in [pair.pos.len(), pair.neg.len()].into_iter().chain(texts.map(String::len)).chain([from_set]) {
        out.extend_from_slice(&(size as u32).to_le_bytes());
    }
    let items = || pair.pos.iter().chain(&pair.neg);
    for CleanText { text, identity, score, .. } in items() {
        out.extend_from_slice(&identity.key.to_le_bytes());
        out.extend_from_slice(&score.to_le_bytes());
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    }
    if pair.kept.from_set {
        let cluster = |text: &CleanText| text.cluster.unwrap_or(text.identity.key);
        let also = &pair.kept.also_pos_keys;
        for number in std::iter::once(cluster(&pair.query)).chain(items().map(cluster)) {
            out.extend_from_slice(&number.to_le_bytes());
        }
        out.extend_from_slice(&(also.len() as u32).to_le_bytes());
        for key in also {
            out.extend_from_slice(&key.to_le_bytes());
        }
    }
    for text in texts.into_iter().chain(items().map(|item| &item.text)) {
        out.extend_from_slice(text.as_bytes());
    }
    let length = (out.len() - start - 4) as u32;
    out[start..start + 4].copy_from_slice(&length.to_le_bytes());
}

/// What sorting needs of a row, without its texts.
pub fn peek(body: &[u8]) -> Result<(u64, RowId)> {
    let mut cursor = Cursor { body };
    Ok((cursor.u64()?, RowId { file: cursor.u32()?, line: cursor.u64()? }))
}

/// Reads a row from its body (the bytes after `length`) into `out`, reusing its lists.
pub fn decode<'a>(body: &'a [u8], out: &mut SpillRow<'a>) -> Result<()> {
    if body.len() < HEAD {
        return Err(damaged());
    }
    let mut cursor = Cursor { body };
    out.order = cursor.u64()?;
    out.row = RowId { file: cursor.u32()?, line: cursor.u64()? };
    out.query_key = cursor.u64()?;
    let origin_line = cursor.u64()?;
    let (num_pos, num_neg) = (cursor.u32()? as usize, cursor.u32()? as usize);
    let sizes = [cursor.u32()?, cursor.u32()?, cursor.u32()?, cursor.u32()?];
    let from_set = cursor.u32()? > 0;
    let table = cursor.bytes((num_pos + num_neg) * ITEM)?;
    out.kept = if from_set { Some(cursor.kept(num_pos + num_neg)?) } else { None };
    // One look at all texts of the row together; cutting then only asks where characters begin.
    let mut texts = simdutf8::basic::from_utf8(cursor.body).map_err(|_| damaged())?;
    let mut text = |bytes: u32| {
        let (head, rest) = texts.split_at_checked(bytes as usize).ok_or_else(damaged)?;
        texts = rest;
        Ok::<&str, Error>(head)
    };
    [out.query, out.id, out.prompt] = [text(sizes[0])?, text(sizes[1])?, text(sizes[2])?];
    let origin_file = text(sizes[3])?;
    out.origin = (origin_line > 0).then_some((origin_file, origin_line));
    out.pos.clear();
    out.neg.clear();
    for (index, entry) in table.chunks_exact(ITEM).enumerate() {
        let mut entry = Cursor { body: entry };
        let (key, score) = (entry.u64()?, f32::from_bits(entry.u32()?));
        let item = Item { text: text(entry.u32()?)?, key, score };
        if index < num_pos { out.pos.push(item) } else { out.neg.push(item) }
    }
    Ok(())
}

fn damaged() -> Error {
    Error::Internal("a spill row is shorter than its own header says".to_owned())
}

struct Cursor<'a> {
    body: &'a [u8],
}

impl<'a> Cursor<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let (head, rest) = self.body.split_at_checked(count).ok_or_else(damaged)?;
        self.body = rest;
        Ok(head)
    }

    fn longs(&mut self, count: usize) -> Result<Vec<u64>> {
        Ok(self.bytes(count * 8)?.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
    }

    fn kept(&mut self, items: usize) -> Result<KeptItems> {
        let (query_cluster, clusters) = (self.u64()?, self.longs(items)?);
        let also = self.u32()? as usize;
        Ok(KeptItems { query_cluster, clusters, also_pos_keys: self.longs(also)? })
    }

    fn u32(&mut self) -> Result<u32> {
        let (head, rest) = self.body.split_first_chunk().ok_or_else(damaged)?;
        self.body = rest;
        Ok(u32::from_le_bytes(*head))
    }

    fn u64(&mut self) -> Result<u64> {
        let (head, rest) = self.body.split_first_chunk().ok_or_else(damaged)?;
        self.body = rest;
        Ok(u64::from_le_bytes(*head))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::text::Identity;
    use crate::clean::{GivenOrigin, KeptRow};

    fn text(text: &str, score: f32) -> CleanText {
        let identity = Identity::of(text, &mut String::new());
        CleanText { text: text.to_owned(), identity, score, ..CleanText::default() }
    }

    #[test]
    fn a_row_of_a_shard_set_brings_its_origin_and_keys() {
        let mut pair = CleanPair { query: text("what?", 0.0), pos: vec![text("this", 0.5)], ..CleanPair::default() };
        pair.neg = vec![text("that", 0.5)];
        pair.neg[0].cluster = Some(7);
        pair.origin = GivenOrigin { file: "数据/nq.jsonl".to_owned(), line: 12 };
        pair.kept = KeptRow { from_set: true, also_pos_keys: vec![4, u64::MAX] };
        let mut bytes = Vec::new();
        encode(&pair, RowId::default(), 1, &mut bytes);
        let mut back = SpillRow::default();
        decode(&bytes[4..], &mut back).expect("whole row");
        assert_eq!((back.query, back.pos[0].text, back.neg[0].text), ("what?", "this", "that"));
        let expected = KeptItems {
            query_cluster: pair.query.identity.key,
            clusters: vec![pair.pos[0].identity.key, 7],
            also_pos_keys: vec![4, u64::MAX],
        };
        assert_eq!((back.origin, back.kept), (Some(("数据/nq.jsonl", 12)), Some(expected)));
        for cut in 0..bytes.len() - 4 {
            assert!(decode(&bytes[4..4 + cut], &mut SpillRow::default()).is_err());
        }
    }

    #[test]
    fn a_row_comes_back_as_it_was() {
        let pair = CleanPair {
            query: text("what?", f32::NAN),
            pos: vec![text("this", 0.5), text("这个", f32::NAN)],
            neg: vec![text("", 1.0)],
            id: "q1".to_owned(),
            prompt: "find: ".to_owned(),
            origin: GivenOrigin { file: "raw".to_owned(), line: 3 },
            ..CleanPair::default()
        };
        let row = RowId { file: 3, line: 1 << 40 };
        let mut bytes = Vec::new();
        encode(&pair, row, 99, &mut bytes);
        assert_eq!(peek(&bytes[4..]).expect("header"), (99, row));
        let mut back = SpillRow::default();
        decode(&bytes[4..], &mut back).expect("whole row");
        assert_eq!((back.order, back.row, back.query, back.id, back.prompt), (99, row, "what?", "q1", "find: "));
        assert_eq!((back.origin, back.kept.is_none()), (Some(("raw", 3)), true));
        assert_eq!(back.query_key, pair.query.identity.key);
        let texts: Vec<_> = back.pos.iter().chain(&back.neg).map(|item| (item.text, item.key)).collect();
        let expected: Vec<_> =
            pair.pos.iter().chain(&pair.neg).map(|item| (item.text.as_str(), item.identity.key)).collect();
        assert_eq!(texts, expected);
        assert!(back.pos[0].score.to_bits() == 0.5f32.to_bits() && back.pos[1].score.is_nan());
        for cut in 0..bytes.len() - 4 {
            assert!(decode(&bytes[4..4 + cut], &mut SpillRow::default()).is_err());
        }
    }
}
