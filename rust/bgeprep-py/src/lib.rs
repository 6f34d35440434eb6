//! Python bindings of `bgeprep-core`: thin, without algorithms of their own.

mod arrays;
mod config;
mod enter;
mod error;
mod loader;
mod plan;
mod prep;
mod shards;
mod spread;
mod stores;
mod text;
mod tokenize;

use pyo3::prelude::*;

/// The native half of `bgeprep`. Private: import from `bgeprep`.
#[pymodule]
mod _native {
    #[pymodule_export]
    use super::loader::BatchReader;
    #[pymodule_export]
    use super::plan::{PlanReader, audit};
    #[pymodule_export]
    use super::prep::{shard, spool, sweep, text_hash, text_key};
    #[pymodule_export]
    use super::shards::{ShardReader, verify};
    #[pymodule_export]
    use super::spread::{WorkLock, clear_tasks, cut, found_tasks, run_task};
    #[pymodule_export]
    use super::stores::{fetch_set, list_objects, publish_set, published, published_log, split_url};
    #[pymodule_export]
    use super::text::{TextMasker, TextReader};
    #[pymodule_export]
    use super::tokenize::TextTokenizer;

    use pyo3::prelude::*;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        module.add("__version__", env!("CARGO_PKG_VERSION"))?;
        module.add("build_profile", if cfg!(debug_assertions) { "debug" } else { "release" })
    }
}
