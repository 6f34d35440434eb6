//! All scores as one sorted file: made in bounded memory, mapped, searched by interpolation.
//!
//! An entry is one 128-bit number: 96 bits of the xxh3-128 of both content hashes, which are its
//! key (64 bits that place it and 32 that check it), and the 32 bits of the score. So sorting
//! entries sorts keys, and of equal keys the last has the highest score.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use arrow_buffer::Buffer;
use fs_err as fs;
use xxhash_rust::xxh3::xxh3_128;

use super::parquet;
use crate::shard::map::map;
use crate::{Error, Result};

/// Name of the table's file, in its folder.
pub const SCORES: &str = "scores";

/// Most runs that are open at once.
const FAN_IN: usize = 100;

/// Bytes of an entry.
const ENTRY: usize = 16;

/// The key of a pair, in the upper 96 bits.
fn key(query: &[u8], positive: &[u8]) -> u128 {
    let mut both = [0; 32];
    both[..16].copy_from_slice(query);
    both[16..].copy_from_slice(positive);
    xxh3_128(&both) >> 32 << 32
}

/// A score as bits that sort as the numbers do.
fn to_bits(score: f32) -> u32 {
    let bits = score.to_bits();
    if bits >> 31 == 1 { !bits } else { bits | 1 << 31 }
}

fn from_bits(bits: u32) -> f32 {
    f32::from_bits(if bits >> 31 == 1 { bits & !(1 << 31) } else { !bits })
}

/// The scores of all files, found by content.
#[derive(Debug)]
pub struct ScoreTable {
    entries: Buffer,
}

impl ScoreTable {
    /// Makes, in `folder`, the table of `files`, holding about `memory` bytes; `check` may stop it. A pair that has several
    /// scores has the highest of them; one whose score is null or NaN has none.
    ///
    /// # Errors
    /// `Corpus` for files that are no score files; what `check` says; `Io`.
    pub fn make(files: &[PathBuf], folder: &Path, memory: u64, check: &dyn Fn() -> Result<()>) -> Result<()> {
        let room = (memory as usize / ENTRY).max(1024);
        let (mut entries, mut runs) = (Vec::new(), Vec::new());
        for file in files {
            parquet::visit(file, &mut |query, positive, score| {
                if score.is_nan() {
                    return Ok(());
                }
                entries.push(key(query, positive) | u128::from(to_bits(score)));
                if entries.len() < room {
                    return Ok(());
                }
                check()?;
                write_run(folder, &mut entries, &mut runs)
            })?;
            check()?;
        }
        write_run(folder, &mut entries, &mut runs)?;
        let mut round = 0;
        while runs.len() > FAN_IN {
            check()?;
            let group: Vec<PathBuf> = runs.drain(..FAN_IN).collect();
            let merged = folder.join(format!("merged-{round:06}"));
            merge(&group, &merged)?;
            runs.push(merged);
            round += 1;
        }
        merge(&runs, &folder.join(SCORES))
    }

    /// Opens the table that [`make`](Self::make) left in `folder`.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join(SCORES);
        let bytes = fs::metadata(&path).map_err(Error::io(&path, "read"))?.len();
        Ok(Self { entries: map(&path, bytes)? })
    }

    /// The score of a pair, by the content hashes of its texts.
    pub fn get(&self, query: &[u8; 16], positive: &[u8; 16]) -> Option<f32> {
        let wanted = key(query, positive);
        let entries = self.entries.as_chunks::<ENTRY>().0;
        let at = |index: usize| u128::from_le_bytes(entries[index]);
        // Keys are even, so the place of one is known to about the root of their number.
        let guess = (((wanted >> 64) * entries.len() as u128) >> 64) as usize;
        let (mut low, mut high, mut step) = (guess, guess, 32);
        while low > 0 && at(low - 1) >= wanted {
            low = low.saturating_sub(step);
            step *= 2;
        }
        step = 32;
        while high < entries.len() && at(high) < wanted {
            high = entries.len().min(high + step);
            step *= 2;
        }
        let found = low + entries[low..high].partition_point(|entry| u128::from_le_bytes(*entry) < wanted);
        let entry = entries.get(found).map(|entry| u128::from_le_bytes(*entry))?;
        (entry >> 32 == wanted >> 32).then(|| from_bits(entry as u32))
    }
}

fn write_run(folder: &Path, entries: &mut Vec<u128>, runs: &mut Vec<PathBuf>) -> Result<()> {
    entries.sort_unstable();
    let path = folder.join(format!("run-{:06}", runs.len()));
    let mut file = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(Error::io(&path, "write"))?);
    for entry in entries.drain(..) {
        file.write_all(&entry.to_le_bytes()).map_err(Error::io(&path, "write"))?;
    }
    file.flush().map_err(Error::io(&path, "write"))?;
    runs.push(path);
    Ok(())
}

/// Merges sorted runs into one, keeping the highest score of each key, and removes them.
fn merge(runs: &[PathBuf], to: &Path) -> Result<()> {
    let open =
        |path: &PathBuf| Ok(BufReader::with_capacity(1 << 16, File::open(path).map_err(Error::io(path, "read"))?));
    let mut readers = runs.iter().map(open).collect::<Result<Vec<_>>>()?;
    let mut next = |run: usize| next_entry(&mut readers[run]).map_err(Error::io(&runs[run], "read"));
    let mut heads = BinaryHeap::new();
    for run in 0..runs.len() {
        heads.extend(next(run)?.map(|entry| Reverse((entry, run))));
    }
    let mut file = BufWriter::with_capacity(1 << 18, File::create(to).map_err(Error::io(to, "write"))?);
    let mut pending: Option<u128> = None;
    while let Some(Reverse((entry, run))) = heads.pop() {
        if let Some(last) = pending.filter(|last| last >> 32 != entry >> 32) {
            file.write_all(&last.to_le_bytes()).map_err(Error::io(to, "write"))?;
        }
        pending = Some(entry);
        heads.extend(next(run)?.map(|entry| Reverse((entry, run))));
    }
    if let Some(last) = pending {
        file.write_all(&last.to_le_bytes()).map_err(Error::io(to, "write"))?;
    }
    file.flush().map_err(Error::io(to, "write"))?;
    runs.iter().try_for_each(|run| fs::remove_file(run).map_err(Error::io(run, "remove")))
}

fn next_entry(reader: &mut impl Read) -> std::io::Result<Option<u128>> {
    let mut entry = [0; ENTRY];
    match reader.read_exact(&mut entry) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => Ok(None),
        result => result.map(|()| Some(u128::from_le_bytes(entry))),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use ::parquet::arrow::ArrowWriter;
    use arrow_array::{ArrayRef, FixedSizeBinaryArray, Float32Array, RecordBatch};

    use super::*;
    use crate::clean::text::content_hash;

    fn hash(text: &str, number: usize) -> [u8; 16] {
        content_hash(&format!("{text} {number}"))
    }

    /// A score file of pairs (query n, positive n).
    fn write(path: &Path, scores: &[(usize, Option<f32>)]) {
        let hashes = |text| -> ArrayRef {
            let hashes = scores.iter().map(|(number, _)| hash(text, *number));
            Arc::new(FixedSizeBinaryArray::try_from_iter(hashes).expect("16 bytes each"))
        };
        let values: ArrayRef = Arc::new(scores.iter().map(|(_, score)| *score).collect::<Float32Array>());
        let columns = [("query_hash", hashes("query")), ("pos_hash", hashes("pos")), ("score", values)];
        let batch = RecordBatch::try_from_iter(columns).expect("batch");
        let mut writer = ArrowWriter::try_new(File::create(path).expect("file"), batch.schema(), None).expect("writer");
        writer.write(&batch).expect("write");
        writer.close().expect("close");
    }

    fn table(files: &[PathBuf], memory: u64) -> (tempfile::TempDir, ScoreTable) {
        let folder = tempfile::tempdir().expect("folder");
        ScoreTable::make(files, folder.path(), memory, &|| Ok(())).expect("table");
        let table = ScoreTable::open(folder.path()).expect("table");
        (folder, table)
    }

    #[test]
    fn every_score_is_found_whatever_the_memory_and_no_other() {
        let folder = tempfile::tempdir().expect("folder");
        let score = |number: usize| number as f32 / 1000.0 - 2.0;
        let files: Vec<PathBuf> = (0..3).map(|file| folder.path().join(format!("{file}.parquet"))).collect();
        for (file, path) in files.iter().enumerate() {
            let own: Vec<_> =
                (file * 50_000..(file + 1) * 50_000).map(|number| (number, Some(score(number)))).collect();
            write(path, &own);
        }
        // 146 runs, which are more than are open at once, and one run.
        for memory in [0, 1 << 24] {
            let (_folder, table) = table(&files, memory);
            for number in 0..150_000 {
                assert_eq!(table.get(&hash("query", number), &hash("pos", number)), Some(score(number)));
            }
            for number in 0..1000 {
                assert_eq!(table.get(&hash("query", number), &hash("pos", number + 1)), None);
                assert_eq!(table.get(&hash("pos", number), &hash("query", number)), None, "the two are no set");
            }
        }
    }

    #[test]
    fn of_several_scores_the_highest_counts_and_none_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("scores.parquet");
        write(
            &path,
            &[(1, Some(0.5)), (1, Some(-3.0)), (1, Some(0.75)), (2, None), (3, Some(f32::NAN)), (4, Some(-1.5))],
        );
        let (_folder, table) = table(&[path], 1 << 20);
        let get = |number| table.get(&hash("query", number), &hash("pos", number));
        assert_eq!([1, 2, 3, 4].map(get), [Some(0.75), None, None, Some(-1.5)]);
        let (_folder, empty) = super::tests::table(&[], 0);
        assert_eq!(empty.get(&hash("query", 1), &hash("pos", 1)), None);
    }

    #[test]
    fn a_file_without_the_columns_is_an_error_that_names_them() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("other.parquet");
        let column: ArrayRef = Arc::new(Float32Array::from(vec![1.0]));
        let batch = RecordBatch::try_from_iter([("score", column)]).expect("batch");
        let mut writer =
            ArrowWriter::try_new(File::create(&path).expect("file"), batch.schema(), None).expect("writer");
        writer.write(&batch).expect("write");
        writer.close().expect("close");
        let error = ScoreTable::make(std::slice::from_ref(&path), folder.path(), 0, &|| Ok(()))
            .expect_err("no hashes")
            .to_string();
        assert!(error.contains("no column query_hash") && error.contains("found score"), "{error}");
        fs::write(&path, "PAR1 and nothing").expect("write");
        let error = ScoreTable::make(&[path], folder.path(), 0, &|| Ok(())).expect_err("damaged").to_string();
        assert!(error.contains("not a readable Parquet file"), "{error}");
    }
}
