//! What a clean row leaves for dedup: key records, and the clusters it was in.

use crate::Result;
use crate::clean::{CleanPair, CleanText};
use crate::config::SourceSpec;
use crate::dedup::{KeyRecord, Kind};
use crate::near::shingle::Rule;
use crate::near::table::Member;
use crate::pair::{SetKind, Task};
use crate::shuffle::RowId;
use crate::shuffle::spill::Spill;

/// What all key records of a row have in common but for its query, which [`records`] fills in.
pub(super) fn common(source: &SourceSpec, row: RowId, task: Task, slot: u32, bucket: u32) -> KeyRecord {
    KeyRecord {
        query: 0,
        query_key: 0,
        text: 0,
        text_key: 0,
        row,
        bucket,
        // 0 is left to rows that are only compared with: whatever equals them goes.
        priority: if source.against { 0 } else { source.priority.saturating_add(1) },
        slot,
        score: f32::NAN,
        item: 0,
        kind: Kind::Positive,
        symmetric: task == Task::Symmetric,
        merge: source.merge_positives,
        near: task == Task::Retrieval,
        document: false,
    }
}

/// Spills a key record for each positive and negative; `common` holds what they have in common. `scratch` is emptied.
pub(super) fn records(
    pair: &CleanPair,
    common: KeyRecord,
    partitions: usize,
    keys: &Spill,
    scratch: &mut Vec<u8>,
) -> Result<()> {
    scratch.clear();
    let document = pair.kind == SetKind::Text;
    // Documents are equal where their texts are, whatever their titles say.
    let query = if document { pair.pos.first().map(|text| text.identity) } else { None };
    let query = query.unwrap_or(pair.query.identity);
    let common = KeyRecord { query: query.hash, query_key: query.key, document, ..common };
    let record = |text: &CleanText, item: usize, kind: Kind| KeyRecord {
        text: text.identity.hash,
        text_key: text.identity.key,
        // Survival is a matter of positives: a negative's score says nothing about its row.
        score: if kind == Kind::Negative { f32::NAN } else { text.score },
        item: item as u32,
        kind,
        ..common
    };
    for (item, text) in pair.pos.iter().enumerate() {
        record(text, item, Kind::Positive).encode(scratch);
    }
    for (item, text) in pair.neg.iter().enumerate() {
        record(text, item, Kind::Negative).encode(scratch);
    }
    keys.append(common.partition(partitions), scratch)?;
    if common.symmetric {
        for (item, text) in pair.pos.iter().enumerate() {
            scratch.clear();
            let mirror = KeyRecord {
                query: text.identity.hash,
                query_key: text.identity.key,
                text: pair.query.identity.hash,
                text_key: pair.query.identity.key,
                score: text.score,
                item: item as u32,
                kind: Kind::Mirror,
                ..common
            };
            mirror.encode(scratch);
            keys.append(mirror.partition(partitions), scratch)?;
        }
    }
    Ok(())
}

/// Spills an edge for each text that a shard set keeps in a cluster.
pub(super) fn clusters(pair: &CleanPair, task: Task, spill: &Spill, scratch: &mut Vec<u8>) -> Result<()> {
    let passages = pair.pos.iter().chain(&pair.neg).map(|text| (Rule::of_passages(task), text));
    for (rule, text) in std::iter::once((Rule::Query, &pair.query)).chain(passages) {
        if let Some(cluster) = text.cluster {
            scratch.clear();
            Member { key: text.identity.key, cluster }.encode(scratch);
            spill.append(rule as usize, scratch)?;
        }
    }
    Ok(())
}
