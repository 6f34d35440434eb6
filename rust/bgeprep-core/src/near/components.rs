//! Texts that have a candidate, and which of them hang together.

/// Bits of a key that the first step of a search looks at.
const PREFIX_BITS: u32 = 16;

/// Finds keys in a sorted list. Keys are hashes, so their first bits lead almost to the place.
#[derive(Debug)]
pub struct KeyIndex {
    starts: Vec<u32>,
}

impl KeyIndex {
    /// An index of a sorted list of less than 2³² keys.
    pub fn new(keys: &[u64]) -> Self {
        let mut starts = vec![0; (1 << PREFIX_BITS) + 1];
        for key in keys {
            starts[(key >> (64 - PREFIX_BITS)) as usize + 1] += 1;
        }
        for at in 1..starts.len() {
            starts[at] += starts[at - 1];
        }
        Self { starts }
    }

    /// Where the key would stand first.
    pub fn lower_bound(&self, keys: &[u64], key: u64) -> usize {
        let prefix = (key >> (64 - PREFIX_BITS)) as usize;
        let (start, end) = (self.starts[prefix] as usize, self.starts[prefix + 1] as usize);
        start + keys[start..end].partition_point(|&found| found < key)
    }

    /// The place of the key, if it is there.
    pub fn find(&self, keys: &[u64], key: u64) -> Option<usize> {
        let at = self.lower_bound(keys, key);
        (keys.get(at) == Some(&key)).then_some(at)
    }
}

/// Union-find over the places of texts in a sorted list; the smallest place names a component.
#[derive(Debug)]
pub struct Components {
    parents: Vec<u32>,
}

impl Components {
    /// `count` texts, each alone.
    pub fn new(count: usize) -> Self {
        Self { parents: (0..count as u32).collect() }
    }

    /// The smallest place in the component.
    pub fn find(&mut self, mut at: u32) -> u32 {
        while self.parents[at as usize] != at {
            let parent = self.parents[at as usize];
            self.parents[at as usize] = self.parents[parent as usize];
            at = self.parents[at as usize];
        }
        at
    }

    /// Unites the components of two texts.
    pub fn unite(&mut self, left: u32, right: u32) {
        let (left, right) = (self.find(left), self.find(right));
        let (low, high) = if left < right { (left, right) } else { (right, left) };
        self.parents[high as usize] = low;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_found_and_no_other() {
        let mut keys: Vec<u64> = (0..5_000u64).map(|n| xxhash_rust::xxh3::xxh3_64(&n.to_le_bytes())).collect();
        keys.extend([0, 1, u64::MAX]);
        keys.sort_unstable();
        let index = KeyIndex::new(&keys);
        assert!(keys.iter().enumerate().all(|(at, &key)| index.find(&keys, key) == Some(at)));
        assert_eq!(index.find(&keys, 2), None);
        assert_eq!(KeyIndex::new(&[]).find(&[], 7), None);
    }

    #[test]
    fn components_are_named_by_their_smallest_whatever_the_order() {
        let links = [(3, 4), (7, 9), (4, 8), (0, 9), (1, 1)];
        for turn in 0..links.len() {
            let mut components = Components::new(10);
            for (left, right) in links.iter().cycle().skip(turn).take(links.len()) {
                components.unite(*right, *left);
            }
            let roots: Vec<u32> = (0..10).map(|at| components.find(at)).collect();
            assert_eq!(roots, [0, 1, 2, 3, 3, 5, 6, 0, 3, 0]);
        }
    }
}
