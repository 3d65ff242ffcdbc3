//! Bodies that break, stall, drip or lie.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt as _};
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::BodyExt as _;

use super::{Effect, Struck};
use crate::sim::apiserver::body::{self, Body};

type Chunks = BoxStream<'static, io::Result<Bytes>>;

/// How long an event waits for the one it changes places with.
const HOLD: Duration = Duration::from_millis(200);
/// How long what is left of a broken body has to go out.
const FLUSH: Duration = Duration::from_millis(50);
/// What a line without end is made of.
const ENDLESS: &[u8] = &[b'x'; 16 << 10];

/// Does to a response what struck its request.
pub(in crate::sim::apiserver) fn strike(response: Response<Body>, struck: &Struck) -> Response<Body> {
    let touches = |effect: &&Effect| {
        use Effect::{Corrupt, Cut, Duplicate, EndlessLine, Reorder, Slow, StallBody};
        matches!(effect, StallBody(_) | Cut(_) | Corrupt(_) | Duplicate | Reorder | Slow(_) | EndlessLine)
    };
    let effects: Vec<&Effect> = struck.0.iter().filter(touches).collect();
    if effects.is_empty() {
        return response;
    }
    let (mut parts, body) = response.into_parts();
    let media = parts.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
    let framing = if media.is_some_and(|media| media.contains("protobuf")) {
        Framing::Prefixed
    } else {
        Framing::Lines
    };
    let mut chunks: Chunks = body.into_data_stream().boxed();
    for effect in effects {
        chunks = struck_by(chunks, effect, framing);
    }
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, body::stream(chunks))
}

/// The answer that comes instead of the server's own, if one does.
pub(in crate::sim::apiserver) fn instead(struck: &Struck) -> Option<Response<Body>> {
    let answer = struck.find(|effect| match effect {
        Effect::Status(answer) => Some(answer),
        _ => None,
    })?;
    let mut response = Response::new(body::full(answer.body.clone()));
    *response.status_mut() = StatusCode::from_u16(answer.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let media = answer.media.as_deref().unwrap_or("text/plain; charset=utf-8");
    if let Ok(media) = HeaderValue::from_str(media) {
        response.headers_mut().insert(header::CONTENT_TYPE, media);
    }
    if let Some(seconds) = answer.retry_after {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    Some(response)
}

fn struck_by(chunks: Chunks, effect: &Effect, framing: Framing) -> Chunks {
    match effect {
        Effect::StallBody(bytes) => limited(chunks, *bytes).chain(stream::pending()).boxed(),
        Effect::Cut(bytes) => {
            let broken = stream::once(async {
                // What was written before goes out first.
                tokio::time::sleep(FLUSH).await;
                Err(io::Error::from(io::ErrorKind::ConnectionReset))
            });
            limited(chunks, *bytes).chain(broken).boxed()
        }
        Effect::Corrupt(byte) => corrupt(chunks, *byte),
        Effect::Slow(rate) => slow(chunks, *rate),
        Effect::EndlessLine => stream::repeat_with(|| Ok(Bytes::from_static(ENDLESS))).boxed(),
        Effect::Duplicate => frames(chunks, framing)
            .flat_map(|frame| match frame {
                Ok(frame) => stream::iter(vec![Ok(frame.clone()), Ok(frame)]),
                Err(error) => stream::iter(vec![Err(error)]),
            })
            .boxed(),
        Effect::Reorder => reorder(frames(chunks, framing)),
        _ => chunks,
    }
}

/// The first so many bytes.
fn limited(chunks: Chunks, bytes: usize) -> Chunks {
    stream::unfold((chunks, bytes), |(mut chunks, left)| async move {
        if left == 0 {
            return None;
        }
        match chunks.next().await? {
            Ok(mut chunk) => {
                chunk.truncate(left);
                let left = left - chunk.len();
                Some((Ok(chunk), (chunks, left)))
            }
            Err(error) => Some((Err(error), (chunks, 0))),
        }
    })
    .boxed()
}

fn corrupt(chunks: Chunks, byte: usize) -> Chunks {
    let mut before = 0;
    chunks
        .map(move |chunk| {
            let chunk = chunk?;
            let place = byte.checked_sub(before).filter(|place| *place < chunk.len());
            before += chunk.len();
            Ok(match place {
                Some(place) => {
                    let mut flipped = chunk.to_vec();
                    flipped[place] ^= 1;
                    flipped.into()
                }
                None => chunk,
            })
        })
        .boxed()
}

/// Ten pieces a second.
fn slow(chunks: Chunks, rate: u32) -> Chunks {
    let piece = (rate as usize).div_ceil(10);
    let pause = Duration::from_secs_f64(piece as f64 / f64::from(rate));
    stream::unfold((chunks, Bytes::new()), move |(mut chunks, mut rest)| async move {
        while rest.is_empty() {
            match chunks.next().await? {
                Ok(chunk) => rest = chunk,
                Err(error) => return Some((Err(error), (chunks, rest))),
            }
        }
        tokio::time::sleep(pause).await;
        let piece = rest.split_to(piece.min(rest.len()));
        Some((Ok(piece), (chunks, rest)))
    })
    .boxed()
}

/// How events follow each other in a watch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Framing {
    Lines,
    Prefixed,
}

impl Framing {
    /// The length of the first frame of `bytes`, if it is complete.
    fn first(self, bytes: &[u8]) -> Option<usize> {
        match self {
            Self::Lines => bytes.iter().position(|byte| *byte == b'\n').map(|at| at + 1),
            Self::Prefixed => {
                let length = bytes.get(..4)?.try_into().map(u32::from_be_bytes).ok()?;
                let whole = 4 + length as usize;
                (bytes.len() >= whole).then_some(whole)
            }
        }
    }
}

/// One event per item; what is left at the end comes as it is.
fn frames(chunks: Chunks, framing: Framing) -> Chunks {
    stream::unfold((chunks, BytesMut::new()), move |(mut chunks, mut held)| async move {
        loop {
            if let Some(length) = framing.first(&held) {
                let frame = held.split_to(length).freeze();
                return Some((Ok(frame), (chunks, held)));
            }
            match chunks.next().await {
                Some(Ok(chunk)) => held.extend_from_slice(&chunk),
                Some(Err(error)) => return Some((Err(error), (chunks, held))),
                None if held.is_empty() => return None,
                None => {
                    let rest = held.copy_to_bytes(held.len());
                    return Some((Ok(rest), (chunks, held)));
                }
            }
        }
    })
    .boxed()
}

/// Each pair of neighbours changes places, unless the second takes too long.
fn reorder(frames: Chunks) -> Chunks {
    stream::unfold((frames.fuse(), VecDeque::new()), |(mut frames, mut ready)| async move {
        if let Some(frame) = ready.pop_front() {
            return Some((frame, (frames, ready)));
        }
        let first = frames.next().await?;
        if first.is_err() {
            return Some((first, (frames, ready)));
        }
        match tokio::time::timeout(HOLD, frames.next()).await {
            Ok(Some(second)) => {
                ready.push_back(first);
                Some((second, (frames, ready)))
            }
            Ok(None) | Err(_) => Some((first, (frames, ready))),
        }
    })
    .boxed()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn body(pieces: &[&'static str], effect: &str) -> (String, bool) {
        let pieces: Vec<_> = pieces.iter().map(|piece| Ok(Bytes::from_static(piece.as_bytes()))).collect();
        let response = Response::new(body::stream(stream::iter(pieces)));
        let fault: super::super::Fault = effect.parse().unwrap();
        let super::super::What::Lasting(effect) = fault.what else { panic!("{fault}") };
        let mut chunks = strike(response, &Struck(vec![effect])).into_body().into_data_stream();
        let mut text = String::new();
        while let Ok(Some(chunk)) = tokio::time::timeout(Duration::from_secs(600), chunks.next()).await {
            match chunk {
                Ok(chunk) => text.push_str(std::str::from_utf8(&chunk).unwrap()),
                Err(_) => return (text, true),
            }
            if text.len() > 100_000 {
                break;
            }
        }
        (text, false)
    }

    #[tokio::test(start_paused = true)]
    async fn bodies_break_stall_drip_and_lie() {
        let lines = ["a1\na", "2\n", "a3\n"];
        assert_eq!(body(&lines, "cut=4").await, ("a1\na".to_owned(), true));
        assert_eq!(body(&lines, "stall-body=3").await, ("a1\n".to_owned(), false));
        assert_eq!(body(&lines, "corrupt=5").await, ("a1\na2\x0ba3\n".to_owned(), false));
        assert_eq!(body(&lines, "duplicate").await, ("a1\na1\na2\na2\na3\na3\n".to_owned(), false));
        assert_eq!(body(&lines, "reorder").await, ("a2\na1\na3\n".to_owned(), false));
        let (endless, broken) = body(&lines, "endless-line").await;
        assert!(endless.len() > 100_000 && !endless.contains('\n') && !broken);
        let start = tokio::time::Instant::now();
        assert_eq!(body(&lines, "slow=3").await.0, "a1\na2\na3\n");
        assert_eq!(start.elapsed().as_secs(), 3);
    }

    #[tokio::test]
    async fn frames_with_a_length_in_front_are_kept_whole() {
        let frame = |text: &str| {
            let mut frame = u32::try_from(text.len()).unwrap().to_be_bytes().to_vec();
            frame.extend_from_slice(text.as_bytes());
            frame
        };
        let all: Vec<u8> = [frame("one"), frame(""), frame("three")].concat();
        let pieces: Vec<_> = all.chunks(5).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        let split: Vec<_> =
            frames(stream::iter(pieces).boxed(), Framing::Prefixed).map(|f| f.unwrap()).collect().await;
        assert_eq!(split, [frame("one"), frame(""), frame("three")]);
    }
}
