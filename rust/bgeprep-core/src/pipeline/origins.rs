//! Where rows were first read: the place in the input, what a shard set says, or what the record itself said.
//!
//! What records say is spilled while they are read and looked up only for what is told to people: rejects, their twins,
//! messages. A chunk of the input leaves one block, so that the index in memory has an entry a chunk and not one a row:
//!
//! ```text
//! file u32 │ #rows u32 │ name bytes u32 │ (line u64, origin line u64, name start u32, name end u32) × #rows │ names
//! ```
//!
//! Lines ascend within a block. Blocks come in any order, and twice where a run went on after a kill.

use std::path::Path;

use arrow_buffer::Buffer;

use super::layout::{BucketLayout, SetPart};
use crate::read::Origin;
use crate::shard::map::map;
use crate::shuffle::RowId;
use crate::shuffle::spill::{Spill, path, size};
use crate::{Error, Result};

/// Name of the spill file.
pub(super) const ORIGINS: &str = "origins";

const HEAD: usize = 3 * 4;
const ENTRY: usize = 8 + 8 + 4 + 4;

/// What the records of one chunk say.
#[derive(Debug, Default)]
pub(super) struct Block {
    entries: Vec<u8>,
    names: String,
    /// The last name in `names`: records of one file follow each other.
    last: (usize, usize),
}

impl Block {
    /// Notes what the record on `line` says.
    pub(super) fn add(&mut self, line: u64, origin: &Origin<'_>) {
        if self.entries.is_empty() || self.names[self.last.0..self.last.1] != *origin.file {
            self.last = (self.names.len(), self.names.len() + origin.file.len());
            self.names.push_str(&origin.file);
        }
        self.entries.extend_from_slice(&line.to_le_bytes());
        self.entries.extend_from_slice(&origin.line.to_le_bytes());
        self.entries.extend_from_slice(&(self.last.0 as u32).to_le_bytes());
        self.entries.extend_from_slice(&(self.last.1 as u32).to_le_bytes());
    }

    /// Spills what was noted of a chunk of `file`, and begins anew.
    pub(super) fn spill(&mut self, file: u32, to: &Spill) -> Result<()> {
        if self.entries.is_empty() {
            return Ok(());
        }
        let rows = (self.entries.len() / ENTRY) as u32;
        to.append_with(0, |bytes| {
            for number in [file, rows, self.names.len() as u32] {
                bytes.extend_from_slice(&number.to_le_bytes());
            }
            bytes.extend_from_slice(&self.entries);
            bytes.extend_from_slice(self.names.as_bytes());
        })?;
        self.entries.clear();
        self.names.clear();
        Ok(())
    }
}

/// Where the rows of a run were first read.
#[derive(Debug)]
pub(super) struct Origins<'a> {
    layout: &'a BucketLayout,
    bytes: Buffer,
    /// File and first line of each block, and where it begins; sorted.
    blocks: Vec<(RowId, usize)>,
}

impl<'a> Origins<'a> {
    /// Opens what the read stage left in `folder`.
    ///
    /// # Errors
    /// `Io`; `Internal` if the file ends within a block.
    pub(super) fn open(layout: &'a BucketLayout, folder: &Path) -> Result<Self> {
        let file = path(folder, ORIGINS, 0);
        let length = size(&file)?;
        let bytes = if length == 0 { Buffer::default() } else { map(&file, length)? };
        let (mut blocks, mut at) = (Vec::new(), 0);
        while at < bytes.len() {
            let (file, rows, names) = (word(&bytes, at)?, word(&bytes, at + 4)?, word(&bytes, at + 8)?);
            blocks.push((RowId { file, line: long(&bytes, at + HEAD)? }, at));
            at += HEAD + rows as usize * ENTRY + names as usize;
        }
        blocks.sort_unstable();
        Ok(Self { layout, bytes, blocks })
    }

    /// The raw file and line that a row was first read from.
    ///
    /// # Errors
    /// `Shard` if it lies in a damaged part of a set.
    pub(super) fn of(&self, row: RowId) -> Result<(&str, u64)> {
        let file = &self.layout.files[row.file as usize];
        if let Some(SetPart { set, part }) = &file.part {
            let row = set.row(set.part_rows(*part).start + row.line.saturating_sub(1))?;
            return Ok((row.origin_file(), row.origin_line()));
        }
        Ok(self.given(row)?.unwrap_or((&file.origin, row.line)))
    }

    /// What the record itself said.
    fn given(&self, row: RowId) -> Result<Option<(&str, u64)>> {
        let Some(before) = self.blocks.partition_point(|(first, _)| *first <= row).checked_sub(1) else {
            return Ok(None);
        };
        let (first, at) = self.blocks[before];
        if first.file != row.file {
            return Ok(None);
        }
        let rows = word(&self.bytes, at + 4)? as usize;
        let entries = self.bytes.get(at + HEAD..at + HEAD + rows * ENTRY).ok_or_else(damaged)?.as_chunks::<ENTRY>().0;
        let line_of = |entry: &[u8; ENTRY]| u64::from_le_bytes(std::array::from_fn(|byte| entry[byte]));
        let Ok(found) = entries.binary_search_by_key(&row.line, line_of) else { return Ok(None) };
        let (entry, names) = (at + HEAD + found * ENTRY, at + HEAD + rows * ENTRY);
        let (start, end) = (word(&self.bytes, entry + 16)? as usize, word(&self.bytes, entry + 20)? as usize);
        let name = self.bytes.get(names + start..names + end).ok_or_else(damaged)?;
        Ok(Some((std::str::from_utf8(name).map_err(|_| damaged())?, long(&self.bytes, entry + 8)?)))
    }
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let word = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    Ok(u32::from_le_bytes(*word))
}

fn long(bytes: &[u8], at: usize) -> Result<u64> {
    let long = bytes.get(at..).and_then(<[u8]>::first_chunk).ok_or_else(damaged)?;
    Ok(u64::from_le_bytes(*long))
}

fn damaged() -> Error {
    Error::Internal("the file of origins ends within a block".to_owned())
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::pipeline::layout::FileEntry;
    use crate::shuffle::spill::Packing;

    fn layout(files: u32) -> BucketLayout {
        let entry = |file: u32| FileEntry {
            location: Path::new("in").into(),
            origin: format!("own-{file}"),
            source: 0,
            seed: 0,
            bytes: 1,
            part: None,
        };
        BucketLayout::of_files((0..files).map(entry).collect())
    }

    /// What record `line` of `file` says, if it says something.
    fn said(file: u32, line: u64) -> Option<(String, u64)> {
        (line % 5 != u64::from(file)).then(|| (format!("raw-{}", line / 7 * u64::from(file)), line * 3 % 11 + 1))
    }

    #[test]
    fn every_row_is_found_whatever_the_order_of_the_blocks() {
        let folder = tempfile::tempdir().expect("folder");
        let spill = Spill::reopen(folder.path(), ORIGINS, Packing::Plain, 1, &[0]).expect("spill");
        let mut block = Block::default();
        // The last chunk is done twice, as after a kill; file 2 says nothing at all.
        for (file, chunk) in [(1, 0), (0, 2), (0, 0), (1, 1), (0, 1), (0, 1)] {
            for line in chunk * 100 + 1..=chunk * 100 + 100 {
                if let Some((name, origin)) = said(file, line) {
                    block.add(line, &Origin { file: Cow::Owned(name), line: origin });
                }
            }
            block.spill(file, &spill).expect("spill");
        }
        block.spill(2, &spill).expect("an empty block");
        spill.finish().expect("finish");
        let layout = layout(3);
        let origins = Origins::open(&layout, folder.path()).expect("open");
        assert_eq!(origins.blocks.len(), 6);
        for (file, lines) in [(0, 300), (1, 200), (2, 50)] {
            for line in 1..=lines {
                let expected = if file < 2 { said(file, line) } else { None };
                let expected = expected.unwrap_or_else(|| (format!("own-{file}"), line));
                let found = origins.of(RowId { file, line }).expect("origin");
                assert_eq!(found, (expected.0.as_str(), expected.1), "{file}:{line}");
            }
        }
        let nothing = tempfile::tempdir().expect("folder");
        let origins = Origins::open(&layout, nothing.path()).expect("open");
        assert_eq!(origins.of(RowId { file: 1, line: 4 }).expect("origin"), ("own-1", 4));
    }

    #[test]
    fn a_file_that_is_cut_short_is_named() {
        let folder = tempfile::tempdir().expect("folder");
        let spill = Spill::reopen(folder.path(), ORIGINS, Packing::Plain, 1, &[0]).expect("spill");
        let mut block = Block::default();
        for line in 1..4 {
            block.add(line, &Origin { file: "raw".into(), line });
        }
        block.spill(0, &spill).expect("spill");
        let file = spill.path(0);
        spill.finish().expect("finish");
        let (layout, whole) = (layout(1), fs_err::read(&file).expect("file"));
        for cut in 1..whole.len() {
            fs_err::write(&file, &whole[..cut]).expect("cut");
            let found = Origins::open(&layout, folder.path());
            assert!(found.and_then(|origins| origins.of(RowId { file: 0, line: 2 }).map(|_| ())).is_err(), "{cut}");
        }
    }
}
