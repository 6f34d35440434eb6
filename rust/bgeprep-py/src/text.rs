//! Masked texts and blocks as Python sees them. `python/bgeprep/mask.py` and `text.py` have the defaults and the docs.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bgeprep_core::Error;
use bgeprep_core::batch::{LoaderOptions, Next};
use bgeprep_core::blocks::{TextBatch, TextLoader, TextPlanOptions, TextState, open_or_build};
use bgeprep_core::mask::{BaseMasks, MaskCount, MaskOptions, Masker, TextArrays};
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::ShardSet;
use bgeprep_core::tokenize::TextEncoder;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::set_text_arrays;
use crate::enter::enter;
use crate::error::to_py;
use crate::loader::PATIENCE;

/// Mirror of the Python options; see `bgeprep.TextMasker`.
#[derive(FromPyObject)]
struct Masking {
    tokenizer: PathBuf,
    max_seq_length: usize,
    seed: u64,
    encoder_mlm_probability: f64,
    decoder_mlm_probability: f64,
    /// None for one a row.
    base_masks: Option<u32>,
    sep_visible: bool,
    mask_count: String,
}

impl Masking {
    fn masker(&self) -> Result<Masker, Error> {
        let mask_count = MaskCount::from_name(&self.mask_count).ok_or_else(|| {
            let message = format!("expected \"tokens\" or \"maskable\", found {:?}", self.mask_count);
            Error::config("text.mask_count", message)
        })?;
        let options = MaskOptions {
            seed: self.seed,
            encoder_mlm_probability: self.encoder_mlm_probability,
            decoder_mlm_probability: self.decoder_mlm_probability,
            base_masks: self.base_masks.map_or(BaseMasks::Fresh, BaseMasks::Count),
            sep_visible: self.sep_visible,
            mask_count,
        };
        Masker::new(Arc::new(TextEncoder::open(&self.tokenizer)?), options, self.max_seq_length)
    }
}

/// Masking texts that the caller brings.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct TextMasker {
    masker: Masker,
}

#[pymethods]
impl TextMasker {
    #[new]
    fn new(py: Python<'_>, masks: Masking) -> PyResult<Self> {
        let masker = py.detach(|| masks.masker()).map_err(to_py)?;
        Ok(Self { masker })
    }

    /// The arrays of some texts; each is named by its number in `blocks`.
    fn mask<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<String>,
        blocks: Vec<u64>,
        epoch: u64,
    ) -> PyResult<Bound<'py, PyDict>> {
        let run = || {
            let mut arrays = TextArrays::default();
            for (text, block) in texts.iter().zip(&blocks) {
                self.masker.text(text, (*block, *block, epoch), &mut arrays)?;
            }
            Ok(arrays)
        };
        let arrays = py.detach(run).map_err(to_py)?;
        let fields = PyDict::new(py);
        set_text_arrays(&fields, arrays)?;
        Ok(fields)
    }
}

/// Mirror of the Python options; see `bgeprep.TextLoader`.
#[derive(FromPyObject)]
struct Options {
    masks: Masking,
    batch_size: u64,
    num_epochs: Option<u64>,
    max_steps: Option<u64>,
    rank: u32,
    world_size: u32,
    prefetch: usize,
    threads: usize,
    blocks: PathBuf,
}

impl Options {
    fn open(&self, shards: &std::path::Path, progress: &Progress) -> Result<TextLoader, Error> {
        let own = LoaderOptions {
            rank: self.rank,
            world_size: self.world_size,
            prefetch: self.prefetch,
            threads: self.threads,
        };
        let plan = TextPlanOptions {
            batch_size: self.batch_size,
            seed: self.masks.seed,
            num_epochs: self.num_epochs,
            max_steps: self.max_steps,
        };
        let masker = self.masks.masker()?;
        let set = ShardSet::open(shards)?;
        let length = self.masks.max_seq_length;
        let index = open_or_build(&set, masker.encoder(), length, &self.blocks, self.threads.max(1), progress)?;
        TextLoader::new(set, index, masker, &plan, own)
    }
}

/// One rank's masked blocks. Every call that may wait releases the GIL.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct TextReader {
    loader: Mutex<TextLoader>,
}

impl TextReader {
    /// Waiting for the lock while holding the GIL would stop the thread that holds the lock.
    fn with<T: Send>(
        &self,
        py: Python<'_>,
        work: impl FnOnce(&mut TextLoader) -> Result<T, Error> + Send,
    ) -> PyResult<T> {
        py.detach(|| work(&mut self.lock())).map_err(to_py)
    }

    fn lock(&self) -> MutexGuard<'_, TextLoader> {
        self.loader.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl TextReader {
    /// Opens the set and its block index, which is made where there is none.
    #[new]
    #[pyo3(signature = (shards, options, report))]
    fn new(py: Python<'_>, shards: PathBuf, options: Options, report: Option<Bound<'_, PyAny>>) -> PyResult<Self> {
        let progress = Progress::default();
        let loader = enter(py, &progress, report.as_ref(), || options.open(&shards, &progress))?;
        Ok(Self { loader: Mutex::new(loader) })
    }

    /// The fields of the next batch, or None at the end of the run.
    fn next<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyDict>>> {
        loop {
            match self.with(py, |loader| loader.next(PATIENCE))? {
                Next::Batch(batch) => return fields(py, *batch).map(Some),
                Next::End => return Ok(None),
                Next::NotYet => py.check_signals()?,
            }
        }
    }

    /// JSON of the state behind the batch yielded last.
    fn state_json(&self, py: Python<'_>) -> PyResult<String> {
        self.with(py, |loader| loader.state().to_json())
    }

    /// Goes to the place that a state describes.
    fn restore(&self, py: Python<'_>, state: &str) -> PyResult<()> {
        self.with(py, |loader| loader.restore(&TextState::from_json(state)?))
    }

    /// Stops and joins the threads.
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        self.with(py, |loader| {
            loader.close();
            Ok(())
        })
    }

    /// Steps of the whole run.
    fn count_steps(&self, py: Python<'_>) -> PyResult<u64> {
        self.with(py, |loader| Ok(loader.steps()))
    }

    /// Block ids of a step over all ranks.
    fn plan(&self, py: Python<'_>, step: u64) -> PyResult<Vec<u64>> {
        self.with(py, |loader| Ok(loader.plan(step)))
    }

    /// Row, first byte, byte behind the last and tokens of a block, if there is one.
    fn block(&self, py: Python<'_>, id: u64) -> PyResult<Option<(u64, u32, u32, u32)>> {
        let block = self.with(py, |loader| Ok(loader.index().get(id)))?;
        Ok(block.map(|block| (block.row, block.start, block.end, block.tokens)))
    }

    /// What the block index came to.
    fn blocks<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let (stats, path, hash) = self.with(py, |loader| {
            let index = loader.index();
            Ok((index.stats(), index.path().to_owned(), index.hash()))
        })?;
        let fields = PyDict::new(py);
        fields.set_item("blocks", stats.blocks)?;
        fields.set_item("documents", stats.documents)?;
        fields.set_item("tokens", stats.tokens)?;
        fields.set_item("split_sentences", stats.split_sentences)?;
        fields.set_item("path", path)?;
        fields.set_item("hash", hash)?;
        Ok(fields)
    }
}

fn fields(py: Python<'_>, batch: TextBatch) -> PyResult<Bound<'_, PyDict>> {
    let fields = PyDict::new(py);
    fields.set_item("step", batch.step)?;
    fields.set_item("epoch", batch.epoch)?;
    fields.set_item("global_blocks", batch.global_blocks)?;
    set_text_arrays(&fields, batch.arrays)?;
    fields.set_item("state_json", batch.state.to_json().map_err(to_py)?)?;
    Ok(fields)
}
