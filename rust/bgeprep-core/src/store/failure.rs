//! What went wrong in a request, sorted by what can be done about it.

use std::fmt::Display;

use object_store::Error as StoreError;

use crate::Error;

/// What can be done about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Try again: the connection dropped, the server was busy, the answer was cut.
    Passing,
    /// There is no such object or bucket.
    Missing,
    /// The credentials do not allow it.
    Denied,
    /// The object is another one than the listing named.
    Changed,
    /// Something that trying again would not change.
    Lasting,
}

/// A failed request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    pub(super) kind: Kind,
    pub(super) detail: String,
}

impl Failure {
    pub(super) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into() }
    }

    /// What the user is told; `place` is the object or bucket.
    pub(super) fn at(self, place: impl Display) -> Error {
        let Self { kind, detail } = self;
        let no_bucket = detail.contains("NoSuchBucket");
        let message = match kind {
            Kind::Passing => {
                format!("{detail}; hint: check the network and AWS_ENDPOINT_URL, then give the same command again")
            }
            Kind::Missing if no_bucket => {
                "no such bucket; hint: check its name, AWS_REGION and AWS_ENDPOINT_URL".into()
            }
            Kind::Missing => "no such object; hint: check the key".into(),
            Kind::Denied => format!(
                "access denied ({detail}); hint: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_SESSION_TOKEN, and what they may do in this bucket"
            ),
            Kind::Changed => format!("the object changed while it was read ({detail}); hint: give the command again"),
            Kind::Lasting => detail,
        };
        Error::store(place.to_string(), message)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        let text = error.to_string();
        let kind = match &error {
            StoreError::NotFound { .. } => Kind::Missing,
            StoreError::PermissionDenied { .. } | StoreError::Unauthenticated { .. } => Kind::Denied,
            StoreError::Precondition { .. } => Kind::Changed,
            StoreError::Generic { .. } if text.contains("redirect") => {
                return Self::new(Kind::Lasting, "the bucket is in another region; hint: set AWS_REGION");
            }
            StoreError::Generic { .. } => kind_of_answer(&text),
            _ => Kind::Lasting,
        };
        Self::new(kind, detail(&error, &text))
    }
}

/// The library keeps the status of some answers to itself, so its words have to do: were they to change, such an answer
/// would be asked for a few times more before it is reported.
fn kind_of_answer(text: &str) -> Kind {
    let status = text.split_once("status code: ").and_then(|(_, rest)| rest.get(..3)).unwrap_or_default();
    match (element(text, "Code").unwrap_or_default(), status) {
        ("ExpiredToken" | "InvalidToken" | "InvalidAccessKeyId" | "SignatureDoesNotMatch", _) | (_, "401" | "403") => {
            Kind::Denied
        }
        (_, "404") => Kind::Missing,
        (_, "408" | "429") => Kind::Passing,
        (_, status) if status.starts_with('4') => Kind::Lasting,
        _ => Kind::Passing,
    }
}

/// One line of what matters: the server's own code and words, else the status, else the innermost cause.
fn detail(error: &StoreError, text: &str) -> String {
    if let Some(code) = element(text, "Code") {
        let words = element(text, "Message").map(|words| format!(": {words}")).unwrap_or_default();
        return format!("{code}{words}");
    }
    if let Some((_, answer)) = text.split_once("status code: ") {
        let line = answer.lines().next().unwrap_or_default().trim().trim_end_matches(':');
        return format!("the server answered {}", line.chars().take(200).collect::<String>());
    }
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string().split_whitespace().collect::<Vec<_>>().join(" ").chars().take(300).collect()
}

fn element<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>")).map(|(content, _)| content)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn generic(text: &str) -> Failure {
        Failure::from(StoreError::Generic { store: "S3", source: text.into() })
    }

    #[test]
    fn what_passes_is_told_from_what_lasts() {
        let status = |status: &str| generic(&format!("Server returned non-2xx status code: {status}: ")).kind;
        assert_eq!(status("503 Service Unavailable"), Kind::Passing);
        assert_eq!(status("500 Internal Server Error"), Kind::Passing);
        assert_eq!(status("429 Too Many Requests"), Kind::Passing);
        assert_eq!(status("400 Bad Request"), Kind::Lasting);
        assert_eq!(status("403 Forbidden"), Kind::Denied);
        assert_eq!(status("404 Not Found"), Kind::Missing);
        assert_eq!(status("400 Bad Request: <Code>ExpiredToken</Code>"), Kind::Denied);
        assert_eq!(generic("connection reset by peer").kind, Kind::Passing);
        assert_eq!(generic("Received redirect without LOCATION").kind, Kind::Lasting);
    }

    #[test]
    fn the_servers_own_words_are_kept() {
        let body = "status code: 503: <?xml?><Error><Code>SlowDown</Code><Message>Reduce your rate</Message></Error>";
        assert_eq!(generic(body).detail, "SlowDown: Reduce your rate");
        assert_eq!(generic("x status code: 502 Bad Gateway: \nmore").detail, "the server answered 502 Bad Gateway");
    }

    #[test]
    fn every_message_names_the_place_and_what_to_do() {
        for kind in [Kind::Passing, Kind::Missing, Kind::Denied, Kind::Changed] {
            let message = Failure::new(kind, "why").at("s3://b/k").to_string();
            assert!(message.starts_with("s3://b/k: ") && message.contains("hint: "), "{message}");
        }
        assert!(Failure::new(Kind::Missing, "NoSuchBucket: x").at("s3://b").to_string().contains("no such bucket"));
    }
}
