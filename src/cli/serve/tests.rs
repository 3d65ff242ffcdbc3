//! What is said in flags and files arrives where it counts: every key is off its default.

use clap::Parser as _;

use super::*;
use crate::ingest::{Deadlines, RetryPolicy, Sizes};

/// What flags can say as well.
const COMMON: &str = "
cluster-id: home
kubeconfig: /k/config
context: ctx
kubeconfig-dir: /k/remotes
insecure-kubeconfig-options: exec,tokenFile
remote-api-servers: api.example.com,192.0.2.0/24
system-namespace: mesh-system
domain: mesh.example
trust-domain: trust.example
grpc-addr: 127.0.0.2:1
http-addr: 127.0.0.2:2
monitoring-addr: 127.0.0.2:3
secure-grpc-addr: 127.0.0.2:4
tls-cert: /k/tls.pem
tls-key: /k/tls.key
client-ca: /k/roots.pem
remote-cluster-timeout: 31s
debounce-after: 32ms
debounce-max: 33s
removal-grace: 34s
networks-config: /k/networks.yaml
mesh-config: /k/mesh.yaml
resolve-hostname-gateways: false
dns-servers: [192.0.2.53, '192.0.2.54:5300']
discover-gateway-api: false
ca-dir: /k/ca
insecure-plaintext-sds: true
allow-loopback-clusters: true
cluster-aliases: alias=west
local-cluster-secret-watcher: true
mass-delete-guard: 'off'
snapshot-dir: /k/snapshots
snapshot-max-age: 35s
compat: istiod
ports-file: /k/ports.json
log-format: json
log-level: debug
";

/// What only files can say.
const FILE_ONLY: &str = "
reachableNetworks: [[n1, n2]]
dual-stack: true
features: {PILOT_SEND_UNHEALTHY_ENDPOINTS: true, PILOT_AUTO_SEND_UNHEALTHY_ENDPOINTS: false,
  PILOT_DRAINING_LABEL: leaving.example, PILOT_ENABLE_AMBIENT: 'true'}
mcs: {service-discovery: true, host: true, cluster-local: true, auto-export: true, api-group: g.example, api-version: v9}
revision: canary
persistent-session-label: cookie.example
persistent-session-header-label: header.example
cross-cluster-workload-entries: false
services-select-workload-entries: false
service-entries-select-pods: false
watch: {answer-timeout: 41s, page-timeout: 42s, probe-after: 43s, look-every: 100s, list-minimum-bytes: 45,
  parallel-lists: 46, longest-pause: 47s}
limits: {connections: 47, connection-age: 48m, new-streams-per-second: 49, requests-per-second: 50, unread-timeout: 51s,
  drain: 52s, memory: 53Mi, cache-mebibytes: 54}
clusters: {west: {stale: drop, start: required, trusted-networks: [n1, n2]}}
";

#[derive(clap::Parser)]
struct Command {
    #[command(flatten)]
    args: Args,
}

fn settings(text: &str) -> Settings {
    serde_saphyr::from_str(text).expect("valid settings")
}

fn everything() -> Config {
    settings(&format!("{COMMON}{FILE_ONLY}")).complete().expect("settings that fit together")
}

/// A flag for each key of a file.
fn flags(text: &str) -> Vec<String> {
    let keys: serde_json::Map<String, serde_json::Value> = serde_saphyr::from_str(text).expect("valid YAML");
    let flag = |(key, value): (String, serde_json::Value)| match value {
        // Of flags without a value, and of those with one.
        serde_json::Value::Bool(true) => format!("--{key}"),
        serde_json::Value::Array(all) => {
            let all: Vec<_> = all.iter().filter_map(|one| one.as_str()).collect();
            format!("--{key}={}", all.join(","))
        }
        serde_json::Value::String(text) => format!("--{key}={text}"),
        other => format!("--{key}={other}"),
    };
    keys.into_iter().map(flag).collect()
}

#[test]
fn every_flag_is_the_setting_of_its_name() {
    let command = Command::parse_from(["serve".to_owned()].into_iter().chain(flags(COMMON)));
    assert_eq!(command.args.into_settings(), (settings(COMMON), None));
}

#[test]
fn every_setting_is_complete_under_its_name() {
    let Config {
        cluster_id,
        kubeconfig,
        context,
        kubeconfig_dir,
        insecure_kubeconfig_options,
        remote_api_servers,
        system_namespace,
        domain,
        trust_domain,
        grpc_addr,
        tls,
        http_addr,
        monitoring_addr,
        remote_cluster_timeout,
        debounce_after,
        debounce_max,
        removal_grace,
        ca_dir,
        insecure_plaintext_sds,
        allow_loopback_clusters,
        snapshot_dir,
        snapshot_max_age,
        ports_file,
        networks_config,
        mesh_config,
        resolve_hostname_gateways,
        discover_gateway_api,
        dns_servers,
        reachable_networks,
        cluster_aliases,
        local_cluster_secret_watcher,
        mass_delete_guard,
        clusters,
        compat_istiod,
        dual_stack,
        mcs,
        features,
        revision,
        persistent_session_label,
        persistent_session_header_label,
        cross_cluster_workload_entries,
        services_select_workload_entries,
        service_entries_select_pods,
        watch,
        limits,
    } = everything();
    let seconds = Duration::from_secs;
    let path = |text: &str| Some(PathBuf::from(text));
    assert_eq!((&*cluster_id, kubeconfig, context.as_deref()), ("home", path("/k/config"), Some("ctx")));
    assert_eq!((kubeconfig_dir, &*insecure_kubeconfig_options), (path("/k/remotes"), "exec,tokenFile"));
    assert_eq!(remote_api_servers.as_deref(), Some("api.example.com,192.0.2.0/24"));
    assert_eq!(
        (&*system_namespace, &*domain, &*trust_domain),
        ("mesh-system", "mesh.example", "trust.example")
    );
    let addresses = [grpc_addr, http_addr, monitoring_addr].map(|address| address.to_string());
    assert_eq!(addresses, ["127.0.0.2:1", "127.0.0.2:2", "127.0.0.2:3"]);
    assert_eq!(
        (remote_cluster_timeout, removal_grace, snapshot_max_age),
        (seconds(31), seconds(34), seconds(35))
    );
    assert_eq!((debounce_after, debounce_max), (Duration::from_millis(32), seconds(33)));
    assert_eq!(
        (ca_dir, snapshot_dir, ports_file),
        (path("/k/ca"), path("/k/snapshots"), path("/k/ports.json"))
    );
    assert_eq!((networks_config, mesh_config), (path("/k/networks.yaml"), path("/k/mesh.yaml")));
    assert!(insecure_plaintext_sds && allow_loopback_clusters && local_cluster_secret_watcher);
    assert!(compat_istiod && dual_stack);
    assert!(
        features.send_unhealthy && !features.auto_send_unhealthy && features.ambient && features.dual_stack
    );
    assert_eq!(&*features.draining_label, "leaving.example");
    assert!(!resolve_hostname_gateways && !discover_gateway_api && !mass_delete_guard);
    let servers: Vec<_> = dns_servers.iter().map(|server| server.0.to_string()).collect();
    assert_eq!(servers, ["192.0.2.53:53", "192.0.2.54:5300"]);
    assert_eq!(reachable_networks, [("n1".into(), "n2".into())]);
    assert_eq!(cluster_aliases, [("alias".into(), "west".into())].into());
    assert_eq!(clusters.keys().map(|id| &**id).collect::<Vec<_>>(), ["west"]);
    assert_eq!((mcs.api_version.as_deref(), &*revision), (Some("v9"), "canary"));
    assert_eq!(persistent_session_label.as_deref(), Some("cookie.example"));
    assert_eq!(persistent_session_header_label.as_deref(), Some("header.example"));
    assert!(
        !cross_cluster_workload_entries && !services_select_workload_entries && !service_entries_select_pods
    );
    assert_eq!(watch.parallel_lists, Some(46));
    assert_eq!(limits.connections, Some(47));
    let tls = tls.expect("a listener");
    assert_eq!((tls.address.to_string().as_str(), tls.client_ca), ("127.0.0.2:4", path("/k/roots.pem")));
    assert_eq!((Some(tls.certificate), Some(tls.key)), (path("/k/tls.pem"), path("/k/tls.key")));
}

#[test]
fn every_setting_about_clusters_arrives_where_they_are_read() {
    let IngestOptions {
        config,
        remotes,
        system_namespace,
        domain,
        trust_domain,
        remote_cluster_timeout,
        removal_grace,
        allow_loopback_clusters,
        kubeconfig_policy,
        remote_api_servers,
        retry,
        deadlines,
        sizes,
        parallel_lists,
        clusters,
        mass_delete_guard,
        secrets_by,
        snapshots,
        quirks,
        dual_stack,
        mcs,
        entries,
        session_labels,
        service_scopes,
        serve_without_pods,
        networks,
        mesh_config,
        named,
    } = ingest_options(&everything());
    let expected = [("west", "clusters in --config")];
    assert_eq!(named, expected.map(|(id, setting)| (id.into(), setting)).into());
    assert_eq!(mesh_config, Some(PathBuf::from("/k/mesh.yaml")));
    let (seconds, path) = (Duration::from_secs, PathBuf::from);
    let source = ConfigSource::Kubeconfig { path: path("/k/config"), context: Some("ctx".to_owned()) };
    assert_eq!(config, Some(ConfigCluster { id: "home".into(), source }));
    assert_eq!(remotes, Remotes::Directory(path("/k/remotes")));
    assert_eq!(
        (&*system_namespace, &*domain, &*trust_domain),
        ("mesh-system", "mesh.example", "trust.example")
    );
    assert_eq!((remote_cluster_timeout, removal_grace), (seconds(31), seconds(34)));
    assert!(allow_loopback_clusters && dual_stack && !mass_delete_guard);
    assert!(!serve_without_pods, "said per cluster only");
    assert_eq!(service_scopes, everything().features.multi_network);
    assert_eq!(Ok(kubeconfig_policy), KubeconfigPolicy::parse("exec,tokenFile").map_err(drop));
    let listed = ServerList::parse("api.example.com,192.0.2.0/24").expect("a list");
    assert_eq!(remote_api_servers.as_deref(), Some(&listed));
    assert_eq!(retry, RetryPolicy { longest: seconds(47), ..RetryPolicy::default() });
    let expected = Deadlines {
        headers: seconds(41),
        page: seconds(42),
        silence: seconds(43),
        scout: (seconds(80), seconds(100)),
        ..Deadlines::default()
    };
    assert_eq!(deadlines, expected);
    assert_eq!((sizes, parallel_lists), (Sizes { slow: 45, ..Sizes::default() }, 46));
    let said = [("stale", "drop"), ("start", "required"), ("trusted-networks", "n1,n2")];
    let said = said.map(|(key, value)| (key.to_owned(), value.to_owned()));
    assert_eq!(clusters, [("west".into(), said.into())].into());
    assert_eq!(secrets_by, Some(ConfigSource::InCluster));
    assert_eq!(snapshots, Some(SnapshotOptions { dir: path("/k/snapshots"), max_age: seconds(35) }));
    assert_eq!(quirks, Quirks::peer());
    let expected = McsOptions {
        discovery: true,
        host: true,
        cluster_local: true,
        auto_export: true,
        group: "g.example".into(),
        version: "v9".into(),
    };
    assert_eq!(mcs, expected);
    let expected = EntryOptions { cross_cluster: false, services_select: false, select_pods: false };
    assert_eq!(entries, expected);
    let expected = SessionLabels { cookie: "cookie.example".into(), header: "header.example".into() };
    assert_eq!(session_labels, expected);
    let expected = NetworkOptions {
        config: Some(path("/k/networks.yaml")),
        resolve_hosts: false,
        dns_servers: ["192.0.2.53:53", "192.0.2.54:5300"].map(|text| text.parse().expect("address")).into(),
        gateway_api: false,
        config_map: "istio-canary".into(),
    };
    assert_eq!(networks, expected);
}

/// Every default is ingest's own, so what is not passed on is not noticed by what it does.
#[test]
fn what_is_not_said_is_as_ingest_has_it() {
    let said = settings("kubeconfig: /k/config").complete().expect("valid");
    let source = ConfigSource::Kubeconfig { path: "/k/config".into(), context: None };
    let expected = IngestOptions {
        config: Some(ConfigCluster { id: "Kubernetes".into(), source }),
        remotes: Remotes::Secrets,
        ..IngestOptions::default()
    };
    assert_eq!(ingest_options(&said), expected);
}

#[test]
fn every_limit_arrives_at_the_server() {
    let second = Duration::from_secs;
    let Limits {
        connections,
        max_age,
        stream_rate,
        request_rate,
        stuck,
        memory,
        drain,
        cache_bytes,
        idle_per_source: _,
        handshakes: _,
        introduction: _,
        streams_per_connection: _,
        stream_wait: _,
    } = limits(&everything().limits);
    assert_eq!((connections, stream_rate, request_rate), (47, (49, 49), (50, 100)));
    assert_eq!((max_age, stuck, drain), (second(48 * 60), second(51), (second(52), second(55))));
    assert_eq!(memory, Some(53 << 20));
    assert_eq!(cache_bytes, 54 << 20);
    let usual = limits(&LimitSettings::default());
    assert!(usual.memory.is_some(), "a share of what there is");
    assert!((1..=20_000).contains(&usual.connections), "never more than there are file descriptors");
}
