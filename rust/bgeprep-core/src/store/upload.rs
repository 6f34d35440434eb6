//! A file on its way into a store: in one request or in parts, and not there before its length and
//! checksum have been looked at.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use md5::{Digest as _, Md5};
use object_store::multipart::{MultipartStore, PartId};
use object_store::{ObjectStoreExt, PutPayload};

use super::connect::{Bucket, Entry};
use super::failure::Failure;
use super::ranges::Listed;
use crate::progress::Progress;
use crate::{Error, Result};

/// Bytes of a part, and of the largest file that is sent in one request.
const PART_BYTES: u64 = 8 << 20;

/// Parts that S3 allows.
const MOST_PARTS: u64 = 10_000;

/// Parts sent at once.
const AT_ONCE: usize = 2;

/// Whole transfers of a file that arrived in another form than it was sent.
const TRANSFERS: u32 = 3;

/// How long a run that stops waits for the store to drop the parts it has.
const GOODBYE: Duration = Duration::from_secs(5);

/// A file as a store that it reached whole will describe it.
#[derive(Debug, PartialEq, Eq)]
struct Expected {
    size: u64,
    part_bytes: u64,
    /// MD5 of the content; for several parts the MD5 of their MD5s and their number.
    etag: String,
}

impl Expected {
    fn of(path: &Path, progress: &Progress) -> Result<Self> {
        let mut file = File::open(path).map_err(Error::io(path, "open"))?;
        let size = file.metadata().map_err(Error::io(path, "read"))?.len();
        let part_bytes = part_bytes(size);
        let mut parts = Vec::new();
        loop {
            progress.check()?;
            let part = read_part(&mut file, path, part_bytes)?;
            if part.is_empty() && !parts.is_empty() {
                break;
            }
            let last = (part.len() as u64) < part_bytes;
            parts.push(Md5::digest(&part));
            if last {
                break;
            }
        }
        let etag = if size <= PART_BYTES {
            hex(&parts[0])
        } else {
            let mut whole = Md5::new();
            for part in &parts {
                whole.update(part);
            }
            format!("{}-{}", hex(&whole.finalize()), parts.len())
        };
        Ok(Self { size, part_bytes, etag })
    }

    fn is(&self, size: u64, etag: &str) -> bool {
        size == self.size && etag.trim_matches('"').eq_ignore_ascii_case(&self.etag)
    }
}

fn part_bytes(size: u64) -> u64 {
    size.div_ceil(MOST_PARTS).div_ceil(1 << 20).max(PART_BYTES >> 20) << 20
}

fn read_part(file: &mut File, path: &Path, bytes: u64) -> Result<Vec<u8>> {
    let mut part = Vec::new();
    file.by_ref().take(bytes).read_to_end(&mut part).map_err(Error::io(path, "read"))?;
    Ok(part)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing into a string does not fail.
        write!(text, "{byte:02x}").ok();
        text
    })
}

impl Bucket {
    /// Puts a file under a key and makes sure that it arrived as it is here. `there` is what a listing said of the
    /// key: what is there already is not sent again.
    ///
    /// # Errors
    /// `Error::Io` if the file cannot be read; `Error::Store` if the store refuses, cannot be reached, or keeps
    /// another content than it was sent.
    pub fn put(&self, file: &Path, key: &str, there: Option<&Entry>, progress: &Progress) -> Result<()> {
        let expected = Expected::of(file, progress)?;
        if there.is_some_and(|there| expected.is(there.size, &there.etag)) {
            return Ok(());
        }
        for _ in 0..TRANSFERS {
            let sent = if expected.size <= PART_BYTES {
                self.put_whole(file, key)
            } else {
                self.put_parts(file, key, &expected, progress)
            };
            // Where the answer to the last request was lost, the object may be there all the same.
            if self.arrived(file, key, &expected)? {
                return Ok(());
            }
            sent?;
        }
        let message = format!(
            "expected {} bytes as sent, found another content {TRANSFERS} times; hint: look for what stands between here and the store",
            expected.size
        );
        Err(Error::store(self.url(key).to_string(), message))
    }

    fn put_whole(&self, file: &Path, key: &str) -> Result<()> {
        let bytes = fs_err::read(file).map_err(Error::io(file, "read"))?;
        let (store, path, payload) = (Arc::clone(&self.store), self.path(key)?, PutPayload::from(bytes));
        self.ask(&self.url(key), move || {
            let (store, path, payload) = (Arc::clone(&store), path.clone(), payload.clone());
            Box::pin(async move { Ok(store.put(&path, payload).await.map(drop)?) })
        })
    }

    fn put_parts(&self, file: &Path, key: &str, expected: &Expected, progress: &Progress) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        let id = {
            let (store, path) = (Arc::clone(&store), path.clone());
            self.ask(&self.url(key), move || {
                let (store, path) = (Arc::clone(&store), path.clone());
                Box::pin(async move { Ok(store.create_multipart(&path).await?) })
            })?
        };
        let done = self.send_parts(file, key, expected, &id, progress).and_then(|parts| {
            let (store, path, id) = (Arc::clone(&store), path.clone(), id.clone());
            self.ask(&self.url(key), move || {
                let (store, path, id, parts) = (Arc::clone(&store), path.clone(), id.clone(), parts.clone());
                Box::pin(async move { Ok(store.complete_multipart(&path, &id, parts).await.map(drop)?) })
            })
        });
        if done.is_err() {
            // Parts of an upload that nobody completes are kept, and paid for, until somebody drops them. If this
            // fails as well, the error above is the one to tell.
            self.engine.submit(async move { store.abort_multipart(&path, &id).await.ok() }).wait_out(GOODBYE);
        }
        done
    }

    fn send_parts(
        &self,
        file: &Path,
        key: &str,
        expected: &Expected,
        id: &str,
        progress: &Progress,
    ) -> Result<Vec<PartId>> {
        let mut reader = File::open(file).map_err(Error::io(file, "open"))?;
        let (mut sent, mut waiting) = (Vec::new(), VecDeque::new());
        let count = expected.size.div_ceil(expected.part_bytes);
        for number in 0..count as usize {
            progress.check()?;
            let payload = PutPayload::from(read_part(&mut reader, file, expected.part_bytes)?);
            let (store, path, id) = (Arc::clone(&self.store), self.path(key)?, id.to_owned());
            waiting.push_back(self.engine.submit(self.patience.attempt(move || {
                let (store, path, id, payload) = (Arc::clone(&store), path.clone(), id.clone(), payload.clone());
                Box::pin(async move { Ok(store.put_part(&path, &id, number, payload).await?) })
            })));
            while waiting.len() >= AT_ONCE || (number + 1 == count as usize && !waiting.is_empty()) {
                let Some(ticket) = waiting.pop_front() else { break };
                sent.push(ticket.wait()?.map_err(|failure: Failure| failure.at(self.url(key)))?);
            }
        }
        Ok(sent)
    }

    /// Whether the object is the file. An etag made from the content says so; a store that makes its etags in
    /// another way (as with encryption by its own keys) is asked for the bytes.
    fn arrived(&self, file: &Path, key: &str, expected: &Expected) -> Result<bool> {
        let Some((size, etag)) = self.head(key)? else { return Ok(false) };
        if expected.is(size, &etag) {
            return Ok(true);
        }
        if size != expected.size {
            return Ok(false);
        }
        let mut local = File::open(file).map_err(Error::io(file, "open"))?;
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        let mut remote = self.stream(key, Listed { place: self.url(key).to_string(), size, etag })?;
        loop {
            let ours = read_part(&mut local, file, 1 << 20)?;
            let mut theirs = Vec::with_capacity(ours.len());
            remote
                .by_ref()
                .take(ours.len() as u64)
                .read_to_end(&mut theirs)
                .map_err(Error::io(self.url(key).to_string(), "read"))?;
            if ours != theirs {
                return Ok(false);
            }
            if ours.is_empty() {
                return Ok(true);
            }
        }
    }

    /// A small object whole, None if there is none of that key.
    ///
    /// # Errors
    /// `Error::Store` if the store does not give it.
    pub fn content(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let Some((size, etag)) = self.head(key)? else { return Ok(None) };
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        let mut bytes = Vec::new();
        let mut stream = self.stream(key, Listed { place: self.url(key).to_string(), size, etag })?;
        stream.read_to_end(&mut bytes).map_err(Error::io(self.url(key).to_string(), "read"))?;
        Ok(Some(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expected(bytes: &[u8]) -> Expected {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("file");
        fs_err::write(&path, bytes).expect("file");
        Expected::of(&path, &Progress::default()).expect("readable")
    }

    #[test]
    fn one_request_has_the_md5_of_the_content() {
        assert_eq!(expected(b"").etag, "d41d8cd98f00b204e9800998ecf8427e");
        assert_eq!(expected(b"abc").etag, "900150983cd24fb0d6963f7d28e17f72");
        assert!(expected(b"abc").is(3, "\"900150983CD24FB0D6963F7D28E17F72\""));
        assert!(!expected(b"abc").is(4, "\"900150983cd24fb0d6963f7d28e17f72\""));
        assert!(!expected(&vec![7; PART_BYTES as usize]).etag.contains('-'));
    }

    #[test]
    fn parts_have_the_md5_of_their_md5s() {
        let content = vec![7; PART_BYTES as usize * 2];
        let part = Md5::digest(&content[..PART_BYTES as usize]);
        let whole = hex(&Md5::digest([part, part].concat()));
        assert_eq!(expected(&content).etag, format!("{whole}-2"));
        assert!(expected(&[content.as_slice(), b"x"].concat()).etag.ends_with("-3"));
    }

    #[test]
    fn a_file_never_has_more_parts_than_are_allowed() {
        for size in [1, PART_BYTES, PART_BYTES * MOST_PARTS, PART_BYTES * MOST_PARTS + 1, 5 << 40] {
            let bytes = part_bytes(size);
            assert!(size.div_ceil(bytes) <= MOST_PARTS && bytes >= PART_BYTES && bytes.is_multiple_of(1 << 20));
        }
    }
}
