//! Where tasks leave what others go on with: a folder that all machines see, or a prefix in an object store.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fs_err as fs;

use crate::progress::Progress;
use crate::shard::Manifest;
use crate::shard::publish::replace;
use crate::store::{Bucket, ObjectUrl, Stores};
use crate::{Error, Result};

/// Marks a file that is still being written.
const DRAFT: &str = ".draft";

/// A folder, or a prefix in a store. Names in it are relative, with `/`.
#[derive(Debug, Clone)]
pub struct Place {
    kind: Kind,
    /// A folder of this machine, for what is on its way into a store or out of it.
    scratch: PathBuf,
}

#[derive(Debug, Clone)]
enum Kind {
    Folder(PathBuf),
    Store(Arc<Bucket>, ObjectUrl),
}

/// A file in a place, read by ranges.
#[derive(Debug)]
pub struct PlacedFile {
    /// What messages call it.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    body: Body,
}

#[derive(Debug)]
enum Body {
    File(Arc<File>),
    Object { bucket: Arc<Bucket>, key: String, etag: String },
}

impl Place {
    /// The place that `at` names, a path or a URL.
    ///
    /// # Errors
    /// `Config` or `Store` for a URL that cannot be reached.
    pub fn new(at: &Path, scratch: &Path, stores: &Stores) -> Result<Self> {
        let kind = match ObjectUrl::from_path(at)? {
            Some(url) => Kind::Store(stores.bucket(&url.bucket)?, url),
            None => Kind::Folder(at.to_owned()),
        };
        Ok(Self { kind, scratch: scratch.to_owned() })
    }

    /// Where a file of that name is written before it is [`put`](Self::put); nobody else writes there.
    ///
    /// # Errors
    /// `Io` if the place itself is gone: the run is over, and a machine that it had lost sight of leaves nothing there.
    pub fn draft(&self, name: &str) -> Result<PathBuf> {
        static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mark = format!("{DRAFT}-{}-{number}", std::process::id());
        let path = match &self.kind {
            Kind::Folder(folder) => {
                fs::metadata(folder).map_err(Error::io(folder, "write to"))?;
                folder.join(format!("{name}{mark}"))
            }
            Kind::Store(..) => self.scratch.join(format!("{}{mark}", name.replace('/', "-"))),
        };
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        Ok(path)
    }

    /// A folder for files that are written before they are put; nobody else writes there.
    pub fn drafts(&self, name: &str) -> Result<PathBuf> {
        let path = self.draft(name)?;
        fs::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        Ok(path)
    }

    /// Gives a written file its name, whole or not at all; the file is gone then.
    pub fn put(&self, file: &Path, name: &str, progress: &Progress) -> Result<()> {
        match &self.kind {
            Kind::Folder(folder) => {
                // A draft that is gone went with its place: no folder is to come back for it.
                fs::metadata(file).map_err(Error::io(file, "rename"))?;
                let to = folder.join(name);
                let parent = to.parent().unwrap_or(folder);
                fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
                // Like all work files these do not wait for the disk: parts have done so before, in their writer.
                fs::rename(file, &to).map_err(Error::io(&to, "rename to"))
            }
            Kind::Store(bucket, url) => {
                bucket.put(file, &url.below(name), None, progress)?;
                fs::remove_file(file).map_err(Error::io(file, "remove"))
            }
        }
    }

    /// A file that is there.
    ///
    /// # Errors
    /// `Io` or `Store` if it is not, or cannot be read.
    pub fn open(&self, name: &str) -> Result<PlacedFile> {
        match &self.kind {
            Kind::Folder(folder) => {
                let path = folder.join(name);
                let file = File::open(&path).map_err(Error::io(&path, "read"))?;
                let bytes = file.metadata().map_err(Error::io(&path, "read"))?.len();
                Ok(PlacedFile { path, bytes, body: Body::File(Arc::new(file)) })
            }
            Kind::Store(bucket, url) => {
                let key = url.below(name);
                let place = format!("s3://{}/{key}", url.bucket);
                let found = bucket.head(&key)?;
                let (bytes, etag) =
                    found.ok_or_else(|| Error::store(&place, "expected a work file, found no object"))?;
                let body = Body::Object { bucket: Arc::clone(bucket), key, etag };
                Ok(PlacedFile { path: PathBuf::from(place), bytes, body })
            }
        }
    }

    /// A whole file for mapping: where it lies, or a copy that tasks of this machine share.
    pub fn on_this_machine(&self, name: &str) -> Result<PathBuf> {
        if let Kind::Folder(folder) = &self.kind {
            return Ok(folder.join(name));
        }
        let path = self.scratch.join("shared").join(name);
        if path.exists() {
            return Ok(path);
        }
        let file = self.open(name)?;
        let parent = path.parent().unwrap_or(&path);
        fs::create_dir_all(parent).map_err(Error::io(parent, "create"))?;
        let draft = self.draft(name)?;
        let mut to = File::create(&draft).map_err(Error::io(&draft, "write"))?;
        file.read(0..file.bytes, &mut |bytes| to.write_all(bytes).map_err(Error::io(&draft, "write")))?;
        fs::rename(&draft, &path).map_err(Error::io(&path, "rename to"))?;
        Ok(path)
    }

    /// The folder of that name, None in a store.
    pub fn folder(&self, name: &str) -> Option<PathBuf> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder.join(name)),
            Kind::Store(..) => None,
        }
    }

    /// Brings a set to its URL: parts from below `set/` of this place, all else from the folder `made`.
    ///
    /// Objects cannot be renamed: the store copies them, so that their bytes travel no more.
    pub fn move_set(&self, manifest: &Manifest, made: &Path, to: &ObjectUrl, progress: &Progress) -> Result<()> {
        let Kind::Store(bucket, from) = &self.kind else {
            return Err(Error::Internal("a set for a store was made in a folder".to_owned()));
        };
        replace(manifest, bucket, to, progress, &|name, there| {
            let file = made.join(name);
            if file.exists() {
                bucket.put(&file, &to.below(name), there, progress)
            } else {
                bucket.copy(&from.below(&format!("set/{name}")), &to.below(name))
            }
        })
    }

    /// Names of all files, sorted, without those that are still being written.
    pub fn names(&self) -> Result<Vec<String>> {
        let mut names = Vec::new();
        match &self.kind {
            Kind::Folder(folder) => walk(folder, "", &mut names)?,
            Kind::Store(bucket, url) => {
                let front = url.below("");
                let entries = bucket.list(&front)?;
                names.extend(entries.iter().filter_map(|entry| entry.key.strip_prefix(&front)).map(str::to_owned));
            }
        }
        names.retain(|name| !name.contains(DRAFT));
        names.sort();
        Ok(names)
    }

    /// Removes a file; that it is not there is no error.
    pub fn remove(&self, name: &str) -> Result<()> {
        match &self.kind {
            Kind::Folder(folder) => crate::shuffle::spill::remove_if_there(&folder.join(name)),
            Kind::Store(bucket, url) => bucket.remove(&url.below(name)),
        }
    }
}

fn walk(folder: &Path, front: &str, names: &mut Vec<String>) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io(folder, "read")(error)),
    };
    for entry in entries {
        let path = entry.map_err(Error::io(folder, "read"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if path.is_dir() {
            walk(&path, &format!("{front}{name}/"), names)?;
        } else {
            names.push(format!("{front}{name}"));
        }
    }
    Ok(())
}

/// Bytes asked for at once.
const BLOCK: u64 = 4 << 20;

impl PlacedFile {
    /// Calls `visit` with the bytes of a range, block after block.
    ///
    /// # Errors
    /// `Io` or `Store` if the file cannot be read; what `visit` says.
    pub fn read(&self, range: std::ops::Range<u64>, visit: &mut dyn FnMut(&[u8]) -> Result<()>) -> Result<()> {
        let mut at = range.start;
        let mut buffer = Vec::new();
        while at < range.end {
            let end = range.end.min(at + BLOCK);
            match &self.body {
                Body::File(file) => {
                    buffer.resize((end - at) as usize, 0);
                    file.read_exact_at(&mut buffer, at).map_err(Error::io(&self.path, "read"))?;
                    visit(&buffer)?;
                }
                Body::Object { bucket, key, etag } => visit(&bucket.range(key, (self.bytes, etag), at..end)?)?,
            }
            at = end;
        }
        Ok(())
    }

    /// It itself, if it is a file of this machine or of a file system that it sees.
    pub fn local(&self) -> Option<&Arc<File>> {
        match &self.body {
            Body::File(file) => Some(file),
            Body::Object { .. } => None,
        }
    }

    /// The bytes of a small range.
    ///
    /// # Errors
    /// As [`read`](Self::read).
    pub fn bytes(&self, range: std::ops::Range<u64>) -> Result<Vec<u8>> {
        let mut all = Vec::with_capacity((range.end - range.start) as usize);
        self.read(range, &mut |bytes| {
            all.extend_from_slice(bytes);
            Ok(())
        })?;
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_that_is_gone_does_not_come_back() {
        let folder = tempfile::tempdir().expect("folder");
        let at = folder.path().join("place");
        let progress = Arc::new(Progress::default());
        let place = Place::new(&at, folder.path(), &Stores::new(Arc::clone(&progress), folder.path())).expect("place");
        assert!(place.draft("read/1").is_err(), "nobody made it yet");
        fs::create_dir(&at).expect("create");
        let draft = place.draft("read/1").expect("draft");
        fs::write(&draft, "left").expect("write");
        fs::remove_dir_all(&at).expect("remove");
        assert!(place.put(&draft, "read/1", &progress).is_err());
        assert!(place.draft("read/2").is_err());
        assert!(!at.exists());
    }
}
