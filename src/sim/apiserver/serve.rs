//! Connections: TLS, HTTP/1.1 and HTTP/2, and an orderly end.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use super::builder::Renewal;
use super::fault::Once;
use super::freeze::{Motion, while_running};
use super::handler::{self, Context};
use super::watch::Signal;
use crate::sim::accept;

/// A client that has not finished its handshake by then is dropped.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long running requests may finish after the shutdown began.
const GRACE: Duration = Duration::from_secs(2);
/// How often and how far apart listening again is tried.
const REBINDS: usize = 100;
const REBIND_PAUSE: Duration = Duration::from_millis(50);

/// Runs the requests of HTTP/2 beside their connection; they stand still as it does.
#[derive(Clone)]
struct Beside(watch::Receiver<Motion>);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, request: F) {
        tokio::spawn(while_running(self.0.clone(), request));
    }
}

/// Serves until the context says closing, except while `motion` says frozen. Owns every connection: dropping this
/// future closes them.
pub(super) async fn run(listener: TcpListener, context: Arc<Context>, motion: watch::Receiver<Motion>) {
    let connection = |stream| {
        let beside = Beside(motion.clone());
        while_running(motion.clone(), connection(stream, Arc::clone(&context), beside))
    };
    let address = listener.local_addr();
    let mut listener = Some(listener);
    let mut closing = context.signals.clone();
    loop {
        let Some(open) = listener.take() else { return };
        let serving =
            while_running(motion.clone(), accept::serve(open, closed(&mut closing), GRACE, &connection));
        tokio::select! {
            // Biased: an orderly end is finished.
            biased;
            () = serving => return,
            // Dropping what serves closes every connection.
            () = context.faults.refuses(true) => {}
        }
        let mut closing = context.signals.clone();
        tokio::select! {
            biased;
            () = closed(&mut closing) => return,
            () = context.faults.refuses(false) => {}
        }
        if let Ok(address) = address {
            listener = rebind(address).await;
        }
    }
}

/// Listens again where it listened before.
async fn rebind(address: std::net::SocketAddr) -> Option<TcpListener> {
    for _ in 0..REBINDS {
        match TcpListener::bind(address).await {
            Ok(listener) => return Some(listener),
            Err(error) => tracing::warn!(%address, %error, "cannot listen again"),
        }
        tokio::time::sleep(REBIND_PAUSE).await;
    }
    None
}

/// Does what is done once, when its time has come.
pub(super) async fn faults(context: Arc<Context>, signals: Arc<watch::Sender<Signal>>, renewal: Renewal) {
    loop {
        match context.faults.next_once().await {
            Once::Compact => context.store.compact(),
            Once::Disconnect => super::watch::disconnect(&signals),
            Once::Revision(by) => context.store.jump(by),
            Once::RotateCertificate => match renewal.config() {
                Ok(config) => {
                    context.tls.store(Arc::new(config));
                    context.faults.close_connections();
                }
                Err(error) => tracing::warn!(%error, "the certificate stays"),
            },
        }
    }
}

/// Completes when the server is to close, also when its handle is gone.
async fn closed(signals: &mut watch::Receiver<Signal>) {
    let _ = signals.wait_for(|signal| *signal == Signal::Closing).await;
}

async fn connection(stream: TcpStream, context: Arc<Context>, beside: Beside) {
    let acceptor = TlsAcceptor::from(context.tls.load_full());
    let mut closing = context.signals.clone();
    let closed_by_fault = context.faults.closes();
    // Events are small and urgent.
    let _ = stream.set_nodelay(true);
    let stream = tokio::select! {
        biased;
        () = closed(&mut closing) => return,
        accepted = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)) => match accepted {
            Ok(Ok(stream)) => stream,
            // Port scans and clients that do not trust us end here.
            Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
            Err(_) => return tracing::debug!("TLS handshake timed out"),
        },
    };
    let service = service_fn(move |request| {
        let context = Arc::clone(&context);
        async move { Ok::<_, Infallible>(handler::handle(context, request).await) }
    });
    let mut builder = auto::Builder::new(beside);
    builder.http1().timer(TokioTimer::new());
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(1000);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection, closed_by_fault);
    let ended = tokio::select! {
        biased;
        () = closed(&mut closing) => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
        () = &mut closed_by_fault => return,
        ended = connection.as_mut() => ended,
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended");
    }
}
