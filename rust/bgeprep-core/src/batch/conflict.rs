//! The batch rules, as one table of the keys that are in the batch.
//!
//! With in-batch negatives every document of the batch is a negative of every other row, so:
//!
//! 1. no two rows have the same query key;
//! 2. no document carries a key of another row's known positives;
//! 3. no document is another row's query: exact keys, because near clusters of queries and of
//!    documents have names of their own;
//! 4. `symmetric` sources only, where a query is a document too: no query carries a key of another
//!    row's known positives.
//!
//! `classification` sources train without in-batch negatives: rule 1 alone holds. Rows enter by
//! their query and their chosen positive; hard negatives are chosen when the rows are settled,
//! around everything that is in the batch by then, so that a negative never makes a row wait.

use super::permute::Stream;
use super::roles::Roles;
use super::rows::{NegativeKeys, RowKeys};
use crate::pair::Task;

/// Some row's query.
const QUERY: u8 = 1;
/// Some row's chosen positive.
const DOCUMENT: u8 = 2;
/// Some row's known positive, chosen or not.
const KNOWN: u8 = 4;
/// Some row's chosen negative.
const NEGATIVE: u8 = 8;
/// Some row's query, by its exact key.
const EXACT_QUERY: u8 = 16;
/// Some row's chosen positive, by its exact key.
const EXACT_DOCUMENT: u8 = 32;

/// Which rules hold for a task.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Rules {
    documents: bool,
    symmetric: bool,
}

impl Rules {
    pub(crate) fn of(task: Task) -> Self {
        Self { documents: task != Task::Classification, symmetric: task == Task::Symmetric }
    }

    /// What holds where rows of both share a batch.
    pub(crate) fn and(self, other: Self) -> Self {
        Self { documents: self.documents || other.documents, symmetric: self.symmetric || other.symmetric }
    }
}

/// How many of the negatives asked for met a rule.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct NegativeCounts {
    pub(crate) swapped: u64,
    pub(crate) left_out: u64,
}

/// The keys of the batch being filled, each with the roles it plays there.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyTable {
    roles: Roles,
    order: Vec<u32>,
    repeated: Vec<u32>,
}

impl KeyTable {
    pub(crate) fn clear(&mut self) {
        self.roles.clear();
    }

    fn roles(&self, key: u64) -> u8 {
        self.roles.get(key)
    }

    /// The roles of an exact key beside a batching key, whose roles are known: mostly they are one key and one look.
    fn roles_of_exact(&self, exact: u64, (key, roles): (u64, u8)) -> u8 {
        if exact == key { roles } else { self.roles(exact) }
    }

    fn add(&mut self, key: u64, roles: u8) {
        self.roles.add(key, roles);
    }

    fn add_both(&mut self, (key, roles): (u64, u8), (exact, of_exact): (u64, u8)) {
        if exact == key {
            self.add(key, roles | of_exact);
        } else {
            self.add(key, roles);
            self.add(exact, of_exact);
        }
    }

    /// Takes a row in, or names the key that keeps it out.
    pub(crate) fn admit(&mut self, rules: Rules, row: &RowKeys<'_>, positive: usize) -> Option<u64> {
        let blocked = self.blocking(rules, row, positive);
        if blocked.is_none() {
            if !rules.documents {
                self.add(row.query, QUERY);
                return None;
            }
            self.add_both((row.query, QUERY), (row.query_exact, EXACT_QUERY));
            self.add_both((row.pos[positive], DOCUMENT | KNOWN), (row.pos_exact[positive], EXACT_DOCUMENT));
            let others = row.pos.iter().enumerate().filter(|(item, _)| *item != positive).map(|(_, key)| key);
            for key in others.chain(row.also_pos) {
                self.add(*key, KNOWN);
            }
        }
        blocked
    }

    fn blocking(&self, rules: Rules, row: &RowKeys<'_>, positive: usize) -> Option<u64> {
        let (query_meets, known_meets) = match (rules.documents, rules.symmetric) {
            (false, _) => (QUERY, 0),
            (true, false) => (QUERY, DOCUMENT),
            (true, true) => (QUERY | DOCUMENT | KNOWN, DOCUMENT | QUERY),
        };
        let query = self.roles(row.query);
        if query & query_meets != 0 {
            return Some(row.query);
        }
        if !rules.documents {
            return None;
        }
        if self.roles_of_exact(row.query_exact, (row.query, query)) & EXACT_DOCUMENT != 0 {
            return Some(row.query);
        }
        let document = self.roles(row.pos[positive]);
        if self.is_false_negative(rules, (row.pos[positive], document), row.pos_exact[positive]) {
            return Some(row.pos[positive]);
        }
        let of_positives = row.pos.iter().enumerate();
        let roles = of_positives.map(|(item, key)| (*key, if item == positive { document } else { self.roles(*key) }));
        let roles = roles.chain(row.also_pos.iter().map(|key| (*key, self.roles(*key))));
        roles.into_iter().find(|(_, roles)| roles & known_meets != 0).map(|(key, _)| key)
    }

    /// Whether a document, as a negative of the rows in the batch, would be a false one.
    fn is_false_negative(&self, rules: Rules, (key, roles): (u64, u8), exact: u64) -> bool {
        let meets = if rules.symmetric { KNOWN | QUERY } else { KNOWN };
        roles & meets != 0 || self.roles_of_exact(exact, (key, roles)) & EXACT_QUERY != 0
    }

    /// Chooses up to `wanted` negatives of a row already admitted and appends their places in its
    /// list to `chosen`. Candidates come in the order of the stream, or of the list where there is
    /// none; one that would be a false negative anywhere in the batch is passed over, one that
    /// another row brought already is taken only when nothing else is left.
    pub(crate) fn choose_negatives(
        &mut self,
        rules: Rules,
        row: &RowKeys<'_>,
        negatives: NegativeKeys<'_>,
        wanted: usize,
        sampled: Option<Stream>,
        chosen: &mut Vec<u32>,
    ) -> NegativeCounts {
        let wanted = wanted.min(negatives.keys.len());
        let start = chosen.len();
        let mut order = std::mem::take(&mut self.order);
        let mut repeated = std::mem::take(&mut self.repeated);
        order.clear();
        repeated.clear();
        order.extend(0..negatives.keys.len() as u32);
        let mut stream = sampled;
        let mut passed_over = 0;
        for place in 0..order.len() {
            if chosen.len() - start == wanted {
                break;
            }
            if let Some(stream) = &mut stream {
                let other = place + stream.below((order.len() - place) as u64) as usize;
                order.swap(place, other);
            }
            let candidate = order[place];
            let key = negatives.keys[candidate as usize];
            let exact = negatives.exact[candidate as usize];
            let false_negative = exact == row.query_exact
                || (rules.symmetric && key == row.query)
                || row.knows(key)
                || (rules.documents && self.is_false_negative(rules, (key, self.roles(key)), exact));
            if false_negative {
                passed_over += 1;
            } else if chosen[start..].iter().any(|earlier| negatives.keys[*earlier as usize] == key) {
                // The list holds one text twice: its second copy is no second negative.
            } else if self.roles(key) & NEGATIVE != 0 {
                repeated.push(candidate);
            } else {
                chosen.push(candidate);
            }
        }
        for candidate in &repeated {
            if chosen.len() - start == wanted {
                break;
            }
            let key = negatives.keys[*candidate as usize];
            if !chosen[start..].iter().any(|earlier| negatives.keys[*earlier as usize] == key) {
                chosen.push(*candidate);
            }
        }
        for candidate in &chosen[start..] {
            self.add(negatives.keys[*candidate as usize], NEGATIVE);
        }
        self.order = order;
        self.repeated = repeated;
        let left_out = passed_over.min(wanted - (chosen.len() - start)) as u64;
        NegativeCounts { swapped: passed_over as u64 - left_out, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row<'a>(query: u64, pos: &'a [u64], also_pos: &'a [u64]) -> RowKeys<'a> {
        RowKeys { query, pos, also_pos, query_exact: query, pos_exact: pos }
    }

    fn neg(keys: &[u64]) -> NegativeKeys<'_> {
        NegativeKeys { keys, exact: keys }
    }

    fn with_first(task: Task) -> (KeyTable, Rules) {
        let (mut table, rules) = (KeyTable::default(), Rules::of(task));
        assert_eq!(table.admit(rules, &row(1, &[10, 11], &[12]), 0), None);
        (table, rules)
    }

    #[test]
    fn each_rule_names_the_key_that_keeps_a_row_out() {
        for (task, second, blocked) in [
            (Task::Retrieval, row(1, &[20], &[]), Some(1)),
            (Task::Retrieval, row(2, &[10], &[]), Some(10)),
            (Task::Retrieval, row(2, &[11], &[]), Some(11)),
            (Task::Retrieval, row(2, &[12], &[]), Some(12)),
            (Task::Retrieval, row(2, &[20, 10], &[]), Some(10)),
            (Task::Retrieval, row(2, &[20], &[10]), Some(10)),
            (Task::Retrieval, row(2, &[20], &[11, 12]), None),
            (Task::Retrieval, row(2, &[1], &[]), Some(1)),
            (Task::Retrieval, row(10, &[20], &[]), Some(10)),
            (Task::Retrieval, row(11, &[20], &[]), None),
            (Task::Symmetric, row(11, &[20], &[]), Some(11)),
            (Task::Symmetric, row(2, &[20], &[1]), Some(1)),
            (Task::Classification, row(2, &[10], &[]), None),
            (Task::Classification, row(1, &[20], &[]), Some(1)),
        ] {
            let (mut table, rules) = with_first(task);
            assert_eq!(table.admit(rules, &second, 0), blocked, "{task:?} {second:?}");
        }
    }

    #[test]
    fn a_text_in_both_roles_is_known_by_its_exact_key() {
        let near = |row: RowKeys<'static>, pos_exact| RowKeys { query_exact: row.query + 1000, pos_exact, ..row };
        for (second, blocked) in [
            (near(row(2, &[20], &[]), &[1001]), Some(20)),
            (near(row(2, &[1], &[]), &[1]), None),
            (RowKeys { query_exact: 1010, ..row(2, &[20], &[]) }, Some(2)),
        ] {
            let (mut table, rules) = (KeyTable::default(), Rules::of(Task::Retrieval));
            assert_eq!(table.admit(rules, &near(row(1, &[10], &[]), &[1010]), 0), None);
            assert_eq!(table.admit(rules, &second, 0), blocked, "{second:?}");
        }
    }

    #[test]
    fn a_colliding_negative_is_swapped_and_else_left_out() {
        let (mut table, rules) = with_first(Task::Retrieval);
        let second = row(2, &[20], &[]);
        assert_eq!(table.admit(rules, &second, 0), None);
        let mut chosen = Vec::new();
        let counts = table.choose_negatives(rules, &second, neg(&[12, 30, 1, 31]), 2, None, &mut chosen);
        assert_eq!((chosen, counts), (vec![1, 3], NegativeCounts { swapped: 2, left_out: 0 }));
        let mut chosen = Vec::new();
        let counts = table.choose_negatives(rules, &second, neg(&[12, 30, 1, 31]), 4, None, &mut chosen);
        assert_eq!((chosen, counts), (vec![1, 3], NegativeCounts { swapped: 0, left_out: 2 }));
    }

    #[test]
    fn a_negative_that_another_row_brought_is_taken_last() {
        let (mut table, rules) = with_first(Task::Retrieval);
        let (second, third) = (row(2, &[20], &[]), row(3, &[21], &[]));
        for row in [&second, &third] {
            assert_eq!(table.admit(rules, row, 0), None);
        }
        table.choose_negatives(rules, &second, neg(&[30]), 1, None, &mut Vec::new());
        for (wanted, expected) in [(1, vec![2]), (3, vec![2, 0])] {
            let (mut table, mut chosen) = (KeyTable::default(), Vec::new());
            table.choose_negatives(rules, &second, neg(&[30]), 1, None, &mut Vec::new());
            table.choose_negatives(rules, &third, neg(&[30, 30, 31]), wanted, None, &mut chosen);
            assert_eq!(chosen, expected);
        }
    }
}
