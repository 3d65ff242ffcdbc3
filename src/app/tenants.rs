//! Nothing that one tenant writes makes Envoy refuse what all of them share: random policies with texts and numbers
//! that nobody expects are read; what is accepted is built and given to a real Envoy.

mod generator;

use std::path::Path;
use std::process::Command;

use envoy_types::pb::envoy::config::cluster::v3::cluster::{ClusterDiscoveryType, DiscoveryType};
use prost::Message;
use serde_json::Value;

use crate::ingest::read_policy;
use crate::model::policy::{MeshConfig, PolicyId, PolicyKind};
use crate::model::{InterceptionMode, PortProtocol, ProxyKind, Service};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::OutboundKey;
use crate::xds::resources::tests::fixtures::{port, service, sidecar};
use crate::xds::resources::tests::validate::{Generated, document, envoy, generated, opened};
use generator::Dice;

/// Objects of each kind.
const OBJECTS: usize = 150;
/// Objects that one Envoy reads together.
const BATCH: usize = 150;

/// Makes the spec of the object with a number.
type Make = fn(&mut Dice, usize) -> Value;

/// An object that was accepted.
struct Accepted {
    spec: Value,
    object: PolicyObject,
    /// Which of the services it is about.
    number: usize,
}

/// Random objects of a kind, and how many were refused.
fn accepted(kind: PolicyKind, make: Make) -> Vec<Accepted> {
    let mut dice = Dice::new(kind as u64 + 1);
    let (mut all, mut refused) = (Vec::new(), 0);
    for number in 0..OBJECTS {
        let spec = make(&mut dice, number);
        let id = PolicyId::new("sample", format!("o{number}"));
        match read_policy(kind, id, &spec) {
            Ok(object) => all.push(Accepted { spec, object, number }),
            Err(_) => refused += 1,
        }
    }
    assert!(all.len() > OBJECTS / 5 && refused > 0, "{kind:?}: {} of {OBJECTS}", all.len());
    all
}

/// The service that objects with this number are about, with addresses of its own.
fn about(number: usize) -> Service {
    let ports = vec![
        port(80, PortProtocol::Http),
        port(82, PortProtocol::Grpc),
        port(443, PortProtocol::Tls),
        port(3306, PortProtocol::Tcp),
    ];
    let vip = format!("10.96.{}.{}", number / 200, number % 200 + 1).parse().expect("an address");
    Service { vips: vec![("east".into(), vec![vip])], ..service(&format!("h{number}"), ports) }
}

fn router(objects: &[&Accepted]) -> OutboundKey {
    let gateways = objects.iter().filter_map(|one| match &one.object {
        PolicyObject::Gateway(gateway) => Some(gateway.meta.id.clone()),
        _ => None,
    });
    OutboundKey {
        kind: ProxyKind::Router,
        gateways: gateways.collect(),
        ..sidecar(InterceptionMode::Redirect)
    }
}

/// A bootstrap of these resources. Envoy makes static clusters whose endpoints need no server before it has a stream that
/// secrets could be asked over, and looks for it: there they come without TLS.
fn bootstrap(made: Generated) -> Vec<u8> {
    let mut made = document(made);
    let early = ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into());
    let clusters = made.static_resources.iter_mut().flat_map(|all| &mut all.clusters);
    for cluster in clusters.filter(|cluster| cluster.cluster_discovery_type.as_ref() == Some(&early)) {
        cluster.transport_socket = None;
    }
    made.encode_to_vec()
}

/// Why Envoy does not take what these objects make together.
fn refusal(envoy: &Path, directory: &Path, objects: &[&Accepted]) -> Option<String> {
    let policies = PolicySnapshot::with(MeshConfig::default(), objects.iter().map(|one| one.object.clone()));
    let numbers: std::collections::BTreeSet<_> = objects.iter().map(|one| one.number).collect();
    let services: Vec<_> = numbers.into_iter().map(about).collect();
    let worlds = [
        generated(&sidecar(InterceptionMode::Redirect), &policies, &services),
        generated(&sidecar(InterceptionMode::None), &policies, &services),
        opened(&router(objects), &policies, &services),
    ];
    worlds.into_iter().enumerate().find_map(|(at, made)| {
        let file = directory.join(format!("{at}.pb"));
        std::fs::write(&file, bootstrap(made)).expect("written");
        let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
        let answer = Command::new(envoy).args(arguments).arg(&file).output().expect("Envoy starts");
        let said = || format!("world {at}: {}", String::from_utf8_lossy(&answer.stderr));
        (!answer.status.success()).then(said)
    })
}

/// The fewest of some objects that Envoy refuses, by halves, and what it says.
fn culprits(envoy: &Path, directory: &Path, objects: &[&Accepted], why: String) -> String {
    let (first, second) = objects.split_at(objects.len() / 2);
    for half in [first, second].into_iter().filter(|half| !half.is_empty() && half.len() < objects.len()) {
        if let Some(why) = refusal(envoy, directory, half) {
            return culprits(envoy, directory, half, why);
        }
    }
    let specs: Vec<_> = objects.iter().map(|one| shortened(&one.spec)).collect();
    format!("{why}\n{}", specs.join("\n"))
}

fn shortened(spec: &Value) -> String {
    spec.to_string().chars().take(4000).collect()
}

#[test]
fn what_is_accepted_of_policies_envoy_takes() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let kinds: [(PolicyKind, Make); 4] = [
        (PolicyKind::VirtualService, generator::virtual_service),
        (PolicyKind::DestinationRule, generator::destination_rule),
        (PolicyKind::Gateway, generator::gateway),
        (PolicyKind::AuthorizationPolicy, generator::authorization_policy),
    ];
    let all: Vec<_> = kinds.into_iter().flat_map(|(kind, make)| accepted(kind, make)).collect();
    let all: Vec<_> = all.iter().collect();
    for batch in all.chunks(BATCH * kinds.len()) {
        if let Some(why) = refusal(&envoy, directory.path(), batch) {
            panic!("{}", culprits(&envoy, directory.path(), batch, why));
        }
    }
}
