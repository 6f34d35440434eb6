//! The keys of a batch, each with the roles it plays there: a table with open addresses.
//!
//! Most looks are for keys that are not there. These end in the bytes of roles, which stay in the
//! processor's cache for a batch of any size; the keys themselves are read only where a slot is taken.

/// Slots of the first table.
const LEAST: usize = 1 << 6;

/// Key → roles, as bits. A key that was not added has none.
#[derive(Debug, Clone, Default)]
pub(super) struct Roles {
    /// The roles of each slot's key; 0: the slot is free.
    slots: Vec<u8>,
    keys: Vec<u64>,
    taken: usize,
}

impl Roles {
    /// Forgets all keys; the memory stays.
    pub(super) fn clear(&mut self) {
        self.slots.fill(0);
        self.taken = 0;
    }

    /// The roles of a key.
    pub(super) fn get(&self, key: u64) -> u8 {
        if self.slots.is_empty() {
            return 0;
        }
        self.slots[self.slot(key)]
    }

    /// Gives a key more roles; `roles` has at least one.
    pub(super) fn add(&mut self, key: u64, roles: u8) {
        if self.taken * 2 >= self.slots.len() {
            self.grow();
        }
        let slot = self.slot(key);
        self.taken += usize::from(self.slots[slot] == 0);
        self.keys[slot] = key;
        self.slots[slot] |= roles;
    }

    /// Where a key stands, or would. At least half of the slots are free, so the walk is short.
    fn slot(&self, key: u64) -> usize {
        let mask = self.slots.len() - 1;
        // Keys are hashes; the multiplication spreads planted ones too, best into its upper bits.
        let mut slot = (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as usize & mask;
        while self.slots[slot] != 0 && self.keys[slot] != key {
            slot = (slot + 1) & mask;
        }
        slot
    }

    fn grow(&mut self) {
        let slots = (self.slots.len() * 2).max(LEAST);
        let roles = std::mem::replace(&mut self.slots, vec![0; slots]);
        let keys = std::mem::replace(&mut self.keys, vec![0; slots]);
        for (key, roles) in keys.into_iter().zip(roles).filter(|(_, roles)| *roles != 0) {
            let slot = self.slot(key);
            self.keys[slot] = key;
            self.slots[slot] = roles;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn roles_are_those_of_a_map(batches in prop::collection::vec(
            prop::collection::vec((prop_oneof![0..300_u64, any::<u64>()], 1_u8..64), 0..600), 1..4))
        {
            let mut table = Roles::default();
            for batch in batches {
                table.clear();
                let mut map = BTreeMap::<u64, u8>::new();
                for (key, roles) in batch {
                    prop_assert_eq!(table.get(key), map.get(&key).copied().unwrap_or(0));
                    table.add(key, roles);
                    *map.entry(key).or_default() |= roles;
                }
                for key in map.keys().copied().chain(0..300) {
                    prop_assert_eq!(table.get(key), map.get(&key).copied().unwrap_or(0));
                }
            }
        }
    }
}
