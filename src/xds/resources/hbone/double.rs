//! HBONE to a gateway with HBONE to a workload behind it inside (R4.24).
//!
//! The inner tunnel starts at `inner_connect_originate`; its bytes are a connection to `outer_connect_originate`, where the
//! outer one starts. The second listener has no endpoint of the assignment before it: it is told the gateway and the
//! target by filter state. Connections of the inner tunnel are kept apart by both, and carry one CONNECT each, so that
//! the gateway picks a workload for every connection.

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::config::endpoint::v3 as eds;
use envoy_types::pb::envoy::config::listener::v3 as lds;
use envoy_types::pb::envoy::extensions::filters::common::set_filter_state::v3 as state;
use envoy_types::pb::envoy::extensions::filters::network::set_filter_state::v3::Config;
use envoy_types::util::pack_any;

use super::{hand_over, internal, originate};
use crate::xds::resources::cluster::{speak_connect, typed};
use crate::xds::resources::{filters, tls};

/// The listener and the Envoy cluster of the outer tunnel.
const OUTER: &str = "outer_connect_originate";
/// Filter state with the address that a connection was going to, as the filter for it reads it.
const LOCAL: &str = "envoy.filters.listener.original_dst.local_ip";
/// Filter state with the target of both tunnels.
const TARGET: &str = "tombolo.hbone_target_address";
/// Kind of filter state that keeps connections apart.
const TEXT: &str = "envoy.hashable_string";

/// What is behind the internal address `inner`.
pub(super) fn tunnel(inner: &str) -> (Vec<cds::Cluster>, Vec<lds::Listener>) {
    let target = "%DYNAMIC_METADATA(istio:double_hbone:hbone_target_address)%";
    let told = filters::network(
        "envoy.filters.network.set_filter_state",
        pack_any(Config {
            on_new_connection: vec![
                tell(LOCAL, LOCAL, "%DYNAMIC_METADATA(envoy.filters.listener.original_dst:local)%"),
                tell(TARGET, TEXT, target),
            ],
            ..Default::default()
        }),
    );
    let outer = format!("%FILTER_STATE({TARGET}:PLAIN)%");
    let listeners = vec![
        internal(inner, vec![told, filters::tunnel(inner, target)]),
        internal(OUTER, vec![filters::tunnel(OUTER, &outer)]),
    ];
    // The port of the address is the gateway's, whichever that is.
    let mut to_gateway = originate(OUTER);
    to_gateway.lb_config = None;
    (vec![to_outer(inner), to_gateway], listeners)
}

/// The inner tunnel: CONNECT by mesh mTLS to the workload, by way of the outer one.
fn to_outer(name: &str) -> cds::Cluster {
    use core::envoy_internal_address::AddressNameSpecifier::ServerListenerName;
    let outer = core::EnvoyInternalAddress {
        address_name_specifier: Some(ServerListenerName(OUTER.to_owned())),
        ..Default::default()
    };
    let address = core::Address { address: Some(core::address::Address::EnvoyInternalAddress(outer)) };
    let endpoint = eds::Endpoint { address: Some(address), ..Default::default() };
    let endpoint = eds::LbEndpoint {
        host_identifier: Some(eds::lb_endpoint::HostIdentifier::Endpoint(endpoint)),
        ..Default::default()
    };
    let mtls = tls::client(String::new(), &["h2"], Vec::new());
    let mut cluster = cds::Cluster {
        load_assignment: Some(eds::ClusterLoadAssignment {
            cluster_name: name.to_owned(),
            endpoints: vec![eds::LocalityLbEndpoints { lb_endpoints: vec![endpoint], ..Default::default() }],
            ..Default::default()
        }),
        transport_socket: Some(hand_over(&[], mtls)),
        ..typed(name, cds::cluster::DiscoveryType::Static)
    };
    speak_connect(&mut cluster, true);
    cluster
}

/// Filter state for the next internal listener.
fn tell(key: &str, kind: &str, format: &str) -> state::FilterStateValue {
    use core::substitution_format_string::Format;
    use state::filter_state_value::{Key, SharedWithUpstream, Value};
    let text = core::DataSource {
        specifier: Some(core::data_source::Specifier::InlineString(format.to_owned())),
        ..Default::default()
    };
    let format =
        core::SubstitutionFormatString { format: Some(Format::TextFormatSource(text)), ..Default::default() };
    state::FilterStateValue {
        factory_key: kind.to_owned(),
        shared_with_upstream: SharedWithUpstream::Once.into(),
        key: Some(Key::ObjectKey(key.to_owned())),
        value: Some(Value::FormatString(format)),
        ..Default::default()
    }
}
