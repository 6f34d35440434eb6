//! Columns that were read past: names and how many records carried them.

use std::collections::BTreeMap;

/// Column name → number of records that carried it and had it ignored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unmapped(BTreeMap<String, u64>);

impl Unmapped {
    /// Counts `records` more records that carried the column.
    pub fn add(&mut self, column: &str, records: u64) {
        if records == 0 {
            return;
        }
        match self.0.get_mut(column) {
            Some(count) => *count += records,
            None => {
                self.0.insert(column.to_owned(), records);
            }
        }
    }

    /// Adds all counts of another tally.
    pub fn merge(&mut self, other: &Self) {
        for (column, records) in other.iter() {
            self.add(column, records);
        }
    }

    /// The counts in the order of the column names.
    pub fn iter(&self) -> impl Iterator<Item = (&str, u64)> {
        self.0.iter().map(|(column, records)| (column.as_str(), *records))
    }

    /// Whether no column was ignored.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::Unmapped;

    #[test]
    fn merges_in_name_order() {
        let mut left = Unmapped::default();
        left.add("level", 2);
        left.add("genre", 0);
        let mut right = Unmapped::default();
        right.add("level", 1);
        right.add("genre", 3);
        left.merge(&right);
        assert_eq!(left.iter().collect::<Vec<_>>(), [("genre", 3), ("level", 3)]);
        assert!(!left.is_empty());
    }
}
