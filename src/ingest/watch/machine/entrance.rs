//! What response headers amount to, and the bodies of refusals.

use std::time::{Duration, Instant};

use super::Head;
use crate::ingest::objects::wire::{ApiStatus, Encoding, decode_status};

/// Bytes of an error's body that are read.
const REFUSAL: usize = 64 << 10;

/// What response headers amount to.
#[derive(Debug)]
pub(super) enum Entrance {
    /// What was asked for.
    Open(Encoding),
    /// An error of the API server, whose body says more.
    Refused(Refusal),
    /// Something else answers in the API server's place: a portal, a load balancer (K-12). The body is not read.
    Foreign(Foreign),
}

/// An answer that is no API server's.
#[derive(Debug)]
pub(super) struct Foreign {
    pub(super) text: String,
    /// It has a status of success.
    pub(super) is_answer: bool,
    /// A gateway says that it has no server behind it: nothing is reached, as with a refused connection.
    pub(super) gateway: bool,
    pub(super) retry_after: Option<Duration>,
}

/// An error whose body is being read.
#[derive(Debug)]
pub(super) struct Refusal {
    head: Head,
    body: Vec<u8>,
    pub(super) deadline: Instant,
}

impl Entrance {
    /// `deadline`: until when an error may explain itself.
    pub(super) fn of(head: Head, deadline: Instant) -> Self {
        let kind = head.content_type.as_deref();
        let encoding = kind.and_then(Encoding::of_content_type);
        if (200..300).contains(&head.status) {
            return match encoding {
                Some(encoding) => Self::Open(encoding),
                None => Self::Foreign(Foreign {
                    text: format!("the answer is of type {}, not JSON or protobuf", shown(kind)),
                    is_answer: true,
                    gateway: false,
                    retry_after: None,
                }),
            };
        }
        let gateway = matches!(head.status, 502..=504) && encoding.is_none();
        // A kube-apiserver says `404 page not found` as plain text where it does not know a group.
        let plain = kind.is_none_or(|kind| kind.starts_with("text/plain"));
        // Whoever says 401 looked at the credentials, and may say it in a page (K-15).
        let refuses = head.status == 401;
        if gateway || (encoding.is_none() && !plain && !refuses) {
            let text = format!("HTTP {} with an answer of type {}", head.status, shown(kind));
            return Self::Foreign(Foreign { text, is_answer: false, gateway, retry_after: head.retry_after });
        }
        Self::Refused(Refusal { head, body: Vec::new(), deadline })
    }
}

impl Refusal {
    /// Takes in a part of the body; returns whether that is enough.
    pub(super) fn push(&mut self, bytes: &[u8]) -> bool {
        let room = REFUSAL.saturating_sub(self.body.len());
        self.body.extend_from_slice(&bytes[..bytes.len().min(room)]);
        self.body.len() >= REFUSAL
    }

    /// What the server said.
    pub(super) fn status(&self) -> ApiStatus {
        let head = &self.head;
        let mut status = decode_status(&self.body, head.content_type.as_deref(), head.status);
        // The status line decides: bodies pass through other hands.
        status.code = head.status;
        status.retry_after = head.retry_after.or(status.retry_after);
        status
    }
}

/// A content type, cut short.
fn shown(content_type: Option<&str>) -> String {
    let kind = content_type.unwrap_or("(none)");
    format!("`{}`", kind.chars().filter(|c| !c.is_control()).take(60).collect::<String>())
}
