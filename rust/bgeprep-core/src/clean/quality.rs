//! Shares that tell text from noise. All are of characters, and all are cheap on ASCII.

/// Share of characters that equal the one before them: 1 for "aaaa", about .02 in prose.
pub fn repeated_share(text: &str, characters: usize) -> f32 {
    if characters < 2 {
        return 0.0;
    }
    let repeats = if text.len() == characters {
        // Tables and rules in plain text repeat spaces and dots; those are what we look for.
        let (bytes, next) = (text.as_bytes(), &text.as_bytes()[1..]);
        count_pairs(bytes, next, |a, b| u8::from(a == b))
    } else {
        text.chars().zip(text.chars().skip(1)).filter(|(a, b)| a == b).count()
    };
    repeats as f32 / (characters - 1) as f32
}

/// Share of characters that are neither letters, digits, marks nor white space.
pub fn symbol_share(text: &str, characters: usize) -> f32 {
    if characters == 0 {
        return 0.0;
    }
    let symbols = if text.len() == characters {
        // The second argument is there for `count_pairs` alone.
        count_pairs(text.as_bytes(), text.as_bytes(), |b, _| {
            let lower = b | 0x20;
            let word = u8::from(lower.wrapping_sub(b'a') < 26) | u8::from(b.wrapping_sub(b'0') < 10);
            1 - (word | u8::from(b == b' ') | u8::from(b == b'\n'))
        })
    } else {
        text.chars().filter(|&c| !is_wordlike(c)).count()
    };
    symbols as f32 / characters as f32
}

/// Sums 0 or 1 over pairs of bytes. Blocks of 255 with a one-byte sum are what the compiler turns into vector code.
#[inline]
fn count_pairs(left: &[u8], right: &[u8], holds: impl Fn(u8, u8) -> u8) -> usize {
    let blocks = left.chunks(255).zip(right.chunks(255));
    blocks.map(|(left, right)| usize::from(left.iter().zip(right).map(|(&a, &b)| holds(a, b)).sum::<u8>())).sum()
}

fn is_wordlike(character: char) -> bool {
    match character {
        '\0'..='\x7f' => character.is_ascii_alphanumeric() || character.is_ascii_whitespace(),
        // Ideographs, and combining marks, which belong to the letter before them.
        '\u{4e00}'..='\u{9fff}' | '\u{300}'..='\u{36f}' => true,
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

    fn shares(text: &str) -> (f32, f32) {
        let characters = text.chars().count();
        (repeated_share(text, characters), symbol_share(text, characters))
    }

    #[test]
    fn noise_stands_out_from_text() {
        assert!(shares("aaaaaaaaaaaa").0 > 0.9);
        assert!(shares("哈哈哈哈哈哈哈哈哈哈").0 > 0.9);
        assert!(shares("?!#@ $%^ &*() <>").1 > 0.7);
        for prose in ["How do magnets work, really?", "为什么天空是蓝色的？", "нормальный текст", "नमस्ते दुनिया"]
        {
            let (repeated, symbols) = shares(prose);
            assert!(repeated < 0.2 && symbols < 0.2, "{prose}: {repeated} {symbols}");
        }
    }
}
