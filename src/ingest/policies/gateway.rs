//! JSON of a Gateway to its slim form.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Deserialize;
use serde_json::Value;

use super::decode::spelling::{HOST, LINE, is_label};
use crate::model::policy::{
    Gateway, GatewayHostName, GatewayServer, HostPattern, PolicyMeta, ServerTls, ServerTlsMode, TlsVersion,
    WorkloadSelector,
};
use crate::model::{Name, PortProtocol};

/// A field that may be `null`.
type Maybe<T> = Option<T>;
/// Fields that are not read, by name.
type Unknown = BTreeMap<String, Value>;

#[derive(Deserialize)]
struct Spec {
    selector: Maybe<BTreeMap<String, String>>,
    servers: Maybe<Vec<Value>>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Deserialize)]
struct Server {
    port: Port,
    bind: Maybe<String>,
    hosts: Maybe<Vec<String>>,
    tls: Maybe<Tls>,
    /// Of the server, and of its port and its TLS settings.
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Deserialize)]
struct Port {
    number: u16,
    protocol: Maybe<String>,
    name: Maybe<String>,
    #[serde(flatten)]
    unknown: Unknown,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Tls {
    https_redirect: Maybe<bool>,
    mode: Maybe<String>,
    server_certificate: Maybe<String>,
    private_key: Maybe<String>,
    ca_certificates: Maybe<String>,
    credential_name: Maybe<String>,
    credential_names: Maybe<Vec<String>>,
    ca_crl: Maybe<String>,
    subject_alt_names: Maybe<Vec<String>>,
    verify_certificate_spki: Maybe<Vec<String>>,
    verify_certificate_hash: Maybe<Vec<String>>,
    min_protocol_version: Maybe<String>,
    max_protocol_version: Maybe<String>,
    cipher_suites: Maybe<Vec<String>>,
    #[serde(flatten)]
    unknown: Unknown,
}

/// The cipher suites of TLS 1.2 that proxies know; those of TLS 1.3 cannot be chosen.
const CIPHER_SUITES: [&str; 14] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];

/// Reads the spec of a Gateway. A server that cannot be opened is among the problems of the result.
///
/// # Errors
/// A document without the shape of its kind: the part, and what is wrong with it.
pub(super) fn gateway(meta: PolicyMeta, spec: &Value) -> Result<Gateway, String> {
    let spec = Spec::deserialize(spec).map_err(|error| format!("spec: {error}"))?;
    let selector = spec.selector.unwrap_or_default().into_iter();
    let selector = selector.map(|(key, value)| (key.into(), value.into())).collect();
    let (mut servers, mut problems) = (Vec::new(), Vec::new());
    for (index, value) in spec.servers.unwrap_or_default().iter().enumerate() {
        let place = format!("spec.servers[{index}]");
        let server = Server::deserialize(value).map_err(|error| format!("{place}: {error}"))?;
        let unknown = unknown_suites(&server);
        problems.extend(unknown_fields(&server).map(|field| unsupported(&format!("{place}.{field}"))));
        match opened(server, &meta.id.namespace) {
            Ok(server) => {
                servers.push(server);
                let left_out =
                    |suite| format!("{place}: tls.cipherSuites: {suite:?} is not known; it is left out");
                problems.extend(unknown.iter().map(left_out));
            }
            Err(why) => problems.push(format!("{place}: {why}; it is not opened")),
        }
    }
    problems.extend(spec.unknown.keys().map(|field| unsupported(&format!("spec.{field}"))));
    Ok(Gateway { meta, selector: WorkloadSelector::new(selector), servers, problems })
}

fn unsupported(field: &str) -> String {
    format!("{field}: not known here: it has no effect")
}

/// Fields of a server that are not read; its name is for people.
fn unknown_fields(server: &Server) -> impl Iterator<Item = String> {
    let port = server.port.unknown.keys().map(|field| format!("port.{field}"));
    let tls = server.tls.iter().flat_map(|tls| tls.unknown.keys()).map(|field| format!("tls.{field}"));
    let own = server.unknown.keys().filter(|field| *field != "name").cloned();
    own.chain(port).chain(tls)
}

fn opened(server: Server, namespace: &Name) -> Result<GatewayServer, String> {
    let Server { port, bind, hosts, tls, .. } = server;
    if port.number == 0 {
        return Err("port.number: 0 is no port".into());
    }
    let protocol = protocol(port.protocol.as_deref().unwrap_or_default())?;
    let bind: Option<IpAddr> = match bind.filter(|bind| !bind.is_empty()) {
        Some(bind) => Some(bind.parse().map_err(|_| format!("bind: {bind:?} is no IP address"))?),
        None => None,
    };
    if !port.name.as_deref().is_none_or(|name| LINE.takes(name)) {
        return Err(format!("port.name: {:?} is not {}", port.name, LINE.allowed));
    }
    let hosts = hosts.unwrap_or_default();
    if hosts.is_empty() {
        return Err("hosts: at least one is needed".into());
    }
    let hosts = hosts.iter().map(|host| host_name(host, namespace)).collect::<Result<_, _>>()?;
    let secure = matches!(protocol, PortProtocol::Https | PortProtocol::Tls);
    let https_redirect = tls.as_ref().and_then(|tls| tls.https_redirect).unwrap_or_default();
    let tls = match tls {
        Some(tls) if secure => Some(server_tls(tls)?),
        None if secure => return Err("tls: needed with this protocol".into()),
        Some(Tls { mode: Some(mode), .. }) if mode != "PASSTHROUGH" => {
            return Err(format!("tls.mode: {mode} needs protocol HTTPS or TLS"));
        }
        _ => None,
    };
    Ok(GatewayServer {
        port: port.number,
        protocol,
        port_name: port.name.unwrap_or_default().into(),
        bind,
        hosts,
        tls,
        https_redirect,
    })
}

fn protocol(text: &str) -> Result<PortProtocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "HTTP" => Ok(PortProtocol::Http),
        "HTTP2" => Ok(PortProtocol::Http2),
        "GRPC" => Ok(PortProtocol::Grpc),
        "GRPC-WEB" => Ok(PortProtocol::GrpcWeb),
        "HTTPS" => Ok(PortProtocol::Https),
        "TLS" => Ok(PortProtocol::Tls),
        "TCP" | "MONGO" | "MYSQL" | "REDIS" => Ok(PortProtocol::Tcp),
        _ => {
            Err(format!("port.protocol: {text:?} is not one of HTTP, HTTP2, GRPC, GRPC-WEB, HTTPS, TLS, TCP"))
        }
    }
}

/// `namespace/host` or `host`; `.` is the gateway's own namespace.
fn host_name(text: &str, own: &Name) -> Result<GatewayHostName, String> {
    let (namespace, host) = text.split_once('/').unwrap_or(("*", text));
    if !HOST.takes(host) || !(matches!(namespace, "*" | ".") || is_label(namespace)) {
        return Err(format!("hosts: {text:?} is no host, *.suffix or *, with or without namespace/"));
    }
    let namespace = match namespace {
        "*" => None,
        "." => Some(own.clone()),
        named => Some(named.into()),
    };
    Ok(GatewayHostName { namespace, host: HostPattern::new(host.to_ascii_lowercase()) })
}

fn server_tls(tls: Tls) -> Result<ServerTls, String> {
    let pins = [&tls.verify_certificate_spki, &tls.verify_certificate_hash];
    if pins.into_iter().flatten().any(|pins| !pins.is_empty()) {
        return Err("tls: verifyCertificateSpki and verifyCertificateHash are not supported".into());
    }
    if tls.ca_crl.as_deref().is_some_and(|path| !path.is_empty()) {
        return Err("tls.caCrl: not supported".into());
    }
    let min_version = version("minProtocolVersion", tls.min_protocol_version.as_deref(), TlsVersion::V1_2)?;
    let max_version = version("maxProtocolVersion", tls.max_protocol_version.as_deref(), TlsVersion::V1_3)?;
    if min_version > max_version {
        return Err("tls: minProtocolVersion is above maxProtocolVersion".into());
    }
    let told = tls.cipher_suites.as_deref().unwrap_or_default();
    let suites: Vec<Name> =
        told.iter().filter(|suite| is_suite(suite)).map(|suite| suite.as_str().into()).collect();
    if suites.is_empty() && !told.is_empty() {
        return Err(format!("tls.cipherSuites: none of {} is known", told.join(", ")));
    }
    let names = |list: &Maybe<Vec<String>>| list.iter().flatten().map(|name| name.as_str().into()).collect();
    Ok(ServerTls {
        min_version,
        max_version,
        cipher_suites: suites,
        subject_alt_names: names(&tls.subject_alt_names),
        client_optional: tls.mode.as_deref() == Some("OPTIONAL_MUTUAL"),
        mode: mode(tls)?,
    })
}

fn is_suite(name: &str) -> bool {
    CIPHER_SUITES.contains(&name)
}

/// Cipher suites of a server that proxies do not know: one of them would cost its port.
fn unknown_suites(server: &Server) -> Vec<String> {
    let suites = server.tls.iter().flat_map(|tls| &tls.cipher_suites).flatten();
    suites.filter(|suite| !is_suite(suite)).cloned().collect()
}

fn mode(tls: Tls) -> Result<ServerTlsMode, String> {
    let name = tls.mode.unwrap_or_default();
    let mutual = matches!(name.as_str(), "MUTUAL" | "OPTIONAL_MUTUAL");
    match name.as_str() {
        "" | "PASSTHROUGH" => return Ok(ServerTlsMode::Passthrough),
        "AUTO_PASSTHROUGH" => return Ok(ServerTlsMode::AutoPassthrough),
        "ISTIO_MUTUAL" => return Ok(ServerTlsMode::IstioMutual),
        "SIMPLE" | "MUTUAL" | "OPTIONAL_MUTUAL" => {}
        _ => {
            return Err(format!(
                "tls.mode: {name} is not one of PASSTHROUGH, AUTO_PASSTHROUGH, SIMPLE, MUTUAL, \
                 OPTIONAL_MUTUAL, ISTIO_MUTUAL"
            ));
        }
    }
    let named = tls.credential_name.filter(|name| !name.is_empty());
    let named = named.or_else(|| tls.credential_names.and_then(|names| names.into_iter().next()));
    if let Some(secret) = named {
        return Err(format!(
            "tls.credentialName: {secret:?}: certificates of Secrets are not served, since private keys must not go \
             over streams that nobody authenticates; mount the Secret into the gateway and name its files: \
             serverCertificate, privateKey, and caCertificates with MUTUAL"
        ));
    }
    let path = |path: Option<String>| path.filter(|path| !path.is_empty()).map(Name::from);
    match (path(tls.server_certificate), path(tls.private_key), path(tls.ca_certificates)) {
        (Some(_), Some(_), None) if mutual => Err(format!("tls.caCertificates: needed with {name}")),
        (Some(certificate), Some(key), ca) => {
            Ok(ServerTlsMode::Files { certificate, key, ca: ca.filter(|_| mutual) })
        }
        _ => Err(format!("tls: {name} needs serverCertificate and privateKey")),
    }
}

fn version(field: &str, text: Option<&str>, otherwise: TlsVersion) -> Result<TlsVersion, String> {
    match text {
        None | Some("" | "TLS_AUTO") => Ok(otherwise),
        Some("TLSV1_2") => Ok(TlsVersion::V1_2),
        Some("TLSV1_3") => Ok(TlsVersion::V1_3),
        Some(other) => Err(format!("tls.{field}: {other} is not one of TLS_AUTO, TLSV1_2, TLSV1_3")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::model::policy::PolicyId;

    fn read(spec: Value) -> Result<Gateway, String> {
        gateway(PolicyMeta { created: 1, id: PolicyId::new("edge", "gw") }, &spec)
    }

    #[test]
    fn an_east_west_gateway_is_read() {
        let gateway = read(json!({"selector": {"istio": "eastwestgateway"}, "servers": [{
            "port": {"number": 15443, "name": "tls", "protocol": "TLS"},
            "tls": {"mode": "AUTO_PASSTHROUGH"}, "hosts": ["*.local", "./a.edge", "b/c.b"]}]}))
        .expect("valid");
        let server = &gateway.servers[0];
        assert!(server.is_auto_passthrough() && gateway.problems.is_empty());
        let covers = |namespace, host| server.hosts.iter().any(|name| name.covers(namespace, host));
        assert!(covers("any", "x.svc.cluster.local") && covers("edge", "a.edge") && covers("b", "c.b"));
        assert!(!covers("other", "a.edge") && !covers("any", "x.org"));
        assert_eq!(&*gateway.bound_name(), "edge/gw");
    }

    #[test]
    fn servers_that_cannot_be_opened_are_told_and_the_others_are() {
        let server = |protocol: &str, tls: Value| json!({"port": {"number": 443, "name": "p", "protocol": protocol}, "hosts": ["*"], "tls": tls});
        for (protocol, tls, told) in [
            ("HTTPS", json!({"mode": "SIMPLE", "credentialName": "cert"}), "private keys must not go over"),
            (
                "HTTPS",
                json!({"mode": "SIMPLE", "credentialNames": ["cert"]}),
                "name its files: serverCertificate",
            ),
            ("HTTPS", json!({"mode": "SIMPLE"}), "needs serverCertificate"),
            ("HTTPS", json!(null), "tls: needed"),
            ("TLS", json!({"mode": "MUTUAL", "serverCertificate": "a", "privateKey": "b"}), "caCertificates"),
            ("TLS", json!({"mode": "ODD"}), "ODD"),
            ("TLS", json!({"mode": "PASSTHROUGH", "minProtocolVersion": "TLSV1_0"}), "minProtocolVersion"),
            ("HTTP", json!({"mode": "SIMPLE"}), "needs protocol"),
            ("UDP", json!(null), "port.protocol"),
            ("TLS", json!({"mode": "ISTIO_MUTUAL", "cipherSuites": ["TLS_AES_128_GCM_SHA256"]}), "none of"),
        ] {
            let good = server("TLS", json!({"mode": "PASSTHROUGH"}));
            let gateway = read(json!({"servers": [server(protocol, tls), good]})).expect("a shape");
            assert_eq!((gateway.servers.len(), gateway.problems.len()), (1, 1), "{told}");
            assert!(gateway.problems[0].contains(told), "{:?}", gateway.problems);
        }
        let files = json!({"mode": "OPTIONAL_MUTUAL", "serverCertificate": "a", "privateKey": "b", "odd": 1});
        let mut verified = files.clone();
        verified["caCertificates"] = json!("c");
        let gateway =
            read(json!({"servers": [server("HTTPS", files), server("HTTPS", verified)]})).expect("a shape");
        let tls = gateway.servers[0].tls.as_ref().expect("TLS");
        assert!(gateway.servers.len() == 1 && tls.client_optional, "nothing to verify by is a mistake");
        assert!(matches!(&tls.mode, ServerTlsMode::Files { ca: Some(_), .. }));
        assert!(
            gateway.problems.iter().any(|one| one.contains("servers[1].tls.odd")),
            "{:?}",
            gateway.problems
        );
        for host in ["*foo.com", "a b", "a\n", "x/y/z", "a b/c", "*.*"] {
            let gateway =
                read(json!({"servers": [{"port": {"number": 80, "protocol": "HTTP"}, "hosts": [host],
                "tls": {"httpsRedirect": true}}]}));
            let gateway = gateway.expect("a shape");
            assert!(gateway.servers.is_empty() && gateway.problems[0].contains("hosts"), "{host}");
        }
        let tls = json!({"mode": "ISTIO_MUTUAL", "cipherSuites": ["AES128-SHA", "!aNULL:AES", "aes256-sha"]});
        let gateway = read(json!({"servers": [server("TLS", tls)]})).expect("a shape");
        let suites = gateway.servers[0].tls.as_ref().map(|tls| tls.cipher_suites.clone());
        assert_eq!((suites, gateway.problems.len()), (Some(vec!["AES128-SHA".into()]), 2));
        assert!(read(json!({"servers": [{"port": {"number": 70000}}]})).unwrap_err().contains("servers[0]"));
    }
}
