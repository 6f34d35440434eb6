//! Whether a text is in the language it should be in.
//!
//! A text is called wrong only where that is sure, for a good row lost is worse than a bad one kept:
//!
//! 1. Letters are counted by script; an ideograph or syllable counts as [`SYLLABLE_LETTERS`], as it says about that
//!    much. A text with fewer letters than the minimum is not judged.
//! 2. Where ideographs and syllables prevail, the script decides among Chinese, Japanese and Korean. A Chinese text
//!    may hold many Latin names, and an English one a few Chinese words.
//! 3. Where English is expected, a text full of words that only English has passes at once: whatlang takes some 100 µs
//!    a text, whatever its length, and most texts are spared that.
//! 4. Else whatlang's trigrams name a language. If that is not the expected one, the two are compared once more alone,
//!    and the confidence of that second look has to reach the minimum: most errors of the first look, among all
//!    languages of the script, do not survive it.

use whatlang::{Detector, Lang, detect};

use crate::{Error, Result};

/// Letters of an alphabet that one ideograph or syllable stands for.
pub const SYLLABLE_LETTERS: usize = 3;

/// Bytes at the start of a text that are looked at.
const SAMPLE_BYTES: usize = 4096;

/// Smallest share of kana in Japanese as opposed to Chinese with a Japanese name in it.
const KANA_OF_JAPANESE: f64 = 0.1;

/// The rule: which language is expected, and what has to be sure.
#[derive(Debug, Clone, Copy)]
pub struct LanguageRule {
    expected: Lang,
    /// A language that whatlang cannot tell from the expected one.
    twin: Option<Lang>,
    min_confidence: f64,
    min_letters: usize,
}

/// What a text is in instead.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Found {
    /// Its name in English.
    pub language: &'static str,
    /// How sure that is, 0 to 1.
    pub confidence: f64,
}

impl LanguageRule {
    /// The rule for a language tag, as `en`, `zh-Hant` or `deu`.
    ///
    /// # Errors
    /// `Config`, with `key` as the setting's name: a language the detector does not know.
    pub fn new(tag: &str, min_confidence: f64, min_letters: usize, key: &str) -> Result<Self> {
        let primary = tag.split(['-', '_']).next().unwrap_or_default().to_ascii_lowercase();
        let expected = language(&primary).ok_or_else(|| {
            let message = format!(
                "expected the tag of a language that can be detected, such as en, zh or de, found {tag:?}; \
                 hint: leave it empty, and its texts are not judged"
            );
            Error::config(key, message)
        })?;
        // Croatian, Bosnian and Serbian in Latin letters are one language to trigrams.
        let twin = match expected {
            Lang::Hrv => Some(Lang::Srp),
            Lang::Srp => Some(Lang::Hrv),
            _ => None,
        };
        Ok(Self { expected, twin, min_confidence, min_letters })
    }

    /// The name of the expected language in English.
    pub fn expected(&self) -> &'static str {
        self.expected.eng_name()
    }

    /// The other language that `text` is in; `None` where it is in the expected one, or nothing is sure.
    pub fn fault(&self, text: &str) -> Option<Found> {
        let sample = start(text);
        let letters = Letters::of(sample);
        if letters.weight() < self.min_letters {
            return None;
        }
        if letters.syllables() * SYLLABLE_LETTERS > letters.other {
            return self.syllabic_fault(&letters);
        }
        if self.expected == Lang::Eng && is_plainly_english(sample) {
            return None;
        }
        let found = detect(sample)?;
        if self.accepts(found.lang()) {
            return None;
        }
        let confidence = if found.script().langs().contains(&self.expected) {
            let second = Detector::with_allowlist(vec![self.expected, found.lang()]).detect(sample)?;
            if second.lang() == self.expected {
                return None;
            }
            second.confidence()
        } else {
            // Another script altogether.
            1.0
        };
        (confidence >= self.min_confidence).then(|| Found { language: found.lang().eng_name(), confidence })
    }

    fn accepts(&self, language: Lang) -> bool {
        language == self.expected || Some(language) == self.twin
    }

    fn syllabic_fault(&self, letters: &Letters) -> Option<Found> {
        let kana = letters.kana as f64 / letters.syllables() as f64;
        let found = if letters.hangul > letters.han + letters.kana {
            Lang::Kor
        } else if kana >= KANA_OF_JAPANESE {
            Lang::Jpn
        } else {
            Lang::Cmn
        };
        // Old Korean, and Japanese titles, may do without their own syllables.
        let unsure = found == Lang::Cmn && matches!(self.expected, Lang::Jpn | Lang::Kor);
        if self.accepts(found) || (unsure && letters.weight() < 2 * self.min_letters) {
            return None;
        }
        Some(Found { language: found.eng_name(), confidence: 1.0 })
    }
}

/// Frequent words of English that are words of no other language.
const ENGLISH: [&str; 20] = [
    "the", "and", "that", "with", "what", "which", "does", "did", "this", "from", "you", "how", "when", "where", "why",
    "who", "are", "were", "has", "their",
];

/// Whether a sixth of all words, and at least two, are such words. No says nothing.
fn is_plainly_english(text: &str) -> bool {
    let (mut words, mut english) = (0, 0);
    for word in text.split(|character: char| !character.is_alphabetic()).filter(|word| !word.is_empty()) {
        words += 1;
        let known = (3..=5).contains(&word.len()) && ENGLISH.iter().any(|one| one.eq_ignore_ascii_case(word));
        english += usize::from(known);
    }
    english >= 2 && english * 6 >= words
}

/// The first bytes of a text, whole characters.
fn start(text: &str) -> &str {
    let mut end = text.len().min(SAMPLE_BYTES);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Letters by script.
#[derive(Debug, Default)]
struct Letters {
    han: usize,
    kana: usize,
    hangul: usize,
    other: usize,
}

impl Letters {
    fn of(text: &str) -> Self {
        let mut letters = Self::default();
        for character in text.chars() {
            match character {
                '\0'..='\x7f' => letters.other += usize::from(character.is_ascii_alphabetic()),
                '\u{3400}'..='\u{4dbf}' | '\u{4e00}'..='\u{9fff}' | '\u{20000}'..='\u{323af}' => letters.han += 1,
                '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fa}' => letters.kana += 1,
                '\u{ac00}'..='\u{d7a3}' => letters.hangul += 1,
                _ => letters.other += usize::from(character.is_alphabetic()),
            }
        }
        letters
    }

    fn syllables(&self) -> usize {
        self.han + self.kana + self.hangul
    }

    fn weight(&self) -> usize {
        self.syllables() * SYLLABLE_LETTERS + self.other
    }
}

/// The language of a two-letter or three-letter code.
fn language(code: &str) -> Option<Lang> {
    let long = match code {
        "af" => "afr",
        "ak" => "aka",
        "am" => "amh",
        "ar" => "ara",
        "az" => "aze",
        "be" => "bel",
        "bg" => "bul",
        "bn" => "ben",
        "ca" => "cat",
        "cs" => "ces",
        "cy" => "cym",
        "da" => "dan",
        "de" => "deu",
        "el" => "ell",
        "en" => "eng",
        "eo" => "epo",
        "es" => "spa",
        "et" => "est",
        "fa" | "fas" => "pes",
        "fi" => "fin",
        "fr" => "fra",
        "gu" => "guj",
        "he" => "heb",
        "hi" => "hin",
        "hr" | "bs" | "bos" | "sh" => "hrv",
        "hu" => "hun",
        "hy" => "hye",
        "id" => "ind",
        "it" => "ita",
        "ja" => "jpn",
        "jv" => "jav",
        "ka" => "kat",
        "km" => "khm",
        "kn" => "kan",
        "ko" => "kor",
        "la" => "lat",
        "lt" => "lit",
        "lv" => "lav",
        "mk" => "mkd",
        "ml" => "mal",
        "mr" => "mar",
        "my" => "mya",
        "nb" | "no" | "nor" => "nob",
        "ne" => "nep",
        "nl" => "nld",
        "or" => "ori",
        "pa" => "pan",
        "pl" => "pol",
        "pt" => "por",
        "ro" => "ron",
        "ru" => "rus",
        "si" => "sin",
        "sk" => "slk",
        "sl" => "slv",
        "sn" => "sna",
        "sr" => "srp",
        "sv" => "swe",
        "ta" => "tam",
        "te" => "tel",
        "th" => "tha",
        "tk" => "tuk",
        "tl" | "fil" => "tgl",
        "tr" => "tur",
        "uk" => "ukr",
        "ur" => "urd",
        "uz" => "uzb",
        "vi" => "vie",
        "yi" => "yid",
        "zh" | "zho" | "yue" => "cmn",
        "zu" => "zul",
        code => code,
    };
    Lang::from_code(long)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN_LETTERS: usize = 30;

    fn rule(tag: &str) -> LanguageRule {
        LanguageRule::new(tag, 0.95, MIN_LETTERS, "clean.expected_language").expect("a known language")
    }

    fn fault(tag: &str, text: &str) -> Option<&'static str> {
        rule(tag).fault(text).map(|found| found.language)
    }

    const TEXTS: [(&str, &str); 9] = [
        ("en", "The committee has not yet decided whether the new bridge will be built next year or later."),
        ("de", "Der Ausschuss hat noch nicht entschieden, ob die neue Brücke im nächsten Jahr gebaut wird."),
        ("fr", "La commission n'a pas encore décidé si le nouveau pont sera construit l'année prochaine."),
        ("es", "El comité todavía no ha decidido si el nuevo puente se construirá el año que viene o después."),
        ("ru", "Комитет ещё не решил, будет ли новый мост построен в следующем году или позже."),
        ("ar", "لم تقرر اللجنة بعد ما إذا كان الجسر الجديد سيبنى في العام المقبل أو بعد ذلك"),
        ("zh", "委员会尚未决定新桥是明年建造还是以后再建造。"),
        ("ja", "委員会は、新しい橋を来年建設するかどうかをまだ決めていません。"),
        ("ko", "위원회는 새 다리를 내년에 지을지 아직 결정하지 않았습니다."),
    ];

    #[test]
    fn a_sentence_passes_under_its_own_language_alone() {
        for (expected, _) in TEXTS {
            for (language, text) in TEXTS {
                let found = fault(expected, text);
                assert_eq!(found.is_none(), expected == language, "{text} judged as {expected}: {found:?}");
            }
        }
        assert_eq!(fault("zh-Hant", TEXTS[6].1), None);
        assert_eq!(fault("DE_at", TEXTS[1].1), None);
        assert_eq!(fault("eng", TEXTS[1].1), Some("German"));
    }

    #[test]
    fn the_start_of_a_long_text_decides() {
        let long = format!("{} {}", TEXTS[0].1, "桥".repeat(SAMPLE_BYTES));
        assert_eq!(fault("en", &long), Some("Mandarin"));
        let later = format!("{} {}", TEXTS[0].1.repeat(50), "桥".repeat(9 * SAMPLE_BYTES));
        assert_eq!(fault("en", &later), None);
    }

    #[test]
    fn what_is_short_or_has_no_letters_is_not_judged() {
        for text in ["", "Wie bitte?", "你好吗", "12345 67890 -- 12345 67890 -- 1234567890 ++ 1234567890", "?????"] {
            for expected in ["en", "zh", "ru", "ja"] {
                assert_eq!(fault(expected, text), None, "{text} judged as {expected}");
            }
        }
    }

    #[test]
    fn names_of_other_scripts_change_nothing() {
        let chinese = "甲骨文公司(Oracle Corp)董事长拉里·埃里森(Larry Ellison)不排除收购对手PeopleSoft的可能。";
        assert_eq!(fault("zh", chinese), None);
        assert_eq!(fault("en", chinese), Some("Mandarin"));
        let english = "The Chinese word for bridge is 桥, and the one for river is 河, says the dictionary.";
        assert_eq!(fault("en", english), None);
        assert_eq!(fault("zh", english), Some("English"));
    }

    #[test]
    fn kin_that_trigrams_cannot_tell_apart_pass() {
        let text = "Odbor još nije odlučio hoće li se novi most graditi sljedeće godine ili kasnije.";
        for tag in ["hr", "sr", "bs"] {
            assert_eq!(fault(tag, text), None, "{tag}");
        }
        assert_eq!(fault("hr", TEXTS[0].1), Some("English"));
    }

    #[test]
    fn only_english_is_plainly_english() {
        for (language, text) in TEXTS {
            assert_eq!(is_plainly_english(text), language == "en", "{text}");
        }
        assert!(!is_plainly_english("the"));
        assert!(!is_plainly_english(
            "Die Band The Who und die Band Them traten gemeinsam im großen Saal der Stadt auf."
        ));
    }

    #[test]
    fn the_minimum_confidence_decides() {
        let german = TEXTS[1].1;
        let confidence = rule("en").fault(german).expect("German").confidence;
        let strict = LanguageRule::new("en", confidence + 0.01, MIN_LETTERS, "").expect("a known language");
        assert_eq!(strict.fault(german), None);
        // The same text is judged the same every time: hash tables with random keys stand below.
        for _ in 0..50 {
            assert_eq!(rule("en").fault(german).map(|found| found.confidence.to_bits()), Some(confidence.to_bits()));
        }
    }

    #[test]
    fn a_language_nobody_can_detect_is_a_config_error() {
        for tag in ["", "xx", "english", "eu"] {
            let error = LanguageRule::new(tag, 0.95, MIN_LETTERS, "clean.expected_language").expect_err(tag);
            assert!(error.to_string().starts_with("clean.expected_language: expected the tag"), "{error}");
        }
    }
}
