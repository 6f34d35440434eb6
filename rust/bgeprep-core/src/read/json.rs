//! JSON text → fields, without a copy where the text has no escapes.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Body;
use super::assemble::{array, assemble};
use super::field::{Field, head};
use super::roles::{Columns, Row};
use crate::Result;
use crate::report::Reason;

/// One JSON value as a record. `row` is scratch space, emptied here.
///
/// # Errors
/// As [`assemble`].
pub(super) fn record<'a>(text: &'a str, line: u64, columns: &mut Columns<'_>, row: &mut Row<'a>) -> Result<Body<'a>> {
    let bad = |reason, detail| Body::Bad { reason, detail, text: Cow::Owned(head(text.as_bytes())) };
    let pair = match parse(text, columns, row) {
        Ok(Value::Object) => assemble(columns, row, line)?,
        Ok(Value::Other(Field::Texts(texts))) => array(texts),
        Ok(Value::Other(other)) => {
            let detail = format!("expected an object or an array of texts, found {}", other.kind());
            Err((Reason::UnknownShape, detail))
        }
        Err(detail) => Err((Reason::BadJson, detail)),
    };
    Ok(match pair {
        Ok(pair) => Body::Pair(pair),
        Err((reason, detail)) => bad(reason, detail),
    })
}

/// A JSON value: an object, whose fields went to the row, or anything else.
#[derive(Debug, PartialEq)]
pub(super) enum Value<'a> {
    Object,
    Other(Field<'a>),
}

/// Parses the text; the fields of an object replace what `row` held.
pub(super) fn parse<'a>(text: &'a str, columns: &mut Columns<'_>, row: &mut Row<'a>) -> Result<Value<'a>, String> {
    row.clear();
    let mut parser = sonic_rs::Deserializer::from_str(text);
    let value = Top { columns, row }.deserialize(&mut parser).map_err(|error| brief(&error))?;
    parser.end().map_err(|error| brief(&error))?;
    Ok(value)
}

/// The parser's message without the piece of input it prints below.
fn brief(error: &sonic_rs::Error) -> String {
    error.to_string().lines().next().unwrap_or_default().trim_end_matches([' ', ':', '.']).to_owned()
}

/// Reads a whole value: the fields of an object go to the row.
struct Top<'r, 'l, 'a> {
    columns: &'r mut Columns<'l>,
    row: &'r mut Row<'a>,
}

impl<'a> DeserializeSeed<'a> for Top<'_, '_, 'a> {
    type Value = Value<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Value<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// The visits that `Top` and `FieldSeed` answer alike, each wrapped by the given function.
macro_rules! visit_scalars {
    ($wrap:expr) => {
        fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
            formatter.write_str("a JSON value")
        }

        fn visit_borrowed_str<E>(self, text: &'a str) -> Result<Self::Value, E> {
            Ok($wrap(Field::Text(Cow::Borrowed(text))))
        }

        fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
            Ok($wrap(Field::Text(Cow::Owned(text.to_owned()))))
        }

        fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
            Ok($wrap(Field::Text(Cow::Owned(text))))
        }

        fn visit_bool<E>(self, value: bool) -> Result<Self::Value, E> {
            Ok($wrap(Field::Bool(value)))
        }

        fn visit_i64<E>(self, value: i64) -> Result<Self::Value, E> {
            Ok($wrap(Field::Int(value)))
        }

        fn visit_u64<E>(self, value: u64) -> Result<Self::Value, E> {
            Ok($wrap(i64::try_from(value).map_or(Field::Float(value as f64), Field::Int)))
        }

        fn visit_f64<E>(self, value: f64) -> Result<Self::Value, E> {
            Ok($wrap(Field::Float(value)))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($wrap(Field::Null))
        }
    };
}

impl<'a> Visitor<'a> for Top<'_, '_, 'a> {
    type Value = Value<'a>;

    visit_scalars!(Value::Other);

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Value<'a>, A::Error> {
        list(seq).map(Value::Other)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Value<'a>, A::Error> {
        let mut after = None;
        while let Some(number) = map.next_key_seed(Key { columns: self.columns, after })? {
            let Some(number) = number else {
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            let field = if self.columns.is_wanted(number) {
                map.next_value_seed(FieldSeed)?
            } else {
                map.next_value::<IgnoredAny>()?;
                Field::Other("something")
            };
            // Of a key given twice the last one counts, as everywhere in JSON.
            match self.row.iter_mut().find(|(own, _)| *own == number) {
                Some(place) => place.1 = field,
                None => self.row.push((number, field)),
            }
            after = Some(number);
        }
        Ok(Value::Object)
    }
}

/// Reads a key as a column number.
struct Key<'r, 'l> {
    columns: &'r mut Columns<'l>,
    after: Option<u16>,
}

impl<'a> DeserializeSeed<'a> for Key<'_, '_> {
    type Value = Option<u16>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Option<u16>, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_, '_> {
    type Value = Option<u16>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Option<u16>, E> {
        Ok(self.columns.number(key, self.after))
    }
}

/// Reads the value of a wanted column.
struct FieldSeed;

impl<'a> DeserializeSeed<'a> for FieldSeed {
    type Value = Field<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Field<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for FieldSeed {
    type Value = Field<'a>;

    visit_scalars!(std::convert::identity);

    fn visit_seq<A: SeqAccess<'a>>(self, seq: A) -> Result<Field<'a>, A::Error> {
        list(seq)
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Field<'a>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("object"))
    }
}

/// An item of a list; what is in nested lists and objects does not matter.
struct ItemSeed;

impl<'a> DeserializeSeed<'a> for ItemSeed {
    type Value = Field<'a>;

    fn deserialize<D: Deserializer<'a>>(self, deserializer: D) -> Result<Field<'a>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'a> Visitor<'a> for ItemSeed {
    type Value = Field<'a>;

    visit_scalars!(std::convert::identity);

    fn visit_seq<A: SeqAccess<'a>>(self, mut seq: A) -> Result<Field<'a>, A::Error> {
        while seq.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Field::Other("list"))
    }

    fn visit_map<A: MapAccess<'a>>(self, mut map: A) -> Result<Field<'a>, A::Error> {
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(Field::Other("object"))
    }
}

/// A list of texts or of numbers; a mixed one, or one of anything else, is named for what it is.
fn list<'a, A: SeqAccess<'a>>(mut seq: A) -> Result<Field<'a>, A::Error> {
    let (mut texts, mut numbers, mut odd) = (Vec::new(), Vec::new(), None);
    while let Some(item) = seq.next_element_seed(ItemSeed)? {
        match item {
            Field::Text(text) => texts.push(text),
            Field::Int(number) => numbers.push(number as f32),
            Field::Float(number) => numbers.push(number as f32),
            Field::Null => numbers.push(f32::NAN),
            Field::Other("object") => odd = Some("list of objects"),
            Field::Other("list") => odd = Some("list of lists"),
            _ => odd = Some("list of mixed values"),
        }
    }
    Ok(match (odd, texts.is_empty(), numbers.is_empty()) {
        (Some(kind), ..) => Field::Other(kind),
        (None, _, true) => Field::Texts(texts),
        (None, true, false) => Field::Numbers(numbers),
        (None, false, false) => Field::Other("list of mixed values"),
    })
}
