//! Why a proxy sees no service of a host, and what would be if it did (R4.2).

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;

use super::{Absence, Nothing, alias, nothing};
use crate::model::policy::Sidecar;
use crate::model::{ExportTo, ProxyView, Resolution, Service};
use crate::registry::ServiceSnapshot;
use crate::view::visibility::{self, Sight};
use crate::view::{EdsKey, EdsName, Inputs, Tally, told};

/// What a proxy would see if one thing were otherwise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WouldSee {
    /// The thing.
    #[serde(rename = "if")]
    pub condition: String,
    /// Why there would still be nothing.
    pub nothing: Option<Nothing>,
    /// What would be decided, by code, of how many endpoints.
    pub endpoints: BTreeMap<&'static str, u32>,
}

/// Why a proxy sees no service of the host of `name`; `None` when it sees one. `candidates` are the services of that host,
/// one per namespace; the service of `inputs` is not looked at. What would be is the pipeline's own answer.
pub fn unseen(
    view: &ProxyView,
    name: &EdsName,
    candidates: &[Arc<ServiceSnapshot>],
    inputs: Inputs<'_>,
) -> Option<Absence> {
    if visibility::meant(view, name, candidates, inputs.policies).is_some() {
        return None;
    }
    let asked = Asked { view, name, inputs };
    let sight = Sight::of(view, inputs.policies);
    if let Some(told) = sight.meant(candidates, |one| one.service.as_deref()) {
        return asked.by_sidecar(&sight, told);
    }
    let opened: Vec<_> = candidates.iter().filter_map(exported).collect();
    let absence = |code, detail| Some(Absence { code, detail, would: None });
    if let Some(hidden) = sight.meant(&opened, |one| one.service.as_deref()) {
        return asked.by_export(candidates, hidden);
    }
    match candidates.iter().find_map(|one| one.service.as_deref()) {
        Some(service) => absence(Nothing::Alias, alias(service)),
        None => absence(Nothing::NoService, "no cluster tells of such a service".to_owned()),
    }
}

/// The same service, exported to everybody; `None` for a name of another host.
fn exported(snapshot: &Arc<ServiceSnapshot>) -> Option<Arc<ServiceSnapshot>> {
    let service = snapshot.service.as_deref()?;
    let opened = Service { export_to: ExportTo::Everywhere, ..service.clone() };
    (!matches!(service.resolution, Resolution::Alias(_))).then(|| {
        Arc::new(ServiceSnapshot {
            version: snapshot.version,
            record_version: snapshot.record_version,
            service: Some(Arc::new(opened)),
            shards: snapshot.shards.clone(),
            accounts: snapshot.accounts.clone(),
            conflicting: snapshot.conflicting,
        })
    })
}

/// Who asks for what.
struct Asked<'a> {
    view: &'a ProxyView,
    name: &'a EdsName,
    inputs: Inputs<'a>,
}

impl Asked<'_> {
    /// `hidden` is a candidate as it would be if everybody saw it.
    fn by_export(
        &self,
        candidates: &[Arc<ServiceSnapshot>],
        hidden: &Arc<ServiceSnapshot>,
    ) -> Option<Absence> {
        let service = hidden.service.as_deref()?;
        let same = |one: &&Service| one.key == service.key;
        let told = candidates.iter().filter_map(|one| one.service.as_deref()).find(same)?;
        let (kind, own) = (kind(service), self.view.namespace());
        let condition = format!("the {kind} of {} were exported to namespace {own}", service.key.namespace);
        let sight = Sight::of(self.view, self.inputs.policies);
        let would = match sight.reaches(&service.key, self.name.port) {
            true => self.would(condition, hidden),
            false => {
                let nothing = Some(Nothing::SidecarEgress);
                Some(WouldSee { condition, nothing, endpoints: BTreeMap::new() })
            }
        };
        let detail = format!(
            "the {kind} of {} is {}; the proxy is in {own}",
            service.key.namespace,
            reach(&told.export_to)
        );
        Some(Absence { code: Nothing::ExportTo, detail, would })
    }

    fn by_sidecar(&self, sight: &Sight<'_>, told: &Arc<ServiceSnapshot>) -> Option<Absence> {
        let (service, sidecar) = (told.service.as_deref()?, sight.sidecar()?);
        let (namespace, host, port) = (&service.key.namespace, &service.key.hostname, self.name.port);
        let id = &sidecar.meta.id;
        let elsewhere = on_ports(sidecar, service);
        let (detail, on) = match elsewhere.is_empty() {
            true => (format!("Sidecar {id} does not name {namespace}/{host}"), String::new()),
            false => (
                format!("Sidecar {id} names {namespace}/{host} on {elsewhere} only"),
                format!(" on port {port}"),
            ),
        };
        let condition = format!("Sidecar {id} named {namespace}/{host}{on}");
        Some(Absence { code: Nothing::SidecarEgress, detail, would: self.would(condition, told) })
    }

    /// What the proxy would get if it saw this service.
    fn would(&self, condition: String, service: &ServiceSnapshot) -> Option<WouldSee> {
        let inputs = Inputs { service, ..self.inputs };
        let (policies, mesh) = (inputs.policies, inputs.mesh);
        let key = EdsKey::meaning(self.view, self.name, service.service.as_deref(), policies, mesh);
        let mut tally = Tally::default();
        told(inputs, self.name, &key, &mut tally);
        let counts = tally.counts().filter(|(_, count)| *count > 0);
        let endpoints = counts.map(|(decision, count)| (decision.code(), count)).collect();
        let nothing = nothing(inputs, self.name, &key).map(|absence| absence.code);
        Some(WouldSee { condition, nothing, endpoints })
    }
}

fn kind(service: &Service) -> &'static str {
    if service.entry.is_some() { "ServiceEntry" } else { "Service" }
}

fn reach(export: &ExportTo) -> String {
    match export {
        ExportTo::Everywhere => "exported to everybody".to_owned(),
        ExportTo::Nowhere => "exported to nobody (exportTo ~)".to_owned(),
        ExportTo::Namespaces(names) => {
            let names: Vec<_> = names.iter().map(|name| name.as_str()).collect();
            format!("exported to {} only (exportTo)", names.join(", "))
        }
        ExportTo::Unset => "without exportTo, and the mesh's default does not reach that far".to_owned(),
    }
}

/// The ports on which a Sidecar names a service: `port 80, port 90`.
fn on_ports(sidecar: &Sidecar, service: &Service) -> String {
    let (namespace, host) = (&service.key.namespace, &service.key.hostname);
    let naming = sidecar.egress.iter().filter(|listener| visibility::reads(listener, namespace, host));
    let ports: Vec<_> = naming.filter_map(visibility::own_port).map(|port| format!("port {port}")).collect();
    ports.join(", ")
}
