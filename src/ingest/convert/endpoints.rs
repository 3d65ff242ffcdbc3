//! EndpointSlices → endpoints.

use std::collections::HashSet;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use hashbrown::HashSet as Seen;

use super::{ClusterContext, ClusterNetwork, Conditions, Entry, EntryAddresses, Slice, bare_workload};
use crate::ingest::objects::{NETWORK_LABEL, ServiceObject, SlicePort};
use crate::model::{Addresses, Discoverability, Endpoint, Health, Name, SessionLabels, Workload};

/// Where endpoints find their pods.
pub trait PodLookup {
    /// How slices name pods.
    type Pod: Eq + Hash;

    /// The pod of this name, in any phase but failed (R5.3).
    fn by_name(&self, pod: &Self::Pod) -> Option<Arc<Workload>>;
    /// The pod of this namespace that lends its metadata to this address (R5.5, R5.7): the first by name, if
    /// there are several.
    fn by_address(&self, namespace: &Name, address: IpAddr) -> Option<Arc<Workload>>;
}

/// What the health of a slice's endpoints is derived from besides their conditions (R5.13).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HealthBasis {
    /// The Service is not known.
    NoService,
    /// A Service without sticky sessions.
    Plain,
    /// A Service whose leaving endpoints keep their sessions.
    Sticky,
}

impl HealthBasis {
    /// What a Service says; either label for sticky sessions will do (Q10).
    pub fn of(service: Option<&ServiceObject>, labels: &SessionLabels) -> Self {
        let Some(service) = service else {
            return Self::NoService;
        };
        if labels.mark(&service.labels) { Self::Sticky } else { Self::Plain }
    }
}

/// One slice and what holds for it alone.
#[derive(Debug)]
pub struct SliceInput<'a, P> {
    /// The slice.
    pub slice: &'a Slice<P>,
    /// What its endpoints' health is derived from: the Service as it is now (D46), or as it was (Q32).
    pub basis: HealthBasis,
    /// Pods that are known and count as unknown (Q23).
    pub late: Option<&'a HashSet<P>>,
}

/// Everything the endpoints of one service depend on.
pub struct EndpointInput<'a, P: PodLookup> {
    /// The cluster.
    pub context: &'a ClusterContext,
    /// Where its addresses belong.
    pub of_cluster: &'a ClusterNetwork,
    /// The service's namespace.
    pub namespace: &'a Name,
    /// Its Service, once that is known.
    pub service: Option<&'a ServiceObject>,
    /// Its slices in the order of their names, which is the order of the endpoints (Q25).
    pub slices: &'a [SliceInput<'a, P::Pod>],
    /// The pods.
    pub pods: &'a P,
    /// Whether slices are believed without the pods they name (D9).
    pub without_pods: bool,
    /// Who may use the endpoints (R4.38).
    pub discoverability: Discoverability,
}

/// What slices yield.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Endpoints {
    /// The endpoints, in the order of slice name, then position.
    pub endpoints: Vec<Endpoint>,
    /// Addresses withheld because the pod they name is not known (R5.3, D9).
    pub withheld: usize,
    /// Addresses and ports that cannot be used, and why (K-38, K-40).
    pub skipped: Vec<String>,
}

/// R5.1–R5.7, R5.13, R5.15. The same (first address, port name) in two slices counts once, the first by slice
/// name (R5.1).
pub fn endpoints<P: PodLookup>(input: EndpointInput<'_, P>) -> Endpoints {
    let mut result = Endpoints::default();
    let many = input.slices.iter().map(|part| part.slice.entries.len() * part.slice.ports.len()).sum();
    result.endpoints.reserve_exact(many);
    let mut seen: Seen<(IpAddr, &Name)> = Seen::with_capacity(many);
    for part in input.slices {
        let ports = usable_ports(&part.slice.ports, &mut result.skipped);
        for (entry, told) in part.slice.entries() {
            let health = health(entry.conditions, part.basis);
            for address in told.usable(input.context) {
                let address = match address {
                    Ok(address) => address,
                    Err(reason) => {
                        result.skipped.push(reason);
                        continue;
                    }
                };
                let Some(workload) = behind(&input, part, entry, address) else {
                    result.withheld += 1;
                    continue;
                };
                let addresses = addresses(&input, part.slice, entry, address, &workload);
                let Some(first) = addresses.first().copied() else {
                    continue;
                };
                let workload = placed(workload, first, input.of_cluster);
                let fresh = ports.iter().filter(|(name, _)| seen.insert((first, *name)));
                result.endpoints.extend(fresh.map(|(name, port)| Endpoint {
                    addresses: addresses.clone(),
                    port: *port,
                    port_name: Name::clone(name),
                    health,
                    weight: None,
                    exposure: input.discoverability.into(),
                    workload: Arc::clone(&workload),
                }));
            }
        }
    }
    result
}

/// R5.15: every address of a dual-stack pod behind a dual-stack Service, told once by the slice that is not
/// IPv6; else the slice's address.
fn addresses<P: PodLookup>(
    input: &EndpointInput<'_, P>,
    slice: &Slice<P::Pod>,
    entry: &Entry<P::Pod>,
    address: IpAddr,
    pod: &Workload,
) -> Addresses {
    let dual_service = input.service.is_some_and(|service| service.cluster_ips.len() > 1);
    let dual = input.context.dual_stack && entry.pod.is_some() && dual_service && pod.addresses.len() > 1;
    match (dual, &*slice.address_type) {
        (false, _) => address.into(),
        (true, "IPv6") => Addresses::default(),
        (true, _) => pod.addresses.iter().copied().filter(|ip| input.context.permits(*ip)).collect(),
    }
}

/// R2.1: an endpoint belongs where its own address does. That is where its pod belongs, but for pods with
/// addresses in blocks of several networks.
fn placed(workload: Arc<Workload>, address: IpAddr, of_cluster: &ClusterNetwork) -> Arc<Workload> {
    match of_cluster.by_address(workload.own_labels.get(NETWORK_LABEL), address) {
        Some(network) if network != workload.network => Arc::new(workload.on_network(network)),
        _ => workload,
    }
}

/// Port name and number come from the slice, 0 where it says none (R5.2); one whose number is no port serves
/// nothing, and is told (K-38).
fn usable_ports<'a>(ports: &'a [SlicePort], skipped: &mut Vec<String>) -> Vec<(&'a Name, u16)> {
    let mut usable = Vec::with_capacity(ports.len());
    for port in ports {
        match (port.port, port.port.map(u16::try_from)) {
            (None, _) => usable.push((&port.name, 0)),
            (_, Some(Ok(number @ 1..))) => usable.push((&port.name, number)),
            (Some(number), _) => skipped.push(format!("port `{}` has number {number}", port.name)),
        }
    }
    usable
}

impl<'a> EntryAddresses<'a> {
    /// The addresses that others can be told to connect to, and why they cannot be told the rest (K-38, K-40).
    fn usable(self, context: &'a ClusterContext) -> impl Iterator<Item = Result<IpAddr, String>> + 'a {
        let (one, texts) = self.apart();
        one.map(|address| context.usable(address))
            .into_iter()
            .chain(texts.iter().map(|text| context.address(text)))
    }
}

/// The workload behind an address; `None` when the pod it names is not known (R5.3, R5.5).
fn behind<P: PodLookup>(
    input: &EndpointInput<'_, P>,
    part: &SliceInput<'_, P::Pod>,
    entry: &Entry<P::Pod>,
    address: IpAddr,
) -> Option<Arc<Workload>> {
    let bare = || Arc::new(bare_workload(input.context, address, input.of_cluster));
    if let Some(pod) = &entry.pod {
        let known = input.pods.by_name(pod).filter(|_| !part.late.is_some_and(|late| late.contains(pod)));
        return known.or_else(|| input.without_pods.then(bare));
    }
    Some(input.pods.by_address(input.namespace, address).unwrap_or_else(bare))
}

/// R5.13 and D46: without the Service, an endpoint that is not ready is unhealthy; it is derived again when
/// the Service comes.
fn health(conditions: Conditions, basis: HealthBasis) -> Health {
    if conditions.ready().unwrap_or(true) {
        return Health::Healthy;
    }
    let leaving = conditions.terminating().unwrap_or(true);
    let serving = conditions.serving().unwrap_or(true);
    match basis {
        HealthBasis::Sticky if serving && leaving => Health::Draining,
        HealthBasis::Sticky | HealthBasis::Plain if leaving => Health::Terminating,
        _ => Health::Unhealthy,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, HashMap};

    use serde_json::{Value, json};

    use super::super::test_context;
    use super::*;
    use crate::ingest::objects::{ObjectKey, SliceObject};
    use crate::model::WorkloadParts;

    #[derive(Default)]
    struct Pods {
        named: HashMap<ObjectKey, Arc<Workload>>,
        lending: HashMap<(Name, IpAddr), Arc<Workload>>,
    }

    impl PodLookup for Pods {
        type Pod = ObjectKey;

        fn by_name(&self, key: &ObjectKey) -> Option<Arc<Workload>> {
            self.named.get(key).cloned()
        }

        fn by_address(&self, namespace: &Name, address: IpAddr) -> Option<Arc<Workload>> {
            self.lending.get(&(namespace.clone(), address)).cloned()
        }
    }

    fn named(name: &str) -> Arc<Workload> {
        Arc::new(WorkloadParts { name: name.into(), ..WorkloadParts::default() }.into())
    }

    fn convert(slices: &[(&str, Value)], labels: Option<Value>, pods: &Pods) -> Endpoints {
        let slices: BTreeMap<&str, SliceObject> = slices
            .iter()
            .map(|(name, slice)| (*name, serde_json::from_value(slice.clone()).unwrap()))
            .collect();
        let service = labels.map(|labels| ServiceObject {
            labels: serde_json::from_value(labels).unwrap(),
            ..ServiceObject::default()
        });
        convert_for(&test_context(), &slices, service.as_ref(), pods)
    }

    fn convert_for(
        context: &ClusterContext,
        slices: &BTreeMap<&str, SliceObject>,
        service: Option<&ServiceObject>,
        pods: &Pods,
    ) -> Endpoints {
        let basis = HealthBasis::of(service, &context.session_labels);
        let ours = |slice: &SliceObject| SliceObject { service: Some("s".into()), ..slice.clone() };
        let slices: Vec<_> = slices
            .values()
            .map(|slice| Slice::of(ours(slice), |namespace, name| ObjectKey::new(namespace, name)))
            .collect();
        let slices: Vec<_> = slices.iter().map(|slice| SliceInput { slice, basis, late: None }).collect();
        endpoints(EndpointInput {
            context,
            of_cluster: &ClusterNetwork::new("n-sys".into(), Arc::default()),
            namespace: &"a".into(),
            service,
            slices: &slices,
            pods,
            without_pods: false,
            discoverability: Discoverability::Always,
        })
    }

    fn slice(endpoints: Value) -> Value {
        json!({"metadata": {"namespace": "a"}, "addressType": "IPv4", "endpoints": endpoints,
               "ports": [{"name": "http", "port": 8080}]})
    }

    fn shown(result: &Endpoints) -> Vec<String> {
        let show = |e: &Endpoint| format!("{}:{} {}", e.addresses[0], e.port, e.port_name);
        result.endpoints.iter().map(show).collect()
    }

    #[test]
    fn r5_2_one_endpoint_per_address_and_port() {
        let two = json!({"endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}],
            "ports": [{"name": "http", "port": 8080}, {"port": 9090}]});
        let result = convert(&[("s-1", two)], None, &Pods::default());
        assert_eq!(
            shown(&result),
            ["10.0.0.1:8080 http", "10.0.0.1:9090 ", "10.0.0.2:8080 http", "10.0.0.2:9090 "]
        );
    }

    #[test]
    fn r5_1_an_address_in_two_slices_counts_once_and_q25_slices_are_ordered_by_name() {
        let one = slice(json!([{"addresses": ["10.0.0.9"]}, {"addresses": ["10.0.0.1"]}]));
        let two = slice(json!([{"addresses": ["10.0.0.1"]}, {"addresses": ["10.0.0.2"]}]));
        let result = convert(&[("s-b", one), ("s-a", two)], None, &Pods::default());
        assert_eq!(shown(&result), ["10.0.0.1:8080 http", "10.0.0.2:8080 http", "10.0.0.9:8080 http"]);
    }

    #[test]
    fn r5_3_an_endpoint_of_an_unknown_pod_is_withheld_and_d9_counted() {
        let entry = slice(json!([
            {"addresses": ["10.0.0.1"], "targetRef": {"kind": "Pod", "name": "p1"}},
            {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Pod", "name": "p2", "namespace": "a"}}]));
        let mut pods = Pods::default();
        pods.named.insert(ObjectKey::new("a", "p1"), named("p1"));
        let result = convert(&[("s-1", entry)], None, &pods);
        assert_eq!(shown(&result), ["10.0.0.1:8080 http"]);
        assert_eq!(&*result.endpoints[0].workload.name, "p1");
        assert_eq!(result.withheld, 1);
    }

    #[test]
    fn r5_5_a_bare_address_borrows_from_a_ready_pod_of_its_namespace_or_is_plain() {
        let entry = slice(json!([
            {"addresses": ["10.0.0.1"]},
            {"addresses": ["10.0.0.2"], "targetRef": {"kind": "Node", "name": "n"}}]));
        let mut pods = Pods::default();
        pods.lending.insert(("a".into(), "10.0.0.1".parse().unwrap()), named("p1"));
        let result = convert(&[("s-1", entry)], None, &pods);
        assert_eq!(&*result.endpoints[0].workload.name, "p1");
        let plain = &result.endpoints[1].workload;
        assert!(plain.name.is_empty() && plain.account.is_none() && plain.locality().is_empty());
        assert_eq!(&*plain.network, "n-sys");
    }

    #[test]
    fn r5_13_health_from_conditions() {
        let sticky = || Some(json!({"istio.io/persistent-session": "c"}));
        let by_header = || Some(json!({"istio.io/persistent-session-header": "h"}));
        let plain = || Some(json!({}));
        use Health::{Draining, Healthy, Terminating, Unhealthy};
        for (conditions, labels, expected) in [
            (json!({}), plain(), Healthy),
            (json!({"ready": null}), plain(), Healthy),
            (json!({"ready": true, "terminating": true}), plain(), Healthy),
            (json!({"ready": false}), plain(), Terminating),
            (json!({"ready": false, "terminating": false}), plain(), Unhealthy),
            (json!({"ready": false, "serving": true, "terminating": true}), plain(), Terminating),
            (json!({"ready": false, "serving": true, "terminating": true}), sticky(), Draining),
            (json!({"ready": false, "serving": true, "terminating": true}), by_header(), Draining),
            (json!({"ready": false}), sticky(), Draining),
            (json!({"ready": false, "serving": false, "terminating": true}), sticky(), Terminating),
            (json!({"ready": false, "terminating": false}), sticky(), Unhealthy),
        ] {
            let entry = slice(json!([{"addresses": ["10.0.0.1"], "conditions": conditions}]));
            let result = convert(&[("s-1", entry)], labels.clone(), &Pods::default());
            assert_eq!(result.endpoints[0].health, expected, "{conditions} {labels:?}");
        }
    }

    #[test]
    fn r5_15_a_dual_stack_pod_behind_a_dual_stack_service_is_one_endpoint() {
        let object = |text: &str, family: &str| -> SliceObject {
            let mut slice = slice(json!([{"addresses": [text], "targetRef": {"kind": "Pod", "name": "p1"}}]));
            slice["addressType"] = json!(family);
            serde_json::from_value(slice).unwrap()
        };
        let both: [IpAddr; 2] = ["10.0.0.1", "fd00::1"].map(|text| text.parse().unwrap());
        let mut pods = Pods::default();
        let pod = Workload { name: "p1".into(), addresses: both[..].into(), ..Workload::default() };
        pods.named.insert(ObjectKey::new("a", "p1"), Arc::new(pod));
        let slices =
            BTreeMap::from([("s-4", object("10.0.0.1", "IPv4")), ("s-6", object("fd00::1", "IPv6"))]);
        let service = |ips: &[&str]| ServiceObject {
            cluster_ips: ips.iter().map(|ip| Name::from(*ip)).collect(),
            ..ServiceObject::default()
        };
        let shown = |dual_stack, ips: &[&str]| -> Vec<Vec<String>> {
            let context = ClusterContext { dual_stack, ..test_context() };
            let result = convert_for(&context, &slices, Some(&service(ips)), &pods);
            let addresses = result.endpoints.iter().map(|e| &e.addresses);
            addresses.map(|list| list.iter().map(ToString::to_string).collect()).collect()
        };
        assert_eq!(shown(true, &["10.9.0.1", "fd09::1"]), [["10.0.0.1", "fd00::1"]]);
        assert_eq!(shown(false, &["10.9.0.1", "fd09::1"]), [["10.0.0.1"], ["fd00::1"]]);
        assert_eq!(shown(true, &["10.9.0.1"]), [["10.0.0.1"], ["fd00::1"]]);
    }

    #[test]
    fn d46_without_the_service_an_unready_endpoint_is_unhealthy() {
        let entry = slice(json!([{"addresses": ["10.0.0.1"], "conditions": {"ready": false}}]));
        let result = convert(&[("s-1", entry)], None, &Pods::default());
        assert_eq!(result.endpoints[0].health, Health::Unhealthy);
    }

    #[test]
    fn k40_unusable_addresses_and_ports_are_skipped_and_told() {
        let entry = json!({"endpoints": [{"addresses": ["nonsense", "127.0.0.1", "169.254.169.254",
            "::ffff:10.0.0.7", "10.0.0.1"]}],
            "ports": [{"name": "a", "port": 70000}, {"name": "b", "port": -1}, {"name": "c", "port": 80},
                {"name": "d", "port": 0}]});
        let result = convert(&[("s-1", entry)], None, &Pods::default());
        assert_eq!(shown(&result), ["10.0.0.7:80 c", "10.0.0.1:80 c"]);
        assert_eq!(result.skipped.len(), 6, "{:?}", result.skipped);
        assert!(result.skipped.contains(&"port `d` has number 0".to_owned()), "{:?}", result.skipped);
    }

    #[test]
    fn r5_2_a_port_without_a_number_is_port_0() {
        let entry = json!({"endpoints": [{"addresses": ["10.0.0.1"]}], "ports": [{"name": "all"}, {}]});
        let result = convert(&[("s-1", entry)], None, &Pods::default());
        assert_eq!(
            (shown(&result), result.skipped.len()),
            (vec!["10.0.0.1:0 all".into(), "10.0.0.1:0 ".into()], 0)
        );
    }
}
