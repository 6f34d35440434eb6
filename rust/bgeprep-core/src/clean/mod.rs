//! Raw pairs → clean pairs. Every rule has a reason name and can be set or switched off.

pub mod boilerplate;
mod kept;
pub mod language;
pub mod quality;
pub mod repetition;
pub mod text;

use std::borrow::Cow;
use std::sync::Arc;

use boilerplate::Boilerplate;
use language::LanguageRule;

use crate::pair::{RawPair, SetKind, Task};
use crate::report::{Reason, RejectPart};
pub use kept::{GivenOrigin, KeptRow};
use text::{Identity, TextForm};

/// The rules of cleaning; 0 (or a share above 1) switches a bound off.
#[derive(Debug, Clone)]
pub struct CleanRules {
    /// How texts are stored.
    pub form: TextForm,
    /// Fewest characters of a query.
    pub min_query_chars: usize,
    /// Most characters of a query, 0 for no bound.
    pub max_query_chars: usize,
    /// Fewest characters of a positive or negative.
    pub min_passage_chars: usize,
    /// Most characters of a positive or negative, 0 for no bound.
    pub max_passage_chars: usize,
    /// Drop positives that equal their query.
    pub query_equals_positive: bool,
    /// Largest share of characters that repeat the one before; above 1 for no bound.
    pub max_repeated_share: f32,
    /// Largest share of symbols; above 1 for no bound.
    pub max_symbol_share: f32,
    /// Texts shorter than this are never called noise.
    pub noise_min_chars: usize,
    /// The language that texts have to be in; `None` for any.
    pub language: Option<LanguageRule>,
    /// Largest share of characters in repeated phrases; above 1 for no bound.
    pub max_repeated_phrase_share: f32,
    /// Phrases that no text may hold.
    pub boilerplate: Option<Arc<Boilerplate>>,
}

/// A text that passed, with what it is compared by and its length in characters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CleanText {
    /// The stored form.
    pub text: String,
    /// The normalised form that `identity` hashes.
    pub normal: String,
    /// What it is compared by.
    pub identity: Identity,
    /// Teacher score or grade, NaN for none.
    pub score: f32,
    /// Its place in the record's list.
    pub item: u32,
    /// The batching key that a shard set gave it, where that is not its own exact key.
    pub cluster: Option<u64>,
}

/// One pair that passed. Buffers are reused from record to record.
#[derive(Debug, Default)]
pub struct CleanPair {
    /// What the row is.
    pub kind: SetKind,
    /// The query.
    pub query: CleanText,
    /// Positives; empty only for a labelled negative.
    pub pos: Vec<CleanText>,
    /// Negatives.
    pub neg: Vec<CleanText>,
    /// The record's own id.
    pub id: String,
    /// Instruction of this row, empty for the source's.
    pub prompt: String,
    /// The task the row itself names.
    pub task: Option<Task>,
    /// Whether any positive carries a score.
    pub has_pos_scores: bool,
    /// Whether any negative carries a score.
    pub has_neg_scores: bool,
    /// Where the row was first read, if it says so itself; for whoever reads to fill in.
    pub origin: GivenOrigin,
    /// What a row of a shard set brought along.
    pub kept: KeptRow,
}

/// Something that went while cleaning one record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removed {
    /// Row, positive or negative.
    pub part: RejectPart,
    /// Index in the record's list; 0 for a row.
    pub item: u32,
    /// Why.
    pub reason: Reason,
    /// Expected and found, for a person.
    pub detail: String,
}

/// Applies the rules; one for each thread.
#[derive(Debug)]
pub struct Cleaner {
    rules: CleanRules,
}

impl Cleaner {
    /// A cleaner with these rules.
    pub fn new(rules: CleanRules) -> Self {
        Self { rules }
    }

    /// Cleans `raw` into `pair`. True if the row stays; what went is appended to `removed`, the
    /// row itself last.
    pub fn clean(&self, raw: &RawPair<'_>, pair: &mut CleanPair, removed: &mut Vec<Removed>) -> bool {
        let rules = &self.rules;
        pair.kind = raw.kind;
        pair.id.clear();
        pair.id.push_str(&raw.id);
        pair.prompt.clear();
        pair.prompt.push_str(&raw.prompt);
        pair.task = raw.task;
        let labelled_negative = raw.pos.is_empty() && !raw.neg.is_empty();

        let query_fault = if raw.kind == SetKind::Text {
            // A title is kept as it is found, if at all: only its text decides about a document.
            text::clean(&raw.query, rules.form, &mut pair.query.text);
            pair.query.normal.clear();
            pair.query.identity = Identity::default();
            None
        } else {
            let bounds = (rules.min_query_chars, rules.max_query_chars);
            self.text(&raw.query, bounds, f32::NAN, &mut pair.query)
        };
        if let Some((reason, detail)) = query_fault {
            removed.push(Removed { part: RejectPart::Row, item: 0, reason, detail: format!("query: {detail}") });
            return false;
        }
        let first = removed.len();
        let compares = rules.query_equals_positive && raw.kind == SetKind::Pairs;
        let query_hash = compares.then_some(pair.query.identity.hash);
        self.list(RejectPart::Positive, (&raw.pos, &raw.pos_scores), query_hash, &mut pair.pos, removed);
        self.list(RejectPart::Negative, (&raw.neg, &raw.neg_scores), None, &mut pair.neg, removed);
        pair.has_pos_scores = pair.pos.iter().any(|text| !text.score.is_nan());
        pair.has_neg_scores = pair.neg.iter().any(|text| !text.score.is_nan());

        if !pair.pos.is_empty() || (labelled_negative && !pair.neg.is_empty()) {
            kept::take_over(raw, pair);
            return true;
        }
        // A row whose only text of worth went is named after what happened to that text.
        let cause = removed[first..].iter().find(|lost| labelled_negative || lost.part == RejectPart::Positive);
        let (reason, detail) = match cause {
            Some(lost) => {
                let name = if raw.kind == SetKind::Text { "text" } else { lost.part.name() };
                (lost.reason, format!("{name}: {}", lost.detail))
            }
            None => (Reason::NoPositive, "expected at least one positive, found none".to_owned()),
        };
        removed.truncate(first);
        removed.push(Removed { part: RejectPart::Row, item: 0, reason, detail });
        false
    }

    fn list(
        &self,
        part: RejectPart,
        (raw, scores): (&[Cow<'_, str>], &[f32]),
        forbidden: Option<u128>,
        out: &mut Vec<CleanText>,
        removed: &mut Vec<Removed>,
    ) {
        let bounds = (self.rules.min_passage_chars, self.rules.max_passage_chars);
        let mut kept = 0;
        for (item, text) in raw.iter().enumerate() {
            if out.len() == kept {
                out.push(CleanText::default());
            }
            let score = scores.get(item).copied().unwrap_or(f32::NAN);
            let fault = self.text(text, bounds, score, &mut out[kept]).or_else(|| {
                let copies_query = forbidden == Some(out[kept].identity.hash);
                let detail = || "query and positive are the same normalised text".to_owned();
                copies_query.then(|| (Reason::QueryEqualsPositive, detail()))
            });
            match fault {
                None => {
                    out[kept].item = item as u32;
                    kept += 1;
                }
                Some((reason, detail)) => removed.push(Removed { part, item: item as u32, reason, detail }),
            }
        }
        out.truncate(kept);
    }

    /// Cleans one text; the fault it has, if any.
    fn text(
        &self,
        raw: &str,
        (fewest, most): (usize, usize),
        score: f32,
        out: &mut CleanText,
    ) -> Option<(Reason, String)> {
        let rules = &self.rules;
        let cleaned = text::clean(raw, rules.form, &mut out.text);
        let characters = cleaned.chars().count();
        out.score = score;
        if characters == 0 {
            return Some((Reason::EmptyField, "expected text, found none".to_owned()));
        }
        if characters < fewest {
            return Some((Reason::TooShort, format!("expected at least {fewest} characters, found {characters}")));
        }
        if most > 0 && characters > most {
            return Some((Reason::TooLong, format!("expected at most {most} characters, found {characters}")));
        }
        if characters >= rules.noise_min_chars {
            let quality::Shares { repeated, symbols } = quality::shares(cleaned, characters);
            if repeated > rules.max_repeated_share {
                let limit = rules.max_repeated_share;
                let detail = format!("share of repeated characters {repeated:.2} is above {limit:.2}");
                return Some((Reason::RepeatedCharacters, detail));
            }
            if symbols > rules.max_symbol_share {
                let detail = format!("share of symbols {symbols:.2} is above {:.2}", rules.max_symbol_share);
                return Some((Reason::SymbolNoise, detail));
            }
        }
        let collapsed = rules.form.collapse_whitespace && !rules.form.keep_newlines;
        let identity = if collapsed { Identity::of_collapsed } else { Identity::of };
        out.identity = identity(&out.text, &mut out.normal);
        self.quality(out)
    }

    /// The rules that are off unless asked for, the cheap ones first.
    fn quality(&self, text: &CleanText) -> Option<(Reason, String)> {
        let rules = &self.rules;
        if let Some(phrase) = rules.boilerplate.as_ref().and_then(|list| list.find(&text.normal)) {
            return Some((Reason::Boilerplate, format!("holds the boilerplate phrase {phrase:?}")));
        }
        if rules.max_repeated_phrase_share < 1.0 {
            let share = repetition::repeated_share(&text.normal);
            if share > rules.max_repeated_phrase_share {
                let limit = rules.max_repeated_phrase_share;
                return Some((
                    Reason::RepeatedPhrases,
                    format!("share of repeated phrases {share:.2} is above {limit:.2}"),
                ));
            }
        }
        let rule = rules.language.as_ref()?;
        let found = rule.fault(&text.text)?;
        let expected = rule.expected();
        let detail = format!("expected {expected}, found {} (confidence {:.2})", found.language, found.confidence);
        Some((Reason::WrongLanguage, detail))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules() -> CleanRules {
        CleanRules {
            form: TextForm::STRICT,
            min_query_chars: 2,
            max_query_chars: 30,
            min_passage_chars: 2,
            max_passage_chars: 60,
            query_equals_positive: true,
            max_repeated_share: 0.6,
            max_symbol_share: 0.7,
            noise_min_chars: 10,
            language: None,
            max_repeated_phrase_share: 2.0,
            boilerplate: None,
        }
    }

    fn run(query: &str, pos: &[&str], neg: &[&str]) -> (bool, CleanPair, Vec<Removed>) {
        let raw = RawPair {
            query: query.into(),
            pos: pos.iter().map(|&t| t.into()).collect(),
            neg: neg.iter().map(|&t| t.into()).collect(),
            ..RawPair::default()
        };
        let (mut pair, mut removed) = (CleanPair::default(), Vec::new());
        let stays = Cleaner::new(rules()).clean(&raw, &mut pair, &mut removed);
        (stays, pair, removed)
    }

    #[test]
    fn a_good_pair_is_cleaned_and_stays() {
        let (stays, pair, removed) = run(" what is\ta magnet ", &["a\u{0}  rock"], &["a shoe", ""]);
        assert!(stays);
        assert_eq!(pair.query.text, "what is a magnet");
        assert_eq!(pair.pos[0].text, "a rock");
        assert_eq!(pair.neg.len(), 1);
        assert_eq!(
            (removed[0].part, removed[0].item, removed[0].reason),
            (RejectPart::Negative, 1, Reason::EmptyField)
        );
    }

    #[test]
    fn each_rule_names_its_reason() {
        let long = "word ".repeat(40);
        let cases: [(&str, &[&str], Reason); 8] = [
            ("", &["text"], Reason::EmptyField),
            ("x", &["text"], Reason::TooShort),
            ("a query", &["y"], Reason::TooShort),
            ("a query", &[&long], Reason::TooLong),
            ("same TEXT", &["Same  text"], Reason::QueryEqualsPositive),
            ("a query", &["aaaaaaaaaaaaaaaa"], Reason::RepeatedCharacters),
            ("a query", &["?! #@$%^&*()_+{}"], Reason::SymbolNoise),
            ("a query", &[], Reason::NoPositive),
        ];
        for (query, pos, reason) in cases {
            let (stays, _, removed) = run(query, pos, &[]);
            assert!(!stays, "{query} {pos:?}");
            assert_eq!(removed.len(), 1);
            assert_eq!((removed[0].part, removed[0].reason), (RejectPart::Row, reason));
        }
    }

    #[test]
    fn quality_rules_judge_each_text_alone() {
        let own = ["subscribe to our newsletter".to_owned()];
        let strict = CleanRules {
            max_query_chars: 0,
            max_passage_chars: 0,
            language: Some(LanguageRule::new("en", 0.95, 20, "").expect("a language")),
            max_repeated_phrase_share: 0.4,
            boilerplate: Boilerplate::new(&own, "").expect("a list").map(Arc::new),
            ..rules()
        };
        let (query, good) = ("how do magnets attract iron", "The poles of a magnet attract iron because of its field.");
        let looped = "the poles of a magnet ".repeat(5);
        let cases = [
            ("为什么磁铁会吸引铁和其他的金属呢", good, Reason::WrongLanguage),
            (query, "Ein Magnet zieht Eisen an, weil sein Feld die Atome im Eisen ausrichtet.", Reason::WrongLanguage),
            (query, "Magnets! Subscribe to our Newsletter for more of them.", Reason::Boilerplate),
            (query, looped.as_str(), Reason::RepeatedPhrases),
        ];
        for (query, positive, reason) in cases {
            let raw = |pos: Vec<&str>| RawPair {
                query: query.to_owned().into(),
                pos: pos.into_iter().map(|text| text.to_owned().into()).collect(),
                ..RawPair::default()
            };
            let (mut pair, mut removed) = (CleanPair::default(), Vec::new());
            assert!(!Cleaner::new(strict.clone()).clean(&raw(vec![positive]), &mut pair, &mut removed));
            assert_eq!((removed[0].part, removed[0].reason), (RejectPart::Row, reason), "{}", removed[0].detail);
            // With the rules off the same row stays.
            let lenient = CleanRules { max_query_chars: 0, max_passage_chars: 0, ..rules() };
            removed.clear();
            assert!(Cleaner::new(lenient).clean(&raw(vec![positive]), &mut pair, &mut removed) && removed.is_empty());
            // A bad positive beside a good one goes alone, a bad query takes the row with it.
            let of_query = !query.is_ascii();
            assert_ne!(
                of_query,
                Cleaner::new(strict.clone()).clean(&raw(vec![good, positive]), &mut pair, &mut removed)
            );
            let part = if of_query { RejectPart::Row } else { RejectPart::Positive };
            assert_eq!((removed[0].part, removed[0].reason), (part, reason));
        }
    }

    #[test]
    fn one_bad_positive_leaves_the_others() {
        let (stays, pair, removed) = run("a query", &["a query", "a positive", ""], &[]);
        assert!(stays);
        assert_eq!(pair.pos.len(), 1);
        let reasons: Vec<_> = removed.iter().map(|lost| (lost.item, lost.reason)).collect();
        assert_eq!(reasons, [(0, Reason::QueryEqualsPositive), (2, Reason::EmptyField)]);
    }
}
