//! Spill files that many threads append to, and their way back into memory.

use std::fs::File;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use arrow_buffer::Buffer;
use fs_err as fs;

use super::RowId;
use super::row::peek;
use crate::shard::map::map;
use crate::{Error, Result};

/// Above this many buckets a file is opened for each flush: open files are a scarce good.
const KEEP_OPEN: usize = 256;

/// A numbered family of append-only files. Records of one `append` stay together; their order
/// between calls is whatever the threads make it, so whoever reads must sort.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    name: &'static str,
    flush_at: usize,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    buffer: Mutex<Vec<u8>>,
    /// Locked on its own: while one thread writes, the others go on filling the next buffer.
    file: Mutex<Option<File>>,
}

impl Spill {
    /// `count` empty files `<folder>/<name>-<index>`; all buffers together hold `memory` bytes.
    pub fn create(folder: &Path, name: &'static str, count: usize, memory: u64) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let flush_at = (memory / count.max(1) as u64).clamp(4 << 10, 1 << 20) as usize;
        let buckets = (0..count).map(|_| Bucket::default()).collect();
        let spill = Self { folder: folder.to_owned(), name, flush_at, buckets };
        for index in 0..count {
            remove_if_there(&spill.path(index))?;
        }
        Ok(spill)
    }

    /// Path of one file; it exists only if something was appended to it.
    pub fn path(&self, index: usize) -> PathBuf {
        path(&self.folder, self.name, index)
    }

    /// Appends whole records to a file.
    pub fn append(&self, index: usize, records: &[u8]) -> Result<()> {
        self.append_with(index, |buffer| buffer.extend_from_slice(records))
    }

    /// Lets `write` append whole records to a file's buffer.
    pub fn append_with(&self, index: usize, write: impl FnOnce(&mut Vec<u8>)) -> Result<()> {
        let mut buffer = lock(&self.buckets[index].buffer)?;
        write(&mut buffer);
        if buffer.len() < self.flush_at {
            return Ok(());
        }
        let capacity = buffer.capacity();
        let full = std::mem::replace(&mut *buffer, Vec::with_capacity(capacity));
        drop(buffer);
        self.flush(index, &full)
    }

    /// Writes out what is buffered and closes all files.
    pub fn finish(self) -> Result<()> {
        for (index, bucket) in self.buckets.iter().enumerate() {
            let rest = std::mem::take(&mut *lock(&bucket.buffer)?);
            if !rest.is_empty() {
                self.flush(index, &rest)?;
            }
        }
        Ok(())
    }

    fn flush(&self, index: usize, records: &[u8]) -> Result<()> {
        let path = self.path(index);
        let mut kept = lock(&self.buckets[index].file)?;
        let mut file = match kept.take() {
            Some(file) => file,
            None => File::options().append(true).create(true).open(&path).map_err(Error::io(&path, "write"))?,
        };
        file.write_all(records).map_err(Error::io(&path, "write"))?;
        if self.buckets.len() <= KEEP_OPEN {
            *kept = Some(file);
        }
        Ok(())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> Result<std::sync::MutexGuard<'_, T>> {
    mutex.lock().map_err(|_| Error::Internal("a spill writer died".to_owned()))
}

/// Path of the `index`-th file of a family.
pub fn path(folder: &Path, name: &str, index: usize) -> PathBuf {
    folder.join(format!("{name}-{index:06}"))
}

/// Removes a file that may not be there.
pub fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io(path, "remove")(error)),
        _ => Ok(()),
    }
}

/// Bytes of a spill file; 0 if it was never written.
pub fn size(path: &Path) -> Result<u64> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(metadata.len()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(0),
        Err(error) => Err(Error::io(path, "read")(error)),
    }
}

/// A whole spill file in memory, empty if it was never written.
pub fn load(path: &Path) -> Result<Vec<u8>> {
    match fs::read(path) {
        Ok(bytes) => Ok(bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::io(path, "read")(error)),
    }
}

/// The rows of one bucket, in shuffled order, whether or not they fit in memory.
#[derive(Debug)]
pub struct SortedRows {
    path: PathBuf,
    body: Body,
    index: Vec<Entry>,
}

#[derive(Debug)]
enum Body {
    Mapped(Buffer),
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
    /// Opens a bucket; maps it if it has at most `memory` bytes, else reads each row when asked.
    pub fn open(path: &Path, memory: u64) -> Result<Self> {
        let bytes = size(path)?;
        let mut index = Vec::new();
        let body = if bytes <= memory {
            let mapped = if bytes == 0 { Buffer::default() } else { map(path, bytes)? };
            scan_mapped(&mapped, &mut index)?;
            Body::Mapped(mapped)
        } else {
            let file = File::open(path).map_err(Error::io(path, "read"))?;
            scan(&mut std::io::BufReader::with_capacity(1 << 20, &file), path, &mut index)?;
            Body::OnDisk(file)
        };
        index.sort_unstable();
        Ok(Self { path: path.to_owned(), body, index })
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
            Body::Mapped(bytes) => Ok(&bytes[entry.offset as usize..][..entry.length as usize]),
            Body::OnDisk(file) => {
                scratch.resize(entry.length as usize, 0);
                file.read_exact_at(scratch, entry.offset).map_err(Error::io(&self.path, "read"))?;
                Ok(scratch)
            }
        }
    }
}

/// Walks over length-prefixed rows and notes where each lies.
fn scan_mapped(mut rows: &[u8], index: &mut Vec<Entry>) -> Result<()> {
    let torn = || Error::Internal("a spill file ends within a row".to_owned());
    let mut offset = 0;
    while let Some((length, rest)) = rows.split_first_chunk() {
        let length = u32::from_le_bytes(*length);
        let (body, rest) = rest.split_at_checked(length as usize).ok_or_else(torn)?;
        let (order, row) = peek(body)?;
        index.push(Entry { order, row, offset: offset + 4, length });
        offset += 4 + u64::from(length);
        rows = rest;
    }
    if rows.is_empty() { Ok(()) } else { Err(torn()) }
}

/// The same for a file that is too large to map.
fn scan(reader: &mut impl Read, path: &Path, index: &mut Vec<Entry>) -> Result<()> {
    let (mut offset, mut body) = (0, Vec::new());
    loop {
        let mut length = [0; 4];
        match reader.read_exact(&mut length) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(()),
            result => result.map_err(Error::io(path, "read"))?,
        }
        let length = u32::from_le_bytes(length);
        body.resize(length as usize, 0);
        reader.read_exact(&mut body).map_err(Error::io(path, "read"))?;
        let (order, row) = peek(&body)?;
        index.push(Entry { order, row, offset: offset + 4, length });
        offset += 4 + u64::from(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clean::CleanPair;
    use crate::shuffle::row::{SpillRow, decode, encode};

    #[test]
    fn rows_come_back_sorted_from_memory_and_from_disk() {
        let folder = tempfile::tempdir().expect("folder");
        let spill = Spill::create(folder.path(), "rows", 2, 1).expect("spill");
        let mut bytes = Vec::new();
        for line in 0..500u64 {
            bytes.clear();
            let mut pair = CleanPair::default();
            pair.query.text = "x".repeat(line as usize);
            encode(&pair, RowId { file: 0, line }, (line * 7919) % 500, &mut bytes);
            spill.append(1, &bytes).expect("append");
        }
        let (empty, full) = (spill.path(0), spill.path(1));
        spill.finish().expect("finish");
        assert!(SortedRows::open(&empty, 0).expect("open").is_empty());
        for memory in [0, u64::MAX] {
            let rows = SortedRows::open(&full, memory).expect("open");
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
