//! The one door into long work: the GIL is released, Ctrl-C works, progress is reported.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use bgeprep_core::progress::Progress;
use bgeprep_core::{Error, Result};
use pyo3::prelude::*;

use crate::error::to_py;

/// How often signals and progress are looked at.
const TICK: Duration = Duration::from_millis(50);

/// Runs `work` on a thread of its own while this one polls signals and calls
/// `report(stage, bytes_done, bytes_total, rows_read, rows_kept, rows_dropped, parts_done,
/// parts_total)`. An exception from either cancels the work and is raised once it has stopped.
pub(crate) fn enter<T: Send>(
    py: Python<'_>,
    progress: &Progress,
    report: Option<&Bound<'_, PyAny>>,
    work: impl FnOnce() -> Result<T> + Send,
) -> PyResult<T> {
    let (done, changed) = (Mutex::new(false), Condvar::new());
    std::thread::scope(|scope| {
        let worker = scope.spawn(|| {
            let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
            *done.lock().unwrap_or_else(PoisonError::into_inner) = true;
            changed.notify_all();
            result
        });
        let mut raised = None;
        loop {
            let finished = py.detach(|| {
                let done = done.lock().unwrap_or_else(PoisonError::into_inner);
                let (done, _) =
                    changed.wait_timeout_while(done, TICK, |done| !*done).unwrap_or_else(PoisonError::into_inner);
                *done
            });
            if finished {
                break;
            }
            if raised.is_none()
                && let Err(error) = py.check_signals().and_then(|()| tell(progress, report))
            {
                progress.cancel();
                raised = Some(error);
            }
        }
        let result = py.detach(|| worker.join());
        if let Some(error) = raised {
            return Err(error);
        }
        match result {
            Ok(Ok(result)) => result.map_err(to_py),
            _ => Err(to_py(Error::Internal("a worker thread panicked".to_owned()))),
        }
    })
}

fn tell(progress: &Progress, report: Option<&Bound<'_, PyAny>>) -> PyResult<()> {
    let Some(report) = report else { return Ok(()) };
    let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    report.call1((
        progress.stage(),
        count(&progress.bytes_done),
        count(&progress.bytes_total),
        count(&progress.rows_read),
        count(&progress.rows_kept),
        count(&progress.rows_dropped),
        count(&progress.parts_done),
        count(&progress.parts_total),
    ))?;
    Ok(())
}
