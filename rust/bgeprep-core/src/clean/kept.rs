//! What a row of a shard set brings along into the next set.

use super::{CleanPair, CleanText};
use crate::pair::RawPair;

/// Beside the texts: where the row was first read, and what is known of its query. Empty for raw records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptRow {
    /// The raw file, empty if the record is not from a shard set.
    pub origin_file: String,
    /// The line in it.
    pub origin_line: u64,
    /// Keys of the positives that other rows gave the query.
    pub also_pos_keys: Vec<u64>,
}

impl KeptRow {
    /// Whether the row is from a shard set.
    pub fn is_some(&self) -> bool {
        !self.origin_file.is_empty()
    }
}

/// Fills `pair.kept` and the clusters of all texts; `pair` holds the clean texts already.
pub(super) fn take_over(raw: &RawPair<'_>, pair: &mut CleanPair) {
    let was_kept = pair.kept.is_some();
    pair.kept.origin_file.clear();
    pair.kept.also_pos_keys.clear();
    let Some(kept) = raw.kept.as_deref() else {
        if was_kept {
            clusters(&mut pair.pos, &[], &[]);
            clusters(&mut pair.neg, &[], &[]);
            pair.query.cluster = None;
        }
        return;
    };
    pair.kept.origin_file.push_str(kept.origin_file);
    pair.kept.origin_line = kept.origin_line;
    pair.kept.also_pos_keys.extend_from_slice(kept.also_pos_keys);
    let (key, exact) = kept.query_keys;
    pair.query.cluster = (key != exact).then_some(key);
    clusters(&mut pair.pos, kept.pos_keys, kept.pos_exact_keys);
    clusters(&mut pair.neg, kept.neg_keys, kept.neg_exact_keys);
}

/// A text's batching key where it is not its own: texts that are gone leave holes in the lists of keys.
fn clusters(texts: &mut [CleanText], keys: &[u64], exact_keys: &[u64]) {
    for text in texts {
        let item = text.item as usize;
        text.cluster = keys.get(item).copied().filter(|key| exact_keys.get(item) != Some(key));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pair::Kept;

    fn pair(items: &[u32]) -> CleanPair {
        let pos = items.iter().map(|&item| CleanText { item, ..CleanText::default() }).collect();
        CleanPair { pos, ..CleanPair::default() }
    }

    #[test]
    fn clusters_follow_the_texts_that_stay_and_leave_with_the_row() {
        let kept = Kept {
            query_keys: (3, 9),
            pos_keys: &[1, 2, 3],
            pos_exact_keys: &[1, 7, 8],
            neg_keys: &[],
            neg_exact_keys: &[],
            also_pos_keys: &[5],
            origin_file: "nq.jsonl",
            origin_line: 4,
        };
        let mut row = pair(&[0, 2]);
        take_over(&RawPair { kept: Some(Box::new(kept)), ..RawPair::default() }, &mut row);
        assert_eq!((row.query.cluster, row.pos[0].cluster, row.pos[1].cluster), (Some(3), None, Some(3)));
        let expected = KeptRow { origin_file: "nq.jsonl".to_owned(), origin_line: 4, also_pos_keys: vec![5] };
        assert_eq!(row.kept, expected);

        take_over(&RawPair::default(), &mut row);
        assert!(!row.kept.is_some() && row.kept.also_pos_keys.is_empty());
        assert_eq!((row.query.cluster, row.pos[0].cluster, row.pos[1].cluster), (None, None, None));
    }
}
