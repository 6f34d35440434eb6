//! The Python config dataclasses as the core sees them. A missing attribute fails at the border.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bgeprep_core::clean::CleanRules;
use bgeprep_core::clean::text::TextForm;
use bgeprep_core::config::{DedupMode, DedupRules, InputFile, PrepPlan, RunOptions, SourceSpec};
use bgeprep_core::pair::Task;
use bgeprep_core::read::{CHUNK_BYTES, ColumnMapping, Format, LabelMeaning, ReadOptions};
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
}

/// `bgeprep.config.DedupConfig`.
#[derive(FromPyObject)]
struct DedupConfig {
    mode: String,
    near_threshold: f64,
    permutations: usize,
    max_cluster: usize,
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
    clean: CleanConfig,
    dedup: DedupConfig,
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
    etag: String,
}

/// `bgeprep.inputs.Source`.
#[derive(FromPyObject)]
pub(crate) struct Source {
    config: SourceConfig,
    files: Vec<PyInputFile>,
    priority: u32,
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
pub(crate) fn plan(config: PrepConfig, sources: Vec<Source>, resolved: &str, stores: &Stores) -> Result<PrepPlan> {
    let PrepConfig { read, clean, dedup, shard } = config;
    Ok(PrepPlan {
        sources: sources.into_iter().map(|source| source_spec(source, &read, stores)).collect::<Result<_>>()?,
        clean: CleanRules {
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
        },
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
        max_bad: read.max_bad,
        seed: shard.seed,
        part_bytes: shard.part_bytes,
        config: serde_json::from_str(resolved).map_err(|error| Error::Internal(error.to_string()))?,
    })
}

fn source_spec(source: Source, read: &ReadConfig, stores: &Stores) -> Result<SourceSpec> {
    let Source { config, files, priority } = source;
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
            other => {
                let known = "query, pos, neg, pos_scores, neg_scores, label, score, id, prompt, type";
                let message = format!("unknown role {other}; expected one of {known}");
                return Err(Error::config(format!("sources.{}.columns", config.name), message));
            }
        };
        *slot = Some(names);
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
            max_line_bytes: read.max_line_bytes,
            chunk_bytes: CHUNK_BYTES,
        },
        inputs: files
            .into_iter()
            .map(|file| {
                let location = stores.locate(&file.path, file.bytes, &file.etag)?;
                Ok(InputFile { location, origin: file.origin, bytes: file.bytes })
            })
            .collect::<Result<_>>()?,
    })
}
