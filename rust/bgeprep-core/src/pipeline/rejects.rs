//! Every dropped row and text, sorted by origin in bounded memory: sorted runs on disk, merged
//! once at the end.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use fs_err as fs;

use crate::report::{Reason, RejectPart};
use crate::shuffle::RowId;
use crate::{Error, Result};

/// Most runs that are open at once.
const FAN_IN: usize = 100;

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
    /// The row that stays instead.
    pub twin: Option<RowId>,
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
        if folder.exists() {
            fs::remove_dir_all(folder).map_err(Error::io(folder, "remove"))?;
        }
        fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
        Ok(Self { folder: folder.to_owned(), memory: memory as usize, state: Mutex::default() })
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

    /// Writes what is left.
    pub fn finish(self) -> Result<()> {
        let mut state = self.state.lock().map_err(|_| Error::Internal("a reject writer died".to_owned()))?;
        if state.rejects.is_empty() { Ok(()) } else { self.write_run(&mut state) }
    }

    fn write_run(&self, state: &mut Pending) -> Result<()> {
        let path = self.folder.join(format!("run-{:06}", state.runs));
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

/// All rejects of the runs in these folders, in order.
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
        Some(self.refill(run).map(|()| reject))
    }
}

fn weight(reject: &Reject) -> usize {
    size_of::<Reject>() + reject.detail.len() + reject.query.len() + reject.text.len()
}

fn encode(reject: &Reject, out: &mut Vec<u8>) {
    let twin = reject.twin.unwrap_or_default();
    out.extend_from_slice(&reject.slot.to_le_bytes());
    for row in [reject.row, twin] {
        out.extend_from_slice(&row.file.to_le_bytes());
        out.extend_from_slice(&row.line.to_le_bytes());
    }
    out.extend_from_slice(&[reject.part as u8, reject.reason as u8, u8::from(reject.twin.is_some())]);
    out.extend_from_slice(&reject.item.to_le_bytes());
    for text in [&reject.detail, &reject.query, &reject.text] {
        out.extend_from_slice(&(text.len() as u32).to_le_bytes());
        out.extend_from_slice(text.as_bytes());
    }
}

fn decode(reader: &mut impl Read) -> std::io::Result<Option<Reject>> {
    let mut head = [0; 4 + 24 + 3 + 4];
    match reader.read_exact(&mut head) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let long = |at: usize| u64::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|i| head[at + i]));
    let twin = RowId { file: word(16), line: long(20) };
    let mut reject = Reject {
        slot: word(0),
        row: RowId { file: word(4), line: long(8) },
        part: [RejectPart::Row, RejectPart::Positive, RejectPart::Negative][usize::from(head[28])],
        item: word(31),
        reason: Reason::ALL[usize::from(head[29])],
        detail: String::new(),
        twin: (head[30] == 1).then_some(twin),
        query: String::new(),
        text: String::new(),
    };
    for text in [&mut reject.detail, &mut reject.query, &mut reject.text] {
        let mut length = [0; 4];
        reader.read_exact(&mut length)?;
        let mut bytes = vec![0; u32::from_le_bytes(length) as usize];
        reader.read_exact(&mut bytes)?;
        *text = String::from_utf8(bytes).map_err(std::io::Error::other)?;
    }
    Ok(Some(reject))
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
            twin: line.is_multiple_of(2).then_some(RowId { file: 1, line: 7 }),
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
            for chunk in expected.chunks(7) {
                sink.add(&mut chunk.to_vec()).expect("add");
            }
            sink.finish().expect("finish");
            expected.sort();
            let merged: Vec<Reject> = merge(&[runs]).expect("merge").collect::<Result<_>>().expect("whole runs");
            assert_eq!(merged, expected);
        }
    }
}
