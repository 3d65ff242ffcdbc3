//! What can go wrong between a request and the last byte of its answer.

use std::sync::Arc;
use std::time::Duration;

use super::ForbiddenAddress;

/// *Retried* by the caller, with its pauses. Every text names the server as `host:port` and the phase; none
/// has a path, a header or a credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// The request cannot be written down: a path that is not one.
    #[error("{server}: cannot make the request: {cause}")]
    Request {
        /// Which API server.
        server: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
    /// The credentials cannot be had: a file that was never readable, a plugin that fails.
    #[error("{server}: no credentials: {cause}")]
    Credentials {
        /// Which API server.
        server: Arc<str>,
        /// Why; never what they are.
        cause: Arc<str>,
    },
    /// The name has no address.
    #[error("{server}: cannot resolve its name: {cause}")]
    Resolve {
        /// Which API server.
        server: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
    /// The address is one that a remote cluster may not have (Z-04).
    #[error("{server}: {error}")]
    ForbiddenAddress {
        /// Which API server.
        server: Arc<str>,
        /// Which address, and what it is.
        error: ForbiddenAddress,
    },
    /// No TCP connection.
    #[error("{server}: cannot connect: {cause}")]
    Connect {
        /// Which API server.
        server: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
    /// No TLS session: the certificate is not accepted, or what answers does not speak TLS.
    #[error("{server}: TLS handshake failed: {cause}")]
    Tls {
        /// Which API server.
        server: Arc<str>,
        /// Why.
        cause: Arc<str>,
    },
    /// A phase of connecting did not end in time.
    #[error("{server}: {phase} took longer than {}", humantime::format_duration(*limit))]
    Deadline {
        /// Which API server.
        server: Arc<str>,
        /// What took too long.
        phase: &'static str,
        /// How long it may take.
        limit: Duration,
    },
    /// The connection or the stream ended before the answer did.
    #[error("{server}: {ending} before the answer was complete")]
    Closed {
        /// Which API server.
        server: Arc<str>,
        /// How.
        ending: Ending,
    },
}

/// How a connection, or one stream of it, ended too early.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The server closed the connection, or it broke.
    #[error("the connection was closed ({0})")]
    Connection(Arc<str>),
    /// RST_STREAM: the server gave up this stream only.
    #[error("the server reset the stream ({0})")]
    Reset(Arc<str>),
    /// GOAWAY: the server takes leave of the connection and did not answer this request.
    #[error("the server said GOAWAY ({0})")]
    GoAway(Arc<str>),
    /// No answer to a PING: the peer is gone, or the way to it (K-05).
    #[error("the server did not answer a PING in time")]
    Ping,
    /// What came is not HTTP.
    #[error("the server broke the protocol ({0})")]
    Protocol(Arc<str>),
}

/// An error and its causes in one short line: the innermost one says what really happened.
pub(super) fn cause(error: &(dyn std::error::Error + 'static)) -> Arc<str> {
    let mut text = error.to_string();
    for inner in causes(error).skip(1) {
        let inner = inner.to_string();
        if !text.contains(&inner) {
            text.push_str(": ");
            text.push_str(&inner);
        }
    }
    text.chars().filter(|c| !c.is_control()).take(300).collect::<String>().into()
}

/// An error, its cause, that one's cause and so on.
pub(super) fn causes<'a>(
    error: &'a (dyn std::error::Error + 'static),
) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

impl Ending {
    /// What an error of the HTTP library means when the connection itself has left no word.
    pub(super) fn of(error: &(dyn std::error::Error + 'static)) -> Self {
        let h2 = causes(error).find_map(|error| error.downcast_ref::<h2::Error>());
        let timed_out = causes(error)
            .filter_map(|error| error.downcast_ref::<hyper::Error>())
            .any(hyper::Error::is_timeout);
        let reason = |error: &h2::Error| {
            let reason = error.reason().map(|reason| reason.to_string());
            reason.unwrap_or_default().into()
        };
        match h2 {
            _ if timed_out => Self::Ping,
            Some(error) if error.is_library() => Self::Protocol(reason(error)),
            Some(error) if error.is_go_away() => Self::GoAway(reason(error)),
            Some(error) if error.is_reset() => Self::Reset(reason(error)),
            _ => Self::Connection(cause(error)),
        }
    }
}
