//! A run cut into tasks that any machine can do: the stages of [`run`](super::run), each for some of its jobs.
//!
//! A task gathers what it needs from bundles that other tasks left in a [`Place`], as the very files a run on one
//! machine would have spilled; calls the stage's own function for its jobs; and leaves one bundle. It writes nowhere
//! else but in a folder of its own, so it can be done again, by two machines at once, or be killed at any moment.
//! Whoever hands out tasks knows their stages and numbers, and no more of what is in them.
//!
//! ```text
//! scores ─► read ─► settle-read ─► candidates ─► components ─► texts ─► verify ─► tables ─► families ─┐
//!                       └─────────────────────────── without near dedup ────────────────────────────┴► decide
//!  commit ◄─ parts ◄─ transfers ◄─ unite ◄─ settle-dedup ◄─ decide
//! ```

pub mod bundle;
pub mod gather;
pub mod place;

mod near;
mod stages;

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::layout::{BucketLayout, FileEntry};
use super::read_queue::FileShare;
use super::sketching::banding;
use crate::config::{DedupMode, PrepPlan, RunOptions};
use crate::progress::Progress;
use crate::store::Stores;
use crate::{Error, Result};
use gather::Bundles;
use place::Place;

/// The part of a run that a task does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StageName {
    /// Files of scores → one sorted table, where rows are filtered by scores.
    Scores,
    /// Shares of files → rows by bucket, keys by partition, sketches by band.
    Read,
    /// All reports of reading → one, judged.
    SettleRead,
    /// Bands → candidate pairs by partition.
    Candidates,
    /// A space → which texts hang together, and where each is verified.
    Components,
    /// Buckets → the texts that have a candidate, by partition.
    Texts,
    /// Partitions of a space → clusters and similarities.
    Verify,
    /// A space → its sorted table.
    Tables,
    /// Partitions → key records that are decided in another one.
    Families,
    /// Partitions → decisions by bucket.
    Decide,
    /// All reports of deciding → one.
    SettleDedup,
    /// A space → batching keys of shard sets brought together, where sets are read.
    Unite,
    /// Buckets → texts that go to rows of other buckets.
    Transfers,
    /// Parts → files of the set.
    Parts,
    /// Rejects and manifest, and all into its place.
    Commit,
}

impl StageName {
    /// The name that tasks and bundles carry.
    pub fn name(self) -> &'static str {
        match self {
            Self::Scores => "scores",
            Self::Read => "read",
            Self::SettleRead => "settle-read",
            Self::Candidates => "candidates",
            Self::Components => "components",
            Self::Texts => "texts",
            Self::Verify => "verify",
            Self::Tables => "tables",
            Self::Families => "families",
            Self::Decide => "decide",
            Self::SettleDedup => "settle-dedup",
            Self::Unite => "unite",
            Self::Transfers => "transfers",
            Self::Parts => "parts",
            Self::Commit => "commit",
        }
    }
}

/// One task, as whoever hands it out describes it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Task {
    /// What is to be done.
    pub stage: StageName,
    /// Its number within the stage.
    pub number: usize,
    /// Tells this try from others of the same task.
    pub attempt: String,
    /// The first job, and the one behind the last.
    pub jobs: (usize, usize),
    /// Where it reads, for the stage `read`.
    #[serde(default)]
    pub shares: Vec<FileShare>,
    /// Names of the bundles of earlier stages, in the order of their tasks.
    #[serde(default)]
    pub inputs: BTreeMap<StageName, Vec<String>>,
    /// Where bundles lie.
    pub place: PathBuf,
    /// Key partitions, where it is not the size of the input that decides.
    #[serde(default)]
    pub partitions: Option<usize>,
}

/// What came of a task.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Name of its bundle.
    #[serde(default)]
    pub bundle: String,
    /// Rows read, by a task that reads.
    pub rows_read: u64,
    /// Rows among them that could not be read.
    pub rows_unreadable: u64,
    /// Rows dropped in this task.
    pub rows_dropped: u64,
    /// Rows written.
    pub rows_kept: u64,
    /// Jobs of the stage `parts`, told by `settle-dedup`.
    pub parts: usize,
    /// Bytes of the bundle.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes that the stage `unite` reads of one space at most, told by `settle-read`.
    pub clusters: u64,
    /// Identifies the set; told by `commit`.
    pub hash: String,
    /// Files without a record; told by `settle-read`.
    pub empty_files: Vec<String>,
    /// What a user should know; told by `settle-read`.
    pub warnings: Vec<String>,
}

impl Task {
    /// A task as it travels.
    ///
    /// # Errors
    /// `Internal` if it is none.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| Error::Internal(error.to_string()))
    }
}

impl Done {
    /// What came of a task as it travels.
    ///
    /// # Errors
    /// `Internal` if it cannot be written, which does not happen.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(error.to_string()))
    }
}

/// How a plan is cut.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cut {
    /// Bytes of text that each input file is taken to hold.
    pub files: Vec<u64>,
    /// Buckets of rows.
    pub buckets: usize,
    /// Key partitions.
    pub partitions: usize,
    /// Bands of a sketch; 0 without near dedup.
    pub bands: usize,
    /// Bytes of text that the input is taken to hold.
    pub text_bytes: u64,
    /// Whether batching keys of shard sets have to be brought together.
    pub unite: bool,
}

/// How many jobs the stages of a plan have.
///
/// # Errors
/// `Shard` if a set that is read is absent or damaged.
pub fn cut(plan: &PrepPlan, partitions: Option<usize>) -> Result<Cut> {
    let layout = layout_of(plan, partitions)?;
    Ok(Cut {
        files: layout.files.iter().map(FileEntry::text_bytes).collect(),
        buckets: layout.buckets,
        partitions: layout.partitions,
        bands: if plan.dedup.mode == DedupMode::Near { banding(&plan.dedup).bands } else { 0 },
        text_bytes: layout.text_bytes,
        unite: layout.unite_keys,
    })
}

fn layout_of(plan: &PrepPlan, partitions: Option<usize>) -> Result<BucketLayout> {
    let mut layout = BucketLayout::new(plan)?;
    layout.partitions = partitions.unwrap_or(layout.partitions);
    Ok(layout)
}

/// What all stages of a task share.
struct Run<'a> {
    plan: &'a PrepPlan,
    layout: &'a BucketLayout,
    options: &'a RunOptions,
    progress: &'a Progress,
    task: &'a Task,
    place: Place,
    /// A folder of this attempt alone.
    scratch: PathBuf,
}

impl Run<'_> {
    fn jobs(&self) -> Range<usize> {
        self.task.jobs.0..self.task.jobs.1
    }

    fn bundles(&self, stage: StageName) -> Result<Bundles> {
        let names = self.task.inputs.get(&stage).map(Vec::as_slice).unwrap_or_default();
        if names.is_empty() {
            return Err(Error::Internal(format!("a task without the bundles of {}", stage.name())));
        }
        Bundles::open(&self.place, names)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.scratch.join(name)
    }

    /// The name that something this attempt leaves has.
    fn name(&self, suffix: &str) -> String {
        let Task { stage, number, attempt, .. } = self.task;
        format!("{}/{number:06}-{attempt}{suffix}", stage.name())
    }
}

/// Does a task, in a folder of its own below `options.work`, which is gone afterwards.
///
/// # Errors
/// What the stage says.
pub fn run_task(
    plan: &PrepPlan,
    options: &RunOptions,
    task: &Task,
    stores: &Stores,
    progress: &Arc<Progress>,
) -> Result<Done> {
    let layout = layout_of(plan, task.partitions)?;
    let scratch = Scratch::create(&options.work, task)?;
    let run = Run {
        plan,
        layout: &layout,
        options,
        progress,
        task,
        place: Place::new(&task.place, &options.work, stores)?,
        scratch: scratch.0.clone(),
    };
    stages::run(&run)
}

/// What the tasks of a run that was killed left in its place: one try of each.
///
/// # Errors
/// `Io` or `Store` if the place cannot be read.
pub fn found(at: &Path, scratch: &Path, stores: &Stores) -> Result<Vec<Done>> {
    let place = Place::new(at, scratch, stores)?;
    let mut done = BTreeMap::new();
    for name in place.names()? {
        // `<stage>/<number>-<attempt>`; what lies deeper belongs to one of these.
        let Some((stage, rest)) = name.split_once('/') else { continue };
        let Some((number, attempt)) = rest.split_once('-') else { continue };
        if attempt.contains(['/', '.']) || number.parse::<usize>().is_err() {
            continue;
        }
        done.entry(format!("{stage}/{number}")).or_insert(name);
    }
    let opened = done.into_values().map(|name| match bundle::Bundle::open(&place, &name) {
        Ok(bundle) => Ok(Some(Done { bytes: bundle.bytes_in_all(), bundle: name, ..bundle.done().clone() })),
        // What a machine that lost its power left: the task is done again.
        Err(Error::Shard { .. }) => place.remove(&name).map(|()| None),
        Err(error) => Err(error),
    });
    opened.filter_map(Result::transpose).collect()
}

/// Removes all that the tasks of a run left in a place.
///
/// # Errors
/// `Io` or `Store` if the place cannot be changed.
pub fn clear(at: &Path, scratch: &Path, stores: &Stores) -> Result<()> {
    let place = Place::new(at, scratch, stores)?;
    place.names()?.iter().try_for_each(|name| place.remove(name))
}

/// A folder that goes with the task, whatever becomes of it.
struct Scratch(PathBuf);

impl Scratch {
    fn create(work: &Path, task: &Task) -> Result<Self> {
        let path = work.join(format!("task-{}-{:06}-{}", task.stage.name(), task.number, task.attempt));
        if path.exists() {
            fs_err::remove_dir_all(&path).map_err(Error::io(&path, "remove"))?;
        }
        fs_err::create_dir_all(&path).map_err(Error::io(&path, "create"))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays behind is space of a machine that has other troubles.
        fs_err::remove_dir_all(&self.0).ok();
    }
}
