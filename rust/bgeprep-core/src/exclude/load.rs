//! Benchmark files → texts and judged pairs.

use std::collections::{HashMap, HashSet};
use std::path::Path;

use super::records::{Judgement, Record};
use super::texts::{Budget, Place, Texts, TextsBuilder};
use super::{BenchmarkFile, BenchmarkKind, BenchmarkSpec, ExcludeRules, FileRole};
use crate::clean::text::{Identity, TextForm, clean};
use crate::progress::Progress;
use crate::read::TextLines;
use crate::shard::reports::{BenchmarkEntry, BenchmarkHits};
use crate::{Error, Result};

/// What the files hold.
#[derive(Debug)]
pub(super) struct Loaded {
    pub(super) queries: Texts,
    pub(super) passages: Texts,
    /// (query, passage judged relevant to it), sorted.
    pub(super) judged: Vec<(u32, u32)>,
    pub(super) entries: Vec<BenchmarkEntry>,
    pub(super) warnings: Vec<String>,
    pub(super) budget: Budget,
}

/// Reads all files of all benchmarks.
pub(super) fn load(rules: &ExcludeRules, memory: u64, progress: &Progress) -> Result<Loaded> {
    let mut loader = Loader {
        corpus: rules.corpus,
        progress,
        budget: Budget::new(memory),
        queries: TextsBuilder::default(),
        passages: TextsBuilder::default(),
        judged: Vec::new(),
        warnings: Vec::new(),
        cleaned: String::new(),
        normal: String::new(),
    };
    let mut entries = Vec::new();
    for (number, spec) in rules.benchmarks.iter().enumerate() {
        let (queries, passages) = match spec.kind {
            BenchmarkKind::Beir => loader.collection(number as u32, spec)?,
            BenchmarkKind::Text => (loader.texts(number as u32, spec)?, 0),
        };
        if queries + passages == 0 {
            let path = spec.files.first().map_or_else(|| Path::new(&spec.name), |file| &file.path);
            let message =
                "expected texts to compare with, found none; hint: a corpus alone is compared with --exclude-corpus";
            return Err(Error::corpus(path, None, message));
        }
        let kind = spec.kind.name().to_owned();
        entries.push(BenchmarkEntry {
            name: spec.name.clone(),
            kind,
            queries,
            passages,
            hits: BenchmarkHits::default(),
        });
    }
    let Loader { queries, passages, mut judged, warnings, budget, .. } = loader;
    judged.sort_unstable();
    judged.dedup();
    let (queries, passages) = (queries.finish(), passages.finish());
    Ok(Loaded { queries, passages, judged, entries, warnings, budget })
}

struct Loader<'a> {
    corpus: bool,
    progress: &'a Progress,
    budget: Budget,
    queries: TextsBuilder,
    passages: TextsBuilder,
    judged: Vec<(u32, u32)>,
    warnings: Vec<String>,
    cleaned: String,
    normal: String,
}

/// What the judgements of one collection say.
#[derive(Default)]
struct Judgements {
    /// Judged queries, by id: a number each.
    queries: HashMap<String, u32>,
    /// By id of a passage: the queries it is relevant to.
    passages: HashMap<String, Vec<u32>>,
    /// Queries of the training split, which are no benchmark.
    training: HashSet<String>,
}

impl Loader<'_> {
    /// A collection; returns the numbers of queries and passages compared.
    fn collection(&mut self, benchmark: u32, spec: &BenchmarkSpec) -> Result<(u64, u64)> {
        let mut judgements = self.judgements(spec)?;
        let mut found: Vec<Option<u32>> = vec![None; judgements.queries.len()];
        let mut missing: HashSet<String> = judgements.queries.keys().cloned().collect();
        let (mut queries, mut training) = (0, 0);
        for (place, file) in files(benchmark, spec, FileRole::Queries) {
            self.records(file, |loader, line, record| {
                let (Some(id), Some(text)) = (record.id(), record.text.as_deref()) else {
                    return Err("expected \"_id\" and \"text\", found an object without".to_owned().into());
                };
                if judgements.training.contains(id) {
                    training += 1;
                    return Ok(());
                }
                missing.remove(id);
                if let Some(number) = loader.query(text, id, Place { line, ..place })? {
                    queries += 1;
                    if let Some(&judged) = judgements.queries.get(id) {
                        found[judged as usize] = Some(number);
                    }
                }
                Ok(())
            })?;
        }
        if training > 0 {
            self.warnings.push(format!("{}: {training} queries of the training split are not compared", spec.name));
        }
        self.warn_missing(spec, "queries", missing.len(), missing.iter().min());

        let mut passages = 0;
        if self.corpus || !judgements.passages.is_empty() {
            for (place, file) in files(benchmark, spec, FileRole::Corpus) {
                self.records(file, |loader, line, record| {
                    let (Some(id), Some(text)) = (record.id(), record.text.as_deref()) else {
                        return Err("expected \"_id\" and \"text\", found an object without".to_owned().into());
                    };
                    let judged_by = judgements.passages.remove(id).unwrap_or_default();
                    let judged_by: Vec<u32> = judged_by.iter().filter_map(|&query| found[query as usize]).collect();
                    if judged_by.is_empty() && !loader.corpus {
                        return Ok(());
                    }
                    passages += 1;
                    let title = record.title.as_deref().filter(|title| !title.trim().is_empty());
                    let whole = title.map(|title| format!("{title} {text}"));
                    for text in whole.iter().map(String::as_str).chain([text]) {
                        let Some(number) = loader.passage(text, id, Place { line, ..place })? else { continue };
                        loader.judged.extend(judged_by.iter().map(|&query| (query, number)));
                    }
                    Ok(())
                })?;
            }
            let missing = judgements.passages.len();
            self.warn_missing(spec, "passages", missing, judgements.passages.keys().min());
        }
        Ok((queries, passages))
    }

    fn warn_missing(&mut self, spec: &BenchmarkSpec, what: &str, count: usize, example: Option<&String>) {
        if let Some(example) = example {
            self.warnings
                .push(format!("{}: the judgements name {count} {what} that are not there, as {example}", spec.name));
        }
    }

    /// The judgements of all splits but the training split, where there is another.
    fn judgements(&self, spec: &BenchmarkSpec) -> Result<Judgements> {
        let mut found = Judgements::default();
        let is_training =
            |file: &BenchmarkFile| file.origin.rsplit('/').next().is_some_and(|name| name.starts_with("train."));
        let of_role: Vec<&BenchmarkFile> = files(0, spec, FileRole::Qrels).map(|(_, file)| file).collect();
        let has_other = of_role.iter().any(|file| !is_training(file));
        for file in of_role {
            let mut lines = TextLines::open(&file.path)?;
            let mut first = true;
            while let Some((line, text)) = lines.next_line()? {
                self.progress.check()?;
                let header = std::mem::take(&mut first);
                let Some(judgement) = Judgement::parse(text) else {
                    if header {
                        continue;
                    }
                    let message = "expected query-id, corpus-id and a score, with tabs between, found another line";
                    return Err(Error::corpus(&file.path, Some(line), message));
                };
                if is_training(file) && has_other {
                    found.training.insert(judgement.query.to_owned());
                    continue;
                }
                let next = found.queries.len() as u32;
                let query = *found.queries.entry(judgement.query.to_owned()).or_insert(next);
                if judgement.grade > 0.0 {
                    found.passages.entry(judgement.passage.to_owned()).or_default().push(query);
                }
            }
        }
        found.training.retain(|query| !found.queries.contains_key(query));
        Ok(found)
    }

    /// Lists of texts; returns their number.
    fn texts(&mut self, benchmark: u32, spec: &BenchmarkSpec) -> Result<u64> {
        let mut queries = 0;
        for (place, file) in files(benchmark, spec, FileRole::Lines) {
            let mut lines = TextLines::open(&file.path)?;
            while let Some((line, text)) = lines.next_line()? {
                self.progress.check()?;
                queries += u64::from(self.query(text, "", Place { line, ..place })?.is_some());
            }
        }
        for (place, file) in files(benchmark, spec, FileRole::Records) {
            self.records(file, |loader, line, record| {
                let Some(text) = record.query() else {
                    return Err("expected \"query\", \"question\" or \"text\", found an object without"
                        .to_owned()
                        .into());
                };
                let id = record.id().unwrap_or_default();
                queries += u64::from(loader.query(text, id, Place { line, ..place })?.is_some());
                Ok(())
            })?;
        }
        Ok(queries)
    }

    /// Gives every record of a file to `take`, with its line.
    fn records(
        &mut self,
        file: &BenchmarkFile,
        mut take: impl FnMut(&mut Self, u64, Record) -> Result<(), Fault>,
    ) -> Result<()> {
        let mut lines = TextLines::open(&file.path)?;
        while let Some((line, text)) = lines.next_line()? {
            self.progress.check()?;
            let taken = Record::parse(text).map_err(Fault::from).and_then(|record| take(self, line, record));
            taken.map_err(|fault| match fault {
                Fault::Line(message) => Error::corpus(&file.path, Some(line), message),
                Fault::Other(error) => error,
            })?;
        }
        Ok(())
    }

    fn query(&mut self, text: &str, id: &str, place: Place) -> Result<Option<u32>> {
        let hash = self.normalise(text);
        self.queries.add((&self.normal, hash), id, place, &mut self.budget)
    }

    fn passage(&mut self, text: &str, id: &str, place: Place) -> Result<Option<u32>> {
        let hash = self.normalise(text);
        self.passages.add((&self.normal, hash), id, place, &mut self.budget)
    }

    /// The form that rows have when they are compared: cleaned, then normalised.
    fn normalise(&mut self, text: &str) -> u128 {
        Identity::of(clean(text, TextForm::STRICT, &mut self.cleaned), &mut self.normal).hash
    }
}

/// What is wrong with a line, or with more than that.
enum Fault {
    Line(String),
    Other(Error),
}

impl From<String> for Fault {
    fn from(message: String) -> Self {
        Self::Line(message)
    }
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Other(error)
    }
}

/// The files of one role, with the place of their line 0.
fn files(benchmark: u32, spec: &BenchmarkSpec, role: FileRole) -> impl Iterator<Item = (Place, &BenchmarkFile)> {
    let files = spec.files.iter().enumerate().filter(move |(_, file)| file.role == role);
    files.map(move |(file, entry)| (Place { benchmark, file: file as u32, line: 0 }, entry))
}
