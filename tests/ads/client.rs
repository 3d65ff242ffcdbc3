//! A raw ADS client that hides nothing: it never acknowledges by itself.

use std::net::SocketAddr;
use std::time::Duration;

use prost::Message;
use tokio::sync::mpsc;
use tombolo::proto::discovery as wire;
use tombolo::xds::resource::ResourceType;
use wire::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;

/// How long an expected answer may take.
pub const DEADLINE: Duration = Duration::from_secs(5);
/// How long silence is watched.
pub const SILENCE: Duration = Duration::from_secs(1);

/// A node with metadata.
pub fn node(id: &str, metadata: &[(&str, &str)]) -> wire::Node {
    let text = |value: &str| prost_types::Value {
        kind: Some(prost_types::value::Kind::StringValue(value.to_owned())),
    };
    let fields = metadata.iter().map(|(key, value)| ((*key).to_owned(), text(value))).collect();
    wire::Node {
        id: id.to_owned(),
        cluster: "test".to_owned(),
        metadata: Some(prost_types::Struct { fields }),
        ..wire::Node::default()
    }
}

/// A sidecar `name.sample` in `cluster` on `network`.
pub fn sidecar(name: &str, cluster: &str, network: &str) -> wire::Node {
    node(
        &format!("sidecar~10.0.0.9~{name}.sample~sample.svc.cluster.local"),
        &[("CLUSTER_ID", cluster), ("NETWORK", network), ("NAMESPACE", "sample")],
    )
}

async fn connect(address: SocketAddr) -> AggregatedDiscoveryServiceClient<tonic::transport::Channel> {
    AggregatedDiscoveryServiceClient::connect(format!("http://{address}")).await.expect("connects")
}

/// One delta stream.
pub struct Delta {
    requests: mpsc::Sender<wire::DeltaDiscoveryRequest>,
    responses: tonic::Streaming<wire::DeltaDiscoveryResponse>,
    node: Option<wire::Node>,
}

/// A delta response in comparable form.
#[derive(Clone, Debug)]
pub struct DeltaResponse {
    pub type_url: String,
    pub nonce: String,
    /// Name, version and message bytes.
    pub resources: Vec<(String, String, Vec<u8>)>,
    pub removed: Vec<String>,
}

impl DeltaResponse {
    pub fn names(&self) -> Vec<&str> {
        self.resources.iter().map(|(name, ..)| name.as_str()).collect()
    }
}

impl Delta {
    pub async fn open(address: SocketAddr, node: wire::Node) -> Self {
        Self::try_open(address, node).await.expect("stream opens")
    }

    /// A stream, unless the server refuses it.
    pub async fn try_open(address: SocketAddr, node: wire::Node) -> Result<Self, tonic::Status> {
        Self::on(connect(address).await, node).await
    }

    /// A stream on a connection.
    pub async fn on(
        mut client: AggregatedDiscoveryServiceClient<tonic::transport::Channel>,
        node: wire::Node,
    ) -> Result<Self, tonic::Status> {
        let (requests, receiver) = mpsc::channel(16);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let responses = client.delta_aggregated_resources(stream).await?;
        Ok(Self { requests, responses: responses.into_inner(), node: Some(node) })
    }

    pub async fn send(&mut self, request: wire::DeltaDiscoveryRequest) {
        self.try_send(request).await.expect("stream is open");
    }

    /// Sends a request, unless the stream has ended.
    pub async fn try_send(&mut self, request: wire::DeltaDiscoveryRequest) -> Result<(), &'static str> {
        let request = wire::DeltaDiscoveryRequest { node: self.node.take(), ..request };
        self.requests.send(request).await.map_err(|_| "the stream has ended")
    }

    pub async fn subscribe(&mut self, kind: ResourceType, names: &[&str]) {
        self.send(wire::DeltaDiscoveryRequest {
            type_url: kind.url().to_owned(),
            resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
            ..wire::DeltaDiscoveryRequest::default()
        })
        .await;
    }

    pub async fn ack(&mut self, response: &DeltaResponse) {
        self.send(wire::DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            ..wire::DeltaDiscoveryRequest::default()
        })
        .await;
    }

    pub async fn nack(&mut self, response: &DeltaResponse, why: &str) {
        self.send(wire::DeltaDiscoveryRequest {
            type_url: response.type_url.clone(),
            response_nonce: response.nonce.clone(),
            error_detail: Some(wire::Status { code: 3, message: why.to_owned() }),
            ..wire::DeltaDiscoveryRequest::default()
        })
        .await;
    }

    /// The next response, of whatever type.
    pub async fn next(&mut self) -> Result<DeltaResponse, tonic::Status> {
        self.next_within(DEADLINE).await
    }

    /// The next response, which may take so long.
    pub async fn next_within(&mut self, deadline: Duration) -> Result<DeltaResponse, tonic::Status> {
        let message =
            tokio::time::timeout(deadline, self.responses.message()).await.expect("an answer in time")?;
        let message = message.ok_or_else(|| tonic::Status::ok("stream ended"))?;
        let resource = |bytes: &bytes::Bytes| {
            let resource = envoy_types::pb::envoy::service::discovery::v3::Resource::decode(bytes.clone())
                .expect("a resource");
            let any = resource.resource.expect("an any");
            assert_eq!(any.type_url, message.type_url, "X-C19");
            (resource.name, resource.version, any.value)
        };
        let resources = message.resources.iter().map(resource).collect();
        Ok(DeltaResponse {
            resources,
            type_url: message.type_url.clone(),
            nonce: message.nonce,
            removed: message.removed_resources,
        })
    }

    /// The next response, which must be of `kind`; acknowledged.
    pub async fn expect(&mut self, kind: ResourceType) -> DeltaResponse {
        let response = self.next().await.expect("a response");
        assert_eq!(response.type_url, kind.url());
        self.ack(&response).await;
        response
    }

    /// Nothing arrives for the silence window.
    pub async fn silent(&mut self) {
        let message = tokio::time::timeout(SILENCE, self.responses.message()).await;
        assert!(message.is_err(), "expected silence, got {message:?}");
    }
}

/// One state-of-the-world stream.
pub struct Sotw {
    requests: mpsc::Sender<wire::DiscoveryRequest>,
    responses: tonic::Streaming<wire::DiscoveryResponse>,
    node: Option<wire::Node>,
}

impl Sotw {
    pub async fn open(address: SocketAddr, node: wire::Node) -> Self {
        let (requests, receiver) = mpsc::channel(16);
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        let responses =
            connect(address).await.stream_aggregated_resources(stream).await.expect("stream opens");
        Self { requests, responses: responses.into_inner(), node: Some(node) }
    }

    pub async fn send(
        &mut self,
        kind: ResourceType,
        names: &[&str],
        answering: Option<&wire::DiscoveryResponse>,
    ) {
        let request = wire::DiscoveryRequest {
            node: self.node.take(),
            type_url: kind.url().to_owned(),
            resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
            response_nonce: answering.map(|response| response.nonce.clone()).unwrap_or_default(),
            version_info: answering.map(|response| response.version_info.clone()).unwrap_or_default(),
            ..wire::DiscoveryRequest::default()
        };
        self.requests.send(request).await.expect("stream is open");
    }

    pub async fn next(&mut self) -> Result<wire::DiscoveryResponse, tonic::Status> {
        let message =
            tokio::time::timeout(DEADLINE, self.responses.message()).await.expect("an answer in time")?;
        message.ok_or_else(|| tonic::Status::ok("stream ended"))
    }

    pub async fn silent(&mut self) {
        let message = tokio::time::timeout(SILENCE, self.responses.message()).await;
        assert!(message.is_err(), "expected silence, got {message:?}");
    }
}

/// The message bytes of a state-of-the-world resource.
pub fn value(resource: &bytes::Bytes) -> Vec<u8> {
    envoy_types::pb::google::protobuf::Any::decode(resource.clone()).expect("an any").value
}
