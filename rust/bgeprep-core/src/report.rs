//! Why rows go: reason names, and counts that must balance (read = kept + dropped).

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a row, a positive or a negative was dropped. The names are part of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[repr(u8)]
pub enum Reason {
    /// Bytes that are no text (NUL bytes) where text was expected.
    NotText,
    /// A line that is not valid UTF-8.
    InvalidUtf8,
    /// A line longer than `read.max_line_bytes`.
    LongLine,
    /// A line or element that is not valid JSON.
    BadJson,
    /// A CSV/TSV record with another number of fields than the header, or broken quoting.
    BadCsv,
    /// Valid, but no known pair shape (no query or no positive column, wrong types).
    UnknownShape,
    /// A labelled row whose label is `-` or missing, or mapped to "drop".
    NoLabel,
    /// Query or positive is empty after cleaning.
    EmptyField,
    /// Fewer characters than the minimum.
    TooShort,
    /// More characters than the maximum.
    TooLong,
    /// One character makes up most of the text.
    RepeatedCharacters,
    /// Mostly characters that are neither letters, digits nor spaces.
    SymbolNoise,
    /// Query and positive are the same normalised text.
    QueryEqualsPositive,
    /// No positive is left, or there never was one.
    NoPositive,
    /// The same (query, positive) stands in an earlier row.
    Duplicate,
    /// Its positives went into another row of the same query.
    Merged,
    /// A negative that is a positive of the same query somewhere in the set.
    NegativeIsPositive,
    /// A negative repeated within its row.
    RepeatedNegative,
    /// A labelled negative whose query has no row with a positive to receive it.
    NoRowForNegative,
    /// Not in the language that the source is said to be in.
    WrongLanguage,
    /// Repeated words or phrases make up most of the text.
    RepeatedPhrases,
    /// Mostly boilerplate: cookie notices, error pages, filler.
    Boilerplate,
    /// The scorer says that query and positive do not belong together.
    LowScore,
    /// The scorer has not seen this pair.
    NoScore,
    /// Equal or near to a text of an excluded benchmark.
    InBenchmark,
    /// Query and positive are near duplicates of those of a row that stays.
    NearDuplicate,
    /// A negative that nearly equals a positive of the same query.
    NegativeNearPositive,
}

impl Reason {
    /// All reasons, each at the place of its own number.
    pub const ALL: [Self; 27] = [
        Self::NotText,
        Self::InvalidUtf8,
        Self::LongLine,
        Self::BadJson,
        Self::BadCsv,
        Self::UnknownShape,
        Self::NoLabel,
        Self::EmptyField,
        Self::TooShort,
        Self::TooLong,
        Self::RepeatedCharacters,
        Self::SymbolNoise,
        Self::QueryEqualsPositive,
        Self::NoPositive,
        Self::Duplicate,
        Self::Merged,
        Self::NegativeIsPositive,
        Self::RepeatedNegative,
        Self::NoRowForNegative,
        Self::WrongLanguage,
        Self::RepeatedPhrases,
        Self::Boilerplate,
        Self::LowScore,
        Self::NoScore,
        Self::InBenchmark,
        Self::NearDuplicate,
        Self::NegativeNearPositive,
    ];

    /// The name used in manifests, reports and reject files.
    pub fn name(self) -> &'static str {
        match self {
            Self::NotText => "not_text",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::LongLine => "long_line",
            Self::BadJson => "bad_json",
            Self::BadCsv => "bad_csv",
            Self::UnknownShape => "unknown_shape",
            Self::NoLabel => "no_label",
            Self::EmptyField => "empty_field",
            Self::TooShort => "too_short",
            Self::TooLong => "too_long",
            Self::RepeatedCharacters => "repeated_characters",
            Self::SymbolNoise => "symbol_noise",
            Self::QueryEqualsPositive => "query_equals_positive",
            Self::NoPositive => "no_positive",
            Self::Duplicate => "duplicate",
            Self::Merged => "merged",
            Self::NegativeIsPositive => "negative_is_positive",
            Self::RepeatedNegative => "repeated_negative",
            Self::NoRowForNegative => "no_row_for_negative",
            Self::WrongLanguage => "wrong_language",
            Self::RepeatedPhrases => "repeated_phrases",
            Self::Boilerplate => "boilerplate",
            Self::LowScore => "low_score",
            Self::NoScore => "no_score",
            Self::InBenchmark => "in_benchmark",
            Self::NearDuplicate => "near_duplicate",
            Self::NegativeNearPositive => "negative_near_positive",
        }
    }

    /// Whether the row could not be read at all: what `max_bad` counts.
    pub fn is_unreadable(self) -> bool {
        matches!(
            self,
            Self::NotText | Self::InvalidUtf8 | Self::LongLine | Self::BadJson | Self::BadCsv | Self::UnknownShape
        )
    }
}

/// Which part of a record a reject line speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum RejectPart {
    /// The whole row.
    Row,
    /// One positive; the row stays.
    Positive,
    /// One negative; the row stays.
    Negative,
}

impl RejectPart {
    /// The name used in reject files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Positive => "positive",
            Self::Negative => "negative",
        }
    }
}

/// How alike a dropped text and its twin are; sorts as the number does, "not taken" last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Similarity(u32);

impl Similarity {
    /// No similarity was taken.
    pub const NONE: Self = Self(u32::MAX);
    /// Equal texts.
    pub const EQUAL: Self = Self(1f32.to_bits());

    /// A Jaccard similarity, 0 to 1.
    pub fn of(jaccard: f32) -> Self {
        Self(jaccard.to_bits())
    }

    /// The number as it is written to work files.
    pub fn bits(self) -> u32 {
        self.0
    }

    /// The way back.
    pub fn from_bits(bits: u32) -> Self {
        Self(bits)
    }

    /// The number, NaN if none was taken.
    pub fn value(self) -> f32 {
        f32::from_bits(self.0)
    }
}

/// Counts by reason for one source: whole rows, and texts of rows that stayed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Rows read.
    pub rows_read: u64,
    #[serde(with = "counts_as_list")]
    counts: BTreeMap<(RejectPart, Reason), u64>,
}

/// JSON has no maps with composite keys.
mod counts_as_list {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use super::{Reason, RejectPart};

    type Counts = BTreeMap<(RejectPart, Reason), u64>;

    pub(super) fn serialize<S: Serializer>(counts: &Counts, serializer: S) -> Result<S::Ok, S::Error> {
        counts.iter().collect::<Vec<_>>().serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Counts, D::Error> {
        Ok(Vec::deserialize(deserializer)?.into_iter().collect())
    }
}

impl Tally {
    /// Counts one reject.
    pub fn add(&mut self, part: RejectPart, reason: Reason) {
        *self.counts.entry((part, reason)).or_insert(0) += 1;
    }

    /// Adds what another thread counted.
    pub fn merge(&mut self, other: &Self) {
        self.rows_read += other.rows_read;
        for (&entry, &count) in &other.counts {
            *self.counts.entry(entry).or_insert(0) += count;
        }
    }

    /// Counts of one part by reason name.
    pub fn by_name(&self, part: RejectPart) -> BTreeMap<String, u64> {
        let of_part = self.counts.iter().filter(|((found, _), _)| *found == part);
        of_part.map(|((_, reason), &count)| (reason.name().to_owned(), count)).collect()
    }

    /// Rows dropped so far.
    pub fn rows_dropped(&self) -> u64 {
        self.rows(|_| true)
    }

    /// Rows that could not be read.
    pub fn rows_unreadable(&self) -> u64 {
        self.rows(Reason::is_unreadable)
    }

    fn rows(&self, which: impl Fn(Reason) -> bool) -> u64 {
        let rows = self.counts.iter().filter(|((part, reason), _)| *part == RejectPart::Row && which(*reason));
        rows.map(|(_, &count)| count).sum()
    }
}
