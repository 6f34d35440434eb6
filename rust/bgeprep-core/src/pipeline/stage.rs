//! What the stages after reading have in common.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::layout::BucketLayout;
use super::work::WorkFolder;
use crate::config::PrepPlan;
use crate::progress::Progress;

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
