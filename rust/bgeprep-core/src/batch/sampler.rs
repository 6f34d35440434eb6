//! Which source gives the next batch.
//!
//! The `k`-th batch of a source falls due at `(k + u) / share`, with `u` in `[0, 1)` drawn for that
//! batch; the source whose batch is due first has the turn. So shares hold to within one batch at
//! every moment, and yet no period appears that a training run could resonate with.

use super::permute::{Use, fraction, seed_of};

/// When the next batch of a source is due, in turns of the schedule over the sum of the shares.
fn due(seed: u64, round: u64, source: usize, turns: u64, share: f64) -> f64 {
    let jitter = fraction(seed_of(Use::Schedule, &[seed, round, source as u64, turns]));
    (turns as f64 + jitter) / share
}

/// The source with the turn: `candidates` are (source, turns so far, share above 0). `round` tells
/// apart schedules that start anew (the epochs of a run that takes all rows once).
pub(crate) fn next_source(seed: u64, round: u64, candidates: impl Iterator<Item = (usize, u64, f64)>) -> Option<usize> {
    candidates
        .map(|(source, turns, share)| (due(seed, round, source, turns, share), source))
        .min_by(|one, other| one.0.total_cmp(&other.0).then(one.1.cmp(&other.1)))
        .map(|(_, source)| source)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(shares: &[f64], steps: usize) -> Vec<usize> {
        let mut turns = vec![0; shares.len()];
        let next = |_| {
            let candidates = shares.iter().enumerate().map(|(source, share)| (source, turns[source], *share));
            let source = next_source(42, 0, candidates).unwrap();
            turns[source] += 1;
            source
        };
        (0..steps).map(next).collect()
    }

    #[test]
    fn shares_hold_at_every_moment() {
        let shares = [0.5, 3.0, 1.25, 0.01];
        let total: f64 = shares.iter().sum();
        let mut turns = [0.0; 4];
        for (step, source) in run(&shares, 20_000).into_iter().enumerate() {
            turns[source] += 1.0;
            for (count, share) in turns.iter().zip(shares) {
                let fair = (step + 1) as f64 * share / total;
                assert!((count - fair).abs() <= 3.0, "step {step}: {count} against {fair}");
            }
        }
    }

    #[test]
    fn equal_shares_do_not_alternate() {
        let order = run(&[1.0, 1.0], 1_000);
        let repeats = order.windows(2).filter(|pair| pair[0] == pair[1]).count();
        assert!((100..900).contains(&repeats), "{repeats}");
    }
}
