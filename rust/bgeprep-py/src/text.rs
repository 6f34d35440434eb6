//! Masked texts as Python sees them. `python/bgeprep/mask.py` has the defaults and the docs.

use std::path::PathBuf;
use std::sync::Arc;

use bgeprep_core::Error;
use bgeprep_core::mask::{BaseMasks, MaskCount, MaskOptions, Masker, TextArrays};
use bgeprep_core::tokenize::TextEncoder;
use pyo3::prelude::*;
use pyo3::types::PyDict;

use crate::arrays::set_text_arrays;
use crate::error::to_py;

/// Mirror of the Python options; see `bgeprep.TextMasker`.
#[derive(FromPyObject)]
pub(crate) struct Masks {
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

impl Masks {
    pub(crate) fn masker(&self) -> Result<Masker, Error> {
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

/// Masks texts that the caller brings.
#[pyclass(module = "bgeprep._native", frozen)]
pub(crate) struct TextMasker {
    masker: Masker,
}

#[pymethods]
impl TextMasker {
    #[new]
    fn new(py: Python<'_>, masks: Masks) -> PyResult<Self> {
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
