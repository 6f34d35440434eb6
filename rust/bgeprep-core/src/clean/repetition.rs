//! How much of a text says again what it has said: machine-made filler, broken scrapes, loops of a language model.
//!
//! The rule is the "duplicate n-grams" of Gopher (Rae et al. 2021, "Scaling Language Models", table A1: the share of
//! characters in word 5-grams to 10-grams that repeat), as one number and for any script. A *phrase* is a run of tokens
//! (a run of letters and digits; each ideograph or kana alone) of at least [`PHRASE`] points, where a word has two and
//! an ideograph one: five words, or ten ideographs. A token is repeated where it lies in a phrase that has stood in the
//! text before; the share is of characters in tokens.

use xxhash_rust::xxh3::xxh3_64;

/// Points of a phrase.
const PHRASE: usize = 10;

#[derive(Debug, Clone, Copy)]
struct Token {
    hash: u64,
    characters: u32,
    points: u8,
}

/// The share of characters in phrases that stand further up already. `normal` is the normalised form of the text.
pub fn repeated_share(normal: &str) -> f32 {
    let tokens = tokens(normal);
    let mut phrases = phrases(&tokens);
    // Equal phrases side by side, in the order of the text.
    phrases.sort_unstable();
    let mut repeated = vec![false; tokens.len()];
    for pair in phrases.windows(2) {
        let [(first, _, _), (second, from, to)] = [pair[0], pair[1]];
        if first == second {
            repeated[from as usize..to as usize].fill(true);
        }
    }
    let all: u64 = tokens.iter().map(|token| u64::from(token.characters)).sum();
    let again = tokens.iter().zip(&repeated).filter(|(_, repeated)| **repeated);
    let again: u64 = again.map(|(token, _)| u64::from(token.characters)).sum();
    if all == 0 { 0.0 } else { again as f32 / all as f32 }
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::with_capacity(text.len() / 4);
    let (mut start, mut length) = (0, 0);
    let word = |text: &str, length| Token { hash: xxh3_64(text.as_bytes()), characters: length, points: 2 };
    for (at, character) in text.char_indices() {
        let alone = stands_alone(character);
        if !alone && character.is_alphanumeric() {
            if length == 0 {
                start = at;
            }
            length += 1;
            continue;
        }
        if length > 0 {
            tokens.push(word(&text[start..at], std::mem::take(&mut length)));
        }
        if alone {
            tokens.push(Token { hash: u64::from(character), characters: 1, points: 1 });
        }
    }
    if length > 0 {
        tokens.push(word(&text[start..], length));
    }
    tokens
}

/// Scripts without spaces between words.
fn stands_alone(character: char) -> bool {
    matches!(character, '\u{3041}'..='\u{30ff}' | '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}'
        | '\u{e00}'..='\u{eff}' | '\u{1000}'..='\u{109f}' | '\u{1780}'..='\u{17ff}' | '\u{20000}'..='\u{323af}')
}

/// All phrases: hash of the tokens, first token, token behind the last.
fn phrases(tokens: &[Token]) -> Vec<(u64, u32, u32)> {
    let mut phrases = Vec::with_capacity(tokens.len());
    let (mut end, mut points) = (0, 0);
    for start in 0..tokens.len() {
        while points < PHRASE && end < tokens.len() {
            points += usize::from(tokens[end].points);
            end += 1;
        }
        if points < PHRASE {
            break;
        }
        let mix = |hash: u64, token: &Token| (hash ^ token.hash).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
        let hash = tokens[start..end].iter().fold(0x2545_f491_4f6c_dd1d, mix);
        phrases.push((hash, start as u32, end as u32));
        points -= usize::from(tokens[start].points);
    }
    phrases
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    /// The definition, word by word.
    fn slow(text: &str) -> f32 {
        let mut tokens: Vec<String> = Vec::new();
        let mut open = false;
        for character in text.chars() {
            if stands_alone(character) {
                tokens.push(character.to_string());
                open = false;
            } else if character.is_alphanumeric() {
                if open {
                    tokens.last_mut().expect("an open word").push(character);
                } else {
                    tokens.push(character.to_string());
                }
                open = true;
            } else {
                open = false;
            }
        }
        let points = |token: &String| if token.chars().any(stands_alone) { 1 } else { 2 };
        let (mut seen, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for start in 0..tokens.len() {
            let ends = start + 1..=tokens.len();
            let end = ends.into_iter().find(|end| tokens[start..*end].iter().map(points).sum::<usize>() >= PHRASE);
            if let Some(end) = end
                && !seen.insert(tokens[start..end].to_vec())
            {
                repeated.extend(start..end);
            }
        }
        let length = |at: &usize| tokens[*at].chars().count();
        let all: usize = (0..tokens.len()).map(|at| length(&at)).sum();
        if all == 0 { 0.0 } else { repeated.iter().map(length).sum::<usize>() as f32 / all as f32 }
    }

    proptest! {
        #[test]
        fn equals_the_definition(text in "([ab]{1,2} |[你好a] ?){0,60}") {
            prop_assert_eq!(repeated_share(&text), slow(&text), "{}", text);
        }
    }

    #[test]
    fn loops_stand_out_from_prose() {
        for prose in [
            "",
            "short",
            "the patient should see a doctor if the pain does not go away within a few days, or if the pain gets worse",
            "人工智能是研究、开发用于模拟、延伸和扩展人的智能的理论、方法、技术及应用系统的一门新的技术科学。",
        ] {
            assert_eq!(repeated_share(prose), 0.0, "{prose}");
        }
        assert!(repeated_share(&"buy cheap watches online now ".repeat(4)) > 0.7);
        assert!(repeated_share(&"点击这里查看更多精彩内容".repeat(4)) > 0.7);
        assert!(repeated_share(&"no no ".repeat(20)) > 0.8);
    }

    #[test]
    fn only_what_comes_again_counts() {
        // Ten words twice, and ten other words: the second ten of thirty.
        let (ten, other) = ("aa bb cc dd ee ff gg hh ii jj", "kk ll mm nn oo pp qq rr ss tt");
        assert!((repeated_share(&format!("{ten} {other} {ten}")) - 1.0 / 3.0).abs() < 1e-6);
        // Punctuation is no part of a phrase; four words are none.
        assert!(repeated_share(&format!("{ten}, {other}! \"{ten}\"")) > 0.3);
        assert_eq!(repeated_share("aa bb cc dd, xx, aa bb cc dd, yy, aa bb cc dd"), 0.0);
    }
}
