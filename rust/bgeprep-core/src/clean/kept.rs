//! What a row brings along from where it was before: its origin, and from a shard set its keys.

use super::{CleanPair, CleanText};
use crate::pair::RawPair;
use crate::read::Origin;

/// Where a row was first read, as the row itself says; none for most raw records.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GivenOrigin {
    /// The raw file.
    pub file: String,
    /// The line in it, 0 for none.
    pub line: u64,
}

impl GivenOrigin {
    /// Takes over what a record says.
    pub fn set(&mut self, origin: Option<&Origin<'_>>) {
        self.file.clear();
        self.line = origin.map_or(0, |origin| origin.line);
        self.file.push_str(origin.map_or("", |origin| &origin.file));
    }

    /// Whether the row says it.
    pub fn is_some(&self) -> bool {
        self.line > 0
    }
}

/// What a row of a shard set knows beside its texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeptRow {
    /// Whether the row is from a shard set.
    pub from_set: bool,
    /// Keys of the positives that other rows gave the query.
    pub also_pos_keys: Vec<u64>,
}

/// Fills `pair.kept` and the clusters of all texts; `pair` holds the clean texts already.
pub(super) fn take_over(raw: &RawPair<'_>, pair: &mut CleanPair) {
    let was_kept = std::mem::replace(&mut pair.kept.from_set, raw.kept.is_some());
    pair.kept.also_pos_keys.clear();
    let Some(kept) = raw.kept.as_deref() else {
        if was_kept {
            clusters(&mut pair.pos, &[], &[]);
            clusters(&mut pair.neg, &[], &[]);
            pair.query.cluster = None;
        }
        return;
    };
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
        };
        let mut row = pair(&[0, 2]);
        take_over(&RawPair { kept: Some(Box::new(kept)), ..RawPair::default() }, &mut row);
        assert_eq!((row.query.cluster, row.pos[0].cluster, row.pos[1].cluster), (Some(3), None, Some(3)));
        assert_eq!(row.kept, KeptRow { from_set: true, also_pos_keys: vec![5] });

        take_over(&RawPair::default(), &mut row);
        assert_eq!(row.kept, KeptRow::default());
        assert_eq!((row.query.cluster, row.pos[0].cluster, row.pos[1].cluster), (None, None, None));
    }
}
