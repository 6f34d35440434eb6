//! The names of objects: `s3://bucket/key`.

use std::fmt;
use std::path::Path;

use crate::{Error, Result};

const SCHEME: &str = "s3://";

/// A bucket and a key in it; the key is empty for the bucket itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectUrl {
    /// The bucket's name.
    pub bucket: String,
    /// The key as it stands, without a leading or trailing `/` and without any encoding.
    pub key: String,
}

impl ObjectUrl {
    /// The URL that `text` is, or None for a path on this machine.
    ///
    /// # Errors
    /// `Error::Config` for a URL of another scheme, without a bucket, or with a key that no store
    /// keeps apart (`a//b`, `.`, `..`).
    pub fn parse(text: &str) -> Result<Option<Self>> {
        let Some((scheme, rest)) = text.split_once("://").filter(|(scheme, _)| is_scheme(scheme)) else {
            return Ok(None);
        };
        let refuse = |message: String| Err(Error::config(text, message));
        if !SCHEME.starts_with(&format!("{scheme}:")) {
            return refuse(format!(
                "expected a path or {SCHEME}BUCKET/KEY, found a URL of {scheme}; hint: copy the files to this machine"
            ));
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return refuse(format!("expected {SCHEME}BUCKET/KEY, found no bucket"));
        }
        let key = key.strip_suffix('/').unwrap_or(key);
        let odd = |part: &str| part.is_empty() || part == "." || part == "..";
        if !key.is_empty() && key.split('/').any(odd) {
            return refuse("expected a key of plain names between single slashes".to_owned());
        }
        Ok(Some(Self { bucket: bucket.to_owned(), key: key.to_owned() }))
    }

    /// As [`parse`](Self::parse), for what a caller keeps as a path.
    pub fn from_path(path: &Path) -> Result<Option<Self>> {
        path.to_str().map_or(Ok(None), Self::parse)
    }

    /// The key of `name` below this one.
    pub fn below(&self, name: &str) -> String {
        if self.key.is_empty() { name.to_owned() } else { format!("{}/{name}", self.key) }
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{SCHEME}{}", self.bucket)?;
        if self.key.is_empty() { Ok(()) } else { write!(to, "/{}", self.key) }
    }
}

fn is_scheme(text: &str) -> bool {
    text.len() > 1 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+.-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Option<(String, String)> {
        ObjectUrl::parse(text).expect("a sound name").map(|url| (url.bucket, url.key))
    }

    fn refused(text: &str) -> String {
        ObjectUrl::parse(text).expect_err("an odd name").to_string()
    }

    #[test]
    fn paths_are_no_urls() {
        for path in ["pairs", "/data/s3/pairs", "C:/x", "a:b", "./s3:/x", "://x", "x y://z"] {
            assert_eq!(parsed(path), None, "{path}");
        }
    }

    #[test]
    fn bucket_and_key() {
        let pair = |bucket: &str, key: &str| Some((bucket.to_owned(), key.to_owned()));
        assert_eq!(parsed("s3://b"), pair("b", ""));
        assert_eq!(parsed("s3://b/"), pair("b", ""));
        assert_eq!(parsed("s3://b/pairs/"), pair("b", "pairs"));
        assert_eq!(parsed("s3://b/a b/c%20d/中文?x#y"), pair("b", "a b/c%20d/中文?x#y"));
    }

    #[test]
    fn what_no_store_keeps_apart_is_refused() {
        for text in ["s3://b//x", "s3://b/a//x", "s3://b/../x", "s3://b/./x", "s3://b/x//"] {
            assert!(refused(text).contains("single slashes"), "{text}");
        }
        assert!(refused("s3:///x").contains("no bucket"));
        assert!(refused("gs://b/x").contains("URL of gs"));
        assert!(refused("s3a://b/x").contains("URL of s3a"));
    }

    #[test]
    fn shown_as_given_and_extended() {
        let url = ObjectUrl::parse("s3://b/a/").expect("sound").expect("a URL");
        assert_eq!((url.to_string().as_str(), url.below("c.json").as_str()), ("s3://b/a", "a/c.json"));
        let bucket = ObjectUrl::parse("s3://b").expect("sound").expect("a URL");
        assert_eq!((bucket.to_string().as_str(), bucket.below("c").as_str()), ("s3://b", "c"));
    }
}
