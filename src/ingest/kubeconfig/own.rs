//! The config cluster's kubeconfig: the operator's, so file paths and plugins are allowed (D34).

use std::path::{Path, PathBuf};

use kube::config::{Cluster, KubeConfigOptions, Kubeconfig, KubeconfigError};

use super::server;

/// Where the config cluster's credentials come from. The environment variable `KUBECONFIG` is never read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSource {
    /// A file, and the context in it; without one its current context.
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// The context.
        context: Option<String>,
    },
    /// The service account of the pod this process runs in.
    InCluster,
}

impl ConfigSource {
    /// The service account of this pod, if this process runs in one.
    pub fn detect() -> Option<Self> {
        let token = Path::new("/var/run/secrets/kubernetes.io/serviceaccount/token").is_file();
        let host = std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        (token && host).then_some(Self::InCluster)
    }
}

impl std::fmt::Display for ConfigSource {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Kubeconfig { path, .. } => write!(f, "file {}", path.display()),
            Self::InCluster => f.write_str("in-cluster service account"),
        }
    }
}

/// *Fatal* at start: the config cluster cannot be reached with what was given.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The file is not there or not readable.
    #[error("cannot read kubeconfig {path}: {error}; check --kubeconfig")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file is not a kubeconfig.
    #[error("kubeconfig {path} is malformed{place}: it is not a YAML document of kind Config")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// ` at line …`, where known.
        place: String,
    },
    /// No such context.
    #[error("kubeconfig {path} has no context `{context}`; it has: {known}")]
    UnknownContext {
        /// The file.
        path: PathBuf,
        /// What was asked for.
        context: String,
        /// What there is.
        known: String,
    },
    /// Neither `--context` nor `current-context`.
    #[error("kubeconfig {path} has no current-context: name one by --context; it has: {known}")]
    NoContext {
        /// The file.
        path: PathBuf,
        /// What there is.
        known: String,
    },
    /// The context cannot be used.
    #[error("kubeconfig {path}, context `{context}`: {error}")]
    Unusable {
        /// The file.
        path: PathBuf,
        /// The context.
        context: String,
        /// Why.
        error: Box<KubeconfigError>,
    },
    /// Connections go straight to the API server.
    #[error(
        "kubeconfig {path}, context `{context}`: proxy-url is not supported; give a server that can be reached"
    )]
    Proxy {
        /// The file.
        path: PathBuf,
        /// The context.
        context: String,
    },
    /// The server cannot be connected to as it is given.
    #[error("kubeconfig {path}, context `{context}`: server {problem}")]
    Server {
        /// The file.
        path: PathBuf,
        /// The context.
        context: String,
        /// What is wrong with its URL, which may have secrets in it.
        problem: &'static str,
    },
    /// The context names a user that the file does not have: requests would be anonymous.
    #[error("kubeconfig {path}, context `{context}`: there is no user `{user}`; it has: {known}")]
    UnknownUser {
        /// The file.
        path: PathBuf,
        /// The context.
        context: String,
        /// What the context names.
        user: String,
        /// What there is.
        known: String,
    },
    /// There is no service account.
    #[error("no in-cluster service account ({}): this is no pod with one; give --kubeconfig outside a cluster", lacking(.0))]
    InCluster(kube::config::InClusterError),
}

/// What a service account lacks.
fn lacking(error: &kube::config::InClusterError) -> String {
    match error {
        kube::config::InClusterError::ReadEnvironmentVariable(_) => {
            "KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set".to_owned()
        }
        other => other.to_string(),
    }
}

/// Reads the credentials of the config cluster.
///
/// # Errors
/// Names the file and the key that is wrong.
pub async fn load(source: &ConfigSource) -> Result<kube::Config, OwnError> {
    match source {
        ConfigSource::InCluster => kube::Config::incluster_env().map_err(OwnError::InCluster),
        ConfigSource::Kubeconfig { path, context } => from_file(path.clone(), context.as_deref()).await,
    }
}

async fn from_file(path: PathBuf, context: Option<&str>) -> Result<kube::Config, OwnError> {
    let mut kubeconfig = match Kubeconfig::read_from(&path) {
        Ok(kubeconfig) => kubeconfig,
        Err(KubeconfigError::ReadConfig(error, _)) => return Err(OwnError::Unreadable { path, error }),
        Err(KubeconfigError::Parse(error)) => {
            let place = error.location().map(|at| format!(" at line {}", at.line())).unwrap_or_default();
            return Err(OwnError::Malformed { path, place });
        }
        Err(_) => {
            let place = String::new();
            return Err(OwnError::Malformed { path, place });
        }
    };
    let known = || names(kubeconfig.contexts.iter().map(|context| &*context.name));
    let current = kubeconfig.current_context.as_deref().filter(|name| !name.is_empty());
    let Some(context) = context.or(current).map(str::to_owned) else {
        return Err(OwnError::NoContext { known: known(), path });
    };
    if !kubeconfig.contexts.iter().any(|known| known.name == context) {
        return Err(OwnError::UnknownContext { known: known(), path, context });
    }
    let cluster = cluster(&kubeconfig, &context);
    let ca_file = cluster.filter(|cluster| cluster.certificate_authority_data.is_none());
    let ca_file = ca_file.and_then(|cluster| cluster.certificate_authority.clone()).map(PathBuf::from);
    if cluster.is_some_and(|cluster| cluster.proxy_url.as_deref().is_some_and(|url| !url.is_empty())) {
        return Err(OwnError::Proxy { path, context });
    }
    if let Some(user) = missing_user(&kubeconfig, &context) {
        let known = names(kubeconfig.auth_infos.iter().map(|user| &*user.name));
        return Err(OwnError::UnknownUser { path, context, user, known });
    }
    without_proxy(&mut kubeconfig);
    let options = KubeConfigOptions { context: Some(context.clone()), ..KubeConfigOptions::default() };
    let mut config = match kube::Config::from_custom_kubeconfig(kubeconfig, &options).await {
        Ok(config) => config,
        Err(error) => return Err(OwnError::Unusable { path, context, error: Box::new(error) }),
    };
    if let Err(problem) = server::check(&config.cluster_url) {
        return Err(OwnError::Server { path, context, problem });
    }
    if config.accept_invalid_certs {
        tracing::warn!(
            kubeconfig = %path.display(), context,
            "insecure-skip-tls-verify: whoever answers at the server's address is believed; \
             give certificate-authority-data instead"
        );
    }
    // Read again when connections are made: it may be exchanged (K-17).
    config.root_cert_file = ca_file;
    config.proxy_url = None;
    if let Some(described) = config.auth_info.exec.as_mut().and_then(|exec| exec.cluster.as_mut()) {
        described.proxy_url = None;
    }
    Ok(config)
}

fn names<'a>(names: impl Iterator<Item = &'a str>) -> String {
    let names: Vec<_> = names.collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

/// The user that a context names and the file does not have.
fn missing_user(kubeconfig: &Kubeconfig, context: &str) -> Option<String> {
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    let user = context.user.as_ref().filter(|user| !user.is_empty())?;
    kubeconfig.auth_infos.iter().all(|known| known.name != *user).then(|| user.clone())
}

/// Where no proxy is named the library would look for one in the environment, and fail if that is none (Z-08).
/// What is set here is never used.
fn without_proxy(kubeconfig: &mut Kubeconfig) {
    for cluster in kubeconfig.clusters.iter_mut().filter_map(|named| named.cluster.as_mut()) {
        cluster.proxy_url = Some("http://unused.invalid".to_owned());
    }
}

fn cluster<'a>(kubeconfig: &'a Kubeconfig, context: &str) -> Option<&'a Cluster> {
    let context = kubeconfig.contexts.iter().find(|named| named.name == context)?.context.as_ref()?;
    kubeconfig.clusters.iter().find(|named| named.name == context.cluster)?.cluster.as_ref()
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failure(text: Option<&str>, context: Option<&str>) -> String {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        if let Some(text) = text {
            std::fs::write(&path, text).unwrap();
        }
        let context = context.map(str::to_owned);
        let source = ConfigSource::Kubeconfig { path: path.clone(), context };
        let text = load(&source).await.map(|_| ()).unwrap_err().to_string();
        assert!(text.contains(&*path.to_string_lossy()), "{text}");
        text
    }

    const TWO: &str = "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
        clusters: [{name: c, cluster: {server: 'https://192.0.2.1'}}]\n\
        users: [{name: u, user: {token: canary}}]\n\
        contexts: [{name: a, context: {cluster: c, user: u}}, {name: b, context: {cluster: x, user: u}}]\n";

    #[tokio::test]
    async fn bad_kubeconfigs_name_the_file_and_the_key() {
        assert!(failure(None, None).await.contains("cannot read"));
        assert!(failure(Some("clusters: [token: canary: x"), None).await.contains("malformed"));
        let unknown = failure(Some(TWO), Some("c")).await;
        assert!(unknown.contains("no context `c`") && unknown.contains("a, b"), "{unknown}");
        assert!(failure(Some("kind: Config\n"), None).await.contains("current-context"));
        let unusable = failure(Some(TWO), Some("b")).await;
        assert!(unusable.contains("context `b`"), "{unusable}");
        assert!(!unusable.contains("canary"));
    }

    #[tokio::test]
    async fn the_current_context_is_used_unless_one_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, TWO).unwrap();
        let config = load(&ConfigSource::Kubeconfig { path, context: None }).await.unwrap();
        assert_eq!(config.cluster_url.host(), Some("192.0.2.1"));
    }

    #[tokio::test]
    async fn k17_the_file_of_the_ca_is_known_and_proxies_are_refused_aloud() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        let mut params = rcgen::CertificateParams::new(vec![]).unwrap();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let ca = params.self_signed(&rcgen::KeyPair::generate().unwrap()).unwrap();
        std::fs::write(dir.path().join("ca.crt"), ca.pem()).unwrap();
        let with = |more: &str| TWO.replace("'https://192.0.2.1'", &format!("'https://192.0.2.1', {more}"));
        std::fs::write(&path, with("certificate-authority: ca.crt")).unwrap();
        let config = load(&ConfigSource::Kubeconfig { path, context: None }).await.unwrap();
        assert_eq!(config.root_cert_file, Some(dir.path().join("ca.crt")));
        assert_eq!(config.root_cert, Some(vec![ca.der().to_vec()]));
        let refused = failure(Some(&with("proxy-url: 'http://192.0.2.2'")), None).await;
        assert!(refused.contains("proxy-url"), "{refused}");
    }

    #[tokio::test]
    async fn z_24_a_server_with_credentials_or_without_a_port_that_can_be_is_refused_unseen() {
        for (server, word) in [
            ("https://me:canary@192.0.2.1", "credentials"),
            ("https://192.0.2.1:644300", "port"),
            ("https://192.0.2.1:0", "port"),
        ] {
            let refused = failure(Some(&TWO.replace("https://192.0.2.1", server)), None).await;
            assert!(refused.contains(word) && !refused.contains("canary"), "{refused}");
        }
        for server in ["https://192.0.2.1:6443", "https://[2001:db8::1]", "https://[2001:db8::1]:6443/prefix"]
        {
            assert_eq!(server::check(&server.parse().unwrap()), Ok(()), "{server}");
        }
    }

    #[tokio::test]
    async fn a_context_whose_user_is_not_there_is_not_read_anonymously() {
        let refused = failure(Some(&TWO.replace("name: u,", "name: other,")), None).await;
        assert!(refused.contains("no user `u`") && refused.contains("other"), "{refused}");
        let anonymous = TWO.replace(", user: u}}, {name: b", "}}, {name: b");
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config.yaml");
        std::fs::write(&path, anonymous).unwrap();
        assert!(load(&ConfigSource::Kubeconfig { path, context: None }).await.is_ok(), "it names none");
    }

    #[test]
    fn z_08_proxies_of_the_environment_are_of_no_interest() {
        let this = std::env::current_exe().unwrap();
        let test = "ingest::kubeconfig::own::tests::the_current_context_is_used_unless_one_is_named";
        let run = std::process::Command::new(this)
            .args([test, "--exact"])
            .env("HTTPS_PROXY", "no proxy: at all")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&run.stdout);
        assert!(run.status.success() && said.contains("1 passed"), "{said}");
    }
}
