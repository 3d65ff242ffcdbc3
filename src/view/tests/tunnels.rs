//! Which internal listeners a proxy needs (R4.16, R4.17, R4.24).

use super::rules::proxy;
use crate::model::{Features, ProxyKind};
use crate::registry::PolicySnapshot;
use crate::view::InternalListener::{self, ConnectOriginate, ForwardInnerConnect, InnerConnectOriginate};
use crate::view::{MeshRules, OutboundKey};

fn tunnels(kind: ProxyKind, managed: &str, sends: bool, features: Features) -> Vec<InternalListener> {
    let mut view = proxy("sample", &[("gateway.istio.io/managed", managed)]);
    view.kind = kind;
    view.sends_hbone = sends;
    let mesh = MeshRules::default().with_features(features);
    OutboundKey::of(&view, &PolicySnapshot::default()).tunnelling(&view, &mesh).tunnels
}

#[test]
fn tunnels_follow_the_switches_and_the_part_of_the_proxy() {
    let off = Features::default;
    let ambient = || Features { ambient: true, ..Features::default() };
    let networks = || Features { multi_network: true, ..ambient() };
    let (sidecar, router) = (ProxyKind::Sidecar, ProxyKind::Router);
    let east_west = "istio.io-eastwest-controller";
    for kind in [sidecar, router] {
        assert_eq!(tunnels(kind, "", true, off()), [], "{kind:?}");
        assert_eq!(tunnels(kind, "", true, ambient()), [ConnectOriginate], "{kind:?}");
    }
    assert_eq!(tunnels(sidecar, "", false, networks()), []);
    assert_eq!(tunnels(sidecar, "", true, networks()), [ConnectOriginate]);
    assert_eq!(
        tunnels(router, "", false, ambient()),
        [ConnectOriginate],
        "waypoints are reached by HBONE alone"
    );
    assert_eq!(tunnels(router, "", true, networks()), [ConnectOriginate, InnerConnectOriginate]);
    assert_eq!(tunnels(router, east_west, true, networks()), [ForwardInnerConnect, InnerConnectOriginate]);
}
