//! What a label or a score makes of a row.
//!
//! | value of the label column | the row becomes |
//! |---|---|
//! | one that the config maps | what the config says |
//! | `1`, `1.0`, `true`, `entailment` | a pair |
//! | `0`, `0.0`, `false`, `contradiction` | a negative of its query, no positive |
//! | `-`, empty, null, absent | a reject, `no_label` |
//! | another number with a fraction or of a floating-point column | a pair with that grade |
//! | anything else (`neutral`, `2`) | an error that asks for a mapping |
//!
//! A `1.0` or `0.0` of a floating-point column keeps its grade too, so that a column of grades
//! from 0 to 1 loses nothing. The score column is always a grade.

use super::field::Field;

/// What a label value that the config maps stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LabelMeaning {
    /// The two texts belong together.
    Positive,
    /// The second text is a negative of the first.
    Negative,
    /// The row is left out and counted as `no_label`.
    Drop,
}

impl LabelMeaning {
    /// The name used in configs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Positive => "positive",
            Self::Negative => "negative",
            Self::Drop => "drop",
        }
    }

    /// The meaning of that name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Positive, Self::Negative, Self::Drop].into_iter().find(|meaning| meaning.name() == name)
    }
}

/// What becomes of a row, by its label.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Verdict {
    /// A pair, with its grade if it has one.
    Positive(Option<f32>),
    /// A labelled negative, with its grade if it has one.
    Negative(Option<f32>),
    /// A row without a usable label.
    Drop,
    /// A value without a meaning.
    Unknown,
}

/// Reads the label column.
pub(super) fn judge(field: &Field<'_>, mapping: &[(String, LabelMeaning)]) -> Verdict {
    let written = written(field);
    if let Some((_, meaning)) = mapping.iter().find(|(value, _)| *value == written) {
        return match meaning {
            LabelMeaning::Positive => Verdict::Positive(None),
            LabelMeaning::Negative => Verdict::Negative(None),
            LabelMeaning::Drop => Verdict::Drop,
        };
    }
    match field {
        Field::Null => Verdict::Drop,
        Field::Bool(true) | Field::Int(1) => Verdict::Positive(None),
        Field::Bool(false) | Field::Int(0) => Verdict::Negative(None),
        Field::Float(grade) => by_grade(*grade),
        Field::Text(text) => match text.trim() {
            "" | "-" => Verdict::Drop,
            "1" | "true" | "True" | "entailment" => Verdict::Positive(None),
            "0" | "false" | "False" | "contradiction" => Verdict::Negative(None),
            other if other.contains('.') => other.parse().map_or(Verdict::Unknown, by_grade),
            _ => Verdict::Unknown,
        },
        _ => Verdict::Unknown,
    }
}

fn by_grade(grade: f64) -> Verdict {
    if grade.is_nan() {
        Verdict::Drop
    } else if grade == 0.0 {
        Verdict::Negative(Some(0.0))
    } else {
        Verdict::Positive(Some(grade as f32))
    }
}

/// Reads the score column: `Ok(None)` if the row has no score, `Err` if it is no number.
pub(super) fn grade(field: &Field<'_>) -> Result<Option<f32>, ()> {
    match field {
        Field::Null => Ok(None),
        Field::Int(score) => Ok(Some(*score as f32)),
        Field::Float(score) if score.is_nan() => Ok(None),
        Field::Float(score) => Ok(Some(*score as f32)),
        Field::Text(text) => match text.trim() {
            "" | "-" => Ok(None),
            number => number.parse().map(Some).map_err(|_| ()),
        },
        _ => Err(()),
    }
}

/// The value as a config would write it.
pub(super) fn written(field: &Field<'_>) -> String {
    match field {
        Field::Text(text) => text.trim().to_owned(),
        Field::Bool(value) => value.to_string(),
        Field::Int(value) => value.to_string(),
        Field::Float(value) => value.to_string(),
        other => other.kind().to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::{LabelMeaning, Verdict, grade, judge};
    use crate::read::field::Field;

    fn text(value: &str) -> Field<'_> {
        Field::Text(value.into())
    }

    #[test]
    fn built_in_meanings() {
        for (field, verdict) in [
            (Field::Int(1), Verdict::Positive(None)),
            (Field::Int(0), Verdict::Negative(None)),
            (Field::Int(2), Verdict::Unknown),
            (Field::Bool(true), Verdict::Positive(None)),
            (Field::Float(0.5), Verdict::Positive(Some(0.5))),
            (Field::Float(1.0), Verdict::Positive(Some(1.0))),
            (Field::Float(0.0), Verdict::Negative(Some(0.0))),
            (Field::Null, Verdict::Drop),
            (text("-"), Verdict::Drop),
            (text(""), Verdict::Drop),
            (text("entailment"), Verdict::Positive(None)),
            (text("contradiction"), Verdict::Negative(None)),
            (text("0.25"), Verdict::Positive(Some(0.25))),
            (text("neutral"), Verdict::Unknown),
            (text("2"), Verdict::Unknown),
            (Field::Texts(vec![]), Verdict::Unknown),
        ] {
            assert_eq!(judge(&field, &[]), verdict, "{field:?}");
        }
    }

    #[test]
    fn the_config_goes_first() {
        let mapping = [("0".to_owned(), LabelMeaning::Positive), ("neutral".to_owned(), LabelMeaning::Drop)];
        assert_eq!(judge(&Field::Int(0), &mapping), Verdict::Positive(None));
        assert_eq!(judge(&text("0"), &mapping), Verdict::Positive(None));
        assert_eq!(judge(&text("neutral"), &mapping), Verdict::Drop);
    }

    #[test]
    fn scores_are_numbers_or_missing() {
        assert_eq!(grade(&text("3.5")), Ok(Some(3.5)));
        assert_eq!(grade(&Field::Int(4)), Ok(Some(4.0)));
        assert_eq!(grade(&text("-")), Ok(None));
        assert_eq!(grade(&text("high")), Err(()));
    }

    #[test]
    fn names_round_trip() {
        for meaning in [LabelMeaning::Positive, LabelMeaning::Negative, LabelMeaning::Drop] {
            assert_eq!(LabelMeaning::from_name(meaning.name()), Some(meaning));
        }
    }
}
