//! Finds the elements of one big JSON array in text that comes in pieces.

/// What ends an element.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// The comma at this place.
    Comma(usize),
    /// The closing bracket of the array at this place.
    Close(usize),
}

/// Where a scan stands between two bytes; starts before the opening bracket.
#[derive(Debug, Clone, Default)]
pub(super) struct Scanner {
    depth: u32,
    in_string: bool,
    escaped: bool,
}

impl Scanner {
    /// The first element end at or after `from`; `None` takes all bytes in. Whether brackets match
    /// is left to the parser, which sees every element.
    pub(super) fn next(&mut self, bytes: &[u8], from: usize) -> Option<End> {
        let mut at = from;
        while at < bytes.len() {
            if self.in_string {
                if self.escaped {
                    self.escaped = false;
                    at += 1;
                    continue;
                }
                at += memchr::memchr2(b'"', b'\\', &bytes[at..])?;
                if bytes[at] == b'"' {
                    self.in_string = false;
                } else {
                    self.escaped = true;
                }
            } else {
                match bytes[at] {
                    b'"' => self.in_string = true,
                    b'[' | b'{' => self.depth += 1,
                    b']' | b'}' => {
                        self.depth = self.depth.saturating_sub(1);
                        if self.depth == 0 {
                            return Some(End::Close(at));
                        }
                    }
                    b',' if self.depth == 1 => return Some(End::Comma(at)),
                    _ => {}
                }
            }
            at += 1;
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::{End, Scanner};

    #[test]
    fn finds_ends_in_pieces() {
        let text = br#" [ {"a": "x,]\"", "b": [1, 2]}, "s\\", [3] ] "#;
        for size in 1..text.len() {
            let (mut scanner, mut ends, mut base) = (Scanner::default(), Vec::new(), 0);
            for piece in text.chunks(size) {
                let mut from = 0;
                while let Some(end) = scanner.next(piece, from) {
                    let (End::Comma(at) | End::Close(at)) = end;
                    ends.push((base + at, matches!(end, End::Close(_))));
                    from = at + 1;
                }
                base += piece.len();
            }
            assert_eq!(ends, [(30, false), (37, false), (43, true)], "pieces of {size}");
        }
    }
}
