//! Batching keys of shard sets, brought together: clusters of several sets that share a text become one.
//!
//! 1. Reading leaves an edge (exact key, batching key) for each text whose batching key is not its
//!    own exact key; a batching key is the smallest exact key of its cluster.
//! 2. Where near dedup has found clusters of its own, these take the place of their texts.
//! 3. Union-find over all edges of one space; the smallest key of a component names it.
//! 4. A table (exact key, batching key), sorted, in which the writer of parts looks up every text.
//!
//! What is held is 20 bytes a clustered text, not a text.

use std::path::Path;

use arrow_buffer::Buffer;

use crate::near::table::NearTables;
use crate::pair::Task;
use crate::shard::map::map;
use crate::shuffle::spill::{load, path, size};
use crate::{Error, Result};

/// Name of the spill family of edges, and of the tables.
pub const CLUSTERS: &str = "clusters";

/// Texts that are compared with each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Queries, and both texts of symmetric sources.
    Query,
    /// Positives and negatives.
    Passage,
}

impl Space {
    /// Both spaces.
    pub const ALL: [Self; 2] = [Self::Query, Self::Passage];

    /// The space of the positives and negatives of a task.
    pub fn of_passages(task: Task) -> Self {
        if task == Task::Symmetric { Self::Query } else { Self::Passage }
    }
}

/// Appends an edge to `out`.
pub fn encode(exact: u64, cluster: u64, out: &mut Vec<u8>) {
    out.extend_from_slice(&exact.to_le_bytes());
    out.extend_from_slice(&cluster.to_le_bytes());
}

fn decode(bytes: &[u8]) -> impl Iterator<Item = (u64, u64)> {
    let long = |bytes: &[u8]| u64::from_le_bytes(std::array::from_fn(|at| bytes[at]));
    bytes.as_chunks::<16>().0.iter().map(move |entry| (long(&entry[..8]), long(&entry[8..])))
}

/// Makes the tables of both spaces in `to` from the edges in `from` and the clusters of near dedup, where it ran.
pub fn run(from: &Path, to: &Path, near: Option<&NearTables>) -> Result<()> {
    for space in Space::ALL {
        let name = |key: u64| near.map_or(key, |near| near.text(space == Space::Query).cluster(key));
        let edges = load(&path(from, CLUSTERS, space as usize))?;
        let edges: Vec<(u64, u64)> = decode(&edges).map(|(exact, cluster)| (name(exact), name(cluster))).collect();
        let mut bytes = Vec::new();
        for (exact, cluster) in components(edges) {
            encode(exact, cluster, &mut bytes);
        }
        if !bytes.is_empty() {
            let table = path(to, CLUSTERS, space as usize);
            fs_err::write(&table, &bytes).map_err(Error::io(table, "write"))?;
        }
    }
    Ok(())
}

/// Each key whose component has a smaller one, with the smallest; ascending.
fn components(edges: Vec<(u64, u64)>) -> Vec<(u64, u64)> {
    let mut keys: Vec<u64> = edges.iter().flat_map(|&(exact, cluster)| [exact, cluster]).collect();
    keys.sort_unstable();
    keys.dedup();
    let mut parents: Vec<u32> = (0..keys.len() as u32).collect();
    let place = |key: u64| keys.binary_search(&key).unwrap_or(0) as u32;
    for (exact, cluster) in edges {
        let (a, b) = (root(&mut parents, place(exact)), root(&mut parents, place(cluster)));
        // Places sort as keys do, so the smaller place is the smaller key.
        parents[a.max(b) as usize] = a.min(b);
    }
    (0..keys.len() as u32)
        .map(|place| (keys[place as usize], keys[root(&mut parents, place) as usize]))
        .filter(|(exact, cluster)| exact != cluster)
        .collect()
}

fn root(parents: &mut [u32], mut place: u32) -> u32 {
    while parents[place as usize] != place {
        parents[place as usize] = parents[parents[place as usize] as usize];
        place = parents[place as usize];
    }
    place
}

/// The tables of both spaces, mapped.
#[derive(Debug)]
pub struct United([Buffer; 2]);

impl United {
    /// Opens what [`run`] left in `folder`; empty tables if it did not run.
    pub fn open(folder: &Path) -> Result<Self> {
        let open = |space: Space| {
            let path = path(folder, CLUSTERS, space as usize);
            let bytes = size(&path)?;
            if bytes == 0 { Ok(Buffer::default()) } else { map(&path, bytes) }
        };
        Ok(Self([open(Space::Query)?, open(Space::Passage)?]))
    }

    /// The batching key of a text, by its exact key or by the name of its near cluster; itself, if nothing more is known.
    pub fn key(&self, space: Space, exact: u64) -> u64 {
        let entries = self.0[space as usize].as_chunks::<16>().0;
        let long = |at: usize, half: usize| u64::from_le_bytes(std::array::from_fn(|byte| entries[at][half + byte]));
        let (mut low, mut high) = (0, entries.len());
        while low < high {
            let middle = usize::midpoint(low, high);
            match long(middle, 0).cmp(&exact) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return long(middle, 8),
            }
        }
        exact
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_share_a_text_become_one_in_their_own_space() {
        let (from, to) = (tempfile::tempdir().expect("folder"), tempfile::tempdir().expect("folder"));
        let mut edges = Vec::new();
        // Two sets: {20, 30, 40} and {30, 50}, then {40, 60, 10}; and {7, 8} beside them.
        for (exact, cluster) in [(30, 20), (40, 20), (50, 30), (8, 7), (60, 10), (40, 10), (30, 20)] {
            encode(exact, cluster, &mut edges);
        }
        fs_err::write(path(from.path(), CLUSTERS, Space::Passage as usize), &edges).expect("edges");
        run(from.path(), to.path(), None).expect("tables");
        let united = United::open(to.path()).expect("tables");
        let keys = [7, 8, 9, 10, 20, 30, 40, 50, 60].map(|key| united.key(Space::Passage, key));
        assert_eq!(keys, [7, 7, 9, 10, 10, 10, 10, 10, 10]);
        assert_eq!(united.key(Space::Query, 30), 30);
    }
}
