//! The siblings of a proxy: what stands behind the EDS name `local_cluster` (R4.9.10).
//!
//! Envoy's zone-aware load balancing compares how the pods of the proxy's own workload are spread over zones with how
//! those of an upstream are. It learns of the former by an Envoy cluster of its bootstrap, which CDS never has.
//!
//! * *Of which service:* of those that are the proxy's own, as inbound listeners know them: Services whose slices name
//!   its pod and whose record its own cluster tells; the oldest, then the first by namespace and host. Of its TCP
//!   ports the lowest. To whom it is exported, Sidecars and DestinationRules do not matter: it is the proxy's own. Only
//!   one that is exported to nobody (`~`) does not count: it is nobody's business (R5.18).
//! * *Which endpoints:* those that the filters of R4.9 leave, of the same workload name, template hashes and region as
//!   the proxy, in whatever cluster. Only ready ones: those alone send as the proxy does. None behind gateways: from
//!   another network upstreams are spread otherwise.
//! * *How:* at their own addresses, by locality, with weights, and all of priority 0: Envoy refuses others here. Nobody
//!   connects to them, so that neither TLS nor HBONE is told.
//!
//! A proxy without a service of its own has no siblings: its assignment is empty, and Envoy then balances evenly.

use std::sync::Arc;

use serde::Serialize;

use super::endpoints::{is_global, standings_read};
use super::facts::{Facts, Question};
use super::lb::{Client, Plan};
use super::pass::Pass;
use super::roads::{Roads, Told};
use super::weighing::Weighing;
use super::{Assignment, EdsKey, EdsName, Inputs, Recorder, reads};
use crate::model::policy::ClientTlsMode;
use crate::model::{ExportTo, Hostname, Locality, Name, ProxyView, Quirk, Service, Transport, Workload};
use crate::registry::ServiceSnapshot;

/// The EDS name under which a proxy asks for its siblings; no name of a service.
pub const LOCAL_CLUSTER: &str = "local_cluster";

/// Label of the pods of one ReplicaSet.
const TEMPLATE_HASH: &str = "pod-template-hash";
/// The same under a Rollout.
const ROLLOUTS_HASH: &str = "rollouts-pod-template-hash";

/// Whose siblings: what the pods of one version of a workload have in common in one region.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Siblings {
    /// The host of the service that tells of them.
    pub host: Hostname,
    /// Its port.
    pub port: u16,
    /// The name of the workload (R5.10).
    pub workload: Name,
    /// Its label `pod-template-hash`; empty without one.
    pub template_hash: Name,
    /// Its label `rollouts-pod-template-hash`; empty without one.
    pub rollouts_hash: Name,
    /// The region.
    pub region: Name,
}

impl Siblings {
    /// The siblings of a proxy, and the merged record of the service that tells of them; `services` are its own. `None`
    /// where its cluster has none of these, or none with a TCP port.
    pub(super) fn of<'s>(
        view: &ProxyView,
        services: &'s [Arc<ServiceSnapshot>],
    ) -> Option<(&'s Service, Self)> {
        let told = services.iter().filter_map(|snapshot| {
            let own = snapshot.shard(view.cluster())?.service.as_deref()?;
            let merged = snapshot.service.as_deref().filter(|merged| tells(merged))?;
            Some((own, lowest_port(own, merged)?, merged))
        });
        let (own, port, service) =
            told.min_by(|(a, ..), (b, ..)| (a.created, &a.key).cmp(&(b.created, &b.key)))?;
        let label = |label| Name::from(view.own_label(label).unwrap_or_default());
        let siblings = Self {
            host: own.key.hostname.clone(),
            port,
            workload: view.workload_name.clone(),
            template_hash: label(TEMPLATE_HASH),
            rollouts_hash: label(ROLLOUTS_HASH),
            region: view.locality.region.clone(),
        };
        Some((service, siblings))
    }

    /// The service and port that tell of them.
    pub(super) fn name(&self) -> EdsName {
        EdsName::outbound(self.port, &self.host)
    }

    /// Whether a workload is one of them, as far as it can be told by what it is.
    pub(super) fn include(&self, workload: &Workload) -> bool {
        let label = |label| workload.own_labels.get(label).map(Name::as_str).unwrap_or_default();
        *workload.workload_name() == self.workload
            && label(TEMPLATE_HASH) == self.template_hash.as_str()
            && label(ROLLOUTS_HASH) == self.rollouts_hash.as_str()
            && workload.locality().region == self.region
    }

    /// What a workload is compared by, in words.
    pub(super) fn in_words(workload: &Workload) -> String {
        let label = |label| workload.own_labels.get(label).map(Name::as_str).unwrap_or_default();
        words(
            workload.workload_name(),
            [label(TEMPLATE_HASH), label(ROLLOUTS_HASH)],
            &workload.locality().region,
        )
    }
}

impl std::fmt::Display for Siblings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&words(&self.workload, [&self.template_hash, &self.rollouts_hash], &self.region))
    }
}

/// `workload "web" (template hash 6d4f) in region "eu"`.
fn words(workload: &str, hashes: [&str; 2], region: &str) -> String {
    let hashes: Vec<_> = hashes.into_iter().filter(|hash| !hash.is_empty()).collect();
    let version = match hashes.is_empty() {
        true => String::new(),
        false => format!(" (template hash {})", hashes.join(", ")),
    };
    format!("workload {workload:?}{version} in region {region:?}")
}

/// Whether a service tells anybody of its endpoints by EDS.
fn tells(service: &Service) -> bool {
    service.export_to != ExportTo::Nowhere && !service.resolution.is_dns()
}

/// The lowest TCP port of a record that the merged one has too.
fn lowest_port(own: &Service, merged: &Service) -> Option<u16> {
    let tcp = own.ports.iter().filter(|port| port.transport == Transport::Tcp).map(|port| port.number);
    tcp.filter(|number| merged.port(*number).is_some()).min()
}

/// The siblings that a projection names, of `service`. Reads no policy but MeshConfig. Cost ∝ the service's endpoints.
pub(super) fn assign<'a>(
    inputs: Inputs<'a>,
    service: &'a Service,
    name: &EdsName,
    key: &EdsKey,
    recorder: &mut impl Recorder,
) -> Assignment<'a> {
    let (config, mesh, nowhere) = (inputs.policies.mesh(), inputs.mesh, Locality::default());
    let question = Question {
        inputs,
        name,
        key,
        to_waypoint: false,
        subset: None,
        // Nobody connects: whether it would be by mTLS need not be found out.
        tls: Some(ClientTlsMode::Disable),
        cluster_local: mesh.cluster_local(config, &name.host),
        global: is_global(inputs, service),
        told: Told::Apart,
        outside: false,
    };
    let facts = Facts::new(question, Roads::new(inputs, key, Told::Apart));
    let mut pass = Pass { inputs, name, key, sends_unhealthy: false, sticky: false, facts, shares: None };
    let once = inputs.service.shards.len() > 1 && !mesh.quirks().has(Quirk::Q27);
    let mut weighing = Weighing::new(mesh.quirks(), None, once);
    pass.shards(service, &mut weighing, recorder);
    let client = Client { locality: &nowhere, labels: None };
    let groups = weighing.finish(pass.facts.roads(), &Plan::Unchanged, client);
    let (_, roads) = pass.facts.into_parts();
    Assignment {
        groups,
        hides_workloads: !mesh.features().tells_workloads(),
        waypoint_to: None,
        waypoint_read: None,
        networks_read: roads.into_read(),
        standings_read: standings_read(inputs),
        policies_read: reads::mesh(inputs.policies),
    }
}
