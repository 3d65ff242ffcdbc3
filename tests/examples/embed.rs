//! Feeds a registry by hand and serves it to Envoys: `cargo run --example embed [ADDRESS]`.

use std::net::SocketAddr;
use std::sync::Arc;

use tombolo::app::Server;
use tombolo::model::{ClusterRole, Endpoint, EndpointShard, Health, NetworkGateway, PortProtocol, Service};
use tombolo::model::{ServiceKey, ServicePort, TlsMode, Transport, Workload};
use tombolo::registry::Registry;

/// `hello.demo:80` in a cluster on a network of its own: one endpoint at `address`.
fn share(cluster: &str, network: &str, address: &str) -> (ServiceKey, EndpointShard) {
    let key = ServiceKey::new("demo", "hello.demo.svc.cluster.local");
    let (number, transport, protocol) = (80, Transport::Tcp, PortProtocol::Http);
    let port = ServicePort {
        number,
        name: "http".into(),
        transport,
        protocol,
    };
    let vips = vec![(cluster.into(), vec!["240.0.0.1".parse().expect("an address")])];
    let service = Service {
        key: key.clone(),
        ports: vec![port],
        vips,
        ..Service::default()
    };
    let addresses = vec![address.parse().expect("an address")];
    let (cluster, network) = (cluster.into(), network.into());
    let tls_mode = TlsMode::Istio;
    let workload = Workload {
        cluster,
        network,
        addresses: addresses.clone(),
        tls_mode,
        ..Workload::default()
    };
    let cluster = workload.cluster.clone();
    let (health, workload) = (Health::Healthy, Arc::new(workload));
    let endpoint = Endpoint {
        addresses,
        port: 8080,
        port_name: "http".into(),
        health,
        weight: None,
        workload,
    };
    (
        key,
        EndpointShard::new(cluster, Some(Arc::new(service)), vec![endpoint]),
    )
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let address: SocketAddr = std::env::args()
        .nth(1)
        .unwrap_or("127.0.0.1:15010".into())
        .parse()?;
    let registry = Registry::new();
    let mut writers = Vec::new();
    for (cluster, network, pod) in [("east", "net-east", "10.0.0.1"), ("west", "net-west", "10.0.0.1")] {
        let mut writer = registry.writer(cluster.into(), ClusterRole::Remote)?;
        let entrance = if cluster == "east" {
            "192.0.2.1"
        } else {
            "192.0.2.2"
        }
        .parse()?;
        let (network, cluster) = (network.into(), cluster.into());
        let gateway = NetworkGateway {
            network,
            cluster,
            address: entrance,
            port: 15443,
            hbone_port: 0,
        };
        let (key, shard) = share(&gateway.cluster, &gateway.network, pod);
        writer.set_networks(Some(gateway.network.clone()), vec![gateway]);
        writer.set(key, shard);
        writers.push(writer);
    }
    let bound = Server::builder()
        .registry(registry)
        .grpc_addr(address)
        .bind()
        .await?;
    let address = bound.addresses().grpc.expect("asked for above");
    println!("xDS on {address}: point an Envoy's ADS at it, node.metadata CLUSTER_ID east, NETWORK net-east");
    Ok(bound.run(async { drop(tokio::signal::ctrl_c().await) }).await?)
}
