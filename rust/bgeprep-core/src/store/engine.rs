//! One thread that drives all requests of a run, so that no other part of the crate is
//! asynchronous.

use std::future::Future;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::AbortHandle;

use crate::progress::Progress;
use crate::{Error, Result};

/// How often one that waits for an answer looks whether the run was cancelled.
const TICK: Duration = Duration::from_millis(50);

/// The thread. Its connections live as long as it does: pooled connections belong to the runtime
/// that made them, so there is one for all buckets.
pub(super) struct Engine {
    handle: Handle,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    progress: Arc<Progress>,
}

impl Engine {
    pub(super) fn start(progress: Arc<Progress>) -> Result<Self> {
        let failed = |error: std::io::Error| Error::Internal(format!("cannot start the thread for requests: {error}"));
        let runtime = Builder::new_current_thread().enable_all().build().map_err(failed)?;
        let (stop, stopped) = oneshot::channel::<()>();
        let handle = runtime.handle().clone();
        let work = move || {
            // Either way, told to stop or left alone, there is nothing more to drive.
            runtime.block_on(stopped).ok();
            runtime.shutdown_background();
        };
        let thread = std::thread::Builder::new().name("bgeprep-store".to_owned()).spawn(work).map_err(failed)?;
        Ok(Self { handle, stop: Some(stop), thread: Some(thread), progress })
    }

    /// Starts some work; its answer is waited for elsewhere.
    pub(super) fn submit<T: Send + 'static>(&self, work: impl Future<Output = T> + Send + 'static) -> Ticket<T> {
        let (sender, answer) = sync_channel(1);
        let task = self.handle.spawn(async move {
            // Nobody waits any more: the answer has no taker.
            sender.send(work.await).ok();
        });
        Ticket { answer, task: task.abort_handle(), progress: Arc::clone(&self.progress) }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Some(stop) = self.stop.take() {
            stop.send(()).ok();
        }
        if let Some(thread) = self.thread.take() {
            thread.join().ok();
        }
    }
}

/// An answer to come. Dropping it gives the work up.
pub(super) struct Ticket<T> {
    answer: Receiver<T>,
    task: AbortHandle,
    progress: Arc<Progress>,
}

impl<T> Ticket<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// `Error::Interrupted` once the run is cancelled.
    pub(super) fn wait(self) -> Result<T> {
        loop {
            match self.answer.recv_timeout(TICK) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) => self.progress.check()?,
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Error::Internal("the thread for requests has stopped".to_owned()));
                }
            }
        }
    }

    /// Waits for a while even if the run is cancelled: for what is only tidying up.
    pub(super) fn wait_out(self, most: Duration) {
        self.answer.recv_timeout(most).ok();
    }
}

impl<T> Drop for Ticket<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}
