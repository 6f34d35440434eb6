//! A preparation run cut into tasks, for whoever hands them out.

use std::path::PathBuf;
use std::sync::Arc;

use bgeprep_core::Result;
use bgeprep_core::config::RunOptions;
use bgeprep_core::pipeline::spread::{self, Task};
use bgeprep_core::pipeline::work::WorkFolder;
use bgeprep_core::progress::Progress;
use bgeprep_core::store::Stores;
use pyo3::prelude::*;

use crate::config::{Benchmark, PrepConfig, PyRunOptions, Scores, Source, plan};
use crate::enter::enter;
use crate::error::to_py;

/// How a plan is cut; a dict in Python.
#[derive(IntoPyObject)]
pub(crate) struct Cut {
    files: Vec<u64>,
    buckets: usize,
    partitions: usize,
    bands: usize,
    text_bytes: u64,
    unite: bool,
}

/// How many jobs the stages of a plan have, with so many key partitions or as many as its size asks for.
#[pyfunction]
#[pyo3(signature = (config, sources, filters, resolved, partitions))]
pub(crate) fn cut(
    py: Python<'_>,
    config: PrepConfig,
    sources: Vec<Source>,
    filters: (Vec<Benchmark>, Option<Scores>),
    resolved: &str,
    partitions: Option<usize>,
) -> PyResult<Cut> {
    ask(py, PathBuf::from("."), |stores, _| {
        let plan = plan(config, sources, filters, resolved, stores)?;
        let spread::Cut { files, buckets, partitions, bands, text_bytes, unite } = spread::cut(&plan, partitions)?;
        Ok(Cut { files, buckets, partitions, bands, text_bytes, unite })
    })
}

/// Does one task, described in JSON; what came of it, in JSON.
#[pyfunction]
#[pyo3(signature = (config, sources, filters, resolved, options, task))]
pub(crate) fn run_task(
    py: Python<'_>,
    config: PrepConfig,
    sources: Vec<Source>,
    filters: (Vec<Benchmark>, Option<Scores>),
    resolved: &str,
    options: PyRunOptions,
    task: &str,
) -> PyResult<String> {
    let options: RunOptions = options.try_into().map_err(to_py)?;
    let task = Task::from_json(task).map_err(to_py)?;
    ask(py, options.work.clone(), |stores, progress| {
        let plan = plan(config, sources, filters, resolved, stores)?;
        spread::run_task(&plan, &options, &task, stores, progress)?.to_json()
    })
}

/// What the tasks of a run that was killed left in a place, in JSON, one a task.
#[pyfunction]
pub(crate) fn found_tasks(py: Python<'_>, place: PathBuf, scratch: PathBuf) -> PyResult<Vec<String>> {
    ask(py, scratch.clone(), |stores, _| {
        spread::found(&place, &scratch, stores)?.iter().map(spread::Done::to_json).collect()
    })
}

/// Removes all that the tasks of a run left in a place.
#[pyfunction]
pub(crate) fn clear_tasks(py: Python<'_>, place: PathBuf, scratch: PathBuf) -> PyResult<()> {
    ask(py, scratch.clone(), |stores, _| spread::clear(&place, &scratch, stores))
}

/// The work folder of a run: one writer at a time, and nothing in it of other input or another config.
#[pyclass(frozen, module = "bgeprep._native")]
pub(crate) struct WorkLock {
    folder: std::sync::Mutex<Option<WorkFolder>>,
    #[pyo3(get)]
    resumed: bool,
    #[pyo3(get)]
    discarded: bool,
}

#[pymethods]
impl WorkLock {
    #[new]
    fn new(path: PathBuf, fingerprint: &str) -> PyResult<Self> {
        let folder = WorkFolder::open(&path, fingerprint).map_err(to_py)?;
        let (resumed, discarded) = (folder.resumed, folder.discarded);
        Ok(Self { folder: std::sync::Mutex::new(Some(folder)), resumed, discarded })
    }

    /// Gives the lock back; removes the folder if the run is over.
    fn close(&self, remove: bool) -> PyResult<()> {
        let folder = self.folder.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        match folder {
            Some(folder) if remove => folder.remove().map_err(to_py),
            _ => Ok(()),
        }
    }
}

fn ask<T: Send>(
    py: Python<'_>,
    scratch: PathBuf,
    work: impl FnOnce(&Stores, &Arc<Progress>) -> Result<T> + Send,
) -> PyResult<T> {
    let progress = Arc::new(Progress::default());
    let stores = Stores::new(Arc::clone(&progress), &scratch);
    enter(py, &progress, None, || work(&stores, &progress))
}
