//! What decides the batches, and nothing else: no ranks, no threads, no lengths.

use std::sync::Arc;

use serde::Serialize;
use xxhash_rust::xxh3::xxh3_64;

use super::clusters::Clusters;
use super::rows::PlanSource;
use crate::pair::Task;
use crate::{Error, Result};

/// How sources share the batches.
#[derive(Debug, Clone, PartialEq)]
pub enum Mix {
    /// `Weighted` by the manifest where it gives a weight to any source, else `AllRows`.
    Manifest,
    /// An epoch is one pass over every source: each row comes once.
    AllRows,
    /// A source's share of the batches is its weight times `rows^alpha`; an epoch is as many steps
    /// as `AllRows` would take.
    Weighted {
        /// Weights by source name, where sources without one are not used; `None` takes those of
        /// the manifest, where sources without one weigh 1.
        weights: Option<Vec<(String, f64)>>,
        /// 0: the weights alone; 1: in proportion to the rows.
        alpha: f64,
    },
}

/// Which of a row's negatives are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum NegativeChoice {
    /// Drawn without replacement, others in the next pass.
    Sample,
    /// The first of the list.
    Top,
}

impl NegativeChoice {
    /// The choice of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        match name {
            "sample" => Some(Self::Sample),
            "top" => Some(Self::Top),
            _ => None,
        }
    }
}

/// Options of a plan, as the caller gives them. No defaults here: Python has them.
#[derive(Debug, Clone, PartialEq)]
pub struct PlanOptions {
    /// Rows of a global batch.
    pub batch_size: u64,
    /// Decides every random choice.
    pub seed: u64,
    /// Epochs of the run; `None` means until `max_steps`.
    pub num_epochs: Option<u64>,
    /// Steps of the run, whatever `num_epochs` says.
    pub max_steps: Option<u64>,
    /// How sources share the batches.
    pub mix: Mix,
    /// Negatives a row, at most; a row with fewer brings fewer.
    pub negatives: u32,
    /// Which negatives.
    pub negative_choice: NegativeChoice,
    /// Leaves out the batch that ends a pass when it is short.
    pub drop_last: bool,
    /// A batch cut short by colliding keys is planned down to this share of `batch_size` (and at
    /// least two rows); below it the rows are unplaced.
    pub min_fill: f64,
    /// A batch that its source cannot fill takes rows of its group.
    pub top_up: bool,
    /// Names of groups by source; sources not named are of the group of their task and language.
    pub groups: Vec<(String, String)>,
    /// Every batch takes rows of all sources.
    pub mixed: bool,
    /// Draws batches within clusters.
    pub clusters: Option<Arc<Clusters>>,
}

/// Options checked against a set: what goes into the fingerprint of a state.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Resolved {
    pub(crate) batch_size: u64,
    pub(crate) seed: u64,
    /// Share of the batches of each source; `None` when all rows come once.
    pub(crate) shares: Option<Vec<f64>>,
    pub(crate) negatives: u32,
    pub(crate) negative_choice: NegativeChoice,
    pub(crate) drop_last: bool,
    /// Rows below which a batch cut short by colliding keys is not planned.
    pub(crate) min_rows: u64,
    pub(crate) top_up: bool,
    /// The group of each source, by number.
    pub(crate) groups: Vec<usize>,
    pub(crate) mixed: bool,
    pub(crate) clusters: Option<String>,
}

impl Resolved {
    pub(crate) fn new(options: &PlanOptions, sources: &[PlanSource]) -> Result<Self> {
        let config = |key: &str, message: String| Err(Error::config(format!("batch.{key}"), message));
        if options.batch_size == 0 {
            return config("batch_size", "expected at least 1 row, found 0".into());
        }
        if options.batch_size > u64::from(u32::MAX) {
            return config("batch_size", format!("expected at most {}, found {}", u32::MAX, options.batch_size));
        }
        if options.num_epochs.is_none() && options.max_steps.is_none() {
            return config("num_epochs", "expected num_epochs or max_steps, found neither".into());
        }
        if !(0.0..=1.0).contains(&options.min_fill) {
            return config("min_fill", format!("expected a share from 0 to 1, found {}", options.min_fill));
        }
        let shares = match &options.mix {
            Mix::Manifest if sources.iter().any(|source| source.weight.is_some()) => Some(shares(None, 0.0, sources)?),
            Mix::Manifest | Mix::AllRows => None,
            Mix::Weighted { weights, alpha } => Some(shares(weights.as_deref(), *alpha, sources)?),
        };
        if sources.iter().all(|source| source.rows == 0)
            || shares.as_ref().is_some_and(|shares| {
                sources.iter().zip(shares).all(|(source, share)| source.rows == 0 || *share == 0.0)
            })
        {
            return config("weights", "no source with rows has a weight above 0".into());
        }
        Ok(Self {
            batch_size: options.batch_size,
            seed: options.seed,
            shares,
            negatives: options.negatives,
            negative_choice: options.negative_choice,
            drop_last: options.drop_last,
            min_rows: ((options.batch_size as f64 * options.min_fill).ceil() as u64).max(2),
            top_up: options.top_up,
            groups: groups(options, sources)?,
            mixed: options.mixed,
            clusters: options.clusters.as_ref().map(|clusters| clusters.describe()),
        })
    }

    /// Steps of an epoch of a weighted mix: as many as one pass over every source used would take.
    pub(crate) fn steps_per_epoch(&self, sources: &[PlanSource]) -> Option<u64> {
        let shares = self.shares.as_ref()?;
        let used = sources.iter().zip(shares).filter(|(_, share)| **share > 0.0);
        Some(used.map(|(source, _)| source.rows.div_ceil(self.batch_size)).sum())
    }

    pub(crate) fn describe(&self) -> Result<serde_json::Value> {
        serde_json::to_value(self).map_err(|error| Error::Internal(format!("plan options: {error}")))
    }

    pub(crate) fn fingerprint(&self) -> Result<String> {
        Ok(format!("{:016x}", xxh3_64(self.describe()?.to_string().as_bytes())))
    }
}

/// The group of each source, by number. Mixed batches know two: with and without in-batch negatives.
fn groups(options: &PlanOptions, sources: &[PlanSource]) -> Result<Vec<usize>> {
    for (name, _) in &options.groups {
        if !sources.iter().any(|source| source.name == *name) {
            let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
            let message = format!("expected names of sources of the set ({}), found {name:?}", names.join(", "));
            return Err(Error::config("batch.groups", message));
        }
    }
    let named = |source: &PlanSource| options.groups.iter().find(|(name, _)| *name == source.name);
    let of = |source: &PlanSource| match (options.mixed, named(source)) {
        (true, _) => String::new(),
        (false, Some((_, group))) => format!("group {group}"),
        (false, None) => source.group.clone(),
    };
    // A source that trains without in-batch negatives shares no batch with one that trains with them.
    let names: Vec<(bool, String)> =
        sources.iter().map(|source| (source.task == Task::Classification, of(source))).collect();
    Ok(names.iter().map(|name| names.iter().position(|first| first == name).unwrap_or(0)).collect())
}

fn shares(weights: Option<&[(String, f64)]>, alpha: f64, sources: &[PlanSource]) -> Result<Vec<f64>> {
    if !alpha.is_finite() || alpha < 0.0 {
        return Err(Error::config("batch.alpha", format!("expected a finite number of at least 0, found {alpha}")));
    }
    let is_source = |name: &String| sources.iter().any(|source| source.name == *name);
    if let Some((unknown, _)) = weights.into_iter().flatten().find(|(name, _)| !is_source(name)) {
        let names: Vec<&str> = sources.iter().map(|source| source.name.as_str()).collect();
        let message = format!("expected names of sources of the set ({}), found {unknown:?}", names.join(", "));
        return Err(Error::config("batch.weights", message));
    }
    let weight_of = |source: &PlanSource| match weights {
        Some(weights) => weights.iter().find(|(name, _)| *name == source.name).map_or(0.0, |(_, weight)| *weight),
        None => source.weight.unwrap_or(1.0),
    };
    let share_of = |source: &PlanSource| {
        let weight = weight_of(source);
        if !weight.is_finite() || weight < 0.0 {
            let message = format!("expected a finite weight of at least 0 for {:?}, found {weight}", source.name);
            return Err(Error::config("batch.weights", message));
        }
        // An empty source has no share: it could never give a batch.
        Ok(if source.rows == 0 { 0.0 } else { weight * (source.rows as f64).powf(alpha) })
    };
    sources.iter().map(share_of).collect()
}
