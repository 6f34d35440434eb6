//! Damaged Arrow data is an error that names the file, never a panic or an allocation of what it claims to hold.

use std::sync::Arc;

use arrow_array::{RecordBatch, StringArray};
use arrow_ipc::CompressionType;
use arrow_ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};

use super::testing::{Owned, options, read_bytes};
use crate::Error;

fn bytes(stream: bool, compression: Option<CompressionType>) -> Vec<u8> {
    let texts = |texts: [&str; 3]| Arc::new(StringArray::from(texts.map(str::to_owned).to_vec())) as _;
    let columns = [
        ("query", texts(["what is a magnet", "who", &"why ".repeat(30)])),
        ("pos", texts(["a rock", "nobody", &"because ".repeat(30)])),
    ];
    let batch = RecordBatch::try_from_iter(columns).expect("two columns");
    let options = IpcWriteOptions::default().try_with_compression(compression).expect("a codec that is built in");
    let mut bytes = Vec::new();
    if stream {
        let mut writer = StreamWriter::try_new_with_options(&mut bytes, &batch.schema(), options).expect("memory");
        writer.write(&batch).and_then(|()| writer.write(&batch)).and_then(|()| writer.finish()).expect("memory");
    } else {
        let mut writer = FileWriter::try_new_with_options(&mut bytes, &batch.schema(), options).expect("memory");
        writer.write(&batch).and_then(|()| writer.write(&batch)).and_then(|()| writer.finish()).expect("memory");
    }
    bytes
}

fn kinds() -> [Vec<u8>; 5] {
    let (lz4, zstd) = (Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD));
    [bytes(false, None), bytes(true, None), bytes(false, lz4), bytes(false, zstd), bytes(true, zstd)]
}

fn read(bytes: &[u8]) -> Result<Vec<Owned>, String> {
    match read_bytes("a.arrow", bytes, &options()) {
        Ok((records, _)) => Ok(records),
        Err(error @ Error::Corpus { .. }) => Err(error.to_string()),
        Err(other) => panic!("expected Error::Corpus, found {other:?}"),
    }
}

#[test]
fn whole_data_is_read_whole() {
    for bytes in kinds() {
        assert_eq!(read(&bytes).expect("whole data").len(), 6);
    }
}

#[test]
fn any_byte_may_be_wrong() {
    for whole in kinds() {
        for at in (6..whole.len()).step_by(13) {
            for wrong in [0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] ^= wrong;
                // What can be read is read; what is an error says so.
                if let Err(message) = read(&bytes) {
                    assert!(message.contains("a.arrow"), "{message}");
                }
            }
        }
    }
}

#[test]
fn any_length_may_be_missing() {
    for whole in kinds() {
        for length in (8..whole.len()).step_by(5) {
            if let Ok(records) = read(&whole[..length]) {
                assert!(records.len() <= 6 && whole.starts_with(&[0xff; 4]), "a file that is cut short has no footer");
            }
        }
    }
}

#[test]
fn a_claim_is_held_against_what_is_there() {
    let long_metadata = [&[0xff; 4][..], &0x7fff_ffff_u32.to_le_bytes(), &[0; 8]].concat();
    let error = read(&long_metadata).expect_err("2 GiB of metadata");
    assert!(error.contains("metadata of 2147483647 bytes"), "{error}");

    let file = bytes(false, None);
    let mut long_footer = file.clone();
    let at = file.len() - 10;
    long_footer[at..at + 4].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let error = read(&long_footer).expect_err("a footer that is longer than the file");
    assert!(error.contains("a footer of 2147483647 bytes in a file of"), "{error}");

    // The length that the first compressed buffer claims stands before it.
    let mut claims = bytes(true, Some(CompressionType::ZSTD));
    let magic = [0x28, 0xb5, 0x2f, 0xfd];
    let at = claims.windows(4).position(|bytes| bytes == magic).expect("a zstd frame");
    claims[at - 8..at].copy_from_slice(&(1_i64 << 45).to_le_bytes());
    let error = read(&claims).expect_err("a buffer that claims 32 TiB");
    assert!(error.contains("that claims to hold 35184372088832"), "{error}");
}
