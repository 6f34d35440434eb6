//! Counters that a front end draws, and the flag that stops every long loop.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::{Error, Result};

/// Shared by all threads of a run; cheap to update, read by whoever draws the bar.
#[derive(Debug, Default)]
pub struct Progress {
    /// Input bytes consumed so far (compressed size for compressed files).
    pub bytes_done: AtomicU64,
    /// Input bytes in all, 0 if unknown.
    pub bytes_total: AtomicU64,
    /// Rows read so far.
    pub rows_read: AtomicU64,
    /// Rows written so far.
    pub rows_kept: AtomicU64,
    /// Rows dropped so far.
    pub rows_dropped: AtomicU64,
    /// Steps done and to do in a stage that does not count input bytes.
    pub parts_done: AtomicU64,
    /// See `parts_done`.
    pub parts_total: AtomicU64,
    stage: Mutex<&'static str>,
    cancelled: AtomicBool,
}

impl Progress {
    /// Names the stage now running.
    pub fn enter(&self, stage: &'static str) {
        if let Ok(mut current) = self.stage.lock() {
            *current = stage;
        }
    }

    /// The stage now running.
    pub fn stage(&self) -> &'static str {
        self.stage.lock().map_or("", |stage| *stage)
    }

    /// Asks every loop to stop at its next look.
    pub fn cancel(&self) {
        self.cancelled.store(true, Ordering::Relaxed);
    }

    /// `Err(Interrupted)` once `cancel` was called; every long loop calls this.
    pub fn check(&self) -> Result<()> {
        if self.cancelled.load(Ordering::Relaxed) { Err(Error::Interrupted) } else { Ok(()) }
    }
}
