//! What would have to be otherwise: the pipeline once more, with one thing changed.

use std::collections::HashMap;
use std::sync::Arc;

use serde::Serialize;

use crate::model::{
    Discoverability, Endpoint, EndpointShard, Exposure, Health, IpFamilies, Labels, NetworkGateway,
    RequestedView, Standing, TlsMode, Workload, WorkloadProfile,
};
use crate::registry::{NetworkSnapshot, ServiceSnapshot, StandingSnapshot};
use crate::view::{Decision, Destination, EdsKey, EdsName, Inputs, assign};

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
type Alike = (Decision, *const WorkloadProfile, Health, bool);

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
    key: Option<EdsKey>,
    service_labels: Option<Labels>,
}

impl<'a> Woulds<'a> {
    pub(super) fn new(inputs: Inputs<'a>, name: &'a EdsName, key: &'a EdsKey) -> Self {
        Self { inputs, name, key, known: HashMap::new(), left: MOST_RUNS }
    }

    /// What would have to be otherwise for an endpoint, the `at`th of the pipeline; `None` when it is not hidden or
    /// nothing would help, and beyond [`MOST_RUNS`] different cases.
    pub(super) fn of(&mut self, at: usize, endpoint: &Endpoint, decision: Decision) -> Option<Would> {
        let profile = Arc::as_ptr(&endpoint.workload.profile);
        let alike = (decision, profile, endpoint.health, endpoint.addresses.is_empty());
        if let Some(known) = self.known.get(&alike) {
            return known.clone();
        }
        self.left = self.left.checked_sub(1)?;
        let would = self.find(at, endpoint, decision);
        self.known.insert(alike, would.clone());
        would
    }

    fn find(&self, at: usize, endpoint: &Endpoint, decision: Decision) -> Option<Would> {
        let (condition, otherwise) = self.otherwise(endpoint, decision)?;
        let then = self.then(at, endpoint, otherwise)?;
        (then != decision).then_some(Would { condition, then })
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
            Decision::OtherCluster | Decision::NotGlobal => (
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
            Decision::Draining => (
                "the Service had sticky sessions (label istio.io/persistent-session)".to_owned(),
                Otherwise {
                    service_labels: Some([("istio.io/persistent-session", "yes")].into()),
                    ..Otherwise::default()
                },
            ),
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
            | Decision::Terminating
            | Decision::AmbientNetwork
            | Decision::NoShare
            | Decision::SameAddress => return None,
        })
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
    fn then(&self, at: usize, endpoint: &Endpoint, otherwise: Otherwise) -> Option<Decision> {
        let service = changed(self.inputs.service, endpoint, &otherwise)?;
        let inputs = Inputs {
            service: &service,
            networks: otherwise.networks.as_ref().unwrap_or(self.inputs.networks),
            standings: otherwise.standings.as_ref().unwrap_or(self.inputs.standings),
            ..self.inputs
        };
        let key = otherwise.key.as_ref().unwrap_or(self.key);
        let mut decided: Vec<(Endpoint, Decision)> = Vec::new();
        assign(inputs, self.name, key, &mut decided);
        let same = |one: &&(Endpoint, Decision)| {
            one.0.workload.id() == endpoint.workload.id()
                && one.0.port == endpoint.port
                && one.0.port_name == endpoint.port_name
        };
        // In its place, unless the world is in another order now.
        let found = decided.get(at).filter(same).or_else(|| decided.iter().find(same));
        found.map(|(_, decision)| *decision)
    }
}

/// The service with another endpoint in place of one, or with other labels.
fn changed(service: &ServiceSnapshot, endpoint: &Endpoint, otherwise: &Otherwise) -> Option<ServiceSnapshot> {
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
    Some(ServiceSnapshot {
        version: service.version,
        record_version: service.record_version,
        service: record,
        shards: shards.collect(),
        accounts: service.accounts.clone(),
        conflicting: service.conflicting,
    })
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
