//! The Authorization header of requests, and where it comes from (K-16).

use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use http::header::{AUTHORIZATION, HeaderValue};
use http::{HeaderMap, Request, Response};
use http_body_util::Empty;
use kube::client::ConfigExt;
use kube::config::AuthInfo;
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use tokio::time::{Duration, Instant};
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, ServiceExt as _};

use super::credentials::{CredentialKind, is_brief};
use super::exec::Exec;
use super::file::{Contents, CredentialFile, Readers};
use super::one_run::OneRun;
use super::user::TokenUser;

/// How long what a token file said is taken for granted.
const FILE_AGE: Duration = Duration::from_secs(60);
/// How long a provider is waited for.
const PROVIDER_LIMIT: Duration = Duration::from_secs(60);
/// The last second of the year 9999, since the epoch: no later time can be written down (RFC 3339).
const LAST: Duration = Duration::from_secs(253_402_300_799);

/// Why there is no header. Never says what the credentials are.
pub(super) type NoHeader = Arc<str>;

/// What goes into a request.
#[derive(Clone)]
pub(super) struct Header {
    /// `None`: nothing.
    pub(super) value: Option<HeaderValue>,
    /// Tells what is obtained anew from what was there before, also where it is the same again.
    pub(super) number: u64,
}

/// Never says what the credentials are (Z-24).
impl fmt::Debug for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Header").field("number", &self.number).finish_non_exhaustive()
    }
}

/// Where the header comes from.
pub(super) enum Authorization {
    /// Requests go without: a client certificate, or nothing at all.
    None,
    /// Given once and for all.
    Fixed { header: HeaderValue, kind: CredentialKind, expires: Option<SystemTime>, is_brief: bool },
    /// A file that somebody keeps current.
    File(TokenFile),
    /// A program that is asked.
    Exec(Arc<Exec>),
    /// One of the Kubernetes client library's providers.
    Provider(Arc<Provider>),
}

impl Authorization {
    /// Credentials by the order of kubeconfigs: auth-provider, user and password, token file, token, exec.
    ///
    /// # Errors
    /// They cannot be in a header.
    pub(super) fn new(
        config: &kube::Config,
        exec_limit: Duration,
        readers: &Readers,
    ) -> Result<Self, NoHeader> {
        let auth = &config.auth_info;
        let set = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(str::to_owned);
        let token = set(auth.token.as_ref().map(|token| token.expose_secret()));
        let password = auth.password.as_ref().map(|password| password.expose_secret());
        Ok(if let Some(provider) = &auth.auth_provider {
            Self::Provider(Arc::new(Provider::new(config, format!("auth-provider {}", provider.name))))
        } else if let (Some(user), Some(password)) = (&auth.username, password) {
            let header = sensitive(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))))?;
            Self::Fixed { header, kind: CredentialKind::Basic, expires: None, is_brief: false }
        } else if let Some(path) = set(auth.token_file.as_deref()) {
            Self::File(TokenFile::new(path.into(), token.as_deref(), readers))
        } else if let Some(token) = token {
            let header = bearer(&token)?;
            let (expires, is_brief) = (expiry(&token), is_brief(begin(&token), expiry(&token)));
            Self::Fixed { header, kind: CredentialKind::Token, expires, is_brief }
        } else if let Some(exec) = &auth.exec {
            Self::Exec(Arc::new(Exec::new(exec.clone(), exec_limit)))
        } else {
            Self::None
        })
    }

    /// The token of a user.
    pub(super) fn of_token(user: &TokenUser) -> Self {
        let TokenUser { header, expires, is_brief, .. } = user.clone();
        Self::Fixed { header, kind: CredentialKind::Token, expires, is_brief }
    }

    /// The header for a request that is sent now.
    ///
    /// # Errors
    /// A file was never readable, or the plugin fails.
    pub(super) async fn header(&self) -> Result<Header, NoHeader> {
        match self {
            Self::None => Ok(Header { value: None, number: 0 }),
            Self::Fixed { header, .. } => Ok(Header { value: Some(header.clone()), number: 0 }),
            Self::File(file) => file.header().await,
            Self::Exec(exec) => exec.credential().await.map(|given| given.header()),
            Self::Provider(provider) => provider.header().await,
        }
    }

    /// The program that gives credentials, which may be a client certificate.
    pub(super) fn exec(&self) -> Option<Arc<Exec>> {
        match self {
            Self::Exec(exec) => Some(Arc::clone(exec)),
            _ => None,
        }
    }

    /// The server did not accept the header with this number: the next one is obtained anew, unless that was done
    /// meanwhile.
    pub(super) fn distrust(&self, number: u64) {
        match self {
            Self::None | Self::Fixed { .. } => {}
            Self::File(file) => file.distrust(number),
            Self::Exec(exec) => exec.distrust(number),
            Self::Provider(provider) => provider.distrust(number),
        }
    }

    pub(super) fn kind(&self) -> Option<CredentialKind> {
        match self {
            Self::None => None,
            Self::Fixed { kind, .. } => Some(*kind),
            Self::File(_) => Some(CredentialKind::TokenFile),
            Self::Exec(_) => Some(CredentialKind::Exec),
            Self::Provider(_) => Some(CredentialKind::AuthProvider),
        }
    }

    /// Whether it was given once and lasts for days only.
    pub(super) fn is_brief(&self) -> bool {
        matches!(self, Self::Fixed { is_brief: true, .. })
    }

    /// When the token in use expires, if it says so, and what is wrong with its source.
    pub(super) fn facts(&self) -> (Option<SystemTime>, Option<Arc<str>>) {
        match self {
            Self::None => (None, None),
            Self::Fixed { expires, .. } => (*expires, None),
            Self::File(file) => file.facts(),
            Self::Exec(exec) => exec.facts(),
            Self::Provider(provider) => provider.facts(),
        }
    }
}

fn sensitive(text: &str) -> Result<HeaderValue, NoHeader> {
    let mut header = HeaderValue::from_str(text).map_err(|_| "they cannot be in a header")?;
    header.set_sensitive(true);
    Ok(header)
}

pub(super) fn bearer(token: &str) -> Result<HeaderValue, NoHeader> {
    sensitive(&format!("Bearer {}", token.trim()))
}

/// The `exp` of a JWT, unverified: it only says when to expect a refusal.
pub(super) fn expiry(token: &str) -> Option<SystemTime> {
    time(token, "exp")
}

/// When a JWT was issued.
pub(super) fn begin(token: &str) -> Option<SystemTime> {
    time(token, "iat")
}

/// A time that a JWT says, unless it is one that cannot be written down.
fn time(token: &str, claim: &str) -> Option<SystemTime> {
    let claims: serde_json::Value = claims(token)?;
    let seconds = Duration::try_from_secs_f64(claims.get(claim)?.as_f64()?).ok()?;
    (seconds <= LAST).then(|| SystemTime::UNIX_EPOCH + seconds)
}

/// What a JWT says; not verified.
pub(super) fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?).ok()
}

/// What is known of a token that may change.
#[derive(Default)]
struct Known {
    header: Option<HeaderValue>,
    expires: Option<SystemTime>,
    problem: Option<Arc<str>>,
    /// How often it was obtained.
    number: u64,
    /// It was refused.
    stale: bool,
}

impl Known {
    fn distrust(&mut self, number: u64) {
        self.stale |= self.number == number;
    }
}

/// A token in a file, read again at most once a minute, and at once when the server refused it. When the
/// file cannot be read the last token stays in use.
pub(super) struct TokenFile {
    file: CredentialFile,
    /// Held while the file is read: one reader at a time.
    read_at: tokio::sync::Mutex<Option<Instant>>,
    known: Mutex<Known>,
}

impl TokenFile {
    fn new(path: PathBuf, fallback: Option<&str>, readers: &Readers) -> Self {
        let header = fallback.and_then(|token| bearer(token).ok());
        let known = Known { header, expires: fallback.and_then(expiry), ..Known::default() };
        let file = CredentialFile::new(path, readers);
        Self { file, read_at: Default::default(), known: Mutex::new(known) }
    }

    async fn header(&self) -> Result<Header, NoHeader> {
        let mut read_at = self.read_at.lock().await;
        let fresh = read_at.is_some_and(|at| at.elapsed() < FILE_AGE);
        if !fresh || self.lock().stale {
            let contents = self.file.read().await;
            self.take(contents);
            *read_at = Some(Instant::now());
        }
        let known = self.lock();
        let missing = || known.problem.clone().unwrap_or_else(|| "the token file was not read".into());
        let value = known.header.clone().ok_or_else(missing)?;
        Ok(Header { value: Some(value), number: known.number })
    }

    fn distrust(&self, number: u64) {
        self.lock().distrust(number);
    }

    fn take(&self, contents: Contents) {
        let path = self.file.path().display();
        let no_token = || Arc::from(format!("token file {path} holds no token"));
        let token = contents.map_err(|error| format!("cannot read token file {path}: {error}").into());
        let token = token.and_then(|bytes| match std::str::from_utf8(&bytes) {
            Ok(text) if text.trim().is_empty() => Err(format!("token file {path} is empty").into()),
            Ok(text) => bearer(text).map(|header| (header, expiry(text))).map_err(|_| no_token()),
            Err(_) => Err(no_token()),
        });
        let mut known = self.lock();
        known.number += 1;
        known.stale = false;
        match token {
            Ok((header, expires)) => {
                *known = Known { header: Some(header), expires, problem: None, ..*known };
            }
            Err(problem) => {
                if known.problem.is_none() {
                    tracing::warn!(%problem, "the last token stays in use");
                }
                known.problem = Some(problem);
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn facts(&self) -> (Option<SystemTime>, Option<Arc<str>>) {
        let known = self.lock();
        (known.expires, known.problem.clone())
    }
}

type Signer = BoxCloneSyncService<Request<Empty<Bytes>>, Response<HeaderMap>, BoxError>;

/// A provider of tokens of the Kubernetes client library, which may run a program for it and cannot end it: there
/// is never more than one run.
pub(super) struct Provider {
    config: kube::Config,
    name: String,
    signer: tokio::sync::Mutex<Option<Signer>>,
    run: OneRun<Result<Header, NoHeader>>,
    known: Mutex<Known>,
}

impl Provider {
    fn new(config: &kube::Config, name: String) -> Self {
        let auth_provider = config.auth_info.auth_provider.clone();
        let mut bare = kube::Config::new(config.cluster_url.clone());
        bare.auth_info = AuthInfo { auth_provider, ..AuthInfo::default() };
        let (signer, run, known) = Default::default();
        Self { config: bare, name, signer, run, known }
    }

    async fn header(self: &Arc<Self>) -> Result<Header, NoHeader> {
        let run = self.run.join(|| {
            let provider = Arc::clone(self);
            async move {
                let obtained = provider.obtain().await;
                provider.take(obtained)
            }
        });
        match tokio::time::timeout(PROVIDER_LIMIT, run).await {
            Ok(Some(header)) => header,
            Ok(None) => Err(format!("{}: it ended abnormally", self.name).into()),
            Err(_) => {
                let limit = humantime::format_duration(PROVIDER_LIMIT);
                self.take(Err(format!("it takes longer than {limit}")))
            }
        }
    }

    fn take(&self, obtained: Result<Option<HeaderValue>, String>) -> Result<Header, NoHeader> {
        let mut known = self.lock();
        match obtained {
            Ok(header) => {
                if known.header != header {
                    let token =
                        header.as_ref().and_then(|header| header.to_str().ok()?.strip_prefix("Bearer "));
                    known.expires = token.and_then(expiry);
                }
                known.header.clone_from(&header);
                known.problem = None;
                Ok(Header { value: header, number: known.number })
            }
            Err(problem) => {
                let problem: Arc<str> = format!("{}: {problem}", self.name).into();
                known.problem = Some(Arc::clone(&problem));
                Err(problem)
            }
        }
    }

    async fn obtain(&self) -> Result<Option<HeaderValue>, String> {
        let mut signer = self.signer.lock().await;
        if std::mem::take(&mut self.lock().stale) {
            *signer = None;
        }
        let ready = match &*signer {
            Some(ready) => ready.clone(),
            None => {
                let config = self.config.clone();
                let made = tokio::task::spawn_blocking(move || sign(&config)).await;
                let made = made.map_err(|_| "it ended abnormally".to_owned())?;
                self.lock().number += 1;
                signer.insert(made.map_err(|error| words(&error))?).clone()
            }
        };
        drop(signer);
        let signed = ready.oneshot(Request::new(Empty::new())).await;
        let signed = signed.map_err(|error| match error.downcast_ref::<kube::client::AuthError>() {
            Some(error) => auth_words(error),
            None => "its token cannot be used".to_owned(),
        })?;
        Ok(signed.body().get(AUTHORIZATION).cloned())
    }

    fn distrust(&self, number: u64) {
        self.lock().distrust(number);
    }

    fn facts(&self) -> (Option<SystemTime>, Option<Arc<str>>) {
        let known = self.lock();
        (known.expires, known.problem.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the provider and returns what puts its token on requests. Blocks.
fn sign(config: &kube::Config) -> kube::Result<Signer> {
    let echo = tower::service_fn(async |request: Request<Empty<Bytes>>| {
        Ok::<_, BoxError>(Response::new(request.headers().clone()))
    });
    Ok(match config.auth_layer()? {
        Some(layer) => BoxCloneSyncService::new(layer.layer(echo).map_err(BoxError::from)),
        None => BoxCloneSyncService::new(echo),
    })
}

fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Auth(error) => auth_words(error),
        _ => "its answer cannot be used".to_owned(),
    }
}

/// What a plugin did wrong, without what it printed: that may be a token.
fn auth_words(error: &kube::client::AuthError) -> String {
    use kube::client::AuthError as E;
    match error {
        E::AuthExecStart(error) => format!("cannot be run: {error}"),
        E::AuthExecRun { out, .. } => format!("failed with {}", out.status),
        E::AuthExecParse(_) | E::ParseTokenKey(_) => "its output cannot be read".to_owned(),
        E::ExecPluginFailed | E::UnrefreshableTokenResponse => "it gave no credentials".to_owned(),
        E::MissingCommand => "it names no command".to_owned(),
        E::MalformedTokenExpirationDate(_) => "its expiration date cannot be read".to_owned(),
        E::AuthExec(_) => "it is not supported or its output cannot be used".to_owned(),
        _ => "its answer cannot be used".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn z_24_no_debug_output_has_a_header() {
        // Not marked as sensitive: it does not hang on that.
        let header = Header { value: Some(HeaderValue::from_static("Bearer secret")), number: 7 };
        assert_eq!(format!("{header:?}"), "Header { number: 7, .. }");
    }

    #[test]
    fn k18_an_end_that_cannot_be_written_down_is_none() {
        let token = |exp: &str| format!("e30.{}.x", URL_SAFE_NO_PAD.encode(format!(r#"{{"exp": {exp}}}"#)));
        let last = expiry(&token("253402300799")).expect("a time");
        assert_eq!(humantime::format_rfc3339_millis(last).to_string(), "9999-12-31T23:59:59.000Z");
        for beyond in ["253402300800", "1e12", "9.2e18", "1e300", "-1"] {
            assert_eq!(expiry(&token(beyond)), None, "{beyond}");
        }
    }
}
