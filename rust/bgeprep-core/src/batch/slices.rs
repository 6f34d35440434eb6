//! Which rank trains which rows of a global batch.
//!
//! Rows are dealt by their length in bytes, longest first, to ranks 0, 1 … W−1, W−1 … 1, 0, 0 …
//! ("snake"), so that every rank gets the same share of long texts and counts differ by one at
//! most. The batch itself was planned before and does not know of ranks.

/// Places in the batch that belong to a rank, longest rows first. `lengths` and `ids` have one
/// entry a row; rows of equal length are dealt by id.
pub(crate) fn rank_slice(lengths: &[u64], ids: &[u64], rank: u32, world_size: u32) -> Vec<usize> {
    let mut order: Vec<usize> = (0..ids.len()).collect();
    order.sort_unstable_by_key(|place| (std::cmp::Reverse(lengths[*place]), ids[*place]));
    let (rank, world) = (rank as usize, world_size as usize);
    let dealt_to = |turn: usize| {
        let seat = turn % world;
        if (turn / world).is_multiple_of(2) { seat } else { world - 1 - seat }
    };
    order.into_iter().enumerate().filter(|(turn, _)| dealt_to(*turn) == rank).map(|(_, place)| place).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn slices_part_the_batch_evenly(lengths in prop::collection::vec(0_u64..2_000, 0..200), world in 1_u32..9) {
            let ids: Vec<u64> = (0..lengths.len() as u64).map(|row| row * 7 % 1_009).collect();
            let slices: Vec<Vec<usize>> = (0..world).map(|rank| rank_slice(&lengths, &ids, rank, world)).collect();
            let mut all: Vec<usize> = slices.concat();
            all.sort_unstable();
            prop_assert_eq!(all, (0..lengths.len()).collect::<Vec<_>>());
            let sizes = slices.iter().map(Vec::len);
            prop_assert!(sizes.clone().max().unwrap() - sizes.min().unwrap() <= 1);
            let bytes = slices.iter().map(|slice| slice.iter().map(|place| lengths[*place]).sum::<u64>());
            let longest = lengths.iter().max().copied().unwrap_or(0);
            prop_assert!(bytes.clone().max().unwrap() - bytes.min().unwrap() <= longest);
        }
    }
}
