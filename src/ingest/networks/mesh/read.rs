//! Text → networks. Every problem is told at once, with its place.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use serde_json::{Map, Value};

use super::{MeshNetwork, MeshNetworks};
use crate::ingest::convert::Blocks;
use crate::ingest::kubeconfig::check_cluster_id;
use crate::model::{ClusterId, GatewayAddress, Hostname, NetworkId};

/// Whether gateways may be given by host name: that needs a resolver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HostNames {
    /// They are resolved.
    Allowed,
    /// `--resolve-hostname-gateways=false`.
    Refused,
}

/// What was read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// The networks, without the entries that are wrong.
    pub networks: MeshNetworks,
    /// What is wrong: whoever has an earlier version keeps that.
    pub problems: Vec<String>,
    /// What has no effect, or not the expected one.
    pub warnings: Vec<String>,
}

impl Reading {
    /// The networks, if nothing is wrong.
    ///
    /// # Errors
    /// Every problem, in one text.
    pub fn strict(self) -> Result<(MeshNetworks, Vec<String>), String> {
        if self.problems.is_empty() {
            Ok((self.networks, self.warnings))
        } else {
            Err(self.problems.join("; "))
        }
    }
}

impl Reading {
    /// What holds when there was no version before: without problems the networks, else none.
    pub fn at_first(self) -> Self {
        match self.problems.is_empty() {
            true => self,
            false => Self { networks: MeshNetworks::default(), ..self },
        }
    }
}

impl MeshNetworks {
    /// Reads the YAML (or JSON) document. An empty one names no network.
    pub fn parse(text: &str, hosts: HostNames) -> Reading {
        let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
        if text.lines().all(blank) {
            return Reading::default();
        }
        match serde_saphyr::from_str::<Value>(text) {
            Ok(value) => Self::from_value(&value, hosts),
            Err(error) => {
                let text = error.to_string();
                let what = text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
                Reading { problems: vec![format!("not YAML: {what}")], ..Reading::default() }
            }
        }
    }

    /// Reads a parsed document.
    pub fn from_value(document: &Value, hosts: HostNames) -> Reading {
        let mut reader = Reader { hosts, problems: Vec::new(), warnings: Vec::new() };
        let networks = reader.document(document);
        let blocks = networks.iter().flat_map(|(name, network): (&NetworkId, &MeshNetwork)| {
            network.blocks.iter().map(|block| (*block, name.clone()))
        });
        let (blocks, overlaps) = Blocks::new(blocks);
        reader.warnings.extend(overlaps.into_iter().map(|overlap| {
            let ((wide, counts), (narrow, ignored)) = (overlap.counts, overlap.ignored);
            format!(
                "block {narrow} of network `{ignored}` lies in {wide} of network `{counts}`, which counts"
            )
        }));
        reader.contested(&networks);
        let networks = MeshNetworks { networks, blocks: Arc::new(blocks) };
        Reading { networks, problems: reader.problems, warnings: reader.warnings }
    }
}

struct Reader {
    hosts: HostNames,
    problems: Vec<String>,
    warnings: Vec<String>,
}

impl Reader {
    fn document(&mut self, document: &Value) -> BTreeMap<NetworkId, MeshNetwork> {
        let mut networks = BTreeMap::new();
        let Some(document) = self.object("", document) else {
            return networks;
        };
        self.known("", document, &["networks"]);
        let Some(all) = document.get("networks").and_then(|all| self.object("networks", all)) else {
            return networks;
        };
        for (name, network) in all {
            let place = format!("networks.{}", shown(name));
            if name.is_empty() || name.len() > 253 || name.chars().any(char::is_control) {
                self.problems.push(format!("{place}: not a name of a network"));
            } else if let Some(network) = self.object(&place, network) {
                networks.insert(NetworkId::from(&**name), self.network(&place, network));
            } else {
                networks.insert(NetworkId::from(&**name), MeshNetwork::default());
            }
        }
        networks
    }

    fn network(&mut self, place: &str, object: &Map<String, Value>) -> MeshNetwork {
        self.known(place, object, &["endpoints", "gateways"]);
        let mut network = MeshNetwork::default();
        for (at, entry) in self.list(place, object, "endpoints") {
            self.endpoints(&at, entry, &mut network);
        }
        for (at, entry) in self.list(place, object, "gateways") {
            self.gateway(&at, entry, &mut network);
        }
        network
    }

    fn endpoints(&mut self, place: &str, entry: &Value, network: &mut MeshNetwork) {
        let Some(object) = self.object(place, entry) else {
            return;
        };
        self.known(place, object, &["fromRegistry", "fromCidr"]);
        match (self.text(place, object, "fromRegistry"), self.text(place, object, "fromCidr")) {
            (Some(registry), None) => match check_cluster_id(registry) {
                Ok(()) => {
                    network.registries.insert(ClusterId::from(registry));
                }
                Err(_) => self.wrong(place, "fromRegistry", registry, "a cluster id"),
            },
            (None, Some(cidr)) => match cidr.parse::<IpNet>() {
                Ok(block) => network.blocks.push(block),
                // R2.1: the others still say where addresses belong.
                Err(_) => self.warnings.push(format!(
                    "{place}.fromCidr: `{}` is not a block such as 10.1.0.0/16 and is left out",
                    shown(cidr)
                )),
            },
            _ => self.problems.push(format!("{place}: needs one of fromRegistry and fromCidr")),
        }
    }

    fn gateway(&mut self, place: &str, entry: &Value, network: &mut MeshNetwork) {
        let Some(object) = self.object(place, entry) else {
            return;
        };
        self.known(place, object, &["registryServiceName", "address", "port", "locality"]);
        let number = object.get("port").and_then(Value::as_u64);
        let port = number.and_then(|port| u16::try_from(port).ok()).filter(|port| *port != 0);
        if port.is_none() {
            let given = object.get("port").map(|value| shown(&value.to_string())).unwrap_or("nothing".into());
            self.problems.push(format!("{place}.port: {given} is not a port from 1 to 65535"));
        }
        match (self.text(place, object, "registryServiceName"), self.text(place, object, "address")) {
            (Some(service), None) => match GatewayAddress::host(service) {
                Some(GatewayAddress::Host(host)) => {
                    network.services.extend(port.map(|port| (Hostname::clone(&host), port)));
                }
                _ => self.wrong(place, "registryServiceName", service, "the host name of a Service"),
            },
            (None, Some(text)) => {
                if let Some(address) = self.address(place, text) {
                    network.addresses.extend(port.map(|port| (address, port)));
                }
            }
            _ => self.problems.push(format!("{place}: needs one of registryServiceName and address")),
        }
    }

    fn address(&mut self, place: &str, text: &str) -> Option<GatewayAddress> {
        if let Ok(address) = text.parse::<std::net::IpAddr>() {
            return Some(GatewayAddress::Ip(address.to_canonical()));
        }
        match (GatewayAddress::host(text), self.hosts) {
            (Some(host), HostNames::Allowed) => Some(host),
            (Some(_), HostNames::Refused) => {
                self.wrong(place, "address", text, "an IP address, and host names are not resolved");
                None
            }
            (None, _) => {
                self.wrong(place, "address", text, "an IP address or a host name");
                None
            }
        }
    }

    /// Q3: told, because one of them gives the cluster its network and the others do not.
    fn contested(&mut self, networks: &BTreeMap<NetworkId, MeshNetwork>) {
        let mut claims: BTreeMap<&ClusterId, BTreeSet<&NetworkId>> = BTreeMap::new();
        for (name, network) in networks {
            for registry in &network.registries {
                claims.entry(registry).or_default().insert(name);
            }
        }
        for (registry, claiming) in claims.into_iter().filter(|(_, claiming)| claiming.len() > 1) {
            let names: Vec<_> = claiming.iter().map(|name| format!("`{name}`")).collect();
            self.warnings.push(format!(
                "cluster `{registry}` is claimed by networks {}: its endpoints belong to {}",
                names.join(", "),
                names[0]
            ));
        }
    }

    /// An object; `null` counts as absent.
    fn object<'a>(&mut self, place: &str, value: &'a Value) -> Option<&'a Map<String, Value>> {
        if !value.is_object() && !value.is_null() {
            let place = if place.is_empty() { "the document" } else { place };
            self.problems.push(format!("{place}: not a mapping"));
        }
        value.as_object()
    }

    fn list<'a>(
        &mut self,
        place: &str,
        object: &'a Map<String, Value>,
        key: &str,
    ) -> Vec<(String, &'a Value)> {
        let entries = match object.get(key) {
            None | Some(Value::Null) => return Vec::new(),
            Some(Value::Array(entries)) => entries,
            Some(_) => {
                self.problems.push(format!("{place}.{key}: not a list"));
                return Vec::new();
            }
        };
        let place = |at: usize| format!("{place}.{key}[{at}]");
        entries.iter().enumerate().map(|(at, entry)| (place(at), entry)).collect()
    }

    /// A text that is there and not empty.
    fn text<'a>(&mut self, place: &str, object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
        match object.get(key)? {
            Value::Null => None,
            Value::String(text) => (!text.is_empty()).then_some(text),
            other => {
                self.wrong(place, key, &other.to_string(), "a text");
                None
            }
        }
    }

    fn known(&mut self, place: &str, object: &Map<String, Value>, keys: &[&str]) {
        for key in object.keys().filter(|key| !keys.contains(&key.as_str())) {
            let dot = if place.is_empty() { "" } else { "." };
            let keys = keys.join(", ");
            self.warnings
                .push(format!("{place}{dot}{}: not known and ignored; known are {keys}", shown(key)));
        }
    }

    fn wrong(&mut self, place: &str, key: &str, text: &str, wanted: &str) {
        self.problems.push(format!("{place}.{key}: `{}` is not {wanted}", shown(text)));
    }
}

/// A foreign text, short and harmless.
fn shown(text: &str) -> String {
    text.chars().take(80).map(|c| if c.is_control() { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Reading {
        MeshNetworks::parse(text, HostNames::Allowed)
    }

    const WHOLE: &str = "
networks:
  east:
    endpoints:
    - fromRegistry: c1
    - fromCidr: 10.1.0.0/16
    gateways:
    - registryServiceName: gw.istio-system.svc.cluster.local
      port: 15443
      locality: r/z
  west:
    endpoints: [{fromRegistry: c2}, {fromRegistry: c1}]
    gateways: [{address: 7.7.7.7, port: 443}, {address: gw.example.com, port: 15443}]
  nothing:
";

    #[test]
    fn r2_4_the_whole_shape_is_read() {
        let reading = read(WHOLE);
        assert_eq!(reading.problems, [""; 0]);
        let networks = &reading.networks;
        let of = |cluster: &str, label: &str| {
            networks.of_cluster(&cluster.into(), &label.into()).own().to_string()
        };
        assert_eq!(of("c1", ""), "east", "the first by name (Q3)");
        assert_eq!(of("c2", ""), "west");
        assert_eq!(of("c2", "own"), "own");
        assert_eq!(of("c3", ""), "");
        let address = ["10.1.9.9".parse().expect("address")];
        assert_eq!(&*networks.of_cluster(&"c3".into(), &"".into()).of(None, &address), "east");
        assert_eq!(networks.services(&"c1".into()).len(), 1);
        assert_eq!(networks.services(&"c2".into()).len(), 0, "east does not list c2");
        let fixed: Vec<_> =
            networks.static_gateways().map(|g| format!("{} {}:{}", g.network, g.address, g.port)).collect();
        assert_eq!(fixed, ["west 7.7.7.7:443", "west gw.example.com:15443"]);
        assert_eq!(reading.warnings.len(), 1, "{:?}", reading.warnings);
        assert!(reading.warnings[0].contains("`c1`") && reading.warnings[0].contains("`west`"));
    }

    #[test]
    fn r2_4_json_is_yaml_and_nothing_is_nothing() {
        for text in ["", "# none\n", "{}", "networks: {}", "networks:", "{\"networks\": null}"] {
            assert_eq!(read(text), Reading::default(), "{text:?}");
        }
        assert!(
            !read("{\"networks\": {\"a\": {\"endpoints\": [{\"fromRegistry\": \"c\"}]}}}")
                .networks
                .is_empty()
        );
    }

    #[test]
    fn r2_4_every_problem_is_told_with_its_place() {
        let reading = read(
            "
networks:
  a:
    endpoints: [{fromCidr: 10.0.0.0/33}, {fromRegistry: 'a b'}, {}, {fromCidr: 10.1.0.0/16}, 5]
    gateways:
    - {registryServiceName: '*', port: 15443}
    - {address: 'x y', port: 15443}
    - {address: 1.2.3.4, port: 0}
    - {address: 1.2.3.4}
    - {port: 15443}
    - {address: 1.2.3.4, registryServiceName: a.b, port: 1}
  b: [1]
  c: {endpoints: {}}
",
        );
        let places = [
            "networks.a.endpoints[1].fromRegistry",
            "networks.a.endpoints[2]",
            "networks.a.endpoints[4]",
            "networks.a.gateways[0].registryServiceName",
            "networks.a.gateways[1].address",
            "networks.a.gateways[2].port",
            "networks.a.gateways[3].port",
            "networks.a.gateways[4]",
            "networks.a.gateways[5]",
            "networks.b",
            "networks.c.endpoints",
        ];
        assert_eq!(reading.problems.len(), places.len(), "{:#?}", reading.problems);
        for place in places {
            assert!(reading.problems.iter().any(|p| p.starts_with(&format!("{place}:"))), "{place}");
        }
        assert!(
            reading.warnings[0].starts_with("networks.a.endpoints[0].fromCidr:"),
            "{:?}",
            reading.warnings
        );
        let own = reading.networks.of_cluster(&"c".into(), &"".into());
        assert_eq!(
            &*own.of(None, &["10.1.0.1".parse().expect("address")]),
            "a",
            "good entries are kept apart"
        );
        assert!(reading.strict().is_err());
        assert!(read("networks: [").strict().expect_err("not YAML").contains("not YAML"));
        assert!(read("5").strict().expect_err("a number").contains("the document"));
    }

    #[test]
    fn r2_4_host_names_need_a_resolver_and_unknown_keys_are_told() {
        let text = "networks: {a: {gateways: [{address: gw.example.com, port: 1, zone: z}]}}";
        let refused = MeshNetworks::parse(text, HostNames::Refused);
        assert!(refused.problems[0].contains("not resolved"), "{:?}", refused.problems);
        let allowed = read(text);
        assert_eq!(allowed.problems, [""; 0]);
        assert!(allowed.warnings[0].contains("networks.a.gateways[0].zone"), "{:?}", allowed.warnings);
    }

    #[test]
    fn r2_2_overlapping_blocks_are_told() {
        let reading = read(
            "networks: {a: {endpoints: [{fromCidr: 10.0.0.0/8}]}, b: {endpoints: [{fromCidr: 10.1.0.0/16}]}}",
        );
        assert_eq!(
            reading.warnings,
            ["block 10.1.0.0/16 of network `b` lies in 10.0.0.0/8 of network `a`, which counts"]
        );
    }
}
