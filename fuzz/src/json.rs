//! JSON lines and JSON arrays, against serde_json.

use bgeprep_core::read::Format;
use serde_json::Value;

use super::reading::{MAX_LINE, Owned, options, read, read_in_any_chunks};

const MOST_LEVELS: usize = 64;

/// Any bytes read as JSON: one record for each line that is not blank, in order, and what is read is what serde_json
/// reads.
pub fn json(data: &[u8]) {
    if is_packed(data) {
        return;
    }
    // Whatever the format may be found to be, nothing panics.
    let _ = read(data, &options(Format::Auto, 1 << 20, MAX_LINE));
    if let Ok(records) = read_in_any_chunks(data, Format::Jsonl, MAX_LINE) {
        check_lines(data, &records);
    }
    // A bound that most lines break: long ones are passed over and counted, none is lost.
    if let Ok(records) = read_in_any_chunks(data, Format::Jsonl, 24) {
        assert_eq!(records.len(), lines(data).count(), "a record a line");
    }
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    if text.trim_ascii_start().starts_with(b"[") {
        let records = read_in_any_chunks(data, Format::JsonArray, MAX_LINE);
        if let Ok(Value::Array(items)) = serde_json::from_slice(text) {
            let records = records.unwrap_or_default();
            // A file that cannot be used at all (no query column, say) is an error at the first record.
            if !records.is_empty() {
                assert_eq!(records.len(), items.len(), "a record an element");
                for (record, (at, item)) in records.iter().zip(items.iter().enumerate()) {
                    assert_eq!(record.line, at as u64 + 1);
                    check_value(record, item, text);
                }
            }
        }
    }
}

/// Bytes that are taken for something else than text before any line is looked at.
pub(crate) fn is_packed(data: &[u8]) -> bool {
    let magic: [&[u8]; 9] =
        [b"\x1f\x8b", b"\x28\xb5\x2f\xfd", b"BZh", b"PAR1", b"ARROW1", b"\xff\xff\xff\xff", b"PK", b"7z", b"\xfd7zXZ"];
    magic.iter().any(|magic| data.starts_with(magic)) || data.get(1..4) == Some(b"\x2a\x4d\x18")
}

/// Lines that are not blank, with their numbers.
fn lines(data: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let text = data.strip_prefix(b"\xef\xbb\xbf").unwrap_or(data);
    let lines = text.split(|byte| *byte == b'\n').map(|line| line.strip_suffix(b"\r").unwrap_or(line));
    (1..).zip(lines).filter(|(_, line)| !line.trim_ascii().is_empty())
}

fn check_lines(data: &[u8], records: &[Owned]) {
    let mut expected = lines(data);
    for record in records {
        let (line, bytes) = expected.next().expect("no more records than lines");
        assert_eq!(record.line, line);
        let reason = record.body.as_ref().err().copied();
        if bytes.len() > MAX_LINE {
            assert_eq!(reason, Some("long_line"));
        } else if bytes.contains(&0) {
            assert_eq!(reason, Some("not_text"));
        } else if std::str::from_utf8(bytes).is_err() {
            assert_eq!(reason, Some("invalid_utf8"));
        } else {
            match serde_json::from_slice(bytes) {
                Ok(value) => check_value(record, &value, bytes),
                Err(error) => assert!(
                    reason == Some("bad_json") || is_known_difference(&error.to_string()),
                    "read {record:?}, serde_json says {error}"
                ),
            }
        }
    }
    assert_eq!(expected.next(), None, "no fewer records than lines");
}

/// The grammar of JSON sets no bound on numbers or depth, and escapes in values that nobody asks for are not looked at.
fn is_known_difference(error: &str) -> bool {
    ["number out of range", "recursion limit", "escape", "surrogate", "code point"]
        .iter()
        .any(|say| error.contains(say))
}

fn check_value(record: &Owned, value: &Value, bytes: &[u8]) {
    let shown = || String::from_utf8_lossy(bytes).into_owned();
    if depth(value) > MOST_LEVELS {
        assert_eq!(record.body, Err("bad_json"), "{}", shown());
        return;
    }
    assert_ne!(record.body, Err("bad_json"), "serde_json reads {}", shown());
    let (Ok((query, pos)), Value::Object(object)) = (&record.body, value) else { return };
    // Other names, in other cases, could claim the same roles.
    if object.keys().any(|key| !matches!(key.as_str(), "query" | "pos" | "neg" | "id" | "x")) {
        return;
    }
    assert_eq!(object.get("query").and_then(Value::as_str), Some(query.as_str()), "{}", shown());
    let given: Vec<&str> = match &object["pos"] {
        Value::String(text) => vec![text],
        Value::Array(texts) => texts.iter().filter_map(Value::as_str).collect(),
        _ => Vec::new(),
    };
    assert_eq!(*pos, given, "{}", shown());
}

/// Levels of lists and objects; the reader takes no more than `MOST_LEVELS`.
fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(object) => 1 + object.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}
