//! One value of one column, in the few kinds that a pair can be made of.

use std::borrow::Cow;

/// A value as its format delivers it; every format is brought to this before roles are given.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Field<'a> {
    /// `null`, or an empty cell where the format has no other way to say "nothing".
    Null,
    /// One text.
    Text(Cow<'a, str>),
    /// A list of texts; also any empty list.
    Texts(Vec<Cow<'a, str>>),
    /// `true` or `false`.
    Bool(bool),
    /// A whole number written without a decimal point.
    Int(i64),
    /// A number with a fraction or exponent, or of a floating-point column.
    Float(f64),
    /// A list of numbers; missing ones are NaN.
    Numbers(Vec<f32>),
    /// Anything else, named for messages: "object", "list of objects" …
    Other(&'static str),
}

impl Field<'_> {
    /// What this is, for messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Text(_) => "text",
            Self::Texts(_) => "list of texts",
            Self::Bool(_) => "true/false",
            Self::Int(_) => "whole number",
            Self::Float(_) => "number",
            Self::Numbers(_) => "list of numbers",
            Self::Other(kind) => kind,
        }
    }
}

/// The first 500 characters of a bad record, invalid bytes replaced.
pub(super) fn head(bytes: &[u8]) -> String {
    // 500 characters take at most 2,000 bytes, so nothing before the 500th is cut.
    let bytes = &bytes[..bytes.len().min(HEAD_BYTES)];
    String::from_utf8_lossy(bytes).chars().take(500).collect()
}

/// Bytes that `head` may look at.
pub(super) const HEAD_BYTES: usize = 2000;

#[cfg(test)]
mod tests {
    use super::head;

    #[test]
    fn head_is_500_whole_characters() {
        let text = "漢".repeat(1000);
        assert_eq!(head(text.as_bytes()), "漢".repeat(500));
        assert_eq!(head(b"ab\xffc"), "ab\u{fffd}c");
    }
}
