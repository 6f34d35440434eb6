//! Core buffers → numpy, without copying: the array takes over the vector's memory.

use bgeprep_core::batch::RowArrays;
use bgeprep_core::mask::TextArrays;
use numpy::PyArray1;
use pyo3::prelude::*;
use pyo3::types::PyDict;

macro_rules! set_fields {
    ($into:ident, $arrays:ident, $kind:ident { $($field:ident),* $(,)? }) => {
        let py = $into.py();
        // The full pattern makes a field that is forgotten here a compile error.
        let $kind { $($field),* } = $arrays;
        $($into.set_item(stringify!($field), PyArray1::from_vec(py, $field))?;)*
    };
}

/// Sets one entry a field of [`RowArrays`], under the field's name.
pub(crate) fn set_arrays(into: &Bound<'_, PyDict>, arrays: RowArrays) -> PyResult<()> {
    set_fields!(
        into,
        arrays,
        RowArrays {
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
            known_offsets,
        }
    );
    Ok(())
}

/// Sets one entry a field of [`TextArrays`], under the field's name.
pub(crate) fn set_text_arrays(into: &Bound<'_, PyDict>, arrays: TextArrays) -> PyResult<()> {
    set_fields!(
        into,
        arrays,
        TextArrays {
            block_ids,
            row_ids,
            input_ids,
            offsets,
            flags,
            corrupted_ids,
            mask_positions,
            labels,
            mask_offsets,
            base_bits,
            base_offsets,
            choices,
        }
    );
    Ok(())
}
