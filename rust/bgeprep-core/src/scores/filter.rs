//! Which positives of a row stay by their scores, and the counts of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::ScoreTable;
use crate::clean::text::content_hash;
use crate::clean::{CleanPair, Removed};
use crate::config::{MissingScores, ScoreRules};
use crate::report::{Reason, RejectPart};
use crate::shard::reports::ScoreReport;
use crate::shuffle::RowId;
use crate::{Error, Result};

/// Bins of the histogram in a unit of score.
const BINS: f32 = 20.0;

/// Most pairs without a score that an error names.
const NAMED: usize = 5;

/// What the filter saw. Counts of several threads add up.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScoreCounts {
    pairs: u64,
    missing: u64,
    below: u64,
    /// Pairs by the lower end of their bin, in bins.
    bins: BTreeMap<i32, u64>,
    /// The first rows without a score, in the order of the input.
    first_missing: Vec<(u32, u64)>,
}

impl ScoreCounts {
    /// Adds what another thread counted.
    pub fn merge(&mut self, other: Self) {
        self.pairs += other.pairs;
        self.missing += other.missing;
        self.below += other.below;
        for (bin, count) in other.bins {
            *self.bins.entry(bin).or_insert(0) += count;
        }
        self.first_missing.extend(other.first_missing);
        self.first_missing.sort_unstable();
        self.first_missing.truncate(NAMED);
    }

    fn miss(&mut self, row: RowId) {
        self.missing += 1;
        let place = (row.file, row.line);
        if self.first_missing.last() != Some(&place) {
            self.first_missing.push(place);
            if self.first_missing.len() > 2 * NAMED {
                self.first_missing.sort_unstable();
                self.first_missing.truncate(NAMED);
            }
        }
    }

    /// The error of a run that may miss no score and did; `origin` gives a row's raw file and line.
    ///
    /// # Errors
    /// `Corpus` with the first rows without a score; what `origin` says.
    pub fn check<'a>(&self, rules: &ScoreRules, origin: impl Fn(RowId) -> Result<(&'a str, u64)>) -> Result<()> {
        if rules.missing != MissingScores::Error || self.missing == 0 {
            return Ok(());
        }
        let places = self.first_missing.iter().map(|&(file, line)| {
            let (file, line) = origin(RowId { file, line })?;
            Ok(format!("{file}:{line}"))
        });
        let places = places.collect::<Result<Vec<_>>>()?.join(", ");
        let (missing, pairs) = (self.missing, self.pairs);
        let message = format!(
            "{missing} of {pairs} (query, positive) pairs have no score, the first at {places}; hint: score this input \
             with the cleaning rules of this run, or say --missing-scores keep or drop"
        );
        Err(Error::corpus(&rules.path, None, message))
    }

    /// What the manifest says of the filter.
    pub fn report(&self, rules: &ScoreRules) -> ScoreReport {
        ScoreReport {
            pairs: self.pairs,
            missing: self.missing,
            below: self.below,
            // The decimal that the user wrote, not the binary fraction that stands for it.
            threshold: rules.min_score.to_string().parse().unwrap_or(f64::from(rules.min_score)),
            histogram: self.bins.iter().map(|(&bin, &count)| (f64::from(bin) / f64::from(BINS), count)).collect(),
        }
    }
}

/// The filter; shared by all threads.
#[derive(Debug)]
pub struct ScoreFilter {
    rules: ScoreRules,
    table: ScoreTable,
}

impl ScoreFilter {
    /// A filter by these rules and scores.
    pub fn new(rules: ScoreRules, table: ScoreTable) -> Self {
        Self { rules, table }
    }

    /// Takes the positives that do not pass out of `pair`; true if the row stays. What went is appended to `removed`,
    /// which holds nothing but this row's; where the row goes, that is all that is said of it. The scores themselves
    /// are left behind.
    pub fn apply(
        &self,
        row: RowId,
        pair: &mut CleanPair,
        removed: &mut Vec<Removed>,
        counts: &mut ScoreCounts,
    ) -> bool {
        if pair.pos.is_empty() {
            // A labelled negative has no pair that could be judged.
            return true;
        }
        let query = content_hash(&pair.query.text);
        let mut cause: Option<(Reason, String)> = None;
        pair.pos.retain(|positive| {
            let verdict = self.judge(self.table.get(&query, &content_hash(&positive.text)), row, counts);
            let Some((reason, detail)) = verdict else { return true };
            cause.get_or_insert_with(|| (reason, detail.clone()));
            removed.push(Removed { part: RejectPart::Positive, item: positive.item, reason, detail });
            false
        });
        if !pair.pos.is_empty() {
            pair.has_pos_scores = pair.pos.iter().any(|text| !text.score.is_nan());
            return true;
        }
        if let Some((reason, detail)) = cause {
            removed.clear();
            removed.push(Removed { part: RejectPart::Row, item: 0, reason, detail: format!("positive: {detail}") });
        }
        false
    }

    /// Why a pair of this score goes, if it does.
    fn judge(&self, score: Option<f32>, row: RowId, counts: &mut ScoreCounts) -> Option<(Reason, String)> {
        counts.pairs += 1;
        let Some(score) = score else {
            counts.miss(row);
            return (self.rules.missing == MissingScores::Drop)
                .then(|| (Reason::NoScore, "the scorer has not seen this pair".to_owned()));
        };
        *counts.bins.entry((score * BINS).floor().clamp(-1e6, 1e6) as i32).or_insert(0) += 1;
        if score >= self.rules.min_score {
            return None;
        }
        counts.below += 1;
        Some((Reason::LowScore, format!("score {score} is below {}", self.rules.min_score)))
    }
}
