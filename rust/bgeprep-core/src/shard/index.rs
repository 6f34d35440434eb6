//! The part of a record batch that planning reads: keys and lengths, without the texts.
//!
//! The buffers are found through the IPC message's own metadata and checked against
//! `index_xxh3_64` before any of them is used, so planning over a set touches a twentieth of it.

use std::sync::LazyLock;

use arrow_buffer::{ArrowNativeType, Buffer, ScalarBuffer};
use arrow_ipc::root_as_message;
use xxhash_rust::xxh3::Xxh3;

use super::format::MAX_BATCH_ROWS;
use super::manifest::Block;
use crate::pair::SetKind;

/// Places of buffers in a record batch message: every array has a validity buffer first, then
/// texts have offsets and bytes, lists have offsets and then the buffers of their items.
mod place {
    pub(super) const QUERY: usize = 1;
    pub(super) const POS: usize = 4;
    pub(super) const POS_TEXTS: usize = 6;
    pub(super) const NEG: usize = 9;
    pub(super) const NEG_TEXTS: usize = 11;
    pub(super) const QUERY_KEY: usize = 22;
    pub(super) const POS_KEYS: usize = 24;
    pub(super) const NEG_KEYS: usize = 28;
    pub(super) const ALSO_POS_KEYS: usize = 32;
    pub(super) const QUERY_EXACT_KEY: usize = 36;
    pub(super) const POS_EXACT_KEYS: usize = 38;
    pub(super) const NEG_EXACT_KEYS: usize = 42;
    pub(super) const ALL: usize = 59;
}

/// The same in a set of texts.
mod text_place {
    pub(super) const TEXT: usize = 1;
    pub(super) const TITLE: usize = 4;
    pub(super) const KEY: usize = 7;
    pub(super) const EXACT_KEY: usize = 9;
    pub(super) const ALL: usize = 18;
}

/// Boundaries of texts or lists.
pub(super) struct Ends(ScalarBuffer<i32>);

impl Ends {
    pub(super) fn range(&self, item: usize) -> std::ops::Range<usize> {
        self.0[item] as usize..self.0[item + 1] as usize
    }

    fn last(&self) -> usize {
        self.0[self.0.len() - 1] as usize
    }
}

pub(super) struct KeyLists {
    lists: Ends,
    keys: ScalarBuffer<u64>,
}

impl KeyLists {
    /// These keys with the boundaries of others, which must be the same.
    fn within(self, other: &Self) -> Result<Self, String> {
        if self.lists.0 != other.lists.0 {
            return Err("exact keys and batching keys of other lengths".to_owned());
        }
        Ok(Self { lists: Ends(other.lists.0.clone()), keys: self.keys })
    }

    pub(super) fn get(&self, row: usize) -> &[u64] {
        &self.keys[self.lists.range(row)]
    }
}

/// Keys and boundaries of one record batch.
pub(super) struct BatchIndex {
    pub(super) query: Ends,
    pub(super) pos: Ends,
    pub(super) pos_texts: Ends,
    pub(super) neg: Ends,
    pub(super) neg_texts: Ends,
    pub(super) query_key: ScalarBuffer<u64>,
    pub(super) pos_keys: KeyLists,
    pub(super) neg_keys: KeyLists,
    pub(super) also_pos_keys: KeyLists,
    pub(super) query_exact_key: ScalarBuffer<u64>,
    pub(super) pos_exact_keys: KeyLists,
    pub(super) neg_exact_keys: KeyLists,
}

/// Length of the message's metadata with its prefix of 8 bytes; the body follows.
pub(super) fn metadata_length(message: &[u8]) -> Result<usize, String> {
    let prefix = message.get(..8).ok_or("shorter than a message prefix")?;
    let (marker, length) = prefix.split_at(4);
    if marker != [0xff; 4] {
        return Err("no IPC message starts here".to_owned());
    }
    let length = length.try_into().map(u32::from_le_bytes).map_err(|_| "no message length".to_owned())? as usize;
    if length > message.len() - 8 {
        return Err("the message's metadata is longer than the message".to_owned());
    }
    Ok(8 + length)
}

impl BatchIndex {
    /// Finds and checks the index of the batch whose IPC message is `message`.
    pub(super) fn load(message: &Buffer, block: &Block, kind: SetKind) -> Result<Self, String> {
        let body_start = metadata_length(message)?;
        let metadata = root_as_message(&message[8..body_start]).map_err(|error| format!("bad metadata: {error}"))?;
        let batch = metadata.header_as_record_batch().ok_or("the message is no record batch")?;
        let all = if kind == SetKind::Text { text_place::ALL } else { place::ALL };
        let places = batch.buffers().filter(|places| places.len() == all).ok_or("not the columns of a part")?;
        let rows = usize::try_from(batch.length()).unwrap_or(usize::MAX);
        if rows != block.rows as usize {
            return Err(format!("{rows} rows, the manifest says {}", block.rows));
        }
        let body = message.slice(body_start);
        let mut cursor = Cursor {
            body,
            places: |index| (places.get(index).offset(), places.get(index).length()),
            hash: Xxh3::new(),
        };
        if kind == SetKind::Text {
            let index = Self::of_texts(&mut cursor, rows)?;
            return cursor.compare(block).map(|()| index);
        }
        let query = cursor.ends(place::QUERY, rows)?;
        let pos = cursor.ends(place::POS, rows)?;
        let pos_texts = cursor.ends(place::POS_TEXTS, pos.last())?;
        let neg = cursor.ends(place::NEG, rows)?;
        let neg_texts = cursor.ends(place::NEG_TEXTS, neg.last())?;
        let query_key = cursor.numbers(place::QUERY_KEY, rows)?;
        let pos_keys = cursor.key_lists(place::POS_KEYS, rows)?;
        let neg_keys = cursor.key_lists(place::NEG_KEYS, rows)?;
        let also_pos_keys = cursor.key_lists(place::ALSO_POS_KEYS, rows)?;
        let query_exact_key = cursor.numbers(place::QUERY_EXACT_KEY, rows)?;
        let pos_exact_keys = cursor.key_lists(place::POS_EXACT_KEYS, rows)?;
        let neg_exact_keys = cursor.key_lists(place::NEG_EXACT_KEYS, rows)?;
        // One memory for equal boundaries: a row's keys are then fewer cache lines apart.
        let pos_exact_keys = pos_exact_keys.within(&pos_keys)?;
        let neg_exact_keys = neg_exact_keys.within(&neg_keys)?;
        cursor.compare(block)?;
        Ok(Self {
            query,
            pos,
            pos_texts,
            neg,
            neg_texts,
            query_key,
            pos_keys,
            neg_keys,
            also_pos_keys,
            query_exact_key,
            pos_exact_keys,
            neg_exact_keys,
        })
    }
}

/// Boundaries of lists of one item each. What documents lack as pairs is the same for all batches,
/// so that an open set of many holds it once.
fn one_each(rows: usize) -> ScalarBuffer<i32> {
    static STEPS: LazyLock<ScalarBuffer<i32>> = LazyLock::new(|| (0..=MAX_BATCH_ROWS as i32).collect());
    STEPS.slice(0, rows + 1)
}

/// Boundaries of empty lists or texts.
pub(super) fn none_each(rows: usize) -> ScalarBuffer<i32> {
    static ZEROS: LazyLock<ScalarBuffer<i32>> = LazyLock::new(|| ScalarBuffer::from(vec![0; MAX_BATCH_ROWS + 1]));
    ZEROS.slice(0, rows + 1)
}

fn no_key_each(rows: usize) -> ScalarBuffer<u64> {
    static ZEROS: LazyLock<ScalarBuffer<u64>> = LazyLock::new(|| ScalarBuffer::from(vec![0; MAX_BATCH_ROWS]));
    ZEROS.slice(0, rows)
}

impl BatchIndex {
    /// Documents as pairs: the title is the query, the text the one positive.
    fn of_texts<F: Fn(usize) -> (i64, i64)>(cursor: &mut Cursor<F>, rows: usize) -> Result<Self, String> {
        if rows > MAX_BATCH_ROWS {
            return Err(format!("{rows} rows, a batch has at most {MAX_BATCH_ROWS}"));
        }
        let text = cursor.ends(text_place::TEXT, rows)?;
        let title = cursor.ends(text_place::TITLE, rows)?;
        let [key, exact_key] = [text_place::KEY, text_place::EXACT_KEY].map(|place| cursor.numbers(place, rows));
        let one_each = || Ends(one_each(rows));
        let none_each = || Ends(none_each(rows));
        let no_keys = || KeyLists { lists: none_each(), keys: ScalarBuffer::from(Vec::new()) };
        Ok(Self {
            query: title,
            pos: one_each(),
            pos_texts: text,
            neg: none_each(),
            neg_texts: none_each(),
            query_key: no_key_each(rows),
            pos_keys: KeyLists { lists: one_each(), keys: key? },
            neg_keys: no_keys(),
            also_pos_keys: no_keys(),
            query_exact_key: no_key_each(rows),
            pos_exact_keys: KeyLists { lists: one_each(), keys: exact_key? },
            neg_exact_keys: no_keys(),
        })
    }
}

/// Takes buffers out of a message's body in the order of the index checksum.
struct Cursor<F: Fn(usize) -> (i64, i64)> {
    body: Buffer,
    places: F,
    hash: Xxh3,
}

impl<F: Fn(usize) -> (i64, i64)> Cursor<F> {
    fn numbers<T: ArrowNativeType>(&mut self, place: usize, count: usize) -> Result<ScalarBuffer<T>, String> {
        let (offset, length) = (self.places)(place);
        let bytes = count.checked_mul(size_of::<T>()).ok_or("a buffer is too long")?;
        let inside = |offset: usize| offset.checked_add(bytes).is_some_and(|end| end <= self.body.len());
        let start = usize::try_from(offset).ok().filter(|offset| inside(*offset));
        let start = start.filter(|_| length == bytes as i64).ok_or("a buffer lies outside of its message")?;
        let buffer = self.body.slice_with_length(start, bytes);
        if buffer.as_ptr().align_offset(align_of::<T>()) != 0 {
            return Err("a buffer is not aligned".to_owned());
        }
        self.hash.update(&buffer);
        Ok(ScalarBuffer::from(buffer))
    }

    /// Holds what was taken against the checksum of the manifest.
    fn compare(&self, block: &Block) -> Result<(), String> {
        let found = self.hash.digest();
        if found == block.index_xxh3_64 {
            return Ok(());
        }
        Err(format!("damaged keys: xxh3-64 {found:016x}, the manifest says {:016x}", block.index_xxh3_64))
    }

    /// Boundaries of `count` items: from 0, never falling.
    fn ends(&mut self, place: usize, count: usize) -> Result<Ends, String> {
        let ends = self.numbers::<i32>(place, count + 1)?;
        if ends.first() != Some(&0) || ends.windows(2).any(|pair| pair[0] > pair[1]) {
            return Err("boundaries that fall".to_owned());
        }
        Ok(Ends(ends))
    }

    fn key_lists(&mut self, place: usize, rows: usize) -> Result<KeyLists, String> {
        let lists = self.ends(place, rows)?;
        let keys = self.numbers(place + 2, lists.last())?;
        Ok(KeyLists { lists, keys })
    }
}
