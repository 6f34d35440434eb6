//! What becomes of each character, looked up.
//!
//! A table of all of Unicode would be large and slow to make, and a text needs a corner of it: pages
//! of 256 characters are made when first looked at. ASCII has a table of its own.

use std::sync::OnceLock;

use super::normalize::{Mapping, Normalizer};
use super::vocabulary::Vocabulary;

const PAGES: usize = (char::MAX as usize >> 8) + 1;
const KIND_BITS: u32 = 3;
const COUNT_BITS: u32 = 4;

/// What a byte is, at the start of a character.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Byte {
    /// Part of a word.
    Word,
    /// The end of a word.
    Space,
    /// A word of its own.
    Alone,
    /// A word of its own, unless an added token begins here.
    MayBegin,
    /// Nothing.
    Dropped,
    /// The first of several bytes of a character.
    Wide,
}

/// What a character that is not ASCII is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Wide<'a> {
    /// Nothing.
    Dropped,
    /// The end of a word.
    Space,
    /// A word of its own, with its id.
    Alone(u32),
    /// A character of a word.
    Word(char),
    /// Several characters of a word.
    Several(&'a [char]),
    /// It depends on its neighbours.
    Context,
}

/// A character is `payload << KIND_BITS | kind`; several are in `several`, and the payload says where.
#[derive(Debug)]
struct Page {
    entries: [u32; 256],
    several: Vec<char>,
}

/// The tables of a tokenizer.
#[derive(Debug)]
pub(super) struct Characters {
    normalizer: Normalizer,
    bytes: [Byte; 256],
    lower: [u8; 128],
    alone: [u32; 128],
    pages: Box<[OnceLock<Box<Page>>]>,
}

impl Characters {
    /// Tables for a normaliser and the tokenizer's vocabulary; `begins` says whether an added token begins so.
    pub(super) fn new(normalizer: Normalizer, vocabulary: &Vocabulary, begins: impl Fn(u8) -> bool) -> Self {
        let (mut bytes, mut lower, mut alone) = ([Byte::Wide; 256], [0; 128], [0; 128]);
        for byte in 0..128_u8 {
            let at = usize::from(byte);
            lower[at] = byte;
            bytes[at] = match normalizer.mapping(char::from(byte)) {
                Mapping::Alone(c) => {
                    alone[at] = vocabulary.single(c);
                    if begins(byte) { Byte::MayBegin } else { Byte::Alone }
                }
                Mapping::Space => Byte::Space,
                Mapping::Word(word) => {
                    lower[at] = word.first().map_or(byte, |c| *c as u8);
                    Byte::Word
                }
                // ASCII has no combining marks.
                Mapping::Dropped | Mapping::Context => Byte::Dropped,
            };
        }
        let pages = (0..PAGES).map(|_| OnceLock::new()).collect();
        Self { normalizer, bytes, lower, alone, pages }
    }

    /// The normaliser behind the tables.
    pub(super) fn normalizer(&self) -> Normalizer {
        self.normalizer
    }

    #[inline]
    pub(super) fn byte(&self, byte: u8) -> Byte {
        self.bytes[usize::from(byte)]
    }

    /// What an ASCII character of a word becomes.
    #[inline]
    pub(super) fn lower(&self, byte: u8) -> u8 {
        self.lower[usize::from(byte & 0x7f)]
    }

    /// The id of an ASCII character that is a word of its own.
    #[inline]
    pub(super) fn alone(&self, byte: u8) -> u32 {
        self.alone[usize::from(byte & 0x7f)]
    }

    /// Makes a page and keeps it. It is made outside of the cell: a process that forks while one of its threads fills a
    /// cell leaves the child waiting for that thread for ever.
    #[cold]
    fn fill(&self, number: usize, vocabulary: &Vocabulary) -> &Page {
        let page = self.page(number, vocabulary);
        self.pages[number].get_or_init(|| page)
    }

    /// What a character is that is not ASCII.
    #[inline]
    pub(super) fn wide(&self, c: char, vocabulary: &Vocabulary) -> Wide<'_> {
        let number = c as usize;
        let page = self.pages[number >> 8].get().map(Box::as_ref);
        let page = page.unwrap_or_else(|| self.fill(number >> 8, vocabulary));
        let entry = page.entries[number & 0xff];
        let payload = entry >> KIND_BITS;
        match entry & ((1 << KIND_BITS) - 1) {
            0 => Wide::Dropped,
            1 => Wide::Space,
            2 => Wide::Alone(payload),
            3 => char::from_u32(payload).map_or(Wide::Context, Wide::Word),
            4 => {
                let (first, count) = ((payload >> COUNT_BITS) as usize, (payload & ((1 << COUNT_BITS) - 1)) as usize);
                Wide::Several(&page.several[first..first + count])
            }
            _ => Wide::Context,
        }
    }

    #[cold]
    fn page(&self, number: usize, vocabulary: &Vocabulary) -> Box<Page> {
        let mut page = Page { entries: [0; 256], several: Vec::new() };
        for (low, entry) in page.entries.iter_mut().enumerate() {
            let Some(c) = char::from_u32((number << 8 | low) as u32) else { continue };
            let (kind, payload) = match self.normalizer.mapping(c) {
                Mapping::Dropped => (0, 0),
                Mapping::Space => (1, 0),
                Mapping::Alone(c) if vocabulary.single(c) < 1 << (32 - KIND_BITS) => (2, vocabulary.single(c)),
                Mapping::Word(word) if word.len() == 1 => (3, u32::from(word[0])),
                Mapping::Word(word) if word.len() < 1 << COUNT_BITS => {
                    let first = page.several.len() as u32;
                    page.several.extend_from_slice(&word);
                    (4, first << COUNT_BITS | word.len() as u32)
                }
                Mapping::Alone(_) | Mapping::Word(_) | Mapping::Context => (5, 0),
            };
            *entry = payload << KIND_BITS | kind;
        }
        Box::new(page)
    }
}
