//! A raw client of both protocols: bytes in and out, nothing acknowledged by itself, every rule that holds for any
//! response checked on each.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf as _, BufMut as _, Bytes};
use envoy_types::pb::envoy::service::discovery::v3::Resource as WireResource;
use envoy_types::pb::google::protobuf::Any;
use http::uri::PathAndQuery;
use prost::Message;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tombolo::proto::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse, Node, Status,
};
use tombolo::xds::resource::ResourceType;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::transport::{Channel, Endpoint};

pub use crate::nodes::{SILENCE, node, sidecar};

/// How long an expected answer may take, on a slow machine.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// The two forms of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Sotw,
    Delta,
}
pub use Protocol::{Delta, Sotw};

/// Both.
pub const BOTH: [Protocol; 2] = [Sotw, Delta];

impl Protocol {
    /// The method of aggregated discovery.
    pub fn ads(self) -> &'static str {
        match self {
            Sotw => "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
            Delta => "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        }
    }

    /// The method of assignments alone.
    pub fn eds(self) -> &'static str {
        match self {
            Sotw => "/envoy.service.endpoint.v3.EndpointDiscoveryService/StreamEndpoints",
            Delta => "/envoy.service.endpoint.v3.EndpointDiscoveryService/DeltaEndpoints",
        }
    }
}

/// Messages as their bytes.
#[derive(Clone, Copy, Debug, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn encode(&mut self, item: Bytes, into: &mut EncodeBuf<'_>) -> Result<(), tonic::Status> {
        into.put(item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Bytes;
    type Error = tonic::Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, tonic::Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}

/// One resource of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    pub name: String,
    /// Delta only.
    pub version: String,
    pub value: Vec<u8>,
}

/// One response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Told {
    pub url: String,
    pub nonce: String,
    /// Of the response; without a meaning in delta (X-D24).
    pub version: String,
    pub resources: Vec<Resource>,
    pub removed: Vec<String>,
    /// Of the message.
    pub bytes: usize,
}

impl Told {
    /// The names of the resources, sorted.
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<_> = self.resources.iter().map(|resource| resource.name.as_str()).collect();
        names.sort_unstable();
        names
    }

    pub fn has(&self, name: &str) -> bool {
        self.resources.iter().any(|resource| resource.name == name)
    }

    /// The message of a resource.
    pub fn value(&self, name: &str) -> &[u8] {
        let found = self.resources.iter().find(|resource| resource.name == name);
        &found.unwrap_or_else(|| panic!("{name} is not in {:?}", self.names())).value
    }

    /// The endpoints of an assignment.
    pub fn endpoints(&self, name: &str) -> Vec<String> {
        super::world::endpoints(self.value(name))
    }

    pub fn is(&self, kind: ResourceType) -> bool {
        self.url == kind.url()
    }

    /// The versions of the resources, as a client reports them on a new stream.
    pub fn versions(&self) -> BTreeMap<String, String> {
        self.resources.iter().map(|resource| (resource.name.clone(), resource.version.clone())).collect()
    }
}

/// The first field of every resource is its name.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// Numbers of the fields that are set.
fn fields(mut message: &[u8]) -> BTreeSet<u32> {
    let mut fields = BTreeSet::new();
    while message.has_remaining() {
        let (field, wire) = prost::encoding::decode_key(&mut message).expect("a key");
        prost::encoding::skip_field(wire, field, &mut message, prost::encoding::DecodeContext::default())
            .expect("a field");
        fields.insert(field);
    }
    fields
}

fn only(message: &[u8], known: &[u32], what: &str) {
    let set = fields(message);
    assert!(set.iter().all(|field| known.contains(field)), "{what} sets {set:?}, not only {known:?}");
}

/// One stream.
pub struct Stream {
    pub protocol: Protocol,
    requests: Option<mpsc::UnboundedSender<Bytes>>,
    responses: tonic::Streaming<Bytes>,
    node: Option<Node>,
    /// Subscribed names by type URL.
    wants: BTreeMap<String, BTreeSet<String>>,
    /// The last nonce by type URL.
    last: BTreeMap<String, String>,
    nonces: BTreeSet<String>,
}

pub fn strings<S: AsRef<str>>(names: &[S]) -> Vec<String> {
    names.iter().map(|name| name.as_ref().to_owned()).collect()
}

/// A connection to the server.
pub async fn connect(address: SocketAddr) -> Channel {
    Endpoint::from_shared(format!("http://{address}")).unwrap().connect().await.expect("connects")
}

/// A connection whose peer may send `window` bytes before we read.
pub async fn connect_narrow(address: SocketAddr, window: u32) -> Channel {
    let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
    endpoint.initial_stream_window_size(window).connect().await.expect("connects")
}

impl Stream {
    /// An aggregated stream on a connection of its own.
    pub async fn open(address: SocketAddr, protocol: Protocol, node: Node) -> Self {
        Self::on(connect(address).await, protocol.ads(), protocol, node).await.expect("stream opens")
    }

    /// A stream of assignments alone.
    pub async fn open_eds(address: SocketAddr, protocol: Protocol, node: Node) -> Self {
        Self::on(connect(address).await, protocol.eds(), protocol, node).await.expect("stream opens")
    }

    /// An aggregated stream whose client lets the server send `window` bytes before it reads.
    pub async fn open_narrow(address: SocketAddr, protocol: Protocol, node: Node, window: u32) -> Self {
        let channel = connect_narrow(address, window).await;
        Self::on(channel, protocol.ads(), protocol, node).await.expect("stream opens")
    }

    /// A stream of any method, unless the server refuses it.
    pub async fn on(
        channel: Channel,
        method: &'static str,
        protocol: Protocol,
        node: Node,
    ) -> Result<Self, tonic::Status> {
        let (requests, receiver) = mpsc::unbounded_channel();
        let mut grpc = tonic::client::Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.map_err(|error| tonic::Status::unavailable(error.to_string()))?;
        let request = tonic::Request::new(UnboundedReceiverStream::new(receiver));
        let answer = grpc.streaming(request, PathAndQuery::from_static(method), Raw).await?;
        Ok(Self {
            protocol,
            requests: Some(requests),
            responses: answer.into_inner(),
            node: Some(node),
            wants: BTreeMap::new(),
            last: BTreeMap::new(),
            nonces: BTreeSet::new(),
        })
    }

    /// No node goes with the first request by itself.
    pub fn forget_node(&mut self) {
        self.node = None;
    }

    /// Ends our side of the stream.
    pub fn half_close(&mut self) {
        self.requests = None;
    }

    /// Sends these bytes as a request.
    pub fn bytes(&self, bytes: impl Into<Bytes>) {
        // A stream that has ended is noticed when its end is read.
        let _ = self.requests.as_ref().expect("not closed").send(bytes.into());
    }

    /// Sends a request of the state of the world as it is, with the node when it is the first.
    pub fn sotw(&mut self, mut request: DiscoveryRequest) {
        assert_eq!(self.protocol, Sotw);
        request.node = request.node.or_else(|| self.node.take());
        let names = request.resource_names.iter().cloned().collect();
        self.wants.insert(request.type_url.clone(), names);
        self.bytes(request.encode_to_vec());
    }

    /// Sends a delta request as it is, with the node when it is the first.
    pub fn delta(&mut self, mut request: DeltaDiscoveryRequest) {
        assert_eq!(self.protocol, Delta);
        request.node = request.node.or_else(|| self.node.take());
        let wants = self.wants.entry(request.type_url.clone()).or_default();
        wants.extend(request.resource_names_subscribe.iter().cloned());
        wants.retain(|name| !request.resource_names_unsubscribe.contains(name));
        self.bytes(request.encode_to_vec());
    }

    /// Subscribes to just these names of a type, as the protocol says it.
    pub fn ask<S: AsRef<str>>(&mut self, kind: ResourceType, names: &[S]) {
        self.ask_url(kind.url(), names);
    }

    /// The same of any type.
    pub fn ask_url<S: AsRef<str>>(&mut self, url: &str, names: &[S]) {
        let nonce = self.last.get(url).cloned().unwrap_or_default();
        let new: BTreeSet<_> = strings(names).into_iter().collect();
        let old = self.wants.get(url).cloned().unwrap_or_default();
        match self.protocol {
            Sotw => self.sotw(DiscoveryRequest {
                type_url: url.to_owned(),
                resource_names: strings(names),
                response_nonce: nonce,
                ..DiscoveryRequest::default()
            }),
            Delta => self.delta(DeltaDiscoveryRequest {
                type_url: url.to_owned(),
                resource_names_subscribe: new.difference(&old).cloned().collect(),
                resource_names_unsubscribe: old.difference(&new).cloned().collect(),
                ..DeltaDiscoveryRequest::default()
            }),
        }
    }

    /// Accepts a response.
    pub fn ack(&mut self, told: &Told) {
        self.answer(told, None);
    }

    /// Rejects a response.
    pub fn nack(&mut self, told: &Told, why: &str) {
        self.answer(told, Some(Status { code: 3, message: why.to_owned() }));
    }

    fn answer(&mut self, told: &Told, error_detail: Option<Status>) {
        let (type_url, response_nonce) = (told.url.clone(), told.nonce.clone());
        match self.protocol {
            Sotw => {
                // Where the method says the type, requests need not.
                let names = self.wants.get(&told.url).or_else(|| self.wants.get("")).into_iter().flatten();
                self.sotw(DiscoveryRequest {
                    type_url,
                    resource_names: names.cloned().collect(),
                    response_nonce,
                    version_info: told.version.clone(),
                    error_detail,
                    ..DiscoveryRequest::default()
                });
            }
            Delta => self.delta(DeltaDiscoveryRequest {
                type_url,
                response_nonce,
                error_detail,
                ..DeltaDiscoveryRequest::default()
            }),
        }
    }

    /// The next response, or the status that ends the stream.
    pub async fn next(&mut self) -> Result<Told, tonic::Status> {
        self.next_within(DEADLINE).await
    }

    pub async fn next_within(&mut self, deadline: Duration) -> Result<Told, tonic::Status> {
        let message =
            tokio::time::timeout(deadline, self.responses.message()).await.expect("an answer in time")?;
        Ok(self.read(&message.ok_or_else(|| tonic::Status::ok("stream ended"))?))
    }

    /// The next response; `None` if none comes for so long.
    pub async fn within(&mut self, time: Duration) -> Option<Told> {
        let message = tokio::time::timeout(time, self.responses.message()).await.ok()?;
        Some(self.read(&message.expect("no error").expect("no end")))
    }

    fn read(&mut self, message: &Bytes) -> Told {
        let told = self.told(message);
        assert!(!told.nonce.is_empty() && self.nonces.insert(told.nonce.clone()), "X-C07, X-D23: {told:?}");
        self.last.insert(told.url.clone(), told.nonce.clone());
        let mut names = told.names();
        names.extend(told.removed.iter().map(String::as_str));
        let all = names.len();
        let distinct: BTreeSet<_> = names.into_iter().collect();
        assert_eq!(distinct.len(), all, "X-C17: a name twice");
        told
    }

    fn told(&self, message: &Bytes) -> Told {
        match self.protocol {
            Sotw => sotw(message),
            Delta => delta(message),
        }
    }

    /// The next response, which must be of `kind`.
    pub async fn expect(&mut self, kind: ResourceType) -> Told {
        let told = self.next().await.expect("a response");
        assert_eq!(told.url, kind.url(), "{:?} rm {:?}", told.names(), told.removed);
        told
    }

    /// The same, accepted.
    pub async fn take(&mut self, kind: ResourceType) -> Told {
        let told = self.expect(kind).await;
        self.ack(&told);
        told
    }

    /// Subscribes, and takes the answer.
    pub async fn start<S: AsRef<str>>(&mut self, kind: ResourceType, names: &[S]) -> Told {
        self.ask(kind, names);
        self.take(kind).await
    }

    /// Takes responses until one is as wished.
    pub async fn until(&mut self, wished: impl Fn(&Told) -> bool) -> Told {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            assert!(tokio::time::Instant::now() < deadline, "not in time");
            let told = self.next().await.expect("a response");
            self.ack(&told);
            if wished(&told) {
                return told;
            }
        }
    }

    /// Takes responses until an assignment has so many endpoints.
    pub async fn until_endpoints(&mut self, name: &str, count: usize) -> Told {
        self.until(|told| {
            told.is(ResourceType::Endpoint) && told.has(name) && told.endpoints(name).len() == count
        })
        .await
    }

    /// Nothing arrives for the silence window.
    pub async fn silent(&mut self) {
        self.silent_for(SILENCE).await;
    }

    /// Nothing arrives for so long.
    pub async fn silent_for(&mut self, time: Duration) {
        let message = tokio::time::timeout(time, self.responses.message()).await;
        if let Ok(told) = message {
            let told = told.map(|message| message.map(|message| self.told(&message)));
            let told = told.map(|told| {
                told.map(|told| {
                    (told.url.clone(), told.nonce.clone(), told.bytes, told.names().join(" "), told.removed)
                })
            });
            panic!("expected silence, got {told:?}");
        }
    }

    /// The status that ends the stream; what comes before it is read away.
    pub async fn end(&mut self) -> tonic::Status {
        loop {
            if let Err(status) = self.next().await {
                return status;
            }
        }
    }
}

fn sotw(message: &Bytes) -> Told {
    // Neither canary, control_plane nor resource_errors (X-C25).
    only(message, &[1, 2, 4, 5], "a response");
    let response = DiscoveryResponse::decode(message.clone()).expect("a response");
    let resource = |bytes: &Bytes| {
        let any = Any::decode(bytes.clone()).expect("an any");
        // Not a `Resource`: no time to live (X-T01).
        assert_eq!(any.type_url, response.type_url, "X-C19");
        let name = Named::decode(any.value.as_slice()).expect("a name").name;
        Resource { name, version: String::new(), value: any.value }
    };
    Told {
        resources: response.resources.iter().map(resource).collect(),
        url: response.type_url,
        nonce: response.nonce,
        version: response.version_info,
        removed: Vec::new(),
        bytes: message.len(),
    }
}

fn delta(message: &Bytes) -> Told {
    // Neither control_plane, removed_resource_names nor resource_errors (X-C25).
    only(message, &[1, 2, 4, 5, 6], "a response");
    let response = DeltaDiscoveryResponse::decode(message.clone()).expect("a response");
    let resource = |bytes: &Bytes| {
        // Version, content, name: no aliases (X-C20), no time to live (X-T01).
        only(bytes, &[1, 2, 3], "a resource");
        let resource = WireResource::decode(bytes.clone()).expect("a resource");
        let any = resource.resource.expect("an any");
        assert_eq!(any.type_url, response.type_url, "X-C19");
        assert!(!resource.version.is_empty(), "X-C19");
        assert_eq!(Named::decode(any.value.as_slice()).expect("a name").name, resource.name, "X-C19");
        Resource { name: resource.name, version: resource.version, value: any.value }
    };
    Told {
        resources: response.resources.iter().map(resource).collect(),
        url: response.type_url,
        nonce: response.nonce,
        version: response.system_version_info,
        removed: response.removed_resources,
        bytes: message.len(),
    }
}
