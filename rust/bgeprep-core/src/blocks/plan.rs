//! Which blocks share a step: slices of a keyed permutation, one an epoch.

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use crate::batch::permute::{Permutation, Use, seed_of};
use crate::{Error, Result};

/// What decides the steps. No defaults here: Python has them.
#[derive(Debug, Clone, PartialEq)]
pub struct TextPlanOptions {
    /// Blocks of a global batch.
    pub batch_size: u64,
    /// Decides the order.
    pub seed: u64,
    /// Epochs of the run; `None` means until `max_steps`.
    pub num_epochs: Option<u64>,
    /// Steps of the run, whatever `num_epochs` says.
    pub max_steps: Option<u64>,
}

/// The steps of a run over so many blocks.
#[derive(Debug, Clone)]
pub(super) struct Schedule {
    blocks: u64,
    batch_size: u64,
    seed: u64,
    pub(super) steps: u64,
}

/// What goes into the fingerprint of a state.
#[derive(Serialize)]
struct Resolved {
    batch_size: u64,
    seed: u64,
}

impl Schedule {
    pub(super) fn new(blocks: u64, options: &TextPlanOptions) -> Result<Self> {
        let TextPlanOptions { batch_size, seed, num_epochs, max_steps } = *options;
        if !(1..=u64::from(u32::MAX)).contains(&batch_size) {
            let message = format!("expected from 1 to {} blocks, found {batch_size}", u32::MAX);
            return Err(Error::config("text.batch_size", message));
        }
        let per_epoch = blocks.div_ceil(batch_size);
        let steps = max_steps.or_else(|| num_epochs.map(|epochs| epochs.saturating_mul(per_epoch)));
        let steps =
            steps.ok_or_else(|| Error::config("text.num_epochs", "expected num_epochs or max_steps, found neither"))?;
        Ok(Self { blocks, batch_size, seed, steps })
    }

    /// Steps of an epoch; the last of it takes what is left.
    pub(super) fn per_epoch(&self) -> u64 {
        self.blocks.div_ceil(self.batch_size)
    }

    /// Block ids of a step in the order of the permutation.
    pub(super) fn batch(&self, step: u64) -> Vec<u64> {
        let (epoch, place) = (step / self.per_epoch(), step % self.per_epoch());
        let order = Permutation::new(self.blocks, seed_of(Use::BlockOrder, &[self.seed, epoch]));
        let first = place * self.batch_size;
        (first..self.blocks.min(first + self.batch_size)).map(|place| order.at(place)).collect()
    }

    /// The options that decide batches, readable, and their hash.
    pub(super) fn describe(&self) -> Result<(serde_json::Value, String)> {
        let resolved = Resolved { batch_size: self.batch_size, seed: self.seed };
        let value =
            serde_json::to_value(resolved).map_err(|error| Error::Internal(format!("text options: {error}")))?;
        let hash = format!("{:016x}", xxh3_64(value.to_string().as_bytes()));
        Ok((value, hash))
    }
}
