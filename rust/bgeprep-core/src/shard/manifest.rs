//! The file that makes a folder a shard set: what it holds, where it came from, and checksums.
//!
//! `manifest.json` ends with `"hash"`: the xxh3-128 of every byte before that field. It covers the
//! manifest, through the parts' checksums all data, and so is also what identifies the set.
//! Nothing in the manifest depends on threads, memory limit, absolute paths or time.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::Path;

use fs_err as fs;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use xxhash_rust::xxh3::xxh3_128;

use super::format::{FORMAT_VERSION, MANIFEST};
use super::reports::{BenchmarkEntry, NearReport, ScoreReport};
use super::sink::AtomicFile;
use super::{check, json};
use crate::pair::SetKind;
use crate::store::ObjectUrl;
use crate::{Error, Result};

/// Where one record batch lies in its part, and how to tell that it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Block {
    /// First byte of the IPC message in the file.
    pub offset: u64,
    /// Bytes of the message, metadata and body.
    pub length: u64,
    /// Rows in the batch.
    pub rows: u32,
    /// xxh3-64 of the message.
    #[serde(with = "json::hex")]
    pub xxh3_64: u64,
    /// xxh3-64 of the buffers that planning reads, see [`super::format`].
    #[serde(with = "json::hex")]
    pub index_xxh3_64: u64,
}

/// A file of the set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PartInfo {
    /// `<folder>/<file>`, relative to the set's folder, with `/`.
    pub path: String,
    /// Rows in the file.
    pub rows: u64,
    /// Length of the file in bytes.
    pub bytes: u64,
    /// xxh3-128 of the file.
    #[serde(with = "json::hex")]
    pub xxh3_128: u128,
    /// Its record batches in order; empty for reject files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocks: Vec<Block>,
}

/// How long texts are, in characters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LengthStats {
    /// Number of texts.
    pub count: u64,
    /// Mean length.
    pub mean: f64,
    /// 5th percentile.
    pub p5: u64,
    /// Median.
    pub p50: u64,
    /// 95th percentile.
    pub p95: u64,
    /// 99th percentile.
    pub p99: u64,
    /// Longest.
    pub max: u64,
}

/// Lengths of the three kinds of text of a source.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lengths {
    /// Queries.
    pub query: LengthStats,
    /// Positives.
    pub pos: LengthStats,
    /// Negatives.
    pub neg: LengthStats,
}

/// Single positives and negatives that went while their row stayed, by reason.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Removed {
    /// Positives by reason name.
    pub positives: BTreeMap<String, u64>,
    /// Negatives by reason name.
    pub negatives: BTreeMap<String, u64>,
}

impl Removed {
    fn add(&mut self, other: &Self) {
        add_counts(&mut self.positives, &other.positives);
        add_counts(&mut self.negatives, &other.negatives);
    }
}

/// One source of the set. `rows_read = rows + Σ dropped`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceEntry {
    /// The source's name, `[A-Za-z0-9._-]+`, also its folder.
    pub name: String,
    /// `retrieval`, `symmetric` or `classification`.
    pub task: String,
    /// Language code, where one was given.
    pub language: Option<String>,
    /// Sampling weight, where one was given.
    pub weight: Option<f64>,
    /// Query instruction, where one was given.
    pub instruction: Option<String>,
    /// Rows in the parts.
    pub rows: u64,
    /// Bytes of query, positives and negatives of these rows.
    pub bytes: u64,
    /// Rows read.
    pub rows_read: u64,
    /// Rows dropped, by reason name.
    pub dropped: BTreeMap<String, u64>,
    /// Positives and negatives removed from rows that stayed or went.
    pub removed: Removed,
    /// Columns that were read and not used, with the number of records that carried them.
    pub unmapped: BTreeMap<String, u64>,
    /// Known positives beyond the limit of `also_pos_keys` that a row does not list.
    pub also_pos_excess: u64,
    /// Lengths of the texts kept.
    pub lengths: Lengths,
    /// The parts in order.
    pub files: Vec<PartInfo>,
}

impl SourceEntry {
    /// Rows that were merged into another row; they stand in `dropped` too.
    pub fn merged(&self) -> u64 {
        self.dropped.get("merged").copied().unwrap_or(0)
    }
}

/// What a shard set says of itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Version of the layout, [`FORMAT_VERSION`].
    pub format_version: u32,
    /// What its rows are.
    pub kind: SetKind,
    /// The seed of the shuffle.
    pub seed: u64,
    /// Rows read, over all sources.
    pub rows_read: u64,
    /// Rows in the set.
    pub rows_kept: u64,
    /// Rows dropped by reason: `rows_read = rows_kept + Σ dropped`.
    pub dropped: BTreeMap<String, u64>,
    /// The part of `dropped` whose positives live on in another row.
    pub merged: u64,
    /// Positives and negatives removed.
    pub removed: Removed,
    /// The part of the configuration that decides bytes.
    pub config: Value,
    /// Near dedup, where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub near: Option<NearReport>,
    /// Benchmarks that were excluded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub benchmarks: Vec<BenchmarkEntry>,
    /// The filter by scores, where it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scores: Option<ScoreReport>,
    /// The sources in set order: row ids count through them and their parts.
    pub sources: Vec<SourceEntry>,
    /// The reject files.
    pub rejects: Vec<PartInfo>,
    /// Identifies the set; filled in by [`write`](Self::write) and [`read`](Self::read).
    #[serde(skip_serializing)]
    pub hash: String,
}

impl Manifest {
    /// A manifest of these sources; totals are summed here and the hash is still empty.
    pub fn new(config: Value, seed: u64, sources: Vec<SourceEntry>, rejects: Vec<PartInfo>) -> Self {
        let mut dropped = BTreeMap::new();
        let mut removed = Removed::default();
        for source in &sources {
            add_counts(&mut dropped, &source.dropped);
            removed.add(&source.removed);
        }
        Self {
            format_version: FORMAT_VERSION,
            kind: SetKind::default(),
            seed,
            rows_read: total(&sources, |source| source.rows_read),
            rows_kept: total(&sources, |source| source.rows),
            merged: total(&sources, SourceEntry::merged),
            dropped,
            removed,
            config,
            near: None,
            benchmarks: Vec::new(),
            scores: None,
            sources,
            rejects,
            hash: String::new(),
        }
    }

    /// Writes `manifest.json` into `folder`, durable before it has its name, and returns its hash.
    ///
    /// # Errors
    /// `Internal` if the counts do not balance; `Io` if the disk refuses.
    pub fn write(&self, folder: &Path) -> Result<String> {
        check::counts(self).map_err(|message| Error::Internal(format!("the manifest does not balance: {message}")))?;
        let (text, hash) = self.render()?;
        let path = folder.join(MANIFEST);
        let mut file = AtomicFile::create(&path)?;
        file.write_all(text.as_bytes()).map_err(Error::io(&path, "write"))?;
        file.commit()?;
        Ok(hash)
    }

    /// Reads and checks the manifest in `folder`.
    ///
    /// # Errors
    /// `Shard` if there is none, if it is damaged, of another version, says things that cannot all
    /// be true, or names files outside its folder; `Io` if it cannot be read.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if let Some(url) = ObjectUrl::from_path(folder)? {
                    let message = "a set in a store is not read in place; hint: copy it to this machine";
                    return Err(Error::shard(url.to_string(), message));
                }
                let hint = if folder.exists() { "the folder holds no complete shard set" } else { "no such folder" };
                return Err(Error::shard(folder, format!("no {MANIFEST}: {hint}; make one with `bgeprep shard`")));
            }
            Err(error) => return Err(Error::io(&path, "read")(error)),
        };
        Self::parse(&bytes).map_err(|message| Error::shard(path, message))
    }

    /// The text of `manifest.json`, and the hash it ends with.
    pub fn render(&self) -> Result<(String, String)> {
        let body = json::pretty(self).map_err(|error| Error::Internal(format!("manifest to JSON: {error}")))?;
        let head = body.strip_suffix(CLOSE).unwrap_or(&body);
        let hash = format!("{:032x}", xxh3_128(head.as_bytes()));
        let text = format!("{head}{HASH_FIELD}{hash}{TAIL}");
        Ok((text, hash))
    }

    /// The manifest that is the content of `manifest.json`, or what is wrong with it.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = std::str::from_utf8(bytes).map_err(|error| format!("damaged: {error}"))?;
        let whole = text
            .strip_suffix(TAIL)
            .and_then(|text| text.split_at_checked(text.len().checked_sub(32)?))
            .and_then(|(head, hash)| Some((head.strip_suffix(HASH_FIELD)?, hash)))
            .is_some_and(|(head, hash)| format!("{:032x}", xxh3_128(head.as_bytes())) == hash);
        if !whole {
            return Err(Self::other_version(text).unwrap_or_else(|| {
                "damaged or edited by hand: its hash is not the hash of its content; make the set again".to_owned()
            }));
        }
        if let Some(message) = Self::other_version(text) {
            return Err(message);
        }
        let manifest: Self = serde_json::from_str(text).map_err(|error| format!("not a manifest: {error}"))?;
        check::paths(&manifest)?;
        check::counts(&manifest)?;
        Ok(manifest)
    }

    fn other_version(text: &str) -> Option<String> {
        #[derive(Deserialize)]
        struct Version {
            format_version: u32,
            kind: Option<String>,
        }
        let Version { format_version, kind } = serde_json::from_str(text).ok()?;
        if format_version != FORMAT_VERSION {
            let message = "make the set again";
            return Some(format!("format version {format_version}, this software reads {FORMAT_VERSION}; {message}"));
        }
        // A set of another kind has other fields: this is to be said before they are found to be wrong.
        let kind = kind.filter(|kind| SetKind::from_name(kind).is_none())?;
        let [pairs, text] = [SetKind::Pairs, SetKind::Text].map(SetKind::name);
        Some(format!("a set of kind {kind:?}, expected a set of kind {pairs:?} or {text:?}"))
    }
}

const CLOSE: &str = "\n}";
const HASH_FIELD: &str = ",\n  \"hash\": \"";
const TAIL: &str = "\"\n}\n";

/// `<folder>/<file>` of a path: how a part is named in the manifest.
pub(super) fn relative_name(path: &Path) -> Result<String> {
    let name = |path: Option<&Path>| path.and_then(Path::file_name).and_then(|name| name.to_str()).map(str::to_owned);
    match (name(path.parent()), name(Some(path))) {
        (Some(folder), Some(file)) => Ok(format!("{folder}/{file}")),
        _ => Err(Error::Internal(format!("{}: a part needs a folder and a name", path.display()))),
    }
}

fn add_counts(sum: &mut BTreeMap<String, u64>, counts: &BTreeMap<String, u64>) {
    for (reason, count) in counts {
        let sum = sum.entry(reason.clone()).or_default();
        *sum = sum.saturating_add(*count);
    }
}

/// Saturates, so that a forged manifest gives a wrong sum, which is refused, and no overflow.
fn total(sources: &[SourceEntry], count: impl Fn(&SourceEntry) -> u64) -> u64 {
    sources.iter().map(count).fold(0, u64::saturating_add)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
