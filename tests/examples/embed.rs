//! Feeds a registry by hand and serves it to Envoys: `cargo run --example embed [ADDRESS]`.
#![allow(clippy::print_stdout)]

use std::net::SocketAddr;
use std::sync::Arc;

use tombolo::app::Server;
use tombolo::model::{self, ClusterId, ClusterRole, EndpointShard, NetworkGateway, NetworkId, ServiceKey};
use tombolo::registry::Registry;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let wanted = std::env::args().nth(1).unwrap_or("127.0.0.1:15010".into());
    let registry = Registry::new();
    let key = ServiceKey::new("demo", "hello.demo.svc.cluster.local");
    // Both networks use the same pod address; what is beyond a gateway is reached through it.
    for (name, gateway) in [("east", "192.0.2.1"), ("west", "192.0.2.2")] {
        let (cluster, network) = (ClusterId::from(name), NetworkId::from(format!("net-{name}")));
        let port = model::ServicePort {
            number: 8000,
            name: "http".into(),
            transport: model::Transport::Tcp,
            protocol: model::PortProtocol::Http,
        };
        let service = model::Service { key: key.clone(), ports: vec![port], ..Default::default() };
        let mut pod = model::WorkloadParts::default();
        (pod.cluster, pod.network) = (cluster.clone(), network.clone());
        pod.tls_mode = model::TlsMode::Istio;
        let pod = model::Endpoint::new("10.0.0.1".parse()?, 8080, "http", pod);
        let entrance = NetworkGateway::new(network.clone(), cluster.clone(), gateway.parse()?);
        let mut writer = registry.writer(cluster.clone(), ClusterRole::Remote)?;
        writer.set_networks(Some(network), vec![entrance]);
        writer.set(key.clone(), EndpointShard::new(cluster, Some(Arc::new(service)), vec![pod]));
    }
    let address: SocketAddr = wanted.parse()?;
    let server = Server::builder().registry(registry).grpc_addr(address);
    let bound = server.bind().await?;
    let grpc = bound.addresses().grpc.ok_or("xDS is not served")?;
    println!("point an Envoy's ADS at {grpc}, with node metadata");
    println!("CLUSTER_ID: east, NETWORK: net-east; it gets 10.0.0.1:8080 and 192.0.2.2:15443");
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    bound.run(stop).await;
    Ok(())
}
