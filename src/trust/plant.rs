//! A root and one intermediate per cluster, for labs and tests.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    KeyUsagePurpose,
};
use time::OffsetDateTime;

use super::{CaFiles, Secret, TrustError};

/// A planted CA serves for a lab or a test run, not for years.
const LIFE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Makes a root CA in memory and, for each name in `clusters`, an intermediate under it in the `cacerts`
/// layout at `<dir>/<name>/`. The root's key is forgotten on return, so the set cannot grow: a second planting
/// is another root. Returns the directories in the order of `clusters`.
///
/// # Errors
/// [`TrustError::File`] when a directory cannot be written, [`TrustError::Unusable`] when signing fails.
pub fn plant(dir: &Path, clusters: &[&str], now: SystemTime) -> Result<Vec<PathBuf>, TrustError> {
    let failed = |error: rcgen::Error| TrustError::Unusable {
        path: dir.to_owned(),
        problem: format!("cannot make a CA for it: {error}"),
    };
    let root = KeyPair::generate()
        .and_then(|key| CertifiedIssuer::self_signed(ca_params("tombolo root", now), key))
        .map_err(failed)?;
    clusters
        .iter()
        .map(|name| {
            let files = intermediate(dir.join(name), name, &root, now).map_err(failed)?;
            files.write()?;
            Ok(files.dir)
        })
        .collect()
}

fn intermediate(
    dir: PathBuf,
    name: &str,
    root: &CertifiedIssuer<'_, KeyPair>,
    now: SystemTime,
) -> Result<CaFiles, rcgen::Error> {
    let key = KeyPair::generate()?;
    let mut params = ca_params(&format!("tombolo intermediate {name}"), now);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let ca_cert = params.signed_by(&key, root)?.pem();
    Ok(CaFiles {
        dir,
        cert_chain: ca_cert.clone() + &root.pem(),
        ca_cert,
        ca_key: Secret::new(key.serialize_pem()),
        root_cert: root.pem(),
    })
}

fn ca_params(common_name: &str, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "tombolo");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = OffsetDateTime::from(now - Duration::from_secs(3600));
    params.not_after = OffsetDateTime::from(now + LIFE);
    params
}
