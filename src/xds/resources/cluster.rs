//! Envoy clusters (control-plane-surface §3.2, R4.18).

mod inline;
mod metadata;
mod protocol;
mod security;
mod settings;

use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use prost::Message;

pub(super) use protocol::{Version, speak, speak_connect};
pub(super) use settings::limit;

use super::parts::{ads, entry, number, seconds};
use super::{BLACK_HOLE, PASSTHROUGH, is_original_dst};
use crate::model::policy::{DestinationRule, SimpleLb, Subset, TrafficSettings};
use crate::model::{Dialect, Service, ServicePort};
use crate::view::{Client, EdsName};
use crate::xds::resource::{Encoded, Entry, ResourceType};

const CONNECT_TIMEOUT_SECONDS: i64 = 10;
/// Idle connections to unknown destinations are closed after this.
const PASSTHROUGH_IDLE_SECONDS: i64 = 300;

/// What the Envoy clusters of one service port have in common.
pub(super) struct Port<'a> {
    /// The merged record.
    pub(super) service: &'a Service,
    /// The port.
    pub(super) port: &'a ServicePort,
    /// Who asks.
    pub(super) client: &'a Client<'a>,
    /// The rule for the service.
    pub(super) rule: Option<&'a DestinationRule>,
}

impl Port<'_> {
    /// The Envoy clusters of the port: of the whole service first, then of each subset. None where Envoy would
    /// have to resolve endpoints that nobody names.
    pub(super) fn outbound(&self) -> Vec<Entry> {
        self.subsets().filter_map(|subset| self.one(subset, false)).collect()
    }

    /// The Envoy clusters behind each SNI of an east-west gateway: TLS passes through, so they have no TLS of
    /// their own (R7.1).
    pub(super) fn sni_dnat(&self) -> Vec<Entry> {
        self.subsets().filter_map(|subset| self.one(subset, true)).collect()
    }

    /// `None` for the whole service.
    pub(super) fn subsets(&self) -> impl Iterator<Item = Option<&Subset>> {
        let subsets = self.rule.map_or(&[][..], |rule| rule.subsets.as_slice());
        std::iter::once(None).chain(subsets.iter().map(Some))
    }

    /// The name of an Envoy cluster and assignment (R4.1).
    pub(super) fn name(&self, subset: Option<&Subset>, sni_dnat: bool) -> String {
        let subset = subset.map(|subset| subset.name.to_string()).unwrap_or_default();
        let whole = EdsName::outbound(self.port.number, &self.service.key.hostname);
        EdsName { subset, sni_dnat, ..whole }.to_string()
    }

    fn one(&self, subset: Option<&Subset>, sni_dnat: bool) -> Option<Entry> {
        let name = self.name(subset, sni_dnat);
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let settings = self.rule.map(|rule| rule.settings(self.port.number, subset_name)).unwrap_or_default();
        let mut cluster = self.base(&name, subset, &settings)?;
        settings::apply(&mut cluster, self, &settings);
        if !sni_dnat {
            let sni = self.name(subset, true);
            security::apply(&mut cluster, self, &settings, sni);
        }
        protocol::apply(&mut cluster, self, &settings);
        Some(self.finish(&cluster, subset_name))
    }

    /// Where its endpoints come from.
    fn base(&self, name: &str, subset: Option<&Subset>, settings: &TrafficSettings) -> Option<cds::Cluster> {
        let simple = settings.load_balancer.as_ref().and_then(|lb| lb.simple);
        if is_original_dst(self.service, self.client) || simple == Some(SimpleLb::Passthrough) {
            return Some(original_dst(name));
        }
        let inline = !self.service.inline().is_empty();
        if self.service.resolution.is_dns() || inline {
            return inline::cluster(name, self, subset);
        }
        Some(discovered(name))
    }

    /// What telemetry of the mesh's own proxies reads comes last: a map in order (D20).
    fn finish(&self, cluster: &cds::Cluster, subset: &str) -> Entry {
        let mut message = cluster.encode_to_vec();
        if self.client.key().dialect == Dialect::Istio {
            metadata::put(&mut message, self.service, self.rule, subset);
        }
        let encoded = Encoded::new(ResourceType::Cluster, &cluster.name, &message);
        Entry { name: cluster.name.as_str().into(), encoded: Arc::new(encoded) }
    }
}

/// `PassthroughCluster`.
pub(super) fn passthrough() -> Entry {
    let mut cluster = original_dst(PASSTHROUGH);
    speak(&mut cluster, Version::AsReceived, Some(PASSTHROUGH_IDLE_SECONDS));
    finish(&cluster)
}

/// `BlackHoleCluster`.
pub(super) fn black_hole() -> Entry {
    finish(&typed(BLACK_HOLE, cds::cluster::DiscoveryType::Static))
}

pub(super) fn typed(name: &str, kind: cds::cluster::DiscoveryType) -> cds::Cluster {
    cds::Cluster {
        name: name.to_owned(),
        connect_timeout: seconds(CONNECT_TIMEOUT_SECONDS),
        circuit_breakers: Some(unlimited()),
        cluster_discovery_type: Some(cds::cluster::ClusterDiscoveryType::Type(kind.into())),
        ..Default::default()
    }
}

pub(super) fn original_dst(name: &str) -> cds::Cluster {
    cds::Cluster {
        lb_policy: cds::cluster::LbPolicy::ClusterProvided.into(),
        ..typed(name, cds::cluster::DiscoveryType::OriginalDst)
    }
}

/// A cluster whose assignment is asked over the stream.
fn discovered(name: &str) -> cds::Cluster {
    cds::Cluster {
        alt_stat_name: format!("{name};"),
        eds_cluster_config: Some(cds::cluster::EdsClusterConfig {
            eds_config: ads(),
            service_name: name.to_owned(),
        }),
        lb_policy: cds::cluster::LbPolicy::LeastRequest.into(),
        ..typed(name, cds::cluster::DiscoveryType::Eds)
    }
}

fn unlimited() -> cds::CircuitBreakers {
    cds::CircuitBreakers {
        thresholds: vec![cds::circuit_breakers::Thresholds {
            max_connections: number(u32::MAX),
            max_pending_requests: number(u32::MAX),
            max_requests: number(u32::MAX),
            max_retries: number(u32::MAX),
            track_remaining: true,
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(super) fn finish(cluster: &cds::Cluster) -> Entry {
    entry(ResourceType::Cluster, &cluster.name, cluster)
}
