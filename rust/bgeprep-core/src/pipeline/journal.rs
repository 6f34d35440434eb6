//! What is done within a stage, so that a killed run loses about a second of work.
//!
//! A stage is many jobs that append to common files. About once a second everything buffered is
//! flushed and one line is appended to the stage's journal: how long each file is by now, which
//! jobs are done, and what they came to. A run that goes on cuts the files to the lengths of the last whole
//! line and does the other jobs again. What these had written before that line stays in the files and comes a second
//! time; so every reader of such a file takes equal records for one.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fs_err as fs;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::rejects::RejectSink;
use crate::shuffle::spill::{Spill, remove_if_there};
use crate::{Error, Result};

/// Time between two lines.
const INTERVAL: Duration = Duration::from_secs(1);

/// Something that buffers what jobs write.
pub trait Output: Sync {
    /// Writes out what is buffered; how much is there now, file by file.
    fn flush_all(&self) -> Result<Vec<u64>>;
}

impl Output for Spill {
    fn flush_all(&self) -> Result<Vec<u64>> {
        Self::flush_all(self)
    }
}

impl Output for RejectSink {
    fn flush_all(&self) -> Result<Vec<u64>> {
        Ok(vec![Self::flush_all(self)?])
    }
}

#[derive(Debug, Serialize, Deserialize)]
struct Line<T, S> {
    lengths: Vec<Vec<u64>>,
    done: Vec<(usize, T)>,
    state: S,
}

/// What a killed run left.
#[derive(Debug)]
pub struct Found<T, S> {
    path: PathBuf,
    bytes: u64,
    lengths: Vec<Vec<u64>>,
    /// Results of the jobs that are done.
    pub done: BTreeMap<usize, Vec<T>>,
    /// The sum of all.
    pub state: S,
}

impl<T: DeserializeOwned, S: DeserializeOwned + Default> Found<T, S> {
    /// Reads a journal that may not be there. A line that was cut off by a kill counts as not written.
    pub fn read(path: &Path) -> Result<Self> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Vec::new(),
            Err(error) => return Err(Error::io(path, "read")(error)),
        };
        let mut found =
            Self { path: path.to_owned(), bytes: 0, lengths: Vec::new(), done: BTreeMap::new(), state: S::default() };
        for line in text.split_inclusive(|&byte| byte == b'\n').filter(|line| line.ends_with(b"\n")) {
            let Ok(Line { lengths, done, state }) = serde_json::from_slice::<Line<T, S>>(line) else { break };
            found.bytes += line.len() as u64;
            (found.lengths, found.state) = (lengths, state);
            for (job, result) in done {
                found.done.entry(job).or_default().push(result);
            }
        }
        Ok(found)
    }

    /// Lengths of the files of the `output`-th output, which has `count` of them.
    pub fn lengths(&self, output: usize, count: usize) -> Vec<u64> {
        self.lengths.get(output).filter(|lengths| lengths.len() == count).cloned().unwrap_or_else(|| vec![0; count])
    }

    /// Goes on writing behind what was found. `outputs` come in the order of `lengths`.
    pub fn go_on<'a>(&self, outputs: Vec<&'a dyn Output>) -> Result<Journal<'a, T, S>>
    where
        S: Clone,
    {
        let file =
            File::options().create(true).append(true).open(&self.path).map_err(Error::io(&self.path, "write"))?;
        file.set_len(self.bytes).map_err(Error::io(&self.path, "truncate"))?;
        let state =
            Pending { file, done: Vec::new(), trash: Vec::new(), state: self.state.clone(), last: Instant::now() };
        Ok(Journal { path: self.path.clone(), outputs, pending: Mutex::new(state) })
    }
}

/// The journal of a stage that runs.
pub struct Journal<'a, T, S> {
    path: PathBuf,
    outputs: Vec<&'a dyn Output>,
    pending: Mutex<Pending<T, S>>,
}

struct Pending<T, S> {
    file: File,
    done: Vec<(usize, T)>,
    trash: Vec<PathBuf>,
    state: S,
    last: Instant,
}

impl<T: Serialize, S: Serialize> Journal<'_, T, S> {
    /// Notes that a job is done and all it wrote is in the outputs. `trash` is what nobody needs any more once that
    /// is on disk.
    pub fn done(&self, job: usize, result: T, trash: Vec<PathBuf>, update: impl FnOnce(&mut S)) -> Result<()> {
        let mut pending = self.lock()?;
        pending.done.push((job, result));
        pending.trash.extend(trash);
        update(&mut pending.state);
        if pending.last.elapsed() >= INTERVAL { self.write(&mut pending) } else { Ok(()) }
    }

    /// Writes the last line; the sum of all.
    pub fn finish(self) -> Result<S> {
        let mut pending = self.lock()?;
        self.write(&mut pending)?;
        drop(pending);
        self.pending.into_inner().map(|pending| pending.state).map_err(|_| died())
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Pending<T, S>>> {
        self.pending.lock().map_err(|_| died())
    }

    fn write(&self, pending: &mut Pending<T, S>) -> Result<()> {
        let lengths = self.outputs.iter().map(|output| output.flush_all()).collect::<Result<_>>()?;
        let line = Line { lengths, done: std::mem::take(&mut pending.done), state: &pending.state };
        let mut line = serde_json::to_vec(&line).map_err(|error| Error::Internal(error.to_string()))?;
        line.push(b'\n');
        pending.file.write_all(&line).map_err(Error::io(&self.path, "write"))?;
        for path in pending.trash.drain(..) {
            remove_if_there(&path)?;
        }
        pending.last = Instant::now();
        Ok(())
    }
}

fn died() -> Error {
    Error::Internal("a thread died while it wrote the journal".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_line_counts_as_not_written() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("stage.journal");
        let keys = Spill::create(folder.path(), "keys", 2, 1).expect("spill");
        let found = Found::<String, u64>::read(&path).expect("none");
        assert!(found.done.is_empty() && found.lengths(0, 2) == [0, 0]);
        let journal = found.go_on(vec![&keys]).expect("journal");
        let trash = folder.path().join("trash");
        fs::write(&trash, "x").expect("trash");
        keys.append(1, b"abc").expect("append");
        journal.done(4, "four".to_owned(), vec![trash.clone()], |sum| *sum += 4).expect("done");
        assert!(trash.exists(), "not before the line is there");
        assert_eq!(journal.finish().expect("finish"), 4);
        assert!(!trash.exists());

        let journal = Found::<String, u64>::read(&path).expect("read").go_on(vec![&keys]).expect("go on");
        keys.append(0, b"d").expect("append");
        journal.done(5, "five".to_owned(), Vec::new(), |sum| *sum += 5).expect("done");
        journal.finish().expect("finish");
        let whole = fs::read(&path).expect("journal");
        for cut in [whole.len(), whole.len() - 1, whole.len() - 30] {
            fs::write(&path, &whole[..cut]).expect("cut");
            let found = Found::<String, u64>::read(&path).expect("read");
            let (done, state) = if cut == whole.len() { (2, 9) } else { (1, 4) };
            assert_eq!((found.done.len(), found.state), (done, state));
            assert_eq!(found.lengths(0, 2), if done == 2 { [1, 3] } else { [0, 3] });
            drop(found.go_on(vec![&keys]).expect("go on"));
            let kept = fs::read(&path).expect("journal");
            assert!(kept.is_empty() || kept.ends_with(b"\n"));
        }
    }
}
