//! A finished set goes into an object store: the manifest of an older set out of the way first, the
//! new one last.
//!
//! Objects cannot be renamed, so a set is made on this machine and then sent. At every moment the
//! prefix holds a complete set or none. A run that was killed on the way sends what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::Ordering;

use super::format::{MANIFEST, REJECTS};
use super::manifest::Manifest;
use crate::progress::Progress;
use crate::store::{Bucket, Entry, ObjectUrl, Stores};
use crate::{Error, Result};

/// The log beside the manifest.
const LOG: &str = "run.json";

/// Sends the complete set in the folder `set` to `to`, in place of a set that is there.
///
/// # Errors
/// `Error::Shard` if `set` is no complete set; `Error::Io` if its files cannot be read; `Error::Store` if the store
/// refuses, cannot be reached or keeps other bytes than it was sent.
pub fn publish(set: &Path, to: &ObjectUrl, stores: &Stores, progress: &Progress) -> Result<()> {
    let manifest = Manifest::read(set)?;
    let bucket = stores.bucket(&to.bucket)?;
    progress.enter("upload");
    replace(&manifest, &bucket, to, progress, &|name, there| {
        bucket.put(&set.join(name), &to.below(name), there, progress)
    })
}

/// Puts a set in the place of one that may be there; `send` brings a file to its key, which a listing said this of.
///
/// # Errors
/// `Error::Store` if the store refuses; what `send` says.
pub(crate) fn replace(
    manifest: &Manifest,
    bucket: &Bucket,
    to: &ObjectUrl,
    progress: &Progress,
    send: &dyn Fn(&str, Option<&Entry>) -> Result<()>,
) -> Result<()> {
    let prefix = to.below("");
    let listed = bucket.list(&prefix)?;
    let there: BTreeMap<&str, &Entry> =
        listed.iter().filter_map(|entry| Some((entry.key.strip_prefix(prefix.as_str())?, entry))).collect();

    let files = files(manifest);
    let mut owned = folders(manifest);
    // What is there counts as a set only with its manifest: without it, nobody takes the parts for one.
    if there.contains_key(MANIFEST) {
        let old = bucket.content(&to.below(MANIFEST))?.and_then(|bytes| Manifest::parse(&bytes).ok());
        owned.extend(old.iter().flat_map(folders));
        bucket.remove(&to.below(MANIFEST))?;
    }
    let new: BTreeSet<&str> = files.iter().map(String::as_str).collect();
    for name in there.keys().filter(|name| !new.contains(*name)) {
        if name.split_once('/').is_some_and(|(folder, _)| owned.contains(folder)) {
            progress.check()?;
            bucket.remove(&to.below(name))?;
        }
    }

    progress.parts_done.store(0, Ordering::Relaxed);
    progress.parts_total.store(files.len() as u64, Ordering::Relaxed);
    for name in files.iter().map(String::as_str).chain([LOG, MANIFEST]) {
        progress.check()?;
        send(name, there.get(name).copied())?;
        progress.parts_done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// The manifest of the set at `at`, all of whose files are there in the lengths it says.
///
/// # Errors
/// `Error::Shard` if there is no complete set; `Error::Store` if the store does not say.
pub fn published(at: &ObjectUrl, stores: &Stores) -> Result<Manifest> {
    let bucket = stores.bucket(&at.bucket)?;
    let place = at.to_string();
    let Some(bytes) = bucket.content(&at.below(MANIFEST))? else {
        return Err(Error::shard(
            place,
            format!("no {MANIFEST}: there is no complete shard set; make one with `bgeprep shard`"),
        ));
    };
    let manifest = Manifest::parse(&bytes).map_err(|message| Error::shard(format!("{place}/{MANIFEST}"), message))?;
    let listed = bucket.list(&at.below(""))?;
    let lengths: BTreeMap<&str, u64> = listed.iter().map(|entry| (entry.key.as_str(), entry.size)).collect();
    let parts = manifest.sources.iter().flat_map(|source| &source.files);
    for file in parts.chain(&manifest.rejects) {
        let found = lengths.get(at.below(&file.path).as_str()).copied();
        if found != Some(file.bytes) {
            let found = found.map_or("no object".to_owned(), |bytes| format!("{bytes}"));
            let message = format!("expected {} bytes, found {found}; hint: make the set again", file.bytes);
            return Err(Error::shard(format!("{place}/{}", file.path), message));
        }
    }
    Ok(manifest)
}

/// The text of the log beside the manifest at `at`, empty if there is none; None if there is no manifest.
///
/// # Errors
/// `Error::Store` if the store does not say.
pub fn published_log(at: &ObjectUrl, stores: &Stores) -> Result<Option<String>> {
    let bucket = stores.bucket(&at.bucket)?;
    let manifest = at.below(MANIFEST);
    // Listed, not asked for by its name: a bucket that is not there shows now, and not when the set is made.
    if !bucket.list(&manifest)?.iter().any(|entry| entry.key == manifest) {
        return Ok(None);
    }
    let log = bucket.content(&at.below(LOG))?.unwrap_or_default();
    Ok(Some(String::from_utf8_lossy(&log).into_owned()))
}

/// The parts in set order, then the rejects.
fn files(manifest: &Manifest) -> Vec<String> {
    let parts = manifest.sources.iter().flat_map(|source| &source.files);
    parts.chain(&manifest.rejects).map(|file| file.path.clone()).collect()
}

/// The folders that belong to a set as a whole.
fn folders(manifest: &Manifest) -> BTreeSet<String> {
    let sources = manifest.sources.iter().map(|source| source.name.clone());
    sources.chain([REJECTS.to_owned()]).collect()
}
