//! MinHash signatures and their bands (Broder 1997; locality-sensitive banding after Leskovec,
//! Rajaraman, Ullman, "Mining of Massive Datasets", ch. 3).
//!
//! Lane i of a signature is the smallest value of `mix((shingle ^ b_i) · a_i)` over all shingles,
//! in 32 bits: AVX2 multiplies eight of those at once and has no 64-bit multiplication. Two texts
//! agree in a lane with a probability of their Jaccard similarity s, so a band of r lanes agrees
//! with s^r and at least one of b bands with 1 − (1 − s^r)^b. More bands of fewer lanes find more,
//! and more that is not near; each candidate is verified, so recall decides.

use xxhash_rust::xxh3::xxh3_64;

/// Lanes whose running minima the processor holds in registers at a time.
const TILE: usize = 32;

/// Probability with which two texts at the threshold must become candidates.
const RECALL_AT_THRESHOLD: f64 = 0.98;

/// Bits of a band hash.
pub const BAND_BITS: u32 = 40;

/// How lanes are cut into bands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Banding {
    /// Number of bands.
    pub bands: usize,
    /// Lanes in a band.
    pub rows: usize,
}

impl Banding {
    /// The longest bands whose recall at `threshold` is at least .98, or bands of one lane.
    pub fn for_threshold(threshold: f64, permutations: usize) -> Self {
        let of = |rows: usize| Self { bands: permutations / rows, rows };
        let finds = |banding: &Self| banding.recall(threshold) >= RECALL_AT_THRESHOLD;
        (1..=permutations).rev().map(of).find(finds).unwrap_or_else(|| of(1))
    }

    /// Probability that two texts of this similarity become candidates.
    pub fn recall(self, similarity: f64) -> f64 {
        1.0 - (1.0 - similarity.powi(self.rows as i32)).powi(self.bands as i32)
    }

    /// Lanes in use.
    pub fn lanes(self) -> usize {
        self.bands * self.rows
    }
}

/// The constants of one lane count; shared by all threads.
#[derive(Debug, Clone)]
pub struct MinHash {
    multipliers: Vec<[u32; TILE]>,
    masks: Vec<[u32; TILE]>,
    lanes: usize,
}

impl MinHash {
    /// Signatures of `lanes` lanes. The constants are fixed: a signature is part of no file that
    /// outlives a run, but which near pairs are found must not change from run to run.
    pub fn new(lanes: usize) -> Self {
        let tiles = lanes.div_ceil(TILE);
        let number = |lane: usize, kind: u64| xxh3_64(&[lane as u64, kind].map(u64::to_le_bytes).concat()) as u32;
        let tile = |tile: usize, kind: u64| std::array::from_fn(|lane| number(tile * TILE + lane, kind));
        Self {
            multipliers: (0..tiles).map(|at| tile(at, 0).map(|number: u32| number | 1)).collect(),
            masks: (0..tiles).map(|at| tile(at, 1)).collect(),
            lanes,
        }
    }

    /// The signature of a text with these shingles, at least one.
    pub fn signature(&self, shingles: &[u64], out: &mut Vec<u32>) {
        out.clear();
        let narrow = |shingle: &u64| (shingle >> 32) as u32;
        let tiles = self.multipliers.iter().zip(&self.masks);
        #[cfg(target_arch = "x86_64")]
        if std::arch::is_x86_feature_detected!("avx2") {
            for (multipliers, masks) in tiles {
                #[expect(unsafe_code, reason = "the processor was asked for AVX2 just above")]
                // SAFETY: the function needs nothing but AVX2, which is there.
                let minima = unsafe { minima_avx2(shingles, multipliers, masks) };
                out.extend_from_slice(&minima);
            }
            out.truncate(self.lanes);
            return;
        }
        for (multipliers, masks) in tiles {
            out.extend_from_slice(&minima(shingles.iter().map(narrow), multipliers, masks));
        }
        out.truncate(self.lanes);
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn minima_avx2(shingles: &[u64], multipliers: &[u32; TILE], masks: &[u32; TILE]) -> [u32; TILE] {
    minima(shingles.iter().map(|shingle| (shingle >> 32) as u32), multipliers, masks)
}

/// The compiler makes vector code of the inner loop; the same source serves every processor.
#[expect(clippy::inline_always, reason = "inlined, it is compiled once more with AVX2; called, it is not")]
#[inline(always)]
fn minima(shingles: impl Iterator<Item = u32>, multipliers: &[u32; TILE], masks: &[u32; TILE]) -> [u32; TILE] {
    let mut minima = [u32::MAX; TILE];
    for shingle in shingles {
        for lane in 0..TILE {
            let product = (shingle ^ masks[lane]).wrapping_mul(multipliers[lane]);
            minima[lane] = minima[lane].min(product ^ (product >> 15));
        }
    }
    minima
}

/// Shingles → band hashes; owns scratch space, one for each thread.
#[derive(Debug, Clone)]
pub struct Sketcher {
    hashes: MinHash,
    banding: Banding,
    signature: Vec<u32>,
}

impl Sketcher {
    /// A sketcher for this banding.
    pub fn new(banding: Banding) -> Self {
        Self { hashes: MinHash::new(banding.lanes()), banding, signature: Vec::new() }
    }

    /// The banding in use.
    pub fn banding(&self) -> Banding {
        self.banding
    }

    /// One hash of [`BAND_BITS`] bits a band, for a text with at least one shingle.
    pub fn bands(&mut self, shingles: &[u64]) -> impl Iterator<Item = u64> + '_ {
        self.hashes.signature(shingles, &mut self.signature);
        self.signature.chunks_exact(self.banding.rows).map(|band| {
            let folded = band.iter().fold(band.len() as u64, |hash, &lane| {
                (hash ^ u64::from(lane)).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29)
            });
            folded.wrapping_mul(0xd6e8_feb8_6659_fd93) >> (64 - BAND_BITS)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_follow_from_the_threshold() {
        let banding = Banding::for_threshold(0.8, 128);
        assert_eq!(banding, Banding { bands: 18, rows: 7 });
        assert!(banding.recall(0.8) > 0.98 && banding.recall(0.9) > 0.9999 && banding.recall(0.4) < 0.05);
        assert_eq!(Banding::for_threshold(1.0, 128), Banding { bands: 1, rows: 128 });
        assert!(Banding::for_threshold(0.5, 128).recall(0.5) >= 0.98);
    }

    /// Draws sets of `size` shingles with the similarity common / (2 size − common).
    fn estimate(size: usize, common: usize, trials: u64) -> (f64, f64, f64) {
        let hashes = MinHash::new(128);
        let (mut sum, mut squares) = (0.0, 0.0);
        let (mut left, mut right) = (Vec::new(), Vec::new());
        for trial in 0..trials {
            let shingle = |side: u64, at: usize| xxh3_64(&[trial, side, at as u64].map(u64::to_le_bytes).concat());
            let set = |side: u64| -> Vec<u64> {
                (0..size).map(|at| shingle(if at < common { 0 } else { side }, at)).collect()
            };
            hashes.signature(&set(1), &mut left);
            hashes.signature(&set(2), &mut right);
            let agree = left.iter().zip(&right).filter(|(a, b)| a == b).count() as f64 / 128.0;
            sum += agree;
            squares += agree * agree;
        }
        let mean = sum / trials as f64;
        let truth = common as f64 / (2 * size - common) as f64;
        (mean - truth, (squares / trials as f64 - mean * mean).sqrt(), (truth * (1.0 - truth) / 128.0).sqrt())
    }

    #[test]
    fn the_estimate_has_no_bias_and_the_spread_of_theory() {
        for (size, common) in [(24, 16), (24, 21), (60, 40), (60, 53), (200, 133)] {
            let (bias, spread, theory) = estimate(size, common, 3000);
            assert!(bias.abs() <= 0.003, "bias {bias} at {size}/{common}");
            assert!((0.8..1.1).contains(&(spread / theory)), "spread {spread}, theory {theory}");
        }
    }

    #[test]
    fn every_processor_gets_the_same_signature() {
        let shingles: Vec<u64> = (0..77u64).map(|n| xxh3_64(&n.to_le_bytes())).collect();
        let hashes = MinHash::new(126);
        let mut signature = Vec::new();
        hashes.signature(&shingles, &mut signature);
        assert_eq!(signature.len(), 126);
        let plain: Vec<u32> = hashes
            .multipliers
            .iter()
            .zip(&hashes.masks)
            .flat_map(|(a, b)| minima(shingles.iter().map(|shingle| (shingle >> 32) as u32), a, b))
            .take(126)
            .collect();
        assert_eq!(signature, plain);
    }
}
