//! Load balancing, limits and outlier detection (R4.3, R4.10, R4.29, R4.36).

use envoy_types::pb::envoy::config::cluster::v3 as cds;
use envoy_types::pb::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use envoy_types::pb::envoy::config::cluster::v3::cluster::{self as parts, LbConfig, LbPolicy};
use envoy_types::pb::envoy::config::core::v3 as core;
use envoy_types::pb::envoy::r#type::v3::Percent;
use envoy_types::pb::google::protobuf::UInt64Value;

use super::Port;
use crate::model::policy::{
    ConnectionPool, HashTable, LoadBalancer, OutlierDetection, SimpleLb, TrafficSettings, ZoneAwareLb,
};
use crate::model::{Features, TrafficDistribution};
use crate::view::lb::{self, Setting};
use crate::view::sends_unhealthy;
use crate::xds::resources::parts::{number, time};

/// Of consecutive gateway errors that leave an endpoint out where nobody says which errors count.
const GATEWAY_ERRORS: u32 = 5;
/// How many endpoints may be left out where nobody says so, in percent: with one local endpoint and one gateway
/// still one, never the whole other cluster together with everything else.
const MAX_EJECTED_PERCENT: u32 = 50;

/// Sets what `settings` and the mesh say for a port.
pub(super) fn apply(cluster: &mut cds::Cluster, port: &Port<'_>, settings: &TrafficSettings) {
    let mesh = port.client.mesh();
    cluster.connect_timeout = time(mesh.connect_timeout);
    if let Some(pool) = &settings.connection_pool {
        limit(cluster, pool);
    }
    if cluster.lb_policy == i32::from(LbPolicy::ClusterProvided) {
        return;
    }
    if let Some(lb) = &settings.load_balancer {
        balance(cluster, lb);
    }
    let outlier = settings.outlier_detection.as_ref().or(mesh.outlier_detection.as_ref());
    let distribution = port.service.traffic_distribution;
    let features = port.client.rules().features();
    let common = cluster.common_lb_config.get_or_insert_default();
    common.locality_config_specifier =
        locality(features, lb::setting(settings.load_balancer.as_ref(), distribution, mesh));
    common.healthy_panic_threshold = panic_threshold(features, distribution, outlier);
    cluster.outlier_detection = outlier.map(detection);
}

/// Below which part of healthy endpoints Envoy uses all: never where those that are not ready are sent as well
/// (R4.10); `None` leaves it to Envoy, where the control plane has left them out.
fn panic_threshold(
    features: &Features,
    distribution: TrafficDistribution,
    outlier: Option<&OutlierDetection>,
) -> Option<Percent> {
    if sends_unhealthy(features, distribution, outlier) {
        return Some(Percent { value: 0.0 });
    }
    outlier.map(|outlier| Percent { value: outlier.min_health_percent.into() })
}

/// Limits of connections and requests.
pub(in crate::xds::resources) fn limit(cluster: &mut cds::Cluster, pool: &ConnectionPool) {
    let (tcp, http) = (&pool.tcp, &pool.http);
    if let Some(timeout) = tcp.connect_timeout {
        cluster.connect_timeout = time(timeout);
    }
    for threshold in cluster.circuit_breakers.iter_mut().flat_map(|breakers| &mut breakers.thresholds) {
        let limits = [
            (&mut threshold.max_connections, tcp.max_connections),
            (&mut threshold.max_pending_requests, http.max_pending_requests),
            (&mut threshold.max_requests, http.max_requests),
            (&mut threshold.max_retries, http.max_retries),
        ];
        for (slot, limit) in limits.into_iter().filter(|(_, limit)| limit.is_some_and(|limit| limit > 0)) {
            *slot = limit.and_then(number);
        }
    }
    if let Some(keepalive) = &tcp.keepalive {
        let whole =
            |time: std::time::Duration| number(u32::try_from(time.as_secs()).unwrap_or(u32::MAX).max(1));
        cluster.upstream_connection_options = Some(cds::UpstreamConnectionOptions {
            tcp_keepalive: Some(core::TcpKeepalive {
                keepalive_probes: keepalive.probes.and_then(number),
                keepalive_time: keepalive.time.and_then(whole),
                keepalive_interval: keepalive.interval.and_then(whole),
            }),
            ..Default::default()
        });
    }
}

fn balance(cluster: &mut cds::Cluster, lb: &LoadBalancer) {
    let slow = lb
        .warmup
        .map(|window| parts::SlowStartConfig { slow_start_window: time(window), ..Default::default() });
    let wide = |value: u64| Some(UInt64Value { value });
    let (policy, config) = match (&lb.hash, lb.simple) {
        (Some((_, HashTable::Ring(size))), _) => {
            let ring = parts::RingHashLbConfig { minimum_ring_size: wide(*size), ..Default::default() };
            (LbPolicy::RingHash, Some(LbConfig::RingHashLbConfig(ring)))
        }
        (Some((_, HashTable::Maglev(size))), _) => {
            let table = parts::MaglevLbConfig { table_size: size.and_then(wide) };
            (LbPolicy::Maglev, Some(LbConfig::MaglevLbConfig(table)))
        }
        (None, Some(SimpleLb::RoundRobin)) => {
            let config = slow.map(|slow| parts::RoundRobinLbConfig { slow_start_config: Some(slow) });
            (LbPolicy::RoundRobin, config.map(LbConfig::RoundRobinLbConfig))
        }
        (None, Some(SimpleLb::Random)) => (LbPolicy::Random, None),
        (None, Some(SimpleLb::LeastRequest | SimpleLb::Passthrough) | None) => {
            let config = slow.map(|slow| parts::LeastRequestLbConfig {
                slow_start_config: Some(slow),
                ..Default::default()
            });
            (LbPolicy::LeastRequest, config.map(LbConfig::LeastRequestLbConfig))
        }
    };
    cluster.lb_policy = policy.into();
    cluster.lb_config = config;
}

/// What Envoy does with localities, after the setting that applies (R4.29, R4.36).
fn locality(features: &Features, setting: Option<Setting<'_>>) -> Option<LocalityConfigSpecifier> {
    match setting {
        Some(Setting::ZoneAware(_, zone)) => Some(zone_aware(zone)),
        setting if lb::is_locality_weighted(features, setting) => {
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}))
        }
        _ => None,
    }
}

fn zone_aware(zone: &ZoneAwareLb) -> LocalityConfigSpecifier {
    LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
        routing_enabled: (!zone.enabled).then_some(Percent { value: 0.0 }),
        min_cluster_size: zone.min_cluster_size.map(|value| UInt64Value { value }),
        ..Default::default()
    })
}

/// Outlier detection as told. Among the endpoints may be gateways, and one of those is a whole cluster: an
/// application's own errors count only where it is said so, and where nobody says which errors count, those of
/// gateways and connections do; and not everybody is left out.
fn detection(told: &OutlierDetection) -> cds::OutlierDetection {
    let silent = told.consecutive_5xx.is_none() && told.consecutive_gateway.is_none();
    let gateway = told.consecutive_gateway.or(silent.then_some(GATEWAY_ERRORS));
    let any = told.consecutive_5xx.or(Some(0));
    let enforced = |count: u32| number(if count > 0 { 100 } else { 0 });
    let counted = |count: u32| if count > 0 { number(count) } else { None };
    cds::OutlierDetection {
        consecutive_5xx: any.and_then(counted),
        enforcing_consecutive_5xx: any.and_then(enforced),
        consecutive_gateway_failure: gateway.and_then(counted),
        enforcing_consecutive_gateway_failure: gateway.and_then(enforced),
        split_external_local_origin_errors: told.split_external_local_origin,
        consecutive_local_origin_failure: told.consecutive_local_origin.and_then(counted),
        enforcing_consecutive_local_origin_failure: told.consecutive_local_origin.and_then(enforced),
        interval: told.interval.and_then(time),
        base_ejection_time: told.base_ejection_time.and_then(time),
        max_ejection_percent: number(told.max_ejection_percent.unwrap_or(MAX_EJECTED_PERCENT).min(100)),
        // Rates compare endpoints with one another: a gateway is no endpoint like the others.
        enforcing_success_rate: number(0),
        enforcing_local_origin_success_rate: told.split_external_local_origin.then_some(0).and_then(number),
        ..Default::default()
    }
}
