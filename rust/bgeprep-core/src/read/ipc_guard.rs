//! Looks at the sizes that an Arrow IPC file or stream states before the arrow crates believe them.
//!
//! They allocate what the data says and panic where it contradicts itself; a damaged file would end the process. So
//! every stated size is held against what is there first.

use std::io::{Error as IoError, ErrorKind, Read, Seek, SeekFrom};

use arrow_ipc::{Block, Message, MessageHeader, RecordBatch, root_as_footer, root_as_message};

/// Most bytes of one message's metadata: that of a table with thousands of columns is below 1 MiB.
const METADATA_BYTES: u64 = 64 << 20;
/// More than any codec gains (zstd: 128 KiB from 4 bytes), and most bytes that one buffer may claim to unpack to.
const MOST_GAIN: (u64, u64) = (1 << 15, 8 << 30);
const CONTINUATION: [u8; 4] = [0xff; 4];

/// Checks an IPC file: footer, blocks, messages and the lengths of compressed buffers.
///
/// # Errors
/// `Ok(Err(…))` says what contradicts itself.
pub(super) fn check_file<R: Read + Seek>(file: &mut R) -> std::io::Result<Result<(), String>> {
    let length = file.seek(SeekFrom::End(0))?;
    let Some(trailer) = length.checked_sub(10) else { return Ok(Err("it has no footer".into())) };
    let mut size = [0; 4];
    read_at(file, trailer, &mut size)?;
    let size = u64::from(u32::from_le_bytes(size));
    let Some(start) = trailer.checked_sub(size) else {
        return Ok(Err(format!("a footer of {size} bytes in a file of {length}")));
    };
    let mut footer = vec![0; size as usize];
    read_at(file, start, &mut footer)?;
    let footer = match root_as_footer(&footer) {
        Ok(footer) if footer.schema().is_some() => footer,
        Ok(_) => return Ok(Err("the footer has no schema".into())),
        Err(error) => return Ok(Err(format!("the footer cannot be read: {error}"))),
    };
    let blocks = footer.dictionaries().into_iter().chain(footer.recordBatches()).flatten();
    for block in blocks {
        if let Err(problem) = check_block(file, block, length)? {
            return Ok(Err(problem));
        }
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(Ok(()))
}

fn read_at<R: Read + Seek>(file: &mut R, at: u64, into: &mut [u8]) -> std::io::Result<()> {
    file.seek(SeekFrom::Start(at))?;
    file.read_exact(into)
}

fn check_block<R: Read + Seek>(file: &mut R, block: &Block, length: u64) -> std::io::Result<Result<(), String>> {
    let sizes =
        (u64::try_from(block.offset()), u64::try_from(block.metaDataLength()), u64::try_from(block.bodyLength()));
    let (Ok(offset), Ok(metadata), Ok(body)) = sizes else { return Ok(Err("a block of negative size".into())) };
    let body_start = offset.checked_add(metadata);
    let end = body_start.and_then(|start| start.checked_add(body));
    let (Some(body_start), true) = (body_start, end.is_some_and(|end| end <= length)) else {
        return Ok(Err(format!("a block at {offset} of {metadata} + {body} bytes in a file of {length}")));
    };
    if metadata < 8 {
        return Ok(Err("a block without metadata".into()));
    }
    let mut bytes = vec![0; metadata as usize];
    read_at(file, offset, &mut bytes)?;
    let message = if bytes[..4] == CONTINUATION { &bytes[8..] } else { &bytes[4..] };
    let message = match root_as_message(message) {
        Ok(message) => message,
        Err(error) => return Ok(Err(format!("a message cannot be read: {error}"))),
    };
    let Some(batch) = batch_of(&message) else { return Ok(Ok(())) };
    if let Err(problem) = check_batch(&batch, body) {
        return Ok(Err(problem));
    }
    if batch.compression().is_none() {
        return Ok(Ok(()));
    }
    for (at, buffer) in buffers(&batch) {
        let mut prefix = [0; 8];
        if buffer >= 8 {
            read_at(file, body_start + at, &mut prefix)?;
        }
        if let Err(problem) = check_gain(buffer, prefix) {
            return Ok(Err(problem));
        }
    }
    Ok(Ok(()))
}

/// The batch that a message holds, directly or as a dictionary.
fn batch_of<'a>(message: &Message<'a>) -> Option<RecordBatch<'a>> {
    match message.header_type() {
        MessageHeader::DictionaryBatch => message.header_as_dictionary_batch()?.data(),
        MessageHeader::RecordBatch => message.header_as_record_batch(),
        _ => None,
    }
}

/// Offset and length of each buffer, as far as they are not negative.
fn buffers(batch: &RecordBatch<'_>) -> impl Iterator<Item = (u64, u64)> {
    let buffers = batch.buffers().into_iter().flatten();
    buffers.filter_map(|buffer| Some((u64::try_from(buffer.offset()).ok()?, u64::try_from(buffer.length()).ok()?)))
}

fn check_batch(batch: &RecordBatch<'_>, body: u64) -> Result<(), String> {
    let stated = batch.buffers().map_or(0, |buffers| buffers.len());
    let inside = buffers(batch).filter(|(at, bytes)| at.checked_add(*bytes).is_some_and(|end| end <= body)).count();
    if inside != stated {
        return Err(format!("a buffer that does not lie in its body of {body} bytes"));
    }
    // Every row has a validity bit, an offset or a value; a column of nothing but nulls has none of these.
    let most = i64::from(i32::MAX);
    let rows = batch.nodes().into_iter().flatten().flat_map(|node| [node.length(), node.null_count()]);
    if rows.chain([batch.length()]).any(|rows| !(0..=most).contains(&rows)) {
        return Err("a column of a negative or impossible number of rows".into());
    }
    Ok(())
}

fn check_gain(packed: u64, prefix: [u8; 8]) -> Result<(), String> {
    let claimed = i64::from_le_bytes(prefix);
    let (gain, most) = MOST_GAIN;
    let bound = packed.saturating_mul(gain).min(most);
    // -1 says that the buffer is stored as it is.
    if claimed < -1 || claimed > bound as i64 || (1..8).contains(&packed) {
        return Err(format!("a compressed buffer of {packed} bytes that claims to hold {claimed}"));
    }
    Ok(())
}

/// A stream whose messages are looked at before they are passed on.
pub(super) struct Guarded<R> {
    inner: R,
    /// Checked bytes, handed out from `given` on.
    ready: Vec<u8>,
    given: usize,
    ended: bool,
}

impl<R: Read> Guarded<R> {
    pub(super) fn new(inner: R) -> Self {
        Self { inner, ready: Vec::new(), given: 0, ended: false }
    }

    /// Appends `bytes` to what is ready; memory grows with what is there, not with what is claimed.
    fn take(&mut self, bytes: u64) -> std::io::Result<bool> {
        let read = self.inner.by_ref().take(bytes).read_to_end(&mut self.ready)?;
        self.ended |= (read as u64) < bytes;
        Ok(!self.ended)
    }

    fn next_message(&mut self) -> std::io::Result<()> {
        (self.ready, self.given) = (Vec::new(), 0);
        if !self.take(4)? || (self.ready == CONTINUATION && !self.take(4)?) {
            return Ok(());
        }
        let mut size = [0; 4];
        size.copy_from_slice(&self.ready[self.ready.len() - 4..]);
        let (from, size) = (self.ready.len(), u64::from(u32::from_le_bytes(size)));
        if size > METADATA_BYTES {
            return Err(damaged(format!("metadata of {size} bytes")));
        }
        // No metadata: the end of the stream.
        if size == 0 {
            self.ended = true;
            return Ok(());
        }
        if !self.take(size)? {
            return Ok(());
        }
        let metadata = self.ready[from..].to_vec();
        let message =
            root_as_message(&metadata).map_err(|error| damaged(format!("a message cannot be read: {error}")))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| damaged("a body of negative size".into()))?;
        let batch = batch_of(&message);
        if let Some(batch) = &batch {
            check_batch(batch, body).map_err(damaged)?;
        }
        // The arrow crates set aside room for a body before they read it: it has to be there.
        let start = self.ready.len();
        if !self.take(body)? {
            return Err(damaged(format!("a body of {body} bytes is cut short")));
        }
        if let Some(batch) = batch.filter(|batch| batch.compression().is_some()) {
            for (at, packed) in buffers(&batch) {
                let mut prefix = [0; 8];
                if packed >= 8 {
                    let at = start + at as usize;
                    prefix.copy_from_slice(&self.ready[at..at + 8]);
                }
                check_gain(packed, prefix).map_err(damaged)?;
            }
        }
        Ok(())
    }
}

fn damaged(problem: String) -> IoError {
    IoError::new(ErrorKind::InvalidData, problem)
}

impl<R: Read> Read for Guarded<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.given == self.ready.len() && !self.ended {
            self.next_message()?;
        }
        let read = (&self.ready[self.given..]).read(buffer)?;
        self.given += read;
        Ok(read)
    }
}
