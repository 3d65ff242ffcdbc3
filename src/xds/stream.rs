//! One task per proxy: a thin loop between the wire and a pure session.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Status, Streaming};

use super::counts::Counts;
use super::hub::Hub;
use super::proxy::Proxy;
use super::resource::ResourceType;
use super::session::{DeltaSession, Effects, Outcome, SessionError, SessionLimits, SotwSession, Source};
use super::status::TypeStatus;
use super::timer::until;
use super::watchers::Dirty;
use crate::model::Node;
use crate::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node as WireNode,
};

/// The shortest time between two renewals of a certificate, and the wait after one that failed.
const RENEWAL_RETRY: Duration = Duration::from_secs(10);

/// What the two protocols have in common, as the loop sees them.
pub(super) trait Session: Send + Sized {
    /// Messages of the proxy.
    type Request: Send;
    /// Messages to the proxy.
    type Response: Send + 'static;
    /// `sotw` or `delta`.
    const NAME: &'static str;

    fn open() -> Self;
    fn node(request: &mut Self::Request) -> Option<WireNode>;
    fn request(&mut self, request: Self::Request, now: Instant) -> Result<Effects, SessionError>;
    fn changed(&mut self, kind: ResourceType, name: &crate::model::Name);
    fn list_changed(&mut self, kind: ResourceType);
    fn rekeyed(&mut self);
    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)>;
    fn deadline(&self) -> Option<Instant>;
    fn status(&self, now: Instant, wall: SystemTime) -> BTreeMap<ResourceType, TypeStatus>;
    fn size(response: &Self::Response) -> usize;
}

/// The methods that are the same on both sessions.
macro_rules! same_on_both {
    () => {
        fn open() -> Self {
            Self::new(SessionLimits::default())
        }

        fn node(request: &mut Self::Request) -> Option<WireNode> {
            request.node.take()
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

        fn status(&self, now: Instant, wall: SystemTime) -> BTreeMap<ResourceType, TypeStatus> {
            self.status(now, wall)
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

    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)> {
        self.poll(now, source).map(|(kind, response)| (Some(kind), response))
    }
}

impl Session for DeltaSession {
    type Request = DeltaDiscoveryRequest;
    type Response = DeltaDiscoveryResponse;
    const NAME: &'static str = "delta";
    same_on_both!();

    fn poll(&mut self, now: Instant, source: &dyn Source) -> Option<(Option<ResourceType>, Self::Response)> {
        let served = self.poll(now, source).map(|(kind, response)| (Some(kind), response));
        served.or_else(|| self.not_found().map(|response| (None, response)))
    }
}

/// A stream that has introduced itself.
pub(super) struct Stream<S: Session> {
    hub: Arc<Hub>,
    session: S,
    proxy: Proxy,
    /// When the first change that is not written yet was noted at the registry.
    since: Option<Instant>,
    /// When the last response since then was written.
    written: Option<Instant>,
    /// When the certificate is due; looked at once somebody subscribed to it.
    renewal: Option<SystemTime>,
}

impl<S: Session> Stream<S> {
    pub(super) fn new(hub: Arc<Hub>, node: Node, peer: Option<SocketAddr>) -> Self {
        let entry = hub.connect(Arc::new(node), peer, S::NAME);
        let proxy = Proxy::new(Arc::clone(&hub), entry);
        Self { hub, session: S::open(), proxy, since: None, written: None, renewal: None }
    }

    /// Serves the proxy until it leaves, breaks a rule or the server shuts down.
    /// `responses` holds one message: nothing is computed before the transport has taken the one before.
    pub(super) async fn run(
        mut self,
        first: S::Request,
        mut requests: Streaming<S::Request>,
        responses: mpsc::Sender<Result<S::Response, Status>>,
        shutdown: CancellationToken,
    ) {
        let mut ready = match self.request(first) {
            Ok(()) => true,
            Err(status) => return refuse(&self.hub, self.proxy.entry.peer, &responses, status).await,
        };
        let mut synced = self.hub.registry.clusters().watch_all_synced();
        loop {
            let handle = Arc::clone(&self.proxy.entry.handle);
            let timer = self.timer();
            tokio::select! {
                // In this order: the end, then what the proxy says (an ACK or an unsubscription must count
                // before the next push), then what we say, then what is new.
                biased;
                () = shutdown.cancelled() => return,
                message = requests.message() => match message {
                    Ok(Some(request)) => match self.request(request) {
                        Ok(()) => ready = true,
                        Err(status) => return refuse(&self.hub, self.proxy.entry.peer, &responses, status).await,
                    },
                    // A half-close or a reset: the proxy has left (X-C24).
                    Ok(None) | Err(_) => return,
                },
                permit = responses.reserve(), if ready => match permit {
                    Ok(permit) => match self.next_response() {
                        Some(response) => permit.send(Ok(response)),
                        None => ready = false,
                    },
                    Err(_) => return,
                },
                () = handle.woken() => {
                    self.dirty(handle.take());
                    ready = true;
                }
                changed = synced.changed() => {
                    // Removals withheld since a restart may go: every cluster has synced (D27).
                    Counts::add(&self.hub.counts.wakeups);
                    ready |= changed.is_ok();
                }
                () = until(timer) => {
                    self.renew();
                    ready = true;
                }
            }
        }
    }

    fn request(&mut self, request: S::Request) -> Result<(), Status> {
        let effects = self.session.request(request, Instant::now()).map_err(|error| match error {
            SessionError::TooManyNames { .. } => Status::resource_exhausted(error.to_string()),
            _ => Status::invalid_argument(error.to_string()),
        })?;
        if effects.opened.is_some_and(ResourceType::is_wildcard) {
            self.proxy.watch_lists();
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
        self.report();
        Ok(())
    }

    fn count(&self, effects: &Effects) {
        let Some(kind) = effects.kind else { return };
        match &effects.outcome {
            Outcome::Nack { message } => {
                self.hub.counts.rejects.add(kind);
                let proxy = &self.proxy.entry.node.id;
                tracing::warn!(%proxy, %kind, %message, "proxy rejected a response");
            }
            Outcome::Stale => self.hub.counts.expired_nonces.add(kind),
            _ => {}
        }
    }

    fn next_response(&mut self) -> Option<S::Response> {
        let Some((kind, response)) = self.session.poll(Instant::now(), &self.proxy) else {
            // Nothing is held back: with the last response the proxy has all of the change.
            if self.session.deadline().is_none()
                && let (Some(since), Some(written)) = (self.since.take(), self.written.take())
            {
                let seconds = written.saturating_duration_since(since).as_secs_f64();
                self.hub.counts.convergence.observe(seconds);
            }
            return None;
        };
        if let Some(kind) = kind {
            self.hub.counts.responses.add(kind);
            self.hub.counts.bytes.add(kind, S::size(&response));
        }
        self.written = self.since.map(|_| Instant::now());
        self.report();
        Some(response)
    }

    fn dirty(&mut self, dirty: Dirty) {
        if self.since.is_none() {
            self.since = dirty.since;
        }
        if dirty.view {
            let change = self.proxy.refresh();
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
        let rekeys = if dirty.view { Default::default() } else { dirty.rekeys };
        for name in self.proxy.rekey(&rekeys) {
            self.session.changed(ResourceType::Endpoint, &name);
        }
        for kind in dirty.lists {
            self.session.list_changed(kind);
        }
        for (kind, name) in dirty.names {
            self.session.changed(kind, &name);
        }
    }

    fn own_changed(&mut self) {
        self.session.list_changed(ResourceType::Cluster);
        self.session.list_changed(ResourceType::Listener);
    }

    /// When to look again although nothing happens: a push held back, or the certificate's renewal. It does not
    /// move when other things happen meanwhile.
    fn timer(&self) -> Option<Instant> {
        let left = |at: SystemTime| at.duration_since(SystemTime::now()).unwrap_or_default();
        let renewal = self.renewal.map(|at| Instant::now() + left(at));
        [self.session.deadline(), renewal].into_iter().flatten().min()
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

    fn report(&self) {
        let status = self.session.status(Instant::now(), SystemTime::now());
        *self.proxy.entry.types.lock().unwrap_or_else(PoisonError::into_inner) = status;
    }
}

/// Ends a stream with the reason, counted and logged.
pub(super) async fn refuse<R>(
    hub: &Hub,
    peer: Option<SocketAddr>,
    responses: &mpsc::Sender<Result<R, Status>>,
    status: Status,
) {
    Counts::add(&hub.counts.refused_streams);
    tracing::warn!(?peer, reason = status.message(), "stream refused");
    // A proxy that does not read gets no reason.
    let _ = tokio::time::timeout(Duration::from_secs(1), responses.send(Err(status))).await;
}
