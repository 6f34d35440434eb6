//! Texts on their way from a row that goes to a row that stays.

use super::RowId;
use crate::{Error, Result};

/// What arrives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Cargo {
    /// A positive with its score.
    Positive,
    /// A negative with its score.
    Negative,
    /// A score for the positive with the same key.
    Score,
}

/// One text for one row; sorts by receiver, then by giver, so that lists grow in one order.
#[derive(Debug, Clone, PartialEq)]
pub struct Transfer {
    /// The receiving row.
    pub to: RowId,
    /// What it is.
    pub cargo: Cargo,
    /// The giving row.
    pub from: RowId,
    /// Index in the giving row's list.
    pub item: u32,
    /// Exact key of the text.
    pub key: u64,
    /// Its score, NaN for none.
    pub score: f32,
    /// The text; empty for a score.
    pub text: String,
}

const HEAD: usize = 12 + 1 + 12 + 4 + 8 + 4 + 4;

impl Transfer {
    /// Appends the transfer to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        for row in [self.to, self.from] {
            out.extend_from_slice(&row.file.to_le_bytes());
            out.extend_from_slice(&row.line.to_le_bytes());
        }
        out.push(self.cargo as u8);
        out.extend_from_slice(&self.item.to_le_bytes());
        out.extend_from_slice(&self.key.to_le_bytes());
        out.extend_from_slice(&self.score.to_le_bytes());
        out.extend_from_slice(&(self.text.len() as u32).to_le_bytes());
        out.extend_from_slice(self.text.as_bytes());
    }

    /// Reads all transfers to a bucket, sorted by receiver.
    pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Self>> {
        let mut transfers = Vec::new();
        while !bytes.is_empty() {
            let (head, rest) = bytes.split_at_checked(HEAD).ok_or_else(damaged)?;
            let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
            let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
            let (text, rest) = rest.split_at_checked(word(41) as usize).ok_or_else(damaged)?;
            transfers.push(Self {
                to: RowId { file: word(0), line: long(4) },
                from: RowId { file: word(12), line: long(16) },
                cargo: *[Cargo::Positive, Cargo::Negative, Cargo::Score]
                    .get(usize::from(head[24]))
                    .ok_or_else(damaged)?,
                item: word(25),
                key: long(29),
                score: f32::from_bits(word(37)),
                text: String::from_utf8(text.to_vec()).map_err(|_| damaged())?,
            });
            bytes = rest;
        }
        let place = |transfer: &Self| (transfer.to, transfer.cargo, transfer.from, transfer.item);
        transfers.sort_by_key(place);
        Ok(transfers)
    }
}

fn damaged() -> Error {
    Error::Internal("a transfer record is shorter than its own header says".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transfers_come_back_sorted_by_receiver() {
        let transfer = |line, item, cargo| Transfer {
            to: RowId { file: 1, line },
            cargo,
            from: RowId { file: 0, line: 9 },
            item,
            key: 5,
            score: 0.5,
            text: format!("文 {item}"),
        };
        let sorted = [transfer(1, 0, Cargo::Positive), transfer(1, 2, Cargo::Negative), transfer(4, 1, Cargo::Score)];
        let mut bytes = Vec::new();
        for index in [2, 0, 1] {
            sorted[index].encode(&mut bytes);
        }
        assert_eq!(Transfer::decode_all(&bytes).expect("whole"), sorted);
        assert!(Transfer::decode_all(&bytes[..bytes.len() - 1]).is_err());
    }
}
