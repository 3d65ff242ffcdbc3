//! What would have to be otherwise: the pipeline once more, with one thing changed.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Decided, Record};
use crate::model::policy::ServiceScopeRule;
use crate::model::{
    Discoverability, Endpoint, EndpointShard, Exposure, Health, InlineAddress, IpFamilies, Labels, Name,
    NetworkGateway, Quirk, RequestedView, Service, Standing, TlsMode, Workload, WorkloadProfile,
};
use crate::registry::PolicySnapshot;
use crate::registry::{NetworkSnapshot, ServiceSnapshot, StandingSnapshot};
use crate::view::{Decision, Destination, EdsKey, EdsName, Inputs, MeshRules, Role, told};

/// A gateway that does not exist: an address of a range that nobody has (RFC 5737).
const SOME_V4: [u8; 4] = [192, 0, 2, 1];
/// The same for IPv6 (RFC 3849).
const SOME_V6: [u16; 8] = [0x2001, 0xdb8, 0, 0, 0, 0, 0, 1];

/// What would become of an endpoint if one thing were otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Would {
    /// The thing.
    #[serde(rename = "if")]
    pub condition: String,
    /// What would be decided then.
    pub then: Decision,
}

/// Endpoints of one reason that are alike would fare alike.
type Alike = (Decision, *const WorkloadProfile, u16, Health, bool);

/// Finds out, once for all endpoints that are alike.
pub(super) struct Woulds<'a> {
    inputs: Inputs<'a>,
    name: &'a EdsName,
    key: &'a EdsKey,
    known: HashMap<Alike, Option<Would>>,
    /// How often the pipeline may still run again.
    left: u32,
}

/// The most runs of one explanation: each costs what the whole answer costs.
const MOST_RUNS: u32 = 64;

/// A world in which one thing is otherwise.
#[derive(Default)]
struct Otherwise {
    endpoint: Option<Endpoint>,
    networks: Option<NetworkSnapshot>,
    standings: Option<StandingSnapshot>,
    mesh: Option<MeshRules>,
    policies: Option<PolicySnapshot>,
    key: Option<EdsKey>,
    service_labels: Option<Labels>,
}

impl<'a> Woulds<'a> {
    pub(super) fn new(inputs: Inputs<'a>, name: &'a EdsName, key: &'a EdsKey) -> Self {
        Self { inputs, name, key, known: HashMap::new(), left: MOST_RUNS }
    }

    /// What would have to be otherwise for an endpoint, the `at`th of the pipeline; `None` when it is not hidden or
    /// nothing would help, and beyond [`MOST_RUNS`] different cases.
    pub(super) fn of(&mut self, at: usize, one: &Decided) -> Option<Would> {
        let endpoint = &one.endpoint;
        let profile = Arc::as_ptr(&endpoint.workload.profile);
        let alike = (one.decision, profile, endpoint.port, endpoint.health, endpoint.addresses.is_empty());
        if let Some(known) = self.known.get(&alike) {
            return known.clone();
        }
        self.left = self.left.checked_sub(1)?;
        let would = self.find(at, one);
        self.known.insert(alike, would.clone());
        would
    }

    fn find(&self, at: usize, one: &Decided) -> Option<Would> {
        let (condition, otherwise) = self.otherwise(&one.endpoint, one.decision)?;
        let then = self.then(at, one, otherwise)?;
        (then != one.decision).then_some(Would { condition, then })
    }

    fn otherwise(&self, endpoint: &Endpoint, decision: Decision) -> Option<(String, Otherwise)> {
        let (workload, key) = (&endpoint.workload, self.key);
        let of = |endpoint: Endpoint| Otherwise { endpoint: Some(endpoint), ..Otherwise::default() };
        let with = |change: &dyn Fn(&mut Endpoint)| {
            let mut changed = endpoint.clone();
            change(&mut changed);
            of(changed)
        };
        let asking = |key: EdsKey| Otherwise { key: Some(key), ..Otherwise::default() };
        Some(match decision {
            Decision::Subset => {
                let rules = Destination::of_ids(self.inputs.policies, &self.name.host, &key.rules);
                let labels = rules.subset(&self.name.subset)?.labels.clone();
                (format!("its pod had the labels {labels:?}"), of(labelled(endpoint, &labels)))
            }
            Decision::OtherNode => (
                format!("the proxy were on node {:?}", &**workload.node()),
                asking(EdsKey { node: Some(workload.node().clone()), cluster: workload.cluster.clone(), ..key.clone() }),
            ),
            Decision::NetworkView => (
                format!("the proxy's REQUESTED_NETWORK_VIEW had {:?}", &*workload.network),
                asking(EdsKey { requested_view: RequestedView::default(), ..key.clone() }),
            ),
            Decision::NotGlobal => (
                "the mesh's serviceScopeConfigs made the service GLOBAL".to_owned(),
                Otherwise { policies: Some(self.everything_global()), ..Otherwise::default() },
            ),
            Decision::AmbientNetwork => self.across_networks(),
            Decision::OtherCluster => (
                format!("the proxy were in cluster {}", workload.cluster),
                asking(EdsKey { cluster: workload.cluster.clone(), ..key.clone() }),
            ),
            Decision::NotExported => (
                format!("{} exported the service (ServiceExport)", workload.cluster),
                with(&|one| one.exposure = Exposure::new(Discoverability::Always, one.exposure.sends_unhealthy())),
            ),
            Decision::Unhealthy | Decision::NotReadyBehindGateway => {
                ("it were ready".to_owned(), of(self.ready(endpoint)))
            }
            Decision::Draining => {
                let label = self.session_label()?;
                (
                    format!("the Service had sticky sessions (label {label})"),
                    Otherwise {
                        service_labels: Some([(label.as_str(), "yes")].into()),
                        ..Otherwise::default()
                    },
                )
            }
            Decision::StaleCluster => (
                format!("{} were heard again", workload.cluster),
                Otherwise {
                    standings: Some(self.inputs.standings.but(&workload.cluster, Standing::Regular)),
                    ..Otherwise::default()
                },
            ),
            Decision::NoGateway => {
                (format!("network {} had a gateway", workload.network), self.with_gateway(endpoint))
            }
            Decision::GatewayFamily => (
                format!("network {} had a gateway with a {:?} address", workload.network, key.families),
                self.with_gateway(endpoint),
            ),
            Decision::MtlsRequired => (
                "its pod spoke mesh mTLS (a sidecar, label security.istio.io/tlsMode: istio), and policies let it".to_owned(),
                of(in_the_mesh(endpoint)),
            ),
            Decision::NoAddress => ("somebody told its address".to_owned(), {
                with(&|one| one.addresses = std::net::IpAddr::from(SOME_V4).into())
            }),
            Decision::Direct
            | Decision::ViaGateway
            | Decision::ViaWaypoint
            | Decision::NoWaypoint
            | Decision::OtherPort
            | Decision::OtherWorkload
            | Decision::BehindGateway
            | Decision::Terminating
            | Decision::NoShare
            | Decision::SameAddress
            | Decision::OnlyOne => return None,
        })
    }

    /// The label that marks sticky sessions: the one for cookies, for the other does not always count (Q10).
    fn session_label(&self) -> Option<&Name> {
        let labels = self.inputs.mesh.session_labels();
        let other = (!self.inputs.mesh.quirks().has(Quirk::Q10)).then_some(&labels.header);
        [Some(&labels.cookie), other].into_iter().flatten().find(|label| !label.is_empty())
    }

    fn everything_global(&self) -> PolicySnapshot {
        let mut mesh = self.inputs.policies.mesh().as_ref().clone();
        mesh.service_scopes.insert(0, ServiceScopeRule { global: true, ..ServiceScopeRule::default() });
        self.inputs.policies.but(mesh)
    }

    /// The switch that lets proxies of this kind use other networks (R4.21.4).
    fn across_networks(&self) -> (String, Otherwise) {
        let mut features = self.inputs.mesh.features().clone();
        let switch = match self.key.role {
            Role::Waypoint => {
                features.multi_network_waypoint = true;
                "AMBIENT_ENABLE_MULTI_NETWORK_WAYPOINT"
            }
            _ => {
                features.multi_network_ingress = true;
                "AMBIENT_ENABLE_MULTI_NETWORK_INGRESS"
            }
        };
        let mesh = self.inputs.mesh.clone().with_features(features);
        (format!("{switch} were on"), Otherwise { mesh: Some(mesh), ..Otherwise::default() })
    }

    fn with_gateway(&self, endpoint: &Endpoint) -> Otherwise {
        let gateway = NetworkGateway {
            network: endpoint.workload.network.clone(),
            cluster: endpoint.workload.cluster.clone(),
            address: if self.key.families == IpFamilies::V6 { SOME_V6.into() } else { SOME_V4.into() },
            port: 15443,
            hbone_port: 15008,
        };
        Otherwise { networks: Some(self.inputs.networks.and(gateway)), ..Otherwise::default() }
    }

    fn ready(&self, endpoint: &Endpoint) -> Endpoint {
        let (label, ready) = (
            &self.inputs.mesh.features().draining_label,
            Endpoint { health: Health::Healthy, ..endpoint.clone() },
        );
        let labels = [(label.clone(), "".into())].into_iter().collect();
        if ready.workload.label(label).is_some() { labelled(&ready, &labels) } else { ready }
    }

    /// What the pipeline decides in that world.
    fn then(&self, at: usize, one: &Decided, otherwise: Otherwise) -> Option<Decision> {
        let service = changed(self.inputs.service, one, &otherwise)?;
        let inputs = Inputs {
            service: &service,
            waypoint: self.inputs.waypoint,
            networks: otherwise.networks.as_ref().unwrap_or(self.inputs.networks),
            standings: otherwise.standings.as_ref().unwrap_or(self.inputs.standings),
            mesh: otherwise.mesh.as_ref().unwrap_or(self.inputs.mesh),
            policies: otherwise.policies.as_ref().unwrap_or(self.inputs.policies),
        };
        let key = otherwise.key.as_ref().unwrap_or(self.key);
        let mut record = Record::default();
        told(inputs, self.name, key, &mut record);
        let same = |other: &&Decided| {
            let (own, other_one) = (&one.endpoint, &other.endpoint);
            other_one.workload.id() == own.workload.id()
                && (other_one.port, &other_one.port_name) == (own.port, &own.port_name)
                // One without an address may have been given one.
                && (other.inline == one.inline || one.inline == Some(InlineAddress::Absent))
        };
        // In its place, unless the world is in another order now.
        let found = record.own.get(at).filter(same).or_else(|| record.own.iter().find(same));
        found.map(|found| found.decision)
    }
}

/// The service with another endpoint in place of one, or with other labels.
fn changed(service: &ServiceSnapshot, one: &Decided, otherwise: &Otherwise) -> Option<ServiceSnapshot> {
    let endpoint = &one.endpoint;
    let shards = service.shards.iter().map(|shard| {
        let Some(replacement) = &otherwise.endpoint else { return Arc::clone(shard) };
        let place = shard.endpoints.iter().position(|one| one == endpoint);
        let Some(place) = place.filter(|_| shard.cluster == endpoint.workload.cluster) else {
            return Arc::clone(shard);
        };
        let mut endpoints = shard.endpoints.to_vec();
        endpoints[place] = replacement.clone();
        Arc::new(EndpointShard::new(shard.cluster.clone(), shard.service.clone(), endpoints))
    });
    let mut record = service.service.clone();
    if let Some(labels) = &otherwise.service_labels {
        let mut changed = crate::model::Service::clone(record.as_deref()?);
        changed.labels =
            changed.labels.iter().chain(labels.iter()).map(|(k, v)| (k.clone(), v.clone())).collect();
        record = Some(Arc::new(changed));
    }
    if let (Some(address), Some(replacement)) = (&one.inline, &otherwise.endpoint) {
        record = Some(Arc::new(inline(record.as_deref()?, address, endpoint, replacement)));
    }
    Some(ServiceSnapshot {
        version: service.version,
        record_version: service.record_version,
        service: record,
        shards: shards.collect(),
        accounts: service.accounts.clone(),
        conflicting: service.conflicting,
    })
}

/// The record with another workload behind an endpoint that is told with it, and an address if it has none.
fn inline(
    service: &Service,
    address: &InlineAddress,
    endpoint: &Endpoint,
    replacement: &Endpoint,
) -> Service {
    let mut changed = service.clone();
    let Some(entry) = &mut changed.entry else { return changed };
    for one in &mut Arc::make_mut(entry).inline {
        let same = (&one.address, one.port, &one.port_name) == (address, endpoint.port, &endpoint.port_name);
        if !same || one.workload != endpoint.workload {
            continue;
        }
        one.workload = Arc::clone(&replacement.workload);
        if let (InlineAddress::Absent, Some(told)) = (address, replacement.addresses.first()) {
            one.address = InlineAddress::Ip(*told);
        }
    }
    changed
}

fn with_profile(endpoint: &Endpoint, change: impl FnOnce(&mut WorkloadProfile)) -> Endpoint {
    let mut profile = WorkloadProfile::clone(&endpoint.workload.profile);
    change(&mut profile);
    let workload = Workload { profile: Arc::new(profile), ..Workload::clone(&endpoint.workload) };
    Endpoint { workload: Arc::new(workload), ..endpoint.clone() }
}

fn labelled(endpoint: &Endpoint, labels: &Labels) -> Endpoint {
    with_profile(endpoint, |profile| {
        labels.iter().for_each(|(label, value)| profile.own_labels.insert(label.clone(), value.clone()));
    })
}

/// With a sidecar, on a port of which nobody says otherwise.
fn in_the_mesh(endpoint: &Endpoint) -> Endpoint {
    let labels = [("security.istio.io/tlsMode", "istio"), ("networking.istio.io/tunnel", "")].into();
    with_profile(&labelled(endpoint, &labels), |profile| profile.tls_mode = TlsMode::Istio)
}
