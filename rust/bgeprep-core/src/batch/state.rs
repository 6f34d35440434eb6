//! Where a plan stands: small, exact, readable, and true of the batch just yielded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::options::Resolved;
use crate::{Error, Result};

/// Version of the state's layout and of every random choice of the plan.
const VERSION: u32 = 2;

/// Why a row was not placed in its pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnplacedReason {
    /// Its keys met those of other rows until too few were left for a batch.
    Conflict,
    /// It was in the short batch that ends a pass, and `drop_last` was asked for.
    LastBatch,
}

/// A row that no batch of its pass took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unplaced {
    /// Row id.
    pub row: u64,
    /// Index of its source.
    pub source: u32,
    /// The pass, counted from 0.
    pub pass: u64,
    /// Why.
    pub reason: UnplacedReason,
}

/// What happened to the rows of a source since the start of the run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// Batches planned.
    pub batches: u64,
    /// Rows of this source in batches, whoever's.
    pub rows: u64,
    /// Rows of this source that filled up batches of other sources.
    pub lent_rows: u64,
    /// Batches with fewer rows than `batch_size`.
    pub short_batches: u64,
    /// Rows that did not fit the batch they came up for (each time counted once).
    pub waited: u64,
    /// Rows unplaced because of colliding keys.
    pub unplaced_conflict: u64,
    /// Rows unplaced because of `drop_last`.
    pub unplaced_last_batch: u64,
    /// Negatives that would have been false and gave way to another of the list.
    pub negatives_swapped: u64,
    /// Negatives that would have been false and had no substitute.
    pub negatives_left_out: u64,
}

/// Where a source stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SourceState {
    /// Its name.
    pub name: String,
    /// The pass under way, counted from 0.
    pub pass: u64,
    /// Places of the pass already read.
    pub cursor: u64,
    /// Turns in the schedule: since the epoch began, or since the run began in a weighted mix.
    pub turns: u64,
    /// Whether its pass of this epoch is done.
    pub finished: bool,
    /// Waiting rows (counted from the source's first row) by the key that keeps them out.
    pub waiting: Vec<(u64, Vec<u64>)>,
    /// Totals for the report.
    pub counts: Counts,
}

/// The resume point after a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanState {
    /// Version of the layout.
    pub version: u32,
    /// Hash of the shard set.
    pub manifest: String,
    /// Hash of the options.
    pub plan: String,
    /// The options that decide batches, readable.
    pub options: Value,
    /// World size of the run that wrote it: for the log, never a condition.
    pub world_size: u32,
    /// Epoch of the batch just yielded.
    pub epoch: u64,
    /// Batches yielded so far, which is the step to come.
    pub step: u64,
    /// Batches yielded so far in this epoch.
    pub epoch_step: u64,
    /// One entry a source, in the set's order.
    pub sources: Vec<SourceState>,
}

impl PlanState {
    pub(crate) fn start(manifest: &str, options: &Resolved, names: impl Iterator<Item = String>) -> Result<Self> {
        Ok(Self {
            version: VERSION,
            manifest: manifest.to_owned(),
            plan: options.fingerprint()?,
            options: options.describe()?,
            world_size: 1,
            epoch: 0,
            step: 0,
            epoch_step: 0,
            sources: names.map(SourceState::start).collect(),
        })
    }

    /// Reads a state that Python kept as JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            Error::config(
                "batch.state",
                format!("expected a state written by BatchLoader of version {VERSION}: {error}"),
            )
        })
    }

    /// The state as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(format!("plan state: {error}")))
    }

    /// Refuses a state of another version, set or plan, and says what differs.
    pub(crate) fn check_against(&self, own: &Self) -> Result<()> {
        let refuse = |message: String| Err(Error::config("batch.state", message));
        refuse_another("batch", (self.version, own.version), (&self.manifest, &own.manifest))?;
        if self.plan != own.plan {
            let differing = own.options.as_object().into_iter().flatten().filter_map(|(key, value)| {
                let found = self.options.get(key).unwrap_or(&Value::Null);
                (found != value).then(|| format!("{key} was {found}, is {value}"))
            });
            let differing: Vec<String> = differing.collect();
            return refuse(format!("the run began with other options: {}", differing.join("; ")));
        }
        if self.sources.len() != own.sources.len() {
            return refuse(format!("expected {} sources, found {}", own.sources.len(), self.sources.len()));
        }
        Ok(())
    }
}

/// Refuses a state of another version or shard set; both pairs are what was found and what is expected, and `section` is
/// where the loader's options stand in a config.
pub(crate) fn refuse_another(section: &str, version: (u32, u32), manifest: (&str, &str)) -> Result<()> {
    let refuse = |message| Err(Error::config(format!("{section}.state"), message));
    if version.0 != version.1 {
        return refuse(format!("expected version {}, found {}", version.1, version.0));
    }
    if manifest.0 != manifest.1 {
        return refuse(format!(
            "it belongs to the shard set {}, this one is {}; resume with the set the run began with",
            manifest.0, manifest.1
        ));
    }
    Ok(())
}

impl SourceState {
    fn start(name: String) -> Self {
        Self { name, pass: 0, cursor: 0, turns: 0, finished: false, waiting: Vec::new(), counts: Counts::default() }
    }
}
