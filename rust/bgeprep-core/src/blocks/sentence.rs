//! Where a text may be cut: between sentences, or at least between words.
//!
//! | a sentence ends behind | where |
//! |---|---|
//! | `。` `！` `？` `｡` | always, closing quotes and brackets included |
//! | `.` `!` `?` `…` | white space follows, and then no small letter; not behind an initial (`J. Smith`) |
//! | `.` `!` `?` | an ideograph follows directly, as in Chinese abstracts with Latin stops |
//! | a line break | always |
//!
//! White space behind a sentence belongs to it. A border that is missed or one too many changes
//! where a block ends, and nothing else.

/// Version of the rules: another one cuts other blocks.
pub(super) const RULES: u32 = 1;

/// Byte positions at which a sentence begins, but for the first; rising.
pub(super) fn borders(text: &str) -> Vec<u32> {
    let mut borders = Vec::new();
    let mut rest = text.char_indices().peekable();
    // The two characters before: an initial is a capital with nothing but a space before it.
    let mut before = [' ', ' '];
    while let Some((_, mark)) = rest.next() {
        let initial = mark == '.' && before[1].is_uppercase() && !before[0].is_alphanumeric();
        before = [before[1], mark];
        let full = matches!(mark, '。' | '！' | '？' | '｡');
        let latin = matches!(mark, '.' | '!' | '?' | '…');
        if mark != '\n' && !full && !latin {
            continue;
        }
        if mark != '\n' {
            while let Some((_, next)) = rest.next_if(|(_, next)| closes(*next)) {
                before = [before[1], next];
            }
        }
        let mut spaced = false;
        while rest.next_if(|(_, next)| next.is_whitespace()).is_some() {
            spaced = true;
        }
        let Some(&(at, next)) = rest.peek() else { break };
        if spaced {
            before = [' ', ' '];
        }
        let ends = mark == '\n'
            || full
            || (spaced && !next.is_lowercase() && !initial)
            || (!spaced && is_ideograph(next) && mark != '…');
        if ends {
            borders.push(at as u32);
        }
    }
    borders
}

/// Whether a word may be said to end, or another to begin, at this byte of a text.
pub(super) fn is_word_border(text: &str, at: usize) -> bool {
    let (Some(before), Some(after)) = (text[..at].chars().next_back(), text[at..].chars().next()) else { return true };
    !before.is_alphanumeric() || !after.is_alphanumeric() || is_ideograph(before) || is_ideograph(after)
}

/// What may stand between the mark that ends a sentence and the end of it.
fn closes(mark: char) -> bool {
    matches!(
        mark,
        '.' | '!'
            | '?'
            | '…'
            | '。'
            | '！'
            | '？'
            | '"'
            | '\''
            | ')'
            | ']'
            | '}'
            | '”'
            | '’'
            | '»'
            | '」'
            | '』'
            | '）'
            | '】'
            | '》'
    )
}

/// Characters that are words without spaces: Han, Hiragana, Katakana and their extensions.
fn is_ideograph(character: char) -> bool {
    matches!(character, '\u{3005}'..='\u{30ff}' | '\u{31f0}'..='\u{31ff}' | '\u{3400}'..='\u{9fff}' | '\u{f900}'..='\u{faff}' | '\u{20000}'..='\u{3ffff}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sentences(text: &str) -> Vec<&str> {
        let mut ends = borders(text);
        ends.insert(0, 0);
        ends.push(text.len() as u32);
        ends.windows(2).map(|pair| &text[pair[0] as usize..pair[1] as usize]).collect()
    }

    #[test]
    fn sentences_of_several_scripts() {
        for (text, expected) in [
            ("One. Two! \"Three?\" Four", &["One. ", "Two! ", "\"Three?\" ", "Four"][..]),
            (
                "It costs 3.5 dollars, e.g. in Rome. J. Smith said so.",
                &["It costs 3.5 dollars, e.g. in Rome. ", "J. Smith said so."],
            ),
            ("Wait... what? Yes…  No", &["Wait... what? ", "Yes…  ", "No"]),
            ("天气好。他说：“走吧！”我们走了？是", &["天气好。", "他说：“走吧！”", "我们走了？", "是"]),
            ("性能缺陷.该染料最适合70℃.染色 3.5", &["性能缺陷.", "该染料最适合70℃.", "染色 3.5"]),
            ("a line\nanother\n\nthird", &["a line\n", "another\n\n", "third"]),
            ("", &[""]),
            ("...", &["..."]),
        ] {
            assert_eq!(sentences(text), expected, "{text}");
        }
    }

    #[test]
    fn words_end_at_spaces_marks_and_ideographs() {
        let borders = |text: &str| -> Vec<usize> {
            text.char_indices().map(|(at, _)| at).filter(|at| is_word_border(text, *at)).collect()
        };
        assert_eq!(borders("two words,x"), [0, 3, 4, 9, 10]);
        assert_eq!(borders("ab中文c"), [0, 2, 5, 8]);
    }
}
