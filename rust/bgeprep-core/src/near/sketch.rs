//! Band hashes on disk, so laid out that one band of all texts is read without the others.
//!
//! ```text
//! block: texts u32 │ key u64 × texts │ band 0: u40 × texts │ band 1: u40 × texts │ …
//! ```
//!
//! Little-endian; a block holds the texts of one chunk of input. A text takes 8 bytes and 5 a band,
//! where one record a band would take 13 a band: comparing band by band costs no second spill.

use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::minhash::BAND_BITS;
use crate::{Error, Result};

/// Bytes of a band hash.
const BAND_BYTES: usize = (BAND_BITS / 8) as usize;

/// Sketches of one chunk's texts, gathered by one thread.
#[derive(Debug)]
pub struct SketchBlock {
    keys: Vec<u64>,
    bands: Vec<Vec<u8>>,
}

impl SketchBlock {
    /// An empty block of sketches of `bands` bands.
    pub fn new(bands: usize) -> Self {
        Self { keys: Vec::new(), bands: vec![Vec::new(); bands] }
    }

    /// Takes in one text.
    pub fn push(&mut self, key: u64, bands: impl Iterator<Item = u64>) {
        self.keys.push(key);
        for (column, hash) in self.bands.iter_mut().zip(bands) {
            column.extend_from_slice(&hash.to_le_bytes()[..BAND_BYTES]);
        }
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Appends the block to `out` and empties it.
    pub fn drain_into(&mut self, out: &mut Vec<u8>) {
        out.extend_from_slice(&(self.keys.len() as u32).to_le_bytes());
        for key in self.keys.drain(..) {
            out.extend_from_slice(&key.to_le_bytes());
        }
        for column in &mut self.bands {
            out.extend_from_slice(column);
            column.clear();
        }
    }
}

/// A file of blocks.
#[derive(Debug)]
pub struct SketchFile {
    path: PathBuf,
    file: Option<File>,
    /// The bands that each block holds.
    bands: Range<usize>,
    blocks: Vec<(u64, u32)>,
    texts: u64,
}

impl SketchFile {
    /// Opens a file of blocks of these bands. One that is not there is one without texts.
    pub fn open(path: &Path, bands: Range<usize>) -> Result<Self> {
        let columns = bands.len();
        let mut found = Self { path: path.to_owned(), file: None, bands, blocks: Vec::new(), texts: 0 };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        let end = file.metadata().map_err(Error::io(path, "read"))?.len();
        let (mut offset, mut count) = (0, [0; 4]);
        while offset < end {
            file.read_exact_at(&mut count, offset).map_err(Error::io(path, "read"))?;
            let texts = u32::from_le_bytes(count);
            found.blocks.push((offset + 4, texts));
            found.texts += u64::from(texts);
            offset += 4 + u64::from(texts) * (8 + BAND_BYTES * columns) as u64;
        }
        if offset != end {
            return Err(Error::Internal(format!("{}: a sketch file ends within a block", path.display())));
        }
        found.file = Some(file);
        Ok(found)
    }

    /// Texts in the file; equal ones count each time.
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// Calls `visit` with the keys of each block, or with a block's hashes in one band, as bytes: what the blocks
    /// would be made of if they were one.
    pub fn columns(&self, band: Option<usize>, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let mut bytes = Vec::new();
        for &(offset, texts) in &self.blocks {
            let texts = texts as usize;
            let (width, before) = match band {
                None => (8, 0),
                Some(band) => (BAND_BYTES, 8 + BAND_BYTES * (band - self.bands.start)),
            };
            bytes.resize(texts * width, 0);
            file.read_exact_at(&mut bytes, offset + (texts * before) as u64).map_err(Error::io(&self.path, "read"))?;
            visit(&bytes)?;
        }
        Ok(())
    }

    /// Appends `hash << 64 | key` of each text whose hash in `band` lies in `range`.
    pub fn read_band(&self, band: usize, range: Range<u64>, out: &mut Vec<u128>) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        let (mut keys, mut hashes) = (Vec::new(), Vec::new());
        for &(offset, texts) in &self.blocks {
            let texts = texts as usize;
            keys.resize(texts * 8, 0);
            hashes.resize(texts * BAND_BYTES, 0);
            let column = offset + (texts * (8 + BAND_BYTES * (band - self.bands.start))) as u64;
            file.read_exact_at(&mut keys, offset)
                .and_then(|()| file.read_exact_at(&mut hashes, column))
                .map_err(Error::io(&self.path, "read"))?;
            for (key, hash) in keys.as_chunks::<8>().0.iter().zip(hashes.as_chunks::<BAND_BYTES>().0) {
                let mut wide = [0; 8];
                wide[..BAND_BYTES].copy_from_slice(hash);
                let hash = u64::from_le_bytes(wide);
                if range.contains(&hash) {
                    out.push(u128::from(hash) << 64 | u128::from(u64::from_le_bytes(*key)));
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_band_comes_back_and_ranges_share_it_out() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sketches");
        assert_eq!(SketchFile::open(&path, 0..3).expect("none").texts(), 0);
        let (mut block, mut bytes) = (SketchBlock::new(3), Vec::new());
        let hash = |key: u64, band: u64| (key * 7919 + band * 104_729) % (1 << BAND_BITS);
        for key in 0..100 {
            block.push(key, (0..3).map(|band| hash(key, band)));
            if key % 30 == 29 {
                block.drain_into(&mut bytes);
            }
        }
        assert_eq!(block.len(), 10);
        block.drain_into(&mut bytes);
        assert!(block.is_empty());
        fs_err::write(&path, &bytes).expect("write");
        let file = SketchFile::open(&path, 0..3).expect("open");
        assert_eq!(file.texts(), 100);
        for band in 0..3 {
            let (mut whole, mut halves) = (Vec::new(), Vec::new());
            file.read_band(band, 0..1 << BAND_BITS, &mut whole).expect("read");
            let expected: Vec<u128> =
                (0..100).map(|key| u128::from(hash(key, band as u64)) << 64 | u128::from(key)).collect();
            assert_eq!(whole, expected);
            file.read_band(band, 0..400_000, &mut halves).expect("read");
            file.read_band(band, 400_000..1 << BAND_BITS, &mut halves).expect("read");
            halves.sort_unstable();
            whole.sort_unstable();
            assert_eq!(whole, halves);
        }
        fs_err::write(&path, &bytes[..bytes.len() - 1]).expect("write");
        assert!(SketchFile::open(&path, 0..3).is_err());
    }
}
