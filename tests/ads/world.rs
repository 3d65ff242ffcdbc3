//! A registry fed by hand, and a server of it on a random port.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use prost::Message;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tombolo::model::{
    ClusterRole, Endpoint, EndpointShard, NetworkGateway, PortProtocol, Service, ServiceKey, ServicePort,
    TlsMode, Transport, WorkloadParts,
};
use tombolo::registry::{ClusterWriter, Registry};
use tombolo::trust::SecretSource;
use tombolo::xds::{Certificates, Listener, Settings, XdsServer};

pub struct World {
    pub registry: Arc<Registry>,
    pub server: Arc<XdsServer>,
    pub address: SocketAddr,
    pub east: ClusterWriter,
    pub west: ClusterWriter,
    pub shutdown: CancellationToken,
    pub ready: watch::Sender<bool>,
    pub running: tokio::task::JoinHandle<()>,
}

pub fn host(service: usize) -> String {
    format!("s{service}.sample.svc.cluster.local")
}

pub fn eds(service: usize) -> String {
    format!("outbound|80||{}", host(service))
}

pub fn key(service: usize) -> ServiceKey {
    ServiceKey::new("sample", host(service))
}

pub fn shard(cluster: &str, service: usize, endpoints: usize) -> EndpointShard {
    let port = ServicePort {
        number: 80,
        name: "http".into(),
        transport: Transport::Tcp,
        protocol: PortProtocol::Http,
    };
    let vip = IpAddr::V4(Ipv4Addr::from(0x0a60_0000 + service as u32));
    let record = Service {
        key: key(service),
        ports: vec![port],
        vips: vec![(cluster.into(), vec![vip])],
        ..Service::default()
    };
    let endpoint = |index: usize| {
        let address = IpAddr::V4(Ipv4Addr::from(0x0a0a_0000 + index as u32 + 1));
        let workload = WorkloadParts {
            cluster: cluster.into(),
            namespace: "sample".into(),
            name: format!("s{service}-{index}").into(),
            addresses: address.into(),
            network: format!("net-{cluster}").as_str().into(),
            tls_mode: TlsMode::Istio,
            ..WorkloadParts::default()
        };
        Endpoint::new(address, 8080, "http", workload)
    };
    EndpointShard::new(cluster.into(), Some(Arc::new(record)), (0..endpoints).map(endpoint).collect())
}

pub fn gateway(address: &str) -> NetworkGateway {
    NetworkGateway {
        network: "net-west".into(),
        cluster: "west".into(),
        address: address.parse().expect("address"),
        port: 15443,
        hbone_port: 0,
    }
}

impl World {
    /// `services` services, each with one endpoint in east and one in west, served and ready.
    pub async fn start(services: usize) -> Self {
        Self::start_with(services, Settings::default(), None).await
    }

    pub async fn start_with(
        services: usize,
        settings: Settings,
        secrets: Option<Arc<dyn SecretSource>>,
    ) -> Self {
        Self::start_on(services, settings, secrets, None).await
    }

    /// With `certificates` over TLS.
    pub async fn start_on(
        services: usize,
        settings: Settings,
        secrets: Option<Arc<dyn SecretSource>>,
        certificates: Option<Arc<Certificates>>,
    ) -> Self {
        let registry = Registry::new();
        let mut east = registry.writer("east".into(), ClusterRole::Config).expect("first writer");
        let mut west = registry.writer("west".into(), ClusterRole::Remote).expect("first writer");
        east.set_networks(Some("net-east".into()), Vec::new());
        west.set_networks(Some("net-west".into()), vec![gateway("172.30.0.2")]);
        for service in 0..services {
            east.set(key(service), shard("east", service, 1));
            west.set(key(service), shard("west", service, 1));
        }
        let server = XdsServer::new(Arc::clone(&registry), settings, secrets);
        let listener = tombolo::xds::listen(([127, 0, 0, 1], 0).into()).expect("a free port");
        let address = listener.local_addr().expect("bound");
        let (ready, is_ready) = watch::channel(true);
        let shutdown = CancellationToken::new();
        let (serving, token) = (Arc::clone(&server), shutdown.clone());
        let running = tokio::spawn(async move {
            serving.serve(vec![Listener { tcp: listener, certificates }], is_ready, token).await
        });
        Self { registry, server, address, east, west, shutdown, ready, running }
    }

    pub async fn stop(self) {
        self.shutdown.cancel();
        tokio::time::timeout(super::client::DEADLINE, self.running)
            .await
            .expect("ends in time")
            .expect("ends well");
    }
}

/// `address:port*weight` of an assignment.
pub fn endpoints(message: &[u8]) -> Vec<String> {
    let assignment =
        tombolo::proto::assignment::ClusterLoadAssignment::decode(message).expect("an assignment");
    let all = assignment.endpoints.into_iter().flat_map(|group| group.lb_endpoints);
    all.map(|endpoint| {
        let weight = endpoint.load_balancing_weight.expect("weight").value;
        let socket = endpoint.endpoint.and_then(|e| e.address).and_then(|a| a.address);
        let Some(tombolo::proto::assignment::address::Address::SocketAddress(socket)) = socket else {
            panic!("a socket address: {socket:?}");
        };
        format!("{}:{}*{weight}", socket.address, socket.port_value)
    })
    .collect()
}
