//! Kubeconfigs of remote clusters: only what is known to be harmless is taken over (Z-01…Z-05, Z-07, Z-08).

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{AuthInfo, AuthProviderConfig, Cluster, ExecAuthCluster, ExecConfig};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use super::policy::{is_set, shown};
use super::{KubeconfigPolicy, KubeconfigRules, Refusal, server, verdict};
use crate::ingest::client::AddressPolicy;

/// Largest kubeconfig that is read (Z-07).
pub const MAX_BYTES: usize = 1 << 20;

/// A remote kubeconfig that passed.
#[derive(Clone)]
pub struct RemoteKubeconfig {
    /// The name of the cluster it describes (R1.11).
    pub cluster_name: String,
    /// Hash of its bytes: equal bytes are the same credentials (R1.5).
    pub hash: u128,
    /// What to connect with.
    pub config: Arc<kube::Config>,
}

impl fmt::Debug for RemoteKubeconfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RemoteKubeconfig").field("cluster_name", &self.cluster_name).finish_non_exhaustive()
    }
}

/// Whether a text may be a cluster id (Z-09): it reaches metrics, logs and Envoy. DNS-1123, and also upper
/// case letters and underscores, which Secret keys and kubeconfigs of managed clusters have.
///
/// # Errors
/// It may not.
pub fn check_cluster_id(id: &str) -> Result<(), Refusal> {
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let inner = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        !bytes.is_empty()
            && bytes.len() <= 63
            && bytes.iter().all(inner)
            && bytes.first().is_some_and(u8::is_ascii_alphanumeric)
            && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
    };
    if id.len() <= 253 && id.split('.').all(label) {
        Ok(())
    } else {
        let shown: String = id.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect();
        Err(Refusal::ClusterId(shown))
    }
}

impl RemoteKubeconfig {
    /// Reads and checks a kubeconfig. No file is opened, no process started, no variable read: what the rules
    /// permit to reach into this machine does so when a connection is made.
    ///
    /// # Errors
    /// Names the first field that is missing, wrong or not allowed; never its content.
    pub fn parse(bytes: &[u8], rules: impl Into<KubeconfigRules>) -> Result<Self, Refusal> {
        let KubeconfigRules { addresses, policy } = rules.into();
        if bytes.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let document = yaml(bytes)?;
        check_document(&document)?;
        let (cluster_name, user) = selected(&document)?;
        let cluster = entry(&document, "clusters", "cluster", &cluster_name)?;
        let mut config = cluster_config(cluster, &addresses)?;
        if let Some(user) = user {
            config.auth_info = auth(entry(&document, "users", "user", &user)?, cluster, policy.strict())?;
        }
        Ok(Self { cluster_name, hash: xxh3_128(bytes), config: Arc::new(config) })
    }
}

fn yaml(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed(String::new()))?;
    let value: Value = serde_saphyr::from_str_with_options(text, limits()).map_err(|error| {
        let place = error.location().map(|at| format!(" at line {}", at.line()));
        Refusal::Malformed(place.unwrap_or_default())
    })?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::Malformed(String::new())),
    }
}

/// A kubeconfig of 500 clusters fits; what is made to cost time does not (Z-07).
fn limits() -> serde_saphyr::Options {
    serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_events: 50_000,
            max_nodes: 20_000,
            max_depth: 24,
            flow_nesting_limit: 24,
            max_documents: 1,
            max_anchors: 100,
            max_aliases: 100,
            max_recorded_anchor_events: 10_000,
            max_recorded_anchor_bytes: MAX_BYTES,
            max_merge_keys: 100,
        },
        duplicate_keys: serde_saphyr::options::DuplicateKeyPolicy::Error,
        with_snippet: false,
    }
}

/// What a kubeconfig consists of.
const TOP: [&str; 8] =
    ["apiVersion", "kind", "preferences", "clusters", "users", "contexts", "current-context", "extensions"];
/// What a context consists of.
const CONTEXT: [&str; 4] = ["cluster", "user", "namespace", "extensions"];

/// Z-01: what is not known is refused, whatever it would have meant.
fn known(map: &Map<String, Value>, fields: &[&str]) -> Result<(), Refusal> {
    let mut others = map.iter().filter(|(name, value)| is_set(value) && !fields.contains(&name.as_str()));
    match others.next() {
        Some((name, _)) => Err(Refusal::NotAllowed(shown(name), "the field is not known")),
        None => Ok(()),
    }
}

fn check_document(document: &Map<String, Value>) -> Result<(), Refusal> {
    known(document, &TOP)?;
    if text(document, "kind")?.is_some_and(|kind| kind != "Config") {
        return Err(Refusal::Invalid("kind", "must be Config"));
    }
    if text(document, "apiVersion")?.is_some_and(|version| version != "v1") {
        return Err(Refusal::Invalid("apiVersion", "must be v1"));
    }
    Ok(())
}

/// The entries of a list by name. Which of two of one name counts is nothing to guess (Z-07).
fn list<'a>(
    document: &'a Map<String, Value>,
    name: &'static str,
) -> Result<BTreeMap<&'a str, &'a Map<String, Value>>, Refusal> {
    let entries = match document.get(name) {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err(Refusal::Invalid(name, "must be a list")),
    };
    let mut named = BTreeMap::new();
    for entry in entries {
        let entry = entry.as_object().ok_or(Refusal::Invalid(name, "has an entry that is no object"))?;
        let own = match entry.get("name") {
            None | Some(Value::Null) => continue,
            Some(Value::String(own)) => own.as_str(),
            Some(_) => return Err(Refusal::Invalid(name, "has a name that is no text")),
        };
        if named.insert(own, entry).is_some() {
            return Err(Refusal::Invalid(name, "has two entries of one name"));
        }
    }
    Ok(named)
}

/// R1.11: the current context, else the first context by name that has a cluster, else the first cluster by
/// name. The user is that context's.
fn selected(document: &Map<String, Value>) -> Result<(String, Option<String>), Refusal> {
    let current = text(document, "current-context")?.unwrap_or_default();
    let mut contexts: Vec<_> = list(document, "contexts")?.into_iter().collect();
    contexts.sort_by_key(|(name, _)| (*name != current, *name));
    for (_, entry) in contexts {
        let context = match entry.get("context") {
            None | Some(Value::Null) => continue,
            Some(Value::Object(context)) => context,
            Some(_) => return Err(Refusal::Invalid("contexts", "has a context that is no object")),
        };
        known(context, &CONTEXT)?;
        let (cluster, user) = (text(context, "cluster")?, text(context, "user")?);
        if let Some(cluster) = cluster {
            return Ok((cluster, user));
        }
    }
    let first = list(document, "clusters")?.into_keys().next();
    let first = first.ok_or(Refusal::Missing("clusters"))?;
    Ok((first.to_owned(), None))
}

fn entry<'a>(
    document: &'a Map<String, Value>,
    plural: &'static str,
    singular: &'static str,
    name: &str,
) -> Result<&'a Map<String, Value>, Refusal> {
    let found = list(document, plural)?.remove(name);
    let content = found.and_then(|entry| entry.get(singular)?.as_object());
    content.ok_or(Refusal::Missing(plural))
}

/// A field that is a text or not there. What is something else is refused: without it the credentials or the CA
/// would be others than what was meant.
fn text(map: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone()).filter(|text| !text.is_empty())),
        Some(_) => Err(Refusal::Invalid(name, "must be a text")),
    }
}

fn cluster_config(cluster: &Map<String, Value>, addresses: &AddressPolicy) -> Result<kube::Config, Refusal> {
    for (name, _) in cluster.iter().filter(|(_, value)| is_set(value)) {
        let why = match name.as_str() {
            "server"
            | "certificate-authority-data"
            | "tls-server-name"
            | "disable-compression"
            | "extensions" => continue,
            "certificate-authority" => "use certificate-authority-data",
            "insecure-skip-tls-verify" => "its certificate must be verified",
            "proxy-url" => "connections go straight to the API server",
            _ => "the field is not known",
        };
        return Err(Refusal::NotAllowed(shown(name), why));
    }
    let address = text(cluster, "server")?.ok_or(Refusal::Missing("server"))?;
    let url: http::Uri = address.parse().map_err(|_| Refusal::Invalid("server", "is not a URL"))?;
    if url.scheme_str() != Some("https") {
        return Err(Refusal::Invalid("server", "must be an https URL"));
    }
    server::check(&url).map_err(|problem| Refusal::Invalid("server", problem))?;
    let host = url.host().ok_or(Refusal::Invalid("server", "names no host"))?;
    // Names are checked by what they resolve to, when connecting.
    let bare = host.trim_matches(['[', ']']);
    if let Ok(address) = bare.parse() {
        addresses.check(bare, address)?;
    }
    let mut config = kube::Config::new(url);
    config.tls_server_name = text(cluster, "tls-server-name")?;
    config.default_retry = false;
    if let Some(data) = text(cluster, "certificate-authority-data")? {
        config.root_cert = Some(certificates(&data)?);
    }
    Ok(config)
}

fn certificates(base64: &str) -> Result<Vec<Vec<u8>>, Refusal> {
    const FIELD: &str = "certificate-authority-data";
    let pem = STANDARD.decode(base64.trim()).map_err(|_| Refusal::Invalid(FIELD, "is not base64"))?;
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&pem).collect();
    match certificates {
        Ok(certificates) if !certificates.is_empty() => {
            Ok(certificates.into_iter().map(|certificate| certificate.to_vec()).collect())
        }
        _ => Err(Refusal::Invalid(FIELD, "holds no certificate")),
    }
}

/// Takes over what passed the verdict, field by field.
fn auth(
    user: &Map<String, Value>,
    cluster: &Map<String, Value>,
    policy: KubeconfigPolicy,
) -> Result<AuthInfo, Refusal> {
    verdict(&Value::Object(user.clone()), policy)?;
    Ok(AuthInfo {
        username: text(user, "username")?,
        password: text(user, "password")?.map(Into::into),
        token: text(user, "token")?.map(Into::into),
        token_file: path(user, "tokenFile")?,
        client_certificate: path(user, "client-certificate")?,
        client_certificate_data: text(user, "client-certificate-data")?,
        client_key: path(user, "client-key")?,
        client_key_data: text(user, "client-key-data")?.map(Into::into),
        auth_provider: provider(user)?,
        exec: exec(user, cluster)?,
        ..AuthInfo::default()
    })
}

/// A Secret has no directory that a relative path could start from.
fn path(user: &Map<String, Value>, name: &'static str) -> Result<Option<String>, Refusal> {
    match text(user, name)? {
        Some(path) if !Path::new(&path).is_absolute() => {
            Err(Refusal::Invalid(name, "must be an absolute path"))
        }
        path => Ok(path),
    }
}

fn provider(user: &Map<String, Value>) -> Result<Option<AuthProviderConfig>, Refusal> {
    let Some(value) = user.get("auth-provider").filter(|value| is_set(value)) else { return Ok(None) };
    let provider = AuthProviderConfig::deserialize(value)
        .map_err(|_| Refusal::Invalid("auth-provider", "has fields of the wrong kind"))?;
    if provider.name != "gcp" {
        return Err(Refusal::Unsupported("auth-provider", "use an exec plugin, such as kubelogin for azure"));
    }
    if let Some(program) = provider.config.get("cmd-path") {
        check_program(program).map_err(|problem| Refusal::Invalid("auth-provider", problem))?;
    }
    Ok(Some(provider))
}

/// A program is found by an absolute path, or by name where programs are: never beside whatever this process
/// was started in.
fn check_program(program: &str) -> Result<(), &'static str> {
    match program {
        "" => Err("names no command"),
        path if path.contains('/') && !Path::new(path).is_absolute() => {
            Err("must name its command by an absolute path or a bare name")
        }
        _ => Ok(()),
    }
}

fn exec(user: &Map<String, Value>, cluster: &Map<String, Value>) -> Result<Option<ExecConfig>, Refusal> {
    let Some(value) = user.get("exec").filter(|value| is_set(value)) else { return Ok(None) };
    let wrong = |_| Refusal::Invalid("exec", "has fields of the wrong kind");
    let mut exec = ExecConfig::deserialize(value).map_err(wrong)?;
    let command = exec.command.as_deref().unwrap_or_default();
    check_program(command).map_err(|problem| Refusal::Invalid("exec", problem))?;
    if exec.provide_cluster_info {
        let wrong = |_| Refusal::Invalid("exec", "asks for a cluster that cannot be described");
        let described = Cluster::deserialize(&Value::Object(cluster.clone())).map_err(wrong)?;
        let wrong = |_| Refusal::Invalid("exec", "asks for a cluster that cannot be described");
        exec.cluster = Some(ExecAuthCluster::try_from(&described).map_err(wrong)?);
    }
    Ok(Some(exec))
}

#[cfg(test)]
mod tests;
