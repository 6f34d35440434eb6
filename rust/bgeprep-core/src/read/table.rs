//! Rows of Arrow record batches → fields.

use std::borrow::Cow;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float64Type, Int64Type};
use arrow_array::{
    Array, ArrayRef, BooleanArray, Float64Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray,
};
use arrow_cast::cast;
use arrow_schema::DataType;

use super::assemble;
use super::chunk::Visit;
use super::columns::Role;
use super::field::{Field, head};
use super::roles::{Columns, Row};
use crate::{Error, Result};

/// Takes a batch apart; `first` is the number of its first row.
pub(super) fn records(batch: &RecordBatch, first: u64, columns: &mut Columns<'_>, visit: &mut Visit<'_>) -> Result<()> {
    let mut places = Vec::with_capacity(batch.num_columns());
    for (field, array) in batch.schema().fields().iter().zip(batch.columns()) {
        if let Some(number) = columns.number(field.name(), None) {
            let cells = if columns.is_wanted(number) { Cells::of(array) } else { Ok(Cells::Other("something")) };
            let cells = cells.map_err(|error| {
                let message = format!("column `{}` cannot be read: {error}", field.name());
                Error::corpus(&columns.layout.path, Some(first), message)
            })?;
            places.push((number, cells));
        }
    }
    let mut row = Row::new();
    for at in 0..batch.num_rows() {
        row.clear();
        row.extend(places.iter().map(|(number, cells)| (*number, cells.get(at))));
        let line = first + at as u64;
        let text = text_of(&row, columns);
        let shown = || head(text.unwrap_or_default().as_bytes());
        visit(assemble::record(columns, &mut row, line, shown)?)?;
    }
    Ok(())
}

/// The text that shows a bad row: its first one that does not only say where it is from.
fn text_of<'a>(row: &Row<'a>, columns: &Columns<'_>) -> Option<&'a str> {
    row.iter().find_map(|(number, field)| match field {
        Field::Text(Cow::Borrowed(text)) if columns.role(*number) != Some(Role::OriginFile) => Some(*text),
        _ => None,
    })
}

/// What a column of that type holds, as an example for checking a schema.
pub(super) fn example(kind: &DataType) -> Field<'static> {
    match kind {
        DataType::Null => Field::Null,
        DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => Field::Text("".into()),
        DataType::Dictionary(_, values) => example(values),
        DataType::List(item)
        | DataType::LargeList(item)
        | DataType::FixedSizeList(item, _)
        | DataType::ListView(item)
        | DataType::LargeListView(item) => match example(item.data_type()) {
            Field::Other(_) => Field::Other("list of objects"),
            _ => Field::Texts(Vec::new()),
        },
        DataType::Boolean => Field::Bool(false),
        kind if kind.is_integer() => Field::Int(0),
        kind if kind.is_floating() || is_decimal(kind) => Field::Float(0.0),
        _ => Field::Other("another type"),
    }
}

fn is_decimal(kind: &DataType) -> bool {
    matches!(
        kind,
        DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..)
    )
}

/// A column in one of the few layouts that a field can be taken from.
enum Cells {
    Utf8(StringArray),
    LargeUtf8(LargeStringArray),
    Utf8View(StringViewArray),
    Bool(BooleanArray),
    Int(Int64Array),
    Float(Float64Array),
    /// Items of all rows, and where those of each row end; `None` for a null row.
    List {
        items: Box<Self>,
        spans: Vec<Option<(usize, usize)>>,
    },
    Null,
    Other(&'static str),
}

impl Cells {
    fn of(array: &ArrayRef) -> Result<Self, arrow_schema::ArrowError> {
        Ok(match array.data_type() {
            DataType::Null => Self::Null,
            DataType::Utf8 => Self::Utf8(array.as_string::<i32>().clone()),
            DataType::LargeUtf8 => Self::LargeUtf8(array.as_string::<i64>().clone()),
            DataType::Utf8View => Self::Utf8View(array.as_string_view().clone()),
            DataType::Boolean => Self::Bool(array.as_boolean().clone()),
            DataType::Dictionary(_, values) => Self::of(&cast(array, values)?)?,
            DataType::List(_) => {
                let list = array.as_list::<i32>();
                let offsets = list.value_offsets().iter().map(|offset| *offset as usize);
                Self::list(list.values(), array, &offsets.collect::<Vec<_>>())?
            }
            DataType::LargeList(_) => {
                let list = array.as_list::<i64>();
                let offsets = list.value_offsets().iter().map(|offset| *offset as usize);
                Self::list(list.values(), array, &offsets.collect::<Vec<_>>())?
            }
            DataType::FixedSizeList(_, size) => {
                let size = usize::try_from(*size).unwrap_or(0);
                let offsets: Vec<usize> = (0..=array.len()).map(|row| row * size).collect();
                Self::list(array.as_fixed_size_list().values(), array, &offsets)?
            }
            DataType::ListView(item) => Self::of(&cast(array, &DataType::List(item.clone()))?)?,
            DataType::LargeListView(item) => Self::of(&cast(array, &DataType::LargeList(item.clone()))?)?,
            kind if kind.is_integer() => Self::Int(cast(array, &DataType::Int64)?.as_primitive::<Int64Type>().clone()),
            kind if kind.is_floating() || is_decimal(kind) => {
                Self::Float(cast(array, &DataType::Float64)?.as_primitive::<Float64Type>().clone())
            }
            DataType::Struct(_) | DataType::Map(..) => Self::Other("object"),
            _ => Self::Other("another type"),
        })
    }

    /// Only the items that the rows use are looked at: a batch may be a slice of a large one.
    fn list(items: &ArrayRef, rows: &ArrayRef, offsets: &[usize]) -> Result<Self, arrow_schema::ArrowError> {
        let (base, end) = (offsets.first().copied().unwrap_or(0), offsets.last().copied().unwrap_or(0));
        let items = Box::new(Self::of(&items.slice(base, end - base))?);
        let spans = offsets
            .windows(2)
            .enumerate()
            .map(|(row, span)| (!rows.is_null(row)).then(|| (span[0] - base, span[1] - base)))
            .collect();
        Ok(Self::List { items, spans })
    }

    fn text(&self, at: usize) -> Option<&str> {
        match self {
            Self::Utf8(array) => array.is_valid(at).then(|| array.value(at)),
            Self::LargeUtf8(array) => array.is_valid(at).then(|| array.value(at)),
            Self::Utf8View(array) => array.is_valid(at).then(|| array.value(at)),
            _ => None,
        }
    }

    fn number(&self, at: usize) -> f32 {
        match self {
            Self::Int(array) if array.is_valid(at) => array.value(at) as f32,
            Self::Float(array) if array.is_valid(at) => array.value(at) as f32,
            _ => f32::NAN,
        }
    }

    fn get(&self, at: usize) -> Field<'_> {
        match self {
            Self::Utf8(_) | Self::LargeUtf8(_) | Self::Utf8View(_) => {
                self.text(at).map_or(Field::Null, |text| Field::Text(Cow::Borrowed(text)))
            }
            Self::Bool(array) if array.is_valid(at) => Field::Bool(array.value(at)),
            Self::Int(array) if array.is_valid(at) => Field::Int(array.value(at)),
            Self::Float(array) if array.is_valid(at) => Field::Float(array.value(at)),
            Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Null => Field::Null,
            Self::List { items, spans } => match spans[at] {
                None => Field::Null,
                Some((from, to)) => items.items(from, to),
            },
            Self::Other(kind) => Field::Other(kind),
        }
    }

    /// Some items of a list.
    fn items(&self, from: usize, to: usize) -> Field<'_> {
        if from == to {
            return Field::Texts(Vec::new());
        }
        match self {
            Self::Utf8(_) | Self::LargeUtf8(_) | Self::Utf8View(_) => {
                let texts: Option<Vec<_>> = (from..to).map(|at| self.text(at).map(Cow::Borrowed)).collect();
                texts.map_or(Field::Other("list of mixed values"), Field::Texts)
            }
            Self::Int(_) | Self::Float(_) | Self::Null => {
                Field::Numbers((from..to).map(|at| self.number(at)).collect())
            }
            Self::List { .. } => Field::Other("list of lists"),
            Self::Bool(_) | Self::Other(_) => Field::Other("list of objects"),
        }
    }
}
