//! Envoy clusters (control-plane-surface §3.2, R4.18).

mod inline;
mod metadata;
mod protocol;
mod security;
mod settings;

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use prost::Message;

pub(super) use protocol::{Version, speak, speak_connect};
pub(super) use security::names as server_names;
pub(super) use settings::limit;

use super::destination::{Reads, Surroundings};
use super::parts::{ads, entry, number, seconds};
use super::{BLACK_HOLE, PASSTHROUGH, is_original_dst};
use crate::model::policy::{ClientTlsMode, DestinationRule, PolicyId, SimpleLb, Subset, TrafficSettings};
use crate::model::{Dialect, Service, ServicePort};
use crate::view::{Behind, Client, EdsName, Place, Resolved};
use crate::xds::resource::{Encoded, Entry, ResourceType};

const CONNECT_TIMEOUT_SECONDS: i64 = 10;
/// Envoy takes no longer server name.
pub(super) const LONGEST_SNI: usize = 255;
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
    /// The objects that it is made of.
    pub(super) rules: &'a [PolicyId],
    /// What else is known.
    pub(super) around: &'a Surroundings<'a>,
    /// What is behind it, once somebody asked.
    pub(super) behind: OnceCell<Behind>,
}

/// Envoy clusters of a port.
#[derive(Debug, Default)]
pub(super) struct Clusters {
    /// The same for all clients.
    pub(super) shared: Vec<Entry>,
    /// Those that tell of endpoints and are ordered by where clients are.
    pub(super) placed: BTreeMap<Place, Vec<Entry>>,
    /// The names of all.
    pub(super) names: Vec<String>,
}

/// Which Envoy clusters of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// For calls to it.
    Outbound,
    /// Behind each SNI of an east-west gateway: TLS passes through, so they have no TLS of their own (R7.1).
    SniDnat,
}

/// An Envoy cluster without its endpoints.
enum Base {
    /// They are asked for, or nobody tells any.
    Apart(cds::Cluster),
    /// They are to be told with it.
    Resolving(cds::Cluster),
}

impl Port<'_> {
    /// The Envoy clusters of the port: of the whole service first, then of each subset; those that depend on it for
    /// clients at each of `places`. None where Envoy would have to resolve endpoints that nobody names.
    pub(super) fn clusters(&self, way: Way, places: &[Place], reads: &mut Reads) -> Clusters {
        let mut made = Clusters::default();
        for subset in self.subsets() {
            self.one(subset, way, places, &mut made, reads);
        }
        made
    }

    /// `None` for the whole service.
    pub(super) fn subsets(&self) -> impl Iterator<Item = Option<&Subset>> {
        let subsets = self.rule.map_or(&[][..], |rule| rule.subsets.as_slice());
        std::iter::once(None).chain(subsets.iter().map(Some))
    }

    /// The name of an Envoy cluster and assignment (R4.1).
    pub(super) fn name(&self, subset: Option<&Subset>, way: Way) -> EdsName {
        let subset = subset.map(|subset| subset.name.to_string()).unwrap_or_default();
        let whole = EdsName::outbound(self.port.number, &self.service.key.hostname);
        EdsName { subset, sni_dnat: way == Way::SniDnat, ..whole }
    }

    /// What is behind it. Whoever asks is built again with the endpoints and with the policies of those.
    pub(super) fn behind(&self, reads: &mut Reads) -> &Behind {
        let behind = self.behind.get_or_init(|| (self.around.behind)(&self.service.key, self.port.number));
        reads.addresses = true;
        reads.policies.extend(behind.policies.iter().cloned());
        behind
    }

    /// Whether mesh mTLS is spoken under these settings to whomever the client picked: where everybody takes it. Only
    /// with such connections one may ask (control-plane-surface §3.5).
    pub(super) fn picks_mtls(&self, settings: &TrafficSettings, reads: &mut Reads) -> bool {
        settings.tls.is_none() && self.is_auto_mtls() && self.behind(reads).takes_mtls
    }

    /// Whether mesh mTLS is spoken where a rule says nothing: never outside the mesh.
    fn is_auto_mtls(&self) -> bool {
        self.client.mesh().auto_mtls && !self.service.is_mesh_external()
    }

    /// Whether Envoy takes the server name of its Envoy cluster; a rule may say another one.
    fn is_namable(&self, sni: &str, settings: &TrafficSettings) -> bool {
        let own = match &settings.tls {
            None => self.is_auto_mtls(),
            Some(told) => told.mode == ClientTlsMode::IstioMutual && told.sni.is_empty(),
        };
        sni.len() <= LONGEST_SNI || !own
    }

    /// The service, as one whose names Envoy resolves.
    fn resolved(&self) -> Resolved<'_> {
        Resolved { client: *self.client, service: self.service, rules: self.rules }
    }

    fn one(
        &self,
        subset: Option<&Subset>,
        way: Way,
        places: &[Place],
        made: &mut Clusters,
        reads: &mut Reads,
    ) {
        let name = self.name(subset, way);
        let subset_name = subset.map_or("", |subset| subset.name.as_str());
        let settings = self.rule.map(|rule| rule.settings(self.port.number, subset_name)).unwrap_or_default();
        let sni = self.name(subset, Way::SniDnat).to_string();
        if !self.is_namable(&sni, &settings) {
            return reads
                .left_out
                .push((name.to_string(), "Envoy takes no server name of more than 255 bytes"));
        }
        let base = self.base(&name.to_string(), &settings);
        let picked = match &base {
            Base::Apart(cluster) if way == Way::Outbound && security::is_picked(cluster) => {
                self.picks_mtls(&settings, reads)
            }
            _ => false,
        };
        let finished = |mut cluster: cds::Cluster, told: &[u8]| {
            settings::apply(&mut cluster, self, &settings);
            if way == Way::Outbound {
                security::apply(&mut cluster, self, &settings, sni.clone(), picked);
            }
            protocol::apply(&mut cluster, self, &settings);
            self.finish(&cluster, subset_name, told)
        };
        let cluster = match base {
            Base::Apart(cluster) => {
                made.names.push(name.to_string());
                return made.shared.push(finished(cluster, &[]));
            }
            Base::Resolving(cluster) => cluster,
        };
        let compared = self.resolved().compared(&settings);
        let nowhere = [Place::default()];
        let places = match compared.is_nothing() || places.is_empty() {
            true => &nowhere,
            false => places,
        };
        reads.compared.add(&compared);
        for place in places {
            let Some(told) = inline::endpoints(&name, self, place, reads) else { continue };
            if made.names.last() != Some(&name.to_string()) {
                made.names.push(name.to_string());
            }
            let entry = finished(cluster.clone(), &told);
            match compared.is_nothing() {
                true => made.shared.push(entry),
                false => made.placed.entry(place.clone()).or_default().push(entry),
            }
        }
    }

    /// Where its endpoints come from.
    fn base(&self, name: &str, settings: &TrafficSettings) -> Base {
        let simple = settings.load_balancer.as_ref().and_then(|lb| lb.simple);
        if is_original_dst(self.service, self.client) || simple == Some(SimpleLb::Passthrough) {
            return Base::Apart(original_dst(name));
        }
        match self.service.resolution.is_dns() {
            true => Base::Resolving(inline::cluster(name, self)),
            false => Base::Apart(discovered(name)),
        }
    }

    /// What is written by hand comes last: `endpoints` that are told with it, and what telemetry of the mesh's own
    /// proxies reads, maps in order (D20).
    fn finish(&self, cluster: &cds::Cluster, subset: &str, endpoints: &[u8]) -> Entry {
        let mut message = cluster.encode_to_vec();
        if !endpoints.is_empty() {
            inline::put(&mut message, endpoints);
        }
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
pub(super) fn discovered(name: &str) -> cds::Cluster {
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
