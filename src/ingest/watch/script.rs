//! An API server played from a script, in memory and in virtual time. For tests.

pub(in crate::ingest) mod form;
pub(in crate::ingest) mod world;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::{self, StreamExt};
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderMap, RETRY_AFTER};
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::ingest::client::{Answer, Ending, Exchange, Presented, TransportError};

/// One request.
#[derive(Clone, Debug)]
pub(in crate::ingest) struct Asked {
    pub(in crate::ingest) at: Instant,
    /// Path and query.
    pub(in crate::ingest) url: String,
    pub(in crate::ingest) accept: &'static str,
}

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum For {
    FirstPage,
    NextPage,
    StreamingList,
    Watch,
    Probe,
    Object,
    Ready,
}

impl Asked {
    pub(in crate::ingest) fn is_for(&self) -> For {
        let (path, query) = self.url.split_once('?').unwrap_or((&self.url, ""));
        if path == "/readyz" {
            For::Ready
        } else if query.contains("sendInitialEvents=true") {
            For::StreamingList
        } else if query.contains("watch=true") {
            For::Watch
        } else if query.contains("limit=1") && !query.contains("limit=1&") && query.ends_with("limit=1") {
            For::Probe
        } else if query.contains("continue=") {
            For::NextPage
        } else if query.contains("limit=") {
            For::FirstPage
        } else {
            For::Object
        }
    }

    pub(in crate::ingest) fn parameter(&self, name: &str) -> Option<&str> {
        let query = self.url.split_once('?')?.1;
        query.split('&').filter_map(|pair| pair.split_once('=')).find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// The object's name in a request by name.
    pub(in crate::ingest) fn name(&self) -> &str {
        self.url.rsplit('/').next().unwrap_or_default()
    }
}

/// What the server does with a request.
#[derive(Debug)]
pub(in crate::ingest) enum Reply {
    /// It is accepted and never answered.
    Never,
    Fail(TransportError),
    After(Duration, Box<Reply>),
    Answer {
        status: u16,
        content_type: Option<String>,
        retry_after: Option<u64>,
        body: Vec<Piece>,
    },
}

/// A part of a body; after the last one it ends.
#[derive(Debug)]
pub(in crate::ingest) enum Piece {
    Bytes(Vec<u8>),
    Wait(Duration),
    Break,
    Hang,
    /// Whatever comes this way.
    Live(mpsc::UnboundedReceiver<Piece>),
}

impl Reply {
    /// 200.
    pub(in crate::ingest) fn body(content_type: &str, body: Vec<Piece>) -> Self {
        Self::Answer { status: 200, content_type: Some(content_type.to_owned()), retry_after: None, body }
    }

    /// An error with a Status.
    pub(in crate::ingest) fn status(code: u16, reason: &str, message: &str) -> Self {
        let body = vec![Piece::Bytes(form::status(code, reason, message))];
        let content_type = Some("application/json".to_owned());
        Self::Answer { status: code, content_type, retry_after: None, body }
    }

    pub(in crate::ingest) fn page(status: u16) -> Self {
        let body = vec![Piece::Bytes(b"<html>\n<p>\nbad\n</html>\n".repeat(10))];
        Self::Answer { status, content_type: Some("text/html".to_owned()), retry_after: None, body }
    }

    pub(in crate::ingest) fn with_retry_after(mut self, seconds: u64) -> Self {
        if let Self::Answer { retry_after, .. } = &mut self {
            *retry_after = Some(seconds);
        }
        self
    }

    pub(in crate::ingest) fn after(self, delay: Duration) -> Self {
        Self::After(delay, Box::new(self))
    }

    pub(in crate::ingest) fn refused() -> Self {
        Self::Fail(TransportError::Connect { server: "test:6443".into(), cause: "refused".into() })
    }

    fn play(self) -> BoxFuture<'static, Result<Answer, TransportError>> {
        Box::pin(async move {
            match self {
                Self::Never => std::future::pending().await,
                Self::Fail(error) => Err(error),
                Self::After(delay, reply) => {
                    tokio::time::sleep(delay).await;
                    reply.play().await
                }
                Self::Answer { status, content_type, retry_after, body } => {
                    let mut headers = HeaderMap::new();
                    if let Some(kind) = content_type {
                        headers.insert(CONTENT_TYPE, kind.parse().unwrap());
                    }
                    if let Some(seconds) = retry_after {
                        headers.insert(RETRY_AFTER, seconds.into());
                    }
                    let status = StatusCode::from_u16(status).unwrap();
                    let body = stream::unfold(VecDeque::from(body), next).boxed();
                    Ok(Answer { status, headers, body, presented: Presented::default() })
                }
            }
        })
    }
}

async fn next(mut body: VecDeque<Piece>) -> Option<(Result<Bytes, TransportError>, VecDeque<Piece>)> {
    loop {
        match body.pop_front()? {
            Piece::Bytes(bytes) => return Some((Ok(bytes.into()), body)),
            Piece::Wait(time) => tokio::time::sleep(time).await,
            Piece::Hang => std::future::pending().await,
            Piece::Break => return Some((Err(broken()), VecDeque::new())),
            Piece::Live(mut pieces) => {
                if let Some(piece) = pieces.recv().await {
                    body.push_front(Piece::Live(pieces));
                    body.push_front(piece);
                }
            }
        }
    }
}

fn broken() -> TransportError {
    TransportError::Closed { server: "test:6443".into(), ending: Ending::Connection("reset".into()) }
}

type Player = Box<dyn FnMut(&Asked) -> Reply + Send>;

/// The scripted server.
pub(in crate::ingest) struct Script {
    player: Mutex<Player>,
    asked: Mutex<Vec<Asked>>,
    reread: AtomicU64,
    looked_again: AtomicU64,
    suspected: Arc<AtomicU64>,
}

impl Script {
    pub(in crate::ingest) fn new(player: impl FnMut(&Asked) -> Reply + Send + 'static) -> Arc<Self> {
        Arc::new(Self {
            player: Mutex::new(Box::new(player)),
            asked: Mutex::default(),
            reread: AtomicU64::new(0),
            looked_again: AtomicU64::new(0),
            suspected: Arc::default(),
        })
    }

    /// Every request so far.
    pub(in crate::ingest) fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }

    /// Requests for this so far.
    pub(in crate::ingest) fn asked_for(&self, what: For) -> Vec<Asked> {
        self.asked().into_iter().filter(|asked| asked.is_for() == what).collect()
    }

    /// How often the connection was given up.
    pub(in crate::ingest) fn suspected(&self) -> u64 {
        self.suspected.load(Ordering::Relaxed)
    }

    /// A server behind something that takes whatever comes on one connection and answers with `stuck`; the next
    /// connection leads to a server that does as `player` says.
    pub(in crate::ingest) fn pinned(
        is_stuck: impl Fn() -> bool + Send + 'static,
        stuck: impl Fn(&Asked) -> Reply + Send + 'static,
        mut player: impl FnMut(&Asked) -> Reply + Send + 'static,
    ) -> Arc<Self> {
        let suspected = Arc::<AtomicU64>::default();
        let seen = Arc::clone(&suspected);
        let player: Player = Box::new(move |asked| {
            if is_stuck() && seen.load(Ordering::Relaxed) == 0 { stuck(asked) } else { player(asked) }
        });
        Arc::new(Self {
            player: Mutex::new(player),
            asked: Mutex::default(),
            reread: AtomicU64::new(0),
            looked_again: AtomicU64::new(0),
            suspected,
        })
    }

    /// How often credentials were read again.
    pub(in crate::ingest) fn reread(&self) -> u64 {
        self.reread.load(Ordering::Relaxed)
    }

    /// How often they were looked at beside what went on.
    pub(in crate::ingest) fn looked_again(&self) -> u64 {
        self.looked_again.load(Ordering::Relaxed)
    }
}

impl Exchange for Script {
    fn server(&self) -> &str {
        "test:6443"
    }

    fn get(&self, url: String, accept: &'static str) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let asked = Asked { at: Instant::now(), url, accept };
        let reply = (self.player.lock().unwrap())(&asked);
        self.asked.lock().unwrap().push(asked);
        reply.play()
    }

    fn unauthorized(&self, _: Presented) {
        self.reread.fetch_add(1, Ordering::Relaxed);
    }

    fn forbidden(&self, _: Presented) {
        self.looked_again.fetch_add(1, Ordering::Relaxed);
    }

    fn suspect_connection(&self) {
        self.suspected.fetch_add(1, Ordering::Relaxed);
    }
}
