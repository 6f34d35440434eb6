//! The one place where a core error becomes a Python exception.

use std::path::Path;

use bgeprep_core::Error;
use pyo3::exceptions::{PyKeyboardInterrupt, PyOSError, PyRuntimeError};
use pyo3::prelude::*;

pyo3::import_exception!(bgeprep.errors, ConfigError);
pyo3::import_exception!(bgeprep.errors, CorpusError);
pyo3::import_exception!(bgeprep.errors, ShardError);
pyo3::import_exception!(bgeprep.errors, StoreError);
pyo3::import_exception!(bgeprep.errors, TokenizerError);

/// The exception for an error of the core.
pub(crate) fn to_py(error: Error) -> PyErr {
    let message = error.to_string();
    let text = |path: &Path| path.display().to_string();
    match error {
        Error::Config { .. } => ConfigError::new_err(message),
        Error::Corpus { path, line, .. } => CorpusError::new_err((message, text(&path), line)),
        Error::Shard { path, .. } => ShardError::new_err((message, text(&path))),
        Error::Tokenizer { path, .. } => TokenizerError::new_err((message, text(&path))),
        Error::Store { place, .. } => StoreError::new_err((message, place)),
        // With errno, strerror and filename Python picks the matching subclass by itself.
        Error::Io { path, action, source } => match source.raw_os_error() {
            Some(code) => {
                let reason = source.to_string();
                let reason = reason.split(" (os error").next().unwrap_or(&reason).to_owned();
                PyOSError::new_err((code, format!("cannot {action}: {reason}"), text(&path)))
            }
            None => PyOSError::new_err(message),
        },
        Error::Interrupted => PyKeyboardInterrupt::new_err(()),
        Error::Internal(_) => PyRuntimeError::new_err(message),
    }
}
