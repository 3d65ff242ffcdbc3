//! An ADS client: asks any server for one type as a proxy would, once.

mod json;

use std::collections::BTreeMap;
use std::time::Duration;

use envoy_types::pb::google::protobuf::Any;
use prost::Message as _;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Endpoint;

use super::resource::ResourceType;
use crate::proto::discovery::aggregated_discovery_service_client::AggregatedDiscoveryServiceClient;
use crate::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Node};

pub use json::{DecodeError, Decoder};

/// The largest answer that is read, in bytes.
const SIZE_LIMIT: usize = 256 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// *Fatal*: nobody answers there.
    #[error(
        "cannot reach the ADS server {address}: {problem}; --xds names the --grpc-addr of a running server"
    )]
    Unreachable {
        /// Where.
        address: String,
        /// Why.
        problem: String,
    },
    /// *Fatal*: the server refuses the stream.
    #[error("the ADS server {address} refuses: {code:?}: {message}")]
    Refused {
        /// Where.
        address: String,
        /// gRPC's word.
        code: tonic::Code,
        /// What the server says.
        message: String,
    },
    /// *Fatal*: the server is silent: it may not know the type or the names.
    #[error("the ADS server {address} sent no {kind} within {limit:?}; it may not know these names")]
    Silent {
        /// Where.
        address: String,
        /// What was asked for.
        kind: ResourceType,
        /// How long.
        limit: Duration,
    },
    /// *Fatal*: what came is no answer.
    #[error("the ADS server {address} sent what is no resource: {0}", address = .1)]
    Odd(prost::DecodeError, String),
}

/// Which protocol is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// State of the world.
    Sotw,
    /// Delta.
    Delta,
}

/// Who asks whom, and how.
#[derive(Clone, Debug)]
pub struct Asker {
    /// `host:port` of the server.
    pub address: String,
    /// The node of the first request.
    pub node: Node,
    /// The protocol.
    pub protocol: Protocol,
    /// How long an answer may take.
    pub limit: Duration,
}

/// The first answer for one type.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The version of the response.
    pub version: String,
    /// Resources as packed; by name where the protocol says names.
    pub resources: Vec<Any>,
    /// Names that do not exist; delta only.
    pub removed: Vec<String>,
}

impl Asker {
    /// Asks for `names` of `kind` (none: everything) and returns the first response.
    ///
    /// # Errors
    /// [`FetchError`].
    pub async fn fetch(&self, kind: ResourceType, names: Vec<String>) -> Result<Answer, FetchError> {
        let asked = async {
            match self.protocol {
                Protocol::Sotw => self.sotw(kind, names).await,
                Protocol::Delta => self.delta(kind, names).await,
            }
        };
        match tokio::time::timeout(self.limit, asked).await {
            Ok(answer) => answer,
            Err(_) => Err(self.silent(kind)),
        }
    }

    async fn connect(
        &self,
    ) -> Result<AggregatedDiscoveryServiceClient<tonic::transport::Channel>, FetchError> {
        let unreachable = |error: &dyn std::error::Error| {
            let mut cause = error;
            while let Some(inner) = cause.source() {
                cause = inner;
            }
            FetchError::Unreachable { address: self.address.clone(), problem: cause.to_string() }
        };
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address));
        let channel = endpoint.map_err(|error| unreachable(&error))?.connect().await;
        let channel = channel.map_err(|error| unreachable(&error))?;
        Ok(AggregatedDiscoveryServiceClient::new(channel).max_decoding_message_size(SIZE_LIMIT))
    }

    async fn sotw(&self, kind: ResourceType, names: Vec<String>) -> Result<Answer, FetchError> {
        let request = DiscoveryRequest {
            node: Some(self.node.clone()),
            resource_names: names,
            type_url: kind.url().to_owned(),
            ..DiscoveryRequest::default()
        };
        let mut client = self.connect().await?;
        // The sender stays: closing our side would end the stream before the answer.
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        // Room for one: it cannot fail while the receiver is held here.
        let _ = sender.try_send(request);
        let opened = client.stream_aggregated_resources(ReceiverStream::new(requests)).await;
        let mut responses = opened.map_err(|status| self.refused(&status))?.into_inner();
        while let Some(response) = responses.message().await.map_err(|status| self.refused(&status))? {
            if response.type_url == kind.url() {
                let resources = response.resources.iter().map(|bytes| Any::decode(bytes.as_ref()));
                return Ok(Answer {
                    version: response.version_info,
                    resources: resources.collect::<Result<_, _>>().map_err(|error| self.odd(error))?,
                    removed: Vec::new(),
                });
            }
        }
        Err(self.silent(kind))
    }

    async fn delta(&self, kind: ResourceType, names: Vec<String>) -> Result<Answer, FetchError> {
        use envoy_types::pb::envoy::service::discovery::v3::Resource;
        let request = DeltaDiscoveryRequest {
            node: Some(self.node.clone()),
            resource_names_subscribe: names,
            type_url: kind.url().to_owned(),
            ..DeltaDiscoveryRequest::default()
        };
        let mut client = self.connect().await?;
        let (sender, requests) = tokio::sync::mpsc::channel(1);
        // As above.
        let _ = sender.try_send(request);
        let opened = client.delta_aggregated_resources(ReceiverStream::new(requests)).await;
        let mut responses = opened.map_err(|status| self.refused(&status))?.into_inner();
        while let Some(response) = responses.message().await.map_err(|status| self.refused(&status))? {
            if response.type_url == kind.url() {
                let resources = response.resources.iter().map(|bytes| Resource::decode(bytes.as_ref()));
                let resources: Vec<Resource> =
                    resources.collect::<Result<_, _>>().map_err(|error| self.odd(error))?;
                return Ok(Answer {
                    version: response.system_version_info,
                    resources: resources.into_iter().filter_map(|resource| resource.resource).collect(),
                    removed: response.removed_resources,
                });
            }
        }
        Err(self.silent(kind))
    }

    fn silent(&self, kind: ResourceType) -> FetchError {
        FetchError::Silent { address: self.address.clone(), kind, limit: self.limit }
    }

    fn refused(&self, status: &tonic::Status) -> FetchError {
        let message = match status.message() {
            // The letters of an answer in HTTP/1.1 are taken for a frame.
            text if text.contains("compression flag") => {
                "what answers there does not speak gRPC; --xds names the --grpc-addr of a server"
            }
            text => text,
        };
        FetchError::Refused {
            address: self.address.clone(),
            code: status.code(),
            message: message.to_owned(),
        }
    }

    fn odd(&self, error: prost::DecodeError) -> FetchError {
        FetchError::Odd(error, self.address.clone())
    }
}

/// A node out of its id and JSON metadata.
pub fn node(id: &str, cluster: &str, metadata: &serde_json::Map<String, serde_json::Value>) -> Node {
    Node {
        id: id.to_owned(),
        cluster: cluster.to_owned(),
        metadata: Some(structure(metadata)),
        ..Node::default()
    }
}

fn structure(map: &serde_json::Map<String, serde_json::Value>) -> prost_types::Struct {
    let fields: BTreeMap<_, _> = map.iter().map(|(key, json)| (key.clone(), value(json))).collect();
    prost_types::Struct { fields }
}

fn value(json: &serde_json::Value) -> prost_types::Value {
    use prost_types::value::Kind;
    use serde_json::Value;
    let kind = match json {
        Value::Null => Kind::NullValue(0),
        Value::Bool(flag) => Kind::BoolValue(*flag),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(items) => {
            Kind::ListValue(prost_types::ListValue { values: items.iter().map(value).collect() })
        }
        Value::Object(map) => Kind::StructValue(structure(map)),
    };
    prost_types::Value { kind: Some(kind) }
}
