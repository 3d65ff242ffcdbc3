//! The gateways of an assignment, and which of them traffic to an endpoint goes through.

use std::net::{IpAddr, SocketAddr};

use super::chain::Facts;
use crate::model::{ClusterId, Endpoint, Locality, NetworkId, Quirk, Standing};
use crate::view::gate::Gate;
use crate::view::{Assignment, Origin, Target};

/// One gateway, where it is sent.
pub(super) struct Entrance {
    /// Its address and the port that is used: `address:port`.
    pub(super) place: String,
    /// The network behind it.
    pub(super) network: NetworkId,
    /// The cluster that told of it.
    cluster: ClusterId,
    locality: Locality,
    pub(super) priority: u32,
    /// The weight it is sent with.
    pub(super) weight: u32,
}

/// Every gateway of an assignment, in wire order.
pub(super) struct Entrances(Vec<Entrance>);

impl Entrances {
    pub(super) fn new(assignment: &Assignment<'_>) -> Self {
        let mut all = Vec::new();
        for group in &assignment.groups {
            for endpoint in &group.endpoints {
                let Origin::Gateway { network, cluster } = endpoint.origin else { continue };
                all.push(Entrance {
                    place: place(&endpoint.target),
                    network: network.clone(),
                    cluster: cluster.clone(),
                    locality: group.locality.clone(),
                    priority: group.priority,
                    weight: endpoint.weight,
                });
            }
        }
        Self(all)
    }

    pub(super) fn all(&self) -> &[Entrance] {
        &self.0
    }

    /// Those that an endpoint stands behind, by their places in [`Self::all`], with the number of gateways its weight
    /// is divided among. Each gateway is sent once (D3); under Q27 once for each locality behind it.
    pub(super) fn before(&self, endpoint: &Endpoint, facts: &Facts<'_>) -> (Vec<usize>, usize) {
        let gateways = facts.gateways(endpoint);
        let found = gateways.iter().filter_map(|gate| self.find(*gate, endpoint, facts));
        (found.collect(), gateways.len())
    }

    fn find(&self, gate: Gate<'_>, endpoint: &Endpoint, facts: &Facts<'_>) -> Option<usize> {
        let wanted = entrance(gate, facts.port_of(gate));
        let apart = facts.inputs.mesh.quirks().has(Quirk::Q27);
        let copies = self.0.iter().enumerate().filter(|(_, one)| {
            let own = || {
                (&one.network, &one.cluster) == (gate.network(), gate.cluster())
                    && one.locality == *endpoint.workload.locality()
            };
            one.place == wanted && (!apart || own())
        });
        // Copies in one locality differ by what their clusters are worth: what is regular comes first.
        let by_priority = |(_, one): &(usize, &Entrance)| one.priority;
        let cluster = &endpoint.workload.cluster;
        let found = match facts.inputs.standings.part(cluster).standing {
            Standing::Regular => copies.min_by_key(by_priority),
            Standing::Demoted | Standing::Dropped => copies.max_by_key(by_priority),
        };
        found.map(|(at, _)| at)
    }
}

/// Where a target is: `address:port`, or the path of a socket.
pub(super) fn place(target: &Target<'_>) -> String {
    match (target, target.address()) {
        (Target::Pipe(path), _) => path.to_string(),
        (Target::Named { host, port }, _) => format!("{host}:{port}"),
        (_, Some(address)) => way(address, target.port()),
        (_, None) => String::new(),
    }
}

/// Where a gateway is on a port.
pub(super) fn entrance(gate: Gate<'_>, port: u16) -> String {
    match gate {
        Gate::At(gateway) => way(gateway.address, port),
        Gate::Named(host) => format!("{}:{port}", host.host),
    }
}

/// Port 0 is a Unix socket with the name of the address (Q15).
pub(super) fn way(address: IpAddr, port: u16) -> String {
    if port == 0 { address.to_string() } else { SocketAddr::new(address, port).to_string() }
}
