//! One row against all benchmarks.

use super::Benchmarks;
use super::contain::Held;
use super::near::Scratch;
use super::texts::{Place, Texts};
use crate::clean::{CleanPair, CleanText};
use crate::pair::SetKind;
use crate::shard::reports::BenchmarkHits;

/// What a row met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitKind {
    /// A query, equal or near.
    Query,
    /// A query and a passage judged for it.
    Pair,
    /// A passage of the corpus, equal or near.
    Passage,
    /// A long text within one of the row's.
    Containment,
}

/// A benchmark text that a row, or one of its positives, goes for.
#[derive(Debug, Clone, PartialEq)]
pub struct Hit {
    /// What was met.
    pub kind: HitKind,
    /// Index of the benchmark.
    pub benchmark: u32,
    /// Its name.
    pub name: String,
    /// The file in it.
    pub file: String,
    /// The line in the file.
    pub line: u64,
    /// The id of the text, empty if it has none.
    pub id: String,
    /// Jaccard similarity, none for containment.
    pub similarity: Option<f64>,
    /// What met what, for a person.
    pub detail: String,
    /// The positive in question, if it is not the query.
    pub positive: Option<usize>,
}

/// What has to go.
#[derive(Debug, Clone, PartialEq)]
pub enum Hits {
    /// Nothing.
    None,
    /// The row.
    Row(Box<Hit>),
    /// Positives, by index, ascending.
    Positives(Vec<(usize, Hit)>),
}

impl HitKind {
    /// Counts one more of this kind.
    pub fn count(self, hits: &mut BenchmarkHits) {
        match self {
            Self::Query => hits.query += 1,
            Self::Pair => hits.pair += 1,
            Self::Passage => hits.passage += 1,
            Self::Containment => hits.containment += 1,
        }
    }
}

/// Compares rows; one for each thread.
#[derive(Debug)]
pub struct Checker<'a> {
    benchmarks: &'a Benchmarks,
    scratch: Scratch,
    /// What the row at hand is.
    kind: SetKind,
}

/// A text met: similarity, number.
type Match = (f64, u32);

impl<'a> Checker<'a> {
    /// A checker against these benchmarks.
    pub fn new(benchmarks: &'a Benchmarks) -> Self {
        Self { benchmarks, scratch: Scratch::default(), kind: SetKind::Pairs }
    }

    /// What of a row has to go. In a `symmetric` one both texts are queries.
    pub fn check(&mut self, pair: &CleanPair, symmetric: bool) -> Hits {
        self.kind = pair.kind;
        if let Some(hit) = self.query(&pair.query, pair.pos.iter(), None) {
            return Hits::Row(Box::new(hit));
        }
        if symmetric {
            for (item, text) in pair.pos.iter().enumerate() {
                if let Some(hit) = self.query(text, std::iter::once(&pair.query), Some(item)) {
                    return Hits::Row(Box::new(hit));
                }
            }
        }
        let mut positives = Vec::new();
        if self.benchmarks.corpus {
            if symmetric && let Some(hit) = self.passage(&pair.query, None) {
                return Hits::Row(Box::new(hit));
            }
            let hits = pair.pos.iter().enumerate();
            positives.extend(hits.filter_map(|(item, text)| Some((item, self.passage(text, Some(item))?))));
        }
        let none_left = !positives.is_empty() && positives.len() == pair.pos.len();
        if !none_left && !self.benchmarks.containment.is_empty() {
            let stays = |item: &usize| positives.iter().all(|(gone, _)| gone != item);
            let rest = pair.pos.iter().enumerate().filter(|(item, _)| stays(item));
            let mut texts = std::iter::once((None, &pair.query)).chain(rest.map(|(item, text)| (Some(item), text)));
            if let Some(hit) = texts.find_map(|(item, text)| self.held(text, item)) {
                return Hits::Row(Box::new(hit));
            }
        }
        if positives.is_empty() { Hits::None } else { Hits::Positives(positives) }
    }

    /// `text` as a query, and the texts that answer it in its row.
    fn query<'t>(
        &mut self,
        text: &CleanText,
        answers: impl Iterator<Item = &'t CleanText>,
        positive: Option<usize>,
    ) -> Option<Hit> {
        let all = self.benchmarks;
        let met = matches(&all.queries, text, |found| {
            all.near_queries.find(&all.queries, &text.normal, &mut self.scratch, found);
        });
        let &best = met.first()?;
        let role = role(self.kind, positive);
        let how = |number: u32| {
            let equal = all.queries.get(number) == text.normal;
            let verb = if equal { "equals" } else { "nearly equals" };
            format!("the {role} {verb} a benchmark query")
        };
        let mut passages = Vec::new();
        for answer in answers {
            passages.append(&mut matches(&all.passages, answer, |found| {
                all.near_passages.find(&all.passages, &answer.normal, &mut self.scratch, found);
            }));
        }
        for &(similarity, query) in &met {
            let judged = |&&(_, passage): &&Match| all.judged.binary_search(&(query, passage)).is_ok();
            if let Some(&(_, passage)) = passages.iter().find(judged) {
                let detail = format!("{}, its answer the judged passage {}", how(query), all.passages.id(passage));
                return Some(all.hit(HitKind::Pair, (&all.queries, query), Some(similarity), detail, positive));
            }
        }
        Some(all.hit(HitKind::Query, (&all.queries, best.1), Some(best.0), how(best.1), positive))
    }

    /// `text` as a passage of a corpus.
    fn passage(&mut self, text: &CleanText, positive: Option<usize>) -> Option<Hit> {
        let all = self.benchmarks;
        let met = matches(&all.passages, text, |found| {
            all.near_passages.find(&all.passages, &text.normal, &mut self.scratch, found);
        });
        let &(similarity, number) = met.first()?;
        let verb = if all.passages.get(number) == text.normal { "equals" } else { "nearly equals" };
        let role = role(self.kind, positive);
        let detail = format!("the {role} {verb} a passage of the benchmark's corpus");
        Some(all.hit(HitKind::Passage, (&all.passages, number), Some(similarity), detail, positive))
    }

    /// A benchmark text within `text`.
    fn held(&mut self, text: &CleanText, positive: Option<usize>) -> Option<Hit> {
        let all = self.benchmarks;
        let texts = (&all.queries, &all.passages);
        let (found, what) = match all.containment.find(texts, &text.normal, self.scratch.shingler())? {
            Held::Query(number) => ((&all.queries, number), "query"),
            Held::Passage(number) => ((&all.passages, number), "judged passage"),
        };
        let role = role(self.kind, positive);
        let detail = format!("contained: the {role} holds a benchmark's {what}");
        Some(all.hit(HitKind::Containment, found, None, detail, positive))
    }
}

/// What a text of a row is called.
fn role(kind: SetKind, positive: Option<usize>) -> &'static str {
    match (kind, positive) {
        (SetKind::Pairs, None) => "query",
        (SetKind::Pairs, Some(_)) => "positive",
        (SetKind::Text, None) => "title",
        (SetKind::Text, Some(_)) => "text",
    }
}

/// The equal text and the near ones, the most similar first, the equal one before all.
fn matches(texts: &Texts, text: &CleanText, near: impl FnOnce(&mut Vec<Match>)) -> Vec<Match> {
    let equal = texts.equal(&text.normal, text.identity.hash);
    let mut found = Vec::new();
    near(&mut found);
    found.retain(|&(_, number)| Some(number) != equal);
    found.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    if let Some(number) = equal {
        found.insert(0, (1.0, number));
    }
    found
}

impl Benchmarks {
    fn hit(
        &self,
        kind: HitKind,
        (texts, number): (&Texts, u32),
        similarity: Option<f64>,
        detail: String,
        positive: Option<usize>,
    ) -> Hit {
        let Place { benchmark, file, line } = texts.place(number);
        let spec = &self.names[benchmark as usize];
        Hit {
            kind,
            benchmark,
            name: spec.name.clone(),
            file: spec.files[file as usize].origin.clone(),
            line,
            id: texts.id(number).to_owned(),
            similarity,
            detail,
            positive,
        }
    }
}
