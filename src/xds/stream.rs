//! One loop per stream between the wire and a pure session, driven by the body of its response.

use std::pin::pin;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::body::Incoming;
use tokio::sync::watch;
use tonic::Status;

use super::counts::Counts;
use super::hub::Hub;
use super::proxy::Proxy;
use super::resource::ResourceType;
use super::server::{
    Bucket, Chunks, Connection, Contents, Limits, Outlet, Requests, Sharing, frame_delta, frame_sotw,
};
use super::session::{
    DeltaSession, Effects, Outcome, Pace, SessionError, SessionLimits, SotwSession, Source,
};
use super::status::Report;
use super::timer::until;
use super::times::observe;
use super::timing::Timing;
use super::watchers::Dirty;
use crate::model::Node;
use crate::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node as WireNode,
};

/// The shortest time between two renewals of a certificate, and the wait after one that failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(10);
/// The names of streams with more of them are not left to be found unused by chance.
const MANY_NAMES: usize = 1000;
/// How often one stream's rejections are logged; all are counted (Z-26).
const NACK_LOG: Duration = Duration::from_secs(60);

/// What the two protocols have in common, as the loop sees them.
pub(super) trait Session: Send + Sized {
    /// Messages of the proxy.
    type Request: prost::Message + Default + 'static;
    /// Messages to the proxy.
    type Response;
    /// `sotw` or `delta`.
    const NAME: &'static str;

    fn open(pace: Pace) -> Self;
    fn node(request: &mut Self::Request) -> Option<WireNode>;
    fn type_url(request: &mut Self::Request) -> &mut String;
    /// The nonce of the response that a request answers.
    fn answers(request: &Self::Request) -> Option<u64>;
    fn nonce(response: &Self::Response) -> &str;
    fn request(&mut self, request: Self::Request, now: Instant) -> Result<Effects, SessionError>;
    fn changed(&mut self, kind: ResourceType, name: &crate::model::Name);
    fn list_changed(&mut self, kind: ResourceType);
    fn rekeyed(&mut self);
    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)>;
    fn deadline(&self) -> Option<Instant>;
    fn report(&self, kind: ResourceType) -> Option<Report>;
    fn size(response: &Self::Response) -> usize;
    fn frame(response: &Self::Response, sharing: Sharing<'_>) -> Chunks;
    /// Of the resources in a response; none where something else is in it.
    fn contents(kind: ResourceType, response: &Self::Response) -> Option<Contents>;
}

/// The methods that are the same on both sessions.
macro_rules! same_on_both {
    () => {
        fn open(pace: Pace) -> Self {
            Self::new(SessionLimits::default()).paced(pace)
        }

        fn node(request: &mut Self::Request) -> Option<WireNode> {
            request.node.take()
        }

        fn type_url(request: &mut Self::Request) -> &mut String {
            &mut request.type_url
        }

        fn answers(request: &Self::Request) -> Option<u64> {
            request.response_nonce.parse().ok()
        }

        fn nonce(response: &Self::Response) -> &str {
            &response.nonce
        }

        fn request(&mut self, request: Self::Request, now: Instant) -> Result<Effects, SessionError> {
            self.request(request, now)
        }

        fn changed(&mut self, kind: ResourceType, name: &crate::model::Name) {
            self.changed(kind, name);
        }

        fn list_changed(&mut self, kind: ResourceType) {
            self.list_changed(kind);
        }

        fn rekeyed(&mut self) {
            self.rekeyed();
        }

        fn deadline(&self) -> Option<Instant> {
            self.deadline()
        }

        fn report(&self, kind: ResourceType) -> Option<Report> {
            self.report(kind)
        }

        fn size(response: &Self::Response) -> usize {
            response.resources.iter().map(bytes::Bytes::len).sum()
        }
    };
}

impl Session for SotwSession {
    type Request = DiscoveryRequest;
    type Response = DiscoveryResponse;
    const NAME: &'static str = "sotw";
    same_on_both!();

    fn frame(response: &Self::Response, sharing: Sharing<'_>) -> Chunks {
        frame_sotw(response, sharing)
    }

    fn contents(kind: ResourceType, response: &Self::Response) -> Option<Contents> {
        contents(kind, false, &response.version_info)
    }

    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)> {
        self.poll(now, source).map(|(kind, response)| (Some(kind), response))
    }
}

impl Session for DeltaSession {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const NAME: &'static str = "delta";
    same_on_both!();

    fn frame(response: &Self::Response, sharing: Sharing<'_>) -> Chunks {
        frame_delta(response, sharing)
    }

    fn contents(kind: ResourceType, response: &Self::Response) -> Option<Contents> {
        contents(kind, true, &response.system_version_info)
    }

    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)> {
        let served = self.poll(now, source).map(|(kind, response)| (Some(kind), response));
        served.or_else(|| self.not_found().map(|response| (None, response)))
    }
}

/// What a response with this version has in it: both protocols make it of names and contents (D20). Secrets are never
/// shared.
fn contents(kind: ResourceType, delta: bool, version: &str) -> Option<Contents> {
    let digest = u128::from_str_radix(version, 16).ok().filter(|_| kind != ResourceType::Secret)?;
    Some(Contents { kind, delta, digest })
}

/// Waits for the next value and gives the receiver back; never completes once there is no sender.
async fn next(mut receiver: watch::Receiver<bool>) -> watch::Receiver<bool> {
    match receiver.changed().await {
        Ok(()) => receiver,
        Err(_) => std::future::pending().await,
    }
}

/// Why a stream is served no longer.
enum End {
    /// The proxy has left.
    Gone,
    /// With a status that is not the proxy's fault.
    Ended(Status),
    /// It broke a rule.
    Refused(Status),
}

impl End {
    /// The requests of the proxy cannot be read on: it has left, or it sent what is no request.
    fn broken(status: Status) -> Self {
        match status.code() {
            // The connection ended.
            tonic::Code::Cancelled | tonic::Code::Unknown | tonic::Code::Unavailable => Self::Gone,
            _ => Self::Refused(status),
        }
    }
}

/// A stream that has introduced itself.
pub(super) struct Stream<S: Session> {
    hub: Arc<Hub>,
    session: S,
    proxy: Proxy,
    connection: Arc<Connection>,
    /// The only type of a stream that is not an aggregated one.
    only: Option<ResourceType>,
    requests: Bucket,
    /// When the next request may be read, while there are too many (Z-38).
    read_from: Option<Instant>,
    /// Whether a type was opened since the session last fell silent: an answer may have been spared.
    opened: bool,
    /// When a rejection was last logged.
    nack_logged: Option<Instant>,
    timing: Timing,
    /// When the certificate is due; looked at once somebody subscribed to it.
    renewal: Option<SystemTime>,
    /// Dropped behind all that holds names.
    names: Names,
}

/// How many names a stream has subscribed to, or tried to. When it is gone those of many are given back at once.
struct Names {
    hub: Arc<Hub>,
    subscribed: usize,
}

impl Drop for Names {
    fn drop(&mut self) {
        if self.subscribed > MANY_NAMES {
            self.hub.forget_names();
        }
    }
}

impl<S: Session> Stream<S> {
    pub(super) fn new(
        hub: Arc<Hub>,
        node: Node,
        connection: Arc<Connection>,
        only: Option<ResourceType>,
        outlet: &Outlet,
        limits: &Limits,
    ) -> Self {
        let entry = hub.connect(Arc::new(node), Some(connection.peer), S::NAME);
        // A new entry has none.
        let _ = entry.way.set(outlet.slot());
        let session = S::open(Pace::of_stream(entry.handle.id));
        let proxy = Proxy::new(Arc::clone(&hub), entry);
        let names = Names { hub: Arc::clone(&hub), subscribed: 0 };
        let (rate, burst) = limits.request_rate;
        Self {
            hub,
            session,
            proxy,
            connection,
            only,
            requests: Bucket::new(rate, burst),
            read_from: None,
            opened: false,
            nack_logged: None,
            timing: Timing::default(),
            renewal: None,
            names,
        }
    }

    /// Serves the proxy until it leaves, breaks a rule, or the connection is to end.
    /// Nothing is computed before the transport has taken the message before. Borrows the stream: a future has room for
    /// whatever it is given twice, and there is one for each proxy.
    pub(super) async fn run(
        &mut self,
        first: S::Request,
        requests: &mut Requests<S::Request, Incoming>,
        outlet: Outlet,
    ) {
        let end = match self.request(first) {
            Ok(()) => self.serve(requests, &outlet).await,
            Err(status) => End::Refused(status),
        };
        match end {
            End::Gone => {}
            End::Ended(status) => outlet.end(status),
            End::Refused(status) => refuse(&self.hub, &self.connection, outlet, status),
        }
    }

    /// The loop; says why it ended.
    async fn serve(&mut self, requests: &mut Requests<S::Request, Incoming>, outlet: &Outlet) -> End {
        // What is waited for all the time is registered once, not for each message.
        let (handle, connection) = (Arc::clone(&self.proxy.entry.handle), Arc::clone(&self.connection));
        let mut ending = pin!(connection.ending());
        let mut synced = pin!(next(self.hub.registry.clusters().watch_all_synced()));
        // Whether there may be something to say.
        let mut ready = true;
        // When the transport was last given something.
        let mut given = Instant::now();
        // Whether it has not yet asked for more since.
        let mut taking = false;
        loop {
            let timer = self.timer(ready);
            tokio::select! {
                // In this order: the end, then what the proxy says (an ACK or an unsubscription must count
                // before the next push), then what we say, then what is new.
                biased;
                status = ending.as_mut() => return End::Ended(status),
                message = requests.message(), if self.read_from.is_none() => match message {
                    Ok(Some(request)) => match self.request(request) {
                        Ok(()) => ready = true,
                        Err(status) => return End::Refused(status),
                    },
                    // A half-close: the proxy has left (X-C24).
                    Ok(None) => return End::Gone,
                    Err(status) => return End::broken(status),
                },
                () = outlet.hungry(), if ready || taking => {
                    if std::mem::take(&mut taking) {
                        observe(&self.hub.counts.times.send, given, Instant::now());
                        // What came meanwhile goes with it.
                        self.dirty(handle.take());
                        self.renew();
                        if self.read_on() {
                            // Requests that waited for their time come first.
                            ready = true;
                            continue;
                        }
                    }
                    match self.next_response() {
                        Some(message) => {
                            handle.deafen();
                            outlet.write(message);
                            given = Instant::now();
                            taking = true;
                        }
                        None => ready = false,
                    }
                },
                // What changes while the transport takes nothing waits in the mailbox, and costs this task nothing (X-F02).
                () = handle.woken(), if outlet.is_hungry() => {
                    let dirty = handle.take();
                    if let Some(marked) = dirty.marked {
                        observe(&self.hub.counts.times.queue, marked, Instant::now());
                    }
                    ready |= self.dirty(dirty);
                }
                all_synced = synced.as_mut() => {
                    // Removals withheld since a restart may go: every cluster has synced (D27).
                    Counts::add(&self.hub.counts.wakeups);
                    ready = true;
                    synced.set(next(all_synced));
                }
                () = until(timer) => {
                    self.renew();
                    self.read_on();
                    ready = true;
                }
            }
        }
    }

    fn request(&mut self, mut request: S::Request) -> Result<(), Status> {
        if let Some(only) = self.only {
            match S::type_url(&mut request) {
                // The method says it (X-E01).
                url if url.is_empty() => only.url().clone_into(url),
                url if *url == only.url() => {}
                _ => {
                    let text = format!(
                        "this method serves {}; use an aggregated stream for other types",
                        only.url()
                    );
                    return Err(Status::invalid_argument(text));
                }
            }
        }
        let now = Instant::now();
        let answers = S::answers(&request);
        let effects = self.session.request(request, now).map_err(|error| match error {
            SessionError::TooManyNames { .. } | SessionError::TooManyBytes { .. } => {
                self.names.subscribed = usize::MAX;
                Status::resource_exhausted(error.to_string())
            }
            _ => Status::invalid_argument(error.to_string()),
        })?;
        self.charge(&effects, now);
        self.opened |= effects.opened.is_some();
        if effects.opened.is_some_and(ResourceType::is_wildcard) {
            self.proxy.watch_lists();
        }
        self.names.subscribed = self.names.subscribed.saturating_add(effects.subscribed.len());
        if effects.kind == Some(ResourceType::Endpoint) {
            self.proxy.expect(effects.subscribed.len());
        }
        for (kind, name) in &effects.subscribed {
            self.proxy.watch(*kind, name);
            if *kind == ResourceType::Secret {
                self.renewal = self.proxy.renewal();
            }
        }
        for (kind, name) in &effects.unsubscribed {
            self.proxy.unwatch(*kind, name);
        }
        self.count(&effects);
        self.time(&effects, answers, now);
        self.report(effects.kind);
        Ok(())
    }

    /// An answer to a response is free; what comes too fast delays what is read next (Z-38).
    fn charge(&mut self, effects: &Effects, now: Instant) {
        if !effects.is_answer() {
            let wait = self.requests.take(now);
            self.read_from = (!wait.is_zero()).then(|| now + wait);
        }
    }

    /// Whether requests were delayed and may be read again.
    fn read_on(&mut self) -> bool {
        self.read_from.take_if(|from| *from <= Instant::now()).is_some()
    }

    fn count(&mut self, effects: &Effects) {
        let Some(kind) = effects.kind else { return };
        match &effects.outcome {
            Outcome::Nack { message, .. } => {
                self.hub.counts.rejects.add(kind);
                let proxy = &self.proxy.entry.node.id;
                if self.nack_logged.is_none_or(|logged| logged.elapsed() >= NACK_LOG) {
                    self.nack_logged = Some(Instant::now());
                    tracing::warn!(%proxy, %kind, %message, "proxy rejected a response");
                } else {
                    tracing::debug!(%proxy, %kind, %message, "proxy rejected a response");
                }
            }
            Outcome::Stale => self.hub.counts.expired_nonces.add(kind),
            _ => {}
        }
    }

    /// Notes how long the proxy took to answer a change.
    fn time(&mut self, effects: &Effects, answers: Option<u64>, now: Instant) {
        let accepted = effects.outcome == Outcome::Ack;
        let answered = accepted || matches!(effects.outcome, Outcome::Nack { answers: true, .. });
        if let (Some(kind), Some(nonce), true) = (effects.kind, answers, answered) {
            self.timing.answered(kind, nonce, accepted, now, &self.hub.counts.times);
        }
    }

    fn next_response(&mut self) -> Option<Chunks> {
        let begin = Instant::now();
        let Some((kind, response)) = self.session.poll(begin, &self.proxy) else {
            // Otherwise something is held back.
            if self.session.deadline().is_none() {
                self.timing.done(&self.hub.counts.times);
            }
            if std::mem::take(&mut self.opened) {
                self.report(ResourceType::ALL);
            }
            return None;
        };
        let contents = kind.and_then(|kind| S::contents(kind, &response));
        let framed = S::frame(&response, contents.map(|contents| (&self.hub.joined, contents)));
        if let Some(kind) = kind {
            let (counts, size, now) = (&self.hub.counts, S::size(&response), Instant::now());
            counts.responses.add(kind);
            counts.bytes.add(kind, size);
            counts.largest.raise(kind, size);
            counts.times.size.of(kind).observe(size as f64);
            observe(counts.times.push.of(kind), begin, now);
            self.timing.wrote(kind, S::nonce(&response), now);
        }
        self.report(kind);
        Some(framed)
    }

    /// Notes what may differ; says whether there was anything.
    fn dirty(&mut self, dirty: Dirty) -> bool {
        if dirty.marked.is_none() {
            return false;
        }
        self.timing.told(dirty.since);
        if dirty.view {
            let change = self.proxy.refresh(dirty.rules);
            if change.shared {
                self.session.rekeyed();
            }
            if change.own {
                self.own_changed();
            }
            if change.identity {
                self.renewal = self.proxy.renewal();
                self.session.changed(ResourceType::Secret, &"default".into());
            }
        }
        if dirty.own && !dirty.view && self.proxy.refresh_own() {
            self.own_changed();
        }
        for name in self.proxy.rekey(&dirty.rekeys) {
            self.session.changed(ResourceType::Endpoint, &name);
        }
        for kind in dirty.lists {
            self.session.list_changed(kind);
        }
        if dirty.everything {
            // All that is ever marked by name.
            self.session.list_changed(ResourceType::Endpoint);
            self.session.list_changed(ResourceType::Route);
        }
        for (kind, name) in dirty.names {
            self.session.changed(kind, &name);
        }
        true
    }

    fn own_changed(&mut self) {
        self.session.list_changed(ResourceType::Cluster);
        self.session.list_changed(ResourceType::Listener);
    }

    /// When to look again although nothing happens: a push held back, the certificate's renewal, the next request of a
    /// proxy that asks too much. It does not move when other things happen meanwhile.
    fn timer(&self, ready: bool) -> Option<Instant> {
        let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let renewal = self.renewal.map(|at| Instant::now() + left(at));
        let push = self.session.deadline().filter(|_| !ready);
        [push, renewal, self.read_from].into_iter().flatten().min()
    }

    /// Renews the certificate once it is due. The proxy keeps the one it has while none can be issued.
    fn renew(&mut self) {
        let now = SystemTime::now();
        if self.renewal.is_none_or(|at| at > now) {
            return;
        }
        match self.proxy.renewal() {
            Some(at) => {
                self.renewal = Some(at.max(now + RENEWAL_RETRY));
                self.session.changed(ResourceType::Secret, &"default".into());
            }
            None => self.renewal = Some(now + RENEWAL_RETRY),
        }
    }

    /// Writes down what became of these types, for those who ask about the stream.
    fn report(&self, kinds: impl IntoIterator<Item = ResourceType>) {
        let mut types = self.proxy.entry.types.lock().unwrap_or_else(PoisonError::into_inner);
        for kind in kinds {
            types[kind as usize] = self.session.report(kind);
        }
    }
}

/// Ends a stream with the reason, counted and logged.
pub(super) fn refuse(hub: &Hub, connection: &Connection, outlet: Outlet, status: Status) {
    Counts::add(&hub.counts.refused_streams);
    tracing::warn!(peer = %connection.peer, reason = status.message(), "stream refused");
    outlet.end(status);
}
