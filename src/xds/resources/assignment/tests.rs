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
    let address =
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u16; 8]>().prop_map(IpAddr::from)];
    let health = prop::sample::select(vec![
        None,
        Some(Health::Healthy),
        Some(Health::Unhealthy),
        Some(Health::Draining),
        Some(Health::Terminating),
    ]);
    (address, any::<u16>(), any::<u32>(), health, any::<bool>(), origin(pool)).prop_map(
        |(address, port, weight, health, mtls, origin)| AssignedEndpoint {
            address,
            port,
            weight,
            health,
            mtls,
            origin,
        },
    )
}

fn assignments() -> impl Strategy<Value = Assignment> {
    let pool = prop::collection::vec(workload(), 1..4);
    let groups = pool.prop_flat_map(|pool| {
        let group =
            (text(), text(), text(), any::<u32>(), any::<u32>(), prop::collection::vec(endpoint(pool), 0..6));
        prop::collection::vec(group, 0..4)
    });
    groups.prop_map(|groups| Assignment {
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

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn p8_the_bytes_are_those_of_the_generated_messages(name in text(), given in assignments()) {
        let (ours, theirs) = (assignment(&name, &given), assignment_by_prost(&name, &given));
        prop_assert_eq!(&ours.any, &theirs.any);
        prop_assert_eq!(&ours.delta, &theirs.delta);
        prop_assert_eq!(ours.hash, theirs.hash);
    }
}
