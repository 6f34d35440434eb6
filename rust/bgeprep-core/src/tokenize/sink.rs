//! Where tokens go: each caller keeps another part of what is known about a token.

/// The token is the first of a word.
pub const WORD_START: u8 = 1;
/// The token is one that the tokenizer's file calls special, or stands around every text.
pub const SPECIAL: u8 = 2;

/// Takes tokens in the order of the text.
pub(super) trait Sink {
    /// Whether places in the text are looked at.
    const SPANS: bool;

    /// Takes a token, with whether it begins a word and its bytes in the text; answers whether it wants more.
    fn token(&mut self, id: u32, begins: bool, span: (u32, u32)) -> bool;

    /// Tokens taken.
    fn taken(&self) -> usize;

    /// Forgets all but the first `count` tokens.
    fn forget(&mut self, count: usize);
}

/// Only counts.
#[derive(Debug, Default)]
pub(super) struct Count(pub(super) usize);

impl Sink for Count {
    const SPANS: bool = false;

    fn token(&mut self, _: u32, _: bool, _: (u32, u32)) -> bool {
        self.0 += 1;
        true
    }

    fn taken(&self) -> usize {
        self.0
    }

    fn forget(&mut self, count: usize) {
        self.0 = count;
    }
}

/// Ids up to a length.
#[derive(Debug)]
pub(super) struct Ids<'a> {
    pub(super) out: &'a mut Vec<i32>,
    /// Length of `out` that is not exceeded.
    pub(super) most: usize,
    /// Whether there was one token more.
    pub(super) cut: bool,
}

impl Sink for Ids<'_> {
    const SPANS: bool = false;

    #[inline]
    fn token(&mut self, id: u32, _: bool, _: (u32, u32)) -> bool {
        if self.out.len() >= self.most {
            self.cut = true;
            return false;
        }
        self.out.push(id as i32);
        true
    }

    fn taken(&self) -> usize {
        self.out.len()
    }

    fn forget(&mut self, count: usize) {
        self.out.truncate(count);
    }
}

/// Ids up to a length, and what is to be known for whole-word masks.
#[derive(Debug)]
pub(super) struct Words<'a> {
    pub(super) ids: Ids<'a>,
    pub(super) flags: &'a mut Vec<u8>,
    /// Sorted.
    pub(super) special: &'a [u32],
    /// Ids less flags before this call.
    pub(super) shift: isize,
}

impl Sink for Words<'_> {
    const SPANS: bool = false;

    fn token(&mut self, id: u32, begins: bool, span: (u32, u32)) -> bool {
        let more = self.ids.token(id, begins, span);
        if more {
            let special = self.special.binary_search(&id).is_ok();
            self.flags.push(if begins { WORD_START } else { 0 } | if special { SPECIAL } else { 0 });
        }
        more
    }

    fn taken(&self) -> usize {
        self.flags.len()
    }

    fn forget(&mut self, count: usize) {
        self.flags.truncate(count);
        self.ids.forget(count.saturating_add_signed(self.shift));
    }
}

/// All ids and their places in the text.
#[derive(Debug)]
pub(super) struct Spans<'a> {
    pub(super) out: &'a mut Vec<i32>,
    pub(super) places: &'a mut Vec<(u32, u32)>,
    /// Ids less places before this call.
    pub(super) shift: isize,
}

impl Sink for Spans<'_> {
    const SPANS: bool = true;

    fn token(&mut self, id: u32, _: bool, span: (u32, u32)) -> bool {
        self.out.push(id as i32);
        self.places.push(span);
        true
    }

    fn taken(&self) -> usize {
        self.places.len()
    }

    fn forget(&mut self, count: usize) {
        self.places.truncate(count);
        self.out.truncate(count.saturating_add_signed(self.shift));
    }
}
