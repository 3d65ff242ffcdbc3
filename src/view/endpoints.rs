//! From a service snapshot to the endpoints a proxy sees (R4.1–R4.28 with D2–D7).
//!
//! Shards → ports → per-endpoint filter → direct, through a gateway, or hidden → localities → weights → priorities. Every
//! endpoint gets exactly one [`Decision`]; with the recorder `()` none of that costs anything.

use super::assignment::Assignment;
use super::facts::{Facts, Question};
use super::lb::{Client, Plan};
use super::pass::Pass;
use super::roads::{Roads, Told};
use super::waypoint::{self, OfWaypoint, Way};
use super::weighing::Weighing;
use super::{
    Destination, EdsKey, EdsName, MeshRules, Recorder, hbone, inline, mtls, projection, reads, siblings,
};
use crate::model::policy::OutlierDetection;
use crate::model::{Features, Labels, Locality, Quirk, Resolution, Service, TrafficDistribution};
use crate::registry::{NetworkSnapshot, PolicySnapshot, ServiceSnapshot, StandingSnapshot};

/// The versioned inputs of an assignment.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// The service.
    pub service: &'a ServiceSnapshot,
    /// The service's [waypoint](super::waypoint()), where it has one that some cluster knows.
    pub waypoint: Option<&'a ServiceSnapshot>,
    /// The networks.
    pub networks: &'a NetworkSnapshot,
    /// Mesh-wide rules.
    pub mesh: &'a MeshRules,
    /// What the endpoints of each cluster are worth.
    pub standings: &'a StandingSnapshot,
    /// The policies.
    pub policies: &'a PolicySnapshot,
}

/// The endpoints that proxies with projection `key` get for `name`; `inputs.service` is the service of the namespace that
/// the projection names. Cost ∝ the service's endpoints.
///
/// An unknown service, port or subset gives an empty assignment, never an error (R4.2); so does a service whose
/// endpoints Envoy resolves itself ([`told`] has them). Projections with [siblings](super::Siblings) get
/// those alone.
pub fn assign<'a>(
    inputs: Inputs<'a>,
    name: &EdsName,
    key: &EdsKey,
    recorder: &mut impl Recorder,
) -> Assignment<'a> {
    let Some(service) = meant(inputs, key).filter(|service| !service.resolution.is_dns()) else {
        return Assignment { standings_read: standings_read(inputs), ..Assignment::default() };
    };
    if key.siblings.is_some() && service.port(name.port).is_some() {
        return siblings::assign(inputs, service, name, key, recorder);
    }
    run(inputs, service, Told::Apart, name, key, recorder)
}

/// The endpoints that proxies with projection `key` get for `name`, by an assignment or with the Envoy cluster.
pub fn told<'a>(
    inputs: Inputs<'a>,
    name: &EdsName,
    key: &EdsKey,
    recorder: &mut impl Recorder,
) -> Assignment<'a> {
    match meant(inputs, key).filter(|service| service.resolution.is_dns()) {
        Some(service) => run(inputs, service, Told::WithCluster, name, key, recorder),
        None => assign(inputs, name, key, recorder),
    }
}

fn meant<'a>(inputs: Inputs<'a>, key: &EdsKey) -> Option<&'a Service> {
    let service = inputs.service.service.as_deref();
    service.filter(|service| key.namespace.as_ref() == Some(&service.key.namespace))
}

/// The endpoints of `service`, told in one of the two ways: one pipeline for both.
pub(super) fn run<'a>(
    inputs: Inputs<'a>,
    service: &'a Service,
    told: Told,
    name: &EdsName,
    key: &EdsKey,
    recorder: &mut impl Recorder,
) -> Assignment<'a> {
    if service.port(name.port).is_none() || !hbone::is_for(name, key.role) {
        return Assignment { standings_read: standings_read(inputs), ..Assignment::default() };
    }
    let destination = Destination::of_ids(inputs.policies, &name.host, &key.rules);
    let subset = destination.subset(&name.subset);
    if !name.subset.is_empty() && subset.is_none() {
        return Assignment {
            standings_read: standings_read(inputs),
            policies_read: reads::policies(inputs.policies, &name.host, &[]),
            ..Assignment::default()
        };
    }
    let settings = destination.settings(name.port, &name.subset);
    let (config, mesh) = (inputs.policies.mesh(), inputs.mesh);
    let plan = projection::plan_of(&settings, service, config, mesh.quirks(), key.role);
    let nowhere = Locality::default();
    let client =
        Client { locality: key.locality.as_ref().unwrap_or(&nowhere), labels: key.labels.as_deref() };
    let features = mesh.features();
    // The Envoy cluster has the mesh's where the rule has none (Q19).
    let default = config.outlier_detection.as_ref().filter(|_| !mesh.quirks().has(Quirk::Q19));
    let outliers = settings.outlier_detection.as_ref().or(default);
    let labels = subset.map(|subset| &subset.labels);
    // What Envoy resolves it reaches itself.
    let way = Way::of(inputs, service, name, key).filter(|_| told == Told::Apart);
    let waypoint = way.as_ref().and_then(|way| way.inputs(inputs));
    let inputs_of_pass = waypoint.map_or(inputs, |(_, inputs)| inputs);
    let name_of_pass = way.as_ref().map_or(name, |way| &way.name);
    let question = Question {
        inputs,
        name: name_of_pass,
        key,
        to_waypoint: way.is_some(),
        subset: labels.filter(|_| way.is_none()),
        tls: mtls::told(&destination, name),
        cluster_local: mesh.cluster_local(config, &name.host)
            || way.as_ref().is_some_and(|way| mesh.cluster_local(config, &way.waypoint.hostname)),
        global: told == Told::WithCluster || is_global(inputs, service),
        told,
        outside: told == Told::WithCluster && service.is_mesh_external(),
    };
    let mut pass = Pass {
        inputs: inputs_of_pass,
        name: name_of_pass,
        key,
        sends_unhealthy: sends_unhealthy(features, service.traffic_distribution, outliers),
        sticky: mesh.is_sticky(&service.labels),
        facts: Facts::new(question, Roads::new(inputs, key, told)),
        shares: if let Plan::Distribute(rules) = &plan { Some((rules, client.locality)) } else { None },
    };
    let scale = mesh.quirks().has(Quirk::Q29).then(|| pass.facts.roads().mesh_scale());
    let once = told == Told::Apart && pass.inputs.service.shards.len() > 1 && !mesh.quirks().has(Quirk::Q27);
    let mut weighing = Weighing::new(mesh.quirks(), scale, once);
    match (told, &way, waypoint) {
        (Told::WithCluster, ..) => pass.resolved(service, &mut weighing, recorder),
        (Told::Apart, None, _) => {
            pass.shards(service, &mut weighing, recorder);
            pass.unix(service, &mut weighing, recorder);
        }
        (_, Some(_), Some((record, _))) => {
            pass.shards(record, &mut weighing, &mut OfWaypoint(recorder));
        }
        (_, Some(_), None) => {}
    }
    let mut groups = weighing.finish(pass.facts.roads(), &plan, client);
    hbone::without_match(name, &mut groups);
    if service.resolution == Resolution::DnsRoundRobin {
        inline::only_one(&mut groups);
    }
    if way.is_some() {
        let serves = groups.iter().any(|group| !group.endpoints.is_empty());
        waypoint::decided(inputs, name, labels, serves, recorder);
    }
    let (namespaces, roads) = pass.facts.into_parts();
    Assignment {
        groups,
        hides_workloads: !features.tells_workloads(),
        waypoint_to: way.as_ref().map(|way| way.to),
        waypoint_read: way.as_ref().map(Way::read),
        networks_read: roads.into_read(),
        standings_read: standings_read(inputs),
        policies_read: reads::policies(inputs.policies, &name.host, &namespaces),
    }
}

/// Whether endpoints that are not ready are sent, as such (R4.10): Envoy then must not fall back on them.
pub fn sends_unhealthy(
    features: &Features,
    distribution: TrafficDistribution,
    outliers: Option<&OutlierDetection>,
) -> bool {
    features.send_unhealthy
        || distribution != TrafficDistribution::Any
        || features.auto_send_unhealthy && outliers.is_none_or(|outliers| outliers.min_health_percent == 0)
}

pub(super) fn standings_read(inputs: Inputs<'_>) -> u64 {
    let shards =
        inputs.service.shards.iter().chain(inputs.waypoint.iter().flat_map(|waypoint| &waypoint.shards));
    inputs.standings.version(shards.map(|shard| &shard.cluster))
}

/// Whether other clusters may use a service (R4.9): always, but in an ambient mesh of several networks only if the
/// first rule of the mesh that means it says so, as long as the config cluster has it.
pub(super) fn is_global(inputs: Inputs<'_>, service: &Service) -> bool {
    if !inputs.mesh.features().multi_network {
        return true;
    }
    let config = inputs.mesh.config_cluster();
    let record = config.and_then(|config| inputs.service.shard(config)?.service.as_deref());
    let told = record.map(|record| &record.namespace_labels).filter(|labels| !labels.is_empty());
    let named = Labels::from([("kubernetes.io/metadata.name", service.key.namespace.as_str())]);
    let labels = told.unwrap_or(&named);
    let rule = inputs.policies.mesh().service_scopes.iter().find(|rule| {
        // Of a namespace that was not read only its name is known: a rule that asks for more means nobody.
        let known = told.is_some() || rule.namespaces.labels().all(|label| labels.contains_key(label));
        known && rule.services.selects(&service.labels) && rule.namespaces.selects(labels)
    });
    let elsewhere = config.is_some() && record.is_none();
    elsewhere || rule.is_some_and(|rule| rule.global)
}
