//! The Python config dataclasses as the core sees them. A missing attribute fails at the border.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use bgeprep_core::clean::CleanRules;
use bgeprep_core::clean::boilerplate::Boilerplate;
use bgeprep_core::clean::language::LanguageRule;
use bgeprep_core::clean::text::TextForm;
use bgeprep_core::config::{
    DedupMode, DedupRules, InputFile, MissingScores, PrepPlan, RunOptions, ScoreRules, SourceSpec,
};
use bgeprep_core::exclude::{BenchmarkFile, BenchmarkKind, BenchmarkSpec, ExcludeRules, FileRole};
use bgeprep_core::pair::Task;
use bgeprep_core::read::{CHUNK_BYTES, ColumnMapping, Cut, Format, LabelMeaning, ReadOptions};
use bgeprep_core::store::Stores;
use bgeprep_core::{Error, Result};
use pyo3::prelude::*;

/// `bgeprep.config.ReadConfig`.
#[derive(FromPyObject)]
struct ReadConfig {
    max_line_bytes: usize,
    max_bad: f64,
}

/// `bgeprep.config.CleanConfig`.
#[derive(FromPyObject)]
struct CleanConfig {
    nfc: bool,
    strip_control: bool,
    collapse_whitespace: bool,
    newlines: String,
    min_query_chars: usize,
    max_query_chars: usize,
    min_passage_chars: usize,
    max_passage_chars: usize,
    query_equals_positive: bool,
    max_repeated_share: f32,
    max_symbol_share: f32,
    noise_min_chars: usize,
    expected_language: String,
    language_min_confidence: f64,
    language_min_letters: usize,
    max_repeated_phrase_share: f32,
    boilerplate: Vec<String>,
}

/// `bgeprep.config.DedupConfig`.
#[derive(FromPyObject)]
struct DedupConfig {
    mode: String,
    near_threshold: f64,
    permutations: usize,
    max_cluster: usize,
}

/// `bgeprep.config.ExcludeConfig`, without its paths: `bgeprep.exclude.Benchmark`s are what they hold.
#[derive(FromPyObject)]
struct ExcludeConfig {
    corpus: bool,
    containment: bool,
}

/// `bgeprep.exclude.BenchmarkFile`.
#[derive(FromPyObject)]
struct PyBenchmarkFile {
    path: PathBuf,
    origin: String,
    role: String,
}

/// `bgeprep.exclude.Benchmark`.
#[derive(FromPyObject)]
pub(crate) struct Benchmark {
    name: String,
    kind: String,
    files: Vec<PyBenchmarkFile>,
}

/// `bgeprep.scores.Scores`.
#[derive(FromPyObject)]
pub(crate) struct Scores {
    path: PathBuf,
    files: Vec<PathBuf>,
    min_score: f32,
    missing: String,
}

/// `bgeprep.config.ShardConfig`.
#[derive(FromPyObject)]
struct ShardConfig {
    seed: u64,
    part_bytes: u64,
}

/// `bgeprep.config.PrepConfig`, without its sources.
#[derive(FromPyObject)]
pub(crate) struct PrepConfig {
    read: ReadConfig,
    dedup: DedupConfig,
    exclude: ExcludeConfig,
    shard: ShardConfig,
}

/// `bgeprep.config.SourceConfig`.
#[derive(FromPyObject)]
struct SourceConfig {
    name: String,
    format: String,
    columns: BTreeMap<String, Vec<String>>,
    labels: BTreeMap<String, String>,
    header: Option<bool>,
    delimiter: Option<String>,
    quoting: Option<bool>,
    cut: Option<String>,
    task: String,
    language: String,
    weight: Option<f64>,
    instruction: String,
    merge_positives: bool,
}

/// `bgeprep.inputs.InputFile`.
#[derive(FromPyObject)]
struct PyInputFile {
    path: PathBuf,
    origin: String,
    bytes: u64,
    set: Option<PathBuf>,
    etag: String,
}

/// `bgeprep.inputs.Source`.
#[derive(FromPyObject)]
pub(crate) struct Source {
    config: SourceConfig,
    files: Vec<PyInputFile>,
    priority: u32,
    against: bool,
    clean: CleanConfig,
}

/// `bgeprep.shard.RunOptions`.
#[derive(FromPyObject)]
pub(crate) struct PyRunOptions {
    threads: usize,
    memory: u64,
    out: PathBuf,
    work: PathBuf,
    fingerprint: String,
    log: String,
}

impl TryFrom<PyRunOptions> for RunOptions {
    type Error = Error;

    fn try_from(options: PyRunOptions) -> Result<Self> {
        let PyRunOptions { threads, memory, out, work, fingerprint, log } = options;
        let log = serde_json::from_str(&log).map_err(|error| Error::Internal(error.to_string()))?;
        Ok(Self { threads, memory, out, work, fingerprint, log })
    }
}

/// The plan that a config, its sources and the resolved config as JSON make.
pub(crate) fn plan(
    config: PrepConfig,
    sources: Vec<Source>,
    (benchmarks, scores): (Vec<Benchmark>, Option<Scores>),
    resolved: &str,
    stores: &Stores,
) -> Result<PrepPlan> {
    let PrepConfig { read, dedup, exclude, shard } = config;
    Ok(PrepPlan {
        sources: sources.into_iter().map(|source| source_spec(source, &read, stores)).collect::<Result<_>>()?,
        dedup: DedupRules {
            mode: match dedup.mode.as_str() {
                "none" => DedupMode::None,
                "exact" => DedupMode::Exact,
                "near" => DedupMode::Near,
                other => {
                    return Err(Error::config("dedup.mode", format!("expected none, exact or near, found {other}")));
                }
            },
            near_threshold: dedup.near_threshold,
            permutations: dedup.permutations,
            max_cluster: dedup.max_cluster,
        },
        exclude: ExcludeRules {
            benchmarks: benchmarks.into_iter().map(benchmark_spec).collect::<Result<_>>()?,
            corpus: exclude.corpus,
            containment: exclude.containment,
        },
        scores: scores.map(score_rules).transpose()?,
        max_bad: read.max_bad,
        seed: shard.seed,
        part_bytes: shard.part_bytes,
        config: serde_json::from_str(resolved).map_err(|error| Error::Internal(error.to_string()))?,
    })
}

fn benchmark_spec(benchmark: Benchmark) -> Result<BenchmarkSpec> {
    let unknown = |what: &str, found: &str| Error::Internal(format!("unknown {what} of a benchmark: {found}"));
    let Benchmark { name, kind, files } = benchmark;
    let kind = BenchmarkKind::from_name(&kind).ok_or_else(|| unknown("kind", &kind))?;
    let file = |PyBenchmarkFile { path, origin, role }: PyBenchmarkFile| {
        let role = FileRole::from_name(&role).ok_or_else(|| unknown("file", &role))?;
        Ok(BenchmarkFile { path, origin, role })
    };
    Ok(BenchmarkSpec { name, kind, files: files.into_iter().map(file).collect::<Result<_>>()? })
}

fn score_rules(scores: Scores) -> Result<ScoreRules> {
    let missing = match scores.missing.as_str() {
        "error" => MissingScores::Error,
        "keep" => MissingScores::Keep,
        "drop" => MissingScores::Drop,
        other => return Err(Error::config("scores.missing", format!("expected error, keep or drop, found {other}"))),
    };
    Ok(ScoreRules { path: scores.path, files: scores.files, min_score: scores.min_score, missing })
}

/// The rules of one source, whose name and language are given.
fn clean_rules(clean: CleanConfig, name: &str, language: &str) -> Result<CleanRules> {
    let key = |setting: &str| format!("sources.{name}.clean.{setting}");
    let expected = match clean.expected_language.as_str() {
        "source" if language.is_empty() => {
            let message = "expected a language tag, because clean.expected_language = \"source\"; \
                           hint: say which, or set clean = { expected_language = \"\" } for this source";
            return Err(Error::config(format!("sources.{name}.language"), message));
        }
        "source" => language,
        tag => tag,
    };
    let (confidence, letters) = (clean.language_min_confidence, clean.language_min_letters);
    let rule = |tag| LanguageRule::new(tag, confidence, letters, &key("expected_language"));
    Ok(CleanRules {
        form: TextForm {
            nfc: clean.nfc,
            strip_control: clean.strip_control,
            collapse_whitespace: clean.collapse_whitespace,
            keep_newlines: clean.newlines == "keep",
        },
        min_query_chars: clean.min_query_chars,
        max_query_chars: clean.max_query_chars,
        min_passage_chars: clean.min_passage_chars,
        max_passage_chars: clean.max_passage_chars,
        query_equals_positive: clean.query_equals_positive,
        max_repeated_share: clean.max_repeated_share,
        max_symbol_share: clean.max_symbol_share,
        noise_min_chars: clean.noise_min_chars,
        language: (!expected.is_empty()).then(|| rule(expected)).transpose()?,
        max_repeated_phrase_share: clean.max_repeated_phrase_share,
        boilerplate: Boilerplate::new(&clean.boilerplate, &key("boilerplate"))?.map(Arc::new),
    })
}

fn source_spec(source: Source, read: &ReadConfig, stores: &Stores) -> Result<SourceSpec> {
    let Source { config, files, priority, against, clean } = source;
    let clean = clean_rules(clean, &config.name, &config.language)?;
    let key = |name: &str| format!("sources.{}.{name}", config.name);
    let format = Format::from_name(&config.format)
        .ok_or_else(|| Error::config(key("format"), format!("unknown format {}", config.format)))?;
    let task = Task::from_name(&config.task)
        .ok_or_else(|| Error::config(key("task"), format!("unknown task {}", config.task)))?;
    let delimiter = match config.delimiter.as_deref().map(str::as_bytes) {
        None => None,
        Some([byte]) => Some(*byte),
        Some(_) => return Err(Error::config(key("delimiter"), "expected one ASCII character")),
    };
    let cut = match config.cut.as_deref() {
        None => None,
        Some(name) => {
            let message = || format!("expected paragraph, document or line, found {name}");
            Some(Cut::from_name(name).ok_or_else(|| Error::config(key("cut"), message()))?)
        }
    };
    let mut columns = ColumnMapping::default();
    for (role, names) in config.columns {
        let slot = match role.as_str() {
            "query" => &mut columns.query,
            "pos" => &mut columns.pos,
            "neg" => &mut columns.neg,
            "pos_scores" => &mut columns.pos_scores,
            "neg_scores" => &mut columns.neg_scores,
            "label" => &mut columns.label,
            "score" => &mut columns.score,
            "id" => &mut columns.id,
            "prompt" => &mut columns.prompt,
            "type" => &mut columns.kind,
            "text" => &mut columns.text,
            "title" => &mut columns.title,
            other => {
                let known = "query, pos, neg, pos_scores, neg_scores, label, score, id, prompt, type, text, title";
                let message = format!("unknown role {other}; expected one of {known}");
                return Err(Error::config(format!("sources.{}.columns", config.name), message));
            }
        };
        *slot = Some(names);
    }
    if let Some(strange) = columns.strange_to_texts() {
        let message = format!("columns.text and columns.title are of texts, {strange} of pairs; hint: map one kind");
        return Err(Error::config(key("columns"), message));
    }
    let mut labels = Vec::new();
    for (label, meaning) in config.labels {
        let meaning = match meaning.as_str() {
            "positive" => LabelMeaning::Positive,
            "negative" => LabelMeaning::Negative,
            "drop" => LabelMeaning::Drop,
            other => {
                let message = format!("expected positive, negative or drop, found {other}");
                return Err(Error::config(format!("sources.{}.labels.{label}", config.name), message));
            }
        };
        labels.push((label, meaning));
    }
    Ok(SourceSpec {
        name: config.name,
        task,
        language: config.language,
        weight: config.weight.unwrap_or(f64::NAN),
        instruction: config.instruction,
        priority,
        merge_positives: config.merge_positives,
        read: ReadOptions {
            format,
            columns,
            labels,
            header: config.header,
            delimiter,
            quoting: config.quoting,
            cut,
            max_line_bytes: read.max_line_bytes,
            chunk_bytes: CHUNK_BYTES,
        },
        clean,
        inputs: files
            .into_iter()
            .map(|file| {
                let location = stores.locate(&file.path, file.bytes, &file.etag)?;
                Ok(InputFile { location, origin: file.origin, bytes: file.bytes, set: file.set })
            })
            .collect::<Result<_>>()?,
        against,
    })
}
