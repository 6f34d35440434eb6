//! Why rows go: reason names, and counts that must balance (read = kept + dropped).

/// Why a row, a positive or a negative was dropped. The names are part of the manifest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
}

impl Reason {
    /// All reasons, in flow order.
    pub const ALL: [Self; 19] = [
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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
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
