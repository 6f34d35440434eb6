//! JSON text → fields, without a copy where the text has no escapes. Values that nothing asks for
//! are skipped; their structure is checked, but not the escapes in their texts.

use std::borrow::Cow;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::Record;
use super::assemble::{self, array};
use super::depth::{MOST_LEVELS, is_too_deep};
use super::field::{Field, head};
use super::roles::{Columns, Row};
use crate::Result;
use crate::report::Reason;

/// One JSON value as a record. `row` is scratch space, emptied here.
///
/// # Errors
/// As [`assemble::record`].
pub(super) fn record<'a>(text: &'a str, line: u64, columns: &mut Columns<'_>, row: &mut Row<'a>) -> Result<Record<'a>> {
    let shown = || head(text.as_bytes());
    let pair = match parse(text, columns, row) {
        Ok(Value::Object) => return assemble::record(columns, row, line, shown),
        Ok(Value::Other(Field::Texts(texts))) => array(texts),
        Ok(Value::Other(other)) => {
            let detail = format!("expected an object or an array of texts, found {}", other.kind());
            Err((Reason::UnknownShape, detail))
        }
        Err(detail) => Err((Reason::BadJson, detail)),
    };
    Ok(Record::new(line, assemble::body(pair, shown)))
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
    if is_too_deep(text) {
        return Err(format!("nested deeper than {MOST_LEVELS} levels"));
    }
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value as Json, json};

    use super::{Row, Value, parse};
    use crate::read::columns::ColumnMapping;
    use crate::read::field::Field;
    use crate::read::roles::Columns;
    use crate::read::testing::layout;

    /// The oracle: serde_json's tree, brought to fields by a second, plain way.
    fn field_of(value: &Json) -> Field<'_> {
        match value {
            Json::Null => Field::Null,
            Json::Bool(value) => Field::Bool(*value),
            Json::Number(number) => match (number.as_i64(), number.as_f64()) {
                (Some(whole), _) => Field::Int(whole),
                (None, float) => Field::Float(float.unwrap_or(f64::NAN)),
            },
            Json::String(text) => Field::Text(text.as_str().into()),
            Json::Object(_) => Field::Other("object"),
            Json::Array(items) if items.iter().all(Json::is_string) => {
                Field::Texts(items.iter().filter_map(Json::as_str).map(Into::into).collect())
            }
            Json::Array(items) if items.iter().all(|item| item.is_number() || item.is_null()) => Field::Numbers(
                items.iter().map(|item| item.as_f64().map_or(f32::NAN, |number| number as f32)).collect(),
            ),
            Json::Array(_) => Field::Other("list of …"),
        }
    }

    /// Equal up to the last digit: by default serde_json rounds fractions less well than sonic-rs.
    fn near(left: f64, right: f64) -> bool {
        (left.is_nan() && right.is_nan()) || (left - right).abs() <= left.abs() * 1e-6
    }

    fn same(left: &Field<'_>, right: &Field<'_>) -> bool {
        match (left, right) {
            (Field::Float(left), Field::Float(right)) => near(*left, *right),
            (Field::Numbers(left), Field::Numbers(right)) => {
                left.len() == right.len()
                    && left.iter().zip(right).all(|(left, right)| near(f64::from(*left), f64::from(*right)))
            }
            (Field::Other("object"), Field::Other("object")) => true,
            (Field::Other(left), Field::Other(right)) => left.starts_with("list") && right.starts_with("list"),
            (left, right) => left == right,
        }
    }

    fn agrees_with_the_oracle(text: &str) -> Result<(), TestCaseError> {
        let layout = layout(ColumnMapping::default());
        let (mut columns, mut row) = (Columns::new(&layout), Row::new());
        let found = parse(text, &mut columns, &mut row);
        let expected = serde_json::from_str::<Json>(text);
        match (&found, &expected) {
            (Err(_), Err(_)) => {}
            (Ok(Value::Object), Ok(Json::Object(map))) => {
                prop_assert_eq!(row.len(), map.len(), "{}", text);
                for (at, (number, field)) in row.iter().enumerate() {
                    let value = map.get(columns.name(&row, at));
                    prop_assert!(value.is_some(), "{}", text);
                    if let (true, Some(value)) = (columns.is_wanted(*number), value) {
                        prop_assert!(same(field, &field_of(value)), "{}: {:?} {:?}", text, field, value);
                    }
                }
            }
            (Ok(Value::Other(field)), Ok(value)) if !value.is_object() => {
                prop_assert!(same(field, &field_of(value)), "{}: {:?} {:?}", text, field, value);
            }
            // A number too large for a float is JSON all the same; the grammar sets no bound.
            (Ok(_), Err(error)) if error.to_string().contains("number out of range") => {}
            // Escapes in values that nobody asks for are skipped unchecked, see the module's head.
            (Ok(_), Err(error)) if error.to_string().contains("escape") => {
                let skipped = |(number, field): &(u16, Field<'_>)| {
                    !columns.is_wanted(*number) || matches!(field, Field::Other(_))
                };
                prop_assert!(row.iter().any(skipped), "{text}: {found:?}, the oracle {error}");
            }
            _ => prop_assert!(false, "{text}: {found:?}, the oracle {expected:?}"),
        }
        Ok(())
    }

    fn any_json() -> impl Strategy<Value = Json> {
        let leaf = prop_oneof![
            Just(Json::Null),
            any::<bool>().prop_map(Json::from),
            any::<i64>().prop_map(Json::from),
            (-1e9..1e9f64).prop_map(Json::from),
            any::<String>().prop_map(Json::from),
            "[a-z\"\\\\\n\u{7f}é漢𝄞]{0,40}".prop_map(Json::from),
        ];
        leaf.prop_recursive(3, 24, 5, |inner| {
            let key = prop_oneof![
                prop::sample::select(vec!["query", "pos", "neg", "pos_scores", "label", "extra", "id"])
                    .prop_map(str::to_owned),
                any::<String>(),
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Json::from),
                prop::collection::vec((key, inner), 0..6)
                    .prop_map(|entries| Json::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn reads_what_serde_json_reads(value in any_json(), pretty: bool) {
            let text = if pretty { serde_json::to_string_pretty(&value) } else { serde_json::to_string(&value) };
            agrees_with_the_oracle(&text.expect("a tree"))?;
        }

        #[test]
        fn refuses_what_serde_json_refuses(value in any_json(), at: prop::sample::Index, with in "[\\[\\]{}\",:0-9a-z\\\\ \t]{0,2}") {
            let text = serde_json::to_string(&json!({ "query": value, "pos": ["p"] })).expect("a tree");
            let mut places = text.char_indices().map(|(place, _)| place).collect::<Vec<_>>();
            places.push(text.len());
            let place = places[at.index(places.len())];
            let after = text[place..].chars().next().map_or(place, |removed| place + removed.len_utf8());
            agrees_with_the_oracle(&format!("{}{with}{}", &text[..place], &text[after..]))?;
        }
    }

    #[test]
    fn escapes_and_surrogates() {
        for text in [
            r#"{"query": "\u00e9\n\ud834\udd1e", "pos": ["\"\\"]}"#,
            r#"{"query": "\ud834"}"#,
            r#"{"query": "a", "query": "b"}"#,
            r#"{"query": NaN}"#,
            r#"{"pos_scores": [1, 2.5, null, 1e3]}"#,
            "{\"query\": \"a\tb\"}",
            r#"["a", "b"] "#,
            r#"{"a": 1,}"#,
            "",
        ] {
            agrees_with_the_oracle(text).unwrap_or_else(|error| panic!("{error}"));
        }
    }
}
