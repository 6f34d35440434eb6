//! The rows of a bucket on their way back from disk.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;

use fs_err as fs;

use super::RowId;
use super::packed::Packed;
use super::row::peek;
use crate::{Error, Result};

/// The rows of one bucket, in shuffled order, whether or not they fit in memory.
#[derive(Debug)]
pub struct SortedRows {
    path: PathBuf,
    body: Body,
    index: Vec<Entry>,
}

#[derive(Debug)]
enum Body {
    Loaded(Vec<u8>),
    OnDisk(File),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    order: u64,
    row: RowId,
    offset: u64,
    length: u32,
}

impl SortedRows {
    /// Opens a packed bucket, whose rows come to `bytes` ([`Packed::raw_size`], which whoever shares out memory has
    /// asked for already). Rows of at most `memory` bytes are held; else they are unpacked into a file beside the
    /// bucket, which has no name any more, and each is read when asked for.
    pub fn open(packed: &Packed, bytes: u64, memory: u64) -> Result<Self> {
        let mut index = Vec::new();
        let mut offset = 0;
        let body = if bytes <= memory {
            let mut loaded = Vec::with_capacity(bytes as usize);
            packed.unpack(&mut |rows| {
                scan(rows, &mut offset, &mut index)?;
                loaded.extend_from_slice(rows);
                Ok(())
            })?;
            Body::Loaded(loaded)
        } else {
            let beside = packed.path.with_extension("raw");
            let mut file = File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(&beside)
                .map_err(Error::io(&beside, "write"))?;
            fs::remove_file(&beside).map_err(Error::io(&beside, "remove"))?;
            packed.unpack(&mut |rows| {
                scan(rows, &mut offset, &mut index)?;
                file.write_all(rows).map_err(Error::io(&beside, "write"))
            })?;
            Body::OnDisk(file)
        };
        index.sort_unstable();
        // A run that goes on after a kill may have written some rows twice.
        index.dedup_by_key(|entry| (entry.order, entry.row));
        Ok(Self { path: packed.path.clone(), body, index })
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether the bucket has no row.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// The bytes of the `position`-th row in shuffled order; `scratch` holds them if they are read
    /// from disk.
    pub fn body<'a>(&'a self, position: usize, scratch: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let entry = self.index[position];
        match &self.body {
            Body::Loaded(bytes) => Ok(&bytes[entry.offset as usize..][..entry.length as usize]),
            Body::OnDisk(file) => {
                scratch.resize(entry.length as usize, 0);
                file.read_exact_at(scratch, entry.offset).map_err(Error::io(&self.path, "read"))?;
                Ok(scratch)
            }
        }
    }
}

/// Calls `visit` with the body of each row of a packed bucket, in the order of the file.
pub fn for_each_row(packed: &Packed, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
    packed.unpack(&mut |mut rows| {
        while !rows.is_empty() {
            let (body, rest) = next_row(rows)?;
            visit(body)?;
            rows = rest;
        }
        Ok(())
    })
}

fn next_row(rows: &[u8]) -> Result<(&[u8], &[u8])> {
    let torn = || Error::Internal("a spill file ends within a row".to_owned());
    let (length, rest) = rows.split_first_chunk().ok_or_else(torn)?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize).ok_or_else(torn)
}

/// Walks over length-prefixed rows and notes where each lies.
fn scan(mut rows: &[u8], offset: &mut u64, index: &mut Vec<Entry>) -> Result<()> {
    while !rows.is_empty() {
        let (body, rest) = next_row(rows)?;
        let (order, row) = peek(body)?;
        index.push(Entry { order, row, offset: *offset + 4, length: body.len() as u32 });
        *offset += 4 + body.len() as u64;
        rows = rest;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::CleanPair;
    use crate::shuffle::row::{SpillRow, decode, encode};
    use crate::shuffle::spill::{Packing, Spill};

    #[test]
    fn rows_come_back_sorted_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().expect("folder");
        let spill = Spill::reopen(folder.path(), "rows", Packing::Zstd, 1, &[0, 0]).expect("spill");
        let mut bytes = Vec::new();
        for line in 0..500u64 {
            bytes.clear();
            let mut pair = CleanPair::default();
            pair.query.text = "x".repeat(line as usize);
            encode(&pair, RowId { file: 0, line }, (line * 7919) % 500, &mut bytes);
            spill.append(1, &bytes).expect("append");
            if line % 100 == 7 {
                spill.append(1, &bytes).expect("written twice");
            }
        }
        let (empty, full) = (spill.path(0), spill.path(1));
        spill.finish().expect("finish");
        let empty = Packed::open(&empty).expect("file");
        assert!(SortedRows::open(&empty, empty.raw_size().expect("size"), 0).expect("open").is_empty());
        let full = Packed::open(&full).expect("file");
        let bytes = full.raw_size().expect("size");
        for memory in [0, u64::MAX] {
            let rows = SortedRows::open(&full, bytes, memory).expect("open");
            assert_eq!(rows.len(), 500);
            let mut scratch = Vec::new();
            for position in 0..500 {
                let mut row = SpillRow::default();
                decode(rows.body(position, &mut scratch).expect("body"), &mut row).expect("row");
                assert_eq!(row.order, position as u64);
                assert_eq!(row.query.len() as u64, row.row.line);
            }
        }
    }
}
