//! Texts of a record batch, checked to be UTF-8 once and quickly.

use arrow_array::cast::AsArray;
use arrow_array::{ArrayRef, BinaryArray};
use simdutf8::basic::from_utf8;

/// The texts of a column.
pub(super) struct TextColumn(BinaryArray);

impl TextColumn {
    /// Takes a column of Utf8, or of Binary whose values must be UTF-8.
    pub(super) fn new(column: &ArrayRef, name: &str) -> Result<Self, String> {
        let bytes = match column.as_string_opt::<i32>() {
            Some(texts) => BinaryArray::from(texts.clone()),
            None => column.as_binary_opt::<i32>().ok_or_else(|| format!("column {name} holds no texts"))?.clone(),
        };
        let text = from_utf8(bytes.value_data()).map_err(|_| format!("column {name} is not UTF-8"))?;
        if bytes.value_offsets().iter().all(|offset| text.is_char_boundary(*offset as usize)) {
            Ok(Self(bytes))
        } else {
            Err(format!("column {name} has a text that ends within a character"))
        }
    }

    /// Text `item`, as it lies in the file.
    pub(super) fn value(&self, item: usize) -> &str {
        // Whole texts of a column that was found to be UTF-8: looking again costs less than the read.
        from_utf8(self.0.value(item)).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow_array::{Int32Array, StringArray};
    use arrow_buffer::{Buffer, OffsetBuffer};

    use super::*;

    #[test]
    fn bytes_that_are_no_texts_are_refused() {
        let refused = |column: ArrayRef| TextColumn::new(&column, "query").err().unwrap();
        let column: ArrayRef = Arc::new(BinaryArray::from(vec!["a".as_bytes(), "\u{e9}\u{4e2d}".as_bytes(), b""]));
        let texts = TextColumn::new(&column, "query").unwrap();
        assert_eq!((texts.value(0), texts.value(1), texts.value(2)), ("a", "\u{e9}\u{4e2d}", ""));
        let column: ArrayRef = Arc::new(StringArray::from(vec!["b"]));
        assert_eq!(TextColumn::new(&column, "query").unwrap().value(0), "b");
        assert!(refused(Arc::new(BinaryArray::from(vec![b"a".as_slice(), b"\xff"]))).contains("query is not UTF-8"));
        let halves = OffsetBuffer::from_lengths([1, 1]);
        let within = BinaryArray::new(halves, Buffer::from("\u{e9}".as_bytes()), None);
        assert!(refused(Arc::new(within)).contains("within a character"));
        assert!(refused(Arc::new(Int32Array::from(vec![1]))).contains("no texts"));
    }
}
