//! Packed rows on their way back: frame by frame, from one spill file or from pieces of several files.

use std::fs::File;
use std::io::{BufReader, Read};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::spill::FRAME_HEAD;
use crate::{Error, Result};

/// Rows of one bucket as a packed [`Spill`](super::spill::Spill) wrote them. What a run on one machine has in one file
/// can lie in many, one behind the other: whole frames in each.
#[derive(Debug, Clone)]
pub struct Packed {
    /// What messages call it; a file of that name need not be there.
    pub path: PathBuf,
    pieces: Vec<(Arc<File>, Range<u64>)>,
}

impl Packed {
    /// A spill file, which is empty if it was never written.
    pub fn open(path: &Path) -> Result<Self> {
        let pieces = match File::open(path) {
            Ok(file) => {
                let end = file.metadata().map_err(Error::io(path, "read"))?.len();
                vec![(Arc::new(file), 0..end)]
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        Ok(Self { path: path.to_owned(), pieces })
    }

    /// No rows yet; a file beside them would be made beside `path`.
    pub fn new(path: PathBuf) -> Self {
        Self { path, pieces: Vec::new() }
    }

    /// Appends a range of a file.
    pub fn push(&mut self, file: &Arc<File>, range: Range<u64>) {
        self.pieces.push((Arc::clone(file), range));
    }

    /// Bytes that the rows come to in memory.
    pub fn raw_size(&self) -> Result<u64> {
        let mut bytes = 0;
        for (file, range) in &self.pieces {
            let (mut at, mut head) = (range.start, [0; FRAME_HEAD]);
            while at < range.end {
                file.read_exact_at(&mut head, at).map_err(Error::io(&self.path, "read"))?;
                let (raw, packed) = lengths(head);
                bytes += raw as u64;
                at += (FRAME_HEAD + packed) as u64;
            }
        }
        Ok(bytes)
    }

    /// Calls `visit` with the raw bytes of each frame.
    pub fn unpack(&self, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let (mut packed, mut raw) = (Vec::new(), Vec::new());
        for (file, range) in &self.pieces {
            let mut at = range.start;
            let mut reader = BufReader::with_capacity(1 << 18, Piece { file, range: range.clone() });
            while at < range.end {
                let mut head = [0; FRAME_HEAD];
                reader.read_exact(&mut head).map_err(Error::io(&self.path, "read"))?;
                let (raw_bytes, packed_bytes) = lengths(head);
                packed.resize(packed_bytes, 0);
                reader.read_exact(&mut packed).map_err(Error::io(&self.path, "read"))?;
                raw.resize(raw_bytes, 0);
                zstd::bulk::decompress_to_buffer(&packed, &mut raw).map_err(Error::io(&self.path, "decompress"))?;
                visit(&raw)?;
                at += (FRAME_HEAD + packed_bytes) as u64;
            }
        }
        Ok(())
    }
}

/// Raw and packed bytes of a frame.
fn lengths(head: [u8; FRAME_HEAD]) -> (usize, usize) {
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i])) as usize;
    (word(0), word(4))
}

/// What is left of a piece; reading moves no cursor of the file, which others read at the same time.
struct Piece<'a> {
    file: &'a File,
    range: Range<u64>,
}

impl Read for Piece<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min((self.range.end - self.range.start) as usize);
        let read = self.file.read_at(&mut buffer[..most], self.range.start)?;
        self.range.start += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shuffle::spill::{Packing, Spill, path};

    /// A packed file with these records, each in a frame of its own.
    fn written(folder: &Path, records: &[Vec<u8>]) -> Packed {
        let spill = Spill::reopen(folder, "rows", Packing::Zstd, 1, &[0]).expect("spill");
        for record in records {
            spill.append(0, record).expect("append");
        }
        spill.finish().expect("finish");
        Packed::open(&path(folder, "rows", 0)).expect("open")
    }

    fn unpacked(packed: &Packed) -> Vec<u8> {
        let mut all = Vec::new();
        packed
            .unpack(&mut |rows| {
                all.extend_from_slice(rows);
                Ok(())
            })
            .expect("unpack");
        all
    }

    #[test]
    fn pieces_of_files_come_back_as_one_file_does() {
        let folder = tempfile::tempdir().expect("folder");
        let records: Vec<Vec<u8>> = (1..40u8).map(|at| vec![at; 5000 + usize::from(at)]).collect();
        let whole = written(&folder.path().join("whole"), &records);
        assert_eq!(unpacked(&whole), records.concat());
        assert_eq!(whole.raw_size().expect("size"), records.concat().len() as u64);

        let halves =
            [written(&folder.path().join("1"), &records[..11]), written(&folder.path().join("2"), &records[11..])];
        // as in a bundle: something before, something behind
        let bundle = folder.path().join("bundle");
        let bytes = halves.each_ref().map(|half| fs_err::read(&half.path).expect("read"));
        fs_err::write(&bundle, [b"front".as_slice(), &bytes[0], b"between", &bytes[1], b"behind"].concat())
            .expect("write");
        let file = Arc::new(File::open(&bundle).expect("open"));
        let mut pieces = Packed::new(folder.path().join("rows-none"));
        assert_eq!(pieces.raw_size().expect("size"), 0);
        let (first, second) = (bytes[0].len() as u64, bytes[1].len() as u64);
        pieces.push(&file, 5..5 + first);
        pieces.push(&file, 12 + first..12 + first + second);
        assert_eq!(unpacked(&pieces), records.concat());
        assert_eq!(pieces.raw_size().expect("size"), whole.raw_size().expect("size"));
        pieces.push(&file, 0..4);
        assert!(pieces.unpack(&mut |_| Ok(())).is_err(), "the control: no frame stands there");
        assert!(unpacked(&Packed::open(&folder.path().join("absent")).expect("open")).is_empty());
    }
}
