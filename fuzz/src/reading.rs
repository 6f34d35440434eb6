//! Bytes → what the reader makes of them, in a form that can be compared.

use std::path::PathBuf;

use bgeprep_core::Error;
use bgeprep_core::read::{Body, ColumnMapping, Format, ReadOptions, Unmapped, open};

/// A record without its lifetime.
#[derive(Debug, PartialEq)]
pub(crate) struct Owned {
    pub(crate) line: u64,
    /// Query and positives of a pair; the reason's name of a reject.
    pub(crate) body: Result<(String, Vec<String>), &'static str>,
    /// Everything else of it, as text.
    rest: String,
}

/// The longest line that the checks allow.
pub(crate) const MAX_LINE: usize = 1 << 16;

pub(crate) fn options(format: Format, chunk_bytes: usize, max_line_bytes: usize) -> ReadOptions {
    ReadOptions {
        format,
        columns: ColumnMapping::default(),
        labels: Vec::new(),
        header: None,
        delimiter: None,
        quoting: None,
        cut: None,
        max_line_bytes,
        chunk_bytes,
    }
}

/// Reads bytes as a file of that format; `Err` holds the message.
pub(crate) fn read(bytes: &[u8], options: &ReadOptions) -> Result<Vec<Owned>, String> {
    let path = place();
    fs_err::write(&path, bytes).expect("a small file in memory");
    let mut records = Vec::new();
    let result = open(&path, options).and_then(|mut reader| {
        let mut unmapped = Unmapped::default();
        while let Some(chunk) = reader.next_chunk()? {
            chunk.records(&mut unmapped, &mut |record| {
                let (body, rest) = match record.body {
                    Body::Pair(pair) => {
                        let rest =
                            format!("{:?}", (&pair.neg, &pair.pos_scores, &pair.neg_scores, &pair.id, &pair.prompt));
                        let pos = pair.pos.iter().map(|text| text.clone().into_owned()).collect();
                        (Ok((pair.query.into_owned(), pos)), rest)
                    }
                    Body::Bad { reason, text, .. } => (Err(reason.name()), text.into_owned()),
                };
                let rest = format!("{rest} {:?}", record.origin);
                records.push(Owned { line: record.line, body, rest });
                Ok(())
            })?;
        }
        assert!(reader.bytes_read() <= bytes.len() as u64, "more bytes read than there are");
        Ok(())
    });
    match result {
        Ok(()) => Ok(records),
        // What is wrong with the input is the input's fault, and says where it lies.
        Err(error @ Error::Corpus { .. }) => {
            let message = error.to_string();
            assert!(message.contains(&*path.to_string_lossy()), "no file in: {message}");
            Err(message)
        }
        Err(other) => panic!("expected Error::Corpus, found {other:?}"),
    }
}

/// Reads in chunks of several sizes, which must not matter, and returns what was read.
pub(crate) fn read_in_any_chunks(bytes: &[u8], format: Format, max_line_bytes: usize) -> Result<Vec<Owned>, String> {
    let whole = read(bytes, &options(format, 1 << 20, max_line_bytes));
    // Tiny chunks of what unpacks to megabytes would only take long.
    let tiny = if bytes.starts_with(b"\x1f\x8b") { 1 << 12 } else { 7 };
    for chunk_bytes in [tiny + bytes.len() / 3, tiny] {
        let pieces = read(bytes, &options(format, chunk_bytes, max_line_bytes));
        match (&whole, &pieces) {
            (Ok(whole), Ok(pieces)) => assert_eq!(whole, pieces, "chunks of {chunk_bytes} bytes"),
            (Err(_), Err(_)) => {}
            _ => panic!("chunks of {chunk_bytes} bytes: {whole:?}, {pieces:?}"),
        }
    }
    whole
}

/// One file a thread, in memory where the system has such a place.
fn place() -> PathBuf {
    let memory = PathBuf::from("/dev/shm");
    let folder = if memory.is_dir() { memory } else { std::env::temp_dir() };
    folder.join(format!("bgeprep-fuzz-{}-{:?}", std::process::id(), std::thread::current().id()))
}
