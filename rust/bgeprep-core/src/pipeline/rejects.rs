//! Every dropped row and text, sorted by origin in bounded memory: sorted runs on disk, merged
//! once at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use crate::report::{Reason, RejectPart, Similarity};
use crate::shuffle::RowId;
use crate::{Error, Result};

/// Most runs that are open at once.
const FAN_IN: usize = 100;

/// What stands for a dropped text.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Twin {
    /// Nothing does.
    #[default]
    None,
    /// A row of this run.
    Row(RowId),
    /// A text outside of it: of a benchmark, or of a set that exists already.
    Text {
        /// Name of the benchmark or source.
        source: String,
        /// File in it.
        file: String,
        /// Line in the file, 0 if it has none.
        line: u64,
        /// Id of the text, empty if it has none.
        id: String,
    },
}

/// One dropped row, positive or negative. The order of the fields is the order of the reject file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    /// Source and task slot.
    pub slot: u32,
    /// Where it came from.
    pub row: RowId,
    /// Row, positive or negative.
    pub part: RejectPart,
    /// Index in the row's list.
    pub item: u32,
    /// Why.
    pub reason: Reason,
    /// Expected and found.
    pub detail: String,
    /// What stays instead.
    pub twin: Twin,
    /// How alike they are.
    pub similarity: Similarity,
    /// The query's beginning.
    pub query: String,
    /// The beginning of the text in question.
    pub text: String,
}

/// Takes rejects from many threads.
#[derive(Debug)]
pub struct RejectSink {
    folder: PathBuf,
    memory: usize,
    state: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    rejects: Vec<Reject>,
    bytes: usize,
    runs: usize,
}

impl RejectSink {
    /// A sink whose runs lie in `folder`, which is emptied; holds about `memory` bytes.
    pub fn create(folder: &Path, memory: u64) -> Result<Self> {
        Self::reopen(folder, memory, 0)
    }

    /// A sink that goes on behind its first `runs` runs; those that a killed run wrote later go.
    pub fn reopen(folder: &Path, memory: u64, runs: usize) -> Result<Self> {
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            let path = entry.map_err(Error::io(folder, "read"))?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let number = name.strip_prefix("run-").and_then(|number| number.parse().ok());
            if number.is_none_or(|run: usize| run >= runs) {
                fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
            }
        }
        let state = Mutex::new(Pending { runs, ..Pending::default() });
        Ok(Self { folder: folder.to_owned(), memory: memory as usize, state })
    }

    /// Takes one thread's rejects and leaves the list empty.
    pub fn add(&self, rejects: &mut Vec<Reject>) -> Result<()> {
        if rejects.is_empty() {
            return Ok(());
        }
        let mut state = self.state.lock().map_err(|_| Error::Internal("a reject writer died".to_owned()))?;
        state.bytes += rejects.iter().map(weight).sum::<usize>();
        state.rejects.append(rejects);
        if state.bytes > self.memory { self.write_run(&mut state) } else { Ok(()) }
    }

    /// Writes out what is buffered; the number of runs.
    pub fn flush_all(&self) -> Result<u64> {
        let mut state = self.state.lock().map_err(|_| Error::Internal("a reject writer died".to_owned()))?;
        if !state.rejects.is_empty() {
            self.write_run(&mut state)?;
        }
        Ok(state.runs as u64)
    }

    /// Writes what is left.
    pub fn finish(self) -> Result<()> {
        self.flush_all().map(drop)
    }

    fn write_run(&self, state: &mut Pending) -> Result<()> {
        let path = run_path(&self.folder, state.runs);
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(Error::io(&path, "write"))?);
        state.rejects.sort_unstable();
        let mut record = Vec::new();
        for reject in state.rejects.drain(..) {
            record.clear();
            encode(&reject, &mut record);
            file.write_all(&record).map_err(Error::io(&path, "write"))?;
        }
        file.flush().map_err(Error::io(&path, "write"))?;
        state.bytes = 0;
        state.runs += 1;
        Ok(())
    }
}

fn run_path(folder: &Path, run: usize) -> PathBuf {
    folder.join(format!("run-{run:06}"))
}

/// All rejects of the runs in these folders, in order, each once: a run that goes on after a kill
/// may have written some of them twice.
pub fn merge(folders: &[PathBuf]) -> Result<Merged> {
    let mut paths = Vec::new();
    for folder in folders {
        for entry in fs::read_dir(folder).map_err(Error::io(folder, "read"))? {
            paths.push(entry.map_err(Error::io(folder, "read"))?.path());
        }
    }
    paths.sort();
    // Open files are scarce: many runs become few before the last merge.
    let mut round = 0;
    while paths.len() > FAN_IN {
        let group: Vec<PathBuf> = paths.drain(..FAN_IN).collect();
        let path = folders[0].join(format!("merged-{round:06}"));
        let mut file = BufWriter::with_capacity(1 << 18, File::create(&path).map_err(Error::io(&path, "write"))?);
        let mut record = Vec::new();
        for reject in Merged::open(&group)? {
            record.clear();
            encode(&reject?, &mut record);
            file.write_all(&record).map_err(Error::io(&path, "write"))?;
        }
        file.flush().map_err(Error::io(&path, "write"))?;
        for run in group {
            fs::remove_file(&run).map_err(Error::io(&run, "remove"))?;
        }
        paths.push(path);
        round += 1;
    }
    Merged::open(&paths)
}

/// Iterator over sorted runs.
#[derive(Debug)]
pub struct Merged {
    runs: Vec<(BufReader<File>, PathBuf)>,
    heads: BinaryHeap<Reverse<(Reject, usize)>>,
}

impl Merged {
    fn open(paths: &[PathBuf]) -> Result<Self> {
        let mut merged = Self { runs: Vec::new(), heads: BinaryHeap::new() };
        for path in paths {
            let file = File::open(path).map_err(Error::io(path, "read"))?;
            merged.runs.push((BufReader::with_capacity(1 << 16, file), path.clone()));
            merged.refill(merged.runs.len() - 1)?;
        }
        Ok(merged)
    }

    fn refill(&mut self, run: usize) -> Result<()> {
        let (reader, path) = &mut self.runs[run];
        if let Some(reject) = decode(reader).map_err(Error::io(path.as_path(), "read"))? {
            self.heads.push(Reverse((reject, run)));
        }
        Ok(())
    }

    /// The slot of the next reject.
    pub fn next_slot(&self) -> Option<u32> {
        self.heads.peek().map(|Reverse((reject, _))| reject.slot)
    }
}

impl Iterator for Merged {
    type Item = Result<Reject>;

    fn next(&mut self) -> Option<Self::Item> {
        let Reverse((reject, run)) = self.heads.pop()?;
        if let Err(error) = self.refill(run) {
            return Some(Err(error));
        }
        while self.heads.peek().is_some_and(|Reverse((next, _))| *next == reject) {
            let Some(Reverse((_, run))) = self.heads.pop() else { break };
            if let Err(error) = self.refill(run) {
                return Some(Err(error));
            }
        }
        Some(Ok(reject))
    }
}

fn weight(reject: &Reject) -> usize {
    size_of::<Reject>() + reject.detail.len() + reject.query.len() + reject.text.len()
}

fn encode(reject: &Reject, out: &mut Vec<u8>) {
    let (kind, row, texts) = match &reject.twin {
        Twin::None => (0, RowId::default(), ["", "", ""]),
        Twin::Row(row) => (1, *row, ["", "", ""]),
        Twin::Text { source, file, line, id } => (2, RowId { file: 0, line: *line }, [source.as_str(), file, id]),
    };
    out.extend_from_slice(&reject.slot.to_le_bytes());
    for row in [reject.row, row] {
        out.extend_from_slice(&row.file.to_le_bytes());
        out.extend_from_slice(&row.line.to_le_bytes());
    }
    out.extend_from_slice(&[reject.part as u8, reject.reason as u8, kind]);
    out.extend_from_slice(&reject.item.to_le_bytes());
    out.extend_from_slice(&reject.similarity.bits().to_le_bytes());
    for text in [reject.detail.as_str(), &reject.query, &reject.text].into_iter().chain(texts) {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode(reader: &mut impl Read) -> std::io::Result<Option<Reject>> {
    let mut head = [0; 4 + 24 + 3 + 4 + 4];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let mut text = || {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut bytes)?;
        String::from_utf8(bytes).map_err(std::io::Error::other)
    };
    let (detail, query, excerpt) = (text()?, text()?, text()?);
    let (source, file, id) = (text()?, text()?, text()?);
    Ok(Some(Reject {
        slot: word(0),
        row: RowId { file: word(4), line: long(8) },
        part: [RejectPart::Row, RejectPart::Positive, RejectPart::Negative][usize::from(head[28])],
        item: word(31),
        reason: Reason::ALL[usize::from(head[29])],
        twin: match head[30] {
            0 => Twin::None,
            1 => Twin::Row(RowId { file: word(16), line: long(20) }),
            _ => Twin::Text { source, file, line: long(20), id },
        },
        similarity: Similarity::from_bits(word(35)),
        detail,
        query,
        text: excerpt,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reject(line: u64, item: u32) -> Reject {
        Reject {
            slot: (line % 3) as u32,
            row: RowId { file: 0, line },
            part: RejectPart::Positive,
            item,
            reason: Reason::Duplicate,
            detail: "expected…".to_owned(),
            twin: match line % 3 {
                0 => Twin::None,
                1 => Twin::Row(RowId { file: 1, line: 7 }),
                _ => Twin::Text {
                    source: "nq".to_owned(),
                    file: "queries.jsonl".to_owned(),
                    line: 3,
                    id: "q7".to_owned(),
                },
            },
            similarity: if line.is_multiple_of(3) { Similarity::NONE } else { Similarity::of(0.875) },
            query: "q".repeat(item as usize),
            text: "文".to_owned(),
        }
    }

    #[test]
    fn runs_of_any_size_merge_into_one_order() {
        let mut expected: Vec<Reject> = (0..200).map(|n| reject(n * 37 % 101, n as u32)).collect();
        for memory in [0, 4_000, 1 << 20] {
            let folder = tempfile::tempdir().expect("folder");
            let runs = folder.path().join("runs");
            let sink = RejectSink::create(&runs, memory).expect("sink");
            for (number, chunk) in expected.chunks(7).enumerate() {
                sink.add(&mut chunk.to_vec()).expect("add");
                if number == 5 {
                    sink.flush_all().expect("flush");
                    sink.add(&mut chunk.to_vec()).expect("written twice");
                }
            }
            sink.finish().expect("finish");
            expected.sort();
            let merged: Vec<Reject> = merge(&[runs]).expect("merge").collect::<Result<_>>().expect("whole runs");
            assert_eq!(merged, expected);
        }
    }
}
