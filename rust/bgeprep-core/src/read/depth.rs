//! How deep JSON text nests. The parser calls itself for every level and knows no limit for values that it skips, so
//! a line of nothing but brackets would overflow the stack and end the process.

/// More levels than records have, and fewer than the smallest stack bears in a debug build.
pub(super) const MOST_LEVELS: usize = 64;

/// Whether the text nests deeper than that.
pub(super) fn is_too_deep(text: &str) -> bool {
    let bytes = text.as_bytes();
    // Hardly any line has that many brackets: this sweep, which the compiler turns into vector code, is all it costs.
    let mut openers = 0;
    for block in bytes.chunks(255) {
        openers += usize::from(block.iter().map(|&byte| u8::from(byte | 0x20 == b'{')).sum::<u8>());
        if openers > MOST_LEVELS {
            return deepest(bytes) > MOST_LEVELS;
        }
    }
    false
}

/// The deepest level, brackets within texts left out.
fn deepest(bytes: &[u8]) -> usize {
    let (mut level, mut most, mut at) = (0_usize, 0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at += 1;
                while at < bytes.len() && bytes[at] != b'"' {
                    at += if bytes[at] == b'\\' { 2 } else { 1 };
                }
            }
            b'[' | b'{' => {
                level += 1;
                most = most.max(level);
            }
            b']' | b'}' => level = level.saturating_sub(1),
            _ => {}
        }
        at += 1;
    }
    most
}

#[cfg(test)]
mod tests {
    use super::{MOST_LEVELS, is_too_deep};
    use crate::read::columns::ColumnMapping;
    use crate::read::json::parse;
    use crate::read::roles::{Columns, Row};
    use crate::read::testing::layout;

    fn nested(open: &str, close: &str, levels: usize) -> String {
        format!("{}1{}", open.repeat(levels), close.repeat(levels))
    }

    #[test]
    fn levels_are_counted_not_brackets() {
        for (open, close, of_each) in [("[", "]", 1), ("{\"a\":", "}", 1), (" [ {\"[\\\"[\": ", "}]", 2)] {
            assert!(!is_too_deep(&nested(open, close, MOST_LEVELS / of_each)), "{open}");
            assert!(is_too_deep(&nested(open, close, MOST_LEVELS / of_each + 1)), "{open}");
        }
        assert!(!is_too_deep(&"[1], ".repeat(10_000)));
        assert!(!is_too_deep(&format!("[\"{}\"]", "[\\\"{".repeat(10_000))));
        assert!(is_too_deep(&"[".repeat(10_000_000)));
        assert!(!is_too_deep("\"\\"));
    }

    #[test]
    fn deep_nesting_is_bad_json_and_no_stack_overflow() {
        let layout = layout(ColumnMapping::default());
        for (open, close) in [("[", "]"), ("{\"query\": ", "}"), ("{\"x\": ", "}"), ("{\"query\": [", "]}")] {
            for levels in [65, 1_000_000] {
                let text = format!("{}1{}", open.repeat(levels), close.repeat(levels));
                let (mut columns, mut row) = (Columns::new(&layout), Row::new());
                let found = parse(&text, &mut columns, &mut row);
                assert_eq!(found, Err("nested deeper than 64 levels".to_owned()));
            }
        }
    }
}
