use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::api::discovery::v1::EndpointConditions;
use proptest::prelude::*;

use super::*;

fn port(number: i32) -> Vec<EndpointPort> {
    vec![EndpointPort { port: Some(number), name: Some(String::new()), ..EndpointPort::default() }]
}

fn endpoint(pod: u32, ready: bool) -> Endpoint {
    Endpoint {
        addresses: vec![format!("10.0.{}.{}", pod / 256, pod % 256)],
        conditions: Some(EndpointConditions { ready: Some(ready), ..EndpointConditions::default() }),
        target_ref: Some(ObjectReference {
            uid: Some(format!("pod-{pod:05}")),
            ..ObjectReference::default()
        }),
        ..Endpoint::default()
    }
}

/// Pods as (number, port, readiness).
type Pods = [(u32, i32, bool)];

fn groups(pods: &Pods) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for (pod, number, ready) in pods {
        let endpoint = endpoint(*pod, *ready);
        match groups.iter_mut().find(|group| group.ports == port(*number)) {
            Some(group) => group.add(endpoint),
            None => groups.push(Group::new(port(*number), endpoint)),
        }
    }
    groups
}

/// The slices of one Service, as an API server would keep them.
#[derive(Default)]
struct Server {
    slices: Vec<Arc<EndpointSlice>>,
    names: usize,
}

impl Server {
    /// Brings the slices in step with `pods`; what was written.
    fn settle(&mut self, pods: &Pods) -> Vec<SliceChange> {
        let changes = pack(groups(pods), &self.slices, &EndpointSlice::default(), |_| false);
        for change in &changes {
            match change {
                SliceChange::Create(slice) => {
                    let mut slice = slice.as_ref().clone();
                    slice.metadata.name = Some(format!("s{}", self.names));
                    self.names += 1;
                    self.slices.push(Arc::new(slice));
                }
                SliceChange::Update(slice) => {
                    let at = self.at(slice);
                    self.slices[at] = Arc::new(slice.as_ref().clone());
                }
                SliceChange::Delete(slice) => {
                    let at = self.at(slice);
                    self.slices.remove(at);
                }
            }
        }
        changes
    }

    fn at(&self, slice: &EndpointSlice) -> usize {
        let same = |held: &Arc<EndpointSlice>| held.metadata.name == slice.metadata.name;
        self.slices.iter().position(same).expect("only slices that are there are written")
    }

    /// Endpoints with their slices' ports, and the sizes of slices.
    fn shows(&self) -> (Vec<(String, i32, bool)>, Vec<usize>) {
        let mut shown = Vec::new();
        for slice in &self.slices {
            for endpoint in endpoints(slice) {
                let ready = endpoint.conditions.as_ref().unwrap().ready.unwrap();
                shown.push((identity(endpoint), ports(slice)[0].port.unwrap(), ready));
            }
        }
        shown.sort();
        (shown, self.slices.iter().map(|slice| endpoints(slice).len()).collect())
    }
}

fn ready(numbers: impl IntoIterator<Item = u32>) -> Vec<(u32, i32, bool)> {
    numbers.into_iter().map(|pod| (pod, 80, true)).collect()
}

#[test]
fn endpoints_come_in_slices_of_a_hundred() {
    let mut server = Server::default();
    assert_eq!(server.settle(&ready(0..250)).len(), 3);
    assert_eq!(server.shows().1, [100, 100, 50]);
}

#[test]
fn one_pods_change_is_one_write() {
    let mut server = Server::default();
    let mut pods = ready(0..250);
    server.settle(&pods);
    pods[42].2 = false;
    let changes = server.settle(&pods);
    assert!(matches!(changes[..], [SliceChange::Update(_)]), "{changes:?}");
    pods.remove(42);
    assert_eq!(server.settle(&pods).len(), 1);
    assert_eq!(server.shows().1, [99, 100, 50]);
}

#[test]
fn newcomers_go_into_the_fullest_slice_with_room_for_all() {
    let mut server = Server::default();
    server.settle(&ready(0..250));
    server.settle(&ready((0..250).filter(|pod| *pod != 7)));
    assert_eq!(server.shows().1, [99, 100, 50]);
    // One fits into the slice of 99; then two only into that of 50.
    let with = |more: std::ops::Range<u32>| ready((0..250).filter(|pod| *pod != 7).chain(more));
    assert_eq!(server.settle(&with(300..301)).len(), 1);
    assert_eq!(server.shows().1, [100, 100, 50]);
    assert_eq!(server.settle(&with(300..303)).len(), 1);
    assert_eq!(server.shows().1, [100, 100, 52]);
    // More than fits anywhere gets a slice of its own instead of two writes.
    assert!(matches!(server.settle(&with(300..360))[..], [SliceChange::Create(_)]));
}

#[test]
fn a_replaced_pod_takes_the_place_of_the_one_before() {
    let mut server = Server::default();
    server.settle(&ready(0..100));
    let changes = server.settle(&ready(1..101));
    assert!(matches!(changes[..], [SliceChange::Update(_)]), "{changes:?}");
    assert_eq!(server.shows().1, [100]);
}

#[test]
fn one_empty_slice_remains_and_is_used_again() {
    let mut server = Server::default();
    assert!(matches!(server.settle(&[])[..], [SliceChange::Create(_)]));
    assert_eq!(server.settle(&[]).len(), 0);
    assert!(matches!(server.settle(&ready(0..3))[..], [SliceChange::Update(_)]));
    server.settle(&ready(0..250));
    server.settle(&[]);
    assert_eq!(server.shows().1, [0]);
    assert!(ports(&server.slices[0]).is_empty());
    assert_eq!(server.settle(&[]).len(), 0);
}

#[test]
fn pods_with_other_ports_are_in_other_slices() {
    let mut server = Server::default();
    server.settle(&[(1, 80, true), (2, 81, true), (3, 80, true)]);
    assert_eq!(server.shows().1, [2, 1]);
    // The last one on 80 leaves: its slice goes, that of 81 stays as it is.
    let changes = server.settle(&[(2, 81, true)]);
    assert!(matches!(changes[..], [SliceChange::Delete(_)]), "{changes:?}");
}

#[test]
fn metadata_alone_is_a_reason_to_write() {
    let mut server = Server::default();
    server.settle(&ready(0..3));
    let pods = ready(0..3);
    let changes = pack(groups(&pods), &server.slices, &EndpointSlice::default(), |_| true);
    assert!(matches!(changes[..], [SliceChange::Update(_)]), "{changes:?}");
}

#[test]
fn copies_and_overfull_slices_of_others_are_put_right() {
    let slice = |name: &str, pods: std::ops::Range<u32>| {
        let mut slice = EndpointSlice::default();
        slice.metadata.name = Some(name.into());
        slice.ports = Some(port(80));
        slice.endpoints = filled(pods.map(|pod| endpoint(pod, true)).collect());
        Arc::new(slice)
    };
    let mut server = Server { slices: vec![slice("a", 0..120), slice("b", 110..130)], names: 0 };
    server.settle(&ready(0..130));
    let (shown, sizes) = server.shows();
    assert_eq!(shown.len(), 130);
    assert_eq!(sizes, [100, 30]);
}

fn pods() -> impl Strategy<Value = Vec<(u32, i32, bool)>> {
    let pod = (0_u32..400, 80_i32..83, any::<bool>());
    proptest::collection::btree_map(0_u32..400, pod, 0..350)
        .prop_map(|pods| pods.into_iter().map(|(uid, (_, port, ready))| (uid, port, ready)).collect())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// Whatever was there before: each endpoint once, under its ports, at most a hundred together; a second look
    /// writes nothing; and no slice is written that did not have to be.
    #[test]
    fn packing_is_complete_bounded_stable_and_thrifty(steps in proptest::collection::vec(pods(), 1..6)) {
        let mut server = Server::default();
        for pods in steps {
            let before: Vec<Arc<EndpointSlice>> = server.slices.clone();
            let changes = server.settle(&pods);
            let mut wanted: Vec<_> =
                pods.iter().map(|(pod, port, ready)| (format!("pod-{pod:05}"), *port, *ready)).collect();
            wanted.sort();
            let (shown, sizes) = server.shows();
            prop_assert_eq!(&shown, &wanted);
            prop_assert!(sizes.iter().all(|size| *size <= MOST));
            prop_assert!(pods.is_empty() == (sizes == [0]), "{:?}", sizes);
            prop_assert!(server.settle(&pods).is_empty());

            let held: BTreeSet<(String, i32)> = before
                .iter()
                .flat_map(|slice| endpoints(slice).iter().map(|held| (identity(held), ports(slice)[0].port.unwrap())))
                .collect();
            let new = wanted.iter().filter(|(uid, port, _)| !held.contains(&(uid.clone(), *port))).count();
            let stale = before.iter().filter(|slice| {
                endpoints(slice).is_empty()
                    || endpoints(slice).iter().any(|held| {
                        let now = pods.iter().find(|(pod, port, _)| {
                            format!("pod-{pod:05}") == identity(held) && port_of(slice) == Some(*port)
                        });
                        now.is_none_or(|(pod, _, ready)| endpoint(*pod, *ready) != *held)
                    })
            });
            // Beyond the stale ones: new endpoints fill whole slices, and one more per distinct set of ports.
            prop_assert!(changes.len() <= stale.count() + new / MOST + 3, "{} writes", changes.len());
        }
    }
}

fn port_of(slice: &EndpointSlice) -> Option<i32> {
    ports(slice).first().and_then(|port| port.port)
}
