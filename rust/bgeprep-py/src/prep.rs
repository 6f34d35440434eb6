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

/// What a run did; a dict in Python.
#[derive(IntoPyObject)]
pub(crate) struct Outcome {
    hash: String,
    rows_read: u64,
    rows_kept: u64,
    empty_files: Vec<String>,
    warnings: Vec<String>,
    resumed: bool,
    discarded: bool,
}

/// Runs the preparation. `filters` are the benchmarks to keep out and the scores to filter by.
#[pyfunction]
#[pyo3(signature = (config, sources, filters, resolved, options, report))]
pub(crate) fn shard(
    py: Python<'_>,
    config: PrepConfig,
    sources: Vec<Source>,
    filters: (Vec<Benchmark>, Option<Scores>),
    resolved: &str,
    options: PyRunOptions,
    report: Option<Bound<'_, PyAny>>,
) -> PyResult<Outcome> {
    let progress = Arc::new(Progress::default());
    let options: RunOptions = options.try_into().map_err(to_py)?;
    let stores = Stores::new(Arc::clone(&progress), &options.work);
    let outcome = enter(py, &progress, report.as_ref(), || {
        let plan = plan(config, sources, filters, resolved, &stores)?;
        pipeline::run(&plan, &options, &progress)
    })?;
    Ok(Outcome {
        hash: outcome.manifest.hash,
        rows_read: outcome.manifest.rows_read,
        rows_kept: outcome.manifest.rows_kept,
        empty_files: outcome.empty_files,
        warnings: outcome.warnings,
        resumed: outcome.resumed,
        discarded: outcome.discarded,
    })
}

/// Removes a work folder that a killed run left, unless a run is writing there.
#[pyfunction]
pub(crate) fn sweep(path: std::path::PathBuf) -> PyResult<()> {
    pipeline::work::WorkFolder::sweep(&path).map_err(to_py)
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
