//! Arrow IPC files and streams.

use bgeprep_core::read::Format;

use super::reading::{MAX_LINE, read_in_any_chunks};

/// Any bytes read as Arrow: rows are numbered without a gap, whatever they hold.
pub fn arrow(data: &[u8]) {
    if !data.starts_with(b"ARROW1") && !data.starts_with(b"\xff\xff\xff\xff") {
        return;
    }
    let Ok(records) = read_in_any_chunks(data, Format::Arrow, MAX_LINE) else { return };
    for (at, record) in records.iter().enumerate() {
        assert_eq!(record.line, at as u64 + 1);
    }
}
