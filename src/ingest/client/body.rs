//! The body of an answer, with word of how it ended.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::stream;
use http_body_util::BodyExt as _;
use hyper::body::{Body as _, Incoming};

use super::connection::Held;
use super::error::Ending;
use super::traffic::Traffic;
use super::{ByteStream, TransportError};

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
