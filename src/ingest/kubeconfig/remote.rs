//! Kubeconfigs of remote clusters: only what is known to be harmless is taken over (Z-01…Z-05, Z-07, Z-08).

use std::fmt;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::AuthInfo;
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Map, Value};
use xxhash_rust::xxh3::xxh3_128;

use crate::ingest::client::{AddressPolicy, ForbiddenAddress};

/// Largest kubeconfig that is read (Z-07).
pub const MAX_BYTES: usize = 1 << 20;

/// *Skipped* until the content changes: what runs for this cluster keeps running (R1.6).
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Over 1 MiB.
    #[error("the kubeconfig is larger than {MAX_BYTES} bytes")]
    TooLarge,
    /// Not YAML. The parser's message is not repeated: it may quote credentials.
    #[error("the kubeconfig is malformed{0}: it is not a YAML document of kind Config")]
    Malformed(String),
    /// A field that must be there is not.
    #[error("the kubeconfig has no usable `{0}`")]
    Missing(&'static str),
    /// A field that a remote kubeconfig may not have.
    #[error("`{0}` is not allowed in the kubeconfig of a remote cluster; {1}")]
    NotAllowed(String, &'static str),
    /// A field that cannot be understood.
    #[error("`{0}` of the kubeconfig {1}")]
    Invalid(&'static str, &'static str),
    /// The server's address is one it may not have (Z-04).
    #[error("`server` of the kubeconfig: {0}")]
    Address(#[from] ForbiddenAddress),
    /// The id cannot be a cluster's.
    #[error(
        "`{0}` cannot be a cluster id: it must consist of letters, digits, `-`, `_` and `.`, at most 63 between dots and 253 in all"
    )]
    ClusterId(String),
}

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
    /// Reads and checks a kubeconfig. No file is opened, no process started, no variable read.
    ///
    /// # Errors
    /// Names the first field that is missing, wrong or not allowed; never its content.
    pub fn parse(bytes: &[u8], addresses: AddressPolicy) -> Result<Self, Refusal> {
        if bytes.len() > MAX_BYTES {
            return Err(Refusal::TooLarge);
        }
        let document = yaml(bytes)?;
        let (cluster_name, user) = selected(&document)?;
        let cluster = entry(&document, "clusters", "cluster", &cluster_name)?;
        let mut config = cluster_config(cluster, addresses)?;
        if let Some(user) = user {
            config.auth_info = auth(entry(&document, "users", "user", &user)?)?;
        }
        Ok(Self { cluster_name, hash: xxh3_128(bytes), config: Arc::new(config) })
    }
}

fn yaml(bytes: &[u8]) -> Result<Map<String, Value>, Refusal> {
    let text = std::str::from_utf8(bytes).map_err(|_| Refusal::Malformed(String::new()))?;
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        let place = error.location().map(|at| format!(" at line {}", at.line()));
        Refusal::Malformed(place.unwrap_or_default())
    })?;
    match value {
        Value::Object(map) => Ok(map),
        _ => Err(Refusal::Malformed(String::new())),
    }
}

fn list<'a>(document: &'a Map<String, Value>, name: &str) -> impl Iterator<Item = (&'a str, &'a Value)> {
    let entries = document.get(name).and_then(Value::as_array).into_iter().flatten();
    entries.filter_map(|entry| Some((entry.get("name")?.as_str()?, entry)))
}

/// R1.11: the current context, else the first context by name that has a cluster, else the first cluster by
/// name. The user is that context's.
fn selected(document: &Map<String, Value>) -> Result<(String, Option<String>), Refusal> {
    let current = document.get("current-context").and_then(Value::as_str).unwrap_or_default();
    let mut contexts: Vec<_> = list(document, "contexts").collect();
    contexts.sort_by_key(|(name, _)| (*name != current, *name));
    let field = |context: &Value, name: &str| {
        let text = context.get("context")?.get(name)?.as_str()?;
        (!text.is_empty()).then(|| text.to_owned())
    };
    let mut named =
        contexts.iter().filter_map(|(_, context)| Some((field(context, "cluster")?, field(context, "user"))));
    if let Some(selected) = named.next() {
        return Ok(selected);
    }
    let first = list(document, "clusters").map(|(name, _)| name).min();
    let first = first.ok_or(Refusal::Missing("clusters"))?;
    Ok((first.to_owned(), None))
}

fn entry<'a>(
    document: &'a Map<String, Value>,
    plural: &'static str,
    singular: &'static str,
    name: &str,
) -> Result<&'a Map<String, Value>, Refusal> {
    let found = list(document, plural).find(|(candidate, _)| *candidate == name);
    let content = found.and_then(|(_, entry)| entry.get(singular)?.as_object());
    content.ok_or(Refusal::Missing(plural))
}

/// Fields that mean nothing when empty, null or false.
fn is_set(value: &Value) -> bool {
    !matches!(value, Value::Null | Value::Bool(false)) && value.as_str() != Some("")
}

fn text(map: &Map<String, Value>, name: &str) -> Option<String> {
    map.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
}

fn cluster_config(cluster: &Map<String, Value>, addresses: AddressPolicy) -> Result<kube::Config, Refusal> {
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
    let server = text(cluster, "server").ok_or(Refusal::Missing("server"))?;
    let url: http::Uri = server.parse().map_err(|_| Refusal::Invalid("server", "is not a URL"))?;
    if url.scheme_str() != Some("https") {
        return Err(Refusal::Invalid("server", "must be an https URL"));
    }
    if url.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Refusal::Invalid("server", "must not contain credentials"));
    }
    let host = url.host().ok_or(Refusal::Invalid("server", "names no host"))?;
    // Names are checked by what they resolve to, when connecting.
    if let Ok(address) = host.trim_matches(['[', ']']).parse() {
        addresses.check(address)?;
    }
    let mut config = kube::Config::new(url);
    config.tls_server_name = text(cluster, "tls-server-name");
    config.default_retry = false;
    if let Some(data) = text(cluster, "certificate-authority-data") {
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

fn auth(user: &Map<String, Value>) -> Result<AuthInfo, Refusal> {
    for (name, _) in user.iter().filter(|(_, value)| is_set(value)) {
        let why = match name.as_str() {
            "token"
            | "client-certificate-data"
            | "client-key-data"
            | "username"
            | "password"
            | "extensions" => continue,
            "exec" | "auth-provider" => "no program is run on behalf of a remote cluster",
            "tokenFile" => "use token",
            "client-certificate" => "use client-certificate-data",
            "client-key" => "use client-key-data",
            name if name.starts_with("as") => "nobody is impersonated",
            _ => "the field is not known",
        };
        return Err(Refusal::NotAllowed(shown(name), why));
    }
    Ok(AuthInfo {
        username: text(user, "username"),
        password: text(user, "password").map(Into::into),
        token: text(user, "token").map(Into::into),
        client_certificate_data: text(user, "client-certificate-data"),
        client_key_data: text(user, "client-key-data").map(Into::into),
        ..AuthInfo::default()
    })
}

fn shown(field: &str) -> String {
    field.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kubeconfig(cluster: Value, user: Value) -> Vec<u8> {
        json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
            "clusters": [{"name": "west", "cluster": cluster}],
            "users": [{"name": "u", "user": user}],
            "contexts": [{"name": "c", "context": {"cluster": "west", "user": "u"}}]})
        .to_string()
        .into_bytes()
    }

    fn verdict(cluster: Value, user: Value) -> Result<RemoteKubeconfig, String> {
        RemoteKubeconfig::parse(&kubeconfig(cluster, user), AddressPolicy::Remote)
            .map_err(|error| error.to_string())
    }

    fn with(name: &str, value: Value) -> Value {
        let mut cluster = json!({"server": "https://192.0.2.1:6443"});
        cluster[name] = value;
        cluster
    }

    #[test]
    fn z_01_every_user_field_has_a_verdict() {
        for (user, allowed) in [
            (json!({}), true),
            (json!({"token": "canary"}), true),
            (json!({"client-certificate-data": "eA==", "client-key-data": "eA=="}), true),
            (json!({"username": "u", "password": "canary"}), true),
            (json!({"exec": {"command": "sleep"}}), false),
            (json!({"auth-provider": {"name": "gcp"}}), false),
            (json!({"auth-provider": {"name": "oidc"}}), false),
            (json!({"tokenFile": "/t"}), false),
            (json!({"client-key": "/k"}), false),
            (json!({"client-certificate": "/c"}), false),
            (json!({"as": "root"}), false),
            (json!({"as-groups": ["system:masters"]}), false),
            (json!({"as-user-extra": {"x": ["y"]}}), false),
            (json!({"somethingNew": 1}), false),
            (json!({"tokenFile": "", "exec": null}), true),
        ] {
            let result = verdict(json!({"server": "https://192.0.2.1"}), user.clone());
            assert_eq!(result.is_ok(), allowed, "{user} {result:?}");
            if let Err(text) = result {
                let field = user.as_object().unwrap().keys().next().unwrap();
                assert!(text.contains(field.as_str()), "{text}");
            }
        }
    }

    #[test]
    fn z_02_z_03_z_05_every_cluster_field_has_a_verdict() {
        for (cluster, allowed) in [
            (with("tls-server-name", json!("kubernetes")), true),
            (with("disable-compression", json!(true)), true),
            (with("insecure-skip-tls-verify", json!(false)), true),
            (with("insecure-skip-tls-verify", json!(true)), false),
            (with("certificate-authority", json!("/ca.pem")), false),
            (with("certificate-authority-data", json!("not base64!")), false),
            (with("certificate-authority-data", json!("bm90IFBFTQ==")), false),
            (with("proxy-url", json!("http://proxy")), false),
            (with("somethingNew", json!("x")), false),
            (json!({}), false),
        ] {
            assert_eq!(verdict(cluster.clone(), json!({})).is_ok(), allowed, "{cluster}");
        }
    }

    #[test]
    fn z_04_the_server_must_be_https_and_elsewhere() {
        for (server, allowed) in [
            ("https://192.0.2.1:6443", true),
            ("https://api.example.com", true),
            ("http://192.0.2.1", false),
            ("https://169.254.169.254", false),
            ("https://[::ffff:169.254.169.254]", false),
            ("https://127.0.0.1:1", false),
            ("https://[::1]:1", false),
            ("https://0.0.0.0", false),
            ("https://user:canary@192.0.2.1", false),
            ("file:///etc/passwd", false),
            ("nonsense", false),
            ("", false),
        ] {
            let result = verdict(json!({"server": server}), json!({}));
            assert_eq!(result.is_ok(), allowed, "{server} {result:?}");
            assert!(!format!("{result:?}").contains("canary"));
        }
        let local = kubeconfig(json!({"server": "https://127.0.0.1:1"}), json!({}));
        assert!(RemoteKubeconfig::parse(&local, AddressPolicy::Any).is_ok());
    }

    #[test]
    fn z_07_bombs_and_giants_are_refused_quickly() {
        let giant = vec![b' '; MAX_BYTES + 1];
        let parse = |bytes: &[u8]| RemoteKubeconfig::parse(bytes, AddressPolicy::Remote).map(|_| ());
        assert_eq!(parse(&giant), Err(Refusal::TooLarge));
        let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
        for n in 1..30 {
            let before = n - 1;
            bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 9].join(",")));
        }
        assert!(matches!(parse(bomb.as_bytes()), Err(Refusal::Malformed(_))));
        assert!(matches!(parse(b"token: canary: x: ["), Err(Refusal::Malformed(_))));
        assert!(matches!(parse(b"\xff\xfe"), Err(Refusal::Malformed(_))));
    }

    #[test]
    fn r1_11_the_cluster_is_the_current_contexts_then_the_first_by_name() {
        let name = |current: &str, contexts: Value| {
            let clusters: Vec<_> = ["b", "a", "c"]
                .iter()
                .map(|name| json!({"name": name, "cluster": {"server": "https://192.0.2.1"}}))
                .collect();
            let text = json!({"current-context": current, "clusters": clusters, "contexts": contexts});
            RemoteKubeconfig::parse(text.to_string().as_bytes(), AddressPolicy::Remote).unwrap().cluster_name
        };
        let context = |name: &str, cluster: &str| json!({"name": name, "context": {"cluster": cluster}});
        assert_eq!(name("z", json!([context("y", "b"), context("z", "c")])), "c");
        assert_eq!(name("", json!([context("z", "c"), context("y", "b")])), "b");
        assert_eq!(name("x", json!([context("w", ""), context("y", "b")])), "b");
        assert_eq!(name("", json!([])), "a");
    }

    #[test]
    fn z_09_cluster_ids() {
        for (id, allowed) in [
            ("west", true),
            ("Kubernetes", true),
            ("eu-1.prod_a", true),
            ("", false),
            ("-x", false),
            ("a b", false),
            ("a\n", false),
            ("a|b", false),
            ("ä", false),
            (&"a".repeat(64), false),
        ] {
            assert_eq!(check_cluster_id(id).is_ok(), allowed, "{id:?}");
        }
    }
}
