//! TLS towards the endpoints of an Envoy cluster (R4.18, control-plane-surface §3.5).

use std::collections::BTreeSet;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3::SubjectAltNameMatcher;
use envoy_types::pb::google::protobuf::{Struct, Value, value};

use super::Port;
use super::protocol::{Version, alpn, version};
use crate::model::policy::{ClientTls, ClientTlsMode, MeshConfig, TrafficSettings};
use crate::model::{Name, SpiffeId};
use crate::xds::resources::{hbone, tls};

/// Sets what the rule says, else mesh mTLS where the endpoint can (auto mTLS), and before both HBONE where the
/// assignment says so (R4.18). `sni` is what gateways route by; with `picked` whomever the client picked speaks mTLS.
pub(super) fn apply(
    cluster: &mut cds::Cluster,
    port: &Port<'_>,
    settings: &TrafficSettings,
    sni: String,
    picked: bool,
) {
    secure(cluster, port, settings, sni, picked);
    let tunnels = &port.client.key().tunnels;
    if !tunnels.is_empty() && cluster.eds_cluster_config.is_some() {
        prefer_hbone(cluster, hbone::into(tunnels));
    }
}

/// Puts the way into a tunnel before all others. Endpoints outside of it keep the transport socket they had.
fn prefer_hbone(cluster: &mut cds::Cluster, tunnel: core::TransportSocket) {
    let matches = &mut cluster.transport_socket_matches;
    if matches.is_empty() {
        matches.push(match cluster.transport_socket.take() {
            Some(told) => socket_match("tls", None, told),
            None => socket_match("tlsMode-disabled", None, tls::raw_buffer()),
        });
    }
    matches.insert(0, socket_match("hbone", Some(("tunnel", "http")), tunnel));
}

fn secure(
    cluster: &mut cds::Cluster,
    port: &Port<'_>,
    settings: &TrafficSettings,
    sni: String,
    picked: bool,
) {
    let spoken = version(port, settings);
    let mesh_alpn = alpn(port.port.protocol, spoken);
    match &settings.tls {
        // Nobody knows whom: all of them take it, or none is asked.
        None if picked => cluster.transport_socket = Some(tls::client(sni, mesh_alpn, names(port, None))),
        None if port.is_auto_mtls() && !is_picked(cluster) => {
            let mtls = tls::client(sni, mesh_alpn, names(port, None));
            cluster.transport_socket_matches = vec![
                socket_match("tlsMode-istio", Some(("tlsMode", "istio")), mtls),
                socket_match("tlsMode-disabled", None, tls::raw_buffer()),
            ];
        }
        None => {}
        Some(told) => match told.mode {
            ClientTlsMode::Disable => {}
            ClientTlsMode::IstioMutual => {
                let sni = if told.sni.is_empty() { sni } else { told.sni.to_string() };
                cluster.transport_socket = Some(tls::client(sni, mesh_alpn, names(port, Some(told))));
            }
            ClientTlsMode::Simple | ClientTlsMode::Mutual => {
                let offered: &[&str] = match spoken {
                    // What is told here counts more than what a pool of connections is for: one that may be for either
                    // version offers its own.
                    Version::One | Version::AsReceived => &[],
                    Version::Two => &["h2"],
                };
                cluster.transport_socket = Some(tls::custom(told, offered, names(port, Some(told))));
            }
        },
    }
}

/// Whether connections go to whomever the client picked.
pub(super) fn is_picked(cluster: &cds::Cluster) -> bool {
    use cds::cluster::{ClusterDiscoveryType, DiscoveryType};
    let picked = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
    cluster.cluster_discovery_type == Some(picked)
}

/// The names a server must have: what the rule says, else what a ServiceEntry says, for the mesh's mTLS with the
/// identities behind the service under every name of their trust domain, else outside the mesh the name it is asked
/// for by.
pub(in crate::xds::resources) fn names(
    port: &Port<'_>,
    told: Option<&ClientTls>,
) -> Vec<SubjectAltNameMatcher> {
    if let Some(told) = told.filter(|told| !told.subject_alt_names.is_empty()) {
        return told.subject_alt_names.iter().map(|name| tls::server_name(name)).collect();
    }
    let alternative = port.service.entry.as_ref().map(|entry| &entry.alt_names);
    let alternative = alternative.into_iter().flat_map(|names| names.iter()).map(Name::to_string);
    let mut all: BTreeSet<String> = alternative.collect();
    let outside = told.is_some_and(|told| told.mode != ClientTlsMode::IstioMutual);
    if !outside {
        let ids = port.service.accounts.iter();
        all.extend(ids.flat_map(|id| under_every_name(id, port.client.mesh())).map(|id| id.to_string()));
    } else if all.is_empty() {
        // A server that is asked for by name must have that name: roots alone would admit any public certificate.
        all.extend(told.map(|told| told.sni.to_string()).filter(|sni| !sni.is_empty()));
    }
    all.iter().map(|name| tls::server_name(name)).collect()
}

/// An identity, and where its trust domain is the mesh's or an alias of it, the same under all of those.
fn under_every_name(id: &SpiffeId, mesh: &MeshConfig) -> Vec<SpiffeId> {
    let aliases = &mesh.trust_domain_aliases;
    let own = mesh.trust_domain.as_ref().is_none_or(|own| *own == id.trust_domain);
    let mut all = vec![id.clone()];
    if own || aliases.contains(&id.trust_domain) {
        let others = mesh.trust_domain.iter().chain(aliases);
        all.extend(others.map(|domain| SpiffeId { trust_domain: domain.clone(), ..id.clone() }));
    }
    all
}

fn socket_match(
    name: &str,
    of: Option<(&str, &str)>,
    socket: core::TransportSocket,
) -> cds::cluster::TransportSocketMatch {
    cds::cluster::TransportSocketMatch {
        name: name.to_owned(),
        r#match: Some(Struct { fields: of.map(|(key, text)| text_field(key, text)).into_iter().collect() }),
        transport_socket: Some(socket),
    }
}

fn text_field(key: &str, text: &str) -> (String, Value) {
    (key.to_owned(), Value { kind: Some(value::Kind::StringValue(text.to_owned())) })
}
