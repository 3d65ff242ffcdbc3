//! Discovery of assignments by a service of its own.

use std::net::SocketAddr;

use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use prost::Message as _;
use tokio::sync::mpsc;
use tombolo::proto::discovery as wire;

use crate::client::{DEADLINE, SILENCE};

/// Envoy's own messages.
mod peer {
    pub(super) use envoy_types::pb::envoy::config::core::v3::Node;
    pub(super) use envoy_types::pb::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
}

/// One state-of-the-world stream of the service that serves assignments alone.
pub struct EdsStream {
    requests: mpsc::Sender<peer::DiscoveryRequest>,
    responses: tonic::Streaming<peer::DiscoveryResponse>,
    node: Option<peer::Node>,
}

impl EdsStream {
    pub async fn open(address: SocketAddr, node: wire::Node) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let mut client =
            EndpointDiscoveryServiceClient::connect(format!("http://{address}")).await.expect("connects");
        let responses = client.stream_endpoints(stream).await.expect("stream opens").into_inner();
        let node = peer::Node::decode(node.encode_to_vec().as_slice()).expect("the same message");
        Self { requests, responses, node: Some(node) }
    }

    async fn request(&mut self, request: peer::DiscoveryRequest) {
        let request = peer::DiscoveryRequest { node: self.node.take(), ..request };
        self.requests.send(request).await.expect("stream is open");
    }

    pub async fn send(&mut self, type_url: &str, names: &[&str]) {
        let resource_names = names.iter().map(|name| (*name).to_owned()).collect();
        let type_url = type_url.to_owned();
        self.request(peer::DiscoveryRequest { type_url, resource_names, ..Default::default() }).await;
    }

    pub async fn ack(&mut self, response: &wire::DiscoveryResponse, names: &[&str]) {
        self.request(peer::DiscoveryRequest {
            type_url: response.type_url.clone(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: response.nonce.clone(),
            version_info: response.version_info.clone(),
            ..Default::default()
        })
        .await;
    }

    pub async fn next(&mut self) -> Result<wire::DiscoveryResponse, tonic::Status> {
        let message =
            tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("an answer in time")?;
        let message = message.ok_or_else(|| tonic::Status::ok("stream ended"))?;
        Ok(wire::DiscoveryResponse::decode(message.encode_to_vec().as_slice()).expect("the same message"))
    }

    pub async fn silent(&mut self) {
        let message = tokio::time::timeout(SILENCE, self.responses.message()).await;
        assert!(message.is_err(), "expected silence, got {message:?}");
    }
}
