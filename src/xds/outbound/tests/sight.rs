//! There is an Envoy cluster exactly where there is an assignment (R4.2).

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::model::policy::SidecarPort;
use crate::model::{Locality, Name, Node, NodeMetadata, ProxyView, Quirks, Resolution};
use crate::view::{EdsKey, EdsName, MeshRules};
use crate::xds::assignments::Assignments;

const NAMESPACES: [&str; 2] = ["sample", "other"];
const HOSTS: [&str; 2] = ["a.example", "b.example"];
const PORTS: [u16; 3] = [80, 81, 82];

fn proxy(kind: &str, namespace: &str) -> ProxyView {
    let metadata = NodeMetadata {
        cluster_id: "east".to_owned(),
        namespace: namespace.to_owned(),
        ..NodeMetadata::default()
    };
    let id = format!("{kind}~10.0.0.9~p.{namespace}~{namespace}.svc.cluster.local");
    let node = Node::parse(&id, metadata, Locality::default(), std::iter::empty()).expect("a node");
    ProxyView::new(&node, None, &"".into(), Quirks::OURS)
}

/// One change of the mesh; numbers choose among the names above.
#[derive(Clone, Debug)]
enum Step {
    /// A service: namespace, host, whom it is exported to, its age, whether it is an alias; or it goes.
    Service(usize, usize, Option<(usize, i64, bool)>),
    /// A Sidecar of a namespace, or of the root: its listeners (port, namespace and pattern of what they name); or
    /// it goes.
    Sidecar(usize, Option<Vec<(usize, usize, usize)>>),
    /// A VirtualService of a namespace: its host, its destination, whom it is exported to, whether it is for the
    /// mesh; or it goes.
    Routes(usize, Option<(usize, usize, usize, bool)>),
    /// Whether services that say nothing are exported.
    Mesh(bool),
}

fn step() -> impl Strategy<Value = Step> {
    let service = (0..4_usize, 0..3_i64, prop::bool::weighted(0.1));
    let listeners = prop::collection::vec((0..4_usize, 0..4_usize, 0..4_usize), 0..3);
    let routes = (0..3_usize, 0..2_usize, 0..4_usize, prop::bool::weighted(0.8));
    let often = 0.8;
    prop_oneof![
        4 => (0..2_usize, 0..2_usize, prop::option::weighted(often, service))
            .prop_map(|(namespace, host, told)| Step::Service(namespace, host, told)),
        3 => (0..3_usize, prop::option::weighted(often, listeners))
            .prop_map(|(namespace, told)| Step::Sidecar(namespace, told)),
        4 => (0..2_usize, prop::option::weighted(often, routes))
            .prop_map(|(namespace, told)| Step::Routes(namespace, told)),
        1 => any::<bool>().prop_map(Step::Mesh),
    ]
}

fn export(which: usize) -> ExportTo {
    match which {
        0 => ExportTo::Unset,
        1 => ExportTo::Everywhere,
        2 => ExportTo::Nowhere,
        _ => ExportTo::Namespaces(["other".into()].into()),
    }
}

fn listener(&(port, namespace, pattern): &(usize, usize, usize)) -> EgressListener {
    let number = [None, Some(80), Some(81), Some(0)][port];
    let namespace = match namespace {
        0 => EgressNamespace::Any,
        1 => EgressNamespace::Nobody,
        of => EgressNamespace::Named(NAMESPACES[of - 2].into()),
    };
    let pattern = ["*", "a.example", "*.example", "c.example"][pattern];
    EgressListener {
        port: number.map(|number| SidecarPort { number, protocol: PortProtocol::Http, name: "".into() }),
        bind: None,
        socket: None,
        capture: CaptureMode::Default,
        hosts: vec![EgressHost { namespace, host: HostPattern::new(pattern) }],
    }
}

impl Mesh {
    fn take(&mut self, step: &Step) {
        match step {
            Step::Service(namespace, host, told) => {
                let key = ServiceKey::new(NAMESPACES[*namespace], HOSTS[*host]);
                let service = told.map(|(to, created, alias)| {
                    let port = |number| ServicePort { number, ..record("x").ports[0].clone() };
                    let resolution =
                        if alias { Resolution::Alias("x.y".into()) } else { Resolution::ClientSide };
                    let ports = vec![port(80), port(PORTS[1 + namespace])];
                    let (key, export_to) = (key.clone(), export(to));
                    Arc::new(Service { key, ports, created, export_to, resolution, ..Service::default() })
                });
                self.east.set(key, EndpointShard::new("east".into(), service, Vec::new()));
            }
            Step::Sidecar(namespace, told) => {
                let id = PolicyId::new([NAMESPACES[0], NAMESPACES[1], "istio-system"][*namespace], "default");
                let write = match told {
                    Some(listeners) => PolicyWrite::set(PolicyObject::Sidecar(Arc::new(Sidecar {
                        meta: PolicyMeta { created: 1, id },
                        selector: WorkloadSelector::default(),
                        egress: listeners.iter().map(listener).collect(),
                        ingress: Vec::new(),
                        outbound_policy: None,
                        inbound_pool: None,
                    }))),
                    None => PolicyWrite::remove(PolicyKind::Sidecar, id),
                };
                self.registry.write_policies([write]);
            }
            Step::Routes(namespace, told) => {
                let id = PolicyId::new(NAMESPACES[*namespace], "routes");
                let write = match told {
                    Some((host, to, exported, for_mesh)) => {
                        let host = [HOSTS[0], HOSTS[1], "c.example"][*host];
                        let PolicyObject::VirtualService(made) = routes(host, HOSTS[*to]) else {
                            unreachable!("routes are a VirtualService")
                        };
                        let gateway = if *for_mesh { "mesh" } else { "sample/gateway" };
                        PolicyWrite::set(PolicyObject::VirtualService(Arc::new(VirtualService {
                            meta: PolicyMeta { created: 1, id },
                            export_to: export(*exported),
                            gateways: vec![gateway.into()],
                            ..(*made).clone()
                        })))
                    }
                    None => PolicyWrite::remove(PolicyKind::VirtualService, id),
                };
                self.registry.write_policies([write]);
            }
            Step::Mesh(exported) => {
                let own = ExportTo::Namespaces(["".into()].into());
                let default_service_export_to = if *exported { ExportTo::Everywhere } else { own };
                self.registry
                    .write_mesh_config(MeshConfig { default_service_export_to, ..MeshConfig::default() });
            }
        }
        self.push();
        self.outbounds.expire(Instant::now() + LINGER * 2, &mut Marks::new(None));
    }

    /// The Envoy clusters that there would be a service behind for a proxy.
    fn meant(&self, view: &ProxyView) -> BTreeSet<String> {
        let policies = self.registry.policies();
        let mut all = BTreeSet::new();
        for host in HOSTS {
            let candidates: Vec<_> = self.registry.host(host).iter().map(|cell| cell.load()).collect();
            for port in PORTS {
                let name = EdsName::outbound(port, &host.into());
                let key = EdsKey::of(view, &name, &candidates, &policies, &MeshRules::default());
                let records = candidates.iter().filter_map(|candidate| candidate.service.as_deref());
                let of = |service: &&Service| Some(&service.key.namespace) == key.namespace.as_ref();
                if records.filter(of).any(|service| service.port(port).is_some()) {
                    all.insert(name.to_string());
                }
            }
        }
        all
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn r4_2_there_is_an_envoy_cluster_exactly_where_an_assignment_has_a_service(
        steps in prop::collection::vec(step(), 1..24)
    ) {
        let mut mesh = Mesh::new(&[]);
        let views = [proxy("sidecar", "sample"), proxy("sidecar", "other"), proxy("router", "sample")];
        let mut joined: BTreeMap<usize, (Arc<StreamHandle>, Arc<Outbound>)> = BTreeMap::new();
        for (at, step) in steps.iter().enumerate() {
            mesh.take(step);
            for (number, view) in views.iter().enumerate() {
                let key = OutboundKey::of(view, &mesh.registry.policies());
                if joined.get(&number).is_none_or(|(_, outbound)| *outbound.key() != key) {
                    if let Some((stream, outbound)) = joined.remove(&number) {
                        mesh.outbounds.leave(&outbound, &stream);
                    }
                    joined.insert(number, mesh.join(number as u64, key));
                }
                let there: BTreeSet<_> = clusters(&joined[&number].1).into_iter().collect();
                prop_assert_eq!(there, mesh.meant(view), "step {} for {}", at, view.id);
            }
        }
    }
}

#[test]
fn r4_2_what_a_sidecar_hides_is_there_while_a_route_that_is_heeded_leads_there() {
    let mut mesh = Mesh::new(&[]);
    mesh.take(&Step::Service(1, 1, Some((0, 1, false))));
    // It names c.example of every namespace.
    mesh.take(&Step::Sidecar(0, Some(vec![(0, 0, 3)])));
    let view = proxy("sidecar", "sample");
    let assignments = Assignments::new(Arc::clone(&mesh.registry), Arc::default(), Arc::default());
    let name = Name::from("outbound|80||b.example");
    let handle = StreamHandle::new(7);
    let key = || assignments.key(&view, &name);
    assert_eq!(key().namespace, None, "hidden");
    let _cell = assignments.watch(&name, key(), &handle);
    let tell = |mesh: &mut Mesh, step| {
        let mut marks = Marks::new(None);
        mesh.take(&step);
        let scope = VirtualService::leading_to("b.example");
        assignments.policy_changed(&PolicyPart { kind: PolicyKind::VirtualService, scope }, &mut marks);
        assert!(handle.take().rekeys.contains(&name), "whoever watches looks again");
    };
    tell(&mut mesh, Step::Routes(1, Some((2, 1, 0, true))));
    assert_eq!(key().namespace, Some("other".into()), "c.example leads there");
    assert_eq!(mesh.meant(&view), ["outbound|80||b.example".into(), "outbound|82||b.example".into()].into());
    tell(&mut mesh, Step::Routes(1, Some((2, 1, 2, true))));
    assert_eq!(key().namespace, None, "for nobody");
    tell(&mut mesh, Step::Routes(1, Some((0, 1, 0, true))));
    assert_eq!(key().namespace, None, "about a host that the Sidecar hides itself");
    tell(&mut mesh, Step::Routes(1, Some((2, 1, 0, false))));
    assert_eq!(key().namespace, None, "for a gateway");
}
