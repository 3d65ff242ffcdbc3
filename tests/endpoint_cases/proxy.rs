//! A proxy of a case, and what it is sent.

use serde_json::{Value, json};
use tombolo::model::{IpFamilies, Locality, Node, NodeMetadata, ProxyView};
use tombolo::registry::{PolicySnapshot, Registry};
use tombolo::view::{Assignment, EdsKey, EdsName, Inputs, MeshRules, assign, waypoint};

use super::features::Features;
use super::flags::Flags;
use super::policies::labels;
use super::shape::{Shape, only, text, texts};

const FIELDS: [&str; 9] = [
    "type",
    "network",
    "cluster",
    "ips",
    "locality",
    "labels",
    "nodeName",
    "requestedNetworkView",
    "namespace",
];

/// Mesh-wide rules under the switches of an input.
pub(crate) fn rules(input: &Value, flags: &Flags) -> Shape<MeshRules> {
    let features = Features::read(&input["features"])?.view;
    Ok(MeshRules::default().with_quirks(flags.quirks()).with_features(features))
}

/// The proxy that an input tells of.
pub(crate) fn view(told: &Value, registry: &Registry, flags: &Flags) -> Shape<ProxyView> {
    only("a proxy", told, &FIELDS)?;
    let (kind, managed) = match text(told, "type")? {
        "" | "sidecar" => ("sidecar", None),
        "router" => ("router", None),
        "ingress" => ("router", Some("istio.io-gateway-controller")),
        "waypoint" => ("router", Some("istio.io-mesh-controller")),
        other => return Err(format!("proxy type {other:?}")),
    };
    let mut own = labels(&told["labels"])?;
    if let Some(managed) = managed {
        own.insert("gateway.istio.io/managed".into(), managed.into());
    }
    let namespace = Some(text(told, "namespace")?).filter(|name| !name.is_empty()).unwrap_or("default");
    let metadata = NodeMetadata {
        cluster_id: text(told, "cluster")?.to_owned(),
        network: text(told, "network")?.to_owned(),
        namespace: namespace.to_owned(),
        node_name: text(told, "nodeName")?.to_owned(),
        requested_network_view: texts(told, "requestedNetworkView")?.join(","),
        labels: own,
        ..NodeMetadata::default()
    };
    let ips = texts(told, "ips")?;
    let first = ips.first().map_or("192.0.2.1", String::as_str);
    let id = format!("{kind}~{first}~proxy.{namespace}~{namespace}.svc.cluster.local");
    let locality = Locality::parse(text(told, "locality")?);
    let node = Node::parse(&id, metadata, locality, std::iter::empty()).map_err(|error| error.to_string())?;
    let network = registry.networks().of_cluster(node.cluster());
    let mut view = ProxyView::new(&node, None, &network, flags.quirks());
    let addresses: Vec<_> = ips.iter().filter_map(|ip| ip.parse().ok()).collect();
    // No address at all: the family is not known.
    view.families = if addresses.is_empty() { IpFamilies::Dual } else { IpFamilies::of(&addresses) };
    Ok(view)
}

/// What `tell` says of what a proxy is sent for a name, through its projection.
pub(crate) fn assigned<T>(
    registry: &Registry,
    policies: &PolicySnapshot,
    mesh: &MeshRules,
    view: &ProxyView,
    request: &str,
    tell: impl FnOnce(&Assignment<'_>) -> T,
) -> Shape<T> {
    let name = EdsName::parse(request).ok_or_else(|| format!("request {request:?}"))?;
    let candidates: Vec<_> = registry.host(&name.host).iter().map(|cell| cell.load()).collect();
    let key = EdsKey::of(view, &name, &candidates, policies, mesh);
    let meant = candidates.iter().find(|candidate| {
        candidate.service.as_ref().map(|service| &service.key.namespace) == key.namespace.as_ref()
    });
    let (Some(service), Some(_)) = (meant, &key.namespace) else {
        return Ok(tell(&Assignment::default()));
    };
    let (networks, standings) = (registry.networks(), registry.standings());
    let waypoint = service.service.as_ref().and_then(|service| waypoint(service, &name, &key, mesh));
    let waypoint = waypoint.and_then(|waypoint| registry.service(waypoint)).map(|cell| cell.load());
    let (networks, standings, waypoint) = (&*networks, &*standings, waypoint.as_deref());
    let inputs = Inputs { service, waypoint, networks, mesh, standings, policies };
    Ok(tell(&assign(inputs, &name, &key, &mut ())))
}

/// R2.8.
pub(crate) fn proxy_view(row: &Value) -> Shape<Value> {
    only("a row", row, &["view", "network"])?;
    let networks = texts(row, "view")?.iter().map(|network| network.as_str().into()).collect();
    let view = tombolo::model::RequestedView::new(networks);
    Ok(json!(view.sees(&text(row, "network")?.into())))
}
