//! The namespaces of a well-behaved API server, with a history.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::mpsc;

use super::form::{self, Space};
use super::{Asked, For, Piece, Reply};
use crate::ingest::objects::wire::Encoding;

/// What a server does with a streaming list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::ingest) enum Streams {
    Served,
    /// 422.
    Refused,
    /// The parameters are not known: plain events, no bookmark (K-25).
    Ignored,
    /// No bookmark ever, nor anything else (K-26).
    Withheld,
}

/// The server. Clones are the same one.
#[derive(Clone)]
pub(in crate::ingest) struct World(Arc<Mutex<State>>);

struct State {
    revision: u64,
    spaces: BTreeMap<String, Space>,
    history: Vec<(u64, &'static str, Space)>,
    /// Everything up to this revision is compacted.
    compacted: u64,
    encoding: Encoding,
    streams: Streams,
    watches: Vec<(Encoding, mpsc::UnboundedSender<Piece>)>,
}

impl World {
    /// Some namespaces at revision 10, in protobuf.
    pub(in crate::ingest) fn new(names: &[&str]) -> Self {
        let space = |(n, name): (usize, &&str)| Space::new(name, "n0", n as u64 + 1);
        let spaces = names.iter().enumerate().map(space).map(|space| (space.name.clone(), space));
        Self(Arc::new(Mutex::new(State {
            revision: 10,
            spaces: spaces.collect(),
            history: Vec::new(),
            compacted: 0,
            encoding: Encoding::Protobuf,
            streams: Streams::Served,
            watches: Vec::new(),
        })))
    }

    pub(in crate::ingest) fn speaking(self, encoding: Encoding) -> Self {
        self.state().encoding = encoding;
        self
    }

    pub(in crate::ingest) fn streaming(self, streams: Streams) -> Self {
        self.state().streams = streams;
        self
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(in crate::ingest) fn revision(&self) -> u64 {
        self.state().revision
    }

    /// Something elsewhere changes: only the revision moves.
    pub(in crate::ingest) fn move_on(&self, revision: u64) {
        self.state().revision = revision;
    }

    /// What there is: name → network.
    pub(in crate::ingest) fn truth(&self) -> BTreeMap<String, String> {
        self.state().spaces.values().map(|s| (s.name.clone(), s.network.clone())).collect()
    }

    pub(in crate::ingest) fn set(&self, name: &str, network: &str) {
        let mut state = self.state();
        state.revision += 1;
        let space = Space::new(name, network, state.revision);
        let kind = match state.spaces.insert(name.to_owned(), space.clone()) {
            Some(_) => "MODIFIED",
            None => "ADDED",
        };
        state.happened(kind, space);
    }

    pub(in crate::ingest) fn delete(&self, name: &str) {
        let mut state = self.state();
        if let Some(mut space) = state.spaces.remove(name) {
            state.revision += 1;
            space.revision = state.revision;
            state.happened("DELETED", space);
        }
    }

    /// Sends a bookmark to every open watch.
    pub(in crate::ingest) fn bookmark(&self) {
        let mut state = self.state();
        let revision = state.revision.to_string();
        state.send(|encoding| form::bookmark(encoding, &revision, false));
    }

    /// Ends every open watch, in order or not.
    pub(in crate::ingest) fn end_watches(&self, broken: bool) {
        for (_, watch) in self.state().watches.drain(..) {
            if broken {
                let _ = watch.send(Piece::Break);
            }
        }
    }

    /// Open watches that somebody reads.
    pub(in crate::ingest) fn watches(&self) -> usize {
        let mut state = self.state();
        state.watches.retain(|(_, watch)| !watch.is_closed());
        state.watches.len()
    }

    /// The history is gone.
    pub(in crate::ingest) fn compact(&self) {
        let mut state = self.state();
        state.compacted = state.revision;
        state.history.clear();
    }

    /// etcd is restored: these namespaces, at a revision of the past, and watches that break.
    pub(in crate::ingest) fn restore(&self, revision: u64, spaces: &[Space]) {
        let mut state = self.state();
        state.revision = revision;
        state.spaces = spaces.iter().map(|space| (space.name.clone(), space.clone())).collect();
        state.history.clear();
    }

    /// What the server does with a request.
    pub(in crate::ingest) fn answer(&self, asked: &Asked) -> Reply {
        self.state().answer(asked)
    }
}

impl State {
    fn happened(&mut self, kind: &'static str, space: Space) {
        self.history.push((space.revision, kind, space.clone()));
        self.send(|encoding| form::event(encoding, kind, &space));
    }

    fn send(&mut self, frame: impl Fn(Encoding) -> Vec<u8>) {
        self.watches.retain(|(encoding, watch)| watch.send(Piece::Bytes(frame(*encoding))).is_ok());
    }

    fn answer(&mut self, asked: &Asked) -> Reply {
        let protobuf = asked.accept.contains("protobuf") && self.encoding == Encoding::Protobuf;
        let encoding = if protobuf { Encoding::Protobuf } else { Encoding::Json };
        match asked.is_for() {
            For::FirstPage | For::NextPage | For::Probe => self.page(asked, encoding),
            For::StreamingList => self.stream(encoding),
            For::Watch => self.watch(asked, encoding),
            For::Object => match self.spaces.get(asked.name()) {
                Some(space) => {
                    let body = vec![Piece::Bytes(form::one(encoding, space))];
                    Reply::body(form::list_type(encoding), body)
                }
                None => Reply::status(404, "NotFound", "not found"),
            },
            For::Ready => Reply::body("text/plain", vec![Piece::Bytes(b"ok".to_vec())]),
        }
    }

    fn page(&self, asked: &Asked, encoding: Encoding) -> Reply {
        let limit: usize = asked.parameter("limit").unwrap().parse().unwrap();
        let after = asked.parameter("continue").unwrap_or_default();
        let mut items = self.spaces.values().filter(|space| space.name.as_str() > after);
        let page: Vec<_> = items.by_ref().take(limit).cloned().collect();
        let next = items.next().and(page.last()).map_or("", |last| &last.name);
        let body = form::list(encoding, &self.revision.to_string(), next, &page);
        Reply::body(form::list_type(encoding), vec![Piece::Bytes(body)])
    }

    fn stream(&mut self, encoding: Encoding) -> Reply {
        let added = self.spaces.values().map(|space| form::event(encoding, "ADDED", space));
        let mut body: Vec<_> = added.map(Piece::Bytes).collect();
        let end = form::bookmark(encoding, &self.revision.to_string(), true);
        match self.streams {
            Streams::Served => body.push(Piece::Bytes(end)),
            Streams::Refused => return Reply::status(422, "Invalid", "sendInitialEvents: Forbidden"),
            Streams::Ignored => {}
            Streams::Withheld => body.clear(),
        }
        body.push(self.live(encoding));
        Reply::body(form::watch_type(encoding), body)
    }

    fn watch(&mut self, asked: &Asked, encoding: Encoding) -> Reply {
        let after: u64 = asked.parameter("resourceVersion").unwrap().parse().unwrap();
        let kind = form::watch_type(encoding);
        if after < self.compacted {
            let gone = form::error(410, "Expired", "too old resource version");
            return Reply::body(form::watch_type(Encoding::Json), vec![Piece::Bytes(gone)]);
        }
        // At a revision that is still to come: 200 and silence.
        let missed = self.history.iter().filter(|(revision, ..)| *revision > after);
        let mut body: Vec<_> =
            missed.map(|(_, kind, space)| Piece::Bytes(form::event(encoding, kind, space))).collect();
        let live = self.live(encoding);
        body.push(if after > self.revision { Piece::Hang } else { live });
        Reply::body(kind, body)
    }

    fn live(&mut self, encoding: Encoding) -> Piece {
        let (sender, receiver) = mpsc::unbounded_channel();
        self.watches.push((encoding, sender));
        Piece::Live(receiver)
    }
}
