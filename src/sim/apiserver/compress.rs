//! gzip for large answers.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, Response, header};
use http_body_util::BodyExt as _;

use super::body::{self, Body};

/// Smaller answers are sent as they are: what a real API server does.
const AT_LEAST: usize = 128 * 1024;

/// Whether the client takes gzip.
pub(super) fn is_accepted(headers: &HeaderMap) -> bool {
    let offers = headers.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = offers.flat_map(|value| value.split(',')).map(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, ""));
        (name.trim(), weight.trim())
    });
    let refused = |weight: &str| weight.strip_prefix("q=").and_then(|q| q.parse().ok()) == Some(0.0_f32);
    codings.any(|(name, weight)| matches!(name, "gzip" | "*") && !refused(weight))
}

/// Compresses `response` if it has at least 128 KiB, chunk by chunk as the client takes it. Not for watches:
/// their beginning would wait for those 128 KiB.
pub(super) async fn large(response: Response<Body>) -> Response<Body> {
    let (mut parts, mut rest) = response.into_parts();
    let mut first = Vec::new();
    let mut length = 0;
    while length < AT_LEAST {
        match rest.frame().await {
            Some(Ok(frame)) => {
                let Ok(data) = frame.into_data() else { continue };
                length += data.len();
                first.push(Ok(data));
            }
            // What was read goes out, and then the error.
            Some(Err(error)) => {
                first.push(Err(error));
                return Response::from_parts(parts, body::stream(futures::stream::iter(first)));
            }
            None => return Response::from_parts(parts, whole(first)),
        }
    }
    parts.headers.insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    parts.headers.append(header::VARY, HeaderValue::from_static("Accept-Encoding"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, compressed(first, rest))
}

/// A body whose length is known.
fn whole(chunks: Vec<io::Result<Bytes>>) -> Body {
    let mut chunks: Vec<Bytes> = chunks.into_iter().filter_map(Result::ok).collect();
    match chunks.len() {
        1 => body::full(chunks.swap_remove(0)),
        _ => body::full(chunks.concat()),
    }
}

fn compressed(first: Vec<io::Result<Bytes>>, rest: Body) -> Body {
    let source = (first.into_iter(), rest);
    let state = Some((source, GzEncoder::new(Vec::new(), Compression::fast())));
    body::stream(futures::stream::unfold(state, |state| async {
        let ((mut first, mut rest), mut encoder) = state?;
        loop {
            let chunk = match first.next() {
                Some(chunk) => Some(chunk),
                None => match rest.frame().await {
                    Some(Ok(frame)) => frame.into_data().ok().map(Ok),
                    Some(Err(error)) => Some(Err(error)),
                    None => None,
                },
            };
            let data = match chunk {
                None => return Some((encoder.finish().map(Bytes::from), None)),
                Some(Err(error)) => return Some((Err(error), None)),
                Some(Ok(data)) => data,
            };
            if let Err(error) = encoder.write_all(&data) {
                return Some((Err(error), None));
            }
            let out = std::mem::take(encoder.get_mut());
            if !out.is_empty() {
                return Some((Ok(out.into()), Some(((first, rest), encoder))));
            }
        }
    }))
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;

    async fn sent(chunks: Vec<Bytes>) -> (Option<HeaderValue>, Bytes) {
        let body = body::stream(futures::stream::iter(chunks.into_iter().map(Ok)));
        let response = large(Response::new(body)).await;
        let encoding = response.headers().get(header::CONTENT_ENCODING).cloned();
        (encoding, response.into_body().collect().await.unwrap().to_bytes())
    }

    fn text(bytes: usize) -> Vec<Bytes> {
        let all: Vec<u8> = (0..bytes).map(|at| b"kubernetes"[at % 10]).collect();
        all.chunks(1000).map(Bytes::copy_from_slice).collect()
    }

    #[tokio::test]
    async fn large_answers_are_compressed_and_small_ones_are_not() {
        let small = text(AT_LEAST - 1);
        assert_eq!(sent(small.clone()).await, (None, small.concat().into()));
        let large = text(AT_LEAST * 5);
        let (encoding, bytes) = sent(large.clone()).await;
        assert_eq!(encoding.unwrap(), "gzip");
        assert!(bytes.len() < AT_LEAST);
        let mut read = Vec::new();
        flate2::read::GzDecoder::new(&bytes[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, large.concat());
    }

    #[tokio::test]
    async fn an_error_in_the_middle_is_passed_on() {
        for before in [10, AT_LEAST * 2] {
            let broken = io::Error::from(io::ErrorKind::ConnectionReset);
            let chunks = [Ok(Bytes::from(vec![b'x'; before])), Err(broken)];
            let response = large(Response::new(body::stream(futures::stream::iter(chunks)))).await;
            assert!(response.into_body().collect().await.is_err());
        }
    }

    #[test]
    fn gzip_is_used_only_for_who_takes_it() {
        for (accepted, want) in
            [("gzip", true), ("br, gzip;q=0.5", true), ("*", true), ("gzip;q=0", false), ("br", false)]
        {
            let headers: HeaderMap =
                [(header::ACCEPT_ENCODING, HeaderValue::from_static(accepted))].into_iter().collect();
            assert_eq!(is_accepted(&headers), want, "{accepted}");
        }
        assert!(!is_accepted(&HeaderMap::new()));
    }
}
