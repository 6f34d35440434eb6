//! Percentiles of text lengths in constant memory, the same for any split over threads.

use serde::{Deserialize, Serialize};

use crate::shard::LengthStats;

/// Lengths below this are counted one by one; above, in steps of about 1.6 %.
const EXACT: u64 = 1024;
const STEPS: u64 = 64;

/// Counts of lengths in characters.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LengthCounts {
    counts: Vec<u64>,
    total: u64,
    sum: u64,
    max: u64,
}

impl LengthCounts {
    /// Counts one text.
    pub fn add(&mut self, characters: u64) {
        let slot = slot(characters);
        if slot >= self.counts.len() {
            self.counts.resize(slot + 1, 0);
        }
        self.counts[slot] += 1;
        self.total += 1;
        self.sum += characters;
        self.max = self.max.max(characters);
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        if self.counts.len() < other.counts.len() {
            self.counts.resize(other.counts.len(), 0);
        }
        for (own, new) in self.counts.iter_mut().zip(&other.counts) {
            *own += new;
        }
        self.total += other.total;
        self.sum += other.sum;
        self.max = self.max.max(other.max);
    }

    /// The figures of the manifest.
    pub fn stats(&self) -> LengthStats {
        LengthStats {
            count: self.total,
            // Two decimals: the manifest is read by people, and a sum has no more to say.
            mean: if self.total == 0 { 0.0 } else { (self.sum as f64 / self.total as f64 * 100.0).round() / 100.0 },
            p5: self.percentile(5),
            p50: self.percentile(50),
            p95: self.percentile(95),
            p99: self.percentile(99),
            max: self.max,
        }
    }

    fn percentile(&self, percent: u64) -> u64 {
        let rank = (self.total * percent).div_ceil(100).max(1);
        let mut seen = 0;
        for (slot, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return value(slot as u64).min(self.max);
            }
        }
        0
    }
}

fn slot(length: u64) -> usize {
    if length < EXACT {
        return length as usize;
    }
    let octave = u64::from(length.ilog2() - EXACT.ilog2());
    (EXACT + octave * STEPS + (length - (EXACT << octave)) / ((EXACT << octave) / STEPS)) as usize
}

/// The smallest length of a slot.
fn value(slot: u64) -> u64 {
    if slot < EXACT {
        return slot;
    }
    let (octave, step) = ((slot - EXACT) / STEPS, (slot - EXACT) % STEPS);
    (EXACT << octave) + step * ((EXACT << octave) / STEPS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_close_to_the_sorted_list() {
        let lengths: Vec<u64> = (0..10_000u64).map(|n| n * n % 7_919 + n % 13 * 500).collect();
        let (mut whole, mut halves) = (LengthCounts::default(), [LengthCounts::default(), LengthCounts::default()]);
        for (index, &length) in lengths.iter().enumerate() {
            whole.add(length);
            halves[index % 2].add(length);
        }
        let [mut first, second] = halves;
        first.merge(&second);
        assert_eq!(whole.stats(), first.stats());
        let mut sorted = lengths;
        sorted.sort_unstable();
        let stats = whole.stats();
        for (percent, found) in [(5, stats.p5), (50, stats.p50), (95, stats.p95), (99, stats.p99)] {
            let exact = sorted[sorted.len() * percent / 100 - 1];
            assert!(found <= exact && exact - found <= exact / 50 + 1, "p{percent}: {found} for {exact}");
        }
        assert_eq!((stats.count, stats.max), (10_000, *sorted.last().expect("some")));
        assert_eq!(LengthCounts::default().stats(), LengthStats::default());
    }

    #[test]
    fn slots_grow_with_lengths() {
        for length in [0, 1, 1023, 1024, 1039, 1040, 2047, 2048, 1 << 30] {
            assert!(value(slot(length) as u64) <= length && slot(length) <= slot(length + 1), "{length}");
        }
    }
}
