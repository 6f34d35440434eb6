//! CSV quoting, once for finding record ends and once for taking a record apart.
//!
//! A quote opens a quoted field only where the field starts; within it, two quotes stand for one
//! and line breaks are text. These are the rules of RFC 4180 and of the `csv` crate, which is the
//! oracle in the tests, but for one point: what follows a closing quote must be the end of the
//! field, else the record is rejected rather than guessed at.

use std::borrow::Cow;

/// Where a scan stands between two bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote inside a quoted field: its end, or the first of two.
    Closing,
}

/// Finds record ends in text that comes in pieces.
#[derive(Debug, Clone)]
pub(super) struct Scanner {
    delimiter: u8,
    at: At,
}

impl Scanner {
    pub(super) fn new(delimiter: u8) -> Self {
        Self { delimiter, at: At::FieldStart }
    }

    /// Whether the text so far ends inside a quoted field.
    pub(super) fn is_open(&self) -> bool {
        self.at == At::Quoted
    }

    /// The place behind the first record end in `bytes`; `None` takes all of `bytes` in.
    pub(super) fn record_end(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut from = 0;
        while from < bytes.len() {
            match self.at {
                At::Plain => {
                    let found = memchr::memchr2(self.delimiter, b'\n', &bytes[from..])?;
                    from += found;
                    self.at = At::FieldStart;
                    if bytes[from] == b'\n' {
                        return Some(from + 1);
                    }
                }
                At::Quoted => {
                    from += memchr::memchr(b'"', &bytes[from..])?;
                    self.at = At::Closing;
                }
                At::FieldStart | At::Closing => match bytes[from] {
                    b'\n' => {
                        self.at = At::FieldStart;
                        return Some(from + 1);
                    }
                    b'"' => self.at = At::Quoted,
                    byte if byte == self.delimiter => self.at = At::FieldStart,
                    _ => self.at = At::Plain,
                },
            }
            from += 1;
        }
        None
    }
}

/// Takes a record (without its line end) apart into `fields`.
///
/// # Errors
/// What is wrong with the quoting.
pub(super) fn split<'a>(
    record: &'a str,
    delimiter: u8,
    quoting: bool,
    fields: &mut Vec<Cow<'a, str>>,
) -> Result<(), &'static str> {
    fields.clear();
    let mut rest = record;
    loop {
        if quoting && rest.starts_with('"') {
            let (field, after) = quoted(&rest[1..])?;
            fields.push(field);
            match after.as_bytes().first() {
                None => return Ok(()),
                Some(byte) if *byte == delimiter => rest = &after[1..],
                Some(_) => return Err("text between a closing quote and the end of the field"),
            }
        } else {
            let end = memchr::memchr(delimiter, rest.as_bytes());
            fields.push(Cow::Borrowed(&rest[..end.unwrap_or(rest.len())]));
            match end {
                None => return Ok(()),
                Some(end) => rest = &rest[end + 1..],
            }
        }
    }
}

/// The text up to the closing quote, and what follows the quote.
fn quoted(text: &str) -> Result<(Cow<'_, str>, &str), &'static str> {
    let bytes = text.as_bytes();
    let mut unescaped: Option<String> = None;
    let mut from = 0;
    loop {
        let quote = from + memchr::memchr(b'"', &bytes[from..]).ok_or("a quoted field that is not closed")?;
        if bytes.get(quote + 1) == Some(&b'"') {
            unescaped.get_or_insert_default().push_str(&text[from..=quote]);
            from = quote + 2;
            continue;
        }
        let field = match unescaped {
            None => Cow::Borrowed(&text[..quote]),
            Some(mut owned) => {
                owned.push_str(&text[from..quote]);
                Cow::Owned(owned)
            }
        };
        return Ok((field, &text[quote + 1..]));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Scanner, split};

    fn fields(record: &str) -> Result<Vec<String>, &'static str> {
        let mut fields = Vec::new();
        split(record, b',', true, &mut fields)?;
        Ok(fields.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn splits() {
        assert_eq!(fields(r#"a,"b ""c"", d",,"""#).expect("sound"), ["a", r#"b "c", d"#, "", ""]);
        assert_eq!(fields(r#"5" disk,b"#).expect("sound"), [r#"5" disk"#, "b"]);
        assert_eq!(fields("").expect("sound"), [""]);
        assert!(fields(r#""a"b,c"#).is_err());
        assert!(fields(r#""a"#).is_err());
    }

    #[test]
    fn scans_in_pieces() {
        let text = b"a,\"x\ny\"\"\n\",b\r\n5\" disk,c\n\"last";
        let ends = |size: usize| {
            let mut scanner = Scanner::new(b',');
            let (mut ends, mut base) = (Vec::new(), 0);
            for piece in text.chunks(size) {
                let mut from = 0;
                while let Some(end) = scanner.record_end(&piece[from..]) {
                    from += end;
                    ends.push(base + from);
                }
                base += piece.len();
            }
            (ends, scanner.is_open())
        };
        for size in 1..text.len() {
            assert_eq!(ends(size), (vec![14, 24], true), "pieces of {size}");
        }
    }

    proptest! {
        #[test]
        fn equals_the_csv_crate(rows in prop::collection::vec(prop::collection::vec("[ab ,\"\n\té]{0,6}", 2..4), 1..6)) {
            let mut writer = csv::WriterBuilder::new().flexible(true).from_writer(Vec::new());
            for row in &rows {
                writer.write_record(row).expect("memory");
            }
            let text = String::from_utf8(writer.into_inner().expect("memory")).expect("text");
            let mut reader = csv::ReaderBuilder::new().flexible(true).has_headers(false).from_reader(text.as_bytes());
            let expected: Vec<Vec<String>> =
                reader.records().map(|row| row.expect("sound").iter().map(str::to_owned).collect()).collect();
            let (mut scanner, mut rest, mut found) = (Scanner::new(b','), text.as_str(), Vec::new());
            while let Some(end) = scanner.record_end(rest.as_bytes()) {
                found.push(fields(&rest[..end - 1]).expect("sound"));
                rest = &rest[end..];
            }
            prop_assert_eq!(&found, &expected);
            prop_assert_eq!(found, rows);
        }
    }
}
