//! The batch loader as Python sees it. `python/bgeprep/batch.py` has the defaults and the docs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgeprep_core::Error;
use bgeprep_core::batch::{
    CollateOptions, GlobalBatch, Instruction, Loader, LoaderOptions, Mix, NegativeChoice, Next, PlanOptions, PlanState,
    Planner, RankBatch, SetRows,
};
use bgeprep_core::shard::ShardSet;
use bgeprep_core::tokenize::TextEncoder;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::set_arrays;
use crate::error::to_py;

/// How long a wait may last before Python's signal handlers get a look.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Planned steps between two looks at Python's signal handlers.
const STEPS_A_LOOK: u64 = 64;

/// Mirror of the Python options; see `bgeprep.BatchLoader`.
#[derive(FromPyObject)]
struct Options {
    tokenizer: PathBuf,
    batch_size: u64,
    rank: u32,
    world_size: u32,
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
    query_max_len: usize,
    passage_max_len: usize,
    instruction: String,
    retrieval_instruction: String,
    source_instructions: BTreeMap<String, String>,
    prefetch: usize,
    threads: usize,
}

impl Options {
    fn plan(&self) -> Result<PlanOptions, Error> {
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
        })
    }

    fn collate(&self) -> Result<CollateOptions, Error> {
        let instruction = match self.instruction.as_str() {
            "off" => Instruction::Off,
            "manifest" => Instruction::Manifest,
            "retrieval" => Instruction::Retrieval(self.retrieval_instruction.clone()),
            "sources" => Instruction::Sources(self.source_instructions.clone().into_iter().collect()),
            other => return Err(Error::Internal(format!("unknown instruction mode {other:?}"))),
        };
        Ok(CollateOptions { query_max_len: self.query_max_len, passage_max_len: self.passage_max_len, instruction })
    }
}

/// One rank's batches. Every call that may wait releases the GIL.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct BatchReader {
    loader: Mutex<Loader>,
}

impl BatchReader {
    /// Waiting for the lock while holding the GIL would stop the thread that holds the lock.
    fn with<T: Send>(&self, py: Python<'_>, work: impl FnOnce(&mut Loader) -> Result<T, Error> + Send) -> PyResult<T> {
        py.detach(|| work(&mut self.lock())).map_err(to_py)
    }

    fn lock(&self) -> MutexGuard<'_, Loader> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl BatchReader {
    #[new]
    fn new(py: Python<'_>, shards: PathBuf, options: Options) -> PyResult<Self> {
        let open = || {
            let (plan, collate) = (options.plan()?, options.collate()?);
            let set = ShardSet::open(&shards)?;
            let encoder = Arc::new(TextEncoder::open(&options.tokenizer)?);
            let own = LoaderOptions {
                rank: options.rank,
                world_size: options.world_size,
                prefetch: options.prefetch,
                threads: options.threads,
            };
            Loader::new(set, encoder, plan, &collate, own)
        };
        let loader = py.detach(open).map_err(to_py)?;
        Ok(Self { loader: Mutex::new(loader) })
    }

    /// The fields of the next batch, or None at the end of the run.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            let found = self.with(py, |loader| {
                let next = loader.next(PATIENCE)?;
                let Next::Batch(batch) = next else { return Ok((next, None, String::new())) };
                let source = batch.source.and_then(|source| loader.rows().describe(source));
                let state = batch.state.to_json()?;
                Ok((Next::Batch(batch), source, state))
            })?;
            match found {
                (Next::Batch(batch), source, state) => return batch_fields(py, *batch, source, state).map(Some),
                (Next::End, ..) => return Ok(None),
                (Next::NotYet, ..) => py.check_signals()?,
            }
        }
    }

    /// JSON of the state behind the batch yielded last.
    fn state_json(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| loader.state().to_json())
    }

    /// Goes to the place that a state describes.
    fn restore(&self, py: Python<'_>, state: &str) -> PyResult<()> {
        self.with(py, |loader| loader.restore(PlanState::from_json(state)?))
    }

    /// Stops and joins the threads.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |loader| {
            loader.close();
            Ok(())
        })
    }

    /// Steps of the whole run; plans it where that is the only way to know.
    fn count_steps(&self, py: Python<'_>) -> PyResult<u64> {
        let mut planner = self.with(py, |loader| loader.planner())?;
        let mut raised = None;
        #[expect(clippy::redundant_closure_for_method_calls, reason = "the method alone is not general enough")]
        let look = || Python::attach(|py| py.check_signals());
        let counted = py.detach(|| {
            let mut steps = 0;
            planner.count_steps(|| {
                steps += 1;
                if u64::is_multiple_of(steps, STEPS_A_LOOK)
                    && let Err(error) = look()
                {
                    raised = Some(error);
                    return Err(Error::Interrupted);
                }
                Ok(())
            })
        });
        match raised {
            Some(error) => Err(error),
            None => counted.map_err(to_py),
        }
    }

    /// The global batches of the whole run.
    fn plan(&self, py: Python<'_>) -> PyResult<PlanReader> {
        let planner = self.with(py, |loader| loader.planner())?;
        Ok(PlanReader { planner: Mutex::new(planner) })
    }

    /// JSON of what became of the rows of each source, and of the rows that were given up.
    fn report_json(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| {
            let report = serde_json::json!({
                "sources": loader.report(),
                "steps": loader.state().step,
                "unplaced": loader.unplaced(),
            });
            Ok(report.to_string())
        })
    }
}

/// Global batches one by one, planned on keys alone.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct PlanReader {
    planner: Mutex<Planner<SetRows>>,
}

#[pymethods]
impl PlanReader {
    /// The next global batch, or None at the end of the run.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        let found = py.detach(|| {
            let mut planner = self.planner.lock().unwrap_or_else(PoisonError::into_inner);
            let batch = planner.next_batch()?;
            let source = batch.as_ref().and_then(|batch| batch.source);
            Ok::<_, Error>((batch, source.and_then(|source| planner.rows().describe(source))))
        });
        py.check_signals()?;
        let (Some(batch), source) = found.map_err(to_py)? else { return Ok(None) };
        plan_fields(py, &batch, source).map(Some)
    }
}

fn batch_fields<'py>(
    py: Python<'py>,
    batch: RankBatch,
    source: Option<(String, &'static str)>,
    state: String,
) -> PyResult<Bound<'py, PyDict>> {
    let fields = PyDict::new(py);
    let (source, task) = source.unzip();
    fields.set_item("step", batch.step)?;
    fields.set_item("epoch", batch.epoch)?;
    fields.set_item("source", source)?;
    fields.set_item("task", task)?;
    fields.set_item("global_rows", batch.global_rows)?;
    set_arrays(&fields, batch.arrays)?;
    fields.set_item("state_json", state)?;
    Ok(fields)
}

fn plan_fields<'py>(
    py: Python<'py>,
    batch: &GlobalBatch,
    source: Option<(String, &'static str)>,
) -> PyResult<Bound<'py, PyDict>> {
    let chosen = &batch.chosen;
    let negatives: Vec<&[u32]> = (0..chosen.rows.len()).map(|place| chosen.negatives_of(place)).collect();
    let fields = PyDict::new(py);
    fields.set_item("step", batch.step)?;
    fields.set_item("epoch", batch.epoch)?;
    fields.set_item("source", source.map(|(name, _)| name))?;
    fields.set_item("rows", &chosen.rows)?;
    fields.set_item("positives", &chosen.positives)?;
    fields.set_item("negatives", negatives)?;
    Ok(fields)
}
