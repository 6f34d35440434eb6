//! Lets threads in only while what they hold together fits.

use std::sync::{Condvar, Mutex};

/// A number of bytes that threads take and give back.
#[derive(Debug)]
pub struct Gate {
    free: Mutex<u64>,
    total: u64,
    changed: Condvar,
}

/// Bytes taken from a gate; they go back when this goes.
#[derive(Debug)]
pub struct Pass<'a> {
    gate: &'a Gate,
    bytes: u64,
}

impl Gate {
    /// A gate that lets `total` bytes in.
    pub fn new(total: u64) -> Self {
        Self { free: Mutex::new(total), total, changed: Condvar::new() }
    }

    /// Waits until `bytes` are free. What asks for more than there is gets in alone.
    pub fn enter(&self, bytes: u64) -> Pass<'_> {
        let bytes = bytes.min(self.total);
        let mut free = self.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        while *free < bytes {
            free = self.changed.wait(free).unwrap_or_else(std::sync::PoisonError::into_inner);
        }
        *free -= bytes;
        Pass { gate: self, bytes }
    }
}

impl Drop for Pass<'_> {
    fn drop(&mut self) {
        let mut free = self.gate.free.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        *free += self.bytes;
        self.gate.changed.notify_all();
    }
}

/// Runs `job(0..count)` on `threads` threads; the first error stops the others and is returned.
pub fn for_each<E: Send>(threads: usize, count: usize, job: impl Fn(usize) -> Result<(), E> + Sync) -> Result<(), E> {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let failed = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(count) {
            scope.spawn(|| {
                loop {
                    let index = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    if index >= count {
                        break;
                    }
                    if let Err(error) = job(index) {
                        next.store(count, std::sync::atomic::Ordering::Relaxed);
                        let mut failed = failed.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                        failed.get_or_insert(error);
                    }
                }
            });
        }
    });
    failed.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner).map_or(Ok(()), Err)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn never_more_inside_than_fits() {
        let (gate, inside, most) = (Gate::new(10), AtomicU64::new(0), AtomicU64::new(0));
        let result: Result<(), String> = for_each(8, 200, |index| {
            let bytes = (index % 4 + 3) as u64;
            let _pass = gate.enter(bytes);
            most.fetch_max(inside.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
            inside.fetch_sub(bytes, Ordering::SeqCst);
            Ok(())
        });
        assert_eq!(result, Ok(()));
        assert!(most.load(Ordering::SeqCst) <= 10);
        let failing = for_each(4, 100, |index| if index == 5 { Err("five") } else { Ok(()) });
        assert_eq!(failing, Err("five"));
        drop(gate.enter(1 << 40));
    }
}
