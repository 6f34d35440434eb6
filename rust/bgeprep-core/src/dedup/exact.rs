//! One partition of key records → decisions.
//!
//! For each query, in order of survival (source priority, score, origin):
//! 1. a positive that stands in an earlier row goes, and a row left without positives with it;
//! 2. where the source merges, the positives of all its rows gather in the first;
//! 3. what a dropped row knew — negatives, scores — goes to the row that stays for it;
//! 4. a negative that is a positive of the query in any row, or nearly is one, goes;
//! 5. with near dedup, a positive goes, too, whose pair nearly equals that of a row that stays, and
//!    the queries of one near cluster are decided together (`near`);
//! 6. each row that stays learns the keys of the query's positives in other rows.

use std::collections::{BTreeMap, BTreeSet};

use super::decision::{Action, Decision, Target};
use super::key::{KeyRecord, Kind};
use super::near::{find_near_repeats, near_positive};
use crate::config::DedupMode;
use crate::near::table::NearTables;
use crate::report::{Reason, Similarity};
use crate::shuffle::RowId;

/// Most `also_pos_keys` of a row; what is beyond is counted.
pub const ALSO_LIMIT: usize = 64;

/// Decides a whole partition; `emit` gets the bucket of the row and the decision. With `near` the
/// partition must hold all queries of each near cluster of queries it touches.
pub fn decide(
    mut records: Vec<KeyRecord>,
    mode: DedupMode,
    near: Option<&NearTables>,
    emit: &mut dyn FnMut(u32, Decision),
) {
    // The hash alone would leave the order within a query to the threads that wrote the records.
    records.sort_unstable_by(|a, b| {
        a.query.cmp(&b.query).then_with(|| a.survival().cmp(&b.survival())).then(a.kind.cmp(&b.kind))
    });
    // A run that goes on after a kill may have written some records twice.
    records.dedup_by(|a, b| a.query == b.query && a.survival() == b.survival() && a.kind == b.kind);
    let queries = records.chunk_by(|a, b| a.query == b.query);
    // The common case: one row, one positive, nothing to compare it with.
    let alone = |group: &[KeyRecord]| group.len() == 1 && group[0].kind != Kind::Negative;
    let Some(near) = near else {
        for group in queries.filter(|group| !alone(group)) {
            Family { groups: vec![Group::new(group, mode)], mode, near: None }.decide(emit);
        }
        return;
    };
    let mut families: Vec<(u64, &[KeyRecord])> = queries.map(|group| (group[0].family(near), group)).collect();
    families.sort_unstable_by_key(|(family, group)| (*family, group[0].query));
    for family in families.chunk_by(|a, b| a.0 == b.0).filter(|family| family.len() > 1 || !alone(family[0].1)) {
        let groups = family.iter().map(|(_, group)| Group::new(group, mode)).collect();
        Family { groups, mode, near: Some(near) }.decide(emit);
    }
}

/// The queries of one near cluster; one query where near dedup did not run.
struct Family<'a> {
    groups: Vec<Group<'a>>,
    mode: DedupMode,
    near: Option<&'a NearTables>,
}

impl Family<'_> {
    fn decide(mut self, emit: &mut dyn FnMut(u32, Decision)) {
        if self.mode >= DedupMode::Exact {
            for group in &mut self.groups {
                group.find_repeats();
            }
            if let Some(near) = self.near {
                find_near_repeats(&mut self.groups, near);
            }
            for group in &mut self.groups {
                group.find_duplicate_rows();
                group.find_merges();
            }
        }
        let mut send = |row: &Row, action| emit(row.bucket, Decision { row: row.id, action });
        for group in &mut self.groups {
            group.home_labelled_negatives();
            group.settle_positives(&mut send);
            group.settle_negatives(self.near, &mut send);
        }
        self.tell_known_positives(&mut send);
    }

    /// Step 6. The batching keys of the query's positives that a row does not hold itself. Rows with one
    /// batching key of the query know each other's positives.
    fn tell_known_positives(&self, send: &mut dyn FnMut(&Row, Action)) {
        let batching = |record: &KeyRecord| {
            self.near.map_or(record.text_key, |near| near.of(record.rule()).cluster(record.text_key))
        };
        let mut all = BTreeSet::new();
        for record in self.groups.iter().flat_map(|group| group.records) {
            if record.kind != Kind::Negative {
                all.insert(batching(record));
            }
        }
        for group in &self.groups {
            for (row, own) in group.rows.iter().zip(group.own_positives(&batching)) {
                if row.fate != Fate::Stays || own.len() == all.len() {
                    continue;
                }
                for &key in all.difference(&own).take(ALSO_LIMIT) {
                    send(row, Action::AlsoPositive(key));
                }
                let excess = (all.len() - own.len()).saturating_sub(ALSO_LIMIT);
                if excess > 0 {
                    send(row, Action::AlsoExcess(excess as u64));
                }
            }
        }
    }
}

/// All records of one query, and what is known of its rows.
pub(super) struct Group<'a> {
    pub(super) records: &'a [KeyRecord],
    mode: DedupMode,
    /// Rows in order of survival, each with the indices of its records.
    rows: Vec<Row>,
    row_index: BTreeMap<RowId, usize>,
    /// For each record: the record that it repeats, if it goes for that.
    pub(super) repeats: Vec<Option<usize>>,
    /// For each record: the row whose pair it nearly equals, if it goes for that.
    pub(super) near_repeats: Vec<Option<(RowId, Similarity)>>,
}

struct Row {
    id: RowId,
    bucket: u32,
    slot: u32,
    merge: bool,
    positives: Vec<usize>,
    negatives: Vec<usize>,
    fate: Fate,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// All its positives stand in other rows; the first of them in this row, if it is of this query.
    Duplicate {
        twin: RowId,
        reason: Reason,
        alike: Similarity,
        heir: Option<usize>,
    },
    /// Its positives, or its labelled negatives, went to this row.
    Merged(usize),
    /// A labelled negative without a row to receive it.
    Homeless,
}

impl<'a> Group<'a> {
    fn new(records: &'a [KeyRecord], mode: DedupMode) -> Self {
        let mut rows: Vec<Row> = Vec::new();
        let mut row_index = BTreeMap::new();
        for (index, record) in records.iter().enumerate() {
            if record.kind == Kind::Mirror {
                continue;
            }
            let at = *row_index.entry(record.row).or_insert_with(|| {
                rows.push(Row {
                    id: record.row,
                    bucket: record.bucket,
                    slot: record.slot,
                    merge: record.merge,
                    positives: Vec::new(),
                    negatives: Vec::new(),
                    fate: Fate::Stays,
                });
                rows.len() - 1
            });
            if record.kind == Kind::Positive { &mut rows[at].positives } else { &mut rows[at].negatives }.push(index);
        }
        for row in &mut rows {
            // Survival decides between rows; within a row "first" means the order of its lists.
            row.positives.sort_by_key(|&index| records[index].item);
            row.negatives.sort_by_key(|&index| records[index].item);
        }
        Self {
            records,
            mode,
            rows,
            row_index,
            repeats: vec![None; records.len()],
            near_repeats: vec![None; records.len()],
        }
    }

    /// Step 1. Marks each positive that an earlier one equals. A mirrored pair (the other end of a symmetric one)
    /// counts as earlier for symmetric rows only.
    fn find_repeats(&mut self) {
        let mut by_text: Vec<usize> =
            (0..self.records.len()).filter(|&i| self.records[i].kind != Kind::Negative).collect();
        by_text.sort_by_key(|&index| (self.records[index].text, index));
        for same in by_text.chunk_by(|&a, &b| self.records[a].text == self.records[b].text) {
            let (mut first_here, mut first_any) = (None, None);
            for &index in same {
                let record = &self.records[index];
                if record.kind == Kind::Mirror {
                    first_any = first_any.or(Some(index));
                    continue;
                }
                let earlier = if record.symmetric { first_any } else { first_here };
                if earlier.is_some() {
                    self.repeats[index] = earlier;
                } else {
                    first_here = first_here.or(Some(index));
                    first_any = first_any.or(Some(index));
                }
            }
        }
    }

    fn find_duplicate_rows(&mut self) {
        for at in 0..self.rows.len() {
            let row = &self.rows[at];
            let gone = |&&index: &&usize| self.repeats[index].is_some() || self.near_repeats[index].is_some();
            if row.positives.is_empty() || row.positives.iter().filter(gone).count() < row.positives.len() {
                continue;
            }
            // A row whose own first copy stays is no duplicate: that copy is not gone.
            let heir = row.positives.iter().find_map(|&index| {
                let twin = &self.records[self.repeats[index]?];
                (twin.kind == Kind::Positive).then(|| self.row_index[&twin.row])
            });
            let first = row.positives[0];
            let (twin, reason, alike) = match (self.repeats[first], self.near_repeats[first]) {
                (None, Some((twin, alike))) => (twin, Reason::NearDuplicate, alike),
                (twin, _) => {
                    let twin = twin.map_or(row.id, |twin| self.records[twin].row);
                    (twin, Reason::Duplicate, Similarity::EQUAL)
                }
            };
            self.rows[at].fate = Fate::Duplicate { twin, reason, alike, heir };
        }
    }

    /// 2. The first row of each merging source takes the positives of the others.
    fn find_merges(&mut self) {
        let mut receivers: BTreeMap<u32, usize> = BTreeMap::new();
        for at in 0..self.rows.len() {
            let row = &self.rows[at];
            if row.merge && row.fate == Fate::Stays && !row.positives.is_empty() {
                let receiver = *receivers.entry(row.slot).or_insert(at);
                if receiver != at {
                    self.rows[at].fate = Fate::Merged(receiver);
                }
            }
        }
    }

    /// A labelled negative goes to the first row of its source that has a positive for the query.
    fn home_labelled_negatives(&mut self) {
        for at in 0..self.rows.len() {
            if !self.rows[at].positives.is_empty() {
                continue;
            }
            let slot = self.rows[at].slot;
            let home = self
                .rows
                .iter()
                .position(|row| row.slot == slot && !row.positives.is_empty() && row.fate == Fate::Stays);
            self.rows[at].fate = home.map_or(Fate::Homeless, Fate::Merged);
        }
    }

    /// The row that speaks for `at` in the end, if there is one.
    fn heir(&self, mut at: usize) -> Option<usize> {
        // A first copy may itself have gone for a near one, whose row goes for an equal of the first: no chain is
        // longer than there are rows.
        for _ in 0..=self.rows.len() {
            match self.rows[at].fate {
                Fate::Stays => return Some(at),
                Fate::Merged(receiver) => return Some(receiver),
                Fate::Duplicate { heir, .. } => at = heir?,
                Fate::Homeless => return None,
            }
        }
        None
    }

    fn target(&self, at: usize) -> Target {
        Target { bucket: self.rows[at].bucket, row: self.rows[at].id }
    }

    fn settle_positives(&self, send: &mut dyn FnMut(&Row, Action)) {
        for row in &self.rows {
            match row.fate {
                Fate::Duplicate { twin, reason, alike, .. } => send(row, Action::DropRow(reason, twin, alike)),
                Fate::Merged(receiver) => {
                    send(row, Action::DropRow(Reason::Merged, self.rows[receiver].id, Similarity::EQUAL));
                }
                Fate::Homeless => {
                    send(row, Action::DropRow(Reason::NoRowForNegative, RowId::default(), Similarity::NONE));
                }
                Fate::Stays => {}
            }
            for &index in &row.positives {
                let record = &self.records[index];
                match (self.repeats[index], self.near_repeats[index], row.fate) {
                    (Some(earlier), _, fate) => {
                        let twin = &self.records[earlier];
                        if fate == Fate::Stays {
                            let reason = Reason::Duplicate;
                            send(row, Action::DropPositive(record.item, reason, twin.row, Similarity::EQUAL));
                        }
                        self.leave_score(row, record, twin, send);
                    }
                    (None, Some((twin, alike)), Fate::Stays) => {
                        send(row, Action::DropPositive(record.item, Reason::NearDuplicate, twin, alike));
                    }
                    (None, None, Fate::Merged(receiver)) => {
                        send(row, Action::GivePositive(record.item, self.target(receiver)));
                    }
                    (None, _, _) => {}
                }
            }
        }
    }

    /// 3. The copy that stays inherits a score it lacks.
    fn leave_score(&self, row: &Row, record: &KeyRecord, twin: &KeyRecord, send: &mut dyn FnMut(&Row, Action)) {
        if record.score.is_nan() || !twin.score.is_nan() || twin.kind != Kind::Positive || twin.row == row.id {
            return;
        }
        if let Some(heir) = self.heir(self.row_index[&twin.row]) {
            send(row, Action::GiveScore(record.item, self.target(heir)));
        }
    }

    /// 3. and 4. Negatives stay, move with their row, or go.
    fn settle_negatives(&self, near: Option<&NearTables>, send: &mut dyn FnMut(&Row, Action)) {
        if self.rows.iter().all(|row| row.negatives.is_empty()) {
            return;
        }
        let mut positive_rows: BTreeMap<u128, RowId> = BTreeMap::new();
        for record in self.records.iter().filter(|record| record.kind != Kind::Negative) {
            positive_rows.entry(record.text).or_insert(record.row);
        }
        let mut seen: BTreeSet<(usize, u128)> = BTreeSet::new();
        // Rows that stay keep their own before they take from others.
        let staying = (0..self.rows.len()).filter(|&at| self.rows[at].fate == Fate::Stays);
        let leaving = (0..self.rows.len()).filter(|&at| self.rows[at].fate != Fate::Stays);
        for at in staying.chain(leaving) {
            let row = &self.rows[at];
            let Some(heir) = self.heir(at) else { continue };
            for &index in &row.negatives {
                let record = &self.records[index];
                let positive_in = positive_rows.get(&record.text);
                if self.mode >= DedupMode::Exact
                    && let Some(&twin) = positive_in
                {
                    if heir == at {
                        let reason = Reason::NegativeIsPositive;
                        send(row, Action::DropNegative(record.item, reason, twin, Similarity::EQUAL));
                    }
                } else if let Some((twin, alike)) = near.and_then(|near| near_positive(self, at, record, near)) {
                    if heir == at {
                        send(row, Action::DropNegative(record.item, Reason::NegativeNearPositive, twin, alike));
                    }
                } else if !seen.insert((heir, record.text)) && (heir != at || self.mode >= DedupMode::Exact) {
                    if heir == at {
                        let reason = Reason::RepeatedNegative;
                        send(row, Action::DropNegative(record.item, reason, row.id, Similarity::EQUAL));
                    }
                } else if heir != at {
                    send(row, Action::GiveNegative(record.item, self.target(heir)));
                }
            }
        }
    }

    /// The batching keys of the positives that each row holds in the end.
    fn own_positives(&self, batching: &dyn Fn(&KeyRecord) -> u64) -> Vec<BTreeSet<u64>> {
        let mut own: Vec<BTreeSet<u64>> = vec![BTreeSet::new(); self.rows.len()];
        for (at, row) in self.rows.iter().enumerate() {
            let holder = match row.fate {
                Fate::Stays => at,
                Fate::Merged(receiver) => receiver,
                Fate::Duplicate { .. } | Fate::Homeless => continue,
            };
            let stays = |&&index: &&usize| self.repeats[index].is_none() && self.near_repeats[index].is_none();
            own[holder].extend(row.positives.iter().filter(stays).map(|&index| batching(&self.records[index])));
        }
        own
    }

    /// Whether a row is a labelled negative: it has nothing of its own to be near to.
    pub(super) fn is_labelled_negative(&self, at: usize) -> bool {
        self.rows[at].positives.is_empty()
    }
}
