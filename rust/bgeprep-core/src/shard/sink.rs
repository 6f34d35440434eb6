//! A file that appears whole or not at all, hashed on its way to disk.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_schema::ArrowError;
use fs_err as fs;
use xxhash_rust::xxh3::Xxh3;

use super::format::TEMPORARY;
use crate::{Error, Result};

/// Small pieces (IPC framing, paddings) gather in this buffer; larger ones go straight to the file.
const BUFFER_BYTES: usize = 64 << 10;

/// What one stretch of a file is: see [`AtomicFile::cut`].
pub(super) struct Stretch {
    pub(super) offset: u64,
    pub(super) length: u64,
    pub(super) xxh3_64: u64,
}

/// Writes to `<path>.tmp`; [`commit`](Self::commit) flushes, syncs and renames. Dropped before
/// that, it leaves nothing behind.
pub(crate) struct AtomicFile {
    path: PathBuf,
    temporary: PathBuf,
    file: Option<BufWriter<fs::File>>,
    whole: Box<Xxh3>,
    stretch: Box<Xxh3>,
    stretch_start: u64,
    written: u64,
}

impl AtomicFile {
    /// Creates the temporary file, and the folder it lies in.
    pub(crate) fn create(path: &Path) -> Result<Self> {
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder).map_err(Error::io(folder, "create folder"))?;
        }
        let mut temporary = path.as_os_str().to_owned();
        temporary.push(TEMPORARY);
        let temporary = PathBuf::from(temporary);
        let file = fs::File::create(&temporary).map_err(Error::io(path, "create"))?;
        Ok(Self {
            path: path.to_owned(),
            temporary,
            file: Some(BufWriter::with_capacity(BUFFER_BYTES, file)),
            whole: Box::new(Xxh3::new()),
            stretch: Box::new(Xxh3::new()),
            stretch_start: 0,
            written: 0,
        })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn written(&self) -> u64 {
        self.written
    }

    /// Ends the current stretch (all bytes since the last cut) and starts the next one.
    pub(super) fn cut(&mut self) -> Stretch {
        let stretch = Stretch {
            offset: self.stretch_start,
            length: self.written - self.stretch_start,
            xxh3_64: self.stretch.digest(),
        };
        self.stretch.reset();
        self.stretch_start = self.written;
        stretch
    }

    /// Makes the file durable and gives it its name: returns bytes and xxh3-128 of the whole.
    pub(crate) fn commit(mut self) -> Result<(u64, u128)> {
        let Some(buffered) = self.file.take() else {
            return Err(Error::Internal("a file was committed twice".to_owned()));
        };
        let result = self.make_durable(buffered);
        if result.is_err() {
            self.discard();
        }
        result.map(|()| (self.written, self.whole.digest128()))
    }

    fn make_durable(&self, buffered: BufWriter<fs::File>) -> Result<()> {
        let file = buffered.into_inner().map_err(|error| Error::io(&self.path, "write")(error.into_error()))?;
        file.sync_all().map_err(Error::io(&self.path, "sync"))?;
        drop(file);
        fs::rename(&self.temporary, &self.path).map_err(Error::io(&self.path, "rename"))?;
        // A rename is durable only once the folder that holds the name is.
        if let Some(folder) = self.path.parent() {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            let handle = fs::File::open(folder).map_err(Error::io(folder, "open folder"))?;
            handle.sync_all().map_err(Error::io(folder, "sync folder"))?;
        }
        Ok(())
    }

    fn discard(&self) {
        // Nothing can be done about a failure here; the leftover's name says what it is.
        let _ = fs::remove_file(&self.temporary);
    }

    /// Turns what Arrow or Parquet say about this file into our error.
    pub(crate) fn arrow_error(path: &Path) -> impl FnOnce(ArrowError) -> Error {
        let path = path.to_owned();
        move |error| match error {
            ArrowError::IoError(_, source) => Error::io(path, "write")(source),
            other => Error::Internal(format!("{}: {other}", path.display())),
        }
    }
}

impl Write for AtomicFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(file) = self.file.as_mut() else {
            return Err(io::Error::other("the file is closed"));
        };
        file.write_all(bytes)?;
        self.whole.update(bytes);
        self.stretch.update(bytes);
        self.written += bytes.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl Drop for AtomicFile {
    fn drop(&mut self) {
        if let Some(file) = self.file.take() {
            // The half-written rest is not worth writing: drop the buffer without a flush.
            let (_file, _unwritten) = file.into_parts();
            self.discard();
        }
    }
}
