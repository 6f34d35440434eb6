//! A set in an object store comes to this machine: part by part, each held against its checksum, the
//! manifest last.
//!
//! A part has its name only when it is whole, so a killed run goes on with what is there. Rejects
//! stay where they are: who trains does not read them.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::sync::atomic::Ordering;

use fs_err as fs;
use xxhash_rust::xxh3::Xxh3;

use super::format::{MANIFEST, TEMPORARY};
use super::manifest::PartInfo;
use super::publish::published;
use crate::pipeline::gate::for_each;
use crate::pipeline::work::write_whole;
use crate::progress::Progress;
use crate::store::{Bucket, ObjectUrl, Stores};
use crate::{Error, Result};

/// Bytes hashed between two looks at the cancel flag.
const STEP_BYTES: usize = 1 << 20;

/// Brings the set at `at` into the folder `to`, `threads` parts at once.
///
/// # Errors
/// `Error::Shard` if there is no complete set, or a part has not the bytes that its manifest says; `Error::Store` if
/// the store refuses or cannot be reached; `Error::Io` if the disk does.
pub fn fetch(at: &ObjectUrl, to: &Path, threads: usize, stores: &Stores, progress: &Progress) -> Result<()> {
    let manifest = published(at, stores)?;
    let bucket = stores.bucket(&at.bucket)?;
    progress.enter("fetch");
    let parts: Vec<&PartInfo> = manifest.sources.iter().flat_map(|source| &source.files).collect();
    progress.bytes_total.store(parts.iter().map(|part| part.bytes).sum(), Ordering::Relaxed);
    progress.parts_total.store(parts.len() as u64, Ordering::Relaxed);
    for_each(threads, parts.len(), |job| {
        let part = parts[job];
        let path = to.join(&part.path);
        if !is_there(&path, part, progress)? {
            fetch_part(&bucket, &at.below(&part.path), part, &path, progress)?;
        }
        progress.parts_done.fetch_add(1, Ordering::Relaxed);
        Ok::<_, Error>(())
    })?;
    write_whole(&to.join(MANIFEST), manifest.render()?.0.as_bytes())
}

/// Whether a part of an earlier run is there and whole.
fn is_there(path: &Path, part: &PartInfo, progress: &Progress) -> Result<bool> {
    if !path.is_file() {
        return Ok(false);
    }
    let mut file = File::open(path).map_err(Error::io(path, "open"))?;
    let (mut hash, mut bytes, mut buffer) = (Xxh3::new(), 0, vec![0; STEP_BYTES]);
    loop {
        progress.check()?;
        let read = file.read(&mut buffer).map_err(Error::io(path, "read"))?;
        if read == 0 {
            break;
        }
        hash.update(&buffer[..read]);
        bytes += read as u64;
    }
    let whole = bytes == part.bytes && hash.digest128() == part.xxh3_128;
    progress.bytes_done.fetch_add(if whole { bytes } else { 0 }, Ordering::Relaxed);
    Ok(whole)
}

fn fetch_part(bucket: &Bucket, key: &str, part: &PartInfo, path: &Path, progress: &Progress) -> Result<()> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    }
    let mut beside = path.as_os_str().to_owned();
    beside.push(TEMPORARY);
    let beside = Path::new(&beside);
    let mut file = File::create(beside).map_err(Error::io(beside, "create"))?;
    let (mut hash, mut bytes) = (Xxh3::new(), 0);
    let there = bucket.download(key, progress, |block| {
        hash.update(block);
        bytes += block.len() as u64;
        progress.bytes_done.fetch_add(block.len() as u64, Ordering::Relaxed);
        file.write_all(block).map_err(Error::io(beside, "write"))
    });
    let wrong = match there {
        Ok(true) if bytes == part.bytes && hash.digest128() == part.xxh3_128 => None,
        Ok(true) => Some(format!(
            "expected {} bytes of xxh3-128 {:032x}, found {bytes} of {:032x}",
            part.bytes,
            part.xxh3_128,
            hash.digest128()
        )),
        Ok(false) => Some(format!("expected {} bytes, found no object", part.bytes)),
        Err(error) => {
            fs::remove_file(beside).ok();
            return Err(error);
        }
    };
    if let Some(message) = wrong {
        fs::remove_file(beside).ok();
        let place = format!("s3://{}/{key}", bucket.name());
        return Err(Error::shard(place, format!("{message}; hint: send the set again")));
    }
    file.sync_all().map_err(Error::io(beside, "sync"))?;
    fs::rename(beside, path).map_err(Error::io(path, "rename to"))
}
