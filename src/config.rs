//! What `serve` works by: flags over environment over file over defaults.

mod clusters;
mod dns_server;
mod environment;
mod file;
mod limits;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

pub use clusters::ClusterSettings;
pub use dns_server::DnsServer;
pub use environment::{VariableError, from_istiod_variables};
pub use file::{FileError, read};
pub use limits::{LimitSettings, MemoryLimit};
pub use watch::WatchSettings;

use crate::model::{ClusterId, Features, Name, NetworkId};

/// Settings as given by one source; `None` is "not said here". The keys of a file are the names of the flags.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct Settings {
    /// Id of the config cluster.
    pub cluster_id: Option<String>,
    /// Kubeconfig of the config cluster.
    pub kubeconfig: Option<PathBuf>,
    /// Context in it.
    pub context: Option<String>,
    /// Directory of kubeconfigs of remote clusters.
    pub kubeconfig_dir: Option<PathBuf>,
    /// What kubeconfigs of remote clusters may do on this machine: names of R1.14, separated by commas.
    pub insecure_kubeconfig_options: Option<String>,
    /// The only API servers that remote kubeconfigs may name: hosts and address blocks, separated by commas.
    pub remote_api_servers: Option<String>,
    /// Namespace of Secrets and of the network label.
    pub system_namespace: Option<String>,
    /// DNS domain of services.
    pub domain: Option<String>,
    /// Trust domain of workloads.
    pub trust_domain: Option<String>,
    /// Address of plaintext xDS.
    pub grpc_addr: Option<SocketAddr>,
    /// Address of xDS over TLS.
    pub secure_grpc_addr: Option<SocketAddr>,
    /// Certificate of that listener.
    pub tls_cert: Option<PathBuf>,
    /// Its private key.
    pub tls_key: Option<PathBuf>,
    /// Roots of the certificates that its clients need.
    pub client_ca: Option<PathBuf>,
    /// Address of readiness and debug pages.
    pub http_addr: Option<SocketAddr>,
    /// Address of metrics.
    pub monitoring_addr: Option<SocketAddr>,
    /// Start gate per remote cluster.
    #[serde(deserialize_with = "file::duration")]
    pub remote_cluster_timeout: Option<Duration>,
    /// Quiet time before a push.
    #[serde(deserialize_with = "file::duration")]
    pub debounce_after: Option<Duration>,
    /// Longest delay of a push.
    #[serde(deserialize_with = "file::duration")]
    pub debounce_max: Option<Duration>,
    /// How long a removed cluster still serves.
    #[serde(deserialize_with = "file::duration")]
    pub removal_grace: Option<Duration>,
    /// Directory of the CA.
    pub ca_dir: Option<PathBuf>,
    /// Private keys over plaintext.
    pub insecure_plaintext_sds: Option<bool>,
    /// API servers and endpoints on loopback.
    pub allow_loopback_clusters: Option<bool>,
    /// Directory of the last known states of clusters.
    pub snapshot_dir: Option<PathBuf>,
    /// How old they may be.
    #[serde(deserialize_with = "file::duration")]
    pub snapshot_max_age: Option<Duration>,
    /// Where the chosen ports are written.
    pub ports_file: Option<PathBuf>,
    /// `text` or `json`.
    pub log_format: Option<String>,
    /// Log filter.
    pub log_level: Option<String>,
    /// File of the document `meshNetworks`.
    pub networks_config: Option<PathBuf>,
    /// File of MeshConfig.
    pub mesh_config: Option<PathBuf>,
    /// Whether host names of gateways are resolved.
    pub resolve_hostname_gateways: Option<bool>,
    /// Whether Gateways of the Gateway API are read.
    pub discover_gateway_api: Option<bool>,
    /// DNS servers to ask.
    pub dns_servers: Option<Vec<DnsServer>>,
    /// Pairs of networks that reach each other without gateways (D2); in files only.
    #[serde(rename = "reachableNetworks")]
    pub reachable_networks: Option<Vec<(NetworkId, NetworkId)>>,
    /// `alias=id,…`: cluster ids that proxies report, and the clusters they mean (R1.8).
    pub cluster_aliases: Option<String>,
    /// Remote Secrets are read by the service account of this pod (R1.9).
    pub local_cluster_secret_watcher: Option<bool>,
    /// `on` or `off` (K-21).
    pub mass_delete_guard: Option<String>,
    /// `istiod`: answer as the peer does wherever a quirk of its own differs from us (D1).
    pub compat: Option<String>,
    /// One endpoint with every address of its pod (R5.15); in files only.
    pub dual_stack: Option<bool>,
    /// Multi-cluster services (R4.38); in files only.
    pub mcs: Option<McsSettings>,
    /// Switches of what proxies see, by the names of the peer's variables ([`Features::VARIABLES`]); in files only.
    #[serde(deserialize_with = "file::switches")]
    pub features: Option<BTreeMap<String, String>>,
    /// The revision of the control plane: it reads the ConfigMap `istio-<revision>` (R2.4); in files only.
    pub revision: Option<String>,
    /// Label of Services with sticky sessions by cookie (R5.13); in files only.
    pub persistent_session_label: Option<String>,
    /// Label of Services with sticky sessions by header (R5.13); in files only.
    pub persistent_session_header_label: Option<String>,
    /// WorkloadEntries of remote clusters are read (R1.16); in files only.
    pub cross_cluster_workload_entries: Option<bool>,
    /// Services select WorkloadEntries (R5.24); in files only.
    pub services_select_workload_entries: Option<bool>,
    /// ServiceEntries select Pods (R5.37); in files only.
    pub service_entries_select_pods: Option<bool>,
    /// How API servers are watched; in files only.
    pub watch: Option<WatchSettings>,
    /// What the xDS server takes on; in files only.
    pub limits: Option<LimitSettings>,
    /// Options by cluster id (D35); in files only.
    pub clusters: Option<BTreeMap<ClusterId, ClusterSettings>>,
}

/// The switches of multi-cluster services; each needs the one before it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
pub struct McsSettings {
    /// Only exported Services are seen by other clusters, `ENABLE_MCS_SERVICE_DISCOVERY`.
    pub service_discovery: Option<bool>,
    /// Imported Services have `clusterset.local` host names, `ENABLE_MCS_HOST`.
    pub host: Option<bool>,
    /// `svc.cluster.local` host names never leave their cluster, `ENABLE_MCS_CLUSTER_LOCAL`.
    pub cluster_local: Option<bool>,
    /// Every Service that is not cluster-local is exported, `ENABLE_MCS_AUTO_EXPORT`; needs no other.
    pub auto_export: Option<bool>,
    /// `MCS_API_GROUP`.
    pub api_group: Option<String>,
    /// `MCS_API_VERSION`.
    pub api_version: Option<String>,
}

impl McsSettings {
    /// The first ones, and where they say nothing, the others.
    fn of(first: Option<Self>, others: Option<Self>) -> Option<Self> {
        let (first, others) = match (first, others) {
            (Some(first), Some(others)) => (first, others),
            (first, others) => return first.or(others),
        };
        Some(Self {
            service_discovery: first.service_discovery.or(others.service_discovery),
            host: first.host.or(others.host),
            cluster_local: first.cluster_local.or(others.cluster_local),
            auto_export: first.auto_export.or(others.auto_export),
            api_group: first.api_group.or(others.api_group),
            api_version: first.api_version.or(others.api_version),
        })
    }
}

/// The first ones, and what only the others have.
fn united(
    first: Option<BTreeMap<String, String>>,
    others: Option<BTreeMap<String, String>>,
) -> Option<BTreeMap<String, String>> {
    match (first, others) {
        (Some(first), Some(mut others)) => {
            others.extend(first);
            Some(others)
        }
        (first, others) => first.or(others),
    }
}

impl Settings {
    /// These, and where they say nothing, `fallback`'s.
    pub fn or(self, fallback: Self) -> Self {
        macro_rules! merged {
            ($($field:ident),* $(,)?) => {
                Self {
                    mcs: McsSettings::of(self.mcs, fallback.mcs),
                    features: united(self.features, fallback.features),
                    $($field: self.$field.or(fallback.$field)),*
                }
            };
        }
        merged!(
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
            secure_grpc_addr,
            tls_cert,
            tls_key,
            client_ca,
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
            log_format,
            log_level,
            networks_config,
            mesh_config,
            resolve_hostname_gateways,
            discover_gateway_api,
            dns_servers,
            reachable_networks,
            cluster_aliases,
            local_cluster_secret_watcher,
            mass_delete_guard,
            compat,
            dual_stack,
            revision,
            persistent_session_label,
            persistent_session_header_label,
            cross_cluster_workload_entries,
            services_select_workload_entries,
            service_entries_select_pods,
            watch,
            limits,
            clusters,
        )
    }

    /// Fills in defaults and checks what belongs together.
    ///
    /// # Errors
    /// Every problem at once.
    pub fn complete(self) -> Result<Config, ConfigError> {
        let problems = self.problems();
        if !problems.is_empty() {
            return Err(ConfigError(problems));
        }
        let tls = self.tls();
        let loopback = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let text = |value: Option<String>, default: &str| value.unwrap_or_else(|| default.to_owned());
        Ok(Config {
            cluster_id: text(self.cluster_id, "Kubernetes").into(),
            kubeconfig: self.kubeconfig,
            context: self.context,
            kubeconfig_dir: self.kubeconfig_dir,
            insecure_kubeconfig_options: self.insecure_kubeconfig_options.unwrap_or_default(),
            remote_api_servers: self.remote_api_servers,
            system_namespace: text(self.system_namespace, "istio-system").into(),
            domain: text(self.domain, "cluster.local").into(),
            trust_domain: text(self.trust_domain, "cluster.local").into(),
            grpc_addr: self.grpc_addr.unwrap_or(loopback(15010)),
            tls,
            http_addr: self.http_addr.unwrap_or(loopback(8080)),
            monitoring_addr: self.monitoring_addr.unwrap_or(loopback(15014)),
            remote_cluster_timeout: self.remote_cluster_timeout.unwrap_or(Duration::from_secs(30)),
            debounce_after: self.debounce_after.unwrap_or_default(),
            debounce_max: self.debounce_max.unwrap_or(Duration::from_secs(10)),
            removal_grace: self.removal_grace.unwrap_or(Duration::from_secs(5)),
            ca_dir: self.ca_dir,
            insecure_plaintext_sds: self.insecure_plaintext_sds.unwrap_or_default(),
            allow_loopback_clusters: self.allow_loopback_clusters.unwrap_or_default(),
            snapshot_dir: self.snapshot_dir,
            snapshot_max_age: self.snapshot_max_age.unwrap_or(Duration::from_secs(24 * 3600)),
            ports_file: self.ports_file,
            networks_config: self.networks_config,
            mesh_config: self.mesh_config,
            resolve_hostname_gateways: self.resolve_hostname_gateways.unwrap_or(true),
            discover_gateway_api: self.discover_gateway_api.unwrap_or(true),
            dns_servers: self.dns_servers.unwrap_or_default(),
            reachable_networks: self.reachable_networks.unwrap_or_default(),
            cluster_aliases: clusters::aliases(self.cluster_aliases.as_deref()).unwrap_or_default(),
            local_cluster_secret_watcher: self.local_cluster_secret_watcher.unwrap_or_default(),
            mass_delete_guard: self.mass_delete_guard.as_deref() != Some("off"),
            compat_istiod: self.compat.is_some(),
            dual_stack: self.dual_stack.unwrap_or_default(),
            mcs: self.mcs.unwrap_or_default(),
            features: Features {
                dual_stack: self.dual_stack.unwrap_or_default(),
                ..switches(self.features.as_ref()).unwrap_or_default()
            },
            revision: self.revision.unwrap_or_default(),
            persistent_session_label: self.persistent_session_label,
            persistent_session_header_label: self.persistent_session_header_label,
            cross_cluster_workload_entries: self.cross_cluster_workload_entries.unwrap_or(true),
            services_select_workload_entries: self.services_select_workload_entries.unwrap_or(true),
            service_entries_select_pods: self.service_entries_select_pods.unwrap_or(true),
            watch: self.watch.unwrap_or_default(),
            limits: self.limits.unwrap_or_default(),
            clusters: self.clusters.unwrap_or_default(),
        })
    }

    /// The TLS listener; its parts belong together.
    fn tls(&self) -> Option<TlsListener> {
        Some(TlsListener {
            address: self.secure_grpc_addr?,
            certificate: self.tls_cert.clone()?,
            key: self.tls_key.clone()?,
            client_ca: self.client_ca.clone(),
        })
    }

    fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let files = self.tls_cert.is_some() || self.tls_key.is_some() || self.client_ca.is_some();
        if (files || self.secure_grpc_addr.is_some()) && self.tls().is_none() {
            let text =
                "--secure-grpc-addr, --tls-cert and --tls-key make the TLS listener: give all three or none";
            problems.push(text.to_owned());
        }
        problems.extend(self.limits.iter().flat_map(LimitSettings::problems));
        if self.context.is_some() && self.kubeconfig.is_none() {
            problems.push("--context names a context of --kubeconfig: give that too".to_owned());
        }
        let texts = [
            ("--cluster-id", &self.cluster_id),
            ("--system-namespace", &self.system_namespace),
            ("--domain", &self.domain),
            ("--trust-domain", &self.trust_domain),
        ];
        problems.extend(texts.iter().filter_map(|(flag, value)| name_problem(flag, value.as_deref()?)));
        problems.extend(self.shared_address());
        if let Err(problem) = clusters::aliases(self.cluster_aliases.as_deref()) {
            problems.push(problem);
        }
        problems.extend(switches(self.features.as_ref()).err());
        if self.mass_delete_guard.as_deref().is_some_and(|text| !matches!(text, "on" | "off")) {
            problems.push("--mass-delete-guard is neither `on` nor `off`".to_owned());
        }
        if self.compat.as_deref().is_some_and(|peer| peer != "istiod") {
            problems.push("--compat knows `istiod` only".to_owned());
        }
        let max = self.debounce_max.unwrap_or(Duration::from_secs(10));
        if let Some(after) = self.debounce_after.filter(|after| *after > max) {
            problems.push(format!(
                "--debounce-after {} is longer than --debounce-max {}: make it at most that",
                humantime::format_duration(after),
                humantime::format_duration(max)
            ));
        }
        if self.insecure_plaintext_sds == Some(true) && self.ca_dir.is_none() {
            problems.push("--insecure-plaintext-sds has no CA to answer from: give --ca-dir".to_owned());
        }
        if self.snapshot_max_age.is_some() && self.snapshot_dir.is_none() {
            problems.push("--snapshot-max-age has no effect without --snapshot-dir".to_owned());
        }
        if self.snapshot_max_age.is_some_and(|age| age.is_zero()) {
            problems.push("--snapshot-max-age is 0: leave --snapshot-dir out to keep nothing".to_owned());
        }
        problems.extend(self.watch.iter().flat_map(WatchSettings::problems));
        problems
    }

    /// Two flags that name one address: whichever comes second would find the other there.
    fn shared_address(&self) -> Option<String> {
        let usual =
            |address: Option<SocketAddr>, port| address.unwrap_or(SocketAddr::from(([127, 0, 0, 1], port)));
        let mut all = vec![
            ("--grpc-addr", usual(self.grpc_addr, 15010)),
            ("--http-addr", usual(self.http_addr, 8080)),
            ("--monitoring-addr", usual(self.monitoring_addr, 15014)),
        ];
        all.extend(self.secure_grpc_addr.map(|address| ("--secure-grpc-addr", address)));
        let meet = |one: SocketAddr, other: SocketAddr| {
            let everywhere = one.ip().is_unspecified() || other.ip().is_unspecified();
            one.port() == other.port() && one.port() != 0 && (one.ip() == other.ip() || everywhere)
        };
        let mut pairs =
            all.iter().enumerate().flat_map(|(n, one)| all.iter().skip(n + 1).map(move |other| (one, other)));
        let ((one, address), (other, _)) = pairs.find(|((_, one), (_, other))| meet(*one, *other))?;
        Some(format!("{one} and {other} are both at port {}: give one of them another", address.port()))
    }
}

impl Config {
    /// Settings that have no effect beside others. They may come from variables of the peer, which takes them too.
    pub fn idle(&self) -> Vec<&'static str> {
        let mcs = &self.mcs;
        let on = |switch: Option<bool>| switch == Some(true);
        let remarks = [
            (
                on(mcs.host) && !on(mcs.service_discovery),
                "mcs, host (ENABLE_MCS_HOST) has no effect without service-discovery (ENABLE_MCS_SERVICE_DISCOVERY)",
            ),
            (
                on(mcs.cluster_local) && !(on(mcs.host) && on(mcs.service_discovery)),
                "mcs, cluster-local (ENABLE_MCS_CLUSTER_LOCAL) has no effect without host and service-discovery",
            ),
            (
                self.local_cluster_secret_watcher && self.kubeconfig_dir.is_some(),
                "--local-cluster-secret-watcher has no effect: remote clusters come from --kubeconfig-dir, not from Secrets",
            ),
        ];
        remarks.into_iter().filter(|(holds, _)| *holds).map(|(_, text)| text).collect()
    }
}

/// What is wrong with a text that becomes part of names and addresses.
fn name_problem(flag: &str, text: &str) -> Option<String> {
    let odd = |c: char| !(c.is_ascii_alphanumeric() || "-._".contains(c));
    if text.trim().is_empty() {
        return Some(format!("{flag} is empty: leave it out for its default"));
    }
    text.contains(odd)
        .then(|| format!("{flag} {text:?}: only letters, digits, `-`, `.` and `_` belong there"))
}

/// The switches of what proxies see; `Err` says which is not known or not readable.
fn switches(said: Option<&BTreeMap<String, String>>) -> Result<Features, String> {
    let unknown = said
        .into_iter()
        .flat_map(BTreeMap::keys)
        .find(|name| !Features::VARIABLES.contains(&name.as_str()) || *name == "ISTIO_DUAL_STACK");
    if let Some(name) = unknown {
        return Err(format!("features: {name:?} is not known; known are {}", Features::VARIABLES.join(", ")));
    }
    let get = |name: &str| said.and_then(|said| said.get(name).cloned());
    Features::from_variables(get)
        .map_err(|(name, value)| format!("features: {name} is {value:?}, neither true nor false"))
}

/// Complete settings.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is documented in `Settings`")]
pub struct Config {
    pub cluster_id: ClusterId,
    pub kubeconfig: Option<PathBuf>,
    pub context: Option<String>,
    pub kubeconfig_dir: Option<PathBuf>,
    pub insecure_kubeconfig_options: String,
    pub remote_api_servers: Option<String>,
    pub system_namespace: Name,
    pub domain: Name,
    pub trust_domain: Name,
    pub grpc_addr: SocketAddr,
    pub tls: Option<TlsListener>,
    pub http_addr: SocketAddr,
    pub monitoring_addr: SocketAddr,
    pub remote_cluster_timeout: Duration,
    pub debounce_after: Duration,
    pub debounce_max: Duration,
    pub removal_grace: Duration,
    pub ca_dir: Option<PathBuf>,
    pub insecure_plaintext_sds: bool,
    pub allow_loopback_clusters: bool,
    pub snapshot_dir: Option<PathBuf>,
    pub snapshot_max_age: Duration,
    pub ports_file: Option<PathBuf>,
    pub networks_config: Option<PathBuf>,
    pub mesh_config: Option<PathBuf>,
    pub resolve_hostname_gateways: bool,
    pub discover_gateway_api: bool,
    pub dns_servers: Vec<DnsServer>,
    pub reachable_networks: Vec<(NetworkId, NetworkId)>,
    pub cluster_aliases: BTreeMap<ClusterId, ClusterId>,
    pub local_cluster_secret_watcher: bool,
    pub mass_delete_guard: bool,
    pub clusters: BTreeMap<ClusterId, ClusterSettings>,
    pub compat_istiod: bool,
    pub dual_stack: bool,
    pub mcs: McsSettings,
    pub features: Features,
    pub revision: String,
    pub persistent_session_label: Option<String>,
    pub persistent_session_header_label: Option<String>,
    pub cross_cluster_workload_entries: bool,
    pub services_select_workload_entries: bool,
    pub service_entries_select_pods: bool,
    pub watch: WatchSettings,
    pub limits: LimitSettings,
}

/// A listener of xDS over TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each field is documented in `Settings`")]
pub struct TlsListener {
    pub address: SocketAddr,
    pub certificate: PathBuf,
    pub key: PathBuf,
    pub client_ca: Option<PathBuf>,
}

/// *Fatal* at start: settings that do not fit together.
#[derive(Debug, thiserror::Error)]
#[error("{}", .0.join("\n  "))]
pub struct ConfigError(Vec<String>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn earlier_sources_win_value_by_value() {
        let flags = Settings { domain: Some("flag".to_owned()), ..Settings::default() };
        let file = Settings {
            domain: Some("file".to_owned()),
            cluster_id: Some("east".to_owned()),
            ..Settings::default()
        };
        let config = flags.or(file).complete().expect("valid");
        assert_eq!((&*config.domain, &*config.cluster_id), ("flag", "east"));
        assert_eq!(config.grpc_addr.to_string(), "127.0.0.1:15010");
    }

    #[test]
    fn variables_about_multi_cluster_services_leave_the_rest_of_the_file_alone() {
        let file = Settings {
            mcs: Some(McsSettings {
                service_discovery: Some(true),
                host: Some(true),
                api_version: Some("v1alpha1".to_owned()),
                ..McsSettings::default()
            }),
            ..Settings::default()
        };
        let said = [("MCS_API_GROUP", "example.com"), ("ENABLE_MCS_HOST", "F")];
        let variables = from_istiod_variables(|name| {
            said.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        });
        let mcs = variables.expect("valid").or(file).complete().expect("valid").mcs;
        assert_eq!((mcs.service_discovery, mcs.host, mcs.cluster_local), (Some(true), Some(false), None));
        assert_eq!(
            (mcs.api_group.as_deref(), mcs.api_version.as_deref()),
            (Some("example.com"), Some("v1alpha1"))
        );
    }

    #[test]
    fn names_have_no_blanks_and_every_listener_its_own_address() {
        let settings = |text: &str| parse_yaml(text).complete();
        for (text, words) in [
            ("system-namespace: A B", "--system-namespace"),
            ("trust-domain: a/b", "--trust-domain"),
            ("domain: ''", "--domain is empty"),
            ("http-addr: 127.0.0.1:15010", "--grpc-addr and --http-addr"),
            ("{http-addr: '0.0.0.0:1', monitoring-addr: '127.0.0.1:1'}", "--http-addr and --monitoring-addr"),
        ] {
            let error = settings(text).expect_err(text).to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        assert!(settings("{http-addr: '127.0.0.1:0', grpc-addr: '127.0.0.1:0'}").is_ok());
        assert!(settings("{http-addr: '127.0.0.2:1', grpc-addr: '127.0.0.1:1'}").is_ok());
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let idle = |text: &str| parse_yaml(text).complete().expect("valid").idle();
        assert_eq!(idle("mcs: {service-discovery: true, host: true, cluster-local: true}"), [""; 0]);
        for (text, words) in [
            ("mcs: {host: true}", "mcs, host"),
            ("mcs: {service-discovery: true, cluster-local: true}", "cluster-local"),
            ("{local-cluster-secret-watcher: true, kubeconfig-dir: /x}", "--kubeconfig-dir"),
        ] {
            let told = idle(text);
            assert!(told.len() == 1 && told[0].contains(words), "{text}: {told:?}");
        }
    }

    fn parse_yaml(text: &str) -> Settings {
        serde_saphyr::from_str(text).expect("valid")
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let settings = Settings {
            context: Some("x".to_owned()),
            debounce_after: Some(Duration::from_secs(60)),
            insecure_plaintext_sds: Some(true),
            ..Settings::default()
        };
        let error = settings.complete().expect_err("three problems").to_string();
        for flag in ["--kubeconfig", "--debounce-max 10s", "--ca-dir"] {
            assert!(error.contains(flag), "{error}");
        }
    }
}
