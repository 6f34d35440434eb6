//! Shares that tell text from noise. Both are of characters, and both are cheap on ASCII.

/// What a text's characters say of it.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Shares {
    /// Share of characters that equal the one before them: 1 for "aaaa", about .02 in prose.
    pub repeated: f32,
    /// Share of characters that are neither letters, digits, marks nor white space.
    pub symbols: f32,
}

/// The shares of a text of `characters` characters.
pub fn shares(text: &str, characters: usize) -> Shares {
    if characters < 2 {
        return Shares::default();
    }
    let (repeats, symbols) =
        if text.len() == characters { count_ascii(text.as_bytes()) } else { count_characters(text) };
    Shares { repeated: repeats as f32 / (characters - 1) as f32, symbols: symbols as f32 / characters as f32 }
}

fn count_ascii(bytes: &[u8]) -> (usize, usize) {
    let repeats = count(bytes, &bytes[1..], |a, b| u8::from(a == b));
    // The second list is there for `count` alone.
    let symbols = count(bytes, bytes, |b, _| {
        let letter = u8::from((b | 0x20).wrapping_sub(b'a') < 26);
        1 - (letter | u8::from(b.wrapping_sub(b'0') < 10) | u8::from(b == b' ') | u8::from(b == b'\n'))
    });
    (repeats, symbols)
}

/// Sums 0 or 1 over pairs of bytes. Blocks of 255 with a one-byte sum are what the compiler turns into vector code.
#[inline]
fn count(left: &[u8], right: &[u8], holds: impl Fn(u8, u8) -> u8) -> usize {
    let blocks = left.chunks(255).zip(right.chunks(255));
    blocks.map(|(left, right)| usize::from(left.iter().zip(right).map(|(&a, &b)| holds(a, b)).sum::<u8>())).sum()
}

fn count_characters(text: &str) -> (usize, usize) {
    let (mut repeats, mut symbols, mut last) = (0, 0, None);
    for character in text.chars() {
        repeats += usize::from(last == Some(character));
        symbols += usize::from(!is_wordlike(character));
        last = Some(character);
    }
    (repeats, symbols)
}

fn is_wordlike(character: char) -> bool {
    match character {
        '\0'..='\x7f' => character.is_ascii_alphanumeric() || character.is_ascii_whitespace(),
        // Ideographs, and combining marks, which belong to the letter before them.
        '\u{4e00}'..='\u{9fff}' | '\u{300}'..='\u{36f}' => true,
        // Full-width punctuation is common and no table has to say so.
        '\u{ff01}'..='\u{ff0f}' | '\u{3001}'..='\u{3004}' | '\u{2010}'..='\u{2027}' => false,
        _ => character.is_alphanumeric() || character.is_whitespace() || is_indic_sign(character),
    }
}

/// Viramas and vowel signs of the Brahmic scripts, which Unicode does not call alphabetic.
fn is_indic_sign(character: char) -> bool {
    ('\u{900}'..='\u{109f}').contains(&character) && !matches!(character, '\u{964}' | '\u{965}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Shares {
        shares(text, text.chars().count())
    }

    #[test]
    fn noise_stands_out_from_text() {
        assert!(of("aaaaaaaaaaaa").repeated > 0.9);
        assert!(of("哈哈哈哈哈哈哈哈哈哈").repeated > 0.9);
        assert!(of("?!#@ $%^ &*() <>").symbols > 0.7);
        for prose in ["How do magnets work, really?", "为什么天空是蓝色的？", "нормальный текст", "नमस्ते दुनिया"]
        {
            let found = of(prose);
            assert!(found.repeated < 0.2 && found.symbols < 0.2, "{prose}: {found:?}");
        }
        assert_eq!(of(""), Shares::default());
    }

    #[test]
    fn ascii_counts_as_characters_do() {
        for length in [2, 3, 254, 255, 256, 257, 510, 1000] {
            let text: String = (0..length).map(|n| char::from(b" a,b!c--00\nZ"[n * n % 12])).collect();
            assert_eq!(count_ascii(text.as_bytes()), count_characters(&text), "{length}");
        }
    }
}
