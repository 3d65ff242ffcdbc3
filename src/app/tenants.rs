//! Nothing that one tenant writes makes Envoy refuse what all of them share: random policies with texts and numbers
//! that nobody expects are read; what is accepted is built and given to a real Envoy.

mod generator;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use prost::Message;
use serde_json::Value;

use crate::ingest::{read_entry, read_policy};
use crate::model::policy::{Gateway, MeshConfig, PolicyId, PolicyKind};
use crate::model::{InterceptionMode, PortProtocol, ProxyKind, Service, ServiceKey};
use crate::registry::{PolicyObject, PolicySnapshot};
use crate::view::OutboundKey;
use crate::xds::resources::tests::fixtures::{port, service, sidecar};
use crate::xds::resources::tests::gateway::guarded;
use crate::xds::resources::tests::validate::{Generated, document, envoy, generated, opened};
use generator::Dice;

/// Objects of each kind.
const OBJECTS: usize = 150;
/// Objects that one Envoy reads together.
const BATCH: usize = 150;
/// Objects of each kind that an Envoy reads alone.
const ALONE: usize = 30;

/// Makes the spec of the object with a number.
type Make = fn(&mut Dice, usize) -> Value;

/// An object that was accepted.
struct Accepted {
    spec: Value,
    made: Made,
    /// Which of the services it is about.
    number: usize,
}

/// What an object was read as.
enum Made {
    Policy(PolicyObject),
    Services(Vec<Service>),
}

/// Random objects and how many of them were refused: some are.
fn accepted(
    what: &str,
    (seed, objects): (u64, usize),
    make: Make,
    read: impl Fn(usize, &Value) -> Result<Made, String>,
) -> Vec<Accepted> {
    let mut dice = Dice::new(seed);
    let (mut all, mut refused) = (Vec::new(), 0);
    for number in 0..objects {
        let spec = make(&mut dice, number);
        match read(number, &spec) {
            Ok(made) => all.push(Accepted { spec, made, number }),
            Err(_) => refused += 1,
        }
    }
    assert!(all.len() > objects / 5 && refused > 0, "{what}: {} of {objects}", all.len());
    all
}

fn policies(kind: PolicyKind, objects: usize, make: Make) -> Vec<Accepted> {
    accepted(&format!("{kind:?}"), (kind as u64 + 1, objects), make, |number, spec| {
        read_policy(kind, PolicyId::new("sample", format!("o{number}")), spec).map(Made::Policy)
    })
}

fn entries() -> Vec<Accepted> {
    accepted("ServiceEntry", (100, OBJECTS), generator::service_entry, |_, spec| {
        read_entry(spec).map(Made::Services)
    })
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

fn router(policies: &PolicySnapshot) -> OutboundKey {
    let gateways = policies.of::<Gateway>("").iter().map(|gateway| gateway.meta.id.clone());
    OutboundKey {
        kind: ProxyKind::Router,
        gateways: gateways.collect(),
        ..sidecar(InterceptionMode::Redirect)
    }
}

/// A router that leads mesh traffic on to everything.
fn east_west() -> OutboundKey {
    OutboundKey { kind: ProxyKind::Router, east_west: true, ..sidecar(InterceptionMode::Redirect) }
}

/// Policies, and services of which no two have one name.
fn world(objects: &[&Accepted]) -> (PolicySnapshot, Vec<Service>) {
    let (mut policies, mut services) = (Vec::new(), BTreeMap::<ServiceKey, Service>::new());
    for one in objects {
        match &one.made {
            Made::Policy(object) => {
                policies.push(object.clone());
                let about = about(one.number);
                services.insert(about.key.clone(), about);
            }
            Made::Services(all) => {
                services.extend(all.iter().map(|service| (service.key.clone(), service.clone())));
            }
        }
    }
    (PolicySnapshot::with(MeshConfig::default(), policies), services.into_values().collect())
}

/// Why Envoy does not take one of these.
fn refused(envoy: &Path, directory: &Path, worlds: Vec<Generated>) -> Option<String> {
    worlds.into_iter().enumerate().find_map(|(at, made)| {
        let file = directory.join(format!("{at}.pb"));
        std::fs::write(&file, document(made).encode_to_vec()).expect("written");
        let arguments = ["--mode", "validate", "--log-level", "error", "--concurrency", "1", "-c"];
        let answer = Command::new(envoy).args(arguments).arg(&file).output().expect("Envoy starts");
        let said = || format!("world {at}: {}", String::from_utf8_lossy(&answer.stderr));
        (!answer.status.success()).then(said)
    })
}

/// Why Envoy does not take what these objects make together.
fn refusal(envoy: &Path, directory: &Path, objects: &[&Accepted]) -> Option<String> {
    let (policies, services) = world(objects);
    let worlds = vec![
        generated(&sidecar(InterceptionMode::Redirect), &policies, &services),
        generated(&sidecar(InterceptionMode::None), &policies, &services),
        generated(&east_west(), &policies, &services),
        opened(&router(&policies), &policies, &services),
    ];
    refused(envoy, directory, worlds)
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
    let all = kinds.into_iter().flat_map(|(kind, make)| policies(kind, OBJECTS, make));
    let all: Vec<_> = all.chain(entries()).collect();
    let all: Vec<_> = all.iter().collect();
    for batch in all.chunks(BATCH * (kinds.len() + 1)) {
        if let Some(why) = refusal(&envoy, directory.path(), batch) {
            panic!("{}", culprits(&envoy, directory.path(), batch, why));
        }
    }
}

/// What is of one proxy alone: each object is read by an Envoy of its own.
#[test]
fn what_is_accepted_for_single_proxies_envoy_takes() {
    let Some(envoy) = envoy() else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let entries = entries();
    for one in policies(PolicyKind::Sidecar, ALONE, generator::sidecar) {
        let among: Vec<_> = entries.iter().take(10).chain([&one]).collect();
        let (policies, services) = world(&among);
        let keys = [InterceptionMode::Redirect, InterceptionMode::None].map(|mode| OutboundKey {
            sidecar: Some(PolicyId::new("sample", format!("o{}", one.number))),
            ..sidecar(mode)
        });
        let worlds = keys.map(|key| generated(&key, &policies, &services));
        let why = refused(&envoy, directory.path(), worlds.into());
        assert!(why.is_none(), "{}\n{}", why.unwrap_or_default(), shortened(&one.spec));
    }
    for one in policies(PolicyKind::PeerAuthentication, ALONE, generator::peer_authentication) {
        let (policies, _) = world(&[&one]);
        let worlds = [InterceptionMode::Redirect, InterceptionMode::None]
            .map(|mode| guarded(&policies, "sample", mode));
        let why = refused(&envoy, directory.path(), worlds.into());
        assert!(why.is_none(), "{}\n{}", why.unwrap_or_default(), shortened(&one.spec));
    }
}
