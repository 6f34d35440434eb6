//! The plan of global batches as Python sees it. `python/bgeprep/plan.py` has the defaults and the docs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bgeprep_core::Error;
use bgeprep_core::batch::{
    Audit, Clusters, GlobalBatch, Mix, NegativeChoice, PlanOptions, PlanState, Planner, SetRows,
};
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::ShardSet;
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use pyo3::types::PyDict;

use crate::arrays::set_chosen;
use crate::enter::enter;
use crate::error::to_py;

/// Mirror of the Python options; see `bgeprep.BatchPlan`.
#[derive(FromPyObject)]
pub(crate) struct PlanSettings {
    batch_size: u64,
    seed: u64,
    num_epochs: Option<u64>,
    max_steps: Option<u64>,
    mix: String,
    weights: Option<BTreeMap<String, f64>>,
    alpha: f64,
    negatives: u32,
    negative_choice: String,
    drop_last: bool,
    min_fill: f64,
    top_up: bool,
    groups: BTreeMap<String, String>,
    mixed: bool,
    clusters: Option<PyBackedBytes>,
    cluster_share: f64,
}

impl PlanSettings {
    pub(crate) fn resolve(&self, set: &ShardSet) -> Result<PlanOptions, Error> {
        let mix = match self.mix.as_str() {
            "manifest" => Mix::Manifest,
            "all_rows" => Mix::AllRows,
            "weighted" => {
                let weights = self.weights.clone().map(|weights| weights.into_iter().collect());
                Mix::Weighted { weights, alpha: self.alpha }
            }
            other => return Err(Error::Internal(format!("unknown mix {other:?}"))),
        };
        let negative_choice = NegativeChoice::from_name(&self.negative_choice).ok_or_else(|| {
            let message = format!("expected \"sample\" or \"top\", found {:?}", self.negative_choice);
            Error::config("batch.negative_choice", message)
        })?;
        let clusters = self.clusters.as_ref().map(|bytes| {
            let ids = bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)).collect();
            Clusters::new(ids, set.len(), self.cluster_share).map(Arc::new)
        });
        Ok(PlanOptions {
            batch_size: self.batch_size,
            seed: self.seed,
            num_epochs: self.num_epochs,
            max_steps: self.max_steps,
            mix,
            negatives: self.negatives,
            negative_choice,
            drop_last: self.drop_last,
            min_fill: self.min_fill,
            top_up: self.top_up,
            groups: self.groups.clone().into_iter().collect(),
            mixed: self.mixed,
            clusters: clusters.transpose()?,
        })
    }
}

/// Global batches one by one, planned on keys alone.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct PlanReader {
    planner: Mutex<Planner<SetRows>>,
}

impl PlanReader {
    pub(crate) fn of(planner: Planner<SetRows>) -> Self {
        Self { planner: Mutex::new(planner) }
    }

    fn lock(&self) -> MutexGuard<'_, Planner<SetRows>> {
        self.planner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl PlanReader {
    #[new]
    fn new(py: Python<'_>, shards: PathBuf, settings: PlanSettings) -> PyResult<Self> {
        let open = || {
            let set = ShardSet::open(&shards)?;
            let options = settings.resolve(&set)?;
            Planner::new(Arc::new(SetRows::new(set)?), &options)
        };
        py.detach(open).map(Self::of).map_err(to_py)
    }

    /// The next global batch, or None at the end of the run.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = py.detach(|| {
            let mut planner = self.lock();
            let batch = planner.next_batch()?;
            let source = batch.as_ref().and_then(|batch| batch.source);
            Ok::<_, Error>((batch, source.and_then(|source| planner.rows().describe(source))))
        });
        py.check_signals()?;
        let (Some(batch), source) = found.map_err(to_py)? else { return Ok(None) };
        plan_fields(py, batch, source).map(Some)
    }

    /// JSON of the state behind the batch planned last.
    fn state_json(&self) -> PyResult<String> {
        self.lock().state().to_json().map_err(to_py)
    }

    /// Goes to the place that a state describes.
    fn restore(&self, state: &str) -> PyResult<()> {
        PlanState::from_json(state).and_then(|state| self.lock().restore(&state)).map_err(to_py)
    }

    /// JSON of what became of the rows of each source.
    fn report_json(&self) -> PyResult<String> {
        let report = self.lock().report();
        serde_json::to_string(&report).map_err(|error| to_py(Error::Internal(error.to_string())))
    }
}

/// Plans a whole run and checks every batch; JSON of what was found, and of what became of the rows.
#[pyfunction]
#[pyo3(signature = (shards, settings, report))]
pub(crate) fn audit(
    py: Python<'_>,
    shards: PathBuf,
    settings: PlanSettings,
    report: Option<Bound<'_, PyAny>>,
) -> PyResult<String> {
    let progress = Progress::default();
    enter(py, &progress, report.as_ref(), || {
        progress.enter("plan");
        let set = ShardSet::open(&shards)?;
        let threshold = set.manifest().near.as_ref().map_or(DEFAULT_THRESHOLD, |near| near.threshold);
        let options = settings.resolve(&set)?;
        let rows = Arc::new(SetRows::new(Arc::clone(&set))?);
        let mut planner = Planner::new(Arc::clone(&rows), &options)?;
        let mut audit = Audit::new(&rows, threshold)?;
        let mut unplaced = Vec::new();
        progress.parts_total.store(set.len() * options.num_epochs.unwrap_or(1), Ordering::Relaxed);
        while let Some(batch) = planner.next_batch()? {
            progress.check()?;
            audit.batch(&batch)?;
            progress.parts_done.fetch_add(batch.chosen.rows.len() as u64, Ordering::Relaxed);
            unplaced.extend(batch.unplaced);
        }
        unplaced.extend(planner.take_unplaced());
        let found = serde_json::json!({
            "plan": audit.finish(),
            "sources": planner.report(),
            "unplaced": unplaced,
        });
        Ok(found.to_string())
    })
}

/// Texts are near from here on where the set does not say: near dedup's own default.
const DEFAULT_THRESHOLD: f64 = 0.8;

fn plan_fields<'py>(
    py: Python<'py>,
    batch: GlobalBatch,
    source: Option<(String, &'static str)>,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("step", batch.step)?;
    fields.set_item("epoch", batch.epoch)?;
    fields.set_item("source", source.map(|(name, _)| name))?;
    set_chosen(&fields, batch.chosen)?;
    Ok(fields)
}
