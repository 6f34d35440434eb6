//! Where a run over blocks stands: true of the batch just yielded.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::plan::Schedule;
use crate::batch::state::refuse_another;
use crate::{Error, Result};

/// Version of the layout, of the order of blocks and of every draw of the masks.
const VERSION: u32 = 1;

/// The resume point behind a batch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextState {
    /// Version of the layout.
    pub version: u32,
    /// Hash of the shard set.
    pub manifest: String,
    /// Hash of the block index.
    pub blocks: String,
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
}

impl TextState {
    pub(super) fn start(manifest: &str, blocks: String, schedule: &Schedule, world_size: u32) -> Result<Self> {
        let (options, plan) = schedule.describe()?;
        let manifest = manifest.to_owned();
        Ok(Self { version: VERSION, manifest, blocks, plan, options, world_size, epoch: 0, step: 0, epoch_step: 0 })
    }

    /// The state behind `step` batches.
    pub(super) fn behind(&self, step: u64, schedule: &Schedule) -> Self {
        let epoch = step.saturating_sub(1) / schedule.per_epoch();
        Self { epoch, step, epoch_step: step - epoch * schedule.per_epoch(), ..self.clone() }
    }

    /// Reads a state that Python kept as JSON.
    pub fn from_json(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| {
            let message = format!("expected a state written by TextLoader of version {VERSION}: {error}");
            Error::config("text.state", message)
        })
    }

    /// The state as JSON.
    pub fn to_json(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| Error::Internal(format!("text state: {error}")))
    }

    /// Refuses a state of another version, set, tokenizer, length or plan, and says what differs.
    pub(super) fn check_against(&self, own: &Self) -> Result<()> {
        let refuse = |message: String| Err(Error::config("text.state", message));
        refuse_another("text", (self.version, own.version), (&self.manifest, &own.manifest))?;
        if self.blocks != own.blocks {
            return refuse("the run began with another tokenizer or max_seq_length, so with other blocks".to_owned());
        }
        if self.plan != own.plan {
            return refuse(format!(
                "the run began with other options: they were {}, are {}",
                self.options, own.options
            ));
        }
        Ok(())
    }
}
