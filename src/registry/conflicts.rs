//! Where clusters disagree about the ports of one service (D7).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::ServiceSnapshot;
use crate::model::{ClusterId, EndpointShard, Import, Name, PortProtocol, Service, ServicePort, Transport};

/// What about a port differs from the merged record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortDifference {
    /// The cluster's record does not have it: none of its endpoints serve it.
    Missing,
    /// Another name.
    Name {
        /// In the merged record.
        merged: Name,
        /// In this cluster.
        own: Name,
    },
    /// Another application protocol: clients speak the merged one.
    Protocol {
        /// In the merged record.
        merged: PortProtocol,
        /// In this cluster.
        own: PortProtocol,
    },
}

/// One cluster whose record differs from the merged one in one port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortConflict {
    /// The cluster.
    pub cluster: ClusterId,
    /// The port's number.
    pub port: u16,
    /// Its layer-4 protocol.
    pub transport: Transport,
    /// What differs.
    pub difference: PortDifference,
}

impl fmt::Display for PortConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (cluster, port) = (&self.cluster, self.port);
        match &self.difference {
            PortDifference::Missing => write!(f, "port {port} is missing in {cluster}"),
            PortDifference::Name { merged, own } => {
                write!(f, "port {port} is named {own:?} in {cluster}, elsewhere {merged:?}")
            }
            PortDifference::Protocol { merged, own } => {
                write!(f, "port {port} speaks {own:?} in {cluster}, elsewhere {merged:?}")
            }
        }
    }
}

/// Every difference, in the order of the merged ports, then of the clusters. Cost ∝ ports × clusters; for
/// operators. [`ServiceSnapshot::conflicting`] says beforehand whether there is any.
pub fn conflicts(snapshot: &ServiceSnapshot) -> Vec<PortConflict> {
    if !snapshot.conflicting {
        return Vec::new();
    }
    let ports = merged_ports(&snapshot.shards);
    let mut conflicts = Vec::new();
    for port in ports.values() {
        for (cluster, record) in records(&snapshot.shards) {
            conflicts.extend(differences(port, record).into_iter().map(|difference| PortConflict {
                cluster: cluster.clone(),
                port: port.number,
                transport: port.transport,
                difference,
            }));
        }
    }
    conflicts
}

/// Whether any two records differ in their ports. Without an allocation; cost ∝ ports.
pub(super) fn any(shards: &[Arc<EndpointShard>]) -> bool {
    let mut records = records(shards).map(|(_, record)| record);
    let Some(first) = records.next() else {
        return false;
    };
    records.any(|record| record.ports != first.ports)
}

fn records(shards: &[Arc<EndpointShard>]) -> impl Iterator<Item = (&ClusterId, &Service)> {
    let records = shards.iter().filter_map(|shard| Some((&shard.cluster, shard.service.as_deref()?)));
    // What only imports a service has no ports of its own, and a ServiceEntry only adds endpoints (R5.29).
    records.filter(|(_, record)| record.import != Import::Foreign && record.entry.is_none())
}

/// The union of the ports, whatever the merged record says of it (Q30).
fn merged_ports(shards: &[Arc<EndpointShard>]) -> BTreeMap<(Transport, u16), &ServicePort> {
    let mut ports = BTreeMap::new();
    for port in records(shards).flat_map(|(_, record)| &record.ports) {
        ports.entry((port.transport, port.number)).or_insert(port);
    }
    ports
}

fn differences(merged: &ServicePort, record: &Service) -> Vec<PortDifference> {
    let same = |port: &&ServicePort| (port.transport, port.number) == (merged.transport, merged.number);
    let Some(own) = record.ports.iter().find(same) else {
        return vec![PortDifference::Missing];
    };
    let name = (own.name != merged.name)
        .then(|| PortDifference::Name { merged: merged.name.clone(), own: own.name.clone() });
    let protocol = (own.protocol != merged.protocol)
        .then_some(PortDifference::Protocol { merged: merged.protocol, own: own.protocol });
    name.into_iter().chain(protocol).collect()
}
