//! From a service snapshot to the endpoints a proxy sees (R4.1–R4.28 with D2–D7).
//!
//! Shards → ports → per-endpoint filter → direct, through a gateway, or hidden → localities → weights → priorities. Every
//! endpoint gets exactly one [`Decision`]; with the recorder `()` none of that costs anything.

use std::sync::Arc;

use super::assignment::{AssignedEndpoint, Assignment, InternalListener, Origin, SocketMatch, Target};
use super::lb::{Client, Plan, first_share};
use super::roads::{Road, Roads};
use super::waypoint::{self, OfWaypoint, Way};
use super::weighing::Weighing;
use super::{Decision, Destination, EdsKey, EdsName, MeshRules, Recorder, hbone, mtls, projection, reads};
use crate::model::policy::{ClientTlsMode, OutlierDetection};
use crate::model::{
    ClusterId, Endpoint, EndpointShard, Features, Health, InlineAddress, InlineEndpoint, Labels, Locality,
    Name, NetworkId, Quirk, Service, Standing, TrafficDistribution, Transport, Workload, WorkloadProfile,
};
use crate::registry::{NetworkSnapshot, PolicySnapshot, ServiceSnapshot, StandingSnapshot};

/// The versioned inputs of an assignment.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The service.
    pub service: &'a ServiceSnapshot,
    /// The service's [waypoint](super::waypoint()), where it has one that some cluster knows.
    pub waypoint: Option<&'a ServiceSnapshot>,
    /// The networks.
    pub networks: &'a NetworkSnapshot,
    /// Mesh-wide rules.
    pub mesh: &'a MeshRules,
    /// What the endpoints of each cluster are worth.
    pub standings: &'a StandingSnapshot,
    /// The policies.
    pub policies: &'a PolicySnapshot,
}

/// The endpoints that proxies with projection `key` get for `name`; `inputs.service` is the service of the namespace that
/// the projection names. Cost ∝ the service's endpoints.
///
/// An unknown service, port or subset gives an empty assignment, never an error (R4.2); so does a service whose
/// endpoints Envoy resolves itself.
pub fn assign(inputs: Inputs<'_>, name: &EdsName, key: &EdsKey, recorder: &mut impl Recorder) -> Assignment {
    let service = inputs.service.service.as_deref();
    let meant = service.filter(|service| key.namespace.as_ref() == Some(&service.key.namespace));
    let sent = |service: &&Service| {
        service.port(name.port).is_some() && !service.resolution.is_dns() && hbone::is_for(name, key.role)
    };
    let Some(service) = meant.filter(sent) else {
        return Assignment { standings_read: standings_read(inputs), ..Assignment::default() };
    };
    let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
    let subset = destination.subset(&name.subset);
    if !name.subset.is_empty() && subset.is_none() {
        return Assignment {
            standings_read: standings_read(inputs),
            policies_read: reads::policies(inputs.policies, &name.host, &[]),
            ..Assignment::default()
        };
    }
    let settings = destination.settings(name.port, &name.subset);
    let (config, mesh) = (inputs.policies.mesh(), inputs.mesh);
    let plan = projection::plan_of(&settings, service, config, mesh.quirks(), key.role);
    let nowhere = Locality::default();
    let client =
        Client { locality: key.locality.as_ref().unwrap_or(&nowhere), labels: key.labels.as_deref() };
    let features = mesh.features();
    // The Envoy cluster has the mesh's where the rule has none (Q19).
    let default = config.outlier_detection.as_ref().filter(|_| !mesh.quirks().has(Quirk::Q19));
    let outliers = settings.outlier_detection.as_ref().or(default);
    let labels = subset.map(|subset| &subset.labels);
    let way = Way::of(inputs, service, name, key);
    let waypoint = way.as_ref().and_then(|way| way.inputs(inputs));
    let mut pass = Pass {
        inputs: waypoint.map_or(inputs, |(_, inputs)| inputs),
        name: way.as_ref().map_or(name, |way| &way.name),
        key,
        to_waypoint: way.is_some(),
        subset: labels.filter(|_| way.is_none()),
        tls: mtls::told(&destination, name),
        sends_unhealthy: sends_unhealthy(features, service.traffic_distribution, outliers),
        sticky: mesh.is_sticky(&service.labels),
        cluster_local: mesh.cluster_local(config, &name.host)
            || way.as_ref().is_some_and(|way| mesh.cluster_local(config, &way.waypoint.hostname)),
        global: is_global(inputs, service),
        roads: Roads::new(inputs, key),
        shares: if let Plan::Distribute(rules) = &plan { Some((rules, client.locality)) } else { None },
        last: None,
        namespaces: Vec::new(),
    };
    let scale = mesh.quirks().has(Quirk::Q29).then(|| pass.roads.mesh_scale());
    let once = pass.inputs.service.shards.len() > 1 && !mesh.quirks().has(Quirk::Q27);
    let mut weighing = Weighing::new(mesh.quirks(), scale, once);
    match (&way, waypoint) {
        (None, _) => {
            pass.shards(service, &mut weighing, recorder);
            pass.unix(service, &mut weighing, recorder);
        }
        (Some(_), Some((record, _))) => pass.shards(record, &mut weighing, &mut OfWaypoint(recorder)),
        (Some(_), None) => {}
    }
    let mut groups = weighing.finish(&pass.roads, &plan, client);
    hbone::without_match(name, &mut groups);
    if way.is_some() {
        let serves = groups.iter().any(|group| !group.endpoints.is_empty());
        waypoint::decided(inputs, name, labels, serves, recorder);
    }
    Assignment {
        groups,
        hides_workloads: !features.tells_workloads(),
        waypoint_to: way.as_ref().map(|way| way.to),
        waypoint_read: way.as_ref().map(Way::read),
        networks_read: pass.roads.into_read(),
        standings_read: standings_read(inputs),
        policies_read: reads::policies(inputs.policies, &name.host, &pass.namespaces),
    }
}

/// Whether endpoints that are not ready are sent, as such (R4.10): Envoy then must not fall back on them.
pub fn sends_unhealthy(
    features: &Features,
    distribution: TrafficDistribution,
    outliers: Option<&OutlierDetection>,
) -> bool {
    features.send_unhealthy
        || distribution != TrafficDistribution::Any
        || features.auto_send_unhealthy && outliers.is_none_or(|outliers| outliers.min_health_percent == 0)
}

fn standings_read(inputs: Inputs<'_>) -> u64 {
    let shards =
        inputs.service.shards.iter().chain(inputs.waypoint.iter().flat_map(|waypoint| &waypoint.shards));
    inputs.standings.version(shards.map(|shard| &shard.cluster))
}

/// Whether other clusters may use a service (R4.9): always, but in an ambient mesh of several networks only if the
/// first rule of the mesh that means it says so, as long as the config cluster has it.
fn is_global(inputs: Inputs<'_>, service: &Service) -> bool {
    if !inputs.mesh.features().multi_network {
        return true;
    }
    let config = inputs.mesh.config_cluster();
    let record = config.and_then(|config| inputs.service.shard(config)?.service.as_deref());
    let told = record.map(|record| &record.namespace_labels).filter(|labels| !labels.is_empty());
    let named = Labels::from([("kubernetes.io/metadata.name", service.key.namespace.as_str())]);
    let labels = told.unwrap_or(&named);
    let rule = inputs.policies.mesh().service_scopes.iter().find(|rule| {
        // Of a namespace that was not read only its name is known: a rule that asks for more means nobody.
        let known = told.is_some() || rule.namespaces.labels().all(|label| labels.contains_key(label));
        known && rule.services.selects(&service.labels) && rule.namespaces.selects(labels)
    });
    let elsewhere = config.is_some() && record.is_none();
    elsewhere || rule.is_some_and(|rule| rule.global)
}

/// The names under which a cluster's own record carries this port number (D7). Without a record the cluster's
/// endpoints match nothing: they wait for it (contract 3).
pub(super) fn port_names(shard: &EndpointShard, number: u16) -> Vec<&Name> {
    let ports = shard.service.iter().flat_map(|service| &service.ports);
    ports
        .filter(|port| port.number == number && port.transport == Transport::Tcp)
        .map(|port| &port.name)
        .collect()
}

/// What holds for every endpoint of one profile and port.
#[derive(Clone, Copy)]
struct Facts {
    /// Which profile and port, to know it again.
    of: (*const WorkloadProfile, u16),
    road: Road,
    /// Whether HBONE is spoken to them (R4.17).
    tunnel: bool,
    socket: SocketMatch,
    mtls: bool,
}

/// One run over the endpoints of one service.
struct Pass<'a> {
    inputs: Inputs<'a>,
    name: &'a EdsName,
    key: &'a EdsKey,
    /// Whether the endpoints are a waypoint's, to which HBONE is always spoken (R4.16).
    to_waypoint: bool,
    /// Labels of the subset (R4.8).
    subset: Option<&'a Labels>,
    /// What the DestinationRule says of TLS (R4.12).
    tls: Option<ClientTlsMode>,
    /// R4.10.
    sends_unhealthy: bool,
    /// Whether draining endpoints stay (R4.9).
    sticky: bool,
    /// R4.5.
    cluster_local: bool,
    /// R4.9.
    global: bool,
    roads: Roads<'a>,
    /// Shares by locality, and where the proxy is.
    shares: Option<(&'a [crate::model::policy::Distribute], &'a Locality)>,
    last: Option<Facts>,
    /// The namespaces whose PeerAuthentications were looked at.
    namespaces: Vec<Name>,
}

impl<'a> Pass<'a> {
    fn shards(&mut self, service: &Service, weighing: &mut Weighing, recorder: &mut impl Recorder) {
        let standings = self.inputs.standings;
        let standing = |shard: &EndpointShard| standings.part(&shard.cluster).standing;
        let mut shards: Vec<&EndpointShard> = self.inputs.service.shards.iter().map(AsRef::as_ref).collect();
        // Dropped clusters last: they serve only where nothing else does.
        shards.sort_by(|a, b| {
            let dropped = |shard| standing(shard) == Standing::Dropped;
            (dropped(a), &a.cluster).cmp(&(dropped(b), &b.cluster))
        });
        // Whether there is anything but dropped clusters: those serve together or not at all.
        let mut others_serve = None;
        for shard in shards {
            let standing = standing(shard);
            let names = if self.inputs.mesh.quirks().has(Quirk::Q30) {
                service.port(self.name.port).map(|port| &port.name).into_iter().collect()
            } else {
                port_names(shard, self.name.port)
            };
            weighing.rank(standing);
            let spare =
                standing == Standing::Dropped && *others_serve.get_or_insert_with(|| weighing.serves());
            for endpoint in shard.endpoints.iter() {
                let decision = match self.matches(endpoint, &names) {
                    Err(hidden) => hidden,
                    Ok(()) if spare => Decision::StaleCluster,
                    Ok(()) => self.decide(endpoint, weighing),
                };
                recorder.decided(endpoint, decision);
            }
        }
    }

    /// Endpoints at Unix sockets: nothing leads there but the way on the proxy's own machine (R4.15).
    fn unix(&mut self, service: &Service, weighing: &mut Weighing, recorder: &mut impl Recorder) {
        let port = service.port(self.name.port).map(|port| &port.name);
        weighing.rank(Standing::Regular);
        for endpoint in service.inline() {
            let InlineAddress::Unix(path) = &endpoint.address else { continue };
            let decision = match Some(&endpoint.port_name) == port {
                true => self.at_socket(endpoint, path, weighing),
                false => Decision::OtherPort,
            };
            recorder.decided_at_socket(endpoint, decision);
        }
    }

    fn at_socket(&mut self, endpoint: &InlineEndpoint, path: &Name, weighing: &mut Weighing) -> Decision {
        if self.subset.is_some_and(|subset| !has_all(&endpoint.workload, subset)) {
            return Decision::Subset;
        }
        let sent = self.pipe(endpoint, path);
        if self.name.sni_dnat && !sent.is_mtls() {
            return Decision::MtlsRequired;
        }
        weighing.direct(&endpoint.workload.place, sent);
        if self.has_no_share(&endpoint.workload) { Decision::NoShare } else { Decision::Direct }
    }

    fn pipe(&mut self, endpoint: &InlineEndpoint, path: &Name) -> AssignedEndpoint {
        let facts = self.facts(&endpoint.workload, 0);
        AssignedEndpoint {
            target: Target::Pipe(path.clone()),
            weight: endpoint.weight(),
            health: Some(Health::Healthy),
            socket: facts.socket,
            origin: Origin::Direct(Arc::clone(&endpoint.workload)),
        }
    }

    /// Whether an endpoint is one of this name at all, and one the proxy may have.
    fn matches(&self, endpoint: &Endpoint, names: &[&Name]) -> Result<(), Decision> {
        // A slice whose port has no number (R5.2) says which port is meant to nobody.
        if endpoint.port == 0 || !names.contains(&&endpoint.port_name) {
            return Err(Decision::OtherPort);
        }
        if self.subset.is_some_and(|subset| !has_all(&endpoint.workload, subset)) {
            return Err(Decision::Subset);
        }
        self.filter(endpoint).map_or(Ok(()), Err)
    }

    fn decide(&mut self, endpoint: &Endpoint, weighing: &mut Weighing) -> Decision {
        let (workload, place) = (&endpoint.workload, &endpoint.workload.place);
        let facts = self.facts(workload, endpoint.port);
        let hidden = match facts.road {
            // The metadata of R4.17 replaces that of R4.13: what is tunnelled is not asked for by SNI (R4.28).
            Road::Direct if self.name.sni_dnat && !facts.mtls => Decision::MtlsRequired,
            Road::Direct => match self.direct(endpoint, facts).map(|sent| weighing.direct(place, sent)) {
                None => Decision::NoAddress,
                Some(false) => Decision::SameAddress,
                Some(true) if self.has_no_share(workload) => Decision::NoShare,
                Some(true) => return Decision::Direct,
            },
            Road::Gateways(_) if !facts.mtls && !self.roads.by_hbone() => Decision::MtlsRequired,
            Road::Gateways(_) if self.name.sni_dnat && self.roads.by_hbone() => Decision::MtlsRequired,
            Road::Gateways(_) if !self.is_ready(endpoint) => Decision::NotReadyBehindGateway,
            Road::Gateways(set) => {
                let gateways = self.roads.sets()[set].len();
                weighing.through(place, set, gateways, endpoint.weight());
                if !self.has_no_share(workload) {
                    return Decision::ViaGateway;
                }
                Decision::NoShare
            }
            Road::Hidden(hidden) => hidden,
        };
        weighing.meet(place);
        hidden
    }

    /// Whether an endpoint gives its gateways weight (D4; Q11: every one that is sent does).
    fn is_ready(&self, endpoint: &Endpoint) -> bool {
        self.inputs.mesh.quirks().has(Quirk::Q11)
            || endpoint.health == Health::Healthy && !self.stays_draining(endpoint)
    }

    fn has_no_share(&self, workload: &Workload) -> bool {
        self.shares.is_some_and(|(rules, from)| first_share(rules, from, workload.locality()).is_err())
    }

    /// What holds for a workload's endpoints on one target port: mostly known from the one before.
    fn facts(&mut self, workload: &Workload, port: u16) -> Facts {
        let of = (Arc::as_ptr(&workload.profile), port);
        if let Some(last) = self.last.filter(|last| last.of == of) {
            return last;
        }
        let mode = workload.tls_mode_text();
        if self.tls.is_none() && mode == "istio" && !self.namespaces.contains(&workload.namespace) {
            self.namespaces.push(workload.namespace.clone());
        }
        let meant = mtls::is_meant(self.tls, self.inputs.policies, workload, port);
        let features = self.inputs.mesh.features();
        let tunnel = self.to_waypoint || hbone::is_spoken(features, self.key, self.name, workload);
        let socket = match meant && !matches!(mode, "" | "disabled") {
            // Where HBONE is all that is spoken, nothing is chosen by a match (R4.17).
            _ if tunnel && self.name.inbound_vip.is_none() => SocketMatch::Tunnel,
            true => SocketMatch::TlsMode,
            false => SocketMatch::Plain,
        };
        let road = self.road(&workload.network, &workload.cluster);
        let facts =
            Facts { of, road, tunnel, socket, mtls: socket == SocketMatch::TlsMode && mode == "istio" };
        self.last = Some(facts);
        facts
    }

    fn road(&mut self, network: &NetworkId, cluster: &ClusterId) -> Road {
        self.roads.to(network, cluster)
    }

    /// The filter of R4.9; `None` keeps the endpoint.
    fn filter(&self, endpoint: &Endpoint) -> Option<Decision> {
        let pod = &endpoint.workload;
        if self.key.node.as_ref().is_some_and(|node| node != pod.node() || *self.key.cluster != *pod.cluster)
        {
            return Some(Decision::OtherNode);
        }
        if !self.key.requested_view.sees(&pod.network) {
            return Some(Decision::NetworkView);
        }
        if pod.cluster != self.key.cluster {
            if self.cluster_local {
                return Some(Decision::OtherCluster);
            }
            if !self.global {
                return Some(Decision::NotGlobal);
            }
        }
        if !endpoint.exposure.discoverability().permits(&pod.cluster, &self.key.cluster) {
            return Some(Decision::NotExported);
        }
        match endpoint.health {
            Health::Unhealthy if !self.sends_unhealthy => Some(Decision::Unhealthy),
            Health::Terminating => Some(Decision::Terminating),
            _ if !self.sticky && self.is_draining(endpoint) => Some(Decision::Draining),
            _ => None,
        }
    }

    /// Whether an endpoint is draining, by its health or its pod's label (R4.9, R4.11).
    fn is_draining(&self, endpoint: &Endpoint) -> bool {
        let label = || endpoint.workload.own_labels.get(&self.inputs.mesh.features().draining_label);
        endpoint.health == Health::Draining || label().is_some_and(|value| !value.is_empty())
    }

    /// Whether an endpoint that was not hidden is draining: only those of services with sticky sessions are left.
    fn stays_draining(&self, endpoint: &Endpoint) -> bool {
        self.sticky && self.is_draining(endpoint)
    }

    /// The endpoint at its own address (R4.11–R4.17); `None` when it has none.
    fn direct(&self, endpoint: &Endpoint, facts: Facts) -> Option<AssignedEndpoint> {
        let (features, port) = (self.inputs.mesh.features(), endpoint.port);
        let target = match (endpoint.addresses.first().copied(), facts.tunnel) {
            (Some(address), true) => Target::Internal { listener: self.listener(), address, port },
            (Some(_), false) if features.dual_stack => {
                Target::Socket { addresses: endpoint.addresses.clone(), port }
            }
            (Some(address), false) => Target::Socket { addresses: address.into(), port },
            // Q17.
            (None, _) if self.inputs.mesh.quirks().has(Quirk::Q17) && self.roads.has_no_gateway() => {
                Target::Nowhere { port }
            }
            (None, _) => return None,
        };
        let draining = self.stays_draining(endpoint);
        Some(AssignedEndpoint {
            target,
            weight: endpoint.weight(),
            health: Some(if draining { Health::Draining } else { endpoint.health }),
            socket: facts.socket,
            origin: Origin::Direct(Arc::clone(&endpoint.workload)),
        })
    }

    fn listener(&self) -> InternalListener {
        InternalListener::to_endpoints(self.key.role)
    }
}

/// Whether a workload has every label of a subset, topology labels included (R4.8).
pub(super) fn has_all(workload: &Workload, labels: &Labels) -> bool {
    labels.iter().all(|(key, value)| workload.label(key) == Some(value.as_str()))
}
