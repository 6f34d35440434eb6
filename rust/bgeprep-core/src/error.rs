//! The one error type of the core. Every variant says where, what was expected, what was found
//! and, where there is one, what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

/// Result of every fallible function of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong, by who can mend it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A setting has a value that cannot work. Becomes `ConfigError` in Python.
    #[error("{key}: {message}")]
    Config {
        /// Dotted name of the setting, as it stands in a config file.
        key: String,
        /// What was expected and what was found.
        message: String,
    },
    /// Input that cannot be used at all (single bad rows are counted rejects instead).
    /// Becomes `CorpusError` in Python.
    #[error("{}", located(path, *line, message))]
    Corpus {
        /// The input file.
        path: PathBuf,
        /// Line, element or row counted from 1, where one is known.
        line: Option<u64>,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// A shard set that is absent, incomplete or damaged. Becomes `ShardError` in Python.
    #[error("{}: {message}", path.display())]
    Shard {
        /// The folder or file at fault.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// A tokenizer file that cannot be used. Becomes `TokenizerError` in Python.
    #[error("{}: {message}", path.display())]
    Tokenizer {
        /// The tokenizer file.
        path: PathBuf,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// The operating system said no. Becomes the matching `OSError` subclass in Python.
    #[error("{}: {action}: {source}", path.display())]
    Io {
        /// The file or folder at fault.
        path: PathBuf,
        /// What was being done, as "read" or "write".
        action: &'static str,
        /// The system's error.
        #[source]
        source: io::Error,
    },
    /// An object store that cannot be reached, refuses, or gives other bytes than it listed.
    /// Becomes `StoreError` in Python.
    #[error("{place}: {message}")]
    Store {
        /// URL of the object or bucket.
        place: String,
        /// What was expected, what was found, what to do.
        message: String,
    },
    /// The caller asked to stop (Ctrl-C). Becomes `KeyboardInterrupt` in Python.
    #[error("interrupted")]
    Interrupted,
    /// An invariant of this program does not hold: a bug here, not a fault of the input.
    #[error("internal error, please report it: {0}")]
    Internal(String),
}

fn located(path: &Path, line: Option<u64>, message: &str) -> impl fmt::Display {
    match line {
        Some(line) => format!("{}:{line}: {message}", path.display()),
        None => format!("{}: {message}", path.display()),
    }
}

impl Error {
    /// A setting with a value that cannot work.
    pub fn config(key: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Config { key: key.into(), message: message.into() }
    }

    /// Input that cannot be used at all; `line` counts from 1.
    pub fn corpus(path: impl Into<PathBuf>, line: Option<u64>, message: impl Into<String>) -> Self {
        Self::Corpus { path: path.into(), line, message: message.into() }
    }

    /// A shard set that is absent, incomplete or damaged.
    pub fn shard(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Shard { path: path.into(), message: message.into() }
    }

    /// An object store that cannot be reached or does not give what it should.
    pub fn store(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Store { place: place.into(), message: message.into() }
    }

    /// Turns an I/O error into ours: `.map_err(Error::io(path, "read"))`. One that carries an error
    /// of this crate, as those of streams from object stores do, becomes that error.
    pub fn io(path: impl Into<PathBuf>, action: &'static str) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match source.downcast::<Self>() {
            Ok(error) => error,
            Err(source) => Self::Io { path, action, source: plain(source) },
        }
    }
}

/// `fs_err` wraps the system's error to add the path, which we add ourselves; without the wrapping
/// the error number is there again, and with it the exception class in Python.
fn plain(error: io::Error) -> io::Error {
    let inner = error.get_ref().and_then(|inner| inner.source()).and_then(|inner| inner.downcast_ref::<io::Error>());
    inner.and_then(io::Error::raw_os_error).map_or(error, io::Error::from_raw_os_error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_system_error_survives() {
        let error = fs_err::read("/nowhere/at/all").map_err(Error::io("/nowhere/at/all", "read"));
        let Err(Error::Io { source, .. }) = error else { panic!("expected an I/O error") };
        assert_eq!((source.kind(), source.raw_os_error()), (io::ErrorKind::NotFound, Some(2)));
    }

    #[test]
    fn an_error_of_ours_survives_its_way_through_a_reader() {
        let carried = io::Error::other(Error::store("s3://b/k", "gone"));
        assert_eq!(Error::io("/elsewhere", "read")(carried).to_string(), "s3://b/k: gone");
    }
}
