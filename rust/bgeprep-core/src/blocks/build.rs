//! Making a block index, on all threads, once for all ranks of a machine.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::Write;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fs_err as fs;
use xxhash_rust::xxh3::Xxh3;

use super::cut::Cutter;
use super::document::document;
use super::index::{Block, BlockIndex, BlockStats, foot, head, identity};
use crate::batch::crew::lock;
use crate::mask::MAX_TOKENS;
use crate::pair::SetKind;
use crate::pipeline::gate::for_each;
use crate::progress::Progress;
use crate::shard::ShardSet;
use crate::shard::sink::AtomicFile;
use crate::tokenize::TextEncoder;
use crate::{Error, Result};

/// Rows that a thread cuts at a time.
const ROWS_A_JOB: u64 = 128;

/// Ending of an index; no reader takes it for data.
const SUFFIX: &str = "blocks";

/// Between two looks at the lock of another process that makes the index.
const PATIENCE: Duration = Duration::from_millis(50);

/// The index of a text set for a tokenizer and a length in tokens, special ones included: the one in
/// `folder`, or made and left there. What lies there of other sets is removed.
///
/// # Errors
/// `Shard` for a set of pairs, or one without a token; `Config` for a length that leaves no room.
pub fn open_or_build(
    set: &ShardSet,
    encoder: &TextEncoder,
    max_length: usize,
    folder: &Path,
    threads: usize,
    progress: &Progress,
) -> Result<BlockIndex> {
    if set.kind() != SetKind::Text {
        let message = "expected a set of texts, found pairs; hint: open it with BatchLoader";
        return Err(Error::shard(set.folder(), message));
    }
    let special = encoder.special_tokens();
    if !(special + 1..=MAX_TOKENS).contains(&max_length) {
        let message = format!("expected from {} to {MAX_TOKENS} tokens, found {max_length}", special + 1);
        return Err(Error::config("text.max_seq_length", message));
    }
    let identity = identity(set, encoder, max_length)?;
    let of_set: String = set.manifest().hash.chars().take(16).collect();
    let path = folder.join(format!("{of_set}-{:016x}.{SUFFIX}", identity >> 64));
    if let Some(index) = BlockIndex::open(&path, identity)? {
        return Ok(index);
    }
    progress.enter("blocks");
    fs::create_dir_all(folder).map_err(Error::io(folder, "create"))?;
    let _lock = lock_folder(folder, progress)?;
    // Another rank may have made it in the meantime.
    if let Some(index) = BlockIndex::open(&path, identity)? {
        return Ok(index);
    }
    remove_strangers(folder, &of_set)?;
    build(set, &Builder { encoder, room: max_length - special, threads, progress }, &path, identity)?;
    let index = BlockIndex::open(&path, identity)?;
    let index = index.ok_or_else(|| Error::Internal(format!("{}: an index that is not whole", path.display())))?;
    if index.is_empty() {
        return Err(Error::shard(set.folder(), "no text has a token under this tokenizer"));
    }
    Ok(index)
}

fn lock_folder(folder: &Path, progress: &Progress) -> Result<File> {
    let path = folder.join("lock");
    let file = File::options().create(true).append(true).open(&path).map_err(Error::io(&path, "write"))?;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                progress.check()?;
                std::thread::sleep(PATIENCE);
            }
            Err(TryLockError::Error(error)) => return Err(Error::io(&path, "lock")(error)),
        }
    }
}

/// Indices of sets that are no more.
fn remove_strangers(folder: &Path, of_set: &str) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io(folder, "list"))? {
        let path = entry.map_err(Error::io(folder, "list"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let is_index = path.extension().is_some_and(|suffix| suffix == SUFFIX || suffix == "tmp");
        if is_index && !name.starts_with(of_set) {
            fs::remove_file(&path).map_err(Error::io(&path, "remove"))?;
        }
    }
    Ok(())
}

struct Builder<'a> {
    encoder: &'a TextEncoder,
    room: usize,
    threads: usize,
    progress: &'a Progress,
}

/// The file being written: jobs come in any order and are written in theirs.
struct Out {
    file: AtomicFile,
    hash: Xxh3,
    next: usize,
    waiting: BTreeMap<usize, Vec<u8>>,
    stats: BlockStats,
}

impl Out {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.hash.update(bytes);
        self.file.write_all(bytes).map_err(Error::io(self.file.path(), "write"))
    }
}

fn build(set: &ShardSet, builder: &Builder<'_>, path: &Path, identity: u128) -> Result<()> {
    let jobs = set.len().div_ceil(ROWS_A_JOB) as usize;
    builder.progress.parts_done.store(0, Ordering::Relaxed);
    builder.progress.parts_total.store(jobs as u64, Ordering::Relaxed);
    let mut out = Out {
        file: AtomicFile::create(path)?,
        hash: Xxh3::new(),
        next: 0,
        waiting: BTreeMap::new(),
        stats: BlockStats::default(),
    };
    out.write(&head(identity))?;
    let out = Mutex::new(out);
    for_each(builder.threads, jobs, |job| {
        let (bytes, stats) = cut_rows(set, builder, job as u64 * ROWS_A_JOB)?;
        let mut out = lock(&out);
        out.stats.blocks += stats.blocks;
        out.stats.documents += stats.documents;
        out.stats.tokens += stats.tokens;
        out.stats.split_sentences += stats.split_sentences;
        out.waiting.insert(job, bytes);
        while let Some(bytes) = {
            let next = out.next;
            out.waiting.remove(&next)
        } {
            out.write(&bytes)?;
            out.next += 1;
        }
        builder.progress.parts_done.fetch_add(1, Ordering::Relaxed);
        Ok(())
    })?;
    let mut out = out.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    let foot = foot(&out.stats);
    out.write(&foot)?;
    let checksum = out.hash.digest().to_le_bytes();
    out.write(&checksum)?;
    out.file.commit()?;
    Ok(())
}

/// The encoded blocks of the rows of a job.
fn cut_rows(set: &ShardSet, builder: &Builder<'_>, first: u64) -> Result<(Vec<u8>, BlockStats)> {
    let mut cutter = Cutter::new(builder.encoder, builder.room);
    let (mut bytes, mut cuts, mut scratch) = (Vec::new(), Vec::new(), String::new());
    let mut stats = BlockStats::default();
    for id in first..set.len().min(first + ROWS_A_JOB) {
        builder.progress.check()?;
        cuts.clear();
        let row = set.row(id)?;
        cutter.cut(document(&row, &mut scratch), &mut cuts)?;
        stats.documents += u64::from(!cuts.is_empty());
        stats.blocks += cuts.len() as u64;
        for cut in &cuts {
            stats.tokens += u64::from(cut.tokens);
            Block { row: id, start: cut.start, end: cut.end, tokens: cut.tokens }.encode(&mut bytes);
        }
        builder.progress.rows_read.fetch_add(1, Ordering::Relaxed);
    }
    stats.split_sentences = cutter.split_sentences;
    Ok((bytes, stats))
}
