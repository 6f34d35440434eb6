//! An object on its way to this machine, a block at a time.

use std::io::Read as _;

use super::connect::Bucket;
use super::ranges::Listed;
use crate::progress::Progress;
use crate::{Error, Result};

/// Bytes handed on at once.
const COPY_BYTES: usize = 1 << 20;

impl Bucket {
    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Hands all bytes of an object on in their order; false if there is none of that key.
    ///
    /// # Errors
    /// `Error::Store` if the store does not give it, or it was replaced on the way; what `to` says.
    pub fn download(&self, key: &str, progress: &Progress, mut to: impl FnMut(&[u8]) -> Result<()>) -> Result<bool> {
        let Some((size, etag)) = self.head(key)? else { return Ok(false) };
        let place = self.url(key).to_string();
        let etag = Some(etag).filter(|etag| !etag.is_empty());
        let mut stream = self.stream(key, Listed { place: place.clone(), size, etag })?;
        let mut buffer = vec![0; COPY_BYTES];
        loop {
            progress.check()?;
            let read = stream.read(&mut buffer).map_err(Error::io(&place, "read"))?;
            if read == 0 {
                return Ok(true);
            }
            to(&buffer[..read])?;
        }
    }
}
