//! Finding what is damaged: every file is hashed before it is parsed, then held against what the
//! manifest and the format say.

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use fs_err as fs;
use parquet::file::metadata::ParquetMetaDataReader;
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::content;
use super::format::REJECTS;
use super::manifest::{Block, Manifest, PartInfo};
use super::map::map;
use super::reader::present;
use crate::pair::SetKind;
use crate::progress::Progress;
use crate::{Error, Result};

/// Problems told of one file; the rest of a badly damaged one adds nothing.
const MOST_PROBLEMS: usize = 20;
/// Hashed between two looks at the cancel flag.
const STEP_BYTES: usize = 8 << 20;

/// One thing that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file.
    pub path: PathBuf,
    /// The record batch in it, where one is at fault.
    pub batch: Option<usize>,
    /// What was expected and what was found.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { path, batch, message } = self;
        match batch {
            Some(batch) => write!(out, "{}: batch {batch}: {message}", path.display()),
            None => write!(out, "{}: {message}", path.display()),
        }
    }
}

/// What [`verify`] looked at and what it found.
#[derive(Debug, Clone, Default)]
pub struct VerifyReport {
    /// Parts the manifest names.
    pub parts: u64,
    /// Rows the manifest names.
    pub rows: u64,
    /// Bytes hashed, parts and rejects.
    pub bytes: u64,
    /// Everything that is wrong, in set order.
    pub problems: Vec<Problem>,
}

impl VerifyReport {
    /// Whether the set is as it was written.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Checks all of the set in `folder` on `threads` threads; `key` gives the batching key of a text.
///
/// # Errors
/// `Shard` if there is no manifest to check against or it is damaged itself, `Interrupted` if
/// `progress` was cancelled. Damage to the files it names is what the report is for.
pub fn verify(folder: &Path, threads: usize, key: fn(&str) -> u64, progress: &Progress) -> Result<VerifyReport> {
    progress.enter("verify");
    let manifest = Manifest::read(folder)?;
    let parts = manifest.sources.iter().flat_map(|source| source.files.iter().map(|file| (source.name.as_str(), file)));
    let jobs: Vec<(&str, &PartInfo)> = parts.chain(manifest.rejects.iter().map(|file| (REJECTS, file))).collect();
    let bytes = jobs.iter().map(|(_, file)| file.bytes).fold(0, u64::saturating_add);
    progress.bytes_total.store(bytes, Ordering::Relaxed);
    progress.parts_total.store(jobs.len() as u64, Ordering::Relaxed);

    let next = AtomicUsize::new(0);
    let found: Mutex<Vec<(usize, Vec<Problem>)>> = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..threads.clamp(1, jobs.len().max(1)) {
            scope.spawn(|| {
                while let Some((job, (source, file))) = take(&next, &jobs) {
                    let problems = Check { folder, kind: manifest.kind, source, file, key, progress }.run();
                    if !problems.is_empty() {
                        found.lock().unwrap_or_else(PoisonError::into_inner).push((job, problems));
                    }
                    progress.parts_done.fetch_add(1, Ordering::Relaxed);
                    if progress.check().is_err() {
                        return;
                    }
                }
            });
        }
    });
    progress.check()?;
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort();
    let mut problems: Vec<Problem> = found.into_iter().flat_map(|(_, problems)| problems).collect();
    problems.extend(strangers(folder, &jobs)?);
    let parts = jobs.len() - manifest.rejects.len();
    Ok(VerifyReport { parts: parts as u64, rows: manifest.rows_kept, bytes, problems })
}

fn take<T: Copy>(next: &AtomicUsize, jobs: &[T]) -> Option<(usize, T)> {
    let job = next.fetch_add(1, Ordering::Relaxed);
    jobs.get(job).map(|found| (job, *found))
}

struct Check<'a> {
    folder: &'a Path,
    kind: SetKind,
    source: &'a str,
    file: &'a PartInfo,
    key: fn(&str) -> u64,
    progress: &'a Progress,
}

impl Check<'_> {
    fn run(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        if let Err(error) = self.look(&mut problems) {
            // The path stands in the problem already.
            let message = match error {
                Error::Shard { message, .. } => message,
                Error::Io { action, source, .. } => format!("cannot {action}: {source}"),
                other => other.to_string(),
            };
            problems.push(self.problem(None, message));
        }
        problems
    }

    fn problem(&self, batch: Option<usize>, message: String) -> Problem {
        Problem { path: self.folder.join(&self.file.path), batch, message }
    }

    fn look(&self, problems: &mut Vec<Problem>) -> Result<()> {
        let path = present(self.folder, self.file)?;
        let bytes = map(&path, self.file.bytes)?;
        if self.hash(&bytes)? != self.file.xxh3_128 {
            problems.extend(self.damage(&bytes));
            return Ok(());
        }
        if self.source == REJECTS {
            return self.rejects(&path);
        }
        content::footer(&bytes, self.file, self.kind).map_err(|message| Error::shard(&path, message))?;
        for (batch, block) in self.file.blocks.iter().enumerate() {
            self.progress.check()?;
            let message = bytes.slice_with_length(block.offset as usize, block.length as usize);
            if let Err(message) = content::batch(&message, block, self.kind, self.source, self.key) {
                problems.push(self.problem(Some(batch), message));
            }
            if problems.len() == MOST_PROBLEMS {
                break;
            }
        }
        Ok(())
    }

    fn hash(&self, bytes: &[u8]) -> Result<u128> {
        let mut hash = Xxh3::new();
        for step in bytes.chunks(STEP_BYTES) {
            self.progress.check()?;
            hash.update(step);
            self.progress.bytes_done.fetch_add(step.len() as u64, Ordering::Relaxed);
        }
        Ok(hash.digest128())
    }

    /// Where a file whose hash is wrong is damaged.
    fn damage(&self, bytes: &[u8]) -> Vec<Problem> {
        let is_damaged = |block: &Block| {
            let message = bytes.get(block.offset as usize..(block.offset + block.length) as usize);
            message.is_none_or(|message| xxh3_64(message) != block.xxh3_64)
        };
        let blocks = self.file.blocks.iter().enumerate().filter(|(_, block)| is_damaged(block));
        let told = "damaged: its bytes are not the ones written; restore the file or make the set again";
        let mut problems: Vec<_> =
            blocks.take(MOST_PROBLEMS).map(|(batch, _)| self.problem(Some(batch), told.to_owned())).collect();
        if problems.is_empty() {
            let place = if self.file.blocks.is_empty() { "" } else { " in its header or footer" };
            problems.push(self.problem(None, told.replacen("damaged", &format!("damaged{place}"), 1)));
        }
        problems
    }

    fn rejects(&self, path: &Path) -> Result<()> {
        let file = fs::File::open(path).map_err(Error::io(path, "open"))?;
        let metadata = ParquetMetaDataReader::new()
            .parse_and_finish(file.file())
            .map_err(|error| Error::shard(path, format!("not a Parquet file: {error}")))?;
        let rows = metadata.file_metadata().num_rows();
        if u64::try_from(rows) == Ok(self.file.rows) {
            return Ok(());
        }
        Err(Error::shard(path, format!("{rows} rows, the manifest says {}", self.file.rows)))
    }
}

/// Data files in the set's folders that the manifest does not name.
fn strangers(folder: &Path, jobs: &[(&str, &PartInfo)]) -> Result<Vec<Problem>> {
    let named: BTreeSet<&str> = jobs.iter().map(|(_, file)| file.path.as_str()).collect();
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
        if !path.is_dir() || hidden {
            continue;
        }
        for entry in fs::read_dir(&path).map_err(Error::io(&path, "list"))? {
            let path = entry.map_err(Error::io(&path, "list"))?.path();
            let is_data = path.extension().is_some_and(|suffix| suffix == "arrow" || suffix == "parquet");
            let name = path.strip_prefix(folder).map(|name| name.to_string_lossy().replace('\\', "/"));
            if is_data && !name.is_ok_and(|name| named.contains(name.as_str())) {
                found.insert(path);
            }
        }
    }
    let message = "not in the manifest: a file of another set, or added later; remove it";
    Ok(found.into_iter().map(|path| Problem { path, batch: None, message: message.to_owned() }).collect())
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
