//! Connections to API servers.
//!
//! ```text
//! ApiServer (Exchange) ── authorization: the header of a request
//!   pool ──── which connection a request goes on; sends again what the server has not looked at
//!     dial ── guard (resolved addresses) → TCP → tls (files read again) → HTTP by ALPN
//!       connection, body ── one exchange, and how it ended
//! ```
//!
//! One connection per API server while it speaks HTTP/2 (K-43), PING on it also when nothing is asked (K-05).
//! Neither proxies nor environment variables are involved (Z-05, Z-08), redirects are not followed (Z-06), and
//! nothing is retried that a server may have processed (D31).

mod authorization;
mod body;
mod connection;
mod credentials;
mod dial;
mod error;
mod exchange;
mod exec;
mod file;
mod guard;
mod listed;
mod one_run;
mod pool;
mod tls;
mod traffic;
mod user;

use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderValue, USER_AGENT};
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body_util::Full;
use kube::client::ConfigExt;
use tower::{BoxError, Layer as _, ServiceExt as _};

use authorization::Authorization;
pub use body::{BodyError, collect};
use connection::Outgoing;
pub use credentials::{CredentialKind, Credentials};
use dial::{Dialer, Patience};
pub use error::{Ending, TransportError};
pub use exchange::{Answer, ByteStream, Exchange, Presented};
use file::Readers;
use guard::GuardedResolver;
pub use guard::{AddressPolicy, ForbiddenAddress, special_kind};
pub use listed::{BadServer, ServerList};
use one_run::OneRun;
use pool::Pool;
use tls::Tls;
pub use traffic::Traffic;
pub use user::TokenUser;

use crate::model::{CredentialFacts, Expiry};

/// *Fatal* for this cluster until its configuration changes.
#[derive(Debug, thiserror::Error)]
#[error("cannot use the credentials: {0}")]
pub struct ClientError(Arc<str>);

/// One API server with its credentials. All sources of a cluster share its connection.
pub struct ApiServer {
    inner: Arc<Inner>,
}

struct Inner {
    url: Uri,
    /// `host:port`, for errors.
    server: Arc<str>,
    headers: HeaderMap,
    authorization: ArcSwap<Authorization>,
    /// Who asks, if another token of the same user may take over.
    user: ArcSwapOption<TokenUser>,
    tls: Option<Arc<Tls>>,
    pool: Pool,
    traffic: Arc<Traffic>,
    /// At files of certificates, between connections.
    look: OneRun<bool>,
    /// Whether we are somebody else by now, who may do more.
    doubt: OneRun<()>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer").field("server", &self.inner.server).finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Prepares connections; nothing is sent, asked, read or run yet. Files that `config` names are read whenever a
    /// connection or a token is needed; while they cannot be read the last good content counts.
    ///
    /// # Errors
    /// Certificates, keys or tokens that are given inline cannot be used, whether or not there are files beside
    /// them.
    pub fn new(config: &kube::Config, addresses: AddressPolicy) -> Result<Self, ClientError> {
        Self::with(config, GuardedResolver::new(addresses), Patience::default())
    }

    fn with(
        config: &kube::Config,
        resolver: GuardedResolver,
        patience: Patience,
    ) -> Result<Self, ClientError> {
        let url = without_userinfo(&config.cluster_url)?;
        let server: Arc<str> = url.authority().map_or("", |authority| authority.as_str()).into();
        let readers = Readers::default();
        let authorization = Authorization::new(config, patience.exec, &readers).map_err(ClientError)?;
        let tls = match url.scheme_str() {
            Some("https") => Some(
                Tls::new(config, authorization.exec(), &readers)
                    .map_err(|problem| ClientError(problem.to_string().into()))?,
            ),
            _ => None,
        };
        let tls = tls.map(Arc::new);
        let traffic = Arc::<Traffic>::default();
        let dialer = Dialer {
            target: url.clone(),
            server: Arc::clone(&server),
            resolver,
            tls: tls.clone(),
            traffic: Arc::clone(&traffic),
            patience,
        };
        let headers = headers(config)?;
        let pool = Pool::new(dialer);
        let (look, doubt) = Default::default();
        let user = ArcSwapOption::from_pointee(TokenUser::of(config, &headers));
        let authorization = ArcSwap::from_pointee(authorization);
        let inner = Inner { url, server, headers, authorization, user, tls, pool, traffic, look, doubt };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// What is known of the credentials in use; nothing secret.
    pub fn credentials(&self) -> Credentials {
        let Inner { url, authorization, tls, .. } = &*self.inner;
        let (facts, tls_problem) = tls.as_ref().map(|tls| tls.facts()).unwrap_or_default();
        let authorization = authorization.load();
        let (token_expires, token_problem) = authorization.facts();
        let certificate = tls.as_ref().and_then(|tls| tls.kind());
        let mut kinds: Vec<_> = authorization.kind().into_iter().chain(certificate).collect();
        kinds.sort_unstable();
        Credentials {
            server: url.to_string(),
            ca_sha256: facts.ca_sha256,
            kinds,
            client_certificate_not_after: certificate.and(facts.not_after),
            token_expires,
            is_brief: authorization.is_brief() || (certificate.is_some() && facts.is_brief),
            problem: tls_problem.or(token_problem).map(|problem| problem.to_string()),
        }
    }

    /// Somebody may have renewed the files of a client certificate that ends soon: connections last for days, and
    /// only new ones read them. Needs a runtime.
    fn look_again(&self) {
        if let Some(tls) = self.inner.tls.as_ref().filter(|tls| tls.identity_in_files()) {
            let (tls, server) = (Arc::clone(tls), Arc::clone(&self.inner.server));
            drop(self.inner.look.join(|| async move { tls.config(&server).await.is_ok() }));
        }
    }

    /// What went over the wire.
    pub fn traffic(&self) -> &Traffic {
        &self.inner.traffic
    }
}

/// What is written, and what of it is read.
const JSON: &str = "application/json";

impl Exchange for ApiServer {
    fn server(&self) -> &str {
        &self.inner.server
    }

    fn get(
        &self,
        path_and_query: String,
        accept: &'static str,
    ) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let inner = Arc::clone(&self.inner);
        async move { inner.send(Method::GET, &path_and_query, accept, Bytes::new()).await }.boxed()
    }

    fn post(&self, path: String, body: Bytes) -> BoxFuture<'static, Result<Answer, TransportError>> {
        let inner = Arc::clone(&self.inner);
        async move { inner.send(Method::POST, &path, JSON, body).await }.boxed()
    }

    fn credential_facts(&self) -> CredentialFacts {
        let facts = self.credentials().facts();
        if facts.expiry(SystemTime::now()) != Expiry::Far {
            self.look_again();
        }
        facts
    }

    fn unauthorized(&self, refused: Presented) {
        let Inner { authorization, tls, pool, .. } = &*self.inner;
        authorization.load().distrust(refused.header);
        if tls.as_ref().is_some_and(|tls| tls.identity_may_change()) {
            // Who we are was settled when the connection was made.
            pool.retire(refused.connection);
        }
    }

    fn forbidden(&self, refused: Presented) {
        let Inner { authorization, tls, pool, server, .. } = &*self.inner;
        let authorization = authorization.load();
        let exec = authorization.exec();
        if exec.is_none() {
            authorization.distrust(refused.header);
        }
        let tls = tls.clone().filter(|tls| tls.identity_may_change());
        let (pool, server) = (pool.clone(), Arc::clone(server));
        drop(self.inner.doubt.join(|| async move {
            if let Some(exec) = exec {
                exec.renew(refused.header).await;
            }
            // It stays in use if there is no other: so much for errors.
            if let Some(tls) = tls
                && tls.config(&server).await.is_ok()
                && tls.has_new_identity()
            {
                pool.retire(refused.connection);
            }
        }));
    }

    fn token_user(&self) -> Option<TokenUser> {
        self.inner.user.load().as_deref().cloned()
    }

    fn take_token(&self, next: TokenUser) {
        // Who is asked and who asks stay as they are: so does the connection (K-43).
        self.inner.authorization.store(Arc::new(Authorization::of_token(&next)));
        self.inner.user.store(Some(Arc::new(next)));
    }

    fn suspect_connection(&self) {
        self.inner.pool.suspect();
    }
}

impl Inner {
    async fn send(
        &self,
        method: Method,
        path_and_query: &str,
        accept: &'static str,
        body: Bytes,
    ) -> Result<Answer, TransportError> {
        let uri = self.uri(path_and_query)?;
        let mut headers = self.headers.clone();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        if !body.is_empty() {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(JSON));
        }
        let credentials = self.authorization.load_full().header().await;
        let server = || Arc::clone(&self.server);
        let header = credentials.map_err(|cause| TransportError::Credentials { server: server(), cause })?;
        if let Some(value) = header.value {
            headers.insert(AUTHORIZATION, value);
        }
        let request = || -> Outgoing {
            let mut request = Request::new(Full::new(body.clone()));
            request.method_mut().clone_from(&method);
            *request.uri_mut() = uri.clone();
            request.headers_mut().clone_from(&headers);
            request
        };
        let (response, held) = self.pool.send(request).await?;
        self.traffic.contact();
        let presented = Presented { header: header.number, connection: held.epoch() };
        let (parts, body) = response.into_parts();
        let body = body::stream(body, held, server(), Arc::clone(&self.traffic));
        Ok(Answer { status: parts.status, headers: parts.headers, body, presented })
    }

    /// The server's URL may have a path of its own, as behind a gateway for many clusters.
    fn uri(&self, path_and_query: &str) -> Result<Uri, TransportError> {
        let mut parts = self.url.clone().into_parts();
        let prefix = self.url.path().trim_end_matches('/');
        let path = format!("{prefix}/{}", path_and_query.trim_start_matches('/')).parse();
        let failed =
            |cause: String| TransportError::Request { server: Arc::clone(&self.server), cause: cause.into() };
        parts.path_and_query = Some(path.map_err(|error: http::uri::InvalidUri| failed(error.to_string()))?);
        Uri::from_parts(parts).map_err(|error| failed(error.to_string()))
    }
}

/// The URL is shown, logged and sent to the server: what may be secret in it goes.
fn without_userinfo(url: &Uri) -> Result<Uri, ClientError> {
    let authority = url.authority().map_or("", |authority| authority.as_str());
    let Some((_, host)) = authority.rsplit_once('@') else { return Ok(url.clone()) };
    let mut parts = url.clone().into_parts();
    let failed = || ClientError("its server cannot be named without the credentials in its URL".into());
    parts.authority = Some(host.parse().map_err(|_| failed())?);
    Uri::from_parts(parts).map_err(|_| failed())
}

/// Headers of every request: those of the kubeconfig, impersonation included if it is the operator's own.
fn headers(config: &kube::Config) -> Result<HeaderMap, ClientError> {
    let failed = || ClientError("its user cannot be named in a header".into());
    let echo = tower::service_fn(async |request: Request<()>| {
        Ok::<_, BoxError>(Response::new(request.headers().clone()))
    });
    let layer = config.extra_headers_layer().map_err(|_| failed())?;
    let answer = layer.layer(echo).oneshot(Request::new(())).now_or_never();
    let mut headers = answer.and_then(Result::ok).ok_or_else(failed)?.into_body();
    headers.insert(USER_AGENT, HeaderValue::from_static(concat!("tombolo/", env!("CARGO_PKG_VERSION"))));
    Ok(headers)
}

#[cfg(test)]
mod tests;
