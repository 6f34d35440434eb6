//! Shard sets for Python: rows as dicts, record batches as an Arrow stream, verification.

use std::path::PathBuf;
use std::sync::Arc;

use arrow_array::{RecordBatch, RecordBatchReader};
use arrow_schema::{ArrowError, SchemaRef};
use bgeprep_core::pair::SetKind;
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::{self, Layout, Row, ShardSet};
use pyo3::prelude::*;
use pyo3::types::PyDict;
use pyo3_arrow::PyRecordBatchReader;

use crate::enter::enter;
use crate::error::to_py;

/// An open shard set.
#[pyclass(frozen, module = "bgeprep._native")]
pub(crate) struct ShardReader {
    set: Arc<ShardSet>,
}

#[pymethods]
impl ShardReader {
    /// Opens the set in the folder `path`.
    #[staticmethod]
    fn open(py: Python<'_>, path: PathBuf) -> PyResult<Self> {
        let set = py.detach(|| ShardSet::open(&path)).map_err(to_py)?;
        Ok(Self { set })
    }

    fn __len__(&self) -> usize {
        self.set.len() as usize
    }

    /// Row `id` with the columns of a part; a score that is absent is None.
    fn row<'py>(&self, py: Python<'py>, id: u64) -> PyResult<Bound<'py, PyDict>> {
        // Mapped pages may have to come from disk.
        let row = py.detach(|| self.set.row(id)).map_err(to_py)?;
        to_dict(py, &row, &self.set)
    }

    /// The text of the manifest.
    fn manifest_json(&self) -> PyResult<String> {
        Ok(self.set.manifest().render().map_err(to_py)?.0)
    }

    /// Paths of the parts in set order.
    fn part_paths(&self) -> Vec<PathBuf> {
        (0..self.set.num_parts()).filter_map(|part| self.set.part_path(part)).map(PathBuf::from).collect()
    }

    /// First row and number of rows of each source, in manifest order.
    fn source_ranges(&self) -> Vec<(u64, u64)> {
        self.set.sources().iter().map(|range| (range.first, range.rows)).collect()
    }

    /// All record batches in set order, as an object with `__arrow_c_stream__`.
    fn record_batches(&self) -> PyRecordBatchReader {
        PyRecordBatchReader::new(Box::new(Batches { set: Arc::clone(&self.set), part: 0, batch: 0 }))
    }
}

/// Checks all of the set in `path`; returns (parts, rows, bytes, problems).
#[pyfunction]
#[pyo3(signature = (path, threads, report))]
pub(crate) fn verify(
    py: Python<'_>,
    path: PathBuf,
    threads: usize,
    report: Option<Bound<'_, PyAny>>,
) -> PyResult<(u64, u64, u64, Vec<String>)> {
    let progress = Progress::default();
    let found = enter(py, &progress, report.as_ref(), || {
        shard::verify(&path, threads, bgeprep_core::clean::text::key, &progress)
    })?;
    Ok((found.parts, found.rows, found.bytes, found.problems.iter().map(ToString::to_string).collect()))
}

fn to_dict<'py>(py: Python<'py>, row: &Row<'_>, set: &ShardSet) -> PyResult<Bound<'py, PyDict>> {
    let scores =
        |scores: &[f32]| scores.iter().map(|score| Some(*score).filter(|score| !score.is_nan())).collect::<Vec<_>>();
    let dict = PyDict::new(py);
    let source = set.manifest().sources.get(row.source()).map(|source| source.name.as_str());
    if set.kind() == SetKind::Text {
        dict.set_item("text", row.pos(0))?;
        dict.set_item("title", row.query())?;
        dict.set_item("text_key", row.pos_keys().first())?;
        dict.set_item("text_exact_key", row.pos_exact_keys().first())?;
        dict.set_item("source", source)?;
        dict.set_item("origin_file", row.origin_file())?;
        dict.set_item("origin_line", row.origin_line())?;
        return Ok(dict);
    }
    dict.set_item("query", row.query())?;
    dict.set_item("pos", (0..row.num_pos()).map(|item| row.pos(item)).collect::<Vec<_>>())?;
    dict.set_item("neg", (0..row.num_neg()).map(|item| row.neg(item)).collect::<Vec<_>>())?;
    dict.set_item("pos_scores", scores(row.pos_scores()))?;
    dict.set_item("neg_scores", scores(row.neg_scores()))?;
    dict.set_item("query_key", row.query_key())?;
    dict.set_item("pos_keys", row.pos_keys())?;
    dict.set_item("neg_keys", row.neg_keys())?;
    dict.set_item("also_pos_keys", row.also_pos_keys())?;
    dict.set_item("query_exact_key", row.query_exact_key())?;
    dict.set_item("pos_exact_keys", row.pos_exact_keys())?;
    dict.set_item("neg_exact_keys", row.neg_exact_keys())?;
    dict.set_item("id", row.id())?;
    dict.set_item("prompt", row.prompt())?;
    dict.set_item("source", source)?;
    dict.set_item("origin_file", row.origin_file())?;
    dict.set_item("origin_line", row.origin_line())?;
    Ok(dict)
}

/// The batches of a set, one after the other, zero-copy from the mapped parts.
struct Batches {
    set: Arc<ShardSet>,
    part: usize,
    batch: usize,
}

impl Iterator for Batches {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        while self.batch == self.set.num_batches(self.part) {
            if self.part == self.set.num_parts() {
                return None;
            }
            (self.part, self.batch) = (self.part + 1, 0);
        }
        self.batch += 1;
        Some(self.set.batch(self.part, self.batch - 1).map_err(|error| ArrowError::ExternalError(Box::new(error))))
    }
}

impl RecordBatchReader for Batches {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&Layout::of(self.set.kind()).schema)
    }
}
