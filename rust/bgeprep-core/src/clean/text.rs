//! The two forms of a text: *cleaned*, as it is stored, and *normalised*, as it is compared.
//!
//! Both have a fast path for what most corpora are made of (ASCII, Latin-1, common Chinese) and
//! fall back to the Unicode crates for everything else; a property test holds the paths equal.

use caseless::Caseless;
use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};
use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

/// What cleaning does to the stored text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TextForm {
    /// Compose to Unicode NFC.
    pub nfc: bool,
    /// Remove control characters (category Cc) other than tab, CR and LF.
    pub strip_control: bool,
    /// Turn every run of white space into one space and trim the ends.
    pub collapse_whitespace: bool,
    /// With `collapse_whitespace`: a run that holds a line break becomes one line break.
    pub keep_newlines: bool,
}

impl TextForm {
    /// Every rule on, and white space to single spaces: the form in which texts of benchmarks are compared.
    pub const STRICT: Self = Self { nfc: true, strip_control: true, collapse_whitespace: true, keep_newlines: false };
}

/// The batching key of a text: xxh3-64 (seed 0) of the UTF-8 of its normalised form.
pub fn key(text: &str) -> u64 {
    let mut buffer = String::new();
    xxh3_64(normalise(text, &mut buffer).as_bytes())
}

/// What a cleaned text is called in score files: xxh3-128 (seed 0) of its UTF-8 bytes, big-endian,
/// which is xxHash's canonical form. The one place that says so; the text is hashed as it is stored,
/// not as it is compared, because a scorer sees the stored text.
pub fn content_hash(text: &str) -> [u8; 16] {
    xxh3_128(text.as_bytes()).to_be_bytes()
}

/// What a text is compared by: `hash` decides equality when dropping, `key` serves batching.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Identity {
    /// xxh3-128 of the normalised form.
    pub hash: u128,
    /// xxh3-64 of the normalised form.
    pub key: u64,
}

impl Identity {
    /// Identity of `text`; `buffer` is scratch space.
    pub fn of(text: &str, buffer: &mut String) -> Self {
        Self::of_normal(normalise(text, buffer))
    }

    /// Identity of a text whose white space `clean` has collapsed to single spaces.
    pub fn of_collapsed(text: &str, buffer: &mut String) -> Self {
        if fold(text, buffer) && has_loose_whitespace(buffer) {
            *buffer = collapse(buffer, false);
        }
        Self::of_normal(buffer)
    }

    fn of_normal(normal: &str) -> Self {
        let bytes = normal.as_bytes();
        Self { hash: xxh3_128(bytes), key: xxh3_64(bytes) }
    }
}

/// NFKC → full case folding → runs of White_Space to one space, trimmed (DESIGN "Text form").
pub fn normalise<'b>(text: &str, buffer: &'b mut String) -> &'b str {
    fold(text, buffer);
    if has_loose_whitespace(buffer) {
        *buffer = collapse(buffer, false);
    }
    buffer.as_str()
}

/// NFKC and case folding into `out`. True if the way taken may have made new white space.
fn fold(text: &str, out: &mut String) -> bool {
    out.clear();
    if text.is_ascii() {
        out.push_str(text);
        out.make_ascii_lowercase();
        return false;
    }
    if fold_common(text, out) {
        return false;
    }
    out.clear();
    out.extend(text.nfkc().default_case_fold());
    true
}

/// NFKC and case folding of texts made of characters that take part in no composition.
/// False (with `out` in an undefined state) as soon as any other character turns up.
fn fold_common(text: &str, out: &mut String) -> bool {
    out.reserve(text.len());
    for character in text.chars() {
        match character {
            '\0'..='\x7f' => out.push(character.to_ascii_lowercase()),
            // Ideographs, CJK stops and brackets, quotation marks and dashes stay as they are.
            '\u{4e00}'..='\u{9fff}'
            | '\u{3001}'..='\u{3002}'
            | '\u{3008}'..='\u{3011}'
            | '\u{2013}'..='\u{2014}'
            | '\u{2018}'..='\u{2019}'
            | '\u{201c}'..='\u{201d}'
            | '\u{2020}'..='\u{2022}'
            | '\u{a1}'..='\u{a7}'
            | '\u{a9}'
            | '\u{ab}'
            | '\u{ac}'
            | '\u{ae}'
            | '\u{b0}'
            | '\u{b1}'
            | '\u{b6}'
            | '\u{b7}'
            | '\u{bb}'
            | '\u{bf}'
            | '\u{d7}'
            | '\u{e0}'..='\u{ff}'
            | '\u{430}'..='\u{44f}' => out.push(character),
            '\u{410}'..='\u{42f}' => out.extend(char::from_u32(character as u32 + 0x20)),
            // Full-width forms are ASCII in disguise.
            '\u{ff01}'..='\u{ff5e}' => {
                out.push(char::from((character as u32 - 0xfee0) as u8).to_ascii_lowercase());
            }
            '\u{3000}' => out.push(' '),
            '\u{2026}' => out.push_str("..."),
            '\u{df}' => out.push_str("ss"),
            '\u{c0}'..='\u{de}' => out.push(char::from((character as u32 + 0x20) as u8)),
            _ => return false,
        }
    }
    true
}

/// Cleans `text` into `out` and returns it; when nothing has to change this is one copy.
pub fn clean<'b>(text: &str, form: TextForm, out: &'b mut String) -> &'b str {
    out.clear();
    if is_clean(text, form) {
        out.push_str(text);
        return out.as_str();
    }
    let kept = text.chars().filter(|&c| !(form.strip_control && is_stray_control(c)));
    if form.nfc {
        out.extend(kept.nfc());
    } else {
        out.extend(kept);
    }
    if form.collapse_whitespace && has_loose_whitespace(out) {
        *out = collapse(out, form.keep_newlines);
    }
    out.as_str()
}

/// Tab, CR and LF are white space, not strays.
fn is_stray_control(character: char) -> bool {
    character.is_control() && !matches!(character, '\t' | '\n' | '\r')
}

/// Whether cleaning would return the text unchanged. May say no too often, never yes wrongly.
fn is_clean(text: &str, form: TextForm) -> bool {
    let bytes = text.as_bytes();
    if any_byte(bytes, |b| u8::from(b < 0x20) | u8::from(b == 0x7f)) {
        return false;
    }
    if form.collapse_whitespace && has_space_run(bytes) {
        return false;
    }
    if text.is_ascii() {
        return true;
    }
    let mut composed = true;
    for character in text.chars() {
        if character < '\u{80}' {
            continue;
        }
        if character < '\u{a0}' || character.is_whitespace() {
            return false;
        }
        composed &= never_composes(character);
    }
    composed || !form.nfc || is_nfc_quick(text.chars()) == IsNormalized::Yes
}

/// Characters with NFC_Quick_Check=Yes and combining class 0: a text of these alone is in NFC.
fn never_composes(character: char) -> bool {
    matches!(character,
        '\0'..='\u{2ff}'
        | '\u{2010}'..='\u{2027}'
        | '\u{3001}'..='\u{3020}'
        | '\u{3041}'..='\u{3096}'
        | '\u{30a1}'..='\u{30fa}'
        | '\u{4e00}'..='\u{9fff}'
        | '\u{ac00}'..='\u{d7a3}'
        | '\u{ff01}'..='\u{ff9d}')
}

fn has_space_run(bytes: &[u8]) -> bool {
    let ends = bytes.first() == Some(&b' ') || bytes.last() == Some(&b' ');
    // One vector sweep over both ends of each pair; blocks overlap by one byte.
    let run = |block: &[u8]| {
        let next = block.get(1..).unwrap_or_default();
        block.iter().zip(next).fold(0, |found, (&a, &b)| found | (u8::from(a == b' ') & u8::from(b == b' '))) != 0
    };
    ends || (0..bytes.len()).step_by(BLOCK).any(|start| run(&bytes[start..bytes.len().min(start + BLOCK + 1)]))
}

/// Bytes after which a sweep looks whether it has found something.
const BLOCK: usize = 512;

/// Whether `holds` (0 or 1) is 1 for any byte; written so that the compiler turns it into vector code.
#[inline]
fn any_byte(bytes: &[u8], holds: impl Fn(u8) -> u8) -> bool {
    bytes.chunks(BLOCK).any(|block| block.iter().fold(0, |found, &b| found | holds(b)) != 0)
}

/// Whether there is white space other than single spaces between words.
fn has_loose_whitespace(text: &str) -> bool {
    let bytes = text.as_bytes();
    if has_space_run(bytes) || any_byte(bytes, |b| u8::from(b < 0x20)) {
        return true;
    }
    !text.is_ascii() && text.chars().any(|c| c != ' ' && c.is_whitespace())
}

fn collapse(text: &str, keep_newlines: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut pending: Option<char> = None;
    for character in text.chars() {
        if character.is_whitespace() {
            let breaks = keep_newlines && matches!(character, '\n' | '\r' | '\u{2028}' | '\u{2029}');
            pending = Some(if breaks || pending == Some('\n') { '\n' } else { ' ' });
        } else {
            if let Some(space) = pending.take()
                && !out.is_empty()
            {
                out.push(space);
            }
            out.push(character);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FORM: TextForm = TextForm::STRICT;

    fn slow_normalise(text: &str) -> String {
        let folded: String = text.nfkc().default_case_fold().collect();
        folded.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    fn slow_clean(text: &str) -> String {
        let kept: String = text.chars().filter(|&c| !is_stray_control(c)).nfc().collect();
        kept.split_whitespace().collect::<Vec<_>>().join(" ")
    }

    /// Texts that mix what the fast paths know with what they must refuse.
    fn texts() -> impl Strategy<Value = String> {
        let character = prop_oneof![
            4 => prop::char::range(' ', '~'),
            2 => prop::char::range('\u{4e00}', '\u{4e80}'),
            1 => prop::char::range('\u{80}', '\u{17f}'),
            1 => prop::char::range('\u{300}', '\u{30f}'),
            1 => prop::char::range('\u{400}', '\u{45f}'),
            1 => prop::char::range('\u{ff00}', '\u{ffa0}'),
            1 => prop::char::range('\u{2000}', '\u{2030}'),
            1 => prop::char::range('\u{3000}', '\u{30ff}'),
            1 => prop::char::range('\u{1100}', '\u{11ff}'),
            1 => prop_oneof![Just('\n'), Just('\t'), Just('\0'), Just('\u{b}'), Just(' ')],
            1 => any::<char>(),
        ];
        prop::collection::vec(character, 0..24).prop_map(|characters| characters.into_iter().collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(1000))]

        #[test]
        fn normalise_equals_the_slow_path(text in texts()) {
            let mut buffer = String::new();
            prop_assert_eq!(normalise(&text, &mut buffer), slow_normalise(&text));
            let mut cleaned = String::new();
            clean(&text, FORM, &mut cleaned);
            prop_assert_eq!(Identity::of_collapsed(&cleaned, &mut buffer), Identity::of(&cleaned, &mut String::new()));
        }

        #[test]
        fn clean_equals_the_slow_path_and_is_idempotent(text in texts()) {
            let (mut once, mut twice) = (String::new(), String::new());
            clean(&text, FORM, &mut once);
            prop_assert_eq!(&once, &slow_clean(&text));
            prop_assert_eq!(clean(&once, FORM, &mut twice), once.as_str());
        }
    }

    #[test]
    fn known_forms() {
        let mut buffer = String::new();
        assert_eq!(normalise("  Straße\u{3000}Ａ１  ", &mut buffer), "strasse a1");
        assert_eq!(normalise("“你好”…", &mut buffer), "“你好”...");
        assert_eq!(key("Hello  World"), key("hello world"));
        let mut out = String::new();
        assert_eq!(clean("a\u{0}b\r\nc\u{301}", FORM, &mut out), "ab ć");
        let keep = TextForm { keep_newlines: true, ..FORM };
        assert_eq!(clean("a \n\n b\tc", keep, &mut out), "a\nb c");
    }
}
