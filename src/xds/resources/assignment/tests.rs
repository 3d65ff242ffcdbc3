use std::net::IpAddr;

use proptest::prelude::*;

use super::*;
use crate::model::{Locality, TlsMode, WorkloadParts};

/// Texts that make lengths of one and of two bytes.
fn text() -> impl Strategy<Value = String> {
    prop_oneof![Just(String::new()), "[a-z]{1,12}", "[a-z]{120,140}"]
}

fn workload() -> impl Strategy<Value = Arc<Workload>> {
    (text(), text(), text(), text(), text(), any::<bool>()).prop_map(
        |(name, namespace, workload_name, revision, cluster, own_name)| {
            let workload_name = if own_name { name.clone() } else { workload_name };
            WorkloadParts {
                name: name.as_str().into(),
                namespace: namespace.as_str().into(),
                canonical_name: workload_name.as_str().into(),
                workload_name: workload_name.as_str().into(),
                canonical_revision: revision.as_str().into(),
                cluster: cluster.as_str().into(),
                tls_mode: TlsMode::Istio,
                ..WorkloadParts::default()
            }
            .into()
        },
    )
}

/// Origins out of a few workloads: pods of one deployment share theirs.
fn origin(pool: Vec<Arc<Workload>>) -> impl Strategy<Value = Origin> {
    let gateway = (text(), text()).prop_map(|(network, cluster)| Origin::Gateway {
        network: network.as_str().into(),
        cluster: cluster.as_str().into(),
    });
    prop_oneof![3 => prop::sample::select(pool).prop_map(Origin::Direct), 1 => gateway]
}

fn endpoint(pool: Vec<Arc<Workload>>) -> impl Strategy<Value = AssignedEndpoint> {
    let health = prop::sample::select(vec![
        None,
        Some(Health::Healthy),
        Some(Health::Unhealthy),
        Some(Health::Draining),
        Some(Health::Terminating),
    ]);
    let socket = prop::sample::select(vec![SocketMatch::Plain, SocketMatch::TlsMode, SocketMatch::Tunnel]);
    (target(), any::<u32>(), health, socket, origin(pool)).prop_map(
        |(target, weight, health, socket, origin)| AssignedEndpoint {
            target,
            weight,
            health,
            socket,
            origin,
        },
    )
}

fn target() -> impl Strategy<Value = Target> {
    let address =
        || prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    let listener = prop::sample::select(vec![
        InternalListener::ConnectOriginate,
        InternalListener::ForwardInnerConnect,
        InternalListener::InnerConnectOriginate,
    ]);
    prop_oneof![
        4 => (prop::collection::vec(address(), 0..4), any::<u16>())
            .prop_map(|(addresses, port)| Target::Socket { addresses: addresses.into(), port }),
        1 => text().prop_map(|path| Target::Pipe(path.as_str().into())),
        1 => (listener, address(), any::<u16>())
            .prop_map(|(listener, address, port)| Target::Internal { listener, address, port }),
        1 => any::<u16>().prop_map(|port| Target::Nowhere { port }),
    ]
}

fn assignments() -> impl Strategy<Value = Assignment> {
    let pool = prop::collection::vec(workload(), 1..4);
    let groups = pool.prop_flat_map(|pool| {
        let group = (
            text(),
            text(),
            text(),
            any::<u32>(),
            prop_oneof![Just(0), any::<u32>()],
            prop::collection::vec(endpoint(pool), 0..6),
        );
        prop::collection::vec(group, 0..4)
    });
    let waypoint_to = prop::option::of((any::<[u8; 4]>(), any::<u16>()).prop_map(Into::into));
    (groups, any::<bool>(), waypoint_to).prop_map(|(groups, hides_workloads, waypoint_to)| Assignment {
        hides_workloads,
        waypoint_to,
        groups: groups
            .into_iter()
            .map(|(region, zone, subzone, priority, weight, endpoints)| LocalityGroup {
                locality: Locality {
                    region: region.as_str().into(),
                    zone: zone.as_str().into(),
                    subzone: subzone.as_str().into(),
                },
                priority,
                weight,
                endpoints,
            })
            .collect(),
        ..Assignment::default()
    })
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![text(), Just("outbound|80||a.ns.svc.cluster.local".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn p8_the_bytes_are_those_of_the_generated_messages(name in names(), given in assignments()) {
        let (ours, theirs) = (assignment(&name, &given), assignment_by_prost(&name, &given));
        prop_assert_eq!(&ours.any, &theirs.any);
        prop_assert_eq!(&ours.delta, &theirs.delta);
        prop_assert_eq!(ours.hash, theirs.hash);
    }
}
