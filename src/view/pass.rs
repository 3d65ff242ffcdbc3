//! One run over the endpoints of one service: each gets its decision (R4.5–R4.17, R4.25, R4.28).

use std::collections::BTreeSet;

use super::assignment::{AssignedEndpoint, InternalListener, Origin, Target};
use super::candidate::Candidate;
use super::facts::{Facts, Reach, Sight};
use super::lb::first_share;
use super::roads::Road;
use super::weighing::Weighing;
use super::{Decision, EdsKey, EdsName, Inputs, Recorder};
use crate::model::policy::Distribute;
use crate::model::{
    Discoverability, Endpoint, EndpointShard, Health, InlineAddress, InlineEndpoint, Locality, Name, Quirk,
    Resolution, Service, Standing, Transport, Workload,
};

/// Which endpoints of a shard are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    All,
    Healthy,
    Others,
}

impl Turn {
    fn takes(self, endpoint: &Endpoint) -> bool {
        match self {
            Self::All => true,
            Self::Healthy => endpoint.health == Health::Healthy,
            Self::Others => endpoint.health != Health::Healthy,
        }
    }
}

/// One run over the endpoints of one service.
pub(super) struct Pass<'a, 'q> {
    pub(super) inputs: Inputs<'a>,
    pub(super) name: &'q EdsName,
    pub(super) key: &'q EdsKey,
    /// R4.10.
    pub(super) sends_unhealthy: bool,
    /// Whether draining endpoints stay (R4.9).
    pub(super) sticky: bool,
    pub(super) facts: Facts<'a, 'q>,
    /// Shares by locality, and where the proxy is.
    pub(super) shares: Option<(&'q [Distribute], &'q Locality)>,
}

impl<'a> Pass<'a, '_> {
    /// Every endpoint that the clusters tell of: of one address in several clusters the copy of the fresher cluster
    /// counts (D35), and among those that are as fresh the healthy one.
    pub(super) fn shards(
        &mut self,
        service: &Service,
        weighing: &mut Weighing<'a>,
        recorder: &mut impl Recorder,
    ) {
        let standings = self.inputs.standings;
        let standing = |shard: &EndpointShard| standings.part(&shard.cluster).standing;
        let shards = self.inputs.service.shards.iter().map(AsRef::as_ref);
        let mut shards: Vec<(Standing, &'a EndpointShard)> =
            shards.map(|shard| (standing(shard), shard)).collect();
        shards.sort_by_key(|(standing, shard)| (*standing, &shard.cluster));
        let mut first = 0;
        for run in shards.chunk_by(|(one, _), (other, _)| one == other) {
            // Dropped clusters serve only where nothing else does, together or not at all.
            let spare = run[0].0 == Standing::Dropped && weighing.serves();
            let by_health = run.len() > 1 && weighing.asks_for_once();
            let turns: &[Turn] = if by_health { &[Turn::Healthy, Turn::Others] } else { &[Turn::All] };
            for turn in turns {
                for (index, (standing, shard)) in run.iter().enumerate() {
                    // Siblings are of one priority, whatever their clusters are worth.
                    let of_one = self.key.siblings.is_some();
                    weighing.next(first + index, if of_one { Standing::Regular } else { *standing });
                    self.shard(service, shard, *turn, spare, weighing, recorder);
                }
            }
            first += run.len();
        }
    }

    /// What is to be decided now of one cluster's endpoints.
    fn shard(
        &mut self,
        service: &Service,
        shard: &'a EndpointShard,
        turn: Turn,
        spare: bool,
        weighing: &mut Weighing<'a>,
        recorder: &mut impl Recorder,
    ) {
        let names = if self.inputs.mesh.quirks().has(Quirk::Q30) {
            service.port(self.name.port).map(|port| &port.name).into_iter().collect()
        } else {
            port_names(shard, self.name.port)
        };
        for endpoint in shard.endpoints.iter().filter(|endpoint| turn.takes(endpoint)) {
            let decision = self.endpoint(endpoint, &names, spare, weighing);
            recorder.decided(endpoint, decision);
        }
    }

    /// Endpoints at Unix sockets: nothing leads there but the way on the proxy's own machine (R4.15).
    pub(super) fn unix(
        &mut self,
        service: &'a Service,
        weighing: &mut Weighing<'a>,
        recorder: &mut impl Recorder,
    ) {
        let port = service.port(self.name.port).map(|port| &port.name);
        weighing.next(usize::MAX, Standing::Regular);
        for endpoint in service.inline() {
            let InlineAddress::Unix(path) = &endpoint.address else { continue };
            let decision = match Some(&endpoint.port_name) == port {
                true => self.at_socket(endpoint, path, weighing),
                false => Decision::OtherPort,
            };
            recorder.decided_inline(endpoint, decision);
        }
    }

    /// Endpoints that Envoy resolves: of those of one name and port the first, and where Envoy takes only one at all, the
    /// first that is sent.
    pub(super) fn resolved(
        &mut self,
        service: &'a Service,
        weighing: &mut Weighing<'a>,
        recorder: &mut impl Recorder,
    ) {
        let port = service.port(self.name.port).map(|port| &port.name);
        let once = !self.inputs.mesh.quirks().has(Quirk::Q27);
        let (mut sent, mut full) = (BTreeSet::new(), false);
        weighing.next(usize::MAX, Standing::Regular);
        for endpoint in service.inline() {
            let place = (&endpoint.address, endpoint.port);
            let decision = match Some(&endpoint.port_name) == port {
                false => Decision::OtherPort,
                true if full => Decision::OnlyOne,
                true if once && sent.contains(&place) => Decision::SameAddress,
                true => {
                    let sight = self.facts.sight(&endpoint.workload, endpoint.port);
                    self.filter(endpoint, sight).unwrap_or_else(|| self.decide(endpoint, sight, weighing))
                }
            };
            if matches!(decision, Decision::Direct | Decision::NoShare) {
                sent.insert(place);
            }
            full |= !decision.hides() && service.resolution == Resolution::DnsRoundRobin;
            recorder.decided_inline(endpoint, decision);
        }
    }

    fn at_socket(
        &mut self,
        endpoint: &'a InlineEndpoint,
        path: &Name,
        weighing: &mut Weighing<'a>,
    ) -> Decision {
        if !self.facts.sight(&endpoint.workload, 0).of_subset {
            return Decision::Subset;
        }
        let sent = self.pipe(endpoint, path);
        if self.name.sni_dnat && !sent.is_mtls() {
            return Decision::MtlsRequired;
        }
        weighing.direct(&endpoint.workload.place, sent);
        if self.has_no_share(&endpoint.workload) { Decision::NoShare } else { Decision::Direct }
    }

    fn pipe(&mut self, endpoint: &'a InlineEndpoint, path: &Name) -> AssignedEndpoint<'a> {
        AssignedEndpoint {
            target: Target::Pipe(path.clone()),
            weight: endpoint.weight(),
            health: Some(Health::Healthy),
            socket: self.facts.reach(&endpoint.workload, 0).socket,
            origin: Origin::Direct(&endpoint.workload),
        }
    }

    /// What becomes of an endpoint of a shard whose port has these names. `spare` ones only fill in for others.
    fn endpoint(
        &mut self,
        endpoint: &'a Endpoint,
        names: &[&Name],
        spare: bool,
        weighing: &mut Weighing<'a>,
    ) -> Decision {
        if !is_of_port(endpoint, names) {
            return Decision::OtherPort;
        }
        let sight = self.facts.sight(&endpoint.workload, endpoint.port);
        let hidden = self.filter(endpoint, sight).or(spare.then_some(Decision::StaleCluster));
        hidden.unwrap_or_else(|| self.decide(endpoint, sight, weighing))
    }

    /// The filter of R4.8 and R4.9, in its order; `None` keeps the endpoint.
    #[inline]
    fn filter(&self, endpoint: impl Candidate<'a>, sight: Sight) -> Option<Decision> {
        if !sight.of_subset {
            return Some(Decision::Subset);
        }
        if let Some(node) = &self.key.node {
            let pod = endpoint.workload();
            if node != pod.node() || self.key.cluster != pod.cluster {
                return Some(Decision::OtherNode);
            }
        }
        if sight.hidden.is_some() {
            return sight.hidden;
        }
        if !sight.same_cluster && endpoint.discoverability() == Discoverability::SameCluster {
            return Some(Decision::NotExported);
        }
        match endpoint.health() {
            Health::Unhealthy if !self.sends_unhealthy => Some(Decision::Unhealthy),
            Health::Terminating => Some(Decision::Terminating),
            _ if !self.sticky && is_draining(endpoint, sight) => Some(Decision::Draining),
            _ if self.is_no_sibling(endpoint.workload()) => Some(Decision::OtherWorkload),
            _ => None,
        }
    }

    /// Whether siblings are asked for and a workload is none (R4.9.10).
    fn is_no_sibling(&self, workload: &Workload) -> bool {
        self.key.siblings.as_ref().is_some_and(|siblings| !siblings.include(workload))
    }

    /// Where an endpoint that the proxy may have goes.
    #[inline]
    fn decide(
        &mut self,
        endpoint: impl Candidate<'a>,
        sight: Sight,
        weighing: &mut Weighing<'a>,
    ) -> Decision {
        let workload = endpoint.workload();
        let place = &*workload.place;
        let reach = self.facts.reach(workload, endpoint.port());
        // An endpoint that was not hidden drains only with sticky sessions.
        let draining = is_draining(endpoint, sight);
        let hidden = match reach.road {
            // The metadata of R4.17 replaces that of R4.13: what is tunnelled is not asked for by SNI (R4.28).
            Road::Direct if self.name.sni_dnat && !reach.mtls => Decision::MtlsRequired,
            Road::Direct => {
                match self.direct(endpoint, reach, draining).map(|sent| weighing.direct(place, sent)) {
                    None => Decision::NoAddress,
                    Some(false) => Decision::SameAddress,
                    Some(true) if self.has_no_share(workload) => Decision::NoShare,
                    Some(true) => {
                        if endpoint.health() == Health::Healthy && !draining {
                            weighing.serve();
                        }
                        return Decision::Direct;
                    }
                }
            }
            Road::Gateways(_) if self.key.siblings.is_some() => Decision::BehindGateway,
            Road::Gateways(_) if !reach.mtls && !self.facts.roads().by_hbone() => Decision::MtlsRequired,
            Road::Gateways(_) if self.name.sni_dnat && self.facts.roads().by_hbone() => {
                Decision::MtlsRequired
            }
            Road::Gateways(_) if !self.is_ready(endpoint, draining) => Decision::NotReadyBehindGateway,
            Road::Gateways(set) => {
                let gateways = self.facts.roads().sets()[set].len();
                weighing.through(place, set, gateways, endpoint.weight());
                if !self.has_no_share(workload) {
                    weighing.serve();
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
    fn is_ready(&self, endpoint: impl Candidate<'a>, draining: bool) -> bool {
        self.inputs.mesh.quirks().has(Quirk::Q11) || endpoint.health() == Health::Healthy && !draining
    }

    fn has_no_share(&self, workload: &Workload) -> bool {
        self.shares.is_some_and(|(rules, from)| first_share(rules, from, workload.locality()).is_err())
    }

    /// The endpoint at its own address (R4.11–R4.17); `None` when it has none.
    #[inline]
    fn direct(
        &self,
        endpoint: impl Candidate<'a>,
        reach: Reach,
        draining: bool,
    ) -> Option<AssignedEndpoint<'a>> {
        let (addresses, port) = (endpoint.addresses(), endpoint.port());
        let target = match (addresses, reach.tunnel) {
            _ if endpoint.elsewhere().is_some() => endpoint.elsewhere()?,
            ([address, ..], true) => {
                let listener = InternalListener::to_endpoints(self.key.role);
                Target::Internal { listener, address: *address, port }
            }
            ([_, _, ..], _) if self.inputs.mesh.features().dual_stack => Target::Socket { addresses, port },
            ([_, ..], _) => Target::Socket { addresses: &addresses[..1], port },
            // Q17.
            ([], _) if self.inputs.mesh.quirks().has(Quirk::Q17) && self.facts.roads().has_no_gateway() => {
                Target::Nowhere { port }
            }
            ([], _) => return None,
        };
        Some(AssignedEndpoint {
            target,
            weight: endpoint.weight(),
            health: Some(if draining { Health::Draining } else { endpoint.health() }),
            socket: reach.socket,
            origin: Origin::Direct(endpoint.workload()),
        })
    }
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

/// Whether an endpoint is of the port with these names. A slice whose port has no number (R5.2) says which port is meant
/// to nobody.
pub(super) fn is_of_port(endpoint: &Endpoint, names: &[&Name]) -> bool {
    endpoint.port != 0 && names.contains(&&endpoint.port_name)
}

/// Whether an endpoint is draining, by its health or its pod's label (R4.9, R4.11).
fn is_draining<'a>(endpoint: impl Candidate<'a>, sight: Sight) -> bool {
    endpoint.health() == Health::Draining || sight.draining
}
