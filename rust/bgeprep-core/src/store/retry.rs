//! Trying again: how often, and how long to wait in between.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use super::failure::{Failure, Kind};
use crate::{Error, Result};

/// Tries of one request unless AWS_MAX_ATTEMPTS says otherwise: half a minute of waiting in all.
const TRIES: u32 = 8;

/// The answer to a request, to come.
pub(super) type Pending<T> = Pin<Box<dyn Future<Output = Result<T, Failure>> + Send>>;

/// How often a request is made and how long the waits are, doubling from `first` up to `most`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    pub(super) tries: u32,
    pub(super) first: Duration,
    pub(super) most: Duration,
}

impl Patience {
    /// The default, with the number of tries that AWS_MAX_ATTEMPTS names.
    pub(super) fn from_environment() -> Result<Self> {
        let tries = match std::env::var("AWS_MAX_ATTEMPTS") {
            Ok(text) => text.parse().ok().filter(|&tries| tries > 0).ok_or_else(|| {
                Error::config("AWS_MAX_ATTEMPTS", format!("expected a number of tries from 1 on, found {text}"))
            })?,
            Err(_) => TRIES,
        };
        Ok(Self { tries, first: Duration::from_millis(200), most: Duration::from_secs(10) })
    }

    /// The answer of the first attempt that does not fail in passing.
    pub(super) async fn attempt<T>(self, mut request: impl FnMut() -> Pending<T>) -> Result<T, Failure> {
        let mut wait = self.first;
        let mut tried = 1;
        loop {
            match request().await {
                Err(failure) if failure.kind == Kind::Passing && tried < self.tries => {
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(self.most);
                    tried += 1;
                }
                Err(failure) if failure.kind == Kind::Passing => {
                    let detail = format!("no whole answer in {tried} tries, the last: {}", failure.detail);
                    return Err(Failure::new(Kind::Passing, detail));
                }
                answer => return answer,
            }
        }
    }
}
