//! Many texts at a time, on several threads.

use std::sync::Mutex;
use std::sync::PoisonError;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::TextEncoder;
use crate::progress::Progress;
use crate::{Error, Result};

/// Texts that a thread takes at a time.
const TEXTS_A_TASK: usize = 256;

/// Tokens of texts, one text after another.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// Tokens of all texts.
    pub ids: Vec<i32>,
    /// Text `i` owns `ids[offsets[i]..offsets[i + 1]]`.
    pub offsets: Vec<i64>,
}

/// Tokens with their flags.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedWords {
    /// Tokens.
    pub encoded: Encoded,
    /// One a token: [`super::WORD_START`], [`super::SPECIAL`].
    pub flags: Vec<u8>,
}

/// Tokens with their places.
#[derive(Debug, Clone, PartialEq)]
pub struct EncodedSpans {
    /// Tokens.
    pub encoded: Encoded,
    /// The characters of its text that each token stands for.
    pub spans: Vec<(u32, u32)>,
}

/// What one task made: ids, where each text ends in them, and what is kept beside each id.
struct Part<T> {
    ids: Vec<i32>,
    ends: Vec<usize>,
    beside: Vec<T>,
}

impl TextEncoder {
    /// The ids of each text with its special tokens, cut to `max_len`.
    pub fn encode_all<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_len: usize,
        threads: usize,
        progress: &Progress,
    ) -> Result<Encoded> {
        let encode = |text: &str, ids: &mut Vec<i32>, _: &mut Vec<()>| self.encode_into(text, max_len, ids).map(drop);
        Ok(over(texts, threads, progress, &encode)?.0)
    }

    /// The same with flags.
    pub fn encode_words_all<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        max_len: usize,
        threads: usize,
        progress: &Progress,
    ) -> Result<EncodedWords> {
        let encode = |text: &str, ids: &mut Vec<i32>, flags: &mut Vec<u8>| {
            self.encode_words_into(text, max_len, ids, flags).map(drop)
        };
        let (encoded, flags) = over(texts, threads, progress, &encode)?;
        Ok(EncodedWords { encoded, flags })
    }

    /// All ids of each text without special tokens, and their places, in characters.
    pub fn encode_offsets_all<T: AsRef<str> + Sync>(
        &self,
        texts: &[T],
        threads: usize,
        progress: &Progress,
    ) -> Result<EncodedSpans> {
        let encode = |text: &str, ids: &mut Vec<i32>, spans: &mut Vec<(u32, u32)>| {
            let first = spans.len();
            self.encode_offsets_into(text, ids, spans)?;
            if !text.is_ascii() {
                to_characters(text, &mut spans[first..]);
            }
            Ok(())
        };
        let (encoded, spans) = over(texts, threads, progress, &encode)?;
        Ok(EncodedSpans { encoded, spans })
    }
}

/// Places in bytes → places in characters.
fn to_characters(text: &str, spans: &mut [(u32, u32)]) {
    let mut number = 0;
    // One entry a byte: the character it belongs to.
    let mut of_byte: Vec<u32> = Vec::with_capacity(text.len() + 1);
    for c in text.chars() {
        of_byte.extend(std::iter::repeat_n(number, c.len_utf8()));
        number += 1;
    }
    of_byte.push(number);
    for (start, end) in spans {
        *start = of_byte[*start as usize];
        *end = of_byte[*end as usize];
    }
}

fn over<T: AsRef<str> + Sync, B: Send>(
    texts: &[T],
    threads: usize,
    progress: &Progress,
    encode: &(impl Fn(&str, &mut Vec<i32>, &mut Vec<B>) -> Result<()> + Sync),
) -> Result<(Encoded, Vec<B>)> {
    let task = |texts: &[T], part: &mut Part<B>| {
        progress.check()?;
        texts.iter().try_for_each(|text| {
            encode(text.as_ref(), &mut part.ids, &mut part.beside)?;
            part.ends.push(part.ids.len());
            Ok(())
        })
    };
    let empty = || Part { ids: Vec::new(), ends: Vec::new(), beside: Vec::new() };
    let tasks: Vec<&[T]> = texts.chunks(TEXTS_A_TASK).collect();
    if threads <= 1 || tasks.len() <= 1 {
        let mut part = empty();
        tasks.iter().try_for_each(|texts| task(texts, &mut part))?;
        return Ok(joined(vec![part]));
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(tasks.len()));
    let work = || -> Result<()> {
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            let Some(texts) = tasks.get(number) else { return Ok(()) };
            let mut part = empty();
            task(texts, &mut part)?;
            done.lock().unwrap_or_else(PoisonError::into_inner).push((number, part));
        }
    };
    let panicked = || Err(Error::Internal("a tokenising thread panicked".to_owned()));
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(tasks.len())).map(|_| scope.spawn(work)).collect();
        // All are waited for, and the first failure is told.
        let ended: Vec<Result<()>> =
            workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| panicked())).collect();
        ended.into_iter().collect::<Result<()>>()
    })?;
    let mut parts = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    parts.sort_unstable_by_key(|(number, _)| *number);
    Ok(joined(parts.into_iter().map(|(_, part)| part).collect()))
}

fn joined<B>(mut parts: Vec<Part<B>>) -> (Encoded, Vec<B>) {
    let mut offsets = vec![0];
    let mut first = 0;
    for part in &parts {
        offsets.extend(part.ends.iter().map(|end| (first + end) as i64));
        first += part.ids.len();
    }
    if parts.len() == 1
        && let Some(only) = parts.pop()
    {
        return (Encoded { ids: only.ids, offsets }, only.beside);
    }
    let (mut ids, mut beside) = (Vec::with_capacity(first), Vec::with_capacity(first));
    for part in parts {
        ids.extend_from_slice(&part.ids);
        beside.extend(part.beside);
    }
    (Encoded { ids, offsets }, beside)
}
