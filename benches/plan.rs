//! Planning whole epochs of shard sets, on keys alone, one thread.
//!
//! `cargo bench -p bgeprep-bench --bench plan -- [--negatives N] [--rounds N] SHARDS…`; without sets, one of 50,000 rows
//! is made. Prints a line a set and batch size: seconds to the first batch (rows that share keys are found before it) and
//! rows a second behind it and with it, medians; and a hash of all batches, which another version must give as well.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use bgeprep_bench::{Corpus, plan, run_options};
use bgeprep_core::batch::{Mix, NegativeChoice, PlanOptions, Planner, SetRows};
use bgeprep_core::pipeline;
use bgeprep_core::progress::Progress;
use bgeprep_core::shard::ShardSet;

const ROWS: usize = 50_000;

/// One run over an epoch.
struct Run {
    first: f64,
    whole: f64,
    rows: u64,
    rows_of_first: u64,
    hash: u64,
}

fn run(shards: &Path, batch_size: u64, negatives: u32) -> Run {
    let options = PlanOptions {
        batch_size,
        seed: 1,
        num_epochs: Some(1),
        max_steps: None,
        mix: Mix::AllRows,
        negatives,
        negative_choice: NegativeChoice::Sample,
        drop_last: false,
        min_fill: 0.01,
        top_up: true,
        groups: Vec::new(),
        mixed: false,
        clusters: None,
    };
    let started = Instant::now();
    let rows = SetRows::new(ShardSet::open(shards).expect("set")).expect("rows");
    let mut planner = Planner::new(Arc::new(rows), &options).expect("plan");
    let (mut first, mut rows, mut rows_of_first, mut hash) = (0.0, 0, 0, DefaultHasher::new());
    while let Some(batch) = planner.next_batch().expect("batch") {
        rows += batch.chosen.rows.len() as u64;
        if batch.step == 0 {
            first = started.elapsed().as_secs_f64();
            rows_of_first = rows;
        }
        let chosen = &batch.chosen;
        (&chosen.rows, &chosen.positives, &chosen.negatives, &chosen.negative_offsets).hash(&mut hash);
    }
    Run { first, whole: started.elapsed().as_secs_f64(), rows, rows_of_first, hash: hash.finish() }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn main() {
    let (mut sets, mut negatives, mut rounds) = (Vec::<PathBuf>::new(), 0, 3);
    let mut arguments = std::env::args().skip(1).filter(|argument| argument != "--bench");
    while let Some(argument) = arguments.next() {
        let mut number = || arguments.next().and_then(|number| number.parse().ok()).expect("a number");
        match argument.as_str() {
            "--negatives" => negatives = number(),
            "--rounds" => rounds = number() as usize,
            _ => sets.push(argument.into()),
        }
    }
    let folder = tempfile::tempdir().expect("folder");
    if sets.is_empty() {
        let text = Corpus::new(5).jsonl(ROWS);
        let path = folder.path().join("pairs.jsonl");
        fs_err::write(&path, &text).expect("write");
        let out = folder.path().join("shards");
        pipeline::run(&plan(&path, text.len() as u64), &run_options(&out), &Progress::default()).expect("run");
        sets.push(out);
    }
    let mut out = std::io::stdout().lock();
    for shards in sets {
        for batch_size in [256, 4096, 32_768] {
            let runs: Vec<Run> = (0..rounds).map(|_| run(&shards, batch_size, negatives)).collect();
            let behind = |run: &Run| (run.rows - run.rows_of_first) as f64 / (run.whole - run.first);
            writeln!(
                out,
                "{:>10} rows, batch {batch_size:>6}: first {:.3} s, behind it {:>9.0} rows/s, whole {:>9.0} rows/s, {:016x}",
                runs[0].rows,
                median(runs.iter().map(|run| run.first).collect()),
                median(runs.iter().map(behind).collect()),
                median(runs.iter().map(|run| run.rows as f64 / run.whole).collect()),
                runs[0].hash,
            )
            .expect("write");
        }
    }
}
