//! What may be said of an API server's credentials: everything but themselves.

use std::time::{Duration, SystemTime};

/// A way of saying who we are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum CredentialKind {
    /// A token that was given with the kubeconfig.
    Token,
    /// A token in a file.
    TokenFile,
    /// User name and password.
    Basic,
    /// A client certificate that was given with the kubeconfig.
    ClientCertificate,
    /// A client certificate in a file.
    ClientCertificateFile,
    /// A program.
    Exec,
    /// One of the Kubernetes client library's providers.
    AuthProvider,
}

impl CredentialKind {
    /// Its name in pages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Token => "token",
            Self::TokenFile => "token-file",
            Self::Basic => "basic",
            Self::ClientCertificate => "client-certificate",
            Self::ClientCertificateFile => "client-certificate-file",
            Self::Exec => "exec",
            Self::AuthProvider => "auth-provider",
        }
    }
}

/// How much time credentials have left (K-18).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Expiry {
    /// More than 30 days, or no end that is known.
    Far,
    /// At most 30 days.
    Within30Days,
    /// At most 7 days.
    Within7Days,
    /// None.
    Expired,
}

impl Expiry {
    /// Its name in pages and metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Far => "ok",
            Self::Within30Days => "within-30d",
            Self::Within7Days => "within-7d",
            Self::Expired => "expired",
        }
    }

    fn of(end: Option<SystemTime>, now: SystemTime) -> Self {
        const DAY: Duration = Duration::from_secs(24 * 3600);
        match end.map(|end| end.duration_since(now)) {
            None => Self::Far,
            Some(Err(_)) => Self::Expired,
            Some(Ok(left)) if left.is_zero() => Self::Expired,
            Some(Ok(left)) if left <= 7 * DAY => Self::Within7Days,
            Some(Ok(left)) if left <= 30 * DAY => Self::Within30Days,
            Some(Ok(_)) => Self::Far,
        }
    }
}

/// Credentials in use, without any secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// URL of the API server.
    pub server: String,
    /// SHA-256 over the certificates of its CA, whatever their order; `None`: the system's roots, or no TLS.
    /// With the URL it says which server a snapshot is of (D35).
    pub ca_sha256: Option<[u8; 32]>,
    /// What is presented, in the order of [`CredentialKind`]; empty: nothing.
    pub kinds: Vec<CredentialKind>,
    /// The earliest end of the client certificates, unless a plugin gives them.
    pub client_certificate_not_after: Option<SystemTime>,
    /// When the token expires: a JWT with `exp`.
    pub token_expires: Option<SystemTime>,
    /// What is wrong with their source at the moment, while the last good ones stay in use.
    pub problem: Option<String>,
}

impl Credentials {
    /// State of the client certificate (K-18).
    pub fn client_certificate(&self, now: SystemTime) -> Expiry {
        Expiry::of(self.client_certificate_not_after, now)
    }

    /// State of a token that was given once. One in a file or from a plugin is short-lived and renewed by
    /// somebody: it only counts once it has expired.
    pub fn token(&self, now: SystemTime) -> Expiry {
        match Expiry::of(self.token_expires, now) {
            Expiry::Within7Days | Expiry::Within30Days if !self.kinds.contains(&CredentialKind::Token) => {
                Expiry::Far
            }
            expiry => expiry,
        }
    }

    /// The worse of both.
    pub fn expiry(&self, now: SystemTime) -> Expiry {
        self.client_certificate(now).max(self.token(now))
    }
}
