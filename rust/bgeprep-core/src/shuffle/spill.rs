//! Spill files that many threads append to, and their way back into memory.
//!
//! A packed file is a row of frames `raw bytes u32 │ packed bytes u32 │ zstd`: rows are text, and
//! writing a third of them costs less than writing all. Hashes do not shrink and stay as they are.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use crate::{Error, Result};

/// Above this many buckets a file is opened for each flush: open files are a scarce good.
const KEEP_OPEN: usize = 256;

/// zstd's level: the fast ones spend less time than the disk would.
const LEVEL: i32 = -1;

/// Bytes before the body of a frame.
pub(super) const FRAME_HEAD: usize = 8;

/// Whether a family's files are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packing {
    /// Records as they are.
    Plain,
    /// Frames of zstd.
    Zstd,
}

/// A numbered family of append-only files. Records of one `append` stay together; their order
/// between calls is whatever the threads make it, so whoever reads must sort.
#[derive(Debug)]
pub struct Spill {
    folder: PathBuf,
    name: &'static str,
    packing: Packing,
    flush_at: usize,
    buckets: Vec<Bucket>,
}

#[derive(Debug, Default)]
struct Bucket {
    buffer: Mutex<Vec<u8>>,
    /// Locked on its own: while one thread writes, the others go on filling the next buffer.
    file: Mutex<Output>,
}

#[derive(Debug, Default)]
struct Output {
    file: Option<File>,
    bytes: u64,
    packed: Vec<u8>,
}

impl Spill {
    /// `count` empty files `<folder>/<name>-<index>`; all buffers together hold `memory` bytes.
    pub fn create(folder: &Path, name: &'static str, count: usize, memory: u64) -> Result<Self> {
        Self::reopen(folder, name, Packing::Plain, memory, &vec![0; count])
    }

    /// Files as long as `lengths` says: what a killed run wrote beyond that is cut off.
    pub fn reopen(folder: &Path, name: &'static str, packing: Packing, memory: u64, lengths: &[u64]) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        let flush_at = (memory / lengths.len().max(1) as u64).clamp(4 << 10, 1 << 20) as usize;
        let output = |bytes| Mutex::new(Output { bytes, ..Output::default() });
        let buckets = lengths.iter().map(|&bytes| Bucket { buffer: Mutex::default(), file: output(bytes) }).collect();
        let spill = Self { folder: folder.to_owned(), name, packing, flush_at, buckets };
        for (index, &bytes) in lengths.iter().enumerate() {
            let path = spill.path(index);
            match (size(&path)?, bytes) {
                (_, 0) => remove_if_there(&path)?,
                (found, bytes) if found > bytes => {
                    let file = File::options().write(true).open(&path);
                    file.and_then(|file| file.set_len(bytes)).map_err(Error::io(&path, "truncate"))?;
                }
                (found, bytes) if found == bytes => {}
                (found, bytes) => {
                    let message = format!(
                        "a work file lost bytes: {found} of {bytes} are there; hint: remove the work folder and start again"
                    );
                    return Err(Error::shard(path, message));
                }
            }
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

    /// Writes out what is buffered; the length of each file.
    pub fn flush_all(&self) -> Result<Vec<u64>> {
        let mut lengths = Vec::with_capacity(self.buckets.len());
        for (index, bucket) in self.buckets.iter().enumerate() {
            let rest = std::mem::take(&mut *lock(&bucket.buffer)?);
            if !rest.is_empty() {
                self.flush(index, &rest)?;
            }
            lengths.push(lock(&bucket.file)?.bytes);
        }
        Ok(lengths)
    }

    /// Writes out what is buffered and closes all files.
    pub fn finish(self) -> Result<()> {
        self.flush_all().map(drop)
    }

    fn flush(&self, index: usize, records: &[u8]) -> Result<()> {
        let path = self.path(index);
        let mut output = lock(&self.buckets[index].file)?;
        let Output { file: kept, bytes: length, packed } = &mut *output;
        let mut file = match kept.take() {
            Some(file) => file,
            None => File::options().append(true).create(true).open(&path).map_err(Error::io(&path, "write"))?,
        };
        let bytes = match self.packing {
            Packing::Plain => records,
            Packing::Zstd => {
                pack(records, packed).map_err(Error::io(&path, "compress"))?;
                &*packed
            }
        };
        file.write_all(bytes).map_err(Error::io(&path, "write"))?;
        *length += bytes.len() as u64;
        if self.buckets.len() <= KEEP_OPEN {
            *kept = Some(file);
        } else {
            *packed = Vec::new();
        }
        Ok(())
    }
}

/// One frame.
fn pack(records: &[u8], out: &mut Vec<u8>) -> std::io::Result<()> {
    out.clear();
    out.resize(FRAME_HEAD + zstd::zstd_safe::compress_bound(records.len()), 0);
    let packed = zstd::bulk::compress_to_buffer(records, &mut out[FRAME_HEAD..], LEVEL)?;
    out[..4].copy_from_slice(&(records.len() as u32).to_le_bytes());
    out[4..8].copy_from_slice(&(packed as u32).to_le_bytes());
    out.truncate(FRAME_HEAD + packed);
    Ok(())
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reopened_file_is_cut_to_what_was_known_of_it() {
        let folder = tempfile::tempdir().expect("folder");
        let write = |spill: &Spill, record: u8| spill.append(0, &[record; 100]).expect("append");
        let spill = Spill::create(folder.path(), "keys", 1, 1).expect("spill");
        write(&spill, 1);
        let lengths = spill.flush_all().expect("flush");
        write(&spill, 2);
        let path = spill.path(0);
        spill.finish().expect("finish");
        assert_eq!(size(&path).expect("size"), 200);
        let spill = Spill::reopen(folder.path(), "keys", Packing::Plain, 1, &lengths).expect("reopen");
        write(&spill, 3);
        spill.finish().expect("finish");
        assert_eq!(load(&path).expect("load"), [[1; 100], [3; 100]].concat());
        assert!(Spill::reopen(folder.path(), "keys", Packing::Plain, 1, &[300]).is_err(), "bytes got lost");
    }
}
