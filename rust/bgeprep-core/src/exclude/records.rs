//! One line of a benchmark file.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, Visitor};

/// A JSON object of a corpus, of queries, or of a list of texts; other fields are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    #[serde(rename = "_id", deserialize_with = "text_or_number")]
    id: Option<String>,
    #[serde(rename = "id", deserialize_with = "text_or_number")]
    plain_id: Option<String>,
    pub(super) title: Option<String>,
    pub(super) text: Option<String>,
    query: Option<String>,
    question: Option<String>,
}

impl Record {
    /// Parses a line; the message says what was found instead.
    pub(super) fn parse(line: &str) -> Result<Self, String> {
        // An array of the right length would do for a struct, too.
        if !line.starts_with('{') {
            return Err("expected a JSON object, found another text".to_owned());
        }
        sonic_rs::from_str(line).map_err(|error| {
            let message = error.to_string();
            let first = message.lines().next().unwrap_or_default().trim_end_matches([' ', ':', '.']);
            format!("expected a JSON object, found: {first}")
        })
    }

    /// The query of a list of texts.
    pub(super) fn query(&self) -> Option<&str> {
        self.query.as_deref().or(self.question.as_deref()).or(self.text.as_deref())
    }

    /// `_id`, else `id`.
    pub(super) fn id(&self) -> Option<&str> {
        self.id.as_deref().or(self.plain_id.as_deref())
    }
}

/// Ids are texts, but some collections write numbers.
fn text_or_number<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    struct Id;

    impl<'de> Visitor<'de> for Id {
        type Value = Option<String>;

        fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
            out.write_str("an id: text or a number")
        }

        fn visit_str<E>(self, id: &str) -> Result<Self::Value, E> {
            Ok(Some(id.to_owned()))
        }

        fn visit_u64<E>(self, id: u64) -> Result<Self::Value, E> {
            Ok(Some(id.to_string()))
        }

        fn visit_i64<E>(self, id: i64) -> Result<Self::Value, E> {
            Ok(Some(id.to_string()))
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_none<E>(self) -> Result<Self::Value, E> {
            Ok(None)
        }

        fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
            deserializer.deserialize_any(self)
        }
    }

    deserializer.deserialize_any(Id)
}

/// A judgement.
#[derive(Debug, PartialEq)]
pub(super) struct Judgement<'a> {
    pub(super) query: &'a str,
    pub(super) passage: &'a str,
    pub(super) grade: f64,
}

impl<'a> Judgement<'a> {
    /// Parses `query-id TAB corpus-id TAB score`, or the four fields of TREC; None if it is neither,
    /// as a header is.
    pub(super) fn parse(line: &'a str) -> Option<Self> {
        let tabs: Vec<&str> = line.split('\t').map(str::trim).collect();
        let fields = if tabs.len() > 1 { tabs } else { line.split_whitespace().collect() };
        let ([query, passage, grade] | [query, _, passage, grade]) = fields[..] else { return None };
        Some(Self { query, passage, grade: grade.parse().ok()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_texts_or_numbers() {
        let id = |line: &str| Record::parse(line).expect(line).id().map(str::to_owned);
        assert_eq!(id(r#"{"_id": "d1", "text": "x", "metadata": {"url": [1]}}"#).as_deref(), Some("d1"));
        assert_eq!(id(r#"{"_id": 17, "id": "other", "title": null}"#).as_deref(), Some("17"));
        assert_eq!(id(r#"{"id": -3}"#).as_deref(), Some("-3"));
        assert_eq!(id(r#"{"_id": null, "text": "x"}"#), None);
        assert!(Record::parse(r#"["a", "b"]"#).is_err());
        assert!(Record::parse(r#"{"_id": "d1""#).is_err());
    }

    #[test]
    fn judgements_have_three_or_four_fields() {
        let of = |query, passage, grade| Some(Judgement { query, passage, grade });
        assert_eq!(Judgement::parse("q1\td 1\t2"), of("q1", "d 1", 2.0));
        assert_eq!(Judgement::parse("q1 0 d1 -1"), of("q1", "d1", -1.0));
        assert_eq!(Judgement::parse("query-id\tcorpus-id\tscore"), None);
        assert_eq!(Judgement::parse("q1\td1"), None);
    }
}
