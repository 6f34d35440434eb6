//! Object stores for Python: names, listings, and shard sets that lie in a store.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bgeprep_core::progress::Progress;
use bgeprep_core::shard::{self, publish};
use bgeprep_core::store::{ObjectUrl, Stores};
use bgeprep_core::{Error, Result};
use pyo3::prelude::*;

use crate::enter::enter;
use crate::error::to_py;

/// Bucket and key of a URL, None for a path.
#[pyfunction]
pub(crate) fn split_url(text: &str) -> PyResult<Option<(String, String)>> {
    let url = ObjectUrl::parse(text).map_err(to_py)?;
    Ok(url.map(|url| (url.bucket, url.key)))
}

/// The objects of a bucket whose keys start with `prefix`: (key, bytes, etag, modified in ns).
#[pyfunction]
pub(crate) fn list_objects(py: Python<'_>, bucket: &str, prefix: &str) -> PyResult<Vec<(String, u64, String, i64)>> {
    ask(py, None, |stores, _| {
        let entries = stores.bucket(bucket)?.list(prefix)?;
        Ok(entries.into_iter().map(|entry| (entry.key, entry.size, entry.etag, entry.modified)).collect())
    })
}

/// The text of `run.json` of the set at `url`, empty if there is none; None if there is no set.
#[pyfunction]
pub(crate) fn published_log(py: Python<'_>, url: &str) -> PyResult<Option<String>> {
    let url = object_url(url).map_err(to_py)?;
    ask(py, None, |stores, _| shard::published_log(&url, stores))
}

/// The text of the manifest of the set at `url`, whose files are all there in their lengths.
#[pyfunction]
pub(crate) fn published(py: Python<'_>, url: &str) -> PyResult<String> {
    let url = object_url(url).map_err(to_py)?;
    ask(py, None, |stores, _| Ok(shard::published(&url, stores)?.render()?.0))
}

/// Sends the set in the folder `set` to `url`, its manifest last.
#[pyfunction]
#[pyo3(name = "publish", signature = (set, url, report))]
pub(crate) fn publish_set(py: Python<'_>, set: PathBuf, url: &str, report: Option<Bound<'_, PyAny>>) -> PyResult<()> {
    let url = object_url(url).map_err(to_py)?;
    ask(py, report.as_ref(), |stores, progress| publish::publish(&set, &url, stores, progress))
}

/// Brings the set at `url` into the folder `to`, `threads` parts at once, its manifest last.
#[pyfunction]
#[pyo3(name = "fetch", signature = (url, to, threads, report))]
pub(crate) fn fetch_set(
    py: Python<'_>,
    url: &str,
    to: PathBuf,
    threads: usize,
    report: Option<Bound<'_, PyAny>>,
) -> PyResult<()> {
    let url = object_url(url).map_err(to_py)?;
    ask(py, report.as_ref(), |stores, progress| shard::fetch(&url, &to, threads, stores, progress))
}

fn object_url(text: &str) -> Result<ObjectUrl> {
    ObjectUrl::parse(text)?.ok_or_else(|| Error::Internal(format!("{text} is no URL")))
}

fn ask<T: Send>(
    py: Python<'_>,
    report: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce(&Stores, &Progress) -> Result<T> + Send,
) -> PyResult<T> {
    let progress = Arc::new(Progress::default());
    // Nothing is fetched whole here.
    let stores = Stores::new(Arc::clone(&progress), Path::new("."));
    enter(py, &progress, report, || work(&stores, &progress))
}
