//! The CA as a whole: load, issue, verify, renew, refuse.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use x509_parser::extensions::GeneralName;

use super::authority::verify;
use super::*;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000)
}

fn planted() -> (tempfile::TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let cas = plant(dir.path(), &["east", "west"], now()).unwrap();
    (dir, cas)
}

fn sleep() -> SpiffeId {
    SpiffeId::parse("spiffe://cluster.local/ns/sample/sa/sleep").unwrap()
}

fn certificates(pem: &[u8]) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().unwrap()
}

fn load_error(dir: &Path) -> String {
    Authority::load(dir, now()).unwrap_err().to_string()
}

#[test]
fn certificates_of_both_intermediates_verify_under_the_one_root() {
    let (_dir, cas) = planted();
    let east = Authority::load(&cas[0], now()).unwrap();
    let west = Authority::load(&cas[1], now()).unwrap();
    assert_eq!(east.root_pem(), west.root_pem());
    let roots = certificates(&east.root_pem());
    for authority in [&east, &west] {
        let issued = authority.issue(&sleep(), HOUR, now()).unwrap();
        verify(&roots, &issued.chain_pem, now()).unwrap();
        assert!(!certificates(issued.chain_pem.as_bytes()).contains(&roots[0]), "the root is not sent");
        assert_eq!(certificates(issued.chain_pem.as_bytes()).len(), 2);
    }
}

#[test]
fn a_certificate_of_another_root_does_not_verify() {
    let (_dir, cas) = planted();
    let (_other_dir, others) = planted();
    let stranger = Authority::load(&others[0], now()).unwrap().issue(&sleep(), HOUR, now()).unwrap();
    let roots = certificates(&Authority::load(&cas[0], now()).unwrap().root_pem());
    assert!(verify(&roots, &stranger.chain_pem, now()).is_err());
}

#[test]
fn leaf_carries_the_identity_and_nothing_else() {
    let (_dir, cas) = planted();
    let issued = Authority::load(&cas[0], now()).unwrap().issue(&sleep(), HOUR, now()).unwrap();
    let leaf = certificates(issued.chain_pem.as_bytes()).swap_remove(0);
    let (_, leaf) = x509_parser::parse_x509_certificate(&leaf).unwrap();
    assert_eq!(leaf.subject().iter().count(), 0);
    let san = leaf.subject_alternative_name().unwrap().unwrap();
    assert!(san.critical);
    assert_eq!(san.value.general_names, [GeneralName::URI("spiffe://cluster.local/ns/sample/sa/sleep")]);
    assert!(!leaf.basic_constraints().unwrap().unwrap().value.ca);
    let usage = leaf.key_usage().unwrap().unwrap().value;
    assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
    let extended = leaf.extended_key_usage().unwrap().unwrap().value;
    assert!(extended.server_auth && extended.client_auth && !extended.any);
    let seconds = |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs() as i64;
    assert_eq!(leaf.validity().not_before.timestamp(), seconds(now()) - 120);
    assert_eq!(leaf.validity().not_after.timestamp(), seconds(now() + HOUR));
    assert_eq!(issued.not_after, now() + HOUR);
}

#[test]
fn validity_ends_with_the_signer() {
    let (_dir, cas) = planted();
    let authority = Authority::load(&cas[0], now()).unwrap();
    let year = 365 * 24 * HOUR;
    let issued = authority.issue(&sleep(), 10 * year, now()).unwrap();
    assert_eq!(issued.not_after, now() + year);
    let after = authority.issue(&sleep(), HOUR, now() + year + HOUR).unwrap_err();
    assert!(after.to_string().contains("expired"), "{after}");
}

#[test]
fn debug_output_has_no_key() {
    let (_dir, cas) = planted();
    let files = CaFiles::read(&cas[0]).unwrap();
    let issued = Authority::from_files(&files, now()).unwrap().issue(&sleep(), HOUR, now()).unwrap();
    assert!(issued.key_pem.reveal().contains("PRIVATE KEY"));
    assert!(!format!("{files:?} {issued:?}").contains("PRIVATE"));
}

#[test]
fn every_missing_file_is_named() {
    let (_dir, cas) = planted();
    fs::remove_file(cas[0].join("ca-key.pem")).unwrap();
    fs::remove_file(cas[0].join("root-cert.pem")).unwrap();
    let error = load_error(&cas[0]);
    assert!(error.contains("lacks ca-key.pem, root-cert.pem;"), "{error}");
    let error = load_error(Path::new("/nonexistent"));
    assert!(error.contains("/nonexistent lacks ca-cert.pem, ca-key.pem,"), "{error}");
}

#[test]
fn a_key_of_another_certificate_is_refused() {
    let (_dir, cas) = planted();
    fs::copy(cas[1].join("ca-key.pem"), cas[0].join("ca-key.pem")).unwrap();
    let error = load_error(&cas[0]);
    assert!(error.contains("ca-key.pem is unusable: it is not the key of ca-cert.pem"), "{error}");
}

#[test]
fn a_chain_to_another_root_is_refused() {
    let (_dir, cas) = planted();
    let (_other_dir, others) = planted();
    fs::copy(others[0].join("root-cert.pem"), cas[0].join("root-cert.pem")).unwrap();
    let error = load_error(&cas[0]);
    assert!(error.contains("does not chain to root-cert.pem"), "{error}");
}

#[test]
fn a_leaf_is_no_authority() {
    let (dir, cas) = planted();
    let issued = Authority::load(&cas[0], now()).unwrap().issue(&sleep(), HOUR, now()).unwrap();
    let mut files = CaFiles::read(&cas[0]).unwrap();
    files.dir = dir.path().join("leaf");
    files.ca_cert.clone_from(&issued.chain_pem);
    files.ca_key = issued.key_pem;
    files.write().unwrap();
    let error = load_error(&files.dir);
    assert!(error.contains("ca-cert.pem is unusable: it is no CA certificate"), "{error}");
}

#[test]
fn garbage_is_refused_by_file() {
    for name in ["ca-cert.pem", "ca-key.pem", "cert-chain.pem", "root-cert.pem"] {
        let (_dir, cas) = planted();
        fs::write(cas[0].join(name), "not a pem file").unwrap();
        let error = load_error(&cas[0]);
        assert!(error.contains(&format!("{name} is unusable")), "{error}");
    }
}

#[test]
fn an_expired_authority_is_refused() {
    let (_dir, cas) = planted();
    let error = Authority::load(&cas[0], now() + 400 * 24 * HOUR).unwrap_err().to_string();
    assert!(error.contains("ca-cert.pem is unusable") && error.contains("expired"), "{error}");
}

#[test]
fn a_self_signed_root_signs_without_intermediates() {
    let (dir, cas) = planted();
    let key = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root = params.self_signed(&key).unwrap().pem();
    let mut files = CaFiles::read(&cas[0]).unwrap();
    files.dir = dir.path().join("root");
    files.ca_key = Secret::new(key.serialize_pem());
    for text in [&mut files.ca_cert, &mut files.cert_chain, &mut files.root_cert] {
        text.clone_from(&root);
    }
    let issued = Authority::from_files(&files, now()).unwrap().issue(&sleep(), HOUR, now()).unwrap();
    assert_eq!(certificates(issued.chain_pem.as_bytes()).len(), 1);
}

#[cfg(unix)]
#[test]
fn keys_are_private_files() {
    use std::os::unix::fs::PermissionsExt as _;
    let (_dir, cas) = planted();
    let mode = fs::metadata(cas[0].join("ca-key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

/// A source whose clock is `start` plus a number of seconds the test sets.
fn source_with_clock() -> (WorkloadCertificates, Arc<AtomicU64>) {
    let (_dir, cas) = planted();
    let elapsed = Arc::new(AtomicU64::new(0));
    let hand = Arc::clone(&elapsed);
    let clock: Clock = Arc::new(move || now() + Duration::from_secs(hand.load(Ordering::SeqCst)));
    let authority = Authority::load(&cas[0], now()).unwrap();
    (WorkloadCertificates::with_clock(authority, DEFAULT_TTL, clock), elapsed)
}

#[test]
fn one_certificate_per_identity_until_half_of_its_life() {
    let (source, elapsed) = source_with_clock();
    let first = source.workload_certificate(&sleep()).unwrap();
    elapsed.store(12 * 3600 - 1, Ordering::SeqCst);
    assert!(Arc::ptr_eq(&first, &source.workload_certificate(&sleep()).unwrap()));
    elapsed.store(12 * 3600, Ordering::SeqCst);
    let second = source.workload_certificate(&sleep()).unwrap();
    assert_ne!(first.chain_pem, second.chain_pem);
    assert_eq!(second.not_after, now() + DEFAULT_TTL / 2 + DEFAULT_TTL);
    assert!(Arc::ptr_eq(&second, &source.workload_certificate(&sleep()).unwrap()));
}

#[test]
fn callers_at_once_get_the_same_certificate() {
    let (source, _) = source_with_clock();
    let seen = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let issued = source.workload_certificate(&sleep()).unwrap();
                seen.lock().unwrap().push(issued);
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.iter().all(|issued| Arc::ptr_eq(issued, &seen[0])));
}
