//! Candidate pairs of one partition → true similarities and clusters.
//!
//! A partition holds whole components of candidates, so whatever is near is in it together. Its
//! texts are read from memory where they fit and from disk where they do not.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::components::Components;
use super::shingle::{Rule, Shingler, jaccard};
use super::table::{Member, NearPair};
use crate::clean::text::normalise;
use crate::{Error, Result};

/// The texts of a partition: `place u32 │ bytes u32 │ UTF-8`, some of them more than once.
#[derive(Debug)]
pub struct TextStore {
    path: PathBuf,
    body: Body,
    /// (place, offset, bytes), sorted by place.
    index: Vec<(u32, u64, u32)>,
}

#[derive(Debug)]
enum Body {
    Loaded(Vec<u8>),
    OnDisk(Option<File>),
}

impl TextStore {
    /// Appends a text to the bytes of a store.
    pub fn encode(place: u32, text: &str, out: &mut Vec<u8>) {
        out.extend_from_slice(&place.to_le_bytes());
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }

    /// Opens a store that may not be there; loads it if it has at most `memory` bytes.
    pub fn open(path: &Path, memory: u64) -> Result<Self> {
        let bytes = crate::shuffle::spill::size(path)?;
        let mut store = Self { path: path.to_owned(), body: Body::OnDisk(None), index: Vec::new() };
        let mut offset = 0;
        let mut visit = |head: [u8; 8]| {
            let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
            store.index.push((word(0), offset + 8, word(4)));
            offset += 8 + u64::from(word(4));
            offset
        };
        if bytes <= memory {
            let loaded = crate::shuffle::spill::load(path)?;
            let mut at = 0;
            while let Some(head) = loaded.get(at..).and_then(|rest| rest.first_chunk::<8>()) {
                at = visit(*head) as usize;
            }
            store.body = Body::Loaded(loaded);
        } else {
            let file = File::open(path).map_err(Error::io(path, "read"))?;
            let (mut at, mut head) = (0, [0; 8]);
            while at < bytes {
                file.read_exact_at(&mut head, at).map_err(Error::io(path, "read"))?;
                at = visit(head);
            }
            store.body = Body::OnDisk(Some(file));
        }
        if offset != bytes {
            return Err(Error::Internal(format!("{}: a text store ends within a text", path.display())));
        }
        store.index.sort_unstable();
        store.index.dedup_by_key(|entry| entry.0);
        Ok(store)
    }

    /// Number of texts.
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there is no text.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    fn locate(&self, place: u32) -> Result<u32> {
        let found = self.index.binary_search_by_key(&place, |entry| entry.0);
        found.map(|at| at as u32).map_err(|_| Error::Internal("a candidate without its text".to_owned()))
    }

    fn text(&self, local: u32) -> Result<String> {
        let (_, offset, length) = self.index[local as usize];
        let bytes = match &self.body {
            Body::Loaded(all) => all[offset as usize..][..length as usize].to_vec(),
            Body::OnDisk(file) => {
                let mut bytes = vec![0; length as usize];
                if let Some(file) = file {
                    file.read_exact_at(&mut bytes, offset).map_err(Error::io(&self.path, "read"))?;
                }
                bytes
            }
        };
        String::from_utf8(bytes).map_err(|_| Error::Internal("a text store holds no UTF-8".to_owned()))
    }
}

/// What there is to decide a partition by.
#[derive(Debug, Clone, Copy)]
pub struct Verifier<'a> {
    /// Exact keys of all texts with candidates, sorted; places count in here.
    pub keys: &'a [u64],
    /// The shingles to compare.
    pub rule: Rule,
    /// Jaccard similarity from which two texts are near.
    pub threshold: f64,
    /// Most texts of a cluster that are all compared with each other.
    pub max_cluster: usize,
    /// Bytes of shingle sets that may be kept.
    pub memory: u64,
}

/// What a partition came to.
#[derive(Debug, Default, PartialEq)]
pub struct Verified {
    /// Members of clusters of two texts and more.
    pub members: Vec<Member>,
    /// All known pairs at or above the threshold.
    pub pairs: Vec<NearPair>,
    /// Pairs whose similarity was taken.
    pub compared: u64,
    /// Sizes of the clusters.
    pub sizes: Vec<u64>,
}

impl Verifier<'_> {
    /// Decides a partition: `pairs` are places, sorted, each once.
    pub fn run(&self, texts: &TextStore, pairs: &[(u32, u32)]) -> Result<Verified> {
        let mut found = Verified::default();
        let mut sets = Sets {
            texts,
            rule: self.rule,
            room: self.memory,
            kept: vec![None; texts.len()],
            shingler: Shingler::default(),
            normal: String::new(),
        };
        let mut components = Components::new(texts.len());
        let mut tested = Vec::with_capacity(pairs.len());
        let mut alike = Vec::new();
        for same_left in pairs.chunk_by(|a, b| a.0 == b.0) {
            let left = texts.locate(same_left[0].0)?;
            let left_set = sets.get(left)?;
            for pair in same_left {
                let right = texts.locate(pair.1)?;
                let similarity = jaccard(&left_set, &sets.get(right)?);
                tested.push((left, right));
                if similarity >= self.threshold {
                    components.unite(left, right);
                    alike.push((left, right, similarity as f32));
                }
            }
        }
        found.compared = tested.len() as u64;

        let mut clusters: Vec<(u32, u32)> = (0..texts.len() as u32).map(|at| (components.find(at), at)).collect();
        clusters.sort_unstable();
        for cluster in clusters.chunk_by(|a, b| a.0 == b.0).filter(|cluster| cluster.len() > 1) {
            found.sizes.push(cluster.len() as u64);
            let name = self.key(texts, cluster[0].1);
            found.members.extend(cluster.iter().map(|&(_, at)| Member { key: self.key(texts, at), cluster: name }));
            if cluster.len() > self.max_cluster {
                continue;
            }
            // A chain a ~ b ~ c says nothing of a and c, and rows go only for their own similarity.
            for (at, &(_, left)) in cluster.iter().enumerate() {
                for &(_, right) in &cluster[at + 1..] {
                    if tested.binary_search(&(left, right)).is_ok() {
                        continue;
                    }
                    let left_set = sets.get(left)?;
                    let similarity = jaccard(&left_set, &sets.get(right)?);
                    found.compared += 1;
                    if similarity >= self.threshold {
                        alike.push((left, right, similarity as f32));
                    }
                }
            }
        }
        found.pairs = alike
            .into_iter()
            .map(|(left, right, jaccard)| NearPair {
                left: self.key(texts, left),
                right: self.key(texts, right),
                jaccard,
            })
            .collect();
        found.pairs.sort_unstable_by_key(|pair| (pair.left, pair.right));
        found.members.sort_unstable();
        found.sizes.sort_unstable();
        Ok(found)
    }

    fn key(&self, texts: &TextStore, local: u32) -> u64 {
        self.keys[texts.index[local as usize].0 as usize]
    }
}

/// Shingle sets, made when first asked for and kept while there is room.
struct Sets<'a> {
    texts: &'a TextStore,
    rule: Rule,
    room: u64,
    kept: Vec<Option<std::rc::Rc<[u64]>>>,
    shingler: Shingler,
    normal: String,
}

impl Sets<'_> {
    fn get(&mut self, local: u32) -> Result<std::rc::Rc<[u64]>> {
        if let Some(set) = &self.kept[local as usize] {
            return Ok(std::rc::Rc::clone(set));
        }
        let text = self.texts.text(local)?;
        let set: std::rc::Rc<[u64]> = self.shingler.set(normalise(&text, &mut self.normal), self.rule).into();
        let bytes = size_of_val(&*set) as u64;
        if bytes <= self.room {
            self.room -= bytes;
            self.kept[local as usize] = Some(std::rc::Rc::clone(&set));
        }
        Ok(set)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(from: usize, to: usize) -> String {
        (from..to).map(|n| format!("w{n}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn near_texts_cluster_and_chains_do_not_make_all_near() {
        // Each text shares most of its 5-grams with its neighbour, the ends of the chain do not.
        let texts = [words(0, 60), words(4, 64), words(8, 68), words(12, 72), words(500, 560), "?!".to_owned()];
        let keys = [10, 20, 30, 40, 50, 60];
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("texts");
        let mut bytes = Vec::new();
        for (place, text) in texts.iter().enumerate().chain(texts.iter().enumerate()) {
            TextStore::encode(place as u32, text, &mut bytes);
        }
        fs_err::write(&path, &bytes).expect("write");
        let candidates = [(0, 1), (1, 2), (2, 3), (3, 4), (4, 5)];
        let mut results = Vec::new();
        for (memory, room) in [(u64::MAX, u64::MAX), (0, 0)] {
            let store = TextStore::open(&path, memory).expect("open");
            assert_eq!(store.len(), texts.len());
            let verifier = Verifier { keys: &keys, rule: Rule::Passage, threshold: 0.8, max_cluster: 9, memory: room };
            results.push(verifier.run(&store, &candidates).expect("run"));
        }
        assert_eq!(results[0], results[1], "from memory and from disk");
        let found = &results[0];
        assert_eq!(found.sizes, [4]);
        assert!(found.members.iter().all(|member| member.cluster == 10 && member.key <= 40));
        let near: Vec<(u64, u64)> = found.pairs.iter().map(|pair| (pair.left, pair.right)).collect();
        assert_eq!(near, [(10, 20), (20, 30), (30, 40)]);
        // Five candidates, and the three pairs of the cluster that were none.
        assert_eq!(found.compared, 8);
        fs_err::write(&path, &bytes[..bytes.len() - 1]).expect("write");
        assert!(TextStore::open(&path, 0).is_err());
    }
}
