//! Waypoints in place of a service's own endpoints (R4.37).

use std::net::SocketAddr;

use super::facts::has_all;
use super::pass::{is_of_port, port_names};
use super::{Decision, EdsKey, EdsName, Inputs, MeshRules, Recorder, Role};
use crate::model::{Endpoint, HBONE_GATEWAY_PORT, Labels, Service, ServiceKey};
use crate::registry::ServiceSnapshot;

/// The way of ingress gateways to a service that has a waypoint.
#[derive(Clone, Debug)]
pub(super) struct Way<'a> {
    /// The waypoint's service.
    pub(super) waypoint: &'a ServiceKey,
    /// The waypoint as it is; `None` where no cluster has it.
    snapshot: Option<&'a ServiceSnapshot>,
    /// The port of the waypoint, under the name of the service that is meant: what holds for that service holds for
    /// those who stand in for it.
    pub(super) name: EdsName,
    /// Where the waypoint is to lead: a virtual address and port of the service (R4.17).
    pub(super) to: SocketAddr,
}

/// The waypoint whose endpoints proxies with projection `key` get for `name` instead of those of `service`: ingress gateways
/// do, by the label of the service, where it has a virtual address that the waypoint can be told. One waypoint serves a
/// service, so that its endpoints keep their weights. East-west gateways and waypoints go straight, and so does TLS
/// that gateways pass through by its server name.
pub fn waypoint<'a>(
    service: &'a Service,
    name: &EdsName,
    key: &EdsKey,
    mesh: &MeshRules,
) -> Option<&'a ServiceKey> {
    let ingress = mesh.features().ingress_waypoints && matches!(key.role, Role::Router | Role::Ingress);
    let outbound = !name.sni_dnat && name.inbound_vip.is_none() && key.siblings.is_none();
    let waypoint = service.ingress_waypoint.as_ref().filter(|_| ingress && outbound)?;
    (!service.vips_in(&key.cluster).is_empty() && *waypoint != service.key).then_some(waypoint)
}

impl<'a> Way<'a> {
    pub(super) fn of(inputs: Inputs<'a>, service: &'a Service, name: &EdsName, key: &EdsKey) -> Option<Self> {
        let waypoint = waypoint(service, name, key, inputs.mesh)?;
        let vip = service.vips_in(&key.cluster).first()?;
        Some(Self {
            waypoint,
            snapshot: inputs.waypoint,
            name: EdsName { port: HBONE_GATEWAY_PORT, subset: String::new(), ..name.clone() },
            to: SocketAddr::new(*vip, name.port),
        })
    }

    /// The waypoint with its record and what is read instead of the service; `None` where no cluster has it.
    pub(super) fn inputs(&self, inputs: Inputs<'a>) -> Option<(&'a Service, Inputs<'a>)> {
        let snapshot = self.snapshot?;
        let record = snapshot.service.as_deref()?;
        Some((record, Inputs { service: snapshot, waypoint: None, ..inputs }))
    }

    /// Which version of the waypoint was read; 0 for none.
    pub(super) fn read(&self) -> (ServiceKey, u64) {
        (self.waypoint.clone(), self.snapshot.map_or(0, |snapshot| snapshot.version))
    }
}

/// Tells a recorder that what is decided is the waypoint's.
#[derive(Debug)]
pub(super) struct OfWaypoint<'a, R>(pub(super) &'a mut R);

impl<R: Recorder> Recorder for OfWaypoint<'_, R> {
    fn decided(&mut self, endpoint: &Endpoint, decision: Decision) {
        self.0.decided_of_waypoint(endpoint, decision);
    }
}

/// Tells what became of the service's own endpoints: the waypoint stands for those of the port and subset, or hides them
/// when it has no endpoint for the proxy.
pub(super) fn decided(
    inputs: Inputs<'_>,
    name: &EdsName,
    subset: Option<&Labels>,
    serves: bool,
    recorder: &mut impl Recorder,
) {
    for shard in &inputs.service.shards {
        let names = port_names(shard, name.port);
        for endpoint in shard.endpoints.iter() {
            let decision = match () {
                () if !is_of_port(endpoint, &names) => Decision::OtherPort,
                () if subset.is_some_and(|subset| !has_all(&endpoint.workload, subset)) => Decision::Subset,
                () if serves => Decision::ViaWaypoint,
                () => Decision::NoWaypoint,
            };
            recorder.decided(endpoint, decision);
        }
    }
}
