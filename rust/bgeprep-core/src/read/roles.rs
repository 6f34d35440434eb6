//! From the columns that a record has to the roles that they play.

use std::path::PathBuf;

use super::columns::{Claim, ColumnMapping, Role, config_key};
use super::field::Field;
use super::labels::LabelMeaning;
use super::origin::{self, Origin, OriginFields};
use super::txt::Cut;
use super::unmapped::Unmapped;
use crate::report::Reason;
use crate::{Error, Result};

/// What is known of a file before its records are parsed; shared by all its chunks.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    /// For messages.
    pub(super) path: PathBuf,
    pub(super) columns: ColumnMapping,
    pub(super) labels: Vec<(String, LabelMeaning)>,
    pub(super) max_line_bytes: usize,
    /// Whether the file has a label or score column, so that a row without one is a reject
    /// rather than a plain pair.
    pub(super) labelled: bool,
    /// Header of CSV and TSV (`1`, `2`, … without one); empty for other formats.
    pub(super) header: Vec<String>,
    pub(super) delimiter: u8,
    pub(super) quoting: bool,
    /// What of plain text is one document.
    pub(super) cut: Cut,
}

/// The fields of one record with the number of their column.
pub(super) type Row<'a> = Vec<(u16, Field<'a>)>;

/// Columns met so far, numbered in order of appearance, and the shape of the last record.
#[derive(Debug)]
pub(super) struct Columns<'l> {
    pub(super) layout: &'l Layout,
    seen: Vec<Column>,
    signature: Vec<u32>,
    shape: Shape,
    origin: OriginFields,
    overflow: Unmapped,
}

#[derive(Debug)]
struct Column {
    name: String,
    claim: Option<Claim>,
    ignored: u64,
}

/// Which field of a record plays which role: positions in the record's `Row`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct PairShape {
    pub(super) query: usize,
    pub(super) pos: Vec<usize>,
    pub(super) neg: Vec<usize>,
    pub(super) label: Option<usize>,
    pub(super) score: Option<usize>,
    pub(super) id: Option<usize>,
    pub(super) prompt: Option<usize>,
    pub(super) kind: Option<usize>,
    pub(super) pos_scores: Option<usize>,
    pub(super) neg_scores: Option<usize>,
}

/// What a record with certain columns is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Shape {
    Pair { roles: PairShape, ignored: Vec<u16> },
    Set { at: usize, ignored: Vec<u16> },
    Text { at: usize, title: Option<usize>, ignored: Vec<u16> },
    Bad { reason: Reason, detail: String },
}

/// Columns beyond this many are counted, but never looked at: a file whose keys are data must not
/// eat the memory or the time.
const MAX_COLUMNS: usize = 512;

impl<'l> Columns<'l> {
    pub(super) fn new(layout: &'l Layout) -> Self {
        Self {
            layout,
            seen: Vec::new(),
            signature: Vec::new(),
            shape: Shape::Bad { reason: Reason::UnknownShape, detail: "no columns".into() },
            origin: None,
            overflow: Unmapped::default(),
        }
    }

    /// The number of a column, `None` for one that nothing asks for (which is counted here).
    /// `after` is the number of the record's column before: records tend to keep one order.
    pub(super) fn number(&mut self, name: &str, after: Option<u16>) -> Option<u16> {
        let guess = after.map_or(0, |number| usize::from(number) + 1);
        let number = match self.seen.get(guess) {
            Some(column) if column.name == name => guess,
            _ => match self.seen.iter().position(|column| column.name == name) {
                Some(number) => number,
                None if self.seen.len() < MAX_COLUMNS => {
                    let claim = self.layout.columns.claim(name);
                    self.seen.push(Column { name: name.to_owned(), claim, ignored: 0 });
                    self.seen.len() - 1
                }
                None => {
                    self.overflow.add(name, 1);
                    return None;
                }
            },
        };
        Some(number as u16)
    }

    /// What a column may serve as.
    pub(super) fn role(&self, number: u16) -> Option<Role> {
        Some(self.seen.get(usize::from(number))?.claim?.role)
    }

    /// Whether a column may serve as anything.
    pub(super) fn is_wanted(&self, number: u16) -> bool {
        self.role(number).is_some()
    }

    /// The origin that the last record, whose shape was asked for, brings along. Fields that give none count as ignored.
    pub(super) fn origin<'a>(&mut self, row: &mut Row<'a>) -> Option<Origin<'a>> {
        let (file, line) = self.origin?;
        let found = Origin::of(std::mem::replace(&mut row[file].1, Field::Null), &row[line].1);
        if found.is_none() {
            self.ignore(row[file].0);
            self.ignore(row[line].0);
        }
        found
    }

    /// Counts one more record that carried a column nobody asked for.
    pub(super) fn ignore(&mut self, number: u16) {
        if let Some(column) = self.seen.get_mut(usize::from(number)) {
            column.ignored += 1;
        }
    }

    /// Whether one of the columns met is a label or a score.
    pub(super) fn has_labels(&self) -> bool {
        self.seen.iter().any(|column| column.claim.is_some_and(|claim| matches!(claim.role, Role::Label | Role::Score)))
    }

    /// Adds what was ignored to the caller's tally.
    pub(super) fn report(&self, tally: &mut Unmapped) {
        for column in &self.seen {
            tally.add(&column.name, column.ignored);
        }
        tally.merge(&self.overflow);
    }

    /// The shape of a record; worked out anew only where its columns differ from the last one's.
    pub(super) fn shape(&mut self, row: &Row<'_>, line: u64) -> Result<&Shape> {
        let signature = || row.iter().map(|(number, field)| u32::from(*number) << 1 | u32::from(*field == Field::Null));
        if row.is_empty() || !signature().eq(self.signature.iter().copied()) {
            self.shape = self.resolve(row, Some(line))?;
            self.origin = origin::find(self, row);
            self.signature = signature().collect();
        }
        let (Shape::Pair { ignored, .. } | Shape::Set { ignored, .. } | Shape::Text { ignored, .. }) = &self.shape
        else {
            return Ok(&self.shape);
        };
        for number in ignored {
            if let Some(column) = self.seen.get_mut(usize::from(*number)) {
                column.ignored += 1;
            }
        }
        Ok(&self.shape)
    }

    /// Works out a shape from scratch; `line` is for messages.
    pub(super) fn resolve(&self, row: &Row<'_>, line: Option<u64>) -> Result<Shape> {
        let claims: Vec<(usize, Claim, bool)> = row
            .iter()
            .enumerate()
            .filter_map(|(at, (number, field))| {
                let claim = self.seen.get(usize::from(*number))?.claim?;
                Some((at, claim, *field == Field::Null))
            })
            .collect();
        let of = |role: Role| {
            let mut found: Vec<(u16, usize)> = claims
                .iter()
                .filter(|(_, claim, null)| claim.role == role && (!null || matches!(role, Role::Label | Role::Score)))
                .map(|(at, claim, _)| (claim.rank, *at))
                .collect();
            found.sort_unstable();
            found
        };
        if of(Role::ShardSet).len() >= 2 && !of(Role::OriginLine).is_empty() {
            return Err(self.refuse(
                line,
                "this is a part of a shard set; hint: give the folder of the set, the one with manifest.json",
            ));
        }
        let first = |role: Role| of(role).first().map(|(_, at)| *at);
        if self.layout.columns.is_of_texts() {
            let document = self.document(row, &of);
            return Ok(document.unwrap_or_else(|| self.incomplete(row, &claims, Role::Text)));
        }
        let (query, pos) = (of(Role::Query), of(Role::Pos));
        if query.is_empty() || pos.is_empty() {
            if let (Some(at), true, true) = (first(Role::Set), query.is_empty(), pos.is_empty()) {
                return Ok(Shape::Set { at, ignored: self.ignored(row, vec![at]) });
            }
            // A title alone is no query where there is a text that it is the title of.
            let titles = pos.is_empty() && query.iter().all(|(_, at)| self.is_title(row, *at));
            if let (true, Some(document)) = (titles, self.document(row, &of)) {
                return Ok(document);
            }
            self.refuse_nested(row, line, &of)?;
            let lacks_text = titles && claims.iter().any(|(_, claim, _)| claim.role == Role::Text);
            let role = if query.is_empty() { Role::Query } else { Role::Pos };
            return Ok(self.incomplete(row, &claims, if lacks_text { Role::Text } else { role }));
        }
        let query = self.one(row, line, Role::Query, &query)?;
        let pos = if self.layout.columns.pos.is_some() {
            pos.iter().map(|(_, at)| *at).collect()
        } else {
            vec![self.one(row, line, Role::Pos, &pos)?]
        };
        let roles = PairShape {
            query,
            pos,
            neg: of(Role::Neg).iter().map(|(_, at)| *at).collect(),
            label: first(Role::Label),
            score: first(Role::Score),
            id: first(Role::Id),
            prompt: first(Role::Prompt),
            kind: first(Role::Kind),
            pos_scores: first(Role::PosScores),
            neg_scores: first(Role::NegScores),
        };
        if self.layout.labelled && roles.label.is_none() && roles.score.is_none() {
            let detail = "no label, in a file whose rows have labels".to_owned();
            return Ok(Shape::Bad { reason: Reason::NoLabel, detail });
        }
        let mut used = vec![roles.query];
        used.extend(roles.pos.iter().chain(&roles.neg));
        used.extend(
            [roles.label, roles.score, roles.id, roles.prompt, roles.kind, roles.pos_scores, roles.neg_scores]
                .into_iter()
                .flatten(),
        );
        Ok(Shape::Pair { roles, ignored: self.ignored(row, used) })
    }

    /// The shape of a record with a text, as a document.
    fn document(&self, row: &Row<'_>, of: &impl Fn(Role) -> Vec<(u16, usize)>) -> Option<Shape> {
        let at = of(Role::Text).first()?.1;
        let usual = || of(Role::Query).into_iter().find(|(_, at)| self.is_title(row, *at));
        let named = of(Role::Title).into_iter().next();
        let title = if self.layout.columns.title.is_some() { named } else { usual() }.map(|(_, at)| at);
        Some(Shape::Text { at, title, ignored: self.ignored(row, title.into_iter().chain([at]).collect()) })
    }

    fn is_title(&self, row: &Row<'_>, at: usize) -> bool {
        self.name(row, at).eq_ignore_ascii_case("title")
    }

    /// The one column for the query or the positive; two that are equally good are an error.
    fn one(&self, row: &Row<'_>, line: Option<u64>, role: Role, found: &[(u16, usize)]) -> Result<usize> {
        let what = if role == Role::Query { "query" } else { "positive" };
        match found {
            [(best, _), (next, _), ..] if best == next => {
                let key = config_key(role);
                let names: Vec<_> =
                    found.iter().filter(|(rank, _)| rank == best).map(|(_, at)| self.name(row, *at)).collect();
                let message = format!(
                    "several columns could be the {what}: {}; hint: name one, as {key} = [\"{}\"]",
                    names.join(", "),
                    names[0]
                );
                Err(self.refuse(line, &message))
            }
            [(_, at), ..] => Ok(*at),
            [] => Err(Error::Internal(format!("no column for the {what}"))),
        }
    }

    /// The error for what is understood, but takes a recipe.
    fn refuse_nested(&self, row: &Row<'_>, line: Option<u64>, of: &impl Fn(Role) -> Vec<(u16, usize)>) -> Result<()> {
        let nested = of(Role::Nested).into_iter().any(|(_, at)| matches!(row[at].1, Field::Other(_)));
        if nested && of(Role::Pos).is_empty() {
            return Err(self.refuse(line, "these are nested records as in SQuAD (paragraphs, questions inside), which need a recipe; recipes are not supported yet"));
        }
        Ok(())
    }

    /// What a record is that lacks the column for `role`.
    fn incomplete(&self, row: &Row<'_>, claims: &[(usize, Claim, bool)], role: Role) -> Shape {
        if let Some((at, ..)) = claims.iter().find(|(_, claim, null)| claim.role == role && *null) {
            let reason = if role == Role::Pos { Reason::NoPositive } else { Reason::EmptyField };
            return Shape::Bad { reason, detail: format!("`{}` is null", self.name(row, *at)) };
        }
        let what = match role {
            Role::Query => "query",
            Role::Text => "text",
            _ => "positive",
        };
        let mut names: Vec<&str> = row.iter().enumerate().map(|(at, _)| self.name(row, at)).collect();
        names.truncate(20);
        let found = if names.is_empty() { "none that is known".to_owned() } else { names.join(", ") };
        Shape::Bad { reason: Reason::UnknownShape, detail: format!("no column for the {what}; columns: {found}") }
    }

    pub(super) fn name(&self, row: &Row<'_>, at: usize) -> &str {
        self.seen.get(usize::from(row[at].0)).map_or("?", |column| column.name.as_str())
    }

    /// The columns beside those that are used and those of the origin.
    fn ignored(&self, row: &Row<'_>, mut used: Vec<usize>) -> Vec<u16> {
        used.extend(origin::find(self, row).map(|(file, line)| [file, line]).into_iter().flatten());
        let left = row.iter().enumerate().filter(|(at, (_, field))| !used.contains(at) && *field != Field::Null);
        left.map(|(_, (number, _))| *number).collect()
    }

    fn refuse(&self, line: Option<u64>, message: &str) -> Error {
        Error::corpus(&self.layout.path, line, message)
    }
}

#[cfg(test)]
#[path = "roles_tests.rs"]
mod tests;
