//! All that one task leaves, in one file: it is there whole or not at all, and one request finds a partition in it.
//!
//! ```text
//! segments … │ ends of the segments, family by family: u64 × … │ report: JSON │ head: JSON │ head bytes u64 │ magic
//! ```
//!
//! A family is what a spill family is: numbered segments of records. Segments of neighbouring numbers lie side by side,
//! so whoever takes several partitions reads one range of every bundle.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::Done;
use super::place::{Place, PlacedFile};
use crate::shuffle::spill::path;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"bgebndl1";

/// Bytes of the end of a bundle that are read first; nearly every head fits in.
const TAIL: u64 = 4 << 10;

#[derive(Debug, Default, Serialize, Deserialize)]
struct Head {
    /// Where the ends of a family's segments stand, how many they are, and where the first segment starts.
    families: BTreeMap<String, (u64, u64, u64)>,
    /// Where the report stands, and its length.
    report: (u64, u64),
    /// What the task tells whoever hands out tasks.
    done: Done,
}

/// Writes a bundle.
#[derive(Debug)]
pub struct BundleWriter {
    path: PathBuf,
    out: BufWriter<File>,
    at: u64,
    families: Vec<(String, u64, Vec<u64>)>,
}

impl BundleWriter {
    /// An empty bundle.
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).map_err(Error::io(path, "write"))?;
        let out = BufWriter::with_capacity(1 << 18, file);
        Ok(Self { path: path.to_owned(), out, at: 0, families: Vec::new() })
    }

    /// Begins a family.
    pub fn family(&mut self, name: &str) {
        self.families.push((name.to_owned(), self.at, Vec::new()));
    }

    /// Appends bytes to the segment being written.
    pub fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.out.write_all(bytes).map_err(Error::io(&self.path, "write"))?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Ends the segment being written, which may be empty.
    pub fn end_segment(&mut self) {
        if let Some((_, _, ends)) = self.families.last_mut() {
            ends.push(self.at);
        }
    }

    /// Takes in a file as a segment, an empty one where there is no file.
    pub fn segment(&mut self, file: &Path) -> Result<()> {
        match File::open(file) {
            Ok(mut from) => {
                self.out.flush().map_err(Error::io(&self.path, "write"))?;
                // From file to file the kernel copies; nothing passes through this process. What can fail is the disk
                // that is written to.
                self.at += std::io::copy(&mut from, self.out.get_mut()).map_err(Error::io(&self.path, "write"))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io(file, "read")(error)),
        }
        self.end_segment();
        Ok(())
    }

    /// Takes in the `count` files of a spill family.
    pub fn spilled(&mut self, folder: &Path, name: &str, count: usize) -> Result<()> {
        self.family(name);
        (0..count).try_for_each(|index| self.segment(&path(folder, name, index)))
    }

    /// Takes in the files of a folder, in the order of their names.
    pub fn folder(&mut self, folder: &Path, name: &str) -> Result<()> {
        self.family(name);
        let mut files = Vec::new();
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            files.push(entry.map_err(Error::io(folder, "read"))?.path());
        }
        files.sort();
        files.iter().try_for_each(|file| self.segment(file))
    }

    /// Writes the rest.
    pub fn finish(mut self, report: &impl Serialize, done: &Done) -> Result<()> {
        let mut head = Head { done: done.clone(), ..Head::default() };
        for (name, start, ends) in std::mem::take(&mut self.families) {
            head.families.insert(name, (self.at, ends.len() as u64, start));
            for end in ends {
                self.write(&end.to_le_bytes())?;
            }
        }
        let json = serde_json::to_vec(report).map_err(|error| Error::Internal(error.to_string()))?;
        head.report = (self.at, json.len() as u64);
        self.write(&json)?;
        let json = serde_json::to_vec(&head).map_err(|error| Error::Internal(error.to_string()))?;
        self.write(&json)?;
        self.write(&(json.len() as u64).to_le_bytes())?;
        self.write(MAGIC)?;
        self.out.flush().map_err(Error::io(&self.path, "write"))
    }
}

/// A bundle that is read.
#[derive(Debug)]
pub struct Bundle {
    file: PlacedFile,
    head: Head,
}

impl Bundle {
    /// Opens a bundle.
    ///
    /// # Errors
    /// `Shard` if it is none; `Io` or `Store` if it cannot be read.
    pub fn open(place: &Place, name: &str) -> Result<Self> {
        let file = place.open(name)?;
        let damaged = || {
            let message = "a work file is damaged; hint: remove the work folder and start again";
            Error::shard(&file.path, message)
        };
        let mut start = file.bytes.saturating_sub(TAIL);
        let mut tail = file.bytes(start..file.bytes)?;
        let (front, magic) = tail.split_last_chunk::<8>().ok_or_else(damaged)?;
        let (_, length) = front.split_last_chunk::<8>().ok_or_else(damaged)?;
        let (length, whole) = (u64::from_le_bytes(*length), magic == MAGIC);
        if !whole || length > file.bytes {
            return Err(damaged());
        }
        if length + 16 > tail.len() as u64 {
            start = file.bytes.checked_sub(length + 16).ok_or_else(damaged)?;
            tail = file.bytes(start..file.bytes)?;
        }
        let json = &tail[tail.len() - 16 - length as usize..tail.len() - 16];
        let head = serde_json::from_slice(json).map_err(|_| damaged())?;
        Ok(Self { file, head })
    }

    /// What the task told of itself.
    pub fn done(&self) -> &Done {
        &self.head.done
    }

    /// Its length.
    pub fn bytes_in_all(&self) -> u64 {
        self.file.bytes
    }

    /// What the task came to.
    ///
    /// # Errors
    /// `Internal` if it is of another kind.
    pub fn report<T: DeserializeOwned>(&self) -> Result<T> {
        let (at, bytes) = self.head.report;
        let json = self.file.bytes(at..at + bytes)?;
        serde_json::from_slice(&json).map_err(|error| Error::Internal(format!("{}: {error}", self.file.path.display())))
    }

    /// Segments of a family; 0 if there is no such family.
    pub fn count(&self, family: &str) -> usize {
        self.head.families.get(family).map_or(0, |&(_, count, _)| count as usize)
    }

    /// Bytes of a segment.
    pub(super) fn bytes(&self, family: &str, index: usize) -> Result<u64> {
        let (start, ends) = self.bounds(family, index..index + 1)?;
        Ok(ends.last().map_or(0, |end| end - start))
    }

    /// The file, if this machine sees it.
    pub(super) fn file(&self) -> Option<&Arc<File>> {
        self.file.local()
    }

    /// Where the segments of a range start, and where each ends.
    pub(super) fn bounds(&self, family: &str, range: Range<usize>) -> Result<(u64, Vec<u64>)> {
        let Some(&(table, count, first)) = self.head.families.get(family) else { return Ok((0, Vec::new())) };
        let range = range.start..range.end.min(count as usize);
        if range.is_empty() {
            return Ok((0, Vec::new()));
        }
        // The end of the segment before is the start of the first.
        let from = range.start.saturating_sub(1);
        let ends = self.file.bytes(table + 8 * from as u64..table + 8 * range.end as u64)?;
        let mut ends = ends.as_chunks::<8>().0.iter().map(|end| u64::from_le_bytes(*end));
        let start = if range.start == 0 { first } else { ends.next().unwrap_or(first) };
        Ok((start, ends.collect()))
    }

    /// Calls `visit` with the bytes of each segment in a range of a family, block after block.
    pub fn read(
        &self,
        family: &str,
        range: Range<usize>,
        visit: &mut dyn FnMut(usize, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let (start, ends) = self.bounds(family, range.clone())?;
        let (mut at, mut segment) = (start, 0);
        self.file.read(start..ends.last().copied().unwrap_or(start), &mut |mut bytes| {
            while !bytes.is_empty() {
                while ends[segment] <= at {
                    segment += 1;
                }
                let (now, later) = bytes.split_at(bytes.len().min((ends[segment] - at) as usize));
                visit(range.start + segment, now)?;
                at += now.len() as u64;
                bytes = later;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::progress::Progress;
    use crate::store::Stores;

    pub(crate) fn place(folder: &Path) -> Place {
        let stores = Stores::new(std::sync::Arc::new(Progress::default()), folder);
        Place::new(folder, folder, &stores).expect("place")
    }

    /// Segment `index` of bundle `bundle`: some are empty, one is larger than a block.
    pub(crate) fn segment(bundle: usize, index: usize) -> Vec<u8> {
        let bytes = if index == 5 { 5 << 20 } else { (index * 7 + bundle) % 4 * 1000 };
        (0..bytes).map(|at| (at * 31 + index * 7 + bundle) as u8).collect()
    }

    pub(crate) fn bundle(place: &Place, number: usize) -> String {
        let (name, draft) = (format!("read/{number}"), place.draft("read/x").expect("draft"));
        let mut writer = BundleWriter::create(&draft).expect("create");
        for family in ["keys", "rows", "none"] {
            writer.family(family);
            for index in 0..if family == "none" { 0 } else { 300 } {
                writer.write(&segment(number, index)).expect("write");
                writer.end_segment();
            }
        }
        writer.finish(&vec![number; 1000], &Done::default()).expect("finish");
        place.put(&draft, &name, &Progress::default()).expect("put");
        name
    }

    #[test]
    fn a_bundle_that_was_cut_or_changed_at_its_end_is_refused() {
        let folder = tempfile::tempdir().expect("folder");
        let place = place(folder.path());
        let name = bundle(&place, 0);
        let file = folder.path().join(&name);
        let whole = fs::read(&file).expect("file");
        for cut in [0, 7, 15, 16, whole.len() / 2, whole.len() - 1] {
            fs::write(&file, &whole[..cut]).expect("cut");
            assert!(matches!(Bundle::open(&place, &name), Err(Error::Shard { .. })), "{cut}");
        }
        assert!(matches!(Bundle::open(&place, "read/none"), Err(Error::Io { .. })));
    }
}
