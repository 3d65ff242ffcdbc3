//! The body of an answer, with word of how it ended.

use std::sync::Arc;

use futures::stream;
use futures::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::connection::Held;
use super::error::Ending;
use super::traffic::Traffic;
use super::{ByteStream, TransportError};

/// Why a body is not there as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// *Retried.* It broke off.
    #[error(transparent)]
    Transport(#[from] TransportError),
    /// It is larger than this many bytes.
    #[error("larger than {0} bytes")]
    TooLarge(usize),
}

/// The whole body, if it has at most `most` bytes; what is more is not read.
///
/// # Errors
/// It breaks off, or is larger.
pub async fn collect(mut body: ByteStream, most: usize) -> Result<Vec<u8>, BodyError> {
    let mut bytes = Vec::new();
    while let Some(chunk) = body.try_next().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > most {
            return Err(BodyError::TooLarge(most));
        }
    }
    Ok(bytes)
}

struct Rest {
    body: Incoming,
    held: Held,
    server: Arc<str>,
    traffic: Arc<Traffic>,
}

/// The data of `body` as they come. Dropping the stream cancels the exchange.
pub(super) fn stream(body: Incoming, held: Held, server: Arc<str>, traffic: Arc<Traffic>) -> ByteStream {
    let rest = Rest { body, held, server, traffic };
    stream::unfold(Some(rest), async |rest| {
        let mut rest = rest?;
        loop {
            match rest.body.frame().await {
                Some(Ok(frame)) => {
                    rest.traffic.contact();
                    // Trailers say nothing that is used, nor does an empty frame at the end.
                    if let Ok(data) = frame.into_data()
                        && !data.is_empty()
                    {
                        return Some((Ok(data), Some(rest)));
                    }
                }
                Some(Err(error)) => {
                    let ending = rest.held.fate().explain(&error).await;
                    return Some((Err(TransportError::Closed { server: rest.server, ending }), None));
                }
                // The library takes a stream that was reset without an error for a complete one.
                None if rest.held.marks_ends() && !rest.body.is_end_stream() => {
                    let ending = Ending::Reset("before the end".into());
                    return Some((Err(TransportError::Closed { server: rest.server, ending }), None));
                }
                None => {
                    rest.held.release();
                    return None;
                }
            }
        }
    })
    .boxed()
}
