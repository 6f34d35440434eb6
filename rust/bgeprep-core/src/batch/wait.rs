//! Rows that did not fit the batch they came up for.
//!
//! They wait in one queue for each key that kept them out. A key that is in the batch keeps its
//! whole queue out, so a batch costs one look per key, not one per waiting row: half a million rows
//! that share one answer cost nothing until their turn comes.

use std::collections::VecDeque;

use crate::Result;
use crate::key_map::KeyMap;

#[derive(Debug, Clone, Default)]
pub(crate) struct Waiting {
    /// Oldest queue first, none empty.
    queues: Vec<(u64, VecDeque<u64>)>,
    place: KeyMap<usize>,
    rows: usize,
}

impl Waiting {
    pub(crate) fn len(&self) -> usize {
        self.rows
    }

    pub(crate) fn push(&mut self, key: u64, row: u64) {
        let place = *self.place.entry(key).or_insert_with(|| {
            self.queues.push((key, VecDeque::new()));
            self.queues.len() - 1
        });
        self.queues[place].1.push_back(row);
        self.rows += 1;
    }

    /// Offers waiting rows, oldest queue first, until `offer` has no room. It answers `Some(key)`
    /// for a row that key keeps out and `None` for a row it took.
    pub(crate) fn offer(
        &mut self,
        mut has_room: impl FnMut() -> bool,
        mut offer: impl FnMut(u64) -> Result<Option<u64>>,
    ) -> Result<()> {
        let mut moved = Vec::new();
        for (key, rows) in &mut self.queues {
            while let Some(row) = rows.front().copied() {
                if !has_room() {
                    break;
                }
                match offer(row)? {
                    Some(blocking) if blocking == *key => break,
                    Some(blocking) => {
                        rows.pop_front();
                        self.rows -= 1;
                        moved.push((blocking, row));
                    }
                    None => {
                        rows.pop_front();
                        self.rows -= 1;
                    }
                }
            }
        }
        if self.queues.iter().any(|(_, rows)| rows.is_empty()) {
            self.queues.retain(|(_, rows)| !rows.is_empty());
            self.place.clear();
            self.place.extend(self.queues.iter().enumerate().map(|(place, (key, _))| (*key, place)));
        }
        for (key, row) in moved {
            self.push(key, row);
        }
        Ok(())
    }

    /// Takes everything out, oldest queue first.
    pub(crate) fn drain(&mut self) -> Vec<u64> {
        self.place.clear();
        self.rows = 0;
        std::mem::take(&mut self.queues).into_iter().flat_map(|(_, rows)| rows).collect()
    }

    pub(crate) fn snapshot(&self) -> Vec<(u64, Vec<u64>)> {
        self.queues.iter().map(|(key, rows)| (*key, rows.iter().copied().collect())).collect()
    }

    pub(crate) fn restore(queues: &[(u64, Vec<u64>)]) -> Self {
        let mut waiting = Self::default();
        for (key, rows) in queues {
            for row in rows {
                waiting.push(*key, *row);
            }
        }
        waiting
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_blocked_key_is_looked_at_once_and_order_is_kept() {
        let mut waiting = Waiting::default();
        for row in 0..1_000 {
            waiting.push(7, row);
        }
        waiting.push(8, 1_000);
        let mut looks = Vec::new();
        let mut taken = false;
        waiting
            .offer(
                || true,
                |row| {
                    looks.push(row);
                    Ok((row < 1_000 && std::mem::replace(&mut taken, true)).then_some(7))
                },
            )
            .unwrap();
        assert_eq!(looks, [0, 1, 1_000]);
        assert_eq!(waiting.len(), 999);
        assert_eq!(Waiting::restore(&waiting.snapshot()).snapshot(), waiting.snapshot());
        assert_eq!(waiting.drain(), (1..1_000).collect::<Vec<_>>());
    }

    #[test]
    fn a_row_kept_out_by_another_key_moves_to_its_queue() {
        let mut waiting = Waiting::default();
        waiting.push(7, 1);
        waiting.push(7, 2);
        waiting.offer(|| true, |row| Ok((row == 1).then_some(9))).unwrap();
        assert_eq!(waiting.snapshot(), [(9, vec![1])]);
    }

    #[test]
    fn nothing_is_offered_without_room() {
        let mut waiting = Waiting::default();
        waiting.push(7, 1);
        waiting.offer(|| false, |_| Err(crate::Error::Internal("offered".into()))).unwrap();
        assert_eq!(waiting.len(), 1);
    }
}
