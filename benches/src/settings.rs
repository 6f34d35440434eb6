//! The settings that the Python front would choose, for benches that run without it.

use std::path::Path;

use bgeprep_core::clean::CleanRules;
use bgeprep_core::clean::text::TextForm;
use bgeprep_core::config::{DedupMode, DedupRules, InputFile, PrepPlan, RunOptions, SourceSpec};
use bgeprep_core::exclude::ExcludeRules;
use bgeprep_core::pair::Task;
use bgeprep_core::read::{CHUNK_BYTES, ColumnMapping, Format, ReadOptions};

/// Reading with everything left to detection.
pub fn read_options() -> ReadOptions {
    ReadOptions {
        format: Format::Auto,
        columns: ColumnMapping::default(),
        labels: Vec::new(),
        header: None,
        delimiter: None,
        quoting: None,
        cut: None,
        max_line_bytes: 8 << 20,
        chunk_bytes: CHUNK_BYTES,
    }
}

/// The cleaning rules at their defaults.
pub fn clean_rules() -> CleanRules {
    CleanRules {
        form: TextForm::STRICT,
        min_query_chars: 2,
        max_query_chars: 16_384,
        min_passage_chars: 2,
        max_passage_chars: 131_072,
        query_equals_positive: true,
        max_repeated_share: 0.6,
        max_symbol_share: 0.8,
        noise_min_chars: 10,
        language: None,
        max_repeated_phrase_share: 2.0,
        boilerplate: None,
    }
}

/// A run over one file.
pub fn plan(path: &Path, bytes: u64) -> PrepPlan {
    PrepPlan {
        sources: vec![SourceSpec {
            name: "pairs".to_owned(),
            task: Task::Retrieval,
            language: String::new(),
            weight: f64::NAN,
            instruction: String::new(),
            priority: 0,
            merge_positives: false,
            read: read_options(),
            clean: clean_rules(),
            inputs: vec![InputFile { location: path.into(), origin: "pairs.jsonl".to_owned(), bytes, set: None }],
            against: false,
        }],
        dedup: DedupRules { mode: DedupMode::Exact, near_threshold: 0.8, permutations: 128, max_cluster: 32 },
        exclude: ExcludeRules { benchmarks: Vec::new(), corpus: false, containment: true },
        scores: None,
        max_bad: 0.05,
        seed: 42,
        part_bytes: 64 << 20,
        config: serde_json::Value::Null,
    }
}

/// Two threads, the default memory.
pub fn run_options(out: &Path) -> RunOptions {
    RunOptions {
        threads: 2,
        memory: 256 << 20,
        out: out.to_owned(),
        work: out.join(".work"),
        fingerprint: "bench".to_owned(),
        log: serde_json::Map::new(),
    }
}
