//! Where an input lies, and how it is opened.

use std::io::{self, Read, Seek as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::connect::Bucket;
use super::ranges::{Listed, RangeReader};
use super::url::ObjectUrl;
use crate::{Error, Result};

/// Bytes copied at once when an object is fetched whole.
const COPY_BYTES: usize = 1 << 20;

/// Where an input lies.
#[derive(Debug, Clone)]
pub enum Location {
    /// A file on this machine.
    Local(PathBuf),
    /// An object in a store.
    Object(Object),
}

impl Location {
    /// What messages call it: a path or a URL.
    pub fn path(&self) -> PathBuf {
        match self {
            Self::Local(path) => path.clone(),
            Self::Object(object) => PathBuf::from(object.url.to_string()),
        }
    }

    /// Its bytes from the first to the last.
    ///
    /// # Errors
    /// `Error::Io` for a file, `Error::Store` for an object. Errors of the stream carry an `Error::Store` too.
    pub fn open(&self) -> Result<Box<dyn Read + Send>> {
        match self {
            Self::Local(path) => Ok(Box::new(std::fs::File::open(path).map_err(Error::io(path, "open"))?)),
            Self::Object(object) => Ok(Box::new(object.stream()?)),
        }
    }

    /// A file for random access; an object is fetched whole first.
    ///
    /// # Errors
    /// As [`open`](Self::open), and `Error::Io` if the disk refuses the fetched bytes.
    pub fn file(&self) -> Result<std::fs::File> {
        match self {
            Self::Local(path) => std::fs::File::open(path).map_err(Error::io(path, "open")),
            Self::Object(object) => object.fetch(),
        }
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::Local(path.to_owned())
    }
}

impl From<&PathBuf> for Location {
    fn from(path: &PathBuf) -> Self {
        Self::Local(path.clone())
    }
}

impl From<&Self> for Location {
    fn from(location: &Self) -> Self {
        location.clone()
    }
}

/// An object with what the listing said of it, and the way to it. Made by [`Stores::locate`](super::Stores::locate).
#[derive(Debug, Clone)]
pub struct Object {
    pub(super) bucket: Arc<Bucket>,
    pub(super) url: ObjectUrl,
    pub(super) listed: Listed,
    pub(super) scratch: PathBuf,
}

impl Object {
    pub(super) fn stream(&self) -> Result<RangeReader> {
        self.bucket.stream(&self.url.key, self.listed.clone())
    }

    /// The object in a file that has no name any more: its space is free again once it is closed.
    fn fetch(&self) -> Result<std::fs::File> {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path = self.scratch.join(format!("fetched-{}-{number}", std::process::id()));
        fs_err::create_dir_all(&self.scratch).map_err(Error::io(&self.scratch, "create"))?;
        let mut file = std::fs::File::options()
            .create_new(true)
            .read(true)
            .write(true)
            .open(&path)
            .map_err(Error::io(&path, "create"))?;
        fs_err::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        let mut stream = self.stream()?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            let read = stream.read(&mut buffer).map_err(Error::io(self.url.to_string(), "read"))?;
            if read == 0 {
                break;
            }
            io::Write::write_all(&mut file, &buffer[..read]).map_err(Error::io(&path, "write"))?;
        }
        file.rewind().map_err(Error::io(&path, "read"))?;
        Ok(file)
    }
}
