//! From a server's name to a connection that HTTP can be spoken on.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower::{Service as _, ServiceExt as _};

use super::TransportError;
use super::connection::{Http1, Http2};
use super::error::{cause, causes};
use super::guard::{GuardedResolver, Unresolved};
use super::tls::Tls;
use super::traffic::{Counted, Epitaph, Traffic};

/// How long things may take; tests take less.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// Resolving and connecting.
    pub(super) connect: Duration,
    /// The TLS handshake.
    pub(super) tls: Duration,
    /// Between PINGs, also when nothing is asked (K-05).
    pub(super) ping: Duration,
    /// For the answer to a PING.
    pub(super) pong: Duration,
    /// For a program that gives credentials.
    pub(super) exec: Duration,
    /// A connection younger than this is not given up on suspicion: another one would be no better.
    pub(super) young: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        let ten = Duration::from_secs(10);
        let (exec, young) = (Duration::from_secs(60), Duration::from_secs(1));
        Self { connect: ten, tls: ten, ping: ten, pong: ten, exec, young }
    }
}

/// How long a TCP connection may be silent before the kernel probes it, and how often it probes (K-05).
const KEEPALIVE: Duration = Duration::from_secs(10);
/// Probes without an answer after which the kernel gives a connection up.
const KEEPALIVE_PROBES: u32 = 3;
/// How long sent data may stay unacknowledged: a PING that meets a dead link ends the connection.
const USER_TIMEOUT: Duration = Duration::from_secs(20);

/// How long files and plugins may take to give certificates.
const CREDENTIALS_LIMIT: Duration = Duration::from_secs(60);

/// What both plain and encrypted connections are.
pub(super) trait Wire: AsyncRead + AsyncWrite + Send {}
impl<T: AsyncRead + AsyncWrite + Send> Wire for T {}
/// A connection as the HTTP library takes it.
pub(super) type WireIo = TokioIo<Counted<Pin<Box<dyn Wire>>>>;

/// A fresh connection.
pub(super) enum Dialed {
    Http1(Http1),
    Http2(Http2),
}

impl Dialed {
    /// Of the [pool](super::pool) when it was dialled.
    pub(super) fn epoch_mut(&mut self) -> &mut u64 {
        match self {
            Self::Http1(connection) => &mut connection.epoch,
            Self::Http2(connection) => &mut connection.epoch,
        }
    }
}

/// Makes connections to one API server. Neither proxies nor environment variables are involved (Z-05, Z-08).
pub(super) struct Dialer {
    pub(super) target: Uri,
    pub(super) server: Arc<str>,
    pub(super) resolver: GuardedResolver,
    /// `None`: plain HTTP, which only an operator's own kubeconfig may ask for.
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) traffic: Arc<Traffic>,
    pub(super) patience: Patience,
}

impl Dialer {
    /// Connects, shakes hands and agrees on a protocol.
    ///
    /// # Errors
    /// Says in which phase it failed.
    pub(super) async fn dial(&self) -> Result<Dialed, TransportError> {
        let connecting = self.in_time("connecting", self.patience.connect, self.connect());
        let tcp = connecting.await?;
        let (wire, http2): (Pin<Box<dyn Wire>>, bool) = match &self.tls {
            None => (Box::pin(tcp), false),
            Some(tls) => {
                let settings = tls.config(&self.server);
                let config = self.in_time("getting the credentials", CREDENTIALS_LIMIT, settings).await?;
                let shake = self.in_time("the TLS handshake", self.patience.tls, async {
                    let connector = tokio_rustls::TlsConnector::from(config);
                    connector.connect(tls.server_name(), tcp).await.map_err(|error| self.tls_error(&error))
                });
                let stream = shake.await?;
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                (Box::pin(stream), http2)
            }
        };
        let epitaph = Epitaph::default();
        let io = TokioIo::new(Counted::new(wire, Arc::clone(&self.traffic), Arc::clone(&epitaph)));
        let greeting = self.in_time("the HTTP handshake", self.patience.tls, async {
            Ok(if http2 {
                Http2::open(io, epitaph, self.patience).await.map(Dialed::Http2)
            } else {
                Http1::open(io, epitaph).await.map(Dialed::Http1)
            })
        });
        greeting.await?.map_err(|ending| TransportError::Closed { server: Arc::clone(&self.server), ending })
    }

    async fn in_time<T>(
        &self,
        phase: &'static str,
        limit: Duration,
        step: impl Future<Output = Result<T, TransportError>>,
    ) -> Result<T, TransportError> {
        let late = TransportError::Deadline { server: Arc::clone(&self.server), phase, limit };
        tokio::time::timeout(limit, step).await.unwrap_or(Err(late))
    }

    pub(super) async fn connect(&self) -> Result<TcpStream, TransportError> {
        self.check_literal()?;
        let mut tcp = HttpConnector::new_with_resolver(self.resolver.clone());
        tcp.enforce_http(false);
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(self.patience.connect));
        tcp.set_keepalive(Some(KEEPALIVE));
        tcp.set_keepalive_interval(Some(KEEPALIVE));
        tcp.set_keepalive_retries(Some(KEEPALIVE_PROBES));
        tcp.set_tcp_user_timeout(Some(USER_TIMEOUT));
        let ready = tcp.ready().await.map_err(|error| self.connect_error(&error))?;
        let io = ready.call(self.target.clone()).await.map_err(|error| self.connect_error(&error))?;
        Ok(io.into_inner())
    }

    /// The connector does not ask the resolver about a host that is an address already.
    fn check_literal(&self) -> Result<(), TransportError> {
        let host = self.target.host().unwrap_or_default().trim_matches(['[', ']']);
        let Ok(address) = host.parse::<IpAddr>() else { return Ok(()) };
        let checked = self.resolver.policy.check(host, address);
        checked.map_err(|error| TransportError::ForbiddenAddress { server: Arc::clone(&self.server), error })
    }

    fn connect_error(&self, error: &(dyn std::error::Error + 'static)) -> TransportError {
        let server = Arc::clone(&self.server);
        match causes(error).find_map(|error| error.downcast_ref::<Unresolved>()) {
            Some(Unresolved::Forbidden(error)) => {
                TransportError::ForbiddenAddress { server, error: error.clone() }
            }
            Some(unresolved) => TransportError::Resolve { server, cause: cause(unresolved) },
            None => TransportError::Connect { server, cause: cause(error) },
        }
    }

    fn tls_error(&self, error: &io::Error) -> TransportError {
        TransportError::Tls { server: Arc::clone(&self.server), cause: cause(error) }
    }
}
