//! The batch loader as Python sees it. `python/bgeprep/batch.py` has the defaults and the docs.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bgeprep_core::Error;
use bgeprep_core::batch::{
    CollateOptions, Instruction, Layout, Loader, LoaderOptions, Next, PlanState, RankBatch, pad_id,
};
use bgeprep_core::shard::ShardSet;
use bgeprep_core::tokenize::TextEncoder;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::{set_arrays, set_chunks};
use crate::error::to_py;
use crate::plan::{PlanReader, PlanSettings};

/// How long a wait may last before Python's signal handlers get a look.
pub(crate) const PATIENCE: Duration = Duration::from_millis(100);

/// Planned steps between two looks at Python's signal handlers.
const STEPS_A_LOOK: u64 = 64;

/// Mirror of the Python options; see `bgeprep.BatchLoader`.
#[derive(FromPyObject)]
struct Options {
    plan: PlanSettings,
    tokenizer: PathBuf,
    rank: u32,
    world_size: u32,
    query_max_len: usize,
    passage_max_len: usize,
    instruction: String,
    retrieval_instruction: String,
    source_instructions: BTreeMap<String, String>,
    prefetch: usize,
    threads: usize,
    layout: String,
    max_tokens: usize,
    pad_multiple_of: usize,
}

impl Options {
    fn collate(&self, encoder: &TextEncoder) -> Result<CollateOptions, Error> {
        let instruction = match self.instruction.as_str() {
            "off" => Instruction::Off,
            "manifest" => Instruction::Manifest,
            "retrieval" => Instruction::Retrieval(self.retrieval_instruction.clone()),
            "sources" => Instruction::Sources(self.source_instructions.clone().into_iter().collect()),
            other => return Err(Error::Internal(format!("unknown instruction mode {other:?}"))),
        };
        let layout = match self.layout.as_str() {
            "packed" => Layout::Packed,
            "padded" => Layout::Padded {
                max_tokens: self.max_tokens,
                pad_multiple_of: self.pad_multiple_of,
                pad_id: pad_id(encoder)?,
            },
            other => {
                let message = format!("expected \"packed\" or \"padded\", found {other:?}");
                return Err(Error::config("batch.layout", message));
            }
        };
        let (query_max_len, passage_max_len) = (self.query_max_len, self.passage_max_len);
        Ok(CollateOptions { query_max_len, passage_max_len, instruction, layout })
    }
}

/// One rank's batches. Every call that may wait releases the GIL.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct BatchReader {
    loader: Mutex<Loader>,
    tokenizer_engine: &'static str,
    why_not: Option<String>,
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
            let set = ShardSet::open(&shards)?;
            let plan = options.plan.resolve(&set)?;
            let encoder = Arc::new(TextEncoder::open(&options.tokenizer)?);
            let collate = options.collate(&encoder)?;
            let own = LoaderOptions {
                rank: options.rank,
                world_size: options.world_size,
                prefetch: options.prefetch,
                threads: options.threads,
            };
            let (engine, why_not) = (encoder.engine(), encoder.why_not().map(str::to_owned));
            Ok::<_, Error>((Loader::new(set, encoder, &plan, &collate, own)?, engine, why_not))
        };
        let (loader, tokenizer_engine, why_not) = py.detach(open).map_err(to_py)?;
        Ok(Self { loader: Mutex::new(loader), tokenizer_engine, why_not })
    }

    /// What tokenises, and what in the tokenizer's file keeps the fast one from doing it.
    fn tokenizer_engine(&self) -> (&'static str, Option<&str>) {
        (self.tokenizer_engine, self.why_not.as_deref())
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
        let mut planner = self.with(py, |loader| Ok(loader.planner()))?;
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
        let planner = self.with(py, |loader| Ok(loader.planner()))?;
        Ok(PlanReader::of(planner))
    }

    /// JSON of what became of the rows of each source, and of the rows that were given up.
    fn report_json(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| {
            let tokens = loader.tokens();
            let report = serde_json::json!({
                "sources": loader.report(),
                "steps": loader.state().step,
                "unplaced": loader.unplaced(),
                "tokens": tokens.tokens,
                "padded_tokens": tokens.padded_tokens,
                "unsorted_padded_tokens": tokens.unsorted_padded_tokens,
            });
            Ok(report.to_string())
        })
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
    set_chunks(&fields, batch.chunks)?;
    fields.set_item("state_json", state)?;
    Ok(fields)
}
