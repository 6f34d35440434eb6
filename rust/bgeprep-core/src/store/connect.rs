//! The buckets of a run: made from the environment, asked once, shared by all objects.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey as Key};
use object_store::list::{PaginatedListOptions, PaginatedListStore};
use object_store::path::Path as KeyPath;
use object_store::{ClientConfigKey, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig};

use super::engine::Engine;
use super::failure::{Failure, Kind};
use super::location::{Location, Object};
use super::ranges::{Listed, Piece, RangeReader, Ranges};
use super::retry::{Patience, Pending};
use super::url::ObjectUrl;
use crate::progress::Progress;
use crate::{Error, Result};

/// All stores of a run. Nothing is connected, and no thread started, before the first object is named.
pub struct Stores {
    progress: Arc<Progress>,
    scratch: PathBuf,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    engine: Option<Arc<Engine>>,
    buckets: BTreeMap<String, Arc<Bucket>>,
}

impl Stores {
    /// `scratch` is the folder for objects that are fetched whole; waiting ends when `progress` is cancelled.
    pub fn new(progress: Arc<Progress>, scratch: &Path) -> Self {
        Self { progress, scratch: scratch.to_owned(), open: Mutex::default() }
    }

    /// The place of an input: an object where `path` is a URL, with the size and etag that the listing gave.
    ///
    /// # Errors
    /// As [`bucket`](Self::bucket), and `Error::Config` for a URL of another kind.
    pub fn locate(&self, path: &Path, size: u64, etag: &str) -> Result<Location> {
        let Some(url) = ObjectUrl::from_path(path)? else { return Ok(Location::Local(path.to_owned())) };
        let etag = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        let bucket = self.bucket(&url.bucket)?;
        let listed = Listed { place: url.to_string(), size, etag };
        Ok(Location::Object(Object { bucket, url, listed, scratch: self.scratch.clone() }))
    }

    /// The bucket of that name, by the credentials and the endpoint that the AWS_ variables of the environment give.
    ///
    /// # Errors
    /// `Error::Config` for a variable that cannot work; `Error::Store` if there are no credentials.
    pub fn bucket(&self, name: &str) -> Result<Arc<Bucket>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(bucket) = open.buckets.get(name) {
            return Ok(Arc::clone(bucket));
        }
        let engine = match &open.engine {
            Some(engine) => Arc::clone(engine),
            None => Arc::new(Engine::start(Arc::clone(&self.progress))?),
        };
        open.engine = Some(Arc::clone(&engine));
        let bucket = Arc::new(Bucket::connect(name, engine)?);
        open.buckets.insert(name.to_owned(), Arc::clone(&bucket));
        Ok(bucket)
    }
}

impl fmt::Debug for Stores {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.debug_struct("Stores").field("scratch", &self.scratch).finish_non_exhaustive()
    }
}

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its whole key.
    pub key: String,
    /// Bytes.
    pub size: u64,
    /// What tells its content apart from what was or will be under this key; empty if the store gives none.
    pub etag: String,
    /// When it was written, in nanoseconds since 1970.
    pub modified: i64,
}

/// A bucket that can be asked.
pub struct Bucket {
    pub(super) name: String,
    pub(super) store: Arc<AmazonS3>,
    pub(super) engine: Arc<Engine>,
    pub(super) patience: Patience,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "Bucket({})", self.name)
    }
}

impl Bucket {
    fn connect(name: &str, engine: Arc<Engine>) -> Result<Self> {
        // reqwest, which speaks HTTP for object_store, leaves it to the program which cryptography rustls uses. It is
        // set once for the process; that another part of the process has set one is as good.
        rustls::crypto::ring::default_provider().install_default().ok();
        let patience = Patience::from_environment()?;
        let mut settings = AmazonS3Builder::from_env().with_bucket_name(name);
        let is_true =
            |value: Option<String>| value.is_some_and(|value| value.eq_ignore_ascii_case("true") || value == "1");
        let endpoint = [Key::S3Endpoint, Key::Endpoint].iter().find_map(|key| settings.get_config_value(key));
        let plain = Key::Client(ClientConfigKey::AllowHttp);
        if let Some(endpoint) = endpoint.filter(|endpoint| endpoint.starts_with("http://"))
            && !is_true(settings.get_config_value(&plain))
        {
            let message = format!("{endpoint} would send data and signatures unencrypted; hint: AWS_ALLOW_HTTP=true");
            return Err(Error::config("AWS_ENDPOINT_URL", message));
        }
        // A silent connection is given up after a minute; a whole request may take as long as a slow line needs.
        for (key, variable, limit) in [
            (ClientConfigKey::ReadTimeout, "AWS_READ_TIMEOUT", "60 seconds"),
            (ClientConfigKey::Timeout, "AWS_TIMEOUT", "300 seconds"),
        ] {
            if std::env::var_os(variable).is_none() {
                settings = settings.with_config(Key::Client(key), limit);
            }
        }
        let unsigned = is_true(settings.get_config_value(&Key::SkipSignature));
        // One by one: not every store that speaks S3 knows how to remove many at once.
        settings = settings.with_config(Key::DisableBulkDelete, "true");
        // Trying again is done here alone, for every kind of request in the same way.
        settings = settings.with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() });
        let store = Arc::new(settings.build().map_err(|error| Error::config("AWS_*", error.to_string()))?);
        let bucket = Self { name: name.to_owned(), store, engine, patience };
        if !unsigned {
            let asked = Arc::clone(&bucket.store);
            let answer = bucket.engine.submit(async move { asked.credentials().get_credential().await.map(drop) });
            answer.wait()?.map_err(|error| {
                let detail = Failure::from(error).detail;
                let hint = "hint: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (profiles of ~/.aws are not read; \
                            `aws configure export-credentials --format env` prints them), or \
                            AWS_SKIP_SIGNATURE=true for a public bucket";
                Error::store(format!("s3://{name}"), format!("no credentials in the environment ({detail}); {hint}"))
            })?;
        }
        Ok(bucket)
    }

    /// Makes a request, again if need be, and waits for its answer; `place` is what errors name.
    pub(super) fn ask<T: Send + 'static>(
        &self,
        place: &ObjectUrl,
        request: impl FnMut() -> Pending<T> + Send + 'static,
    ) -> Result<T> {
        let answer = self.engine.submit(self.patience.attempt(request)).wait()?;
        answer.map_err(|failure| failure.at(place))
    }

    /// All objects whose key starts with `prefix`, in the order of their keys. Markers of empty folders, which some
    /// programs leave behind, are no objects.
    ///
    /// # Errors
    /// `Error::Store` if the bucket cannot be listed.
    pub fn list(&self, prefix: &str) -> Result<Vec<Entry>> {
        let place = self.url(prefix.trim_end_matches('/'));
        let mut entries = Vec::new();
        let mut page = None;
        loop {
            let (store, prefix, token) = (Arc::clone(&self.store), prefix.to_owned(), page.take());
            let found = self.ask(&place, move || {
                let (store, prefix) = (Arc::clone(&store), prefix.clone());
                let options = PaginatedListOptions { page_token: token.clone(), ..Default::default() };
                Box::pin(async move {
                    let prefix = Some(prefix.as_str()).filter(|prefix| !prefix.is_empty());
                    Ok(store.list_paginated(prefix, options).await?)
                })
            })?;
            entries.extend(found.result.objects.into_iter().map(|object| Entry {
                key: object.location.to_string(),
                size: object.size,
                etag: object.e_tag.unwrap_or_default(),
                modified: object.last_modified.timestamp_nanos_opt().unwrap_or_default(),
            }));
            page = found.page_token;
            if page.is_none() {
                break;
            }
        }
        entries.sort_by(|a, b| a.key.cmp(&b.key));
        let is_marker = |at: usize| {
            let folder = format!("{}/", entries[at].key);
            let below = entries[at + 1..].partition_point(|entry| entry.key < folder) + at + 1;
            entries[at].size == 0 && entries.get(below).is_some_and(|entry| entry.key.starts_with(&folder))
        };
        let kept: Vec<bool> = (0..entries.len()).map(|at| !is_marker(at)).collect();
        let mut kept = kept.into_iter();
        entries.retain(|_| kept.next().unwrap_or(true));
        Ok(entries)
    }

    /// Size and etag of an object, None if there is none of that key.
    ///
    /// # Errors
    /// `Error::Store` if the store does not say.
    pub fn head(&self, key: &str) -> Result<Option<(u64, String)>> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        self.ask(&self.url(key), move || {
            let (store, path) = (Arc::clone(&store), path.clone());
            Box::pin(async move {
                match store.head(&path).await.map_err(Failure::from) {
                    Ok(found) => Ok(Some((found.size, found.e_tag.unwrap_or_default()))),
                    // An answer to HEAD has no body that would tell a missing bucket from a missing object.
                    Err(failure) if failure.kind == Kind::Missing => Ok(None),
                    Err(failure) => Err(failure),
                }
            })
        })
    }

    /// Removes an object; that it is not there is no error.
    ///
    /// # Errors
    /// `Error::Store` if the store refuses.
    pub fn remove(&self, key: &str) -> Result<()> {
        let (store, path) = (Arc::clone(&self.store), self.path(key)?);
        self.ask(&self.url(key), move || {
            let (store, path) = (Arc::clone(&store), path.clone());
            Box::pin(async move {
                match store.delete(&path).await.map_err(Failure::from) {
                    Err(failure) if failure.kind != Kind::Missing => Err(failure),
                    _ => Ok(()),
                }
            })
        })
    }

    /// Copies an object within the bucket.
    ///
    /// # Errors
    /// `Error::Store` if the store refuses.
    pub fn copy(&self, from: &str, to: &str) -> Result<()> {
        let (store, source, target) = (Arc::clone(&self.store), self.path(from)?, self.path(to)?);
        self.ask(&self.url(from), move || {
            let (store, source, target) = (Arc::clone(&store), source.clone(), target.clone());
            Box::pin(async move { Ok(store.copy(&source, &target).await?) })
        })
    }

    /// Some bytes of an object of which its size and etag are known.
    ///
    /// # Errors
    /// `Error::Store` if the store does not give them, or the object was replaced.
    pub fn range(&self, key: &str, (size, etag): (u64, &str), range: Range<u64>) -> Result<Vec<u8>> {
        if range.is_empty() {
            return Ok(Vec::new());
        }
        let etag = Some(etag.to_owned()).filter(|etag| !etag.is_empty());
        let object =
            Arc::new(RemoteRanges { store: Arc::clone(&self.store), path: self.path(key)?, etag: etag.clone() });
        let listed = Arc::new(Listed { place: self.url(key).to_string(), size, etag });
        self.ask(&self.url(key), move || {
            let (answer, listed, range) = (object.get(range.clone()), Arc::clone(&listed), range.clone());
            Box::pin(async move { listed.check(&range, answer.await?) })
        })
    }

    /// A stream of an object as it was listed.
    pub(super) fn stream(&self, key: &str, listed: Listed) -> Result<RangeReader> {
        let object = RemoteRanges { store: Arc::clone(&self.store), path: self.path(key)?, etag: listed.etag.clone() };
        Ok(RangeReader::new(Arc::new(object), Arc::clone(&self.engine), self.patience, listed))
    }

    pub(super) fn path(&self, key: &str) -> Result<KeyPath> {
        KeyPath::parse(key).map_err(|error| Error::store(self.url(key).to_string(), error.to_string()))
    }

    pub(super) fn url(&self, key: &str) -> ObjectUrl {
        ObjectUrl { bucket: self.name.clone(), key: key.to_owned() }
    }
}

struct RemoteRanges {
    store: Arc<AmazonS3>,
    path: KeyPath,
    etag: Option<String>,
}

impl Ranges for RemoteRanges {
    fn get(&self, range: Range<u64>) -> Pending<Piece> {
        let (store, path) = (Arc::clone(&self.store), self.path.clone());
        let range = Some(GetRange::Bounded(range));
        let options = GetOptions { if_match: self.etag.clone(), range, ..GetOptions::default() };
        Box::pin(async move {
            let answer = store.get_opts(&path, options).await?;
            let (size, etag) = (answer.meta.size, answer.meta.e_tag.clone());
            let bytes = answer.bytes().await?;
            Ok(Piece { bytes: bytes.into(), size, etag })
        })
    }
}
