//! The preparation run.

use std::sync::Arc;

use arrow_array::RecordBatchReader;
use bgeprep_core::config::RunOptions;
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use bgeprep_core::store::Stores;
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use pyo3_arrow::PyRecordBatchReader;

use crate::config::{Benchmark, PrepConfig, PyRunOptions, Scores, Source, plan};
use crate::enter::enter;
use crate::error::to_py;

/// Runs the preparation; returns (hash, rows read, rows kept, empty files, resumed, discarded, warnings).
#[pyfunction]
#[pyo3(signature = (config, sources, benchmarks, scores, resolved, options, report))]
pub(crate) fn shard(
    py: Python<'_>,
    config: PrepConfig,
    sources: Vec<Source>,
    benchmarks: Vec<Benchmark>,
    scores: Option<Scores>,
    resolved: &str,
    options: PyRunOptions,
    report: Option<Bound<'_, PyAny>>,
) -> PyResult<(String, u64, u64, Vec<String>, bool, bool, Vec<String>)> {
    let progress = Arc::new(Progress::default());
    let options: RunOptions = options.try_into().map_err(to_py)?;
    let stores = Stores::new(Arc::clone(&progress), &options.work);
    let outcome = enter(py, &progress, report.as_ref(), || {
        let plan = plan(config, sources, (benchmarks, scores), resolved, &stores)?;
        pipeline::run(&plan, &options, &progress)
    })?;
    let (manifest, empty) = (outcome.manifest, outcome.empty_files);
    let (resumed, discarded, warnings) = (outcome.resumed, outcome.discarded, outcome.warnings);
    Ok((manifest.hash, manifest.rows_read, manifest.rows_kept, empty, resumed, discarded, warnings))
}

/// Writes an Arrow stream to a file that the readers take as input; returns its rows.
#[pyfunction]
pub(crate) fn spool(py: Python<'_>, stream: PyRecordBatchReader, path: std::path::PathBuf) -> PyResult<u64> {
    let reader: Box<dyn RecordBatchReader + Send> = stream.into_reader()?;
    let progress = Progress::default();
    enter(py, &progress, None, || bgeprep_core::read::spool(reader, &path, &progress))
}

/// What a cleaned text is called in score files: xxh3-128 of its UTF-8 bytes, big-endian.
#[pyfunction]
pub(crate) fn text_hash<'py>(py: Python<'py>, text: &str) -> Bound<'py, PyBytes> {
    PyBytes::new(py, &bgeprep_core::clean::text::content_hash(text))
}

/// The exact key of a text: xxh3-64 of its normalised form.
#[pyfunction]
pub(crate) fn text_key(text: &str) -> u64 {
    bgeprep_core::clean::text::key(text)
}
