//! One record out of every cluster's record of a service (R5.26–R5.27 as changed by D7).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{EndpointShard, Service, ServiceKey, ServicePort};

/// Merges the shards' records, in order. `None` when no shard has one.
///
/// The first record gives every attribute but these: ports are the union by (transport, number), the first
/// record wins for name and protocol; VIPs stay by cluster; accounts are the union, those behind the
/// endpoints included.
pub(super) fn record(key: &ServiceKey, shards: &[Arc<EndpointShard>]) -> Option<Service> {
    let mut records = shards.iter().filter_map(|shard| shard.service.as_deref());
    let first = records.next()?;
    let mut merged = Service { key: key.clone(), ..first.clone() };
    let mut ports: BTreeMap<_, ServicePort> = BTreeMap::new();
    for port in first.ports.iter().chain(records.clone().flat_map(|record| &record.ports)) {
        ports.entry((port.transport, port.number)).or_insert_with(|| port.clone());
    }
    merged.ports = ports.into_values().collect();
    for record in records {
        merged.vips.extend(record.vips.iter().cloned());
        merged.accounts.extend(record.accounts.iter().cloned());
    }
    for shard in shards {
        merged.accounts.extend(shard.accounts.iter().cloned());
    }
    Some(merged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{PortProtocol, Transport};

    fn shard(cluster: &str, ports: &[(u16, &str)], vip: &str) -> Arc<EndpointShard> {
        let service = Service {
            ports: ports
                .iter()
                .map(|&(number, name)| ServicePort {
                    number,
                    name: name.into(),
                    transport: Transport::Tcp,
                    protocol: PortProtocol::Http,
                })
                .collect(),
            vips: vec![(cluster.into(), vec![vip.parse().expect("address")])],
            ..Service::default()
        };
        Arc::new(EndpointShard::new(cluster.into(), Some(Arc::new(service)), Vec::new()))
    }

    #[test]
    fn d07_ports_are_united_and_the_first_record_names_them() {
        let key = ServiceKey::new("ns", "a.ns.svc.cluster.local");
        let shards =
            [shard("c1", &[(80, "http")], "10.0.0.1"), shard("c2", &[(80, "web"), (90, "x")], "10.1.0.1")];
        let merged = record(&key, &shards).expect("a record");
        let ports: Vec<_> = merged.ports.iter().map(|port| (port.number, port.name.to_string())).collect();
        assert_eq!(ports, [(80, "http".into()), (90, "x".into())]);
        assert_eq!(merged.vips_in(&"c2".into()), ["10.1.0.1".parse::<std::net::IpAddr>().expect("address")]);
        assert_eq!(merged.vips_in(&"c9".into()), ["10.0.0.1".parse::<std::net::IpAddr>().expect("address")]);
    }

    #[test]
    fn endpoints_without_any_record_make_no_service() {
        let bare = Arc::new(EndpointShard::new("c1".into(), None, Vec::new()));
        assert_eq!(record(&ServiceKey::default(), &[bare]), None);
    }
}
