//! TLS settings of one API server, made anew when the files behind them change (K-17).

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::client::ConfigExt;
use kube::config::AuthInfo;
use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use secrecy::ExposeSecret;

use super::credentials::is_brief;
use super::error::cause;
use super::exec::{Exec, Given};
use super::file::{Contents, CredentialFile, Readers};
use super::{CredentialKind, TransportError};

/// Why no TLS settings can be made.
#[derive(Debug, thiserror::Error)]
pub(super) enum TlsProblem {
    /// A file cannot be read: perhaps it can later.
    #[error("cannot read {path}: {error}")]
    Unreadable { path: PathBuf, error: Arc<str> },
    /// What there is cannot be used.
    #[error("{0}")]
    Unusable(Arc<str>),
}

/// Where PEM text is.
enum Pem {
    /// Here.
    Inline(Vec<u8>),
    /// In a file that may change.
    File(CredentialFile),
}

impl Pem {
    async fn read(&self) -> Result<Vec<u8>, TlsProblem> {
        match self {
            Self::Inline(pem) => Ok(pem.clone()),
            Self::File(file) => text(file, file.read().await),
        }
    }

    /// Inline data win over a file.
    fn given(
        data: Option<&str>,
        file: Option<&str>,
        readers: &Readers,
        what: &str,
    ) -> Result<Option<Self>, TlsProblem> {
        match (data, file) {
            (Some(data), _) => {
                let pem =
                    STANDARD.decode(data.trim()).map_err(|_| unusable(&format!("{what} is not base64")))?;
                Ok(Some(Self::Inline(pem)))
            }
            (None, Some(path)) => Ok(Some(Self::File(CredentialFile::new(path.into(), readers)))),
            (None, None) => Ok(None),
        }
    }
}

/// Makes TLS settings for new connections. Connections that are there keep theirs.
pub(super) struct Tls {
    config: kube::Config,
    ca_file: Option<CredentialFile>,
    identity: Option<(Pem, Pem)>,
    server_name: ServerName<'static>,
    exec: Option<Arc<Exec>>,
    current: Mutex<Current>,
}

#[derive(Default)]
struct Current {
    made: Option<Made>,
    problem: Option<Arc<str>>,
    /// How often who we are has changed, and how often when that was asked for last.
    changes: u64,
    changes_told: u64,
}

#[derive(Clone)]
struct Made {
    inputs: Inputs,
    config: Arc<ClientConfig>,
    facts: TlsFacts,
}

/// What the settings in use are made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct TlsFacts {
    /// Over the certificates of the CA, in order of their bytes; `None`: the system's roots.
    pub(super) ca_sha256: Option<[u8; 32]>,
    /// The earliest end of the client certificates.
    pub(super) not_after: Option<SystemTime>,
    /// Whether that one was made to last for days only.
    pub(super) is_brief: bool,
}

/// What there is besides what a program gives, PEM.
struct Texts {
    ca: Option<Vec<u8>>,
    /// Certificate and key.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

/// Everything that settings depend on.
#[derive(Clone, PartialEq, Eq)]
struct Inputs {
    ca: Option<Vec<Vec<u8>>>,
    /// Certificate and key, PEM.
    identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl Tls {
    /// Settings for what `config` says. Files are read, and programs run, when a connection is needed: either may
    /// take its time, and be better later.
    ///
    /// # Errors
    /// What is given inline cannot be used, whatever else there is.
    pub(super) fn new(
        config: &kube::Config,
        exec: Option<Arc<Exec>>,
        readers: &Readers,
    ) -> Result<Self, TlsProblem> {
        let host = config.cluster_url.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = config.tls_server_name.as_deref().unwrap_or(host);
        let server_name = ServerName::try_from(name.to_owned());
        let server_name =
            server_name.map_err(|_| unusable("the server's name cannot be in a certificate"))?;
        let auth = &config.auth_info;
        let tls = Self {
            ca_file: config.root_cert_file.clone().map(|path| CredentialFile::new(path, readers)),
            identity: identity(auth, readers)?,
            server_name,
            exec,
            current: Mutex::default(),
            config: bare(config),
        };
        let identity = match &tls.identity {
            Some((Pem::Inline(certificate), Pem::Inline(key))) => Some((certificate.clone(), key.clone())),
            _ => None,
        };
        if tls.ca_file.is_none() && tls.exec.is_none() && !tls.identity_in_files() {
            tls.refresh(None, Ok(Texts { ca: None, identity }))?;
        } else {
            // With no roots at all where they come from elsewhere.
            let ca = tls.config.root_cert.clone().filter(|_| tls.ca_file.is_none());
            tls.make(Inputs { ca: Some(ca.unwrap_or_default()), identity })?;
        }
        Ok(tls)
    }

    async fn read(&self) -> Result<Texts, TlsProblem> {
        let (ca, identity) = tokio::try_join!(self.read_ca(), self.read_identity())?;
        Ok(Texts { ca, identity })
    }

    async fn read_ca(&self) -> Result<Option<Vec<u8>>, TlsProblem> {
        let Some(file) = &self.ca_file else { return Ok(None) };
        text(file, file.read().await).map(Some)
    }

    async fn read_identity(&self) -> Result<Option<(Vec<u8>, Vec<u8>)>, TlsProblem> {
        let Some((certificate, key)) = &self.identity else { return Ok(None) };
        tokio::try_join!(certificate.read(), key.read()).map(Some)
    }

    pub(super) fn identity_in_files(&self) -> bool {
        let file = |pem: &Pem| matches!(pem, Pem::File(_));
        self.identity.as_ref().is_some_and(|(one, other)| file(one) || file(other))
    }

    pub(super) fn server_name(&self) -> ServerName<'static> {
        self.server_name.clone()
    }

    /// Settings for a new connection, by what the files say now. Files that cannot be read or used leave the
    /// last good settings in force.
    ///
    /// # Errors
    /// There were never any good ones.
    pub(super) async fn config(
        self: &Arc<Self>,
        server: &Arc<str>,
    ) -> Result<Arc<ClientConfig>, TransportError> {
        let tls = Arc::clone(self);
        let given = match &self.exec {
            Some(exec) => Some(exec.credential().await),
            None => None,
        };
        let texts = self.read().await;
        let made = tokio::task::spawn_blocking(move || tls.refresh(given, texts)).await;
        let cause = match made {
            Ok(Ok(config)) => return Ok(config),
            Ok(Err(problem)) => problem.to_string().into(),
            Err(_) => "reading them ended abnormally".into(),
        };
        Err(TransportError::Credentials { server: Arc::clone(server), cause })
    }

    /// Whether another connection may authenticate as somebody else.
    pub(super) fn identity_may_change(&self) -> bool {
        self.exec.is_some() || self.identity_in_files()
    }

    /// Whether the settings in use say that we are somebody else than when this was asked last.
    pub(super) fn has_new_identity(&self) -> bool {
        let mut current = self.lock();
        let now = current.changes;
        std::mem::replace(&mut current.changes_told, now) != now
    }

    /// How a client certificate is given; a program's is told by its own kind.
    pub(super) fn kind(&self) -> Option<CredentialKind> {
        match self.identity.as_ref()? {
            (Pem::Inline(_), Pem::Inline(_)) => Some(CredentialKind::ClientCertificate),
            _ => Some(CredentialKind::ClientCertificateFile),
        }
    }

    /// What the settings in use are made of, and what is wrong with the files.
    pub(super) fn facts(&self) -> (TlsFacts, Option<Arc<str>>) {
        let current = self.lock();
        // Before a program has run the CA is known all the same: a snapshot is pinned by it (D35).
        let given = || TlsFacts {
            ca_sha256: self.config.root_cert.as_deref().map(fingerprint),
            ..TlsFacts::default()
        };
        let facts = current.made.as_ref().map_or_else(given, |made| made.facts.clone());
        (facts, current.problem.clone())
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Blocks: the system's roots are files. `given`: by a program.
    fn refresh(
        &self,
        given: Option<Given>,
        texts: Result<Texts, TlsProblem>,
    ) -> Result<Arc<ClientConfig>, TlsProblem> {
        let last = self.lock().made.clone();
        let made = self.inputs(given, texts).and_then(|inputs| match last {
            Some(last) if last.inputs == inputs => Ok(last),
            _ => self.make(inputs),
        });
        let mut current = self.lock();
        match (made, &current.made) {
            (Ok(made), _) => {
                let config = Arc::clone(&made.config);
                let before = current.made.as_ref().map(|last| &last.inputs.identity);
                let changed = before.is_some_and(|before| *before != made.inputs.identity);
                current.changes += u64::from(changed);
                current.made = Some(made);
                current.problem = None;
                Ok(config)
            }
            (Err(problem), None) => {
                current.problem = Some(problem.to_string().into());
                Err(problem)
            }
            (Err(problem), Some(last)) => {
                let config = Arc::clone(&last.config);
                let text: Arc<str> = problem.to_string().into();
                if current.problem.as_ref() != Some(&text) {
                    tracing::warn!(%problem, "TLS files are not usable, the last good ones stay in force");
                }
                current.problem = Some(text);
                Ok(config)
            }
        }
    }

    fn inputs(&self, given: Option<Given>, texts: Result<Texts, TlsProblem>) -> Result<Inputs, TlsProblem> {
        // A program that fails says nothing of who we are: the last word stands.
        let given = given.transpose().map_err(TlsProblem::Unusable)?;
        let given = given.and_then(|credential| credential.identity.clone());
        let texts = texts?;
        let ca = match (&texts.ca, &self.ca_file) {
            (Some(pem), Some(file)) => Some(certificates(pem, file.path())?),
            _ => self.config.root_cert.clone(),
        };
        Ok(Inputs { ca, identity: texts.identity.or(given) })
    }

    fn make(&self, inputs: Inputs) -> Result<Made, TlsProblem> {
        let mut config = self.config.clone();
        config.root_cert.clone_from(&inputs.ca);
        if let Some((certificate, key)) = &inputs.identity {
            config.auth_info.client_certificate_data = Some(STANDARD.encode(certificate));
            config.auth_info.client_key_data = Some(STANDARD.encode(key).into());
        }
        let first = inputs.identity.as_ref().and_then(|(certificate, _)| first_to_end(certificate));
        let facts = TlsFacts {
            ca_sha256: inputs.ca.as_deref().map(fingerprint),
            not_after: first.map(|(until, _)| until),
            is_brief: first.is_some_and(|(until, from)| is_brief(Some(from), Some(until))),
        };
        let mut rustls = config.rustls_client_config().map_err(|error| unusable(&cause(&error)))?;
        rustls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Made { inputs, config: Arc::new(rustls), facts })
    }
}

/// Only what TLS settings are made of: no token is read and no provider asked for them.
fn bare(config: &kube::Config) -> kube::Config {
    let mut bare = kube::Config::new(config.cluster_url.clone());
    bare.root_cert.clone_from(&config.root_cert);
    bare.accept_invalid_certs = config.accept_invalid_certs;
    bare
}

fn identity(auth: &AuthInfo, readers: &Readers) -> Result<Option<(Pem, Pem)>, TlsProblem> {
    let set = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (data, file) = (set(&auth.client_certificate_data), set(&auth.client_certificate));
    let certificate = Pem::given(data.as_deref(), file.as_deref(), readers, "client-certificate-data")?;
    let data = auth.client_key_data.as_ref().map(|key| key.expose_secret()).filter(|key| !key.is_empty());
    let key = Pem::given(data, set(&auth.client_key).as_deref(), readers, "client-key-data")?;
    match (certificate, key) {
        (Some(certificate), Some(key)) => Ok(Some((certificate, key))),
        (None, None) => Ok(None),
        (Some(_), None) => Err(unusable("there is a client certificate without its key")),
        (None, Some(_)) => Err(unusable("there is a client key without its certificate")),
    }
}

fn text(file: &CredentialFile, contents: Contents) -> Result<Vec<u8>, TlsProblem> {
    let unreadable = |error| TlsProblem::Unreadable { path: file.path().to_owned(), error };
    contents.map(|bytes| bytes.to_vec()).map_err(unreadable)
}

fn certificates(pem: &[u8], path: &Path) -> Result<Vec<Vec<u8>>, TlsProblem> {
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match certificates {
        Ok(found) if !found.is_empty() => Ok(found.into_iter().map(|der| der.to_vec()).collect()),
        _ => Err(unusable(&format!("{} holds no certificate", path.display()))),
    }
}

fn fingerprint(certificates: &[Vec<u8>]) -> [u8; 32] {
    let mut sorted: Vec<_> = certificates.iter().collect();
    sorted.sort();
    sorted.dedup();
    let mut context = ring::digest::Context::new(&ring::digest::SHA256);
    sorted.into_iter().for_each(|certificate| context.update(certificate));
    let mut hash = [0; 32];
    hash.copy_from_slice(context.finish().as_ref());
    hash
}

pub(super) fn earliest_end(pem: &[u8]) -> Option<SystemTime> {
    first_to_end(pem).map(|(until, _)| until)
}

/// Until when and from when the first certificate to end is valid.
fn first_to_end(pem: &[u8]) -> Option<(SystemTime, SystemTime)> {
    let at = |seconds: i64| {
        SystemTime::UNIX_EPOCH.checked_add(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let lives = CertificateDer::pem_slice_iter(pem).filter_map(|certificate| {
        let certificate = certificate.ok()?;
        let (_, parsed) = x509_parser::parse_x509_certificate(&certificate).ok()?;
        let validity = parsed.validity();
        Some((at(validity.not_after.timestamp())?, at(validity.not_before.timestamp())?))
    });
    lives.min()
}

fn unusable(why: &str) -> TlsProblem {
    TlsProblem::Unusable(why.into())
}
