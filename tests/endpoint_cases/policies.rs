//! The policies of a case.

use std::sync::Arc;

use serde_json::{Map, Value};
use tombolo::model::policy::{
    ClientTls, ClientTlsMode, DestinationRule, Distribute, Failover, HostPattern, LabelRequirement,
    LoadBalancer, LocalityLb, MeshConfig, MtlsMode, NamespaceSelector, OutlierDetection, PeerAuthentication,
    PolicyId, PolicyMeta, PortPolicy, ServiceScopeRule, ServiceSettings, Subset, TrafficPolicy,
    TrafficSettings, WorkloadSelector, ZoneAwareLb,
};
use tombolo::model::{ExportTo, Labels, Name};
use tombolo::registry::{PolicyObject, PolicySnapshot};

use super::shape::{Shape, list, only, text, texts, truth};

/// All policies of an input. DestinationRules and whatever has no namespace of its own are the mesh's.
pub(crate) fn policies(input: &Value) -> Shape<PolicySnapshot> {
    let mesh = mesh(&input["mesh"])?;
    let mut objects = Vec::new();
    for (at, rule) in list(input, "destinationRules")?.iter().enumerate() {
        objects.push(PolicyObject::DestinationRule(Arc::new(destination_rule(rule, at, &mesh)?)));
    }
    for (at, one) in list(input, "peerAuthentications")?.iter().enumerate() {
        objects.push(PolicyObject::PeerAuthentication(Arc::new(peer_authentication(one, at, &mesh)?)));
    }
    Ok(PolicySnapshot::with(mesh, objects))
}

fn meta(object: &Value, at: usize, mesh: &MeshConfig) -> Shape<PolicyMeta> {
    let or = |field: &str, usual: String| -> Shape<String> {
        let text = text(object, field)?;
        Ok(if text.is_empty() { usual } else { text.to_owned() })
    };
    let id = PolicyId::new(or("namespace", mesh.root_namespace.to_string())?, or("name", format!("p{at}"))?);
    Ok(PolicyMeta { created: at as i64, id })
}

pub(crate) fn mesh(said: &Value) -> Shape<MeshConfig> {
    let mut mesh = MeshConfig::default();
    if said.is_null() {
        return Ok(mesh);
    }
    only(
        "mesh",
        said,
        &[
            "localityLbSetting",
            "zoneAwareLbSetting",
            "defaultTrafficPolicy",
            "outlierDetection",
            "serviceSettings",
            "serviceScopeConfigs",
            "rootNamespace",
            "trustDomain",
            "enableAutoMtls",
            "defaultServiceExportTo",
            "defaultDestinationRuleExportTo",
        ],
    )?;
    if !said["localityLbSetting"].is_null() {
        mesh.locality_lb = Some(locality_lb(&said["localityLbSetting"])?);
    }
    mesh.zone_aware_lb = optional(&said["zoneAwareLbSetting"], zone_aware)?;
    mesh.outlier_detection = optional(&said["defaultTrafficPolicy"]["outlierDetection"], outlier_detection)?;
    if !said["outlierDetection"].is_null() {
        mesh.outlier_detection = Some(outlier_detection(&said["outlierDetection"])?);
    }
    if !text(said, "rootNamespace")?.is_empty() {
        mesh.root_namespace = text(said, "rootNamespace")?.into();
    }
    mesh.service_settings =
        list(said, "serviceSettings")?.iter().map(service_settings).collect::<Shape<_>>()?;
    mesh.service_scopes =
        list(said, "serviceScopeConfigs")?.iter().map(service_scope).collect::<Shape<_>>()?;
    mesh.default_service_export_to = export_to(said, "defaultServiceExportTo")?;
    mesh.default_destination_rule_export_to = export_to(said, "defaultDestinationRuleExportTo")?;
    Ok(mesh)
}

/// A list of namespaces; `.` is the empty name of the mesh's defaults.
fn export_to(said: &Value, field: &str) -> Shape<ExportTo> {
    let all = texts(said, field)?;
    Ok(match all.as_slice() {
        [] => ExportTo::Everywhere,
        all if all.iter().any(|one| one == "*") => ExportTo::Everywhere,
        all if all.iter().all(|one| one == "~") => ExportTo::Nowhere,
        all => ExportTo::Namespaces(
            all.iter().map(|one| Name::from(if one == "." { "" } else { one.as_str() })).collect(),
        ),
    })
}

fn optional<T>(value: &Value, read: fn(&Value) -> Shape<T>) -> Shape<Option<T>> {
    if value.is_null() { Ok(None) } else { read(value).map(Some) }
}

fn service_settings(said: &Value) -> Shape<ServiceSettings> {
    only("a service setting", said, &["settings", "hosts"])?;
    only("settings", &said["settings"], &["clusterLocal"])?;
    let hosts = texts(said, "hosts")?.iter().map(|host| host.as_str().into()).collect();
    Ok(ServiceSettings { cluster_local: truth(&said["settings"], "clusterLocal")?, hosts })
}

fn service_scope(said: &Value) -> Shape<ServiceScopeRule> {
    only("a scope", said, &["servicesSelector", "namespaceSelector", "namespacesSelector", "scope"])?;
    let namespaces =
        if said["namespaceSelector"].is_null() { "namespacesSelector" } else { "namespaceSelector" };
    Ok(ServiceScopeRule {
        namespaces: selector(&said[namespaces])?,
        services: selector(&said["servicesSelector"])?,
        global: text(said, "scope")? == "GLOBAL",
    })
}

fn selector(said: &Value) -> Shape<NamespaceSelector> {
    if said.is_null() {
        return Ok(NamespaceSelector::default());
    }
    only("a selector", said, &["matchLabels", "matchExpressions"])?;
    let mut requirements: Vec<_> = labels(&said["matchLabels"])?
        .iter()
        .map(|(key, value)| LabelRequirement::In(key.clone(), vec![value.clone()]))
        .collect();
    for one in list(said, "matchExpressions")? {
        only("an expression", one, &["key", "operator", "values"])?;
        let key: Name = text(one, "key")?.into();
        let values = texts(one, "values")?.iter().map(|value| value.as_str().into()).collect();
        requirements.push(match text(one, "operator")? {
            "In" => LabelRequirement::In(key, values),
            "NotIn" => LabelRequirement::NotIn(key, values),
            "Exists" => LabelRequirement::Exists(key),
            "DoesNotExist" => LabelRequirement::DoesNotExist(key),
            other => return Err(format!("operator {other:?}")),
        });
    }
    Ok(NamespaceSelector { requirements })
}

/// A map of texts.
pub(crate) fn labels(said: &Value) -> Shape<Labels> {
    let none = Map::new();
    let map = match said {
        Value::Null => &none,
        said => said.as_object().ok_or("labels are not an object")?,
    };
    let one = |(key, value): (&String, &Value)| -> Shape<(Name, Name)> {
        Ok((key.as_str().into(), value.as_str().ok_or("a label is not a text")?.into()))
    };
    map.iter().map(one).collect()
}

fn destination_rule(said: &Value, at: usize, mesh: &MeshConfig) -> Shape<DestinationRule> {
    const FIELDS: [&str; 7] =
        ["host", "trafficPolicy", "subsets", "exportTo", "workloadSelector", "name", "namespace"];
    only("a DestinationRule", said, &FIELDS)?;
    Ok(DestinationRule {
        meta: meta(said, at, mesh)?,
        host: HostPattern::new(text(said, "host")?),
        policy: traffic_policy(&said["trafficPolicy"])?,
        subsets: list(said, "subsets")?.iter().map(subset).collect::<Shape<_>>()?,
        selector: WorkloadSelector::new(labels(&said["workloadSelector"]["matchLabels"])?),
        export_to: export_to(said, "exportTo")?,
    })
}

fn subset(said: &Value) -> Shape<Subset> {
    only("a subset", said, &["name", "labels", "trafficPolicy"])?;
    Ok(Subset {
        name: text(said, "name")?.into(),
        labels: labels(&said["labels"])?,
        policy: traffic_policy(&said["trafficPolicy"])?,
    })
}

fn traffic_policy(said: &Value) -> Shape<TrafficPolicy> {
    let ports = list(said, "portLevelSettings")?.iter().map(|one| -> Shape<PortPolicy> {
        let number = one["port"]["number"].as_u64().and_then(|number| u16::try_from(number).ok());
        Ok(PortPolicy { port: number.ok_or("a port has no number")?, settings: settings(one)? })
    });
    Ok(TrafficPolicy { ports: ports.collect::<Shape<_>>()?, settings: settings(said)? })
}

fn settings(said: &Value) -> Shape<TrafficSettings> {
    if said.is_null() {
        return Ok(TrafficSettings::default());
    }
    // Connection pools say nothing about endpoints.
    const FIELDS: [&str; 6] =
        ["tls", "outlierDetection", "loadBalancer", "portLevelSettings", "port", "connectionPool"];
    only("a traffic policy", said, &FIELDS)?;
    Ok(TrafficSettings {
        load_balancer: optional(&said["loadBalancer"], load_balancer)?,
        connection_pool: None,
        outlier_detection: optional(&said["outlierDetection"], outlier_detection)?,
        tls: optional(&said["tls"], tls)?,
    })
}

fn tls(said: &Value) -> Shape<ClientTls> {
    let mode = match text(said, "mode")? {
        "" | "DISABLE" => ClientTlsMode::Disable,
        "SIMPLE" => ClientTlsMode::Simple,
        "MUTUAL" => ClientTlsMode::Mutual,
        "ISTIO_MUTUAL" => ClientTlsMode::IstioMutual,
        other => return Err(format!("tls mode {other:?}")),
    };
    Ok(ClientTls { mode, ..ClientTls::default() })
}

fn outlier_detection(said: &Value) -> Shape<OutlierDetection> {
    let minimum = match &said["minHealthPercent"] {
        Value::Null => 0,
        value => value.as_u64().ok_or("minHealthPercent is not a number")?,
    };
    Ok(OutlierDetection {
        min_health_percent: u32::try_from(minimum).map_err(|_| "minHealthPercent")?,
        ..OutlierDetection::default()
    })
}

fn load_balancer(said: &Value) -> Shape<LoadBalancer> {
    // How one endpoint is chosen says nothing about which there are.
    const FIELDS: [&str; 6] = [
        "localityLbSetting",
        "zoneAwareLbSetting",
        "simple",
        "consistentHash",
        "warmup",
        "warmupDurationSecs",
    ];
    only("a load balancer", said, &FIELDS)?;
    Ok(LoadBalancer {
        locality: optional(&said["localityLbSetting"], locality_lb)?,
        zone_aware: optional(&said["zoneAwareLbSetting"], zone_aware)?,
        ..LoadBalancer::default()
    })
}

/// Yes unless it says no.
fn enabled(said: &Value) -> Shape<bool> {
    if said["enabled"].is_null() { Ok(true) } else { truth(said, "enabled") }
}

pub(crate) fn locality_lb(said: &Value) -> Shape<LocalityLb> {
    only("a locality setting", said, &["enabled", "distribute", "failover", "failoverPriority"])?;
    Ok(LocalityLb {
        enabled: enabled(said)?,
        distribute: list(said, "distribute")?.iter().map(distribute).collect::<Shape<_>>()?,
        failover: list(said, "failover")?.iter().map(failover).collect::<Shape<_>>()?,
        failover_priority: names(said, "failoverPriority")?,
    })
}

pub(crate) fn zone_aware(said: &Value) -> Shape<ZoneAwareLb> {
    const FIELDS: [&str; 7] = [
        "enabled",
        "failover",
        "failoverPriority",
        "minClusterSize",
        "routingEnabled",
        "failTrafficOnPanic",
        "forceLocalityDirectRouting",
    ];
    only("a zone-aware setting", said, &FIELDS)?;
    Ok(ZoneAwareLb {
        enabled: enabled(said)?,
        failover: list(said, "failover")?.iter().map(failover).collect::<Shape<_>>()?,
        failover_priority: names(said, "failoverPriority")?,
        min_cluster_size: said["minClusterSize"].as_u64(),
    })
}

fn names(said: &Value, field: &str) -> Shape<Vec<Name>> {
    Ok(texts(said, field)?.iter().map(|text| text.as_str().into()).collect())
}

fn failover(said: &Value) -> Shape<Failover> {
    only("a failover", said, &["from", "to"])?;
    Ok(Failover { from: text(said, "from")?.into(), to: text(said, "to")?.into() })
}

fn distribute(said: &Value) -> Shape<Distribute> {
    only("a distribution", said, &["from", "to"])?;
    let to = said["to"].as_object().ok_or("`to` is not an object")?;
    let share = |(pattern, share): (&String, &Value)| -> Shape<(Name, u32)> {
        let share = share.as_u64().and_then(|share| u32::try_from(share).ok());
        Ok((pattern.as_str().into(), share.ok_or("a share is not a number")?))
    };
    let mut to = to.iter().map(share).collect::<Shape<Vec<_>>>()?;
    // The most specific first.
    let vague = |pattern: &Name| 3 - pattern.split('/').filter(|part| *part != "*").count().min(3);
    to.sort_by_key(|(pattern, _)| vague(pattern));
    Ok(Distribute { from: text(said, "from")?.into(), to })
}

fn peer_authentication(said: &Value, at: usize, mesh: &MeshConfig) -> Shape<PeerAuthentication> {
    only("a PeerAuthentication", said, &["namespace", "name", "selector", "mode", "portLevel"])?;
    let ports = match &said["portLevel"] {
        Value::Null => &Map::new(),
        ports => ports.as_object().ok_or("portLevel is not an object")?,
    };
    let port = |(number, mode): (&String, &Value)| -> Shape<_> {
        let number = number.parse().map_err(|_| format!("port {number:?}"))?;
        Ok((number, mtls_mode(mode.as_str().unwrap_or_default())?))
    };
    Ok(PeerAuthentication {
        meta: meta(said, at, mesh)?,
        selector: WorkloadSelector::new(labels(&said["selector"])?),
        mode: mtls_mode(text(said, "mode")?)?,
        ports: ports.iter().map(port).collect::<Shape<_>>()?,
    })
}

fn mtls_mode(text: &str) -> Shape<Option<MtlsMode>> {
    Ok(match text {
        "" | "UNSET" => None,
        "DISABLE" => Some(MtlsMode::Disable),
        "PERMISSIVE" => Some(MtlsMode::Permissive),
        "STRICT" => Some(MtlsMode::Strict),
        other => return Err(format!("mTLS mode {other:?}")),
    })
}
