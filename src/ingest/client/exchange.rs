//! One request to an API server and its answer.

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;

use super::{TokenUser, TransportError};
use crate::model::CredentialFacts;

/// Body bytes as they come. Ends after the last chunk; an error ends it.
pub type ByteStream = BoxStream<'static, Result<Bytes, TransportError>>;

/// What a request said who we are with: a number for it, nothing of it. Credentials that are obtained anew and
/// connections that are made anew for that have others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Presented {
    /// Of the header.
    pub(super) header: u64,
    /// Of the connection, whose certificate may say it.
    pub(super) connection: u64,
}

/// An answer whose headers are there.
pub struct Answer {
    /// What the server says. Redirects and errors are not interpreted.
    pub status: http::StatusCode,
    /// The headers.
    pub headers: http::HeaderMap,
    /// The body. Dropping it cancels the exchange.
    pub body: ByteStream,
    /// What the request came with.
    pub presented: Presented,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer").field("status", &self.status).finish_non_exhaustive()
    }
}

/// One exchange with an API server: request out, headers in, body as a stream. No retries, no redirects, no
/// deadlines of the caller's kind (connecting and TLS have their own). Implemented by
/// [`ApiServer`](super::ApiServer) and, in tests, by scripts.
pub trait Exchange: Send + Sync + 'static {
    /// `path_and_query` such as `/api/v1/pods?limit=500`; `accept` = value of the Accept header.
    fn get(
        &self,
        path_and_query: String,
        accept: &'static str,
    ) -> BoxFuture<'static, Result<Answer, TransportError>>;

    /// Creates something: `body` is JSON, and so is the answer. Only for exports (R4.40): everything else is read.
    fn post(&self, path: String, body: Bytes) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let (server, _) = (self.server().into(), body);
        let cause = format!("nothing is written here: {path}").into();
        Box::pin(std::future::ready(Err(TransportError::Request { server, cause })))
    }

    /// The server as `host:port`, for messages.
    fn server(&self) -> &str {
        ""
    }

    /// What is known of the credentials in use (K-18).
    fn credential_facts(&self) -> CredentialFacts {
        CredentialFacts::default()
    }

    /// What a request came with was refused: it is obtained anew before the next attempt (K-15, K-16), once
    /// however many requests came with it.
    fn unauthorized(&self, refused: Presented) {
        let _ = refused;
    }

    /// What a request came with is known and may not do that (403). Perhaps somebody else may by now: what it came
    /// with is looked at once more, while it stays in use (K-15).
    fn forbidden(&self, refused: Presented) {
        let _ = refused;
    }

    /// Who asks, if another token of the same user may take over.
    fn token_user(&self) -> Option<TokenUser> {
        None
    }

    /// New requests come with this token of the same user; what runs goes on until the server ends it (K-30).
    fn take_token(&self, next: TokenUser) {
        drop(next);
    }

    /// Told when what answers is no API server, or nothing answers, or much too slowly: new requests take a new
    /// connection. Exchanges that are under way stay (K-06, K-12).
    fn suspect_connection(&self) {}
}
