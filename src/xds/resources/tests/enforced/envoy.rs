//! One Envoy over resources that were made for it, with secrets written into them.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use envoy_types::pb::envoy::config::bootstrap::v3::{Bootstrap, bootstrap};
use envoy_types::pb::envoy::config::cluster::v3::Cluster;
use envoy_types::pb::envoy::config::core::v3::{
    DataSource, address, data_source, socket_address, transport_socket,
};
use envoy_types::pb::envoy::config::listener::v3::Listener;
use envoy_types::pb::envoy::extensions::transport_sockets::tls::v3 as tls;
use envoy_types::util::pack_any;
use prost::Message;

use super::super::fixtures::{decode, unpack};
use crate::model::SpiffeId;
use crate::trust::{Authority, Issued, plant};
use crate::xds::resources::InboundResources;

/// `$ENVOY`, else that of `make envoy`.
pub(in super::super) fn program() -> Option<PathBuf> {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/envoy-1.40.0");
    let named = std::env::var_os("ENVOY").map(PathBuf::from).unwrap_or(installed);
    if named.exists() {
        return Some(named);
    }
    assert!(std::env::var_os("CI").is_none(), "CI needs an Envoy: run `make envoy` and set ENVOY");
    println!("SKIPPED: no Envoy: run `make envoy`, or set ENVOY");
    None
}

/// A CA for one test.
pub(in super::super) struct Trust(Authority);

impl Trust {
    pub(in super::super) fn plant() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = plant(dir.path(), &["east"], SystemTime::now()).expect("planted");
        Self(Authority::load(&dirs[0], SystemTime::now()).expect("a CA"))
    }

    pub(in super::super) fn issue(&self, principal: &str) -> Issued {
        let id = SpiffeId::parse(&format!("spiffe://{principal}")).expect("an id");
        self.0.issue(&id, Duration::from_secs(3600), SystemTime::now()).expect("issued")
    }

    pub(in super::super) fn roots(&self) -> String {
        String::from_utf8_lossy(&self.0.root_pem()).into_owned()
    }

    /// The same context of `principal` with the secrets it asks for.
    pub(in super::super) fn put_secrets(&self, common: Option<&mut tls::CommonTlsContext>, principal: &str) {
        use tls::common_tls_context::ValidationContextType;
        let common = common.expect("common");
        common.tls_certificate_sds_secret_configs.clear();
        let issued = self.issue(principal);
        common.tls_certificates = vec![tls::TlsCertificate {
            certificate_chain: inline(&issued.chain_pem),
            private_key: inline(issued.key_pem.reveal()),
            ..Default::default()
        }];
        let Some(ValidationContextType::CombinedValidationContext(combined)) =
            common.validation_context_type.take()
        else {
            panic!("no combined context");
        };
        let mut validation = combined.default_validation_context.expect("matchers");
        validation.trusted_ca = inline(&self.roots());
        common.validation_context_type = Some(ValidationContextType::ValidationContext(validation));
    }
}

fn inline(text: &str) -> Option<DataSource> {
    let specifier = Some(data_source::Specifier::InlineString(text.to_owned()));
    Some(DataSource { specifier, ..Default::default() })
}

/// A running Envoy; it ends with this value.
pub(in super::super) struct Envoy {
    child: Child,
    dir: tempfile::TempDir,
}

impl Envoy {
    /// Runs over everything that was made, and waits until each listener is open.
    pub(super) fn start(program: &Path, made: impl Iterator<Item = InboundResources>, trust: &Trust) -> Self {
        let (mut clusters, mut listeners) = (BTreeMap::new(), Vec::new());
        for resources in made {
            let all = resources
                .clusters
                .iter()
                .map(|entry| (entry.name.clone(), decode::<Cluster>(&entry.encoded)));
            clusters.extend(all);
            listeners.extend(resources.listeners.iter().map(|entry| decode::<Listener>(&entry.encoded)));
        }
        let sockets = listeners.iter_mut().flat_map(|listener| &mut listener.filter_chains);
        for socket in sockets.filter_map(|chain| chain.transport_socket.as_mut()) {
            let Some(transport_socket::ConfigType::TypedConfig(any)) = &mut socket.config_type else {
                panic!("no config");
            };
            let mut context: tls::DownstreamTlsContext = unpack(any);
            trust.put_secrets(context.common_tls_context.as_mut(), "mesh.org/ns/sample/sa/server");
            *any = pack_any(context);
        }
        let addresses: Vec<SocketAddr> = listeners.iter().map(socket_address).collect();
        let bootstrap = Bootstrap {
            static_resources: Some(bootstrap::StaticResources {
                listeners,
                clusters: clusters.into_values().collect(),
                ..Default::default()
            }),
            ..Default::default()
        };
        Self::run(program, "bootstrap.pb", &bootstrap.encode_to_vec(), &addresses)
    }

    /// Runs over a bootstrap in a file of this name, and waits until these addresses are open.
    pub(in super::super) fn run(
        program: &Path,
        file: &str,
        bootstrap: &[u8],
        addresses: &[SocketAddr],
    ) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let config = dir.path().join(file);
        std::fs::write(&config, bootstrap).expect("written");
        let log = std::fs::File::create(dir.path().join("log")).expect("a log");
        let child = Command::new(program)
            .args(["--concurrency", "1", "--use-dynamic-base-id", "--log-level", "warning", "--config-path"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("Envoy starts");
        let mut envoy = Self { child, dir };
        envoy.wait(addresses);
        envoy
    }

    fn wait(&mut self, addresses: &[SocketAddr]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        for address in addresses {
            while TcpStream::connect(address).is_err() {
                let ended = self.child.try_wait().expect("asked");
                assert!(ended.is_none(), "Envoy ended: {ended:?}\n{}", self.log());
                assert!(Instant::now() < deadline, "{address} does not open\n{}", self.log());
                std::thread::sleep(Duration::from_millis(20));
            }
        }
    }

    /// What it has said.
    pub(in super::super) fn log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket_address(listener: &Listener) -> SocketAddr {
    let Some(address::Address::SocketAddress(socket)) =
        listener.address.as_ref().and_then(|one| one.address.as_ref())
    else {
        panic!("no socket address");
    };
    let Some(socket_address::PortSpecifier::PortValue(port)) = socket.port_specifier else {
        panic!("no port");
    };
    let ip: IpAddr = socket.address.parse().expect("an address");
    SocketAddr::new(ip, port as u16)
}
