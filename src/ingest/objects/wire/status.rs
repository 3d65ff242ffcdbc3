//! What an API server says when it does not do what was asked.

use std::time::Duration;

use super::{json, protobuf};
use crate::ingest::objects::raw::Status;

/// A Kubernetes `Status`, or what could be made of an answer that is none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ApiStatus {
    /// An HTTP status code; that of the answer when the `Status` has none.
    pub code: u16,
    /// `Expired`, `Timeout`, …; empty when the answer is no `Status`.
    pub reason: String,
    /// What happened, at most 200 characters, without control characters.
    pub message: String,
    /// How long the server wants to be left alone.
    pub retry_after: Option<Duration>,
    /// Reasons of the causes, such as `ResourceVersionTooLarge`.
    pub causes: Vec<String>,
}

/// Characters of a message that are kept.
const MESSAGE: usize = 200;
/// Causes that are kept.
const CAUSES: usize = 8;

pub(super) fn read(raw: &Status<'_>, http: u16) -> ApiStatus {
    let seconds = u64::try_from(raw.details.retry_after_seconds).unwrap_or_default();
    let causes = raw.details.causes.iter().map(|cause| short(&cause.reason));
    ApiStatus {
        code: u16::try_from(raw.code).ok().filter(|code| *code > 0).unwrap_or(http),
        reason: short(&raw.reason),
        message: short(&raw.message),
        retry_after: (seconds > 0).then(|| Duration::from_secs(seconds)),
        causes: causes.filter(|cause| !cause.is_empty()).take(CAUSES).collect(),
    }
}

/// Reads the body of an answer that is not what was asked for. Never fails: what is no `Status` becomes a
/// message about what it is.
pub fn decode_status(body: &[u8], content_type: Option<&str>, http: u16) -> ApiStatus {
    if let Some(status) = protobuf::status(body, http).or_else(|| json::http_status(body, http)) {
        return status;
    }
    let message = short(&format!(
        "an answer of type {} with {} bytes, which is no Status",
        content_type.unwrap_or("(none)"),
        body.len()
    ));
    ApiStatus { code: http, message, ..ApiStatus::default() }
}

pub(super) fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(MESSAGE).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_and_cut_short() {
        let body = format!(
            r#"{{"kind":"Status","apiVersion":"v1","status":"Failure","message":"a\u001b[1m{}","reason":"Timeout",
            "details":{{"retryAfterSeconds":1,"causes":[{{"reason":"ResourceVersionTooLarge"}}]}},"code":504}}"#,
            "x".repeat(1000)
        );
        let status = decode_status(body.as_bytes(), Some("application/json"), 200);
        assert_eq!((status.code, status.reason.as_str()), (504, "Timeout"));
        assert_eq!(status.message.len(), MESSAGE);
        assert!(status.message.starts_with("a[1mxxx"));
        assert_eq!(status.retry_after, Some(Duration::from_secs(1)));
        assert_eq!(status.causes, ["ResourceVersionTooLarge"]);
    }

    #[test]
    fn k12_a_page_is_no_status() {
        let status = decode_status(b"<html>log in</html>", Some("text/html"), 502);
        assert_eq!((status.code, status.reason.as_str()), (502, ""));
        assert_eq!(status.message, "an answer of type text/html with 19 bytes, which is no Status");
    }
}
