//! Origins that records bring along: the raw file and the line in it that whoever made the input took them from.
//!
//! A record with the columns `origin_file` and `origin_line` has these for its origin, in the set and wherever else it
//! is named, in place of its own file and line. The file is a label, never opened: control characters are taken out of
//! it. The line is a whole number from 1. Where one of the two is missing, null or cannot be used, the record keeps its
//! own file and line, and the columns count as not used. Which record is the later one, and whether two are the same,
//! is always a matter of their places in the input.

use std::borrow::Cow;

use super::columns::Role;
use super::field::Field;
use super::roles::{Columns, Row};

/// Longest name of a file, in bytes.
const MAX_FILE_BYTES: usize = 1024;

/// Where a record was first read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin<'a> {
    /// The raw file.
    pub file: Cow<'a, str>,
    /// The line, element or row in it, from 1.
    pub line: u64,
}

/// Places of the two fields in a record that has both.
pub(super) type OriginFields = Option<(usize, usize)>;

/// Finds both fields in a record.
pub(super) fn find(columns: &Columns<'_>, row: &Row<'_>) -> OriginFields {
    let of = |role: Role| {
        row.iter().position(|(number, field)| columns.role(*number) == Some(role) && *field != Field::Null)
    };
    of(Role::OriginFile).zip(of(Role::OriginLine))
}

impl<'a> Origin<'a> {
    /// The origin that two fields give, if they give one.
    pub(super) fn of(file: Field<'a>, line: &Field<'_>) -> Option<Self> {
        let line = match line {
            Field::Int(number) => u64::try_from(*number).ok()?,
            // Cells of CSV and TSV are text.
            Field::Text(digits) => digits.trim().parse().ok()?,
            _ => return None,
        };
        let Field::Text(file) = file else { return None };
        let file = if file.contains(char::is_control) {
            Cow::Owned(file.chars().filter(|letter| !letter.is_control()).collect())
        } else {
            file
        };
        let usable = line > 0 && !file.trim().is_empty() && file.len() <= MAX_FILE_BYTES;
        usable.then_some(Self { file, line })
    }
}

#[cfg(test)]
mod tests {
    use super::{MAX_FILE_BYTES, Origin};
    use crate::read::field::Field;
    use crate::read::testing::{drain_origins, options};
    use crate::read::{open, open_stream};

    fn of(file: &str, line: &Field<'_>) -> Option<(String, u64)> {
        Origin::of(Field::Text(file.into()), line).map(|origin| (origin.file.into_owned(), origin.line))
    }

    #[test]
    fn files_and_lines_that_can_be_used() {
        let (one, long) = (Field::Int(1), "x".repeat(MAX_FILE_BYTES));
        assert_eq!(of("wiki/数据.xml", &Field::Int(7)), Some(("wiki/数据.xml".to_owned(), 7)));
        assert_eq!(of("a\u{1b}[31m\nb\u{0}", &one), Some(("a[31mb".to_owned(), 1)));
        assert_eq!(of("../a", &Field::Text(" 18446744073709551615".into())), Some(("../a".to_owned(), u64::MAX)));
        assert_eq!(of(&long, &one), Some((long.clone(), 1)));
        for file in ["", " ", "\u{7}\n", &format!("{long}x")] {
            assert_eq!(of(file, &one), None, "{file:?}");
        }
        let lines = ["0", "-1", "1.0", "", "one", "18446744073709551616"].map(|text| Field::Text(text.into()));
        let others = [Field::Int(0), Field::Int(-3), Field::Float(1.0), Field::Bool(true), Field::Null];
        for line in lines.iter().chain(&others) {
            assert_eq!(of("a", line), None, "{line:?}");
        }
        assert!(Origin::of(Field::Int(3), &one).is_none());
    }

    #[test]
    fn every_format_hands_them_on_and_unusable_ones_leave_the_place_in_the_file() {
        let lines = [
            r#"{"origin_file": "raw/a", "origin_line": 9, "query": "q", "pos": "p"}"#,
            r#"{"query": "q", "pos": "p", "origin_line": 3, "origin_file": "raw/b"}"#,
            r#"{"origin_file": "raw/a", "query": "q", "pos": "p"}"#,
            r#"{"origin_file": null, "origin_line": 4, "query": "q", "pos": "p"}"#,
            r#"{"origin_file": ["raw/a"], "origin_line": 4, "query": "q", "pos": "p"}"#,
            r#"{"origin_file": "raw/c", "origin_line": 5, "query": 3, "pos": "p"}"#,
            r#"{"origin_file": "raw/c", "origin_line": 6, "text": "t", "title": "u"}"#,
            r#"["q", "p"]"#,
            "broken",
        ];
        let given = |file: &str, line| Some((file.to_owned(), line));
        let expected = vec![
            given("raw/a", 9),
            given("raw/b", 3),
            None,
            None,
            None,
            given("raw/c", 5),
            given("raw/c", 6),
            None,
            None,
        ];
        let folder = tempfile::tempdir().expect("folder");
        let read = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs_err::write(&path, text).expect("file");
            drain_origins(open(path.as_path(), &options()).expect("readable").as_mut()).expect("records")
        };
        let (found, unmapped) = read("a.jsonl", &lines.join("\n"));
        assert_eq!(found, expected);
        assert_eq!(unmapped.iter().collect::<Vec<_>>(), [("origin_file", 2), ("origin_line", 2)]);
        assert_eq!(read("a.json", &format!("[{}]", lines[..8].join(","))).0, expected[..8]);

        let table = "query,pos,origin_file,origin_line\nq,p,raw/a,9\nq,p,,4\nq,p,raw/a,x\nq,p,raw/b\n";
        let (found, unmapped) = read("a.csv", table);
        assert_eq!(found, [given("raw/a", 9), None, None, None]);
        assert_eq!(unmapped.iter().collect::<Vec<_>>(), [("origin_file", 1), ("origin_line", 2)]);
        assert_eq!(read("one.csv", "query,pos,origin_line\nq,p,4\n").0, [None]);
    }

    #[test]
    fn columns_of_any_width_and_none_above_63_bits() {
        use arrow_array::{ArrayRef, RecordBatch, RecordBatchIterator, StringArray, UInt32Array, UInt64Array};
        use std::sync::Arc;
        let text = |texts: [&str; 2]| Arc::new(StringArray::from_iter_values(texts)) as ArrayRef;
        let lines: [ArrayRef; 2] =
            [Arc::new(UInt32Array::from(vec![7, 8])), Arc::new(UInt64Array::from(vec![7, u64::MAX]))];
        for (lines, last) in lines.into_iter().zip([Some(("b".to_owned(), 8)), None]) {
            let columns = [("origin_file", text(["a", "b"])), ("origin_line", lines), ("text", text(["t", "u"]))];
            let batch = RecordBatch::try_from_iter(columns).expect("batch");
            let schema = batch.schema();
            let stream = RecordBatchIterator::new([Ok(batch)], schema);
            let mut reader = open_stream(Box::new(stream), "stream", &options()).expect("readable");
            let found = drain_origins(reader.as_mut()).expect("records").0;
            assert_eq!(found, [Some(("a".to_owned(), 7)), last]);
        }
    }
}
