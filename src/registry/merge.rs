//! One record out of every cluster's record of a service (R5.26–R5.29 as changed by D7).

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::model::{
    EndpointShard, EntryFacts, Import, Quirk, Quirks, Service, ServiceKey, ServicePort, Set, SpiffeId,
};

/// Merges the shards' records, in order. `None` when no shard has one, or when the host stands for an import
/// and either nobody imports the service or nobody has it (R4.39).
///
/// The first record gives every attribute but these: ports are the union by (transport, number), the first
/// record wins for name and protocol (Q30: only the first record's ports count); VIPs stay by cluster;
/// accounts are the union, with `accounts`, those behind the endpoints. Records of a ServiceEntry count only where
/// no cluster has a Kubernetes Service (R5.26, R5.29); they are one entry's as each cluster sees it, and differ in
/// their inline endpoints.
pub(super) fn record(
    key: &ServiceKey,
    shards: &[Arc<EndpointShard>],
    accounts: &Set<SpiffeId>,
    quirks: Quirks,
) -> Option<Service> {
    let all = || shards.iter().filter_map(|shard| shard.service.as_deref());
    let kubernetes = all().any(|record| record.entry.is_none());
    let records = || all().filter(|record| record.entry.is_none() == kubernetes);
    let first = records().find(|record| record.import != Import::Foreign)?;
    let mut merged = Service { key: key.clone(), ..first.clone() };
    if first.import != Import::No {
        records().find(|record| matches!(record.import, Import::Own | Import::Foreign))?;
        merged.import = Import::Own;
    }
    if !quirks.has(Quirk::Q30) {
        merged.ports = united(records());
    }
    merged.vips = records().flat_map(|record| record.vips.iter().cloned()).collect();
    if let Some(facts) = &first.entry {
        merged.entry = Some(gathered(facts, records()));
        merged.vips.truncate(1);
    }
    merged.accounts = Set::union(records().map(|record| &record.accounts).chain([accounts]));
    Some(merged)
}

/// What the first record says, with the inline endpoints of all.
fn gathered<'a>(first: &Arc<EntryFacts>, records: impl Iterator<Item = &'a Service>) -> Arc<EntryFacts> {
    let inline: Vec<_> = records.flat_map(|record| record.inline().iter().cloned()).collect();
    if inline.len() == first.inline.len() {
        return Arc::clone(first);
    }
    Arc::new(EntryFacts { inline, ..EntryFacts::clone(first) })
}

/// The union of the records' ports by (transport, number), ordered by it; the first record names each.
fn united<'a>(records: impl Iterator<Item = &'a Service>) -> Vec<ServicePort> {
    let mut ports: BTreeMap<_, ServicePort> = BTreeMap::new();
    for port in records.flat_map(|record| &record.ports) {
        ports.entry((port.transport, port.number)).or_insert_with(|| port.clone());
    }
    ports.into_values().collect()
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
        let merged = record(&key, &shards, &Set::default(), Quirks::OURS).expect("a record");
        let ports: Vec<_> = merged.ports.iter().map(|port| (port.number, port.name.to_string())).collect();
        assert_eq!(ports, [(80, "http".into()), (90, "x".into())]);
        assert_eq!(merged.vips_in(&"c2".into()), ["10.1.0.1".parse::<std::net::IpAddr>().expect("address")]);
        assert_eq!(merged.vips_in(&"c9".into()), ["10.0.0.1".parse::<std::net::IpAddr>().expect("address")]);
    }

    #[test]
    fn endpoints_without_any_record_make_no_service() {
        let bare = Arc::new(EndpointShard::new("c1".into(), None, Vec::new()));
        assert_eq!(record(&ServiceKey::default(), &[bare], &Set::default(), Quirks::OURS), None);
    }

    fn of_entry(cluster: &str, host: &str) -> Arc<EndpointShard> {
        let inline = crate::model::InlineEndpoint {
            address: crate::model::InlineAddress::Host(host.into()),
            port: 80,
            port_name: "http".into(),
            weight: None,
            workload: Arc::default(),
        };
        let record = Service {
            entry: Some(Arc::new(EntryFacts { inline: vec![inline], ..EntryFacts::default() })),
            ..Service::clone(
                shard(cluster, &[(80, "http")], "240.0.0.1").service.as_deref().expect("a record"),
            )
        };
        Arc::new(EndpointShard::new(cluster.into(), Some(record.into()), Vec::new()))
    }

    #[test]
    fn r5_29_an_entry_only_adds_to_a_kubernetes_service() {
        let key = ServiceKey::new("ns", "a.ns.svc.cluster.local");
        let shards = [of_entry("c1", "x"), shard("c2", &[(90, "x")], "10.1.0.1")];
        let merged = record(&key, &shards, &Set::default(), Quirks::OURS).expect("a record");
        let ports: Vec<_> = merged.ports.iter().map(|port| port.number).collect();
        assert_eq!((ports, merged.entry, merged.vips.len()), (vec![90], None, 1));
    }

    #[test]
    fn r5_37_what_several_clusters_add_to_an_entry_is_one_record() {
        let key = ServiceKey::new("ns", "a.example");
        let shards = [of_entry("c1", "x"), of_entry("c2", "y")];
        let merged = record(&key, &shards, &Set::default(), Quirks::OURS).expect("a record");
        assert_eq!((merged.inline().len(), merged.vips.len()), (2, 1));
        let everywhere = ["240.0.0.1".parse::<std::net::IpAddr>().expect("address")];
        assert_eq!(merged.own_vips(&"c9".into()), everywhere);
    }

    #[test]
    fn q30_the_peer_knows_the_first_records_ports_only() {
        let key = ServiceKey::new("ns", "a.ns.svc.cluster.local");
        let shards = [shard("c1", &[(80, "http")], "10.0.0.1"), shard("c2", &[(90, "x")], "10.1.0.1")];
        let ports = |quirks| record(&key, &shards, &Set::default(), quirks).expect("a record").ports.len();
        assert_eq!((ports(Quirks::OURS), ports(Quirks::peer())), (2, 1));
    }

    #[test]
    fn r4_39_an_imported_host_needs_an_import_and_a_service() {
        let key = ServiceKey::new("ns", "a.ns.svc.clusterset.local");
        let record_of = |imports: &[(&str, Import)]| {
            let shards: Vec<_> = imports
                .iter()
                .map(|&(cluster, import)| {
                    let told = import != Import::Offered;
                    let vip = "241.0.0.1".parse().expect("address");
                    let ports = (import != Import::Foreign).then(|| ServicePort {
                        number: 80,
                        name: "http".into(),
                        transport: Transport::Tcp,
                        protocol: PortProtocol::Http,
                    });
                    let service = Service {
                        ports: ports.into_iter().collect(),
                        vips: if told { vec![(cluster.into(), vec![vip])] } else { Vec::new() },
                        import,
                        ..Service::default()
                    };
                    Arc::new(EndpointShard::new(cluster.into(), Some(Arc::new(service)), Vec::new()))
                })
                .collect();
            record(&key, &shards, &Set::default(), Quirks::OURS)
        };
        assert_eq!(record_of(&[("c1", Import::Offered)]), None, "nobody imports it");
        assert_eq!(record_of(&[("c1", Import::Foreign)]), None, "nobody has it");
        let merged = record_of(&[("c1", Import::Foreign), ("c2", Import::Offered)]).expect("a record");
        assert_eq!((merged.ports.len(), merged.vips.len()), (1, 1));
        assert_eq!(merged.vips[0].0, "c1".into());
    }
}
