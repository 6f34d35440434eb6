//! The work folder: one writer at a time, and what a killed run can go on with.
//!
//! A stage that is done leaves `<stage>.json`, written last and renamed into place. A run that
//! finds its own fingerprint in `run.json` starts behind the last stage that is done; anything
//! else in the folder is discarded.

use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};

use fs_err as fs;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{Error, Result};

/// A locked work folder. The lock ends with the process, however it ends.
#[derive(Debug)]
pub struct WorkFolder {
    path: PathBuf,
    _lock: File,
    /// Whether files of another input or config had to be thrown away.
    pub discarded: bool,
    /// Whether an earlier run with this fingerprint left something to go on with.
    pub resumed: bool,
}

impl WorkFolder {
    /// Creates or reopens the folder for a run with this fingerprint.
    pub fn open(path: &Path, fingerprint: &str) -> Result<Self> {
        fs::create_dir_all(path).map_err(Error::io(path, "create"))?;
        let lock_path = path.join("lock");
        let lock =
            File::options().create(true).append(true).open(&lock_path).map_err(Error::io(&lock_path, "write"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Error::shard(
                    path,
                    "another run is writing here; wait for it to end, or choose another --out",
                ));
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&lock_path, "lock")(error)),
        }
        let mut folder = Self { path: path.to_owned(), _lock: lock, discarded: false, resumed: false };
        match folder.done::<String>("run")? {
            Some(found) if found == fingerprint => folder.resumed = true,
            found => {
                folder.discarded = found.is_some();
                folder.clear()?;
                folder.mark("run", &fingerprint)?;
            }
        }
        Ok(folder)
    }

    /// Removes what a run left that was killed behind its last step, unless another one is writing there.
    pub fn sweep(path: &Path) -> Result<()> {
        if !path.is_dir() {
            return Ok(());
        }
        let lock_path = path.join("lock");
        let lock =
            File::options().create(true).append(true).open(&lock_path).map_err(Error::io(&lock_path, "write"))?;
        match lock.try_lock() {
            Ok(()) => fs::remove_dir_all(path).map_err(Error::io(path, "remove")),
            Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(error)) => Err(Error::io(&lock_path, "lock")(error)),
        }
    }

    /// The folder of one stage's files.
    pub fn stage(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What a finished stage left to know, or None if it has to run.
    pub fn done<T: DeserializeOwned>(&self, stage: &str) -> Result<Option<T>> {
        let path = self.path.join(format!("{stage}.json"));
        match fs::read(&path) {
            // A marker that does not parse is one from another version: the stage runs again.
            Ok(bytes) => Ok(serde_json::from_slice(&bytes).ok()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io(&path, "read")(error)),
        }
    }

    /// Marks a stage as done.
    pub fn mark<T: Serialize>(&self, stage: &str, known: &T) -> Result<()> {
        let path = self.path.join(format!("{stage}.json"));
        let json = serde_json::to_vec(known).map_err(|error| Error::Internal(error.to_string()))?;
        write_whole(&path, &json)
    }

    /// What a stage came to: known from an earlier run, or by running it now.
    pub fn once<T: Serialize + DeserializeOwned>(&self, stage: &str, run: impl FnOnce() -> Result<T>) -> Result<T> {
        if let Some(known) = self.done(stage)? {
            return Ok(known);
        }
        let known = run()?;
        self.mark(stage, &known)?;
        Ok(known)
    }

    /// Removes the folder; the run is over.
    pub fn remove(self) -> Result<()> {
        fs::remove_dir_all(&self.path).map_err(Error::io(&self.path, "remove"))
    }

    fn clear(&self) -> Result<()> {
        for entry in fs::read_dir(&self.path).map_err(Error::io(&self.path, "read"))? {
            let path = entry.map_err(Error::io(&self.path, "read"))?.path();
            if path.is_dir() {
                fs::remove_dir_all(&path).map_err(Error::io(&path, "remove"))?;
            } else if path.file_name().is_some_and(|name| name != "lock") {
                fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
            }
        }
        Ok(())
    }
}

/// Writes a small file so that it is there whole or not at all.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary).map_err(Error::io(&temporary, "write"))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io(&temporary, "write"))?;
    fs::rename(&temporary, path).map_err(Error::io(path, "rename to"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_writer_and_one_fingerprint() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join(".work");
        let first = WorkFolder::open(&path, "a").expect("first");
        assert!(!first.resumed && !first.discarded);
        assert!(WorkFolder::open(&path, "a").is_err(), "two writers");
        first.mark("read", &7u32).expect("mark");
        drop(first);

        let again = WorkFolder::open(&path, "a").expect("again");
        assert!(again.resumed);
        assert_eq!(again.done::<u32>("read").expect("done"), Some(7));
        drop(again);

        let other = WorkFolder::open(&path, "b").expect("other");
        assert!(other.discarded && !other.resumed);
        assert_eq!(other.done::<u32>("read").expect("done"), None);
        other.remove().expect("remove");
        assert!(!path.exists());

        let writing = WorkFolder::open(&path, "c").expect("writing");
        WorkFolder::sweep(&path).expect("in use");
        assert!(path.exists());
        drop(writing);
        WorkFolder::sweep(&path).expect("left behind");
        assert!(!path.exists());
        WorkFolder::sweep(&path).expect("nothing there");
    }
}
