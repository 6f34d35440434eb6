//! The reader against a store in memory that drops, cuts and refuses on a schedule.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::engine::Engine;
use super::failure::{Failure, Kind};
use super::ranges::{AHEAD, BLOCK_BYTES, FIRST_BYTES, Listed, Piece, RangeReader, Ranges};
use super::retry::{Patience, Pending};
use crate::Error;
use crate::progress::Progress;

const PATIENCE: Patience = Patience { tries: 3, first: Duration::from_millis(1), most: Duration::from_millis(2) };

/// What the store does with one request.
#[derive(Clone, Copy, PartialEq)]
enum Fault {
    Drop,
    Cut(usize),
    Grown,
    OtherEtag,
    Denied,
    Never,
}

struct Fake {
    content: Vec<u8>,
    etag: Option<String>,
    /// Faults by the number of the request, counted from 0.
    faults: BTreeMap<usize, Fault>,
    asked: Mutex<Vec<Range<u64>>>,
    running: Arc<AtomicUsize>,
    most_running: Arc<AtomicUsize>,
}

impl Ranges for Fake {
    fn get(&self, range: Range<u64>) -> Pending<Piece> {
        let mut asked = self.asked.lock().expect("no panic");
        let fault = self.faults.get(&asked.len()).copied();
        asked.push(range.clone());
        let mut piece = Piece {
            bytes: self.content[range.start as usize..range.end as usize].to_vec(),
            size: self.content.len() as u64,
            etag: self.etag.clone(),
        };
        let (running, most) = (Arc::clone(&self.running), Arc::clone(&self.most_running));
        Box::pin(async move {
            most.fetch_max(running.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            tokio::time::sleep(Duration::from_millis(2)).await;
            running.fetch_sub(1, Ordering::SeqCst);
            match fault {
                None => {}
                Some(Fault::Drop) => return Err(Failure::new(Kind::Passing, "connection reset")),
                Some(Fault::Cut(bytes)) => piece.bytes.truncate(bytes),
                Some(Fault::Grown) => piece.size += 1,
                Some(Fault::OtherEtag) => piece.etag = Some("other".to_owned()),
                Some(Fault::Denied) => return Err(Failure::new(Kind::Denied, "AccessDenied")),
                Some(Fault::Never) => std::future::pending().await,
            }
            Ok(piece)
        })
    }
}

fn content(bytes: u64) -> Vec<u8> {
    (0..bytes).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect()
}

fn fake(size: u64, faults: impl IntoIterator<Item = (usize, Fault)>) -> Arc<Fake> {
    Arc::new(Fake {
        content: content(size),
        etag: Some("listed".to_owned()),
        faults: faults.into_iter().collect(),
        asked: Mutex::default(),
        running: Arc::default(),
        most_running: Arc::default(),
    })
}

fn reader(fake: &Arc<Fake>, progress: &Arc<Progress>) -> RangeReader {
    let engine = Arc::new(Engine::start(Arc::clone(progress)).expect("a thread"));
    let size = fake.content.len() as u64;
    let listed = Listed { place: "s3://b/k".to_owned(), size, etag: Some("listed".to_owned()) };
    RangeReader::new(Arc::clone(fake) as Arc<dyn Ranges>, engine, PATIENCE, listed)
}

fn read(fake: &Arc<Fake>) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    let mut reader = reader(fake, &Arc::default());
    match reader.read_to_end(&mut bytes) {
        Ok(_) => Ok(bytes),
        Err(error) => {
            let shown = |error| Error::io("elsewhere", "read")(error).to_string();
            let (first, again) = (shown(error), shown(reader.read(&mut [0; 8]).expect_err("no going on")));
            assert_eq!(first, again, "whoever reads on hears why");
            assert!(fake.content.starts_with(&bytes), "what came before an error is what is there");
            Err(first)
        }
    }
}

/// The size of an object of five ranges, the last of them small.
const FIVE: u64 = FIRST_BYTES + 3 * BLOCK_BYTES + 17;

#[test]
fn every_size_is_read_whole_and_in_order() {
    for size in [0, 1, FIRST_BYTES - 1, FIRST_BYTES, FIRST_BYTES + 1, FIRST_BYTES + BLOCK_BYTES, FIVE] {
        let store = fake(size, []);
        assert!(read(&store).expect("whole") == store.content, "{size}");
        let mut next = 0;
        for range in store.asked.lock().expect("no panic").iter() {
            assert_eq!(range.start, next, "no gap, no overlap");
            next = range.end;
        }
        assert_eq!(next, size);
    }
}

#[test]
fn ranges_are_asked_for_ahead_but_not_without_bound() {
    let store = fake(FIRST_BYTES + 9 * BLOCK_BYTES, []);
    assert_eq!(read(&store).expect("whole").len(), store.content.len());
    assert_eq!(store.most_running.load(Ordering::SeqCst), AHEAD + 1);
}

#[test]
fn what_is_read_from_the_start_alone_costs_one_small_request() {
    let store = fake(FIVE, []);
    let mut head = vec![0; FIRST_BYTES as usize];
    reader(&store, &Arc::default()).read_exact(&mut head).expect("the head");
    assert_eq!(*store.asked.lock().expect("no panic"), vec![0..FIRST_BYTES]);
}

#[test]
fn dropped_and_cut_answers_are_asked_for_again() {
    let faults = [(0, Fault::Cut(0)), (1, Fault::Drop), (3, Fault::Cut(1000)), (4, Fault::Drop), (6, Fault::Cut(16))];
    let store = fake(FIVE, faults);
    assert!(read(&store).expect("whole") == store.content);
    assert_eq!(store.asked.lock().expect("no panic").len(), 5 + faults.len());
}

#[test]
fn an_answer_that_stays_short_is_an_error_and_never_the_end() {
    let store = fake(100, (0..3).map(|request| (request, Fault::Cut(60))));
    let message = read(&store).expect_err("short");
    assert!(message.contains("no whole answer in 3 tries") && message.contains("expected 100 bytes"), "{message}");
}

#[test]
fn an_object_that_was_replaced_is_an_error_at_once() {
    for (fault, words) in [(Fault::Grown, "as listed, found 5242898"), (Fault::OtherEtag, "found other")] {
        let store = fake(2 * BLOCK_BYTES + FIRST_BYTES * 4 + 17, [(2, fault)]);
        let message = read(&store).expect_err("another object");
        assert!(message.contains("changed while it was read") && message.contains(words), "{message}");
    }
}

#[test]
fn a_refusal_is_not_tried_again() {
    let store = fake(100, [(0, Fault::Denied)]);
    assert!(read(&store).expect_err("denied").contains("access denied"));
    assert_eq!(store.asked.lock().expect("no panic").len(), 1);
}

#[test]
fn a_cancelled_run_waits_for_no_answer() {
    let progress = Arc::new(Progress::default());
    let mut reader = reader(&fake(100, [(0, Fault::Never)]), &progress);
    progress.cancel();
    let error = reader.read(&mut [0; 8]).map_err(Error::io("k", "read")).expect_err("cancelled");
    assert!(matches!(error, Error::Interrupted), "{error}");
}
