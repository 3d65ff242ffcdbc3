//! API servers of one test: real TLS on loopback, HTTP by the library or frame by frame.

use std::convert::Infallible;
use std::future::Future;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::{FutureExt as _, StreamExt as _};
use http::{Request, Response};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::ServerConfig;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// A certificate authority of one test.
pub(super) struct Ca {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub(super) pem: String,
}

impl Ca {
    pub(super) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Self { der: certificate.der().clone(), pem: certificate.pem(), issuer: Issuer::new(params, key) }
    }

    /// What goes into `kube::Config::root_cert`.
    pub(super) fn roots(&self) -> Option<Vec<Vec<u8>>> {
        Some(vec![self.der.to_vec()])
    }

    /// A client certificate and its key, PEM, that ends `end` after now.
    pub(super) fn client(&self, name: &str, end: Duration) -> (String, String) {
        let mut params = CertificateParams::new(vec![]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = (std::time::SystemTime::now() + end).into();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (certificate.pem(), key.serialize_pem())
    }

    /// A server's settings; clients may present certificates of the same CA.
    pub(super) fn server(&self, protocols: &[&str]) -> Arc<ServerConfig> {
        let names = vec!["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = CertificateParams::new(names).unwrap();
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let mut roots = rustls::RootCertStore::empty();
        roots.add(self.der.clone()).unwrap();
        let clients = WebPkiClientVerifier::builder(Arc::new(roots)).allow_unauthenticated().build().unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder()
            .with_client_cert_verifier(clients)
            .with_single_cert(vec![certificate.der().clone()], key)
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Arc::new(config)
    }
}

pub(super) type Answering = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// A whole body.
pub(super) fn text(status: u16, body: impl Into<Bytes>) -> Answering {
    Response::builder().status(status).body(Full::new(body.into()).boxed_unsync()).unwrap()
}

/// A body that comes as it is sent, and ends when the sender is dropped.
pub(super) fn live() -> (mpsc::UnboundedSender<Bytes>, Answering) {
    let (sender, receiver) = mpsc::unbounded_channel::<Bytes>();
    let chunks = tokio_stream::wrappers::UnboundedReceiverStream::new(receiver);
    let body = StreamBody::new(chunks.map(|chunk| Ok::<_, Infallible>(Frame::data(chunk))));
    (sender, Response::new(body.boxed_unsync()))
}

/// What a connection is to the test's code.
pub(super) type Accepted = TlsStream<TcpStream>;
type Serve = Arc<dyn Fn(Accepted) -> BoxFuture<'static, ()> + Send + Sync>;

/// A server that runs until it is dropped; its connections with it.
pub(super) struct Server {
    pub(super) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    tls: Arc<ArcSwap<ServerConfig>>,
    _task: AbortOnDropHandle<()>,
}

impl Server {
    pub(super) async fn start<F>(
        tls: Arc<ServerConfig>,
        serve: impl Fn(Accepted) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (accepted, tls) = (Arc::new(AtomicUsize::new(0)), Arc::new(ArcSwap::new(tls)));
        let serve: Serve = Arc::new(move |stream| serve(stream).boxed());
        let task = tokio::spawn(accept(listener, Arc::clone(&accepted), Arc::clone(&tls), serve));
        Self { address, accepted, tls, _task: AbortOnDropHandle::new(task) }
    }

    /// A server that answers requests one by one, in HTTP/2 or 1.1 as agreed.
    pub(super) async fn answering(
        tls: Arc<ServerConfig>,
        answer: impl Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
    ) -> Self {
        let answer = Arc::new(answer);
        Self::start(tls, move |stream| http(stream, Arc::clone(&answer))).await
    }

    pub(super) fn accepted(&self) -> usize {
        self.accepted.load(SeqCst)
    }

    /// What new connections see from now on.
    pub(super) fn exchange_certificate(&self, tls: Arc<ServerConfig>) {
        self.tls.store(tls);
    }

    pub(super) fn config(&self, ca: &Ca) -> kube::Config {
        let mut config = kube::Config::new(format!("https://{}", self.address).parse().unwrap());
        config.root_cert = ca.roots();
        config
    }
}

async fn accept(
    listener: TcpListener,
    accepted: Arc<AtomicUsize>,
    tls: Arc<ArcSwap<ServerConfig>>,
    serve: Serve,
) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _)) = listener.accept().await {
        accepted.fetch_add(1, SeqCst);
        let acceptor = tokio_rustls::TlsAcceptor::from(tls.load_full());
        let serve = Arc::clone(&serve);
        connections.spawn(async move {
            if let Ok(stream) = acceptor.accept(tcp).await {
                serve(stream).await;
            }
        });
    }
}

/// Serves one connection by the library.
pub(super) async fn http<A>(stream: Accepted, answer: Arc<A>)
where
    A: Fn(Request<Incoming>) -> Answering + Send + Sync + 'static,
{
    let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
    let service = hyper::service::service_fn(move |request| {
        let answer = answer(request);
        async move { Ok::<_, Infallible>(answer) }
    });
    let io = TokioIo::new(stream);
    // How a client leaves is its own business.
    let _ = if http2 {
        hyper::server::conn::http2::Builder::new(TokioExecutor::new()).serve_connection(io, service).await
    } else {
        hyper::server::conn::http1::Builder::new().serve_connection(io, service).await
    };
}

/// Frames as they are on the wire.
pub(super) mod frame {
    pub(in super::super) const HEADERS: u8 = 1;
    pub(in super::super) const RST_STREAM: u8 = 3;
    pub(in super::super) const SETTINGS: u8 = 4;
    pub(in super::super) const PING: u8 = 6;
    pub(in super::super) const GOAWAY: u8 = 7;
    pub(in super::super) const DATA: u8 = 0;
    /// HPACK: `:status: 200` of the static table.
    pub(in super::super) const OK: &[u8] = &[0x88];

    pub(in super::super) fn write(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        let mut frame = length[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(stream.to_be_bytes());
        frame.extend(payload);
        frame
    }

    pub(in super::super) fn goaway(last: u32, code: u32) -> Vec<u8> {
        write(GOAWAY, 0, 0, &[last.to_be_bytes(), code.to_be_bytes()].concat())
    }
}

/// One HTTP/2 connection, frame by frame: `script` says what is answered to each frame but SETTINGS; `None`
/// closes the connection. PINGs are the script's business too.
pub(super) async fn frames(stream: Accepted, script: impl FnMut(u8, u32) -> Option<Vec<u8>> + Send) {
    frames_after(stream, &[], script).await;
}

/// The same with settings of its own.
pub(super) async fn frames_after(
    mut stream: Accepted,
    settings: &[u8],
    mut script: impl FnMut(u8, u32) -> Option<Vec<u8>> + Send,
) {
    let mut preface = [0; 24];
    if stream.read_exact(&mut preface).await.is_err() {
        return;
    }
    let mut out = frame::write(frame::SETTINGS, 0, 0, settings);
    loop {
        if stream.write_all(&out).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        let mut head = [0; 9];
        if stream.read_exact(&mut head).await.is_err() {
            return;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).await.is_err() {
            return;
        }
        let (kind, flags, id) = (head[3], head[4], u32::from_be_bytes([head[5], head[6], head[7], head[8]]));
        out = match kind {
            frame::SETTINGS if flags & 1 == 0 => frame::write(frame::SETTINGS, 1, 0, &[]),
            frame::SETTINGS => Vec::new(),
            _ => match script(kind, id) {
                Some(out) => out,
                None => {
                    let _ = stream.shutdown().await;
                    return;
                }
            },
        };
    }
}

/// Things seen, in order.
pub(super) type Seen<T> = Arc<Mutex<Vec<T>>>;

/// Waits until `holds`, at most ten seconds.
pub(super) async fn until(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    assert!(tokio::time::timeout(Duration::from_secs(10), waiting).await.is_ok(), "never: {what}");
}
