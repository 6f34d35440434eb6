//! Gzip, against the plain bytes inside.

use std::io::{Read, Write};

use bgeprep_core::read::Format;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;

use super::json::is_packed;
use super::reading::{MAX_LINE, Owned, options, read, read_in_any_chunks};

/// More than this is a bomb: it must be read in bounded memory, but is not compared.
const COMPARED_BYTES: u64 = 4 << 20;

/// Any bytes read as a gzip file, and any bytes put into one.
pub fn gzip(data: &[u8]) {
    if data.starts_with(b"\x1f\x8b") {
        let found = read_in_any_chunks(data, Format::Jsonl, MAX_LINE);
        let mut plain = Vec::new();
        let unpacked = MultiGzDecoder::new(data).take(COMPARED_BYTES).read_to_end(&mut plain);
        match unpacked {
            Ok(_) if plain.len() as u64 == COMPARED_BYTES || is_packed(&plain) => {}
            Ok(_) => compare(&plain, &found),
            Err(error) => assert!(found.is_err(), "damaged ({error}), and read without a word"),
        }
    } else if !is_packed(data) {
        // In members cut anywhere, one of them empty, it is the same file.
        let (first, second) = data.split_at(data.len() / 3);
        let members: Vec<u8> = [first, &[], second].into_iter().flat_map(pack).collect();
        compare(data, &read(&members, &options(Format::Jsonl, 1 << 10, MAX_LINE)));
        // Cut short it is never read as if it were whole.
        let cut = read(&members[..members.len() - 1 - data.len() % 8], &options(Format::Jsonl, 1 << 10, MAX_LINE));
        assert!(cut.is_err(), "cut short, and read without a word: {cut:?}");
    }
}

fn compare(plain: &[u8], found: &Result<Vec<Owned>, String>) {
    match (read(plain, &options(Format::Jsonl, 1 << 20, MAX_LINE)), found) {
        (Ok(expected), Ok(found)) => assert_eq!(expected, *found),
        (Err(_), Err(_)) => {}
        (expected, found) => panic!("plain {expected:?}, packed {found:?}"),
    }
}

fn pack(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("memory");
    encoder.finish().expect("memory")
}
