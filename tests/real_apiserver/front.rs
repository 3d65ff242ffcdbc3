//! What may stand between a control plane and an API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::header::{ACCEPT, CONTENT_TYPE, HOST};
use kube::Client;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// A wire that can be cut: nothing listens then, and every connection is gone.
pub struct Wire {
    target: SocketAddr,
    address: SocketAddr,
    /// Keeps the port ours while nothing listens on it.
    _held: TcpSocket,
    open: Option<DropGuard>,
}

impl Wire {
    pub fn to(target: SocketAddr) -> Self {
        let held = reusable(SocketAddr::from(([127, 0, 0, 1], 0)));
        let mut wire = Self { target, address: held.local_addr().unwrap(), _held: held, open: None };
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
        let (cancel, target) = (CancellationToken::new(), self.target);
        self.open = Some(cancel.clone().drop_guard());
        tokio::spawn(async move { cancel.run_until_cancelled(carry(listener, target, cancel.clone())).await });
    }
}

fn reusable(address: SocketAddr) -> TcpSocket {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_reuseport(true).unwrap();
    socket.bind(address).unwrap();
    socket
}

async fn carry(listener: TcpListener, target: SocketAddr, cancel: CancellationToken) {
    while let Ok((mut near, _)) = listener.accept().await {
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

/// An API server that knows no protobuf: a gateway that asks the real one for JSON, whatever is asked of it.
pub struct JsonOnly {
    address: SocketAddr,
    seen: Arc<Seen>,
    _stop: DropGuard,
}

/// Answers that went through.
#[derive(Default)]
struct Seen {
    /// Asked for with protobuf as the first choice.
    protobuf_wanted: AtomicU64,
    /// Answered in JSON.
    json: AtomicU64,
    /// Answered in anything else.
    other: AtomicU64,
}

impl JsonOnly {
    pub async fn before(client: Client) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let (address, cancel, seen) =
            (listener.local_addr().unwrap(), CancellationToken::new(), Arc::<Seen>::default());
        let service = Router::new().fallback(forward).with_state((client, Arc::clone(&seen)));
        let stop = cancel.clone().drop_guard();
        tokio::spawn(async move { cancel.run_until_cancelled(axum::serve(listener, service).into_future()).await });
        Self { address, seen, _stop: stop }
    }

    pub fn kubeconfig(&self) -> String {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: x\ncontexts: [{{name: x, context: {{cluster: x, user: x}}}}]\n\
             clusters: [{{name: x, cluster: {{server: 'http://{}'}}}}]\nusers: [{{name: x, user: {{}}}}]\n",
            self.address
        )
    }

    /// Answers in JSON, those in anything else, and how many of all were asked for in protobuf.
    pub fn answers(&self) -> (u64, u64, u64) {
        let Seen { protobuf_wanted, json, other } = &*self.seen;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        (read(json), read(other), read(protobuf_wanted))
    }
}

async fn forward(State((client, seen)): State<(Client, Arc<Seen>)>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let wanted = parts.headers.insert(ACCEPT, "application/json".parse().unwrap());
    if wanted.is_some_and(|wanted| wanted.to_str().unwrap().contains("protobuf")) {
        seen.protobuf_wanted.fetch_add(1, Ordering::Relaxed);
    }
    parts.headers.remove(HOST);
    parts.uri = parts.uri.path_and_query().unwrap().as_str().parse().unwrap();
    let answer = client.send(Request::from_parts(parts, kube::client::Body::empty())).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(_) => return Response::builder().status(502).body(Body::empty()).unwrap(),
    };
    let kind = answer.headers().get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let counter = if kind.starts_with("application/json") { &seen.json } else { &seen.other };
    counter.fetch_add(1, Ordering::Relaxed);
    answer.map(Body::new)
}
