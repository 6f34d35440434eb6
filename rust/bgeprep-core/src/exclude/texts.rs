//! Normalised benchmark texts, each once, with the place each was first found.

use std::collections::HashMap;

use crate::near::prefix::Postings;
use crate::{Error, Result};

/// Memory that benchmarks may take.
#[derive(Debug)]
pub(super) struct Budget {
    used: u64,
    limit: u64,
}

impl Budget {
    pub(super) fn new(limit: u64) -> Self {
        Self { used: 0, limit }
    }

    /// Counts bytes held.
    ///
    /// # Errors
    /// `Config` once they are more than the limit.
    pub(super) fn take(&mut self, bytes: u64) -> Result<()> {
        self.used += bytes;
        if self.used <= self.limit {
            return Ok(());
        }
        let mebibytes = |bytes: u64| bytes.div_ceil(1 << 20);
        let message = format!(
            "the benchmarks to exclude need more than {} MiB, a quarter of it; hint: give more, compare with fewer \
             benchmarks, or leave their corpora out",
            mebibytes(self.limit)
        );
        Err(Error::config("memory", message))
    }
}

/// Where a text was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// Index of the benchmark.
    pub(super) benchmark: u32,
    /// Index of its file.
    pub(super) file: u32,
    /// Line in the file, from 1.
    pub(super) line: u64,
}

/// Texts by number.
#[derive(Debug, Default)]
pub(super) struct Texts {
    text: String,
    ids: String,
    /// End of each text, end of its id, its place.
    entries: Vec<(u64, u64, Place)>,
    by_hash: Postings,
}

/// Texts that are still being added to.
#[derive(Debug, Default)]
pub(super) struct TextsBuilder {
    texts: Texts,
    numbers: HashMap<u128, u32>,
}

impl TextsBuilder {
    /// The number of a text, a new one if it has not been there; an empty text has none.
    pub(super) fn add(
        &mut self,
        (normal, hash): (&str, u128),
        id: &str,
        place: Place,
        budget: &mut Budget,
    ) -> Result<Option<u32>> {
        if normal.is_empty() {
            return Ok(None);
        }
        if let Some(&number) = self.numbers.get(&hash) {
            return Ok(Some(number));
        }
        let texts = &mut self.texts;
        let number = u32::try_from(texts.entries.len())
            .map_err(|_| Error::config("exclude.paths", "expected fewer than 2³² different texts"))?;
        // The text, its entry, and what finding it by hash takes.
        budget
            .take((normal.len() + id.len() + size_of::<(u64, u64, Place)>() + 16 + size_of::<(u128, u32)>()) as u64)?;
        texts.text.push_str(normal);
        texts.ids.push_str(id);
        texts.entries.push((texts.text.len() as u64, texts.ids.len() as u64, place));
        self.numbers.insert(hash, number);
        Ok(Some(number))
    }

    pub(super) fn finish(mut self) -> Texts {
        // In no order: `Postings` sorts.
        let pairs = self.numbers.drain().map(|(hash, number)| (hash as u64, number)).collect();
        self.texts.by_hash = Postings::new(pairs);
        self.texts
    }
}

impl Texts {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A text.
    pub(super) fn get(&self, number: u32) -> &str {
        let start = self.before(number).map_or(0, |&(text, ..)| text);
        &self.text[start as usize..self.entries[number as usize].0 as usize]
    }

    /// Its id in its file, empty if it has none.
    pub(super) fn id(&self, number: u32) -> &str {
        let start = self.before(number).map_or(0, |&(_, id, _)| id);
        &self.ids[start as usize..self.entries[number as usize].1 as usize]
    }

    /// Where it was first found.
    pub(super) fn place(&self, number: u32) -> Place {
        self.entries[number as usize].2
    }

    /// The number of the text that equals `normal`.
    pub(super) fn equal(&self, normal: &str, hash: u128) -> Option<u32> {
        self.by_hash.get(hash as u64).iter().copied().find(|&number| self.get(number) == normal)
    }

    fn before(&self, number: u32) -> Option<&(u64, u64, Place)> {
        (number as usize).checked_sub(1).map(|before| &self.entries[before])
    }
}
