//! The document MeshConfig, as far as it is read.

use serde_json::Value;

use super::{At, Notes, Terms, locality, names, sidecar, traffic};
use crate::model::policy::{
    LabelRequirement, MeshConfig, NamespaceSelector, PathNormalization, ServiceScopeRule, ServiceSettings,
};
use crate::model::{ExportTo, Name};

/// Reads the YAML (or JSON) text of a MeshConfig, and what of the parts that are read cannot be done. What it does not
/// say is as in `usual`.
///
/// # Errors
/// What is wrong, naming the field; the document is not used then.
pub(in crate::ingest) fn mesh_config(
    text: &str,
    usual: MeshConfig,
) -> Result<(MeshConfig, Vec<String>), String> {
    let blank = |line: &str| line.trim().is_empty() || line.trim_start().starts_with('#');
    if text.lines().all(blank) {
        return Ok((usual, Vec::new()));
    }
    let value: Value = serde_saphyr::from_str(text).map_err(|error| {
        let text = error.to_string();
        format!("not YAML: {}", text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default())
    })?;
    if value.is_null() {
        return Ok((usual, Vec::new()));
    }
    let notes = Notes::default();
    let at = At::noted("", &value, &notes);
    at.object().map_err(|_| "not a MeshConfig: a document of fields belongs there".to_owned())?;
    let mesh = read(&at, usual)?;
    let others = value.as_object().into_iter().flatten().filter(|(name, _)| UNREAD.contains(&name.as_str()));
    for (_, part) in others {
        notes.saw(part);
        notes.leave(part);
    }
    Ok((mesh, notes.problems(&at)))
}

/// Fields of a MeshConfig that are not read: most of the document is for proxies and for other control planes.
const UNREAD: [&str; 33] = [
    "accessLogEncoding",
    "accessLogFile",
    "accessLogFormat",
    "ca",
    "caCertificates",
    "certificates",
    "compliancePolicy",
    "configSources",
    "defaultConfig",
    "defaultHttpRetryPolicy",
    "defaultProviders",
    "disableEnvoyListenerLog",
    "dnsRefreshRate",
    "enableEnvoyAccessLogService",
    "enablePrometheusMerge",
    "enableTracing",
    "extensionProviders",
    "inboundClusterStatName",
    "inboundTrafficPolicy",
    "ingressClass",
    "ingressControllerMode",
    "ingressSelector",
    "ingressService",
    "meshMTLS",
    "outboundClusterStatName",
    "pathNormalization",
    "proxyHttpPort",
    "proxyInboundListenPort",
    "proxyListenPort",
    "tcpKeepalive",
    "thriftConfig",
    "tlsDefaults",
    "verifyCertificateAtClient",
];

fn read(at: &At<'_>, usual: MeshConfig) -> Result<MeshConfig, String> {
    let upgrades = [("DO_NOT_UPGRADE", false), ("UPGRADE", true)];
    let policy = |policy: &At<'_>| policy.read("outlierDetection", traffic::outlier_detection);
    let export =
        |name| Ok::<_, String>(at.field(name).map(|_| export_to(at, name)).transpose()?.unwrap_or_default());
    Ok(MeshConfig {
        trust_domain: name(at, "trustDomain")?.or(usual.trust_domain),
        trust_domain_aliases: at.list("trustDomainAliases", |alias| alias.filled().map(Name::from))?,
        root_namespace: name(at, "rootNamespace")?.unwrap_or(usual.root_namespace),
        auto_mtls: at.read("enableAutoMtls", At::boolean)?.unwrap_or(usual.auto_mtls),
        locality_lb: at.read("localityLbSetting", locality::locality_lb)?.or(usual.locality_lb),
        zone_aware_lb: at.read("zoneAwareLbSetting", locality::zone_aware_lb)?.or(usual.zone_aware_lb),
        outlier_detection: at.read("defaultTrafficPolicy", policy)?.flatten().or(usual.outlier_detection),
        outbound_policy: at.read("outboundTrafficPolicy", outbound_policy)?.unwrap_or(usual.outbound_policy),
        service_settings: at.list("serviceSettings", service_settings)?,
        service_scopes: at.list("serviceScopeConfigs", service_scope)?,
        discovery_selectors: at.list("discoverySelectors", selector)?,
        default_service_export_to: export("defaultServiceExportTo")?,
        default_destination_rule_export_to: export("defaultDestinationRuleExportTo")?,
        default_virtual_service_export_to: export("defaultVirtualServiceExportTo")?,
        connect_timeout: at.read("connectTimeout", At::some_time)?.unwrap_or(usual.connect_timeout),
        protocol_detection_timeout: at
            .read("protocolDetectionTimeout", At::duration)?
            .unwrap_or(usual.protocol_detection_timeout),
        h2_upgrade: at.read("h2UpgradePolicy", |at| at.one_of(&upgrades))?.unwrap_or(usual.h2_upgrade),
        path_normalization: at
            .read("pathNormalization", paths)?
            .flatten()
            .unwrap_or(usual.path_normalization),
    })
}

/// How paths are normalized, if that is said.
fn paths(at: &At<'_>) -> Result<Option<PathNormalization>, String> {
    at.object()?;
    let kinds = [
        ("DEFAULT", PathNormalization::Base),
        ("NONE", PathNormalization::None),
        ("BASE", PathNormalization::Base),
        ("MERGE_SLASHES", PathNormalization::MergeSlashes),
        ("DECODE_AND_MERGE_SLASHES", PathNormalization::DecodeAndMergeSlashes),
    ];
    at.read("normalization", |kind| kind.one_of(&kinds))
}

/// A text that is not empty, or nothing.
fn name(at: &At<'_>, field: &str) -> Result<Option<Name>, String> {
    let text = at.read(field, |at| at.text().map(Name::from))?;
    Ok(text.filter(|text| !text.is_empty()))
}

/// A default of `exportTo`; `.` becomes the empty name.
fn export_to(at: &At<'_>, field: &str) -> Result<ExportTo, String> {
    let entries = at.list(field, |entry| entry.filled().map(str::to_owned))?;
    if entries.is_empty() {
        return Ok(ExportTo::Everywhere);
    }
    names::exported(entries.iter().map(String::as_str), &Name::default(), at)
}

/// In the mesh, a policy without a mode lets pass.
fn outbound_policy(at: &At<'_>) -> Result<crate::model::policy::OutboundPolicy, String> {
    match at.field("mode") {
        Some(_) => sidecar::outbound_policy(at),
        None => Ok(crate::model::policy::OutboundPolicy::AllowAny),
    }
}

fn service_settings(at: &At<'_>) -> Result<ServiceSettings, String> {
    at.object()?;
    let local = at.read("settings", |settings| settings.read("clusterLocal", At::boolean))?;
    let hosts = at.list("hosts", |host| {
        let text = host.filled()?;
        names::checked_host(host, text)?;
        Ok(Name::from(text))
    })?;
    Ok(ServiceSettings { cluster_local: local.flatten().unwrap_or_default(), hosts })
}

fn service_scope(at: &At<'_>) -> Result<ServiceScopeRule, String> {
    at.object()?;
    let scopes = [("LOCAL", false), ("GLOBAL", true)];
    Ok(ServiceScopeRule {
        namespaces: at.read("namespaceSelector", selector)?.unwrap_or_default(),
        services: at.read("servicesSelector", selector)?.unwrap_or_default(),
        global: at.read("scope", |scope| scope.one_of(&scopes))?.unwrap_or_default(),
    })
}

/// A label selector as Kubernetes writes it.
fn selector(at: &At<'_>) -> Result<NamespaceSelector, String> {
    at.object()?;
    let equal = at.read("matchLabels", |labels| {
        labels.entries(|key, value| Ok(LabelRequirement::In(key.into(), vec![value.text()?.into()])))
    })?;
    let mut requirements = equal.unwrap_or_default();
    requirements.extend(at.list("matchExpressions", requirement)?);
    Ok(NamespaceSelector { requirements })
}

fn requirement(at: &At<'_>) -> Result<LabelRequirement, String> {
    at.object()?;
    let Some(key) = at.read("key", |key| key.filled().map(Name::from))? else {
        return Err(format!("{at}.key: a label is needed"));
    };
    let values = at.list("values", |value| value.text().map(Name::from))?;
    let Some(operator) = at.field("operator") else {
        return Err(format!("{at}.operator: one of In, NotIn, Exists, DoesNotExist is needed"));
    };
    let needs_values =
        operator.one_of(&[("In", true), ("NotIn", true), ("Exists", false), ("DoesNotExist", false)])?;
    if needs_values == values.is_empty() {
        return operator.wrong(match needs_values {
            true => "with values only",
            false => "without values only",
        });
    }
    Ok(match operator.text()? {
        "In" => LabelRequirement::In(key, values),
        "NotIn" => LabelRequirement::NotIn(key, values),
        "Exists" => LabelRequirement::Exists(key),
        _ => LabelRequirement::DoesNotExist(key),
    })
}

impl Terms {
    /// What objects are read by under this document.
    pub(in crate::ingest) fn of(mesh: &MeshConfig, domain: &Name) -> Self {
        Self {
            domain: domain.clone(),
            destination_rule_export_to: mesh.default_destination_rule_export_to.clone(),
            virtual_service_export_to: mesh.default_virtual_service_export_to.clone(),
        }
    }
}
