//! Files as Arrow buffers, without a copy. The one place of the crate that needs `unsafe`.

use std::path::Path;
use std::ptr::NonNull;
use std::sync::Arc;

use arrow_buffer::Buffer;
use fs_err as fs;
use memmap2::Mmap;

use crate::{Error, Result};

/// Maps a file read-only; `expected` is its length according to the manifest.
///
/// Pages are read when they are touched. Parts are never changed in place (the writer renames
/// whole files), which is what makes a mapping sound: whoever truncates a part under a running
/// reader gets the bus error that every memory-mapped format gives.
pub(crate) fn map(path: &Path, expected: u64) -> Result<Buffer> {
    let file = fs::File::open(path).map_err(Error::io(path, "open"))?;
    let length = file.metadata().map_err(Error::io(path, "read"))?.len();
    if length != expected {
        return Err(Error::shard(path, wrong_length(length, expected)));
    }
    if length == 0 {
        // Aligned for whatever it is taken for, as a mapping is.
        return Ok(Buffer::default());
    }
    #[expect(unsafe_code, reason = "mapping a file is unsafe because another process could truncate it")]
    // SAFETY: the mapping is private to reading and parts are immutable once they have their name.
    let mapped = unsafe { Mmap::map(file.file()) }.map_err(Error::io(path, "map"))?;
    let Some(start) = NonNull::new(mapped.as_ptr().cast_mut()) else {
        return Err(Error::Internal(format!("{}: mapped at null", path.display())));
    };
    let bytes = mapped.len();
    #[expect(unsafe_code, reason = "Arrow takes foreign memory only by pointer and length")]
    // SAFETY: `start` and `bytes` are the mapping's own, and the buffer keeps the mapping alive.
    let buffer = unsafe { Buffer::from_custom_allocation(start, bytes, Arc::new(mapped)) };
    Ok(buffer)
}

/// What to say of a part whose length is not the manifest's.
pub(super) fn wrong_length(found: u64, expected: u64) -> String {
    let what = if found < expected { "truncated" } else { "too long" };
    format!("{what}: {found} bytes, the manifest says {expected}; restore the file or make the set again")
}
