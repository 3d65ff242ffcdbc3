//! What may stand between a control plane and an API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use futures::future::BoxFuture;
use http::StatusCode;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use kube::Client;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::Mutex;
use tokio_util::sync::{CancellationToken, DropGuard};

/// A wire that can be cut: nothing listens then, and every connection is gone.
pub struct Wire {
    target: SocketAddr,
    address: SocketAddr,
    /// Keeps the port ours while nothing listens on it.
    _held: TcpSocket,
    open: Option<DropGuard>,
    /// Connections so far.
    carried: Arc<AtomicU64>,
}

impl Wire {
    pub fn to(target: SocketAddr) -> Self {
        let held = reusable(SocketAddr::from(([127, 0, 0, 1], 0)));
        let address = held.local_addr().unwrap();
        let mut wire = Self { target, address, _held: held, open: None, carried: Arc::default() };
        wire.join();
        wire
    }

    /// A kubeconfig by way of this wire.
    pub fn kubeconfig(&self, kubeconfig: &str) -> String {
        kubeconfig.replace(&self.target.to_string(), &self.address.to_string())
    }

    pub fn cut(&mut self) {
        self.open = None;
    }

    pub fn join(&mut self) {
        let listener = reusable(self.address).listen(64).unwrap();
        let (cancel, target, carried) = (CancellationToken::new(), self.target, Arc::clone(&self.carried));
        self.open = Some(cancel.clone().drop_guard());
        tokio::spawn(async move {
            cancel.run_until_cancelled(carry(listener, target, carried, cancel.clone())).await
        });
    }

    /// How many connections there have been.
    pub fn connections(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }
}

fn reusable(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn carry(
    listener: TcpListener,
    target: SocketAddr,
    carried: Arc<AtomicU64>,
    cancel: CancellationToken,
) {
    while let Ok((mut near, _)) = listener.accept().await {
        carried.fetch_add(1, Ordering::Relaxed);
        let cancel = cancel.clone();
        tokio::spawn(async move {
            let carried = async {
                let mut far = TcpStream::connect(target).await?;
                tokio::io::copy_bidirectional(&mut near, &mut far).await
            };
            // However it ends: both sides are closed.
            cancel.run_until_cancelled(carried).await
        });
    }
}

/// A gateway before an API server that asks it for JSON, whatever is asked of the gateway: to its clients, an API
/// server that knows no protobuf.
pub struct Gateway {
    address: SocketAddr,
    inner: Arc<Inner>,
    _stop: DropGuard,
}

struct Inner {
    client: Client,
    /// Done once, before the second page of any list is asked for.
    between_pages: Mutex<Option<BoxFuture<'static, ()>>>,
    /// Asked for with protobuf as the first choice.
    protobuf_wanted: AtomicU64,
    /// Answered in JSON.
    json: AtomicU64,
    /// Answered in anything else.
    other: AtomicU64,
    /// Answered that what is asked for has expired.
    gone: AtomicU64,
}

impl Gateway {
    pub async fn before(client: Client) -> Self {
        Self::with_work_between_pages(client, Box::pin(std::future::ready(()))).await
    }

    /// One that does something between the first and the second page of the first list that has two.
    pub async fn with_work_between_pages(client: Client, work: BoxFuture<'static, ()>) -> Self {
        let inner = Arc::new(Inner {
            client,
            between_pages: Mutex::new(Some(work)),
            protobuf_wanted: AtomicU64::new(0),
            json: AtomicU64::new(0),
            other: AtomicU64::new(0),
            gone: AtomicU64::new(0),
        });
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, cancel) = (listener.local_addr().unwrap(), CancellationToken::new());
        let service = Router::new().fallback(forward).with_state(Arc::clone(&inner));
        let stop = cancel.clone().drop_guard();
        tokio::spawn(async move {
            cancel.run_until_cancelled(axum::serve(listener, service).into_future()).await
        });
        Self { address, inner, _stop: stop }
    }

    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: x, \
             user: x}}}}]\nclusters: [{{name: x, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: x, user: \
             {{}}}}]\n",
            self.address
        )
    }

    /// Answers in JSON, those in anything else, and how many of all were asked for in protobuf.
    pub fn answers(&self) -> (u64, u64, u64) {
        let Inner { protobuf_wanted, json, other, .. } = &*self.inner;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(json), read(other), read(protobuf_wanted))
    }

    /// Answers 410.
    pub fn gone(&self) -> u64 {
        self.inner.gone.load(Ordering::Relaxed)
    }
}

async fn forward(State(gateway): State<Arc<Inner>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let wanted = parts.headers.insert(ACCEPT, "application/json".parse().unwrap());
    if wanted.is_some_and(|wanted| wanted.to_str().unwrap().contains("protobuf")) {
        gateway.protobuf_wanted.fetch_add(1, Ordering::Relaxed);
    }
    parts.headers.remove(HOST);
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    if parts.uri.query().is_some_and(|query| query.contains("continue="))
        && let Some(work) = gateway.between_pages.lock().await.take()
    {
        work.await;
    }
    let answer = gateway.client.send(Request::from_parts(parts, kube::client::Body::empty())).await;
    let Ok(answer) = answer else {
        return Response::builder().status(StatusCode::BAD_GATEWAY).body(Body::empty()).unwrap();
    };
    if answer.status() == StatusCode::GONE {
        gateway.gone.fetch_add(1, Ordering::Relaxed);
    }
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    // That a kind is not there is said in plain text.
    if answer.status() != StatusCode::NOT_FOUND {
        let counter = if kind.starts_with("application/json") { &gateway.json } else { &gateway.other };
        counter.fetch_add(1, Ordering::Relaxed);
    }
    answer.map(Body::new)
}
