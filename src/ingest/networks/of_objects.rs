//! The gateways that the objects of one cluster amount to, in one step.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::{HostNames, MeshNetworks};
use crate::ingest::convert::{ClusterContext, Gateways};
use crate::ingest::objects::ObjectKey;
use crate::ingest::staging::{StagedEvent, Staging};
use crate::ingest::watch::{Received, SourceEvent};
use crate::model::{ClusterId, GatewayAddress, GatewayHost, Name, NetworkGateway};

/// The gateways of one cluster's objects and of the document `meshNetworks` (`null` for none), static ones with
/// an empty cluster, host names unresolved; notes say what is not used. An object that comes again is changed.
///
/// # Errors
/// An object that cannot be read.
pub fn gateways_of(
    context: ClusterContext,
    system_namespace: &str,
    objects: &[Value],
    mesh_networks: &Value,
    hosts: HostNames,
) -> Result<Gateways, String> {
    let reading = MeshNetworks::from_value(mesh_networks, hosts).at_first();
    let quirks = context.quirks;
    let mut result = Gateways { notes: reading.problems, ..Gateways::default() };
    result.notes.extend(reading.warnings);
    for told in reading.networks.static_gateways() {
        let (network, cluster, port, hbone_port) = (told.network, ClusterId::default(), told.port, 0);
        match told.address {
            GatewayAddress::Ip(address) if !context.permits(address) => {
                result
                    .notes
                    .push(format!("gateway {address} of network `{network}` cannot be reached: not used"));
            }
            GatewayAddress::Ip(address) => {
                result.gateways.push(NetworkGateway { network, cluster, address, port, hbone_port });
            }
            GatewayAddress::Host(host) => {
                result.hosts.push(GatewayHost { network, host, port, hbone_port, cluster });
            }
        }
    }
    let mut staging = Staging::new(context, Name::from(system_namespace), std::sync::Arc::default());
    staging.apply(StagedEvent::MeshNetworks(reading.networks.into()));
    for object in objects {
        staging.apply(event(object)?);
        staging.take();
    }
    let claim = staging.state().networks;
    let notes = staging.quarantined();
    result.settle();
    result.beside(Gateways { gateways: claim.gateways, hosts: claim.hosts, notes }, quirks);
    Ok(result)
}

fn event(object: &Value) -> Result<StagedEvent, String> {
    let kind = object.get("kind").and_then(Value::as_str).unwrap_or_default();
    Ok(match kind {
        "Namespace" => StagedEvent::Namespace(applied(object)?),
        "Node" => StagedEvent::Node(applied(object)?),
        "Pod" => StagedEvent::Pod(applied(object)?),
        "Service" => StagedEvent::Service(applied(object)?),
        "EndpointSlice" => StagedEvent::Slice(applied(object)?),
        "Gateway" => StagedEvent::Gateway(applied(object)?),
        "ServiceExport" => StagedEvent::Export(applied(object)?),
        "ServiceImport" => StagedEvent::Import(applied(object)?),
        other => return Err(format!("kind `{other}` does not tell of gateways")),
    })
}

fn applied<T: DeserializeOwned>(object: &Value) -> Result<SourceEvent<T>, String> {
    let meta = |field: &str| {
        let text = object.get("metadata").and_then(|meta| meta.get(field)).and_then(Value::as_str);
        Name::from(text.unwrap_or_default())
    };
    let key = ObjectKey::new(meta("namespace"), meta("name"));
    let decoded = serde_json::from_value(object.clone()).map_err(|error| format!("{key}: {error}"))?;
    Ok(SourceEvent::Apply(Received { key, uid: Name::default(), revision: None, object: Ok(decoded) }))
}
