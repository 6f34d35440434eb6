//! How much near dedup finds, measured on a sample of the very corpus.
//!
//! Of a random sample of texts hardly two are near each other. So texts are chosen by their
//! content: a text is in the sample if one of its shingles has a hash below a limit. Two near texts
//! share most shingles, so the sample holds most of the partners of its texts. The hash is another
//! one than MinHash's, so whether a pair is in the sample says nothing of whether banding finds it.
//! Long texts have more shingles and are chosen more often. Within the sample every near pair is
//! found exactly, by prefix filtering (Chaudhuri, Ganti, Kaushik, ICDE 2006, "A Primitive Operator
//! for Similarity Joins in Data Cleaning").

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read};
use std::path::Path;

use super::prefix::{Counters, Postings, first};
use super::shingle::{Rule, Shingler, jaccard};
use super::table::NearTable;
use crate::clean::text::normalise;
use crate::shard::reports::Rate;
use crate::{Error, Result};

/// Texts that a sample should hold.
const SAMPLE_TEXTS: f64 = 8_000.0;

/// Bytes of text of which one shingle begins, roughly.
const BYTES_PER_SHINGLE: f64 = 6.0;

/// Most bytes of text that are compared.
const SAMPLE_BYTES: usize = 8 << 20;

/// Members of one cluster in the sample that are compared with each other for the precision.
const CLUSTER_SAMPLE: usize = 32;

/// Chooses texts by their shingles.
#[derive(Debug, Clone, Copy)]
pub struct SampleRule {
    limit: u64,
}

impl SampleRule {
    /// A rule for an input of about this many bytes of text.
    pub fn for_bytes(bytes: u64) -> Self {
        let share = (SAMPLE_TEXTS * BYTES_PER_SHINGLE / bytes.max(1) as f64).min(1.0);
        Self { limit: (share * u64::MAX as f64) as u64 }
    }

    /// The rank of a text in the sample, None if it is not in it.
    pub fn rank(self, shingles: &[u64]) -> Option<u64> {
        let hash = |shingle: &u64| (shingle ^ 0x5851_f42d_4c95_7f2d).wrapping_mul(0xda94_2042_e4dd_58b5);
        let least = shingles.iter().map(hash).min()?;
        (least <= self.limit).then_some(least)
    }
}

/// Appends a text of the sample to `out`: `bytes u32 │ rank u64 │ key u64 │ UTF-8`.
pub fn encode(rank: u64, key: u64, normal: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(&(normal.len() as u32).to_le_bytes());
    out.extend_from_slice(&rank.to_le_bytes());
    out.extend_from_slice(&key.to_le_bytes());
    out.extend_from_slice(normal.as_bytes());
}

/// The texts of a sample file by exact key, the lowest ranks first until there are enough bytes.
fn load(path: &Path) -> Result<Vec<(u64, String)>> {
    let file = match std::fs::File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io(path, "read")(error)),
    };
    let mut reader = BufReader::with_capacity(1 << 18, file);
    let (mut kept, mut bytes) = (BTreeMap::<(u64, u64), String>::new(), 0);
    let mut head = [0; 20];
    loop {
        match reader.read_exact(&mut head) {
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => break,
            result => result.map_err(Error::io(path, "read"))?,
        }
        let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
        let length = u32::from_le_bytes(std::array::from_fn(|i| head[i])) as usize;
        let mut text = vec![0; length];
        reader.read_exact(&mut text).map_err(Error::io(path, "read"))?;
        let text = String::from_utf8(text).map_err(|_| Error::Internal("a sample holds no UTF-8".to_owned()))?;
        if kept.insert((long(4), long(12)), text).is_none() {
            bytes += length;
        }
        while bytes > SAMPLE_BYTES && kept.len() > 1 {
            let last = kept.pop_last();
            bytes -= last.map_or(0, |(_, text)| text.len());
        }
    }
    let mut texts: Vec<(u64, String)> = kept.into_iter().map(|((_, key), text)| (key, text)).collect();
    texts.sort_unstable();
    Ok(texts)
}

/// Calls `found` with all pairs of places whose sets reach the threshold, the earlier first, but for those that are
/// not `wanted`. By prefixes.
pub(crate) fn near_pairs(
    sets: &[Vec<u64>],
    threshold: f64,
    wanted: impl Fn(usize, usize) -> bool,
    mut found: impl FnMut(usize, usize),
) {
    let mut counters = Counters::new(sets.iter().map(Vec::len).sum());
    sets.iter().flatten().for_each(|shingle| counters.add(*shingle));
    let prefix_of = |set: &Vec<u64>| -> Vec<u64> {
        let mut order: Vec<(u16, u64)> = set.iter().map(|shingle| counters.place(*shingle)).collect();
        first(&mut order, threshold).iter().map(|&(_, shingle)| shingle).collect()
    };
    let prefixes: Vec<Vec<u64>> = sets.iter().map(prefix_of).collect();
    let numbered = prefixes.iter().enumerate();
    let postings =
        Postings::new(numbered.flat_map(|(at, set)| set.iter().map(move |hash| (*hash, at as u32))).collect());
    for (at, set) in sets.iter().enumerate() {
        let met = prefixes[at].iter().flat_map(|shingle| postings.get(*shingle)).map(|other| *other as usize);
        let partners: BTreeSet<usize> = met.filter(|other| *other < at).collect();
        for other in partners {
            if wanted(other, at) && jaccard(&sets[other], set) >= threshold {
                found(other, at);
            }
        }
    }
}

/// Recall of the clusters of one space and precision of its near pairs, on the sample in `path`.
/// None where the sample holds nothing to count.
pub fn measure(path: &Path, rule: Rule, threshold: f64, table: &NearTable) -> Result<(Option<Rate>, Option<Rate>)> {
    let texts = load(path)?;
    let (mut shingler, mut normal) = (Shingler::default(), String::new());
    let sets: Vec<Vec<u64>> = texts.iter().map(|(_, text)| shingler.set(normalise(text, &mut normal), rule)).collect();
    let clusters: Vec<u64> = texts.iter().map(|(key, _)| table.cluster(*key)).collect();
    let (mut near, mut together) = (0, 0);
    near_pairs(
        &sets,
        threshold,
        |_, _| true,
        |one, other| {
            near += 1;
            together += u64::from(clusters[one] == clusters[other]);
        },
    );
    let recall = Rate::of(texts.len() as u64, near, together);

    // Only texts of one cluster can have been called near.
    let mut members: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    for (at, cluster) in clusters.iter().enumerate() {
        members.entry(*cluster).or_default().push(at);
    }
    let (mut called, mut right) = (0, 0);
    for members in members.values() {
        let members = &members[..members.len().min(CLUSTER_SAMPLE)];
        for (at, &one) in members.iter().enumerate() {
            for &other in &members[at + 1..] {
                if table.similarity(texts[one].0, texts[other].0).is_some() {
                    called += 1;
                    right += u64::from(jaccard(&sets[one], &sets[other]) >= threshold);
                }
            }
        }
    }
    Ok((recall, Rate::of(texts.len() as u64, called, right)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::near::table::{Member, NearPair, TableWriter};

    fn texts() -> Vec<String> {
        let mut texts = Vec::new();
        for family in 0..40 {
            for copy in 0..=(family % 4) {
                let words = (0..50).map(|n| format!("f{family}w{} ", if n < copy * 2 { 900 + n } else { n }));
                texts.push(words.collect());
            }
        }
        texts
    }

    #[test]
    fn prefix_filtering_finds_what_all_comparisons_find() {
        let mut shingler = Shingler::default();
        for rule in Rule::ALL {
            let sets: Vec<Vec<u64>> = texts().iter().map(|text| shingler.set(text, rule)).collect();
            let mut slow = Vec::new();
            for other in 0..sets.len() {
                slow.extend((0..other).filter(|&one| jaccard(&sets[one], &sets[other]) >= 0.8).map(|one| (one, other)));
            }
            assert!(slow.len() > 20);
            let mut found = Vec::new();
            near_pairs(&sets, 0.8, |_, _| true, |one, other| found.push((one, other)));
            assert_eq!(found, slow);
        }
    }

    #[test]
    fn near_texts_are_sampled_together() {
        let rule = SampleRule::for_bytes(2_000_000);
        let (mut shingler, mut both, mut one) = (Shingler::default(), 0, 0);
        for n in 0..3_000 {
            let words: Vec<String> = (0..60).map(|w| ((n * 60 + w) * 7919).to_string()).collect();
            let text = |last: &str| words.join(" ") + " " + last;
            let chosen = ["same words", "other words"]
                .map(|last| rule.rank(shingler.shingles(&text(last), Rule::Passage)).is_some());
            both += usize::from(chosen == [true; 2]);
            one += usize::from(chosen.contains(&true));
        }
        assert!(one > 500 && one < 2_900, "{one}");
        assert!(both as f64 > 0.85 * one as f64, "{both} of {one}");
    }

    #[test]
    fn a_missed_pair_shows() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("sample");
        let (mut bytes, texts) = (Vec::new(), texts());
        for (key, text) in texts.iter().enumerate() {
            encode(SampleRule::for_bytes(1).rank(&[key as u64]).expect("all"), key as u64, text, &mut bytes);
        }
        fs_err::write(&path, &bytes).expect("write");
        // Texts 1 and 2 are family 1, texts 3 to 5 family 2; nothing else is clustered.
        let mut table = TableWriter::create(folder.path(), "passage").expect("create");
        for (key, cluster) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 3), (6, 3)] {
            table.member(Member { key, cluster }).expect("member");
        }
        for (left, right) in [(1, 2), (3, 4), (3, 6)] {
            table.pair(NearPair { left, right, jaccard: 0.9 }).expect("pair");
        }
        table.finish().expect("finish");
        let table = NearTable::open(folder.path(), "passage").expect("open");
        let (recall, precision) = measure(&path, Rule::Passage, 0.8, &table).expect("measure");
        let (recall, precision) = (recall.expect("pairs"), precision.expect("pairs"));
        assert!(
            recall.found < recall.pairs && recall.found >= 2 && recall.low < recall.rate && recall.rate < recall.high
        );
        assert_eq!((precision.found, precision.pairs), (2, 3), "text 6 is no family of 3 to 5");
        assert_eq!(Rate::of(10, 100, 100).map(|rate| (rate.low * 1000.0).round()), Some(963.0));
        assert_eq!(measure(&folder.path().join("none"), Rule::Query, 0.8, &table).expect("none"), (None, None));
    }
}
