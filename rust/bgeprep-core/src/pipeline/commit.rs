//! The last step: rejects, manifest, and everything into its place, the manifest last.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fs_err as fs;

use super::SlotNames;
use super::layout::{BucketLayout, TASKS};
use super::origins::Origins;
use super::read_stage::ReadReport;
use super::rejects::{Merged, Reject, Twin, merge};
use super::shard_stage::SlotResult;
use super::work::write_whole;
use crate::config::{PrepPlan, RunOptions};
use crate::pair::Task;
use crate::report::RejectPart;
use crate::shard::rejects::{RejectRow, write_rejects};
use crate::shard::reports::NearReport;
use crate::shard::{Lengths, Manifest, PartInfo, Removed, SourceEntry};
use crate::{Error, Result};

/// What the last step works with.
pub(super) struct Commit<'a> {
    pub(super) plan: &'a PrepPlan,
    pub(super) options: &'a RunOptions,
    pub(super) layout: &'a BucketLayout,
    pub(super) origins: Origins<'a>,
    pub(super) read: &'a ReadReport,
    pub(super) names: &'a SlotNames,
    pub(super) set: &'a Path,
}

impl Commit<'_> {
    pub(super) fn run(
        &self,
        results: BTreeMap<u32, SlotResult>,
        near: Option<NearReport>,
        runs: &[PathBuf],
    ) -> Result<Manifest> {
        let manifest = self.build(results, near, runs)?;
        self.move_into_place(&manifest)?;
        Ok(manifest)
    }

    /// Writes what a set has beside its parts.
    pub(super) fn build(
        &self,
        mut results: BTreeMap<u32, SlotResult>,
        near: Option<NearReport>,
        runs: &[PathBuf],
    ) -> Result<Manifest> {
        let rejects = self.write_rejects(runs)?;
        let sources =
            self.names.slots().map(|(slot, name)| self.entry(slot, name, results.remove(&slot).unwrap_or_default()));
        let mut manifest = Manifest::new(self.plan.config.clone(), self.plan.seed, sources.collect(), rejects);
        manifest.benchmarks.clone_from(&self.read.benchmarks);
        manifest.kind = self.read.kind();
        manifest.near = near;
        manifest.scores =
            self.plan.scores.as_ref().zip(self.read.scores.as_ref()).map(|(rules, counts)| counts.report(rules));
        manifest.hash = manifest.write(self.set)?;
        Ok(manifest)
    }

    fn entry(&self, slot: u32, name: &str, result: SlotResult) -> SourceEntry {
        let source = &self.plan.sources[(slot / TASKS) as usize];
        let task = Task::ALL[(slot % TASKS) as usize];
        let mut tally = result.tally;
        if let Some(read) = self.read.tallies.get(&slot) {
            tally.merge(read);
        }
        // Columns belong to files, and files to the source: its own slot shows them.
        let unmapped = if name == source.name { self.read.unmapped.get(&(slot / TASKS)).cloned() } else { None };
        SourceEntry {
            name: name.to_owned(),
            task: task.name().to_owned(),
            language: Some(source.language.clone()).filter(|language| !language.is_empty()),
            weight: Some(source.weight).filter(|weight| !weight.is_nan()),
            instruction: instruction(source.task, task, &source.instruction),
            rows: result.parts.values().map(|part| part.rows).sum(),
            bytes: result.text_bytes,
            rows_read: tally.rows_read,
            dropped: tally.by_name(RejectPart::Row),
            removed: Removed {
                positives: tally.by_name(RejectPart::Positive),
                negatives: tally.by_name(RejectPart::Negative),
            },
            unmapped: unmapped.unwrap_or_default(),
            also_pos_excess: result.also_excess,
            lengths: Lengths {
                query: result.lengths[0].stats(),
                pos: result.lengths[1].stats(),
                neg: result.lengths[2].stats(),
            },
            files: result.parts.into_values().collect(),
        }
    }

    /// One Parquet file a source, rows in the order of the input.
    fn write_rejects(&self, runs: &[PathBuf]) -> Result<Vec<PartInfo>> {
        let mut merged = merge(runs)?;
        let mut files = Vec::new();
        while let Some(slot) = merged.next_slot() {
            let name = self.names.get(slot);
            let path = self.set.join("rejects").join(format!("{name}.parquet"));
            let rows = SlotRejects { merged: &mut merged, slot };
            files.push(write_rejects(&path, rows.map(|reject| self.reject_row(name, reject?)))?);
        }
        Ok(files)
    }

    fn reject_row(&self, source: &str, reject: Reject) -> Result<RejectRow> {
        let (twin_source, twin_file, twin_line, twin_id) = match reject.twin {
            Twin::None => Default::default(),
            Twin::Row(row) => {
                let source = &self.plan.sources[self.layout.files[row.file as usize].source];
                let (file, line) = self.origins.of(row)?;
                (source.name.clone(), file.to_owned(), line, String::new())
            }
            Twin::Text { source, file, line, id } => (source, file, line, id),
        };
        let (origin_file, origin_line) = self.origins.of(reject.row)?;
        Ok(RejectRow {
            source: source.to_owned(),
            origin_file: origin_file.to_owned(),
            origin_line,
            part: reject.part,
            item: u64::from(reject.item),
            reason: reject.reason,
            detail: reject.detail,
            twin_source,
            twin_file,
            twin_line,
            twin_id,
            similarity: reject.similarity.value(),
            query: reject.query,
            text: reject.text,
        })
    }

    /// `run.json` says which run made the set. It is there before the manifest is, so that a kill between the two
    /// leaves a run to go on with and not a set of unknown origin.
    pub(super) fn write_log(&self, manifest: &Manifest) -> Result<()> {
        let mut log = self.options.log.clone();
        log.insert("fingerprint".to_owned(), self.options.fingerprint.clone().into());
        log.insert("hash".to_owned(), manifest.hash.clone().into());
        log.insert("rows_read".to_owned(), manifest.rows_read.into());
        log.insert("rows_kept".to_owned(), manifest.rows_kept.into());
        let json = serde_json::to_vec_pretty(&log).map_err(|error| Error::Internal(error.to_string()))?;
        write_whole(&self.options.out.join("run.json"), &json)
    }

    /// From here on the old set, if there is one, is gone, and the new one is whole only when its
    /// manifest has its name.
    fn move_into_place(&self, manifest: &Manifest) -> Result<()> {
        let out = &self.options.out;
        let old = out.join("manifest.json");
        if old.exists() {
            let folders = Manifest::read(out).map(|old| folders(&old)).unwrap_or_default();
            fs::remove_file(&old).map_err(Error::io(&old, "remove"))?;
            for folder in folders {
                remove_folder(&out.join(folder))?;
            }
        }
        for folder in folders(manifest) {
            // A run killed among these moves goes on with what it had not moved yet.
            if !(self.set.join(&folder).exists() || is_moved(&folder, manifest, out)) {
                return Err(Error::Internal(format!(
                    "{}: a finished folder is gone",
                    self.set.join(&folder).display()
                )));
            }
            move_folder(&self.set.join(&folder), &out.join(&folder))?;
        }
        self.write_log(manifest)?;
        fs::rename(self.set.join("manifest.json"), &old).map_err(Error::io(&old, "rename to"))?;
        // The names above are only as durable as the folder that holds them.
        std::fs::File::open(out).and_then(|folder| folder.sync_all()).map_err(Error::io(out, "sync"))
    }
}

/// What stands before the queries of one task of a source: its instruction is for its own task alone.
fn instruction(of_source: Task, task: Task, said: &str) -> Option<String> {
    (task == of_source && !said.is_empty()).then(|| said.to_owned())
}

/// The folders of a set.
fn folders(manifest: &Manifest) -> Vec<String> {
    let sources = manifest.sources.iter().filter(|source| !source.files.is_empty()).map(|source| source.name.clone());
    sources.chain((!manifest.rejects.is_empty()).then(|| "rejects".to_owned())).collect()
}

/// Whether a folder's files lie in the output with the lengths they were written with.
fn is_moved(folder: &str, manifest: &Manifest, out: &Path) -> bool {
    let of_sources = manifest.sources.iter().flat_map(|source| &source.files);
    let mut files = of_sources.chain(&manifest.rejects).filter(|file| file.path.split('/').next() == Some(folder));
    files.all(|file| fs::metadata(out.join(&file.path)).is_ok_and(|found| found.len() == file.bytes))
}

/// Puts a folder in the place of what has its new name; does nothing where it has been moved already.
fn move_folder(from: &Path, to: &Path) -> Result<()> {
    if from.exists() {
        remove_folder(to)?;
        fs::rename(from, to).map_err(Error::io(to, "rename to"))?;
    }
    Ok(())
}

fn remove_folder(folder: &Path) -> Result<()> {
    if folder.exists() { fs::remove_dir_all(folder).map_err(Error::io(folder, "remove")) } else { Ok(()) }
}

/// The rejects of one slot.
struct SlotRejects<'a> {
    merged: &'a mut Merged,
    slot: u32,
}

impl Iterator for SlotRejects<'_> {
    type Item = Result<Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.merged.next_slot() == Some(self.slot) { self.merged.next() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_another_task_do_without_the_instruction_of_their_source() {
        let said = "Represent this sentence: ";
        for task in Task::ALL {
            let expected = (task == Task::Retrieval).then(|| said.to_owned());
            assert_eq!(instruction(Task::Retrieval, task, said), expected);
        }
        assert_eq!(instruction(Task::Retrieval, Task::Retrieval, ""), None);
    }

    #[test]
    fn a_folder_is_moved_once_and_then_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("set/faq"), folder.path().join("faq"));
        fs::create_dir_all(&from).unwrap();
        fs::write(from.join("part-00000.arrow"), "new").unwrap();
        fs::create_dir_all(&to).unwrap();
        fs::write(to.join("part-00000.arrow"), "old").unwrap();
        fs::write(to.join("part-00001.arrow"), "old").unwrap();
        for _ in 0..2 {
            move_folder(&from, &to).unwrap();
            assert_eq!(fs::read_to_string(to.join("part-00000.arrow")).unwrap(), "new");
            assert!(!to.join("part-00001.arrow").exists());
        }
    }

    #[test]
    fn a_moved_folder_is_told_by_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let mut manifest = Manifest::new(serde_json::Value::Null, 0, Vec::new(), Vec::new());
        manifest.rejects = vec![PartInfo {
            path: "rejects/faq.parquet".to_owned(),
            rows: 1,
            bytes: 3,
            xxh3_128: 0,
            blocks: Vec::new(),
        }];
        assert!(!is_moved("rejects", &manifest, folder.path()));
        fs::create_dir_all(folder.path().join("rejects")).unwrap();
        fs::write(folder.path().join("rejects/faq.parquet"), "ab").unwrap();
        assert!(!is_moved("rejects", &manifest, folder.path()));
        fs::write(folder.path().join("rejects/faq.parquet"), "abc").unwrap();
        assert!(is_moved("rejects", &manifest, folder.path()));
    }
}
