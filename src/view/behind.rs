//! What is behind a port whose clients pick addresses themselves: that of a headless service, most often (R5.21).

use std::collections::BTreeSet;
use std::net::IpAddr;

use super::pass::{is_of_port, port_names};
use super::{Client, mtls};
use crate::model::policy::{PolicyKind, PolicyPart};
use crate::model::{Endpoint, NetworkId};
use crate::registry::ServiceSnapshot;

/// What the clients of one projection find behind a port.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Behind {
    /// The addresses that they reach directly.
    pub addresses: BTreeSet<IpAddr>,
    /// Whether mesh mTLS is meant for each of these endpoints, and there is one (R4.12).
    pub takes_mtls: bool,
    /// The policies that were asked for that.
    pub policies: BTreeSet<PolicyPart>,
}

impl Behind {
    /// Behind TCP port `port` of a service, by the names that each cluster has for it (D7), without what is on networks
    /// that the clients do not reach (D2). Cost ∝ the endpoints of the service.
    pub fn of(snapshot: &ServiceSnapshot, port: u16, client: &Client<'_>) -> Self {
        let mut behind = Self::default();
        let mut others = false;
        for shard in &*snapshot.shards {
            let names = port_names(shard, port);
            let of_port = shard.endpoints.iter().filter(|endpoint| is_of_port(endpoint, &names));
            for endpoint in of_port.filter(|endpoint| is_reached(client, &endpoint.workload.network)) {
                others |= !behind.ask(client, endpoint);
                behind.addresses.extend(&*endpoint.addresses);
            }
        }
        behind.takes_mtls = !others && !behind.addresses.is_empty();
        behind
    }

    fn ask(&mut self, client: &Client<'_>, endpoint: &Endpoint) -> bool {
        let (policies, workload) = (client.policies(), &endpoint.workload);
        for scope in [&workload.namespace, &policies.mesh().root_namespace] {
            let part = PolicyPart { kind: PolicyKind::PeerAuthentication, scope: scope.clone() };
            self.policies.insert(part);
        }
        mtls::is_meant(None, policies, workload, endpoint.port)
    }
}

fn is_reached(client: &Client<'_>, network: &NetworkId) -> bool {
    let own = &client.key().network;
    network.is_empty() || own.is_empty() || network == own || client.rules().reachable(own, network)
}
