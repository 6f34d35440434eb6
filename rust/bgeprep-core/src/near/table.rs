//! What near dedup found, as sorted columns on disk: the cluster of a key, the similarity of a pair.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use arrow_buffer::{ArrowNativeType, ScalarBuffer};

use super::components::KeyIndex;
use super::shingle::Rule;
use crate::shard::map::map;
use crate::{Error, Result};

/// Two different texts at or above the threshold.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct NearPair {
    /// The smaller exact key.
    pub left: u64,
    /// The larger exact key.
    pub right: u64,
    /// Their Jaccard similarity.
    pub jaccard: f32,
}

impl NearPair {
    /// Bytes of an encoded pair.
    pub const SIZE: usize = 8 + 8 + 4;

    /// Appends the pair to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.left.to_le_bytes());
        out.extend_from_slice(&self.right.to_le_bytes());
        out.extend_from_slice(&self.jaccard.to_le_bytes());
    }

    /// Reads pairs; sorted, each once.
    pub fn decode_all(bytes: &[u8]) -> Vec<Self> {
        let decode = |bytes: &[u8; Self::SIZE]| {
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]));
            let jaccard = f32::from_le_bytes(std::array::from_fn(|i| bytes[16 + i]));
            Self { left: long(0), right: long(8), jaccard }
        };
        let mut pairs: Vec<Self> = bytes.as_chunks::<{ Self::SIZE }>().0.iter().map(decode).collect();
        pairs.sort_unstable_by_key(|pair| (pair.left, pair.right));
        pairs.dedup_by_key(|pair| (pair.left, pair.right));
        pairs
    }
}

/// A text and the name of its cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    /// Exact key of the text.
    pub key: u64,
    /// The smallest exact key of its cluster.
    pub cluster: u64,
}

impl Member {
    /// Bytes of an encoded member.
    pub const BYTES: u64 = 16;

    /// Appends the member to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.cluster.to_le_bytes());
    }

    /// Reads members; sorted, each once.
    pub fn decode_all(bytes: &[u8]) -> Vec<Self> {
        key_pairs(bytes).into_iter().map(|[key, cluster]| Self { key, cluster }).collect()
    }
}

/// Reads records of two keys; sorted, each once.
pub(super) fn key_pairs(bytes: &[u8]) -> Vec<[u64; 2]> {
    let decode = |bytes: &[u8; 16]| [0, 8].map(|at| u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i])));
    let mut pairs: Vec<[u64; 2]> = bytes.as_chunks::<16>().0.iter().map(decode).collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// Names of the columns of a space.
const COLUMNS: [&str; 5] = ["keys", "clusters", "lefts", "rights", "jaccards"];

fn column(folder: &Path, space: &str, name: &str) -> PathBuf {
    folder.join(format!("{space}-{name}"))
}

/// Writes the columns of one space; members and pairs come in ascending order.
#[derive(Debug)]
pub struct TableWriter {
    columns: [(PathBuf, BufWriter<File>); 5],
}

impl TableWriter {
    /// Empty columns in `folder`.
    pub fn create(folder: &Path, space: &str) -> Result<Self> {
        let create = |name| {
            let path = column(folder, space, name);
            let file = File::create(&path).map_err(Error::io(&path, "write"))?;
            Ok((path, BufWriter::with_capacity(1 << 17, file)))
        };
        let [keys, clusters, lefts, rights, jaccards] = COLUMNS.map(create);
        Ok(Self { columns: [keys?, clusters?, lefts?, rights?, jaccards?] })
    }

    fn write(&mut self, column: usize, bytes: &[u8]) -> Result<()> {
        let (path, file) = &mut self.columns[column];
        file.write_all(bytes).map_err(Error::io(path.as_path(), "write"))
    }

    /// Appends a member.
    pub fn member(&mut self, member: Member) -> Result<()> {
        self.write(0, &member.key.to_le_bytes())?;
        self.write(1, &member.cluster.to_le_bytes())
    }

    /// Appends a pair.
    pub fn pair(&mut self, pair: NearPair) -> Result<()> {
        self.write(2, &pair.left.to_le_bytes())?;
        self.write(3, &pair.right.to_le_bytes())?;
        self.write(4, &pair.jaccard.to_le_bytes())
    }

    /// Flushes all columns.
    pub fn finish(mut self) -> Result<()> {
        for (path, file) in &mut self.columns {
            file.flush().map_err(Error::io(path.as_path(), "write"))?;
        }
        Ok(())
    }
}

/// The clusters and near pairs of one space, mapped.
#[derive(Debug)]
pub struct NearTable {
    keys: ScalarBuffer<u64>,
    clusters: ScalarBuffer<u64>,
    members: KeyIndex,
    lefts: ScalarBuffer<u64>,
    rights: ScalarBuffer<u64>,
    jaccards: ScalarBuffer<f32>,
    pairs: KeyIndex,
}

impl NearTable {
    /// Opens what a [`TableWriter`] wrote.
    pub fn open(folder: &Path, space: &str) -> Result<Self> {
        let (keys, lefts) = (load::<u64>(folder, space, 0)?, load::<u64>(folder, space, 2)?);
        Ok(Self {
            members: KeyIndex::new(&keys),
            pairs: KeyIndex::new(&lefts),
            clusters: load(folder, space, 1)?,
            rights: load(folder, space, 3)?,
            jaccards: load(folder, space, 4)?,
            keys,
            lefts,
        })
    }

    /// The cluster of a text: the smallest exact key in it, its own if it is alone.
    pub fn cluster(&self, key: u64) -> u64 {
        self.members.find(&self.keys, key).map_or(key, |at| self.clusters[at])
    }

    /// Whether the text has near duplicates.
    pub fn is_clustered(&self, key: u64) -> bool {
        self.members.find(&self.keys, key).is_some()
    }

    /// The similarity of two texts if it is known and reaches the threshold; 1 for equal ones.
    pub fn similarity(&self, one: u64, other: u64) -> Option<f32> {
        if one == other {
            return Some(1.0);
        }
        let (left, right) = (one.min(other), one.max(other));
        let start = self.pairs.lower_bound(&self.lefts, left);
        let partners = self.lefts[start..].iter().take_while(|&&found| found == left).count();
        let at = self.rights[start..start + partners].binary_search(&right).ok()?;
        Some(self.jaccards[start + at])
    }
}

/// The tables of both spaces.
#[derive(Debug)]
pub struct NearTables([NearTable; 2]);

impl NearTables {
    /// Opens both tables of a folder.
    pub fn open(folder: &Path) -> Result<Self> {
        Self::open_each([folder, folder])
    }

    /// Names of the files of a table.
    pub fn files(rule: Rule) -> Vec<String> {
        COLUMNS.iter().map(|name| format!("{}-{name}", rule.space())).collect()
    }

    /// Opens the tables of both spaces, each in a folder of its own.
    pub fn open_each(folders: [&Path; 2]) -> Result<Self> {
        let [query, passage] = Rule::ALL.map(|rule| NearTable::open(folders[rule as usize], rule.space()));
        Ok(Self([query?, passage?]))
    }

    /// The table of the texts that a rule compares.
    pub fn of(&self, rule: Rule) -> &NearTable {
        &self.0[rule as usize]
    }
}

fn load<T: ArrowNativeType>(folder: &Path, space: &str, at: usize) -> Result<ScalarBuffer<T>> {
    let path = column(folder, space, COLUMNS[at]);
    let bytes = fs_err::metadata(&path).map_err(Error::io(&path, "read"))?.len();
    Ok(ScalarBuffer::from(map(&path, bytes)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_and_pairs_come_back() {
        let folder = tempfile::tempdir().expect("folder");
        let members: Vec<Member> = (1..500u64).map(|n| Member { key: n << 54 | n, cluster: n / 7 * 7 }).collect();
        let pairs: Vec<NearPair> = (0..400u64)
            .map(|n| NearPair { left: (n / 20) << 58, right: (n + 1) << 50 | 1 << 63, jaccard: n as f32 / 400.0 })
            .collect();
        let mut bytes = Vec::new();
        for pair in pairs.iter().rev().chain(&pairs) {
            pair.encode(&mut bytes);
        }
        assert_eq!(NearPair::decode_all(&bytes), pairs);
        let mut writer = TableWriter::create(folder.path(), "query").expect("create");
        for member in &members {
            writer.member(*member).expect("member");
        }
        for pair in &pairs {
            writer.pair(*pair).expect("pair");
        }
        writer.finish().expect("finish");
        let table = NearTable::open(folder.path(), "query").expect("open");
        assert!(members.iter().all(|member| table.cluster(member.key) == member.cluster));
        assert!(table.cluster(3) == 3 && !table.is_clustered(3) && table.is_clustered(1 << 54 | 1));
        for pair in &pairs {
            assert_eq!(table.similarity(pair.right, pair.left), Some(pair.jaccard));
            assert_eq!(table.similarity(pair.right, pair.left + 1), None);
        }
        assert_eq!(table.similarity(9, 9), Some(1.0));

        TableWriter::create(folder.path(), "passage").expect("create").finish().expect("finish");
        let empty = NearTable::open(folder.path(), "passage").expect("open");
        assert_eq!((empty.cluster(7), empty.similarity(1, 2)), (7, None));
    }
}
