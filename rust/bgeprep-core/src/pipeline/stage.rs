//! What the stages after reading have in common.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;

use super::layout::BucketLayout;
use super::read_stage::ROWS;
use super::work::WorkFolder;
use crate::Result;
use crate::config::PrepPlan;
use crate::progress::Progress;
use crate::shuffle::packed::Packed;
use crate::shuffle::spill::path;

/// Folders, limits and counters that a stage after reading works with.
#[derive(Debug)]
pub struct Stage<'a> {
    /// The plan.
    pub plan: &'a PrepPlan,
    /// Buckets and files.
    pub layout: &'a BucketLayout,
    /// What is done, step by step.
    pub work: &'a WorkFolder,
    /// Folder of spilled rows and keys.
    pub read: &'a Path,
    /// Rows of buckets that lie somewhere else than in `read`.
    pub elsewhere: BTreeMap<usize, Packed>,
    /// Folder of decisions and transfers.
    pub dedup: &'a Path,
    /// Worker threads.
    pub threads: usize,
    /// Bytes that all threads together may hold.
    pub memory: u64,
    /// Counters.
    pub progress: &'a Progress,
}

impl Stage<'_> {
    /// The rows of a bucket.
    pub(super) fn rows(&self, bucket: usize) -> Result<Packed> {
        match self.elsewhere.get(&bucket) {
            Some(rows) => Ok(rows.clone()),
            None => Packed::open(&path(self.read, ROWS, bucket)),
        }
    }

    /// A step of `jobs` jobs begins.
    pub(super) fn begin(&self, jobs: usize) {
        self.progress.parts_total.store(jobs as u64, Ordering::Relaxed);
        self.progress.parts_done.store(0, Ordering::Relaxed);
    }

    /// A job is done.
    pub(super) fn step(&self) {
        self.progress.parts_done.fetch_add(1, Ordering::Relaxed);
    }
}
