//! Batching keys of shard sets, brought together: clusters of several sets that share a text become one.
//!
//! 1. Reading leaves a member (exact key, batching key) for each text whose batching key is not its
//!    own exact key; a batching key is the smallest exact key of its cluster.
//! 2. Where near dedup has found clusters of its own, these take the place of their texts.
//! 3. Union-find over all members of one space; the smallest key of a component names it.
//! 4. A table of each space, in which the writer of parts looks up every text.
//!
//! What is held is 48 bytes a clustered text at most, not a text.

use std::path::Path;

use crate::near::components::{Components, KeyIndex};
use crate::near::shingle::Rule;
use crate::near::table::{Member, NearTables, TableWriter};
use crate::shuffle::spill::{load, path, size};
use crate::{Error, Result};

/// Name of the spill family of members, and of the folder of the tables.
pub const CLUSTERS: &str = "clusters";

/// Makes the tables of both spaces in `to` from the members in `from` and the clusters of near dedup, where it ran.
///
/// # Errors
/// `Config` if that takes more than `memory` bytes; `Io`.
pub fn run(from: &Path, to: &Path, near: Option<&NearTables>, memory: u64) -> Result<()> {
    Rule::ALL.into_iter().try_for_each(|rule| space(rule, from, to, near, memory))
}

/// The same, for one space.
///
/// # Errors
/// As [`run`].
pub fn space(rule: Rule, from: &Path, to: &Path, near: Option<&NearTables>, memory: u64) -> Result<()> {
    fs_err::create_dir_all(to).map_err(Error::io(to, "create"))?;
    let file = path(from, CLUSTERS, rule as usize);
    let bytes = size(&file)?;
    // Members beside their two keys each, which are sorted and joined.
    if bytes * 3 > memory {
        let needed = (bytes * 4) >> 20;
        let message = format!(
            "the sets that are read have {} texts in clusters, for which at least {needed} MiB are needed; \
             hint: --memory {}MiB, the same command goes on from here",
            bytes / Member::BYTES,
            needed + 64
        );
        return Err(Error::config("memory", message));
    }
    let name = |key: u64| near.map_or(key, |near| near.of(rule).cluster(key));
    let mut members = Member::decode_all(&load(&file)?);
    for member in &mut members {
        *member = Member { key: name(member.key), cluster: name(member.cluster) };
    }
    let mut table = TableWriter::create(to, rule.space())?;
    for member in united(&members) {
        table.member(member)?;
    }
    table.finish()
}

/// Each key whose component has a smaller one, with the smallest; ascending.
fn united(members: &[Member]) -> Vec<Member> {
    let mut keys: Vec<u64> = members.iter().flat_map(|member| [member.key, member.cluster]).collect();
    keys.sort_unstable();
    keys.dedup();
    let index = KeyIndex::new(&keys);
    let place = |key: u64| index.lower_bound(&keys, key) as u32;
    let mut components = Components::new(keys.len());
    for member in members {
        components.unite(place(member.key), place(member.cluster));
    }
    // Places sort as keys do, so the smallest place of a component is its smallest key.
    let named = (0..keys.len()).map(|at| Member { key: keys[at], cluster: keys[components.find(at as u32) as usize] });
    named.filter(|member| member.key != member.cluster).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_that_share_a_text_become_one_in_their_own_space() {
        let folder = tempfile::tempdir().expect("folder");
        let (from, to) = (folder.path(), folder.path().join(CLUSTERS));
        let mut edges = Vec::new();
        // Two sets: {20, 30, 40} and {30, 50}, then {40, 60, 10}; and {7, 8} beside them.
        for (key, cluster) in [(30, 20), (40, 20), (50, 30), (8, 7), (60, 10), (40, 10), (30, 20)] {
            Member { key, cluster }.encode(&mut edges);
        }
        fs_err::write(path(from, CLUSTERS, Rule::Passage as usize), &edges).expect("edges");
        let error = run(from, &to, None, 3 * edges.len() as u64 - 1).expect_err("too little memory").to_string();
        assert!(error.contains("have 7 texts in clusters") && error.contains("--memory 64MiB"), "{error}");
        run(from, &to, None, 3 * edges.len() as u64).expect("tables");
        let tables = NearTables::open(&to).expect("tables");
        let keys = [7, 8, 9, 10, 20, 30, 40, 50, 60].map(|key| tables.of(Rule::Passage).cluster(key));
        assert_eq!(keys, [7, 7, 9, 10, 10, 10, 10, 10, 10]);
        assert_eq!(tables.of(Rule::Query).cluster(30), 30);
    }
}
