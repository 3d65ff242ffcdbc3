//! `tombolo serve`.

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::json;

use super::value::time;
use super::{EXIT_FAILURE, EXIT_USAGE, fail};
use crate::app::{Addresses, AppError, Bound, Server};
use crate::config::{self, Config, DnsServer, LimitSettings, MemoryLimit, Settings, WatchSettings};
use crate::ingest::client::{BadServer, ServerList};
use crate::ingest::{
    ClusterOptions, ConfigCluster, ConfigSource, EntryOptions, IngestOptions, KubeconfigPolicy, McsOptions,
    NetworkOptions, Remotes, SnapshotOptions, networks,
};
use crate::lifecycle;
use crate::model::{ClusterId, Quirks, SessionLabels};
use crate::telemetry::{self, LogFormat};
use crate::xds::{Limits, TlsFiles};

/// Files that are not connections of proxies: API servers, pages, snapshots.
const OTHER_FILES: usize = 256;

/// Arguments of `tombolo serve`.
///
/// Flags win over environment variables, those over istiod's variables, those over the file.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// YAML file of settings: the names of these flags without dashes in front, and reachableNetworks, clusters, watch,
    /// limits, mcs, features, dual-stack, revision, persistent-session-label, persistent-session-header-label,
    /// cross-cluster-workload-entries, services-select-workload-entries and service-entries-select-pods
    #[arg(long, env = "TOMBOLO_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Id of the config cluster, also CLUSTER_ID [default: Kubernetes]
    #[arg(long, env = "TOMBOLO_CLUSTER_ID", value_name = "ID")]
    cluster_id: Option<String>,
    /// Kubeconfig of the config cluster [default: the pod's service account, if there is one]
    #[arg(long, env = "TOMBOLO_KUBECONFIG", value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Context in that kubeconfig [default: its current context]
    #[arg(long, env = "TOMBOLO_CONTEXT", value_name = "NAME")]
    context: Option<String>,
    /// Remote clusters from the kubeconfigs (*.yaml, *.yml) below DIR instead of Secrets, also
    /// PILOT_MULTICLUSTER_KUBECONFIG_PATH
    #[arg(long, env = "TOMBOLO_KUBECONFIG_DIR", value_name = "DIR")]
    kubeconfig_dir: Option<PathBuf>,
    /// What kubeconfigs of remote clusters may do on this machine, also
    /// PILOT_INSECURE_MULTICLUSTER_KUBECONFIG_OPTIONS: exec and gcp run programs, tokenFile, clientKey and
    /// clientCertificate read files; azure and openstack need exec [default: nothing]
    #[arg(long, env = "TOMBOLO_INSECURE_KUBECONFIG_OPTIONS", value_name = "NAMES")]
    insecure_kubeconfig_options: Option<String>,
    /// The only API servers that kubeconfigs of remote clusters may name: host names, *.domain, addresses and
    /// address blocks such as 10.0.0.0/8 [default: any but loopback, link-local and metadata addresses]
    #[arg(long, env = "TOMBOLO_REMOTE_API_SERVERS", value_name = "LIST")]
    remote_api_servers: Option<String>,
    /// Namespace of the remote Secrets and of the network label [default: istio-system]
    #[arg(long, env = "TOMBOLO_SYSTEM_NAMESPACE", value_name = "NS")]
    system_namespace: Option<String>,
    /// DNS domain of services [default: cluster.local]
    #[arg(long, env = "TOMBOLO_DOMAIN", value_name = "DOMAIN")]
    domain: Option<String>,
    /// Trust domain of workloads [default: cluster.local]
    #[arg(long, env = "TOMBOLO_TRUST_DOMAIN", value_name = "DOMAIN")]
    trust_domain: Option<String>,
    /// Plaintext xDS [default: 127.0.0.1:15010]
    #[arg(long, env = "TOMBOLO_GRPC_ADDR", value_name = "IP:PORT")]
    grpc_addr: Option<SocketAddr>,
    /// xDS over TLS, normally port 15012; needs --tls-cert and --tls-key [default: none]
    #[arg(long, env = "TOMBOLO_SECURE_GRPC_ADDR", value_name = "IP:PORT")]
    secure_grpc_addr: Option<SocketAddr>,
    /// Certificate of that listener and what leads to its root, in PEM; read again when it changes
    #[arg(long, env = "TOMBOLO_TLS_CERT", value_name = "FILE")]
    tls_cert: Option<PathBuf>,
    /// Its private key, in PEM; read again when it changes
    #[arg(long, env = "TOMBOLO_TLS_KEY", value_name = "FILE")]
    tls_key: Option<PathBuf>,
    /// Roots of clients' certificates, in PEM: with it every client of that listener needs one
    #[arg(long, env = "TOMBOLO_CLIENT_CA", value_name = "FILE")]
    client_ca: Option<PathBuf>,
    /// Readiness and debug pages [default: 127.0.0.1:8080]
    #[arg(long, env = "TOMBOLO_HTTP_ADDR", value_name = "IP:PORT")]
    http_addr: Option<SocketAddr>,
    /// Metrics and debug pages [default: 127.0.0.1:15014]
    #[arg(long, env = "TOMBOLO_MONITORING_ADDR", value_name = "IP:PORT")]
    monitoring_addr: Option<SocketAddr>,
    /// How long the start waits for a remote cluster, also PILOT_REMOTE_CLUSTER_TIMEOUT [default: 30s]
    #[arg(long, env = "TOMBOLO_REMOTE_CLUSTER_TIMEOUT", value_name = "TIME", value_parser = time)]
    remote_cluster_timeout: Option<Duration>,
    /// Quiet time before a push, also PILOT_DEBOUNCE_AFTER; 0s pushes the first change at once [default: 0s]
    #[arg(long, env = "TOMBOLO_DEBOUNCE_AFTER", value_name = "TIME", value_parser = time)]
    debounce_after: Option<Duration>,
    /// Longest delay of a push under --debounce-after, also PILOT_DEBOUNCE_MAX [default: 10s]
    #[arg(long, env = "TOMBOLO_DEBOUNCE_MAX", value_name = "TIME", value_parser = time)]
    debounce_max: Option<Duration>,
    /// How long the endpoints of a removed cluster stay [default: 5s]
    #[arg(long, env = "TOMBOLO_REMOVAL_GRACE", value_name = "TIME", value_parser = time)]
    removal_grace: Option<Duration>,
    /// The document meshNetworks, read again when it changes, instead of ConfigMap istio of the system namespace
    #[arg(long, env = "TOMBOLO_NETWORKS_CONFIG", value_name = "FILE")]
    networks_config: Option<PathBuf>,
    /// The document MeshConfig, read again when it changes, instead of ConfigMap istio of the system namespace
    #[arg(long, env = "TOMBOLO_MESH_CONFIG", value_name = "FILE")]
    mesh_config: Option<PathBuf>,
    /// Resolve host names of gateways, also RESOLVE_HOSTNAME_GATEWAYS [default: true]
    #[arg(long, env = "TOMBOLO_RESOLVE_HOSTNAME_GATEWAYS", value_name = "BOOL")]
    resolve_hostname_gateways: Option<bool>,
    /// DNS servers to ask for them, in order [default: those of /etc/resolv.conf]
    #[arg(long, env = "TOMBOLO_DNS_SERVERS", value_name = "IP[:PORT],…", value_delimiter = ',')]
    dns_servers: Option<Vec<DnsServer>>,
    /// Read gateways from the Gateway API, also PILOT_MULTI_NETWORK_DISCOVER_GATEWAY_API [default: true]
    #[arg(long, env = "TOMBOLO_DISCOVER_GATEWAY_API", value_name = "BOOL")]
    discover_gateway_api: Option<bool>,
    /// The CA that answers SDS, in the cacerts layout, also ROOT_CA_DIR
    #[arg(long, env = "TOMBOLO_CA_DIR", value_name = "DIR")]
    ca_dir: Option<PathBuf>,
    /// Labs and tests only: send private keys over plaintext xDS
    #[arg(long, env = "TOMBOLO_INSECURE_PLAINTEXT_SDS")]
    insecure_plaintext_sds: bool,
    /// Labs and tests only: permit API servers and endpoints on loopback addresses
    #[arg(long, env = "TOMBOLO_ALLOW_LOOPBACK_CLUSTERS")]
    allow_loopback_clusters: bool,
    /// Cluster ids that proxies report and the clusters they mean
    #[arg(long, env = "TOMBOLO_CLUSTER_ALIASES", value_name = "ALIAS=ID,…")]
    cluster_aliases: Option<String>,
    /// Read remote Secrets by the service account of this pod instead of --kubeconfig, also EXTERNAL_ISTIOD and
    /// LOCAL_CLUSTER_SECRET_WATCHER
    #[arg(long, env = "TOMBOLO_LOCAL_CLUSTER_SECRET_WATCHER")]
    local_cluster_secret_watcher: bool,
    /// Ask again before a list takes more than half of a cluster's endpoints away: on or off [default: on]
    #[arg(long, env = "TOMBOLO_MASS_DELETE_GUARD", value_name = "on|off", value_parser = ["on", "off"])]
    mass_delete_guard: Option<String>,
    /// Keep the last known state of clusters in DIR; a cluster that cannot be reached after a restart is served
    /// from there, marked stale
    #[arg(long, env = "TOMBOLO_SNAPSHOT_DIR", value_name = "DIR")]
    snapshot_dir: Option<PathBuf>,
    /// How old a state in --snapshot-dir may be [default: 24h]
    #[arg(long, env = "TOMBOLO_SNAPSHOT_MAX_AGE", value_name = "TIME", value_parser = time)]
    snapshot_max_age: Option<Duration>,
    /// Answer as this control plane does where its quirks differ from us: istiod
    #[arg(long, env = "TOMBOLO_COMPAT", value_name = "NAME", value_parser = ["istiod"])]
    compat: Option<String>,
    /// Write {"grpc":"ip:port","http":…,"monitoring":…} to FILE once bound; port 0 takes a free port
    #[arg(long, env = "TOMBOLO_PORTS_FILE", value_name = "FILE")]
    ports_file: Option<PathBuf>,
    /// text or json [default: text]
    #[arg(long, env = "TOMBOLO_LOG_FORMAT", value_name = "FORMAT", value_parser = ["text", "json"])]
    log_format: Option<String>,
    /// Log filter, such as info, debug or tombolo=debug,warn; also RUST_LOG [default: info]
    #[arg(long, env = "TOMBOLO_LOG_LEVEL", value_name = "FILTER")]
    log_level: Option<String>,
}

impl Args {
    fn into_settings(self) -> (Settings, Option<PathBuf>) {
        let settings = Settings {
            cluster_id: self.cluster_id,
            kubeconfig: self.kubeconfig,
            context: self.context,
            kubeconfig_dir: self.kubeconfig_dir,
            insecure_kubeconfig_options: self.insecure_kubeconfig_options,
            remote_api_servers: self.remote_api_servers,
            system_namespace: self.system_namespace,
            domain: self.domain,
            trust_domain: self.trust_domain,
            grpc_addr: self.grpc_addr,
            secure_grpc_addr: self.secure_grpc_addr,
            tls_cert: self.tls_cert,
            tls_key: self.tls_key,
            client_ca: self.client_ca,
            http_addr: self.http_addr,
            monitoring_addr: self.monitoring_addr,
            remote_cluster_timeout: self.remote_cluster_timeout,
            debounce_after: self.debounce_after,
            debounce_max: self.debounce_max,
            removal_grace: self.removal_grace,
            ca_dir: self.ca_dir,
            insecure_plaintext_sds: self.insecure_plaintext_sds.then_some(true),
            allow_loopback_clusters: self.allow_loopback_clusters.then_some(true),
            snapshot_dir: self.snapshot_dir,
            snapshot_max_age: self.snapshot_max_age,
            ports_file: self.ports_file,
            compat: self.compat,
            dual_stack: None,
            mcs: None,
            features: None,
            revision: None,
            persistent_session_label: None,
            persistent_session_header_label: None,
            cross_cluster_workload_entries: None,
            services_select_workload_entries: None,
            service_entries_select_pods: None,
            watch: None,
            limits: None,
            log_format: self.log_format,
            log_level: self.log_level,
            networks_config: self.networks_config,
            mesh_config: self.mesh_config,
            resolve_hostname_gateways: self.resolve_hostname_gateways,
            discover_gateway_api: self.discover_gateway_api,
            dns_servers: self.dns_servers,
            reachable_networks: None,
            cluster_aliases: self.cluster_aliases,
            local_cluster_secret_watcher: self.local_cluster_secret_watcher.then_some(true),
            mass_delete_guard: self.mass_delete_guard,
            clusters: None,
        };
        (settings, self.config)
    }
}

/// Runs the command until SIGTERM or SIGINT.
pub async fn run(args: Args) -> ExitCode {
    let config = match configure(args) {
        Ok(config) => config,
        Err(error) => return fail(EXIT_USAGE, &error),
    };
    match serve(&config).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let configuration = error.downcast_ref().is_some_and(AppError::is_configuration);
            fail(if configuration { EXIT_USAGE } else { EXIT_FAILURE }, &error)
        }
    }
}

/// Settles every setting and sets up logging.
fn configure(args: Args) -> anyhow::Result<Config> {
    let variable = |name: &str| std::env::var(name).ok();
    let (flags, file) = args.into_settings();
    let istiod = config::from_istiod_variables(variable)?;
    let file = match file {
        Some(path) => config::read(&path)?,
        None => Settings::default(),
    };
    let rust_log = Settings {
        log_level: variable("RUST_LOG").filter(|filter| !filter.is_empty()),
        ..Settings::default()
    };
    let settings = flags.or(rust_log).or(istiod).or(file);
    let format = match settings.log_format.as_deref() {
        None | Some("text") => LogFormat::Text,
        Some("json") => LogFormat::Json,
        Some(other) => anyhow::bail!("log-format: {other:?} is neither text nor json"),
    };
    let filter = settings.log_level.clone();
    let config = settings.complete()?;
    check_clusters(&config)?;
    KubeconfigPolicy::parse(&config.insecure_kubeconfig_options)?;
    remote_api_servers(&config)?;
    telemetry::init(format, filter.as_deref().unwrap_or("info"))?;
    config.idle().into_iter().for_each(|what| tracing::warn!(what, "setting without effect"));
    Ok(config)
}

/// Options of single clusters in the file are settings like all others: what cannot be used ends the start.
fn check_clusters(config: &Config) -> anyhow::Result<()> {
    for (id, said) in &config.clusters {
        // What only makes sense together with an annotation is no mistake.
        let problems = ClusterOptions::check(&said.texts());
        anyhow::ensure!(problems.is_empty(), "--config, clusters, {id}: {}", problems.join("; "));
    }
    Ok(())
}

async fn serve(config: &Config) -> anyhow::Result<()> {
    let stop = lifecycle::interrupted().context("cannot catch signals")?;
    let bound = bind(config).await?;
    announce(config, &bound)?;
    bound.run(stop).await;
    Ok(())
}

async fn bind(config: &Config) -> Result<Bound, AppError> {
    let mut builder = Server::builder()
        .ingest(ingest_options(config))
        .grpc_addr(config.grpc_addr)
        .http_addr(config.http_addr)
        .monitoring_addr(config.monitoring_addr)
        .insecure_plaintext_sds(config.insecure_plaintext_sds)
        .debounce(config.debounce_after, config.debounce_max)
        .reachable_networks(config.reachable_networks.iter().cloned())
        .features(config.features.clone())
        .limits(limits(&config.limits))
        .cluster_aliases(config.cluster_aliases.clone());
    if let Some(tls) = &config.tls {
        let files = TlsFiles {
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
            client_ca: tls.client_ca.clone(),
        };
        builder = builder.secure_grpc_addr(tls.address, files);
    }
    if let Some(path) = &config.ca_dir {
        builder = builder.ca_dir(path);
    }
    builder.bind().await
}

fn ingest_options(config: &Config) -> IngestOptions {
    let source = match &config.kubeconfig {
        Some(path) => Some(ConfigSource::Kubeconfig { path: path.clone(), context: config.context.clone() }),
        None => ConfigSource::detect(),
    };
    let remotes = match (&config.kubeconfig_dir, &source) {
        (Some(path), _) => Remotes::Directory(path.clone()),
        (None, Some(_)) => Remotes::Secrets,
        (None, None) => Remotes::None,
    };
    let id = config.cluster_id.clone();
    let mut options = IngestOptions {
        config: source.map(|source| ConfigCluster { id, source }),
        remotes,
        system_namespace: config.system_namespace.clone(),
        domain: config.domain.clone(),
        trust_domain: config.trust_domain.clone(),
        remote_cluster_timeout: config.remote_cluster_timeout,
        removal_grace: config.removal_grace,
        allow_loopback_clusters: config.allow_loopback_clusters,
        quirks: if config.compat_istiod { Quirks::peer() } else { Quirks::OURS },
        dual_stack: config.dual_stack,
        mcs: mcs_options(config),
        entries: EntryOptions {
            cross_cluster: config.cross_cluster_workload_entries,
            services_select: config.services_select_workload_entries,
            select_pods: config.service_entries_select_pods,
        },
        networks: NetworkOptions {
            config: config.networks_config.clone(),
            resolve_hosts: config.resolve_hostname_gateways,
            dns_servers: config.dns_servers.iter().map(|server| server.0).collect(),
            gateway_api: config.discover_gateway_api,
            config_map: networks::config_map_name(&config.revision),
        },
        mesh_config: config.mesh_config.clone(),
        session_labels: session_labels(config),
        service_scopes: config.features.multi_network,
        clusters: config.clusters.iter().map(|(id, said)| (id.clone(), said.texts())).collect(),
        named: named_clusters(config),
        mass_delete_guard: config.mass_delete_guard,
        secrets_by: config.local_cluster_secret_watcher.then_some(ConfigSource::InCluster),
        snapshots: config
            .snapshot_dir
            .clone()
            .map(|dir| SnapshotOptions { dir, max_age: config.snapshot_max_age }),
        // Checked when the settings were settled.
        kubeconfig_policy: KubeconfigPolicy::parse(&config.insecure_kubeconfig_options).unwrap_or_default(),
        remote_api_servers: remote_api_servers(config).unwrap_or_default(),
        ..IngestOptions::default()
    };
    set_limits(&mut options, &config.watch);
    options
}

/// Clusters that settings name, which may come later or never.
fn named_clusters(config: &Config) -> BTreeMap<ClusterId, &'static str> {
    let aliases = config.cluster_aliases.values().map(|id| (id.clone(), "--cluster-aliases"));
    aliases.chain(config.clusters.keys().map(|id| (id.clone(), "clusters in --config"))).collect()
}

/// How long and how large answers of API servers may be, where the file says so.
fn set_limits(options: &mut IngestOptions, said: &WatchSettings) {
    let IngestOptions { deadlines, sizes, retry, parallel_lists, .. } = options;
    deadlines.headers = said.answer_timeout.unwrap_or(deadlines.headers);
    deadlines.page = said.page_timeout.unwrap_or(deadlines.page);
    deadlines.silence = said.probe_after.unwrap_or(deadlines.silence);
    deadlines.scout = said.look_every.map_or(deadlines.scout, |every| (every.mul_f64(0.8), every));
    sizes.slow = said.list_minimum_bytes.unwrap_or(sizes.slow);
    retry.longest = said.longest_pause.unwrap_or(retry.longest);
    *parallel_lists = said.parallel_lists.unwrap_or(*parallel_lists);
}

/// What the xDS server takes on, where the file says so.
fn limits(said: &LimitSettings) -> Limits {
    let usual = Limits::default();
    // In any case: it raises what there may be. What the file says counts even where that is less.
    let possible = descriptors(usual.connections);
    Limits {
        connections: said.connections.unwrap_or(possible),
        stream_rate: said.new_streams_per_second.map_or(usual.stream_rate, |rate| (rate, rate)),
        request_rate: said.requests_per_second.map_or(usual.request_rate, |rate| (rate, 2 * rate)),
        max_age: said.connection_age.unwrap_or(usual.max_age),
        memory: said.memory.unwrap_or(MemoryLimit::USUAL).bytes(lifecycle::memory::room()),
        stuck: said.unread_timeout.unwrap_or(usual.stuck),
        drain: said.drain.map_or(usual.drain, |drain| (drain, drain + Duration::from_secs(3))),
        cache_bytes: said.cache_mebibytes.map_or(usual.cache_bytes, |mebibytes| mebibytes << 20),
        ..usual
    }
}

/// At most `wanted` connections, fewer where the system allows fewer files (X-L08). Raises what this process may have
/// to what it is allowed to raise.
fn descriptors(wanted: usize) -> usize {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let now = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: now.maximum, maximum: now.maximum };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => now.maximum,
        Err(_) => now.current,
    };
    let room = files.map_or(usize::MAX, |files| usize::try_from(files).unwrap_or(usize::MAX));
    wanted.min(room.saturating_sub(OTHER_FILES).max(1))
}

fn session_labels(config: &Config) -> SessionLabels {
    let usual = SessionLabels::default();
    SessionLabels {
        cookie: config.persistent_session_label.as_deref().map_or(usual.cookie, Into::into),
        header: config.persistent_session_header_label.as_deref().map_or(usual.header, Into::into),
    }
}

fn remote_api_servers(config: &Config) -> Result<Option<Arc<ServerList>>, BadServer> {
    let list = config.remote_api_servers.as_deref().map(ServerList::parse).transpose()?;
    Ok(list.map(Arc::new))
}

fn mcs_options(config: &Config) -> McsOptions {
    let (mcs, usual) = (&config.mcs, McsOptions::default());
    let options = McsOptions {
        discovery: mcs.service_discovery.unwrap_or_default(),
        host: mcs.host.unwrap_or_default(),
        cluster_local: mcs.cluster_local.unwrap_or_default(),
        auto_export: mcs.auto_export.unwrap_or_default(),
        group: mcs.api_group.as_deref().map_or(usual.group, Into::into),
        version: mcs.api_version.as_deref().map_or(usual.version, Into::into),
    };
    options.effective()
}

/// Says where the server listens, in the log and in the ports file.
fn announce(config: &Config, bound: &Bound) -> anyhow::Result<()> {
    let addresses = bound.addresses();
    for (what, address) in [
        ("xDS, plaintext", addresses.grpc),
        ("xDS, TLS", addresses.secure_grpc),
        ("readiness and debug pages", addresses.http),
        ("metrics and debug pages", addresses.monitoring),
    ] {
        if let Some(address) = address {
            tracing::info!(%address, what, "listening");
        }
    }
    if config.kubeconfig.is_none() && config.kubeconfig_dir.is_none() && ConfigSource::detect().is_none() {
        // Others read it; taken silently, it would choose a cluster by a shell's accident.
        let kubeconfig = std::env::var("KUBECONFIG").ok();
        tracing::warn!(
            kubeconfig_not_read = kubeconfig,
            "no cluster is configured: give --kubeconfig or --kubeconfig-dir; the variable KUBECONFIG is not read"
        );
    }
    if config.ca_dir.is_some() && !config.insecure_plaintext_sds {
        tracing::warn!("certificates are not sent over plaintext xDS: connections that need mTLS fail");
    }
    match &config.ports_file {
        Some(path) => write_ports(path, addresses).with_context(|| {
            format!("--ports-file: cannot write {}, its directory must be there and writable", path.display())
        }),
        None => Ok(()),
    }
}

/// Writes the file beside its place and moves it there: a reader sees all of it or none.
fn write_ports(path: &Path, addresses: Addresses) -> std::io::Result<()> {
    let text = |address: Option<SocketAddr>| address.map(|address| address.to_string());
    let ports = json!({
        "grpc": text(addresses.grpc), "secureGrpc": text(addresses.secure_grpc), "http": text(addresses.http), "monitoring": text(addresses.monitoring),
    });
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let beside = path.with_file_name(name);
    let mut file = std::fs::File::create(&beside)?;
    writeln!(file, "{ports}")?;
    file.sync_all()?;
    std::fs::rename(&beside, path)
}

#[cfg(test)]
mod tests;
