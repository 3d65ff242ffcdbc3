//! Signs workload certificates.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rcgen::{
    CertificateParams, DistinguishedName, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData as _, SanType,
};
use rustls::RootCertStore;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, UnixTime};
use time::OffsetDateTime;

use super::cacerts::{CA_CERT, CA_KEY, CERT_CHAIN, ROOT_CERT};
use super::{CaFiles, Secret, SpiffeId, TrustError};

/// How far a certificate's validity reaches back, for peers whose clock is behind.
const CLOCK_SKEW: Duration = Duration::from_secs(120);

/// One workload certificate with its key.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Leaf, then the intermediates; without the root.
    pub chain_pem: String,
    /// PKCS#8.
    pub key_pem: Secret,
    /// End of validity.
    pub not_after: SystemTime,
    /// Half of its life is over: whoever asks from here on gets a new one.
    pub renew_after: SystemTime,
}

/// A CA that signs for workloads: an intermediate (or a root) with its key, and the roots proxies trust.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    /// End of validity of the signing certificate; nothing issued outlives it.
    not_after: SystemTime,
    /// What follows a leaf: the signing certificate and those above it, without roots.
    intermediates_pem: String,
    root_pem: Bytes,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("not_after", &self.not_after).finish_non_exhaustive()
    }
}

impl Authority {
    /// Loads the CA in `dir` (`cacerts` layout) and checks that it can do its work at `now`: the certificate
    /// is a CA's, the key is its key, and what it issues verifies against its roots.
    ///
    /// # Errors
    /// [`TrustError`] naming the file at fault.
    pub fn load(dir: &Path, now: SystemTime) -> Result<Self, TrustError> {
        Self::from_files(&CaFiles::read(dir)?, now)
    }

    /// Like [`Authority::load`], from files already read.
    ///
    /// # Errors
    /// [`TrustError`] naming the file at fault.
    pub fn from_files(files: &CaFiles, now: SystemTime) -> Result<Self, TrustError> {
        let key = KeyPair::from_pem(files.ca_key.reveal()).map_err(|error| {
            let hint = "expected an unencrypted PKCS#8 key (BEGIN PRIVATE KEY); openssl pkcs8 -topk8 -nocrypt converts";
            files.unusable(CA_KEY, format!("{error}; {hint}"))
        })?;
        let signer = files.certificates(CA_CERT, &files.ca_cert)?.swap_remove(0);
        let not_after = check_signer(files, &signer, &key)?;
        let roots = files.certificates(ROOT_CERT, &files.root_cert)?;
        let chain = files.certificates(CERT_CHAIN, &files.cert_chain)?;
        let issuer = Issuer::from_ca_cert_der(&signer, key)
            .map_err(|error| files.unusable(CA_CERT, format!("cannot sign with it: {error}")))?;
        let authority = Self {
            issuer,
            not_after,
            intermediates_pem: intermediates(&signer, chain, &roots),
            root_pem: Bytes::from(files.root_cert.clone()),
        };
        authority.check_own_work(files, &roots, now)?;
        Ok(authority)
    }

    /// Signs a fresh ECDSA P-256 key for `id`, valid from two minutes before `now` until `ttl` after it, but
    /// never longer than the signing certificate.
    ///
    /// # Errors
    /// [`TrustError::Issue`].
    pub fn issue(&self, id: &SpiffeId, ttl: Duration, now: SystemTime) -> Result<Issued, TrustError> {
        let failed = |problem: String| TrustError::Issue { identity: id.to_string(), problem };
        if SpiffeId::parse(&id.to_string()).as_ref() != Some(id) {
            return Err(failed("it is not a plain SPIFFE id of a workload".to_owned()));
        }
        let not_after = now.checked_add(ttl).map_or(self.not_after, |end| end.min(self.not_after));
        let life = not_after
            .duration_since(now)
            .map_err(|_| failed("the signing certificate has expired; renew the CA".to_owned()))?;
        let key = KeyPair::generate().map_err(|error| failed(error.to_string()))?;
        let leaf = leaf_params(id, now - CLOCK_SKEW, not_after)
            .and_then(|params| params.signed_by(&key, &self.issuer))
            .map_err(|error| failed(error.to_string()))?;
        Ok(Issued {
            chain_pem: leaf.pem() + &self.intermediates_pem,
            key_pem: Secret::new(key.serialize_pem()),
            not_after,
            renew_after: now + life / 2,
        })
    }

    /// The roots, as in `root-cert.pem`.
    pub fn root_pem(&self) -> Bytes {
        self.root_pem.clone()
    }

    /// A certificate of ours must verify against our roots: proves the chain from the signer upwards.
    fn check_own_work(
        &self,
        files: &CaFiles,
        roots: &[CertificateDer<'static>],
        now: SystemTime,
    ) -> Result<(), TrustError> {
        let probe = SpiffeId {
            trust_domain: "self.test".into(),
            namespace: "self".into(),
            service_account: "test".into(),
        };
        let issued = self
            .issue(&probe, Duration::from_secs(60), now)
            .map_err(|error| files.unusable(CA_CERT, error))?;
        verify(roots, &issued.chain_pem, now).map_err(|problem| {
            files.unusable(
                CERT_CHAIN,
                format!("{CA_CERT} does not chain to {ROOT_CERT} through it: {problem}"),
            )
        })
    }
}

/// Checks that `signer` is a CA certificate for `key`; returns the end of its validity.
fn check_signer(
    files: &CaFiles,
    signer: &CertificateDer<'_>,
    key: &KeyPair,
) -> Result<SystemTime, TrustError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(signer)
        .map_err(|error| files.unusable(CA_CERT, format!("not an X.509 certificate: {error}")))?;
    if !parsed.is_ca() {
        return Err(files.unusable(CA_CERT, "it is no CA certificate (basicConstraints CA:true is missing)"));
    }
    if parsed.public_key().raw != key.subject_public_key_info() {
        return Err(files.unusable(CA_KEY, format!("it is not the key of {CA_CERT}")));
    }
    let seconds = u64::try_from(parsed.validity().not_after.timestamp()).unwrap_or(0);
    Ok(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds))
}

/// The certificates to send after a leaf, as PEM: the signer first, then the rest of the chain, no roots.
fn intermediates(
    signer: &CertificateDer<'static>,
    chain: Vec<CertificateDer<'static>>,
    roots: &[CertificateDer<'static>],
) -> String {
    std::iter::once(signer.clone())
        .chain(chain.into_iter().filter(|certificate| certificate != signer))
        .filter(|certificate| !roots.contains(certificate))
        .map(|certificate| pem_block(&certificate))
        .collect()
}

fn pem_block(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let mut pem = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, tail) = rest.split_at(rest.len().min(64));
        pem.push_str(line);
        pem.push('\n');
        rest = tail;
    }
    pem + "-----END CERTIFICATE-----\n"
}

/// The contents of a workload certificate: empty subject, so that the URI SAN is critical (RFC 5280 4.2.1.6).
fn leaf_params(
    id: &SpiffeId,
    not_before: SystemTime,
    not_after: SystemTime,
) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.to_string().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.not_before = OffsetDateTime::from(not_before);
    params.not_after = OffsetDateTime::from(not_after);
    Ok(params)
}

/// Verifies a chain (leaf first) as a TLS server would verify its client.
pub(super) fn verify(
    roots: &[CertificateDer<'static>],
    chain_pem: &str,
    now: SystemTime,
) -> Result<(), String> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store.add(root.clone()).map_err(|error| format!("a root is unusable: {error}"))?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider)
        .build()
        .map_err(|error| error.to_string())?;
    let mut chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes())
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| error.to_string())?;
    let since = now.duration_since(SystemTime::UNIX_EPOCH).map_err(|error| error.to_string())?;
    let leaf = chain.remove(0);
    verifier
        .verify_client_cert(&leaf, &chain, UnixTime::since_unix_epoch(since))
        .map(|_| ())
        .map_err(|error| error.to_string())
}
