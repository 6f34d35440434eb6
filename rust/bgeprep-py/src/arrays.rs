//! Core buffers → numpy, without copying: the array takes over the vector's memory.

use bgeprep_core::batch::RowArrays;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

/// Sets one entry a field of [`RowArrays`], under the field's name.
pub(crate) fn set_arrays(into: &Bound<'_, PyDict>, arrays: RowArrays) -> PyResult<()> {
    let py = into.py();
    macro_rules! set {
        ($($field:ident),*) => {
            // The full pattern makes a field that is forgotten here a compile error.
            let RowArrays { $($field),* } = arrays;
            $(into.set_item(stringify!($field), PyArray1::from_vec(py, $field))?;)*
        };
    }
    set!(
        row_ids,
        source_ids,
        query_ids,
        query_offsets,
        doc_ids,
        doc_offsets,
        doc_rows,
        doc_is_positive,
        doc_scores,
        query_keys,
        doc_keys,
        known_keys,
        known_offsets
    );
    Ok(())
}
