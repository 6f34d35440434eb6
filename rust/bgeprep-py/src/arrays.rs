//! Core buffers → numpy, without copying: the array takes over the vector's memory.

use bgeprep_core::batch::{Chosen, Chunk, Chunks, RowArrays};
use bgeprep_core::mask::TextArrays;
use numpy::{PyArray1, PyArrayMethods};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

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

/// Sets one entry a field of [`Chosen`], under the field's name, with the sign that numpy's users expect of places.
pub(crate) fn set_chosen(into: &Bound<'_, PyDict>, chosen: Chosen) -> PyResult<()> {
    let Chosen { rows, positives, negatives, negative_offsets } = chosen;
    // Of equal size, so the vector's memory is kept.
    let signed = |places: Vec<u32>| places.into_iter().map(|place| place as i32).collect::<Vec<i32>>();
    let (positives, negatives) = (signed(positives), signed(negatives));
    let negative_offsets = negative_offsets.into_iter().map(i64::from).collect::<Vec<i64>>();
    let arrays = PlacedArrays { rows, positives, negatives, negative_offsets };
    set_fields!(into, arrays, PlacedArrays { rows, positives, negatives, negative_offsets });
    Ok(())
}

/// [`Chosen`] in numpy's types.
struct PlacedArrays {
    rows: Vec<u64>,
    positives: Vec<i32>,
    negatives: Vec<i32>,
    negative_offsets: Vec<i64>,
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

/// Sets `query_chunks` and `doc_chunks`: lists of (rows, input_ids, lengths), or None where there are none.
pub(crate) fn set_chunks(into: &Bound<'_, PyDict>, chunks: Option<Chunks>) -> PyResult<()> {
    let py = into.py();
    let list = |chunks: Vec<Chunk>| {
        let arrays = chunks.into_iter().map(|chunk| {
            let Chunk { rows, input_ids, lengths, width } = chunk;
            // Another shape of the same memory.
            let input_ids = PyArray1::from_vec(py, input_ids).reshape([rows.len(), width])?;
            (PyArray1::from_vec(py, rows), input_ids, PyArray1::from_vec(py, lengths)).into_pyobject(py)
        });
        PyList::new(py, arrays.collect::<PyResult<Vec<_>>>()?)
    };
    let (queries, documents) = chunks.map(|chunks| (chunks.queries, chunks.documents)).unzip();
    into.set_item("query_chunks", queries.map(list).transpose()?)?;
    into.set_item("doc_chunks", documents.map(list).transpose()?)
}
