use std::net::IpAddr;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::model::{Addresses, ClusterId, Locality, NetworkId, TlsMode, Workload, WorkloadParts};

/// What an assignment borrows from.
#[derive(Clone, Debug)]
struct Sample {
    groups: Vec<(Locality, u32, u32, Vec<One>)>,
    hides_workloads: bool,
    waypoint_to: Option<SocketAddr>,
}

#[derive(Clone, Debug)]
struct One {
    target: To,
    weight: u32,
    health: Option<Health>,
    socket: SocketMatch,
    origin: From,
}

#[derive(Clone, Debug)]
enum To {
    Socket(Addresses, u16),
    Elsewhere(Target<'static>),
}

#[derive(Clone, Debug)]
enum From {
    Pod(Arc<Workload>),
    Gateway(NetworkId, ClusterId),
}

impl One {
    fn assigned(&self) -> AssignedEndpoint<'_> {
        AssignedEndpoint {
            target: match &self.target {
                To::Socket(addresses, port) => Target::Socket { addresses, port: *port },
                To::Elsewhere(target) => target.clone(),
            },
            weight: self.weight,
            health: self.health,
            socket: self.socket,
            origin: match &self.origin {
                From::Pod(workload) => Origin::Direct(workload),
                From::Gateway(network, cluster) => Origin::Gateway { network, cluster },
            },
        }
    }
}

impl Sample {
    fn assignment(&self) -> Assignment<'_> {
        Assignment {
            groups: self.groups.iter().map(assigned).collect(),
            hides_workloads: self.hides_workloads,
            waypoint_to: self.waypoint_to,
            ..Assignment::default()
        }
    }
}

fn assigned((locality, priority, weight, endpoints): &(Locality, u32, u32, Vec<One>)) -> LocalityGroup<'_> {
    LocalityGroup {
        locality: locality.clone(),
        priority: *priority,
        weight: *weight,
        endpoints: endpoints.iter().map(One::assigned).collect(),
    }
}

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
fn origin(pool: Vec<Arc<Workload>>) -> impl Strategy<Value = From> {
    let gateway = (text(), text())
        .prop_map(|(network, cluster)| From::Gateway(network.as_str().into(), cluster.as_str().into()));
    prop_oneof![3 => prop::sample::select(pool).prop_map(From::Pod), 1 => gateway]
}

/// Few: endpoints often share them.
fn weight() -> impl Strategy<Value = u32> {
    prop_oneof![2 => 1..3_u32, 1 => any::<u32>()]
}

fn port() -> impl Strategy<Value = u16> {
    prop_oneof![1 => prop::sample::select(vec![0, 127, 128, 16_383, 16_384]), 2 => any::<u16>()]
}

fn endpoint(pool: Vec<Arc<Workload>>) -> impl Strategy<Value = One> {
    let health = prop::sample::select(vec![
        None,
        Some(Health::Healthy),
        Some(Health::Unhealthy),
        Some(Health::Draining),
        Some(Health::Terminating),
    ]);
    let socket = prop::sample::select(vec![SocketMatch::Plain, SocketMatch::TlsMode, SocketMatch::Tunnel]);
    (target(), weight(), health, socket, origin(pool))
        .prop_map(|(target, weight, health, socket, origin)| One { target, weight, health, socket, origin })
}

fn target() -> impl Strategy<Value = To> {
    let address =
        || prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    let listener = prop::sample::select(vec![
        InternalListener::ConnectOriginate,
        InternalListener::ForwardInnerConnect,
        InternalListener::InnerConnectOriginate,
    ]);
    prop_oneof![
        4 => (prop::collection::vec(address(), 0..4), port())
            .prop_map(|(addresses, port)| To::Socket(addresses.into(), port)),
        1 => text().prop_map(|path| To::Elsewhere(Target::Pipe(path.as_str().into()))),
        1 => (listener, address(), port())
            .prop_map(|(listener, address, port)| To::Elsewhere(Target::Internal { listener, address, port })),
        1 => port().prop_map(|port| To::Elsewhere(Target::Nowhere { port })),
    ]
}

fn locality() -> impl Strategy<Value = Locality> {
    (text(), text(), text()).prop_map(|(region, zone, subzone)| Locality {
        region: region.as_str().into(),
        zone: zone.as_str().into(),
        subzone: subzone.as_str().into(),
    })
}

fn samples() -> impl Strategy<Value = Sample> {
    let pool = prop::collection::vec(workload(), 1..4);
    let groups = pool.prop_flat_map(|pool| {
        let weight = prop_oneof![Just(0), any::<u32>()];
        let endpoints = prop::collection::vec(endpoint(pool), 0..12);
        prop::collection::vec((locality(), any::<u32>(), weight, endpoints), 0..4)
    });
    let waypoint_to = prop::option::of((any::<[u8; 4]>(), any::<u16>()).prop_map(Into::into));
    (groups, any::<bool>(), waypoint_to).prop_map(|(groups, hides_workloads, waypoint_to)| Sample {
        groups,
        hides_workloads,
        waypoint_to,
    })
}

fn names() -> impl Strategy<Value = String> {
    prop_oneof![text(), Just("outbound|80||a.ns.svc.cluster.local".to_owned())]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn p8_the_bytes_are_those_of_the_generated_messages(name in names(), given in samples()) {
        let given = given.assignment();
        let (ours, theirs) = (assignment(&name, &given), assignment_by_prost(&name, &given));
        prop_assert_eq!(&ours.any, &theirs.any);
        prop_assert_eq!(&ours.delta, &theirs.delta);
        prop_assert_eq!(ours.hash, theirs.hash);
    }
}
