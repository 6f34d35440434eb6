//! The near part of dedup: pairs whose query and positive are both near those of a pair that stays.
//!
//! Being in one cluster is not enough: a row goes only if its own texts reach the threshold with
//! those of the row that stays. Sources that are no retrieval, and labelled negatives, are left to
//! exact comparison: in a duplicate question set one changed word is the very thing to be learned.

use std::collections::BTreeMap;

use super::exact::Group;
use super::key::{KeyRecord, Kind};
use crate::near::shingle::Rule;
use crate::near::table::NearTables;
use crate::report::Similarity;
use crate::shuffle::RowId;

/// Most pairs that stay of one (query cluster, positive cluster) that another is compared with.
const COMPARED: usize = 256;

/// Marks each positive whose pair nearly equals one that stays, in order of survival over all
/// queries of the family.
pub(super) fn find_near_repeats(groups: &mut [Group<'_>], near: &NearTables) {
    let mut candidates: Vec<(u64, usize, usize)> = Vec::new();
    for (at, group) in groups.iter().enumerate() {
        for (index, record) in group.records.iter().enumerate() {
            if record.kind == Kind::Positive && record.near && group.repeats[index].is_none() {
                candidates.push((near.of(Rule::Passage).cluster(record.text_key), at, index));
            }
        }
    }
    candidates.sort_by(|a, b| {
        let survival = |one: &(u64, usize, usize)| groups[one.1].records[one.2].survival();
        a.0.cmp(&b.0).then_with(|| survival(a).cmp(&survival(b)))
    });
    let mut marks = Vec::new();
    for cluster in candidates.chunk_by(|a, b| a.0 == b.0).filter(|cluster| cluster.len() > 1) {
        let mut staying: Vec<&KeyRecord> = Vec::new();
        for &(_, at, index) in cluster {
            let record = &groups[at].records[index];
            let twin = staying.iter().find_map(|twin| similarity(record, twin, near).map(|alike| (twin.row, alike)));
            match twin {
                Some(twin) => marks.push((at, index, twin)),
                None if staying.len() < COMPARED => staying.push(record),
                None => {}
            }
        }
    }
    for (at, index, twin) in marks {
        groups[at].near_repeats[index] = Some(twin);
    }
}

/// The lower of the two sides' similarities, if both reach the threshold.
fn similarity(one: &KeyRecord, other: &KeyRecord, near: &NearTables) -> Option<Similarity> {
    let text = near.of(Rule::Passage).similarity(one.text_key, other.text_key)?;
    let query = if one.document { text } else { near.of(Rule::Query).similarity(one.query_key, other.query_key)? };
    Some(Similarity::of(query.min(text)))
}

/// The positive of the same query that a negative of row `at` nearly equals.
pub(super) fn near_positive(
    group: &Group<'_>,
    at: usize,
    negative: &KeyRecord,
    near: &NearTables,
) -> Option<(RowId, Similarity)> {
    if !negative.near || group.is_labelled_negative(at) || !near.of(Rule::Passage).is_clustered(negative.text_key) {
        return None;
    }
    let mut by_key: BTreeMap<u64, RowId> = BTreeMap::new();
    for positive in group.records.iter().filter(|record| record.kind == Kind::Positive) {
        by_key.entry(positive.text_key).or_insert(positive.row);
    }
    let alike = |(key, row): (u64, RowId)| {
        near.of(Rule::Passage).similarity(negative.text_key, key).map(|similarity| (row, Similarity::of(similarity)))
    };
    by_key.into_iter().find_map(alike)
}
