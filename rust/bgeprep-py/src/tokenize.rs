//! Tokenizers for Python. `python/bgeprep/tokenize.py` has the defaults and the docs.

use std::path::PathBuf;

use bgeprep_core::Result;
use bgeprep_core::progress::Progress;
use bgeprep_core::tokenize::TextEncoder;
use numpy::{PyArray1, PyArray2, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedStr;

use crate::enter::enter;
use crate::error::to_py;

/// Below this many bytes of text the work is over before anyone could interrupt it.
const SHORT_WORK: usize = 4 << 20;

type Ids<'py> = Bound<'py, PyArray1<i32>>;
type Offsets<'py> = Bound<'py, PyArray1<i64>>;

/// An open tokenizer.
#[pyclass(frozen, module = "bgeprep._native")]
pub(crate) struct TextTokenizer {
    encoder: TextEncoder,
}

/// Runs `work` without the GIL; Ctrl-C ends long work.
fn run<T: Send>(
    py: Python<'_>,
    texts: &[PyBackedStr],
    work: impl FnOnce(&Progress) -> Result<T> + Send,
) -> PyResult<T> {
    let progress = Progress::default();
    if texts.iter().map(|text| text.len()).sum::<usize>() < SHORT_WORK {
        return py.detach(|| work(&progress)).map_err(to_py);
    }
    enter(py, &progress, None, || work(&progress))
}

#[pymethods]
impl TextTokenizer {
    #[new]
    fn new(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let encoder = py.detach(|| TextEncoder::open(&path)).map_err(to_py)?;
        Ok(Self { encoder })
    }

    /// `wordpiece` or `tokenizers`.
    #[getter]
    fn engine(&self) -> &'static str {
        self.encoder.engine()
    }

    /// What in the file keeps `wordpiece` from doing the work.
    #[getter]
    fn why_not(&self) -> Option<&str> {
        self.encoder.why_not()
    }

    /// The file in use.
    #[getter]
    fn path(&self) -> PathBuf {
        self.encoder.path().to_owned()
    }

    /// Tokens around every text.
    #[getter]
    fn special_tokens(&self) -> usize {
        self.encoder.special_tokens()
    }

    /// One more than the largest id.
    #[getter]
    fn vocab_size(&self) -> usize {
        self.encoder.vocab_size()
    }

    /// (cls, sep, pad, mask, unk).
    fn special_ids(&self) -> [Option<u32>; 5] {
        let ids = self.encoder.special_ids();
        [ids.cls, ids.sep, ids.pad, ids.mask, ids.unk]
    }

    /// The id of a token of the vocabulary.
    fn id_of(&self, token: &str) -> Option<u32> {
        self.encoder.id_of(token)
    }

    /// Whether the file calls an id special, or it stands around every text.
    fn is_special(&self, id: u32) -> bool {
        self.encoder.is_special(id)
    }

    /// (ids, offsets) of texts with special tokens.
    fn encode<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        max_length: usize,
        threads: usize,
    ) -> PyResult<(Ids<'py>, Offsets<'py>)> {
        let found = run(py, &texts, |progress| self.encoder.encode_all(&texts, max_length, threads, progress))?;
        Ok((PyArray1::from_vec(py, found.ids), PyArray1::from_vec(py, found.offsets)))
    }

    /// (ids, flags, offsets) of texts with special tokens.
    fn encode_words<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        max_length: usize,
        threads: usize,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArray1<u8>>, Offsets<'py>)> {
        let found = run(py, &texts, |progress| self.encoder.encode_words_all(&texts, max_length, threads, progress))?;
        let flags = PyArray1::from_vec(py, found.flags);
        Ok((PyArray1::from_vec(py, found.encoded.ids), flags, PyArray1::from_vec(py, found.encoded.offsets)))
    }

    /// (ids, spans, offsets) of texts without special tokens.
    fn encode_offsets<'py>(
        &self,
        py: Python<'py>,
        texts: Vec<PyBackedStr>,
        threads: usize,
    ) -> PyResult<(Ids<'py>, Bound<'py, PyArray2<u32>>, Offsets<'py>)> {
        let found = run(py, &texts, |progress| self.encoder.encode_offsets_all(&texts, threads, progress))?;
        let spans = found.spans.iter().flat_map(|(start, end)| [*start, *end]).collect();
        let spans = PyArray1::from_vec(py, spans).reshape([found.spans.len(), 2])?;
        Ok((PyArray1::from_vec(py, found.encoded.ids), spans, PyArray1::from_vec(py, found.encoded.offsets)))
    }
}
