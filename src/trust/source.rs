//! Where the xDS server gets secrets from.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use dashmap::DashMap;

use super::{Authority, Issued, SpiffeId, TrustError};

/// Life of a workload certificate unless configured otherwise.
pub const DEFAULT_TTL: Duration = Duration::from_secs(24 * 3600);

/// The time, from outside: tests turn it by hand.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// Answers SDS: the certificate of an identity (`default`) and the roots (`ROOTCA`). Calls return at once, or
/// after one signature.
pub trait SecretSource: Send + Sync {
    /// The current certificate of `id`; the same one for everybody until half of its life is over
    /// ([`Issued::renew_after`]).
    ///
    /// # Errors
    /// [`TrustError::Issue`] when it cannot be signed.
    fn workload_certificate(&self, id: &SpiffeId) -> Result<Arc<Issued>, TrustError>;

    /// The PEM bundle of roots that peers are verified against.
    fn root_certificates(&self) -> Bytes;
}

/// One certificate per identity, issued on demand by an [`Authority`] and renewed at half of its life.
pub struct WorkloadCertificates {
    authority: Authority,
    ttl: Duration,
    clock: Clock,
    issued: DashMap<SpiffeId, Arc<Issued>>,
}

impl std::fmt::Debug for WorkloadCertificates {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("WorkloadCertificates")
            .field("authority", &self.authority)
            .field("ttl", &self.ttl)
            .field("identities", &self.issued.len())
            .finish_non_exhaustive()
    }
}

impl WorkloadCertificates {
    /// Certificates of `authority` by the system's clock, with [`DEFAULT_TTL`].
    pub fn new(authority: Authority) -> Self {
        Self::with_clock(authority, DEFAULT_TTL, Arc::new(SystemTime::now))
    }

    /// Certificates of `authority` that live for `ttl` by `clock`.
    pub fn with_clock(authority: Authority, ttl: Duration, clock: Clock) -> Self {
        Self { authority, ttl, clock, issued: DashMap::new() }
    }

    fn fresh(&self, id: &SpiffeId, now: SystemTime) -> Option<Arc<Issued>> {
        let kept = self.issued.get(id).map(|entry| Arc::clone(&entry))?;
        (now < kept.renew_after).then_some(kept)
    }
}

impl SecretSource for WorkloadCertificates {
    fn workload_certificate(&self, id: &SpiffeId) -> Result<Arc<Issued>, TrustError> {
        let now = (self.clock)();
        if let Some(kept) = self.fresh(id, now) {
            return Ok(kept);
        }
        // Signed outside the map's lock; of two callers at once the first to arrive decides for both.
        let signed = Arc::new(self.authority.issue(id, self.ttl, now)?);
        let mut entry = self.issued.entry(id.clone()).or_insert_with(|| Arc::clone(&signed));
        if now >= entry.renew_after {
            *entry = signed;
        }
        Ok(Arc::clone(&entry))
    }

    fn root_certificates(&self) -> Bytes {
        self.authority.root_pem()
    }
}
