//! What must be true of every manifest, written or read.

use std::collections::BTreeSet;

use super::format::{MAX_BATCH_ROWS, REJECTS};
use super::manifest::{Manifest, PartInfo};
use crate::pair::Task;

/// Paths stay in the set's folder: two plain names, the first that of the source.
pub(super) fn paths(manifest: &Manifest) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    let parts = manifest.sources.iter().flat_map(|source| source.files.iter().map(|file| (source.name.as_str(), file)));
    for (folder, file) in parts.chain(manifest.rejects.iter().map(|file| (REJECTS, file))) {
        let plain = file.path.split_once('/').is_some_and(|(first, name)| first == folder && is_plain(name));
        if !plain || !is_plain(folder) {
            return Err(format!("path {:?} is refused: expected a file in {folder:?} in the set's folder", file.path));
        }
        if !seen.insert(file.path.as_str()) {
            return Err(format!("path {:?} stands there twice", file.path));
        }
    }
    Ok(())
}

/// A name that cannot lead anywhere else.
fn is_plain(name: &str) -> bool {
    let letters = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    letters && !name.is_empty() && name != "." && name != ".."
}

/// All sums agree: blocks to parts, parts to sources, sources to the set, read = kept + dropped.
pub(super) fn counts(manifest: &Manifest) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for source in &manifest.sources {
        let name = &source.name;
        if !is_plain(name) || name == REJECTS {
            return Err(format!("{name:?} cannot be the name of a source"));
        }
        if !names.insert(name) {
            return Err(format!("source {name:?} stands there twice"));
        }
        if Task::from_name(&source.task).is_none() {
            return Err(format!("source {name:?} has task {:?}, which does not exist", source.task));
        }
        for file in &source.files {
            part(file)?;
        }
        let stored = total(source.files.iter().map(|file| file.rows))?;
        equal(&format!("rows of source {name:?} and of its parts"), source.rows, stored)?;
        let dropped = total(source.dropped.values().copied())?;
        equal(
            &format!("rows read of source {name:?} and kept + dropped"),
            source.rows_read,
            total([source.rows, dropped])?,
        )?;
    }
    let again = Manifest::new(serde_json::Value::Null, manifest.seed, manifest.sources.clone(), Vec::new());
    equal("rows_read and the sources", manifest.rows_read, again.rows_read)?;
    equal("rows_kept and the sources", manifest.rows_kept, again.rows_kept)?;
    equal("merged and the sources", manifest.merged, again.merged)?;
    if manifest.dropped != again.dropped || manifest.removed != again.removed {
        return Err("the counts by reason are not the sums of the sources".to_owned());
    }
    Ok(())
}

fn part(file: &PartInfo) -> Result<(), String> {
    let mut end = 0;
    for (index, block) in file.blocks.iter().enumerate() {
        let next = block.offset.checked_add(block.length);
        let fits = block.offset >= end && block.length > 8 && next.is_some_and(|next| next <= file.bytes);
        if !fits || block.rows == 0 || block.rows as usize > MAX_BATCH_ROWS {
            return Err(format!("{}: batch {index} does not fit in its part", file.path));
        }
        end = next.unwrap_or(end);
    }
    equal(
        &format!("rows of {} and of its batches", file.path),
        file.rows,
        file.blocks.iter().map(|block| u64::from(block.rows)).sum(),
    )
}

fn total(counts: impl IntoIterator<Item = u64>) -> Result<u64, String> {
    counts.into_iter().try_fold(0u64, u64::checked_add).ok_or_else(|| "a count is beyond 2^64".to_owned())
}

fn equal(what: &str, left: u64, right: u64) -> Result<(), String> {
    if left == right { Ok(()) } else { Err(format!("{what} differ: {left} and {right}")) }
}
