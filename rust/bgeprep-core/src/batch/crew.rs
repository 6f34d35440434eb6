//! Threads that work ahead of the trainer, and their life: fork, panic, end.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use crate::{Error, Result};

/// What the threads of a crew share.
pub(crate) trait Work: Send + Sync + 'static {
    /// Works until it is told to stop; runs on every thread.
    fn work(&self);

    /// Makes [`work`](Self::work) return soon.
    fn stop(&self);
}

/// The threads of a loader, in the process that started them.
pub(crate) struct Crew<S> {
    process: u32,
    shared: Arc<S>,
    threads: Vec<JoinHandle<()>>,
}

impl<S: Work> Crew<S> {
    /// Starts the threads.
    pub(crate) fn start(shared: S, threads: usize) -> Result<Self> {
        let mut crew = Self { process: std::process::id(), shared: Arc::new(shared), threads: Vec::new() };
        for number in 0..threads {
            let shared = Arc::clone(&crew.shared);
            let thread = std::thread::Builder::new().name(format!("bgeprep-{number}"));
            match thread.spawn(move || shared.work()) {
                Ok(thread) => crew.threads.push(thread),
                Err(error) => {
                    crew.dismiss();
                    return Err(Error::io("thread", "start")(error));
                }
            }
        }
        Ok(crew)
    }

    /// Whether its threads run in this process: after a fork the child finds the parent's, which do not.
    pub(crate) fn is_here(&self) -> bool {
        self.process == std::process::id()
    }

    /// What its threads share.
    pub(crate) fn shared(&self) -> &Arc<S> {
        &self.shared
    }

    /// Stops and joins the threads.
    pub(crate) fn dismiss(self) {
        if !self.is_here() {
            // A fork copied the handles but not the threads, and perhaps a lock that a thread held:
            // nothing here may be waited for or freed.
            std::mem::forget(self);
            return;
        }
        self.shared.stop();
        for thread in self.threads {
            // A worker catches its panics and hands them on as errors, so joining cannot fail.
            let _ = thread.join();
        }
    }
}

/// The content of a mutex, whoever panicked while holding it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Turns a panic into an error, so that the consumer hears of it instead of waiting for ever.
pub(crate) fn caught<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        Err(Error::Internal(format!("a loader thread panicked: {text}")))
    })
}
