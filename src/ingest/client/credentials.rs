//! What may be said of an API server's credentials: everything but themselves.

use std::time::SystemTime;

use crate::model::CredentialFacts;

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
    /// What is wrong with their source at the moment, while the last good ones stay in use.
    pub problem: Option<String>,
}

impl Credentials {
    /// What operators are told of.
    pub fn facts(&self) -> CredentialFacts {
        let given_once = self.kinds.contains(&CredentialKind::Token);
        let (given, renewed) =
            if given_once { (self.token_expires, None) } else { (None, self.token_expires) };
        let given_until = [self.client_certificate_not_after, given].into_iter().flatten().min();
        CredentialFacts { given_until, renewed_until: renewed, problem: self.problem.clone() }
    }
}
