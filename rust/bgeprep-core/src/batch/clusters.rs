//! Topic clusters of rows: batches whose rows are alike, so that in-batch negatives are hard.

use xxhash_rust::xxh3::xxh3_64;

use super::permute::{Use, fraction, seed_of};
use super::rows::PlanSource;
use crate::{Error, Result};

/// A cluster for each row of a set, and how much of a pass is drawn within clusters.
#[derive(Debug, Clone, PartialEq)]
pub struct Clusters {
    ids: Vec<u32>,
    share: f64,
}

impl Clusters {
    /// `ids` has one entry a row of the set, in row order; `share` of the rows of a pass come in batches of one
    /// cluster, or of as few as fill it, the others in ordinary ones.
    ///
    /// # Errors
    /// `Config` if there are not as many ids as rows, or the share is none.
    pub fn new(ids: Vec<u32>, rows: u64, share: f64) -> Result<Self> {
        if ids.len() as u64 != rows {
            let message = format!("expected a cluster for each of the {rows} rows of the set, found {}", ids.len());
            return Err(Error::config("batch.clusters", message));
        }
        if !(0.0..=1.0).contains(&share) {
            let message = format!("expected a share from 0 to 1, found {share}");
            return Err(Error::config("batch.cluster_share", message));
        }
        Ok(Self { ids, share })
    }

    /// Names the clusters: a state made with others is refused.
    pub(crate) fn describe(&self) -> String {
        let bytes: Vec<u8> = self.ids.iter().flat_map(|id| id.to_le_bytes()).collect();
        format!("{:016x}, share {}", xxh3_64(&bytes), self.share)
    }

    /// The rows of a source in the order of one pass: runs of `batch_size` rows, each of one kind.
    pub(super) fn order(&self, source: &PlanSource, batch_size: usize, key: u64) -> Vec<u32> {
        let cluster = |row: u32| u64::from(self.ids[(source.first + u64::from(row)) as usize]);
        let draw = |row: u32| seed_of(Use::Clusters, &[key, 0, u64::from(row)]);
        let (mut hard, mut plain): (Vec<u32>, Vec<u32>) =
            (0..source.rows as u32).partition(|row| fraction(draw(*row)) < self.share);
        // Clusters in drawn order, rows of a cluster in drawn order; the draw above is used up, so another one.
        let again = |row: u32| seed_of(Use::Clusters, &[key, 1, u64::from(row)]);
        hard.sort_by_cached_key(|row| (seed_of(Use::Clusters, &[key, 2, cluster(*row)]), again(*row)));
        plain.sort_by_cached_key(|row| again(*row));
        let mut runs: Vec<(u64, &[u32])> = Vec::new();
        for (kind, rows) in [&hard, &plain].into_iter().enumerate() {
            let whole = rows.chunks_exact(batch_size);
            let rest = whole.remainder();
            let drawn = whole.enumerate();
            runs.extend(drawn.map(|(at, run)| (seed_of(Use::Clusters, &[key, 3 + kind as u64, at as u64]), run)));
            // What fills no batch comes last.
            runs.push((u64::MAX, rest));
        }
        runs.sort_by_key(|(turn, _)| *turn);
        runs.into_iter().flat_map(|(_, run)| run.iter().copied()).collect()
    }
}
