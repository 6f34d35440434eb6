//! Pieces of words → ids.
//!
//! Most pieces have at most [`SHORT`] bytes and are looked up as one number in a table with open
//! addressing; the few longer ones lie in a map. Pieces that begin a word and those that continue one
//! have a table each, the latter without their prefix.

use std::collections::HashMap;

/// Bytes of a piece that fits into a number.
pub(super) const SHORT: usize = 16;

/// A piece of at most [`SHORT`] bytes, filled up with zeros. `length` 0 is a free slot.
#[derive(Debug, Clone, Copy, Default)]
struct Slot {
    key: u128,
    id: u32,
    length: u32,
}

#[derive(Debug)]
struct Table {
    slots: Box<[Slot]>,
    long: HashMap<Box<[u8]>, u32>,
    longest: usize,
}

/// The first `length` bytes of a number.
pub(super) fn first_bytes(key: u128, length: usize) -> u128 {
    if length >= SHORT { key } else { key & ((1 << (8 * length)) - 1) }
}

/// Bytes as a number, the first lowest; at most [`SHORT`] of them.
pub(super) fn load(bytes: &[u8]) -> u128 {
    if let Some(whole) = bytes.first_chunk::<SHORT>() {
        return u128::from_le_bytes(*whole);
    }
    let mut filled = [0; SHORT];
    filled[..bytes.len()].copy_from_slice(bytes);
    u128::from_le_bytes(filled)
}

fn hash(key: u128) -> usize {
    let (low, high) = (key as u64, (key >> 64) as u64);
    let mixed = u128::from(low ^ 0x9e37_79b9_7f4a_7c15) * u128::from(high ^ 0xd6e8_feb8_6659_fd93);
    (mixed ^ (mixed >> 64)) as usize
}

impl Table {
    fn new<'a>(pieces: impl Iterator<Item = (&'a [u8], u32)> + Clone) -> Self {
        let count = pieces.clone().filter(|(piece, _)| piece.len() <= SHORT).count();
        let slots = vec![Slot::default(); (2 * count + 1).next_power_of_two()].into_boxed_slice();
        let mut table = Self { slots, long: HashMap::new(), longest: 0 };
        for (piece, id) in pieces.filter(|(piece, _)| !piece.is_empty()) {
            table.longest = table.longest.max(piece.len());
            if piece.len() > SHORT {
                table.long.insert(piece.into(), id);
                continue;
            }
            let key = load(piece);
            let mut place = table.place(key);
            while table.slots[place].length != 0 {
                place = (place + 1) & (table.slots.len() - 1);
            }
            table.slots[place] = Slot { key, id, length: piece.len() as u32 };
        }
        table
    }

    fn place(&self, key: u128) -> usize {
        hash(key) & (self.slots.len() - 1)
    }

    #[inline]
    fn short(&self, key: u128, length: usize) -> Option<u32> {
        let mut place = self.place(key);
        loop {
            let slot = self.slots[place];
            if slot.key == key && slot.length == length as u32 {
                return Some(slot.id);
            }
            // At most half of the slots are taken.
            if slot.length == 0 {
                return None;
            }
            place = (place + 1) & (self.slots.len() - 1);
        }
    }

    /// The longest piece that `bytes` begin with: its id and length.
    fn longest_prefix(&self, bytes: &[u8]) -> Option<(u32, usize)> {
        let most = bytes.len().min(self.longest);
        for length in (SHORT + 1..=most).rev() {
            if let Some(id) = self.long.get(&bytes[..length]) {
                return Some((*id, length));
            }
        }
        self.longest_short(load(&bytes[..bytes.len().min(SHORT)]), most.min(SHORT))
    }

    /// The longest piece of at most `most` (at most [`SHORT`]) bytes that `key` begins with.
    fn longest_short(&self, key: u128, most: usize) -> Option<(u32, usize)> {
        let most = most.min(self.longest);
        (1..=most).rev().find_map(|length| Some((self.short(first_bytes(key, length), length)?, length)))
    }

    fn get(&self, piece: &[u8]) -> Option<u32> {
        if piece.len() > SHORT { self.long.get(piece).copied() } else { self.short(load(piece), piece.len()) }
    }
}

/// A piece of a word: its id and where it ends in the word.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Piece {
    pub(super) id: u32,
    pub(super) end: usize,
}

/// A WordPiece vocabulary.
#[derive(Debug)]
pub(super) struct Vocabulary {
    begin: Table,
    go_on: Table,
    unknown: u32,
    max_word_chars: usize,
}

impl Vocabulary {
    /// Makes the tables.
    pub(super) fn new(tokens: &HashMap<String, u32>, prefix: &str, unknown: u32, max_word_chars: usize) -> Self {
        let mut sorted: Vec<(&str, u32)> = tokens.iter().map(|(token, id)| (token.as_str(), *id)).collect();
        sorted.sort_unstable();
        let begin = sorted.iter().map(|(token, id)| (token.as_bytes(), *id));
        let go_on = sorted.iter().filter_map(|(token, id)| Some((token.strip_prefix(prefix)?.as_bytes(), *id)));
        Self { begin: Table::new(begin), go_on: Table::new(go_on), unknown, max_word_chars }
    }

    /// The token for a word that has no pieces.
    pub(super) fn unknown(&self) -> u32 {
        self.unknown
    }

    /// Longer words are unknown.
    pub(super) fn max_word_chars(&self) -> usize {
        self.max_word_chars
    }

    /// The id of a whole token, as it stands in the file.
    pub(super) fn id_of(&self, token: &str) -> Option<u32> {
        self.begin.get(token.as_bytes())
    }

    /// The token of a word of one character.
    pub(super) fn single(&self, c: char) -> u32 {
        if self.max_word_chars == 0 {
            return self.unknown;
        }
        self.begin.get(c.encode_utf8(&mut [0; 4]).as_bytes()).unwrap_or(self.unknown)
    }

    /// The token that is exactly the word of `length` (at most [`SHORT`]) bytes in `key`.
    #[inline]
    pub(super) fn whole(&self, key: u128, length: usize) -> Option<u32> {
        self.begin.short(key, length)
    }

    /// The longest pieces of a word from its start on, into `pieces`; or the unknown token for all of it.
    pub(super) fn split(&self, word: &[u8], pieces: &mut Vec<Piece>) {
        if word.len() <= SHORT {
            return self.split_short(load(word), word.len(), pieces);
        }
        pieces.clear();
        let mut start = 0;
        while start < word.len() {
            let table = if start == 0 { &self.begin } else { &self.go_on };
            let Some((id, length)) = table.longest_prefix(&word[start..]) else { break };
            start += length;
            pieces.push(Piece { id, end: start });
        }
        self.or_unknown(start, word.len(), pieces);
    }

    /// The same for a word of `length` (at most [`SHORT`]) bytes in `key`.
    pub(super) fn split_short(&self, key: u128, length: usize, pieces: &mut Vec<Piece>) {
        pieces.clear();
        let mut start = 0;
        while start < length {
            let table = if start == 0 { &self.begin } else { &self.go_on };
            let Some((id, taken)) = table.longest_short(key >> (8 * start), length - start) else { break };
            start += taken;
            pieces.push(Piece { id, end: start });
        }
        self.or_unknown(start, length, pieces);
    }

    /// A word with a rest that is no piece is unknown as a whole.
    fn or_unknown(&self, done: usize, length: usize, pieces: &mut Vec<Piece>) {
        if done < length {
            pieces.clear();
            pieces.push(Piece { id: self.unknown, end: length });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vocabulary(tokens: &[&str]) -> Vocabulary {
        let tokens = tokens.iter().enumerate().map(|(id, token)| ((*token).to_owned(), id as u32)).collect();
        Vocabulary::new(&tokens, "##", 0, 40)
    }

    fn split(vocabulary: &Vocabulary, word: &str) -> Vec<u32> {
        let mut pieces = Vec::new();
        vocabulary.split(word.as_bytes(), &mut pieces);
        pieces.iter().map(|piece| piece.id).collect()
    }

    #[test]
    fn the_longest_piece_wins_and_a_rest_makes_the_word_unknown() {
        let tokens = ["[UNK]", "a", "ab", "##c", "##cd", "abcdefghijklmnopqrstuvwxyz", "##é", "abcdefghijklmnop", "##"];
        let vocabulary = vocabulary(&tokens);
        for (word, expected) in [
            ("ab", vec![2]),
            ("abcd", vec![2, 4]),
            ("abcdc", vec![2, 4, 3]),
            ("abcde", vec![0]),
            ("abé", vec![2, 6]),
            ("abcdefghijklmnopqrstuvwxyz", vec![5]),
            ("abcdefghijklmnopqrstuvwxyzcdé", vec![5, 4, 6]),
            ("abcdefghijklmnopcd", vec![7, 4]),
            ("abcdefghijklmnopqrs", vec![0]),
            ("ac\0", vec![0]),
            ("acccccccccccccccccccccccccccc", [vec![1], vec![3; 28]].concat()),
        ] {
            assert_eq!(split(&vocabulary, word), expected, "{word}");
        }
        assert_eq!(vocabulary.id_of("##cd"), Some(4));
        assert_eq!(vocabulary.id_of("cd"), None);
        assert_eq!(vocabulary.whole(load(b"ab"), 2), Some(2));
        // Filled with zeros, these are one number.
        assert_eq!(vocabulary.whole(load(b"ab\0"), 3), None);
    }
}
