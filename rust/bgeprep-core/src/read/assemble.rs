//! From the fields of a record to a pair.

use std::borrow::Cow;

use super::field::Field;
use super::labels::{Verdict, grade, judge, written};
use super::roles::{Columns, Layout, PairShape, Row, Shape};
use super::{Body, Record};
use crate::pair::{RawPair, SetKind, Task};
use crate::report::Reason;
use crate::{Error, Result};

/// Why a record is no pair.
pub(super) type Bad = (Reason, String);

/// Makes a record of the fields, which are used up; `shown` gives the text that shows a bad one.
///
/// # Errors
/// As [`assemble`].
pub(super) fn record<'a>(
    columns: &mut Columns<'_>,
    row: &mut Row<'a>,
    line: u64,
    shown: impl FnOnce() -> String,
) -> Result<Record<'a>> {
    let pair = assemble(columns, row, line)?;
    Ok(Record { line, origin: columns.origin(row), body: body(pair, shown) })
}

/// A pair, or why there is none.
pub(super) fn body(pair: Result<RawPair<'_>, Bad>, shown: impl FnOnce() -> String) -> Body<'_> {
    match pair {
        Ok(pair) => Body::Pair(pair),
        Err((reason, detail)) => Body::Bad { reason, detail, text: Cow::Owned(shown()) },
    }
}

/// Makes a pair of the fields.
///
/// # Errors
/// For what the user must settle: an ambiguous column, a label without a meaning, a file of
/// another kind. A row that is merely unusable is `Ok(Err(…))`.
fn assemble<'a>(columns: &mut Columns<'_>, row: &mut Row<'a>, line: u64) -> Result<Result<RawPair<'a>, Bad>> {
    let layout = columns.layout;
    let (mut unknown_kind, mut wrong) = (None, None);
    let pair = match columns.shape(row, line)? {
        Shape::Bad { reason, detail } => Err((*reason, detail.clone())),
        Shape::Set { at, .. } => set(take(row, *at)),
        Shape::Text { at, title, .. } => document(row, *at, *title).map_err(|(at, expected)| {
            wrong = Some(at);
            (Reason::UnknownShape, format!("expected {expected}, found {}", row[at].1.kind()))
        }),
        Shape::Pair { roles, .. } => match texts(roles, row) {
            Ok(mut pair) => {
                if let Some(at) = roles.kind {
                    pair.task = kind(&row[at].1);
                    if pair.task.is_none() {
                        unknown_kind = Some(row[at].0);
                    }
                }
                label(roles, row, layout, line, pair)?
            }
            Err((at, expected)) => {
                wrong = Some(at);
                Err((Reason::UnknownShape, format!("expected {expected}, found {}", row[at].1.kind())))
            }
        },
    };
    if let Some(number) = unknown_kind {
        columns.ignore(number);
    }
    match wrong {
        Some(at) => Ok(pair.map_err(|(reason, detail)| (reason, format!("`{}`: {detail}", columns.name(row, at))))),
        None => Ok(pair),
    }
}

/// `["a", "p", "n" …]`: query, positive, negatives.
pub(super) fn array(mut texts: Vec<Cow<'_, str>>) -> Result<RawPair<'_>, Bad> {
    if texts.len() < 2 {
        let detail = format!("expected an array of a query, a positive and negatives, found {} texts", texts.len());
        return Err((Reason::UnknownShape, detail));
    }
    let neg = texts.split_off(2);
    let mut texts = texts.into_iter();
    let query = texts.next().unwrap_or_default();
    Ok(RawPair { query, pos: texts.collect(), neg, ..RawPair::default() })
}

/// `{"set": ["a", "b", "c"]}`: query a, positives b and c.
fn set(field: Field<'_>) -> Result<RawPair<'_>, Bad> {
    match field {
        Field::Texts(texts) => {
            let mut texts = texts.into_iter();
            let query = texts.next().unwrap_or_default();
            let pos: Vec<_> = texts.collect();
            if pos.is_empty() {
                return Err((Reason::NoPositive, "a set of fewer than two texts".into()));
            }
            Ok(RawPair { query, pos, ..RawPair::default() })
        }
        other => Err((Reason::UnknownShape, format!("`set`: expected a list of texts, found {}", other.kind()))),
    }
}

/// `{"title": "a", "text": "b"}`: a document.
fn document<'a>(row: &mut Row<'a>, at: usize, title: Option<usize>) -> Result<RawPair<'a>, (usize, &'static str)> {
    let mut pair = RawPair { kind: SetKind::Text, ..RawPair::default() };
    match title.map(|title| (title, take(row, title))) {
        None | Some((_, Field::Null)) => {}
        Some((_, Field::Text(text))) => pair.query = text,
        Some((title, other)) => {
            row[title].1 = other;
            return Err((title, "a text"));
        }
    }
    match take(row, at) {
        Field::Text(text) => pair.pos.push(text),
        other => {
            row[at].1 = other;
            return Err((at, "a text"));
        }
    }
    Ok(pair)
}

fn take<'a>(row: &mut Row<'a>, at: usize) -> Field<'a> {
    std::mem::replace(&mut row[at].1, Field::Null)
}

/// Fills everything but the label; on a wrong type says which field and what was expected.
fn texts<'a>(roles: &PairShape, row: &mut Row<'a>) -> Result<RawPair<'a>, (usize, &'static str)> {
    let mut pair = RawPair::default();
    match take(row, roles.query) {
        Field::Text(text) => pair.query = text,
        other => {
            row[roles.query].1 = other;
            return Err((roles.query, "a text"));
        }
    }
    gather(&mut pair.pos, &roles.pos, row)?;
    gather(&mut pair.neg, &roles.neg, row)?;
    pair.pos_scores = scores(roles.pos_scores, row, pair.pos.len())?;
    pair.neg_scores = scores(roles.neg_scores, row, pair.neg.len())?;
    match roles.id.map(|at| take(row, at)) {
        Some(Field::Text(text)) => pair.id = text,
        Some(Field::Int(number)) => pair.id = number.to_string().into(),
        _ => {}
    }
    if let Some(Field::Text(text)) = roles.prompt.map(|at| take(row, at)) {
        pair.prompt = text;
    }
    Ok(pair)
}

fn gather<'a>(into: &mut Vec<Cow<'a, str>>, from: &[usize], row: &mut Row<'a>) -> Result<(), (usize, &'static str)> {
    for at in from {
        match take(row, *at) {
            Field::Null => {}
            Field::Text(text) => into.push(text),
            Field::Texts(texts) if into.is_empty() => *into = texts,
            Field::Texts(texts) => into.extend(texts),
            other => {
                row[*at].1 = other;
                return Err((*at, "a text or a list of texts"));
            }
        }
    }
    Ok(())
}

fn scores(from: Option<usize>, row: &mut Row<'_>, texts: usize) -> Result<Vec<f32>, (usize, &'static str)> {
    let Some(at) = from else { return Ok(Vec::new()) };
    let scores = match take(row, at) {
        Field::Null => Vec::new(),
        Field::Texts(none) if none.is_empty() => Vec::new(),
        Field::Numbers(scores) => scores,
        Field::Float(score) => vec![score as f32],
        Field::Int(score) => vec![score as f32],
        other => {
            row[at].1 = other;
            return Err((at, "a list of numbers"));
        }
    };
    if scores.is_empty() || scores.len() == texts {
        Ok(scores)
    } else {
        row[at].1 = Field::Other("a list of another length");
        Err((at, "one score for each text"))
    }
}

fn kind(field: &Field<'_>) -> Option<Task> {
    match field {
        Field::Text(kind) => Task::from_flag_embedding_type(kind),
        _ => None,
    }
}

/// Lets the label and the score say what the row is.
fn label<'a>(
    roles: &PairShape,
    row: &Row<'_>,
    layout: &Layout,
    line: u64,
    mut pair: RawPair<'a>,
) -> Result<Result<RawPair<'a>, Bad>> {
    let mut verdict = Verdict::Positive(None);
    if let Some(at) = roles.label {
        let field = &row[at].1;
        verdict = judge(field, &layout.labels);
        if verdict == Verdict::Unknown {
            let value = written(field);
            let message = format!(
                "label `{value}` has no meaning; expected 1, 0, entailment, contradiction or -; hint: say what it means, as labels.{value} = \"positive\", \"negative\" or \"drop\""
            );
            return Err(Error::corpus(&layout.path, Some(line), message));
        }
    }
    let mut missing = verdict == Verdict::Drop;
    if let Some(at) = roles.score {
        let field = &row[at].1;
        let Ok(score) = grade(field) else {
            let message = format!(
                "score `{}` is no number; hint: name the score column in columns.score, or columns.score = [] to read none",
                written(field)
            );
            return Err(Error::corpus(&layout.path, Some(line), message));
        };
        missing |= score.is_none() && roles.label.is_none();
        verdict = match verdict {
            Verdict::Positive(own) => Verdict::Positive(score.or(own)),
            Verdict::Negative(own) => Verdict::Negative(score.or(own)),
            other => other,
        };
    }
    if missing {
        return Ok(Err((Reason::NoLabel, "no label".into())));
    }
    if pair.pos.is_empty() {
        return Ok(Err((Reason::NoPositive, "no positive".into())));
    }
    match verdict {
        Verdict::Positive(Some(grade)) => pair.pos_scores = vec![grade; pair.pos.len()],
        Verdict::Negative(grade) => to_negative(&mut pair, grade),
        _ => {}
    }
    Ok(Ok(pair))
}

/// A row labelled negative: its second texts become negatives.
fn to_negative(pair: &mut RawPair<'_>, grade: Option<f32>) {
    let mut neg = std::mem::take(&mut pair.pos);
    let mut neg_scores = std::mem::take(&mut pair.pos_scores);
    if let Some(grade) = grade {
        neg_scores = vec![grade; neg.len()];
    }
    if !neg_scores.is_empty() || !pair.neg_scores.is_empty() {
        neg_scores.resize(neg.len(), f32::NAN);
        pair.neg_scores.resize(pair.neg.len(), f32::NAN);
        neg_scores.append(&mut pair.neg_scores);
    }
    neg.append(&mut pair.neg);
    pair.neg = neg;
    pair.neg_scores = neg_scores;
}
