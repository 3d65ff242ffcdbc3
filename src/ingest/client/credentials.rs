//! What may be said of an API server's credentials: everything but themselves.

use std::time::{Duration, SystemTime};

use crate::model::CredentialFacts;

/// What lasts no longer from its beginning to its end is exchanged as a matter of course.
const BRIEF: Duration = Duration::from_secs(14 * 24 * 3600);

/// Whether what is valid from then to then is exchanged as a matter of course.
pub(super) fn is_brief(from: Option<SystemTime>, until: Option<SystemTime>) -> bool {
    let life = from.zip(until).map(|(from, until)| until.duration_since(from).unwrap_or_default());
    life.is_some_and(|life| life <= BRIEF)
}

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
    /// The earliest end of the client certificates, unless a plugin gives them: those end with its token.
    pub client_certificate_not_after: Option<SystemTime>,
    /// When the token expires, a JWT with `exp`, or what a program gave.
    pub token_expires: Option<SystemTime>,
    /// Whether what was given once was made to last for days only: somebody exchanges it all the time.
    pub is_brief: bool,
    /// What is wrong with their source at the moment, while the last good ones stay in use.
    pub problem: Option<String>,
}

impl Credentials {
    /// What operators are told of.
    pub fn facts(&self) -> CredentialFacts {
        let given_once = self.kinds.contains(&CredentialKind::Token);
        let (token, renewed) =
            if given_once { (self.token_expires, None) } else { (None, self.token_expires) };
        let given = [self.client_certificate_not_after, token].into_iter().flatten().min();
        let (given_until, renewed_until) =
            if self.is_brief { (None, given.into_iter().chain(renewed).min()) } else { (given, renewed) };
        CredentialFacts { given_until, renewed_until, problem: self.problem.clone() }
    }
}
