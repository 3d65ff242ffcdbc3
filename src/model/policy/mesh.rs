//! MeshConfig, as far as it is read.

use std::time::Duration;

use serde::Serialize;

use super::{LocalityLb, OutlierDetection, ZoneAwareLb};
use crate::model::{ExportTo, Labels, Name};

/// What becomes of connections to destinations that are not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum OutboundPolicy {
    /// They pass.
    #[default]
    AllowAny,
    /// They end.
    RegistryOnly,
}

/// What proxies make of the path of a request before anything looks at it: each does what the one before does, and more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub enum PathNormalization {
    /// Nothing.
    None,
    /// RFC 3986: dots between slashes, backslashes.
    #[default]
    Base,
    /// Several slashes are one.
    MergeSlashes,
    /// Slashes and backslashes that are escaped are none.
    DecodeAndMergeSlashes,
}

/// One entry of `serviceSettings`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceSettings {
    /// `settings.clusterLocal`.
    pub cluster_local: bool,
    /// Hosts or `*.suffix`.
    pub hosts: Vec<Name>,
}

/// One requirement of a label selector; all values that the operator needs are there.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum LabelRequirement {
    /// The label has one of these values.
    In(Name, Vec<Name>),
    /// The label has none of these values, or is not there.
    NotIn(Name, Vec<Name>),
    /// The label is there.
    Exists(Name),
    /// The label is not there.
    DoesNotExist(Name),
}

/// A label selector over namespaces; every requirement must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct NamespaceSelector {
    /// The requirements; `matchLabels` are `In` with one value.
    pub requirements: Vec<LabelRequirement>,
}

impl NamespaceSelector {
    /// The labels it asks for.
    pub fn labels(&self) -> impl Iterator<Item = &Name> {
        self.requirements.iter().map(|requirement| match requirement {
            LabelRequirement::In(key, _)
            | LabelRequirement::NotIn(key, _)
            | LabelRequirement::Exists(key)
            | LabelRequirement::DoesNotExist(key) => key,
        })
    }

    /// Whether labels fulfil every requirement.
    pub fn selects(&self, labels: &Labels) -> bool {
        self.requirements.iter().all(|requirement| match requirement {
            LabelRequirement::In(key, values) => labels.get(key).is_some_and(|value| values.contains(value)),
            LabelRequirement::NotIn(key, values) => {
                labels.get(key).is_none_or(|value| !values.contains(value))
            }
            LabelRequirement::Exists(key) => labels.contains_key(key),
            LabelRequirement::DoesNotExist(key) => !labels.contains_key(key),
        })
    }
}

/// One entry of `serviceScopeConfigs`: which services are seen from other clusters in ambient mode (R4.9).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ServiceScopeRule {
    /// Labels of the namespace.
    pub namespaces: NamespaceSelector,
    /// Labels of the service.
    pub services: NamespaceSelector,
    /// `GLOBAL`, not `LOCAL`.
    pub global: bool,
}

/// MeshConfig, as far as it is read. The default is what holds without one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MeshConfig {
    /// `trustDomain`, if it is told.
    pub trust_domain: Option<Name>,
    /// `trustDomainAliases`: clients of these count as those of the mesh's own.
    pub trust_domain_aliases: Vec<Name>,
    /// `rootNamespace`: its policies are the mesh's.
    pub root_namespace: Name,
    /// `enableAutoMtls`.
    pub auto_mtls: bool,
    /// `localityLbSetting`; `None` only where a test says so: by default it is there and enabled.
    pub locality_lb: Option<LocalityLb>,
    /// `zoneAwareLbSetting`.
    pub zone_aware_lb: Option<ZoneAwareLb>,
    /// `defaultTrafficPolicy.outlierDetection` (Q19).
    pub outlier_detection: Option<OutlierDetection>,
    /// `outboundTrafficPolicy.mode`.
    pub outbound_policy: OutboundPolicy,
    /// `serviceSettings`.
    pub service_settings: Vec<ServiceSettings>,
    /// `serviceScopeConfigs`.
    pub service_scopes: Vec<ServiceScopeRule>,
    /// `discoverySelectors`; empty selects every namespace.
    pub discovery_selectors: Vec<NamespaceSelector>,
    /// `defaultServiceExportTo`; `.` as the empty name.
    pub default_service_export_to: ExportTo,
    /// `defaultDestinationRuleExportTo`.
    pub default_destination_rule_export_to: ExportTo,
    /// `defaultVirtualServiceExportTo`.
    pub default_virtual_service_export_to: ExportTo,
    /// `connectTimeout`.
    pub connect_timeout: Duration,
    /// `protocolDetectionTimeout`; zero waits for ever.
    pub protocol_detection_timeout: Duration,
    /// `h2UpgradePolicy: UPGRADE`.
    pub h2_upgrade: bool,
    /// `pathNormalization.normalization`.
    pub path_normalization: PathNormalization,
}

impl Default for MeshConfig {
    fn default() -> Self {
        Self {
            trust_domain: None,
            trust_domain_aliases: Vec::new(),
            root_namespace: "istio-system".into(),
            auto_mtls: true,
            locality_lb: Some(LocalityLb::default()),
            zone_aware_lb: None,
            outlier_detection: None,
            outbound_policy: OutboundPolicy::AllowAny,
            service_settings: Vec::new(),
            service_scopes: Vec::new(),
            discovery_selectors: Vec::new(),
            default_service_export_to: ExportTo::Everywhere,
            default_destination_rule_export_to: ExportTo::Everywhere,
            default_virtual_service_export_to: ExportTo::Everywhere,
            connect_timeout: Duration::from_secs(10),
            protocol_detection_timeout: Duration::ZERO,
            h2_upgrade: false,
            path_normalization: PathNormalization::Base,
        }
    }
}
