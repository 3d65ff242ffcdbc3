//! Workload identities as SPIFFE URIs.

use std::fmt;
use std::str::FromStr;

use super::TrustError;

/// `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`: who a workload is. Printing and parsing are
/// exact inverses; the cluster is no part of it (the same namespace and account are the same identity
/// everywhere).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SpiffeId {
    trust_domain: String,
    namespace: String,
    service_account: String,
}

impl SpiffeId {
    /// An identity from its parts.
    ///
    /// # Errors
    /// [`TrustError::Identity`] when a part is empty or has characters that would make the URI ambiguous.
    pub fn new(
        trust_domain: impl Into<String>,
        namespace: impl Into<String>,
        service_account: impl Into<String>,
    ) -> Result<Self, TrustError> {
        let id = Self {
            trust_domain: trust_domain.into(),
            namespace: namespace.into(),
            service_account: service_account.into(),
        };
        let parts = [
            ("trust domain", &id.trust_domain),
            ("namespace", &id.namespace),
            ("service account", &id.service_account),
        ];
        for (what, part) in parts {
            if !is_plain(part) {
                return Err(TrustError::Identity {
                    text: id.to_string(),
                    problem: format!("its {what} is {part:?}"),
                });
            }
        }
        Ok(id)
    }

    /// The trust domain, `cluster.local` unless configured otherwise.
    pub fn trust_domain(&self) -> &str {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

/// One path segment of a SPIFFE id: letters, digits, `.`, `-`, `_` (SPIFFE-ID 2.2), and not a dot segment.
fn is_plain(part: &str) -> bool {
    !part.is_empty()
        && part != "."
        && part != ".."
        && part
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "spiffe://{}/ns/{}/sa/{}",
            self.trust_domain, self.namespace, self.service_account
        )
    }
}

impl FromStr for SpiffeId {
    type Err = TrustError;

    fn from_str(text: &str) -> Result<Self, TrustError> {
        let malformed = |problem: &str| TrustError::Identity {
            text: text.to_owned(),
            problem: problem.to_owned(),
        };
        let rest = text
            .strip_prefix("spiffe://")
            .ok_or_else(|| malformed("it does not start with spiffe://"))?;
        let mut parts = rest.split('/');
        let (domain, ns, namespace, sa, account) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        );
        match (domain, ns, namespace, sa, account, parts.next()) {
            (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Self::new(domain, namespace, account)
            }
            _ => Err(malformed(
                "expected spiffe://<trust domain>/ns/<namespace>/sa/<service account>",
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_what_it_parsed() {
        for text in [
            "spiffe://cluster.local/ns/sample/sa/sleep",
            "spiffe://td-2.example/ns/a/sa/default",
        ] {
            assert_eq!(text.parse::<SpiffeId>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn refuses_what_is_not_a_workload_identity() {
        let bad = [
            "",
            "https://cluster.local/ns/a/sa/b",
            "spiffe://cluster.local/ns/a",
            "spiffe://cluster.local/ns/a/sa/b/c",
            "spiffe://cluster.local/ns/a/sa/",
            "spiffe:///ns/a/sa/b",
            "spiffe://cluster.local/ns/../sa/b",
            "spiffe://cluster.local/ns/a/sa/b?x",
            "spiffe://cluster.local/sa/a/ns/b",
        ];
        for text in bad {
            let error = text.parse::<SpiffeId>().unwrap_err().to_string();
            assert!(error.contains("identity"), "{text}: {error}");
        }
    }

    #[test]
    fn parts_cannot_smuggle_a_path() {
        assert!(SpiffeId::new("cluster.local", "a/sa/root", "b").is_err());
    }
}
