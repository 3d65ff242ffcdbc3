//! Response bodies: whole values, and streams of shared bytes.

use std::io;

use bytes::{Bytes, BytesMut};
use futures::{Stream, TryStreamExt as _};
use http::{HeaderMap, Response, StatusCode, header};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use serde_json::Value;

use super::error::ApiError;
use super::media::Media;

pub(super) type Body = UnsyncBoxBody<Bytes, io::Error>;

/// Small pieces are joined up to this many bytes before they are written.
const CHUNK: usize = 64 * 1024;

pub(super) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never| match never {}).boxed_unsync()
}

pub(super) fn stream(chunks: impl Stream<Item = io::Result<Bytes>> + Send + 'static) -> Body {
    http_body_util::BodyExt::boxed_unsync(StreamBody::new(chunks.map_ok(Frame::data)))
}

/// Joins neighbouring pieces into chunks of about [`CHUNK`] bytes.
pub(super) fn join(pieces: impl Iterator<Item = Bytes>) -> impl Iterator<Item = Bytes> {
    let mut pieces = pieces.peekable();
    std::iter::from_fn(move || {
        let first = pieces.next()?;
        if pieces.peek().is_none_or(|next| first.len() + next.len() > CHUNK) {
            return Some(first);
        }
        let mut chunk = BytesMut::with_capacity(CHUNK);
        chunk.extend_from_slice(&first);
        while let Some(piece) = pieces.next_if(|next| chunk.len() + next.len() <= CHUNK) {
            chunk.extend_from_slice(&piece);
        }
        Some(chunk.freeze())
    })
}

pub(super) fn json_response(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, http::HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, http::HeaderValue::from_static("no-cache, private"));
    response
}

pub(super) fn value(status: StatusCode, value: &Value) -> Response<Body> {
    json_response(status, full(value.to_string()))
}

/// A whole document that is not JSON.
pub(super) fn bytes(media: &'static str, document: Vec<u8>) -> Response<Body> {
    let mut response = json_response(StatusCode::OK, full(document));
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    response
}

/// A whole document of another JSON media type.
pub(super) fn typed(media: &'static str, document: &Value) -> Response<Body> {
    let mut response = value(StatusCode::OK, document);
    response.headers_mut().insert(header::CONTENT_TYPE, http::HeaderValue::from_static(media));
    response
}

/// A refusal, in a form the client accepts where it said so.
pub(super) fn error(error: &ApiError, headers: &HeaderMap) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = Media::of_refusals(headers, error).document(code, &error.status());
    if code == StatusCode::UNAUTHORIZED {
        let challenge = http::HeaderValue::from_static("Bearer realm=\"kubernetes\"");
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn joined_chunks_keep_order_and_bound() {
        let pieces: Vec<Bytes> = (0..5000_u32).map(|i| Bytes::from(format!("{i:0>100}"))).collect();
        let chunks: Vec<Bytes> = join(pieces.clone().into_iter()).collect();
        assert_eq!(chunks.concat(), pieces.concat());
        assert!(chunks.len() < 12 && chunks.iter().all(|chunk| chunk.len() <= CHUNK));
    }

    #[test]
    fn a_large_piece_is_shared_not_copied() {
        let large = Bytes::from(vec![b'x'; CHUNK + 1]);
        let chunks: Vec<Bytes> = join(vec![large.clone(), Bytes::from_static(b"y")].into_iter()).collect();
        assert_eq!(chunks[0].as_ptr(), large.as_ptr());
    }
}
