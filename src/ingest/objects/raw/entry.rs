//! ServiceEntries and WorkloadEntries, which API servers know as JSON only.

use super::json::Noting;
use super::{Map, ObjectMeta, Text, Texts, json_message};
use crate::ingest::objects::{
    EntryPort, EntryResolution, ServiceEntryObject, TRAFFIC_DISTRIBUTION_ANNOTATION, WorkloadEntryObject,
};
use crate::model::Name;

/// Annotation of WorkloadEntries whose proxies probe their application and tell in the status what they found.
const HEALTH_CHECKS: &str = "proxy.istio.io/health-checks-enabled";

json_message! { ServiceEntry {
    metadata: ObjectMeta<'a>, "metadata";
    spec: Noting<'a, ServiceEntrySpec<'a>>, "spec";
    status: ServiceEntryStatus<'a>, "status";
} }

json_message! { ServiceEntrySpec {
    hosts: Texts<'a>, "hosts";
    addresses: Texts<'a>, "addresses";
    ports: Vec<Noting<'a, ServiceEntryPort<'a>>>, "ports";
    location: Text<'a>, "location";
    resolution: Text<'a>, "resolution";
    endpoints: Vec<Noting<'a, WorkloadEntrySpec<'a>>>, "endpoints";
    selector: Option<WorkloadSelector<'a>>, "workloadSelector";
    export_to: Texts<'a>, "exportTo";
    alt_names: Texts<'a>, "subjectAltNames";
} }

json_message! { ServiceEntryPort {
    number: i64, "number";
    name: Text<'a>, "name";
    protocol: Text<'a>, "protocol";
    target_port: i64, "targetPort";
} }

json_message! { WorkloadSelector {
    labels: Map<'a, Text<'a>>, "labels";
} }

json_message! { ServiceEntryStatus {
    addresses: Vec<AllocatedAddress<'a>>, "addresses";
} }

json_message! { AllocatedAddress {
    value: Text<'a>, "value";
    host: Text<'a>, "host";
} }

json_message! { WorkloadEntry {
    metadata: ObjectMeta<'a>, "metadata";
    spec: Noting<'a, WorkloadEntrySpec<'a>>, "spec";
    status: WorkloadEntryStatus<'a>, "status";
} }

json_message! { WorkloadEntryStatus {
    conditions: Vec<WorkloadEntryCondition<'a>>, "conditions";
} }

json_message! { WorkloadEntryCondition {
    r#type: Text<'a>, "type";
    status: Text<'a>, "status";
} }

json_message! { WorkloadEntrySpec {
    address: Text<'a>, "address";
    ports: Map<'a, i64>, "ports";
    labels: Map<'a, Text<'a>>, "labels";
    network: Text<'a>, "network";
    locality: Text<'a>, "locality";
    weight: i64, "weight";
    service_account: Text<'a>, "serviceAccount";
} }

impl ServiceEntrySpec<'_> {
    /// Why the object as a whole cannot be used.
    pub(super) fn problem(&self) -> Option<String> {
        let resolved = matches!(&*self.resolution, "DNS" | "DNS_ROUND_ROBIN");
        if self.hosts.is_empty() {
            return Some("spec.hosts is empty".to_owned());
        }
        if let Some(at) = self.hosts.iter().position(|host| !is_host(host)) {
            return Some(format!("spec.hosts[{at}] is no host name"));
        }
        if let Some(at) = self.ports.iter().position(|port| !(1..=65535).contains(&port.number)) {
            return Some(format!("spec.ports[{at}].number is not a port"));
        }
        if !matches!(&*self.location, "" | "MESH_EXTERNAL" | "MESH_INTERNAL") {
            return Some("spec.location is neither MESH_EXTERNAL nor MESH_INTERNAL".to_owned());
        }
        if !resolved && !matches!(&*self.resolution, "" | "NONE" | "STATIC") {
            return Some("spec.resolution is none of NONE, STATIC, DNS, DNS_ROUND_ROBIN".to_owned());
        }
        if &*self.resolution == "DNS_ROUND_ROBIN" && self.endpoints.len() > 1 {
            return Some("spec.endpoints has more than the one that DNS_ROUND_ROBIN permits".to_owned());
        }
        let nothing = self.endpoints.is_empty() && self.selector.is_none();
        let wildcard = self.hosts.iter().any(|host| host.starts_with('*'));
        (resolved && nothing && wildcard)
            .then(|| "spec.hosts has a wildcard, which DNS cannot resolve".into())
    }
}

/// A host name, perhaps with a wildcard as its first label.
fn is_host(text: &str) -> bool {
    let rest = text.strip_prefix("*.").unwrap_or(text);
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let label = |label: &str| !label.is_empty() && label.len() <= 63 && label.bytes().all(plain);
    text == "*" || (text.len() <= 253 && rest.split('.').all(label))
}

/// How many fields that nobody knows are kept.
const MAX_UNKNOWN: usize = 10;

/// Fields of a ServiceEntry that nobody knows, also in its ports and endpoints.
fn unknown(spec: &Noting<'_, ServiceEntrySpec<'_>>) -> Vec<Name> {
    let ports = spec.ports.iter().enumerate();
    let ports = ports.flat_map(|(n, port)| port.unknown(&format!("spec.ports[{n}]")).collect::<Vec<_>>());
    let endpoints = spec.endpoints.iter().enumerate();
    let endpoints =
        endpoints.flat_map(|(n, one)| one.unknown(&format!("spec.endpoints[{n}]")).collect::<Vec<_>>());
    spec.unknown("spec").chain(ports).chain(endpoints).take(MAX_UNKNOWN).collect()
}

/// A host name as everybody compares it.
fn lower(text: &Text<'_>) -> Name {
    if text.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return text.to_ascii_lowercase().into();
    }
    text.name()
}

/// The hosts in lower case, each once.
fn hosts(all: &Texts<'_>) -> Vec<Name> {
    let mut hosts: Vec<Name> = Vec::new();
    for host in all.iter().map(lower) {
        if !hosts.contains(&host) {
            hosts.push(host);
        }
    }
    hosts
}

impl WorkloadEntrySpec<'_> {
    /// Why the object as a whole cannot be used.
    pub(super) fn problem(&self) -> Option<String> {
        let nowhere = self.address.is_empty() && self.network.is_empty();
        nowhere.then(|| "spec has neither an address nor a network".to_owned())
    }
}

impl From<ServiceEntry<'_>> for ServiceEntryObject {
    fn from(raw: ServiceEntry<'_>) -> Self {
        let unknown = unknown(&raw.spec);
        let (meta, spec) = (raw.metadata, raw.spec.message);
        Self {
            unknown,
            hosts: hosts(&spec.hosts),
            addresses: spec.addresses.filled(),
            allocated: raw.status.addresses.iter().map(|one| (lower(&one.host), one.value.name())).collect(),
            ports: spec.ports.iter().map(|port| EntryPort::from(&port.message)).collect(),
            mesh_external: &*spec.location != "MESH_INTERNAL",
            resolution: match &*spec.resolution {
                "STATIC" => EntryResolution::Static,
                "DNS" => EntryResolution::Dns,
                "DNS_ROUND_ROBIN" => EntryResolution::DnsRoundRobin,
                _ => EntryResolution::None,
            },
            endpoints: spec.endpoints.into_iter().map(|one| one.message.into()).collect(),
            selector: spec.selector.map(|selector| selector.labels.into_labels()),
            export_to: spec.export_to.filled(),
            alt_names: spec.alt_names.filled(),
            created: meta.creation_timestamp.seconds().unwrap_or_default(),
            traffic_distribution: meta.annotation(TRAFFIC_DISTRIBUTION_ANNOTATION),
            labels: meta.labels.into_labels(),
        }
    }
}

impl From<&ServiceEntryPort<'_>> for EntryPort {
    fn from(raw: &ServiceEntryPort<'_>) -> Self {
        Self {
            number: raw.number,
            name: raw.name.common(),
            protocol: raw.protocol.common(),
            target_port: raw.target_port,
        }
    }
}

impl From<WorkloadEntry<'_>> for WorkloadEntryObject {
    /// Labels of the object itself count too, and before those of its spec.
    fn from(raw: WorkloadEntry<'_>) -> Self {
        let unknown = raw.spec.unknown("spec").collect();
        let mut object = Self { unknown, ..Self::from(raw.spec.message) };
        let good = |one: &WorkloadEntryCondition<'_>| &*one.r#type == "Healthy" && &*one.status == "True";
        let probed = raw.metadata.annotations.get(HEALTH_CHECKS).is_some_and(|value| &**value == "true");
        object.unready = probed && !raw.status.conditions.iter().any(good);
        let own = raw.metadata.labels.into_labels();
        if !own.is_empty() {
            let all = object.labels.iter().chain(own.iter());
            object.labels = all.map(|(label, value)| (label.clone(), value.clone())).collect();
        }
        object
    }
}

impl From<WorkloadEntrySpec<'_>> for WorkloadEntryObject {
    fn from(raw: WorkloadEntrySpec<'_>) -> Self {
        Self {
            address: raw.address.name(),
            ports: raw.ports.into_entries().map(|(name, number)| (name.common(), number)).collect(),
            labels: raw.labels.into_labels(),
            network: raw.network.common(),
            locality: raw.locality.common(),
            weight: raw.weight,
            service_account: raw.service_account.common(),
            unready: false,
            unknown: Vec::new(),
        }
    }
}
