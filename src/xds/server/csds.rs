//! Client status discovery: what every connected proxy was sent and has acknowledged, without the contents (D29).

use std::pin::Pin;
use std::sync::Arc;
use std::time::SystemTime;

use envoy_types::pb::envoy::admin::v3::{ClientResourceStatus, UpdateFailureState};
use envoy_types::pb::envoy::config::core::v3::{Locality, Node};
use envoy_types::pb::envoy::service::status::v3::client_config::GenericXdsConfig;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryService;
use envoy_types::pb::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
};
use envoy_types::pb::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use envoy_types::pb::envoy::r#type::matcher::v3::{NodeMatcher, StringMatcher};
use envoy_types::pb::google::protobuf::Timestamp;
use futures::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use crate::xds::hub::Hub;
use crate::xds::resource::ResourceType;
use crate::xds::status::{StreamStatus, TypeStatus};

/// The service.
pub(super) struct ClientStatus(pub(super) Arc<Hub>);

type Answers = Pin<Box<dyn Stream<Item = Result<ClientStatusResponse, Status>> + Send>>;

#[tonic::async_trait]
impl ClientStatusDiscoveryService for ClientStatus {
    type StreamClientStatusStream = Answers;

    async fn stream_client_status(
        &self,
        request: Request<Streaming<ClientStatusRequest>>,
    ) -> Result<Response<Answers>, Status> {
        let hub = Arc::clone(&self.0);
        let answers = request.into_inner().map(move |request| answer(&hub, &request?));
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_client_status(
        &self,
        request: Request<ClientStatusRequest>,
    ) -> Result<Response<ClientStatusResponse>, Status> {
        Ok(Response::new(answer(&self.0, request.get_ref())?))
    }
}

fn answer(hub: &Hub, request: &ClientStatusRequest) -> Result<ClientStatusResponse, Status> {
    let mut config = Vec::new();
    for stream in hub.streams() {
        if wanted(&request.node_matchers, &stream.node.id)? {
            config.push(client(&stream));
        }
    }
    Ok(ClientStatusResponse { config })
}

/// Whether one of the matchers, if there are any, takes this node.
fn wanted(matchers: &[NodeMatcher], id: &str) -> Result<bool, Status> {
    let mut wanted = matchers.is_empty();
    for matcher in matchers {
        if !matcher.node_metadatas.is_empty() {
            return Err(Status::invalid_argument("node_metadatas is not supported; match node_id"));
        }
        wanted |= matcher.node_id.as_ref().map_or(Ok(true), |text| matches(text, id))?;
    }
    Ok(wanted)
}

fn matches(matcher: &StringMatcher, id: &str) -> Result<bool, Status> {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    let id = fold(id);
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(text)) => Ok(id == fold(text)),
        Some(MatchPattern::Prefix(text)) => Ok(id.starts_with(&fold(text))),
        Some(MatchPattern::Suffix(text)) => Ok(id.ends_with(&fold(text))),
        Some(MatchPattern::Contains(text)) => Ok(id.contains(&fold(text))),
        _ => Err(Status::invalid_argument("node_id is matched by exact, prefix, suffix or contains only")),
    }
}

fn client(stream: &StreamStatus) -> ClientConfig {
    let locality = &stream.view.locality;
    ClientConfig {
        node: Some(Node {
            id: stream.node.id.to_string(),
            cluster: stream.node.cluster().to_string(),
            locality: Some(Locality {
                region: locality.region.to_string(),
                zone: locality.zone.to_string(),
                sub_zone: locality.subzone.to_string(),
            }),
            ..Node::default()
        }),
        generic_xds_configs: stream.types.iter().map(|(kind, status)| of_type(*kind, status)).collect(),
        client_scope: stream.connection_id.clone(),
        ..ClientConfig::default()
    }
}

fn of_type(kind: ResourceType, status: &TypeStatus) -> GenericXdsConfig {
    let (config, client) = match status {
        TypeStatus { last_error: Some(_), .. } => (ConfigStatus::Error, ClientResourceStatus::Nacked),
        _ if status.is_synced() => (ConfigStatus::Synced, ClientResourceStatus::Acked),
        TypeStatus { responses: 0, .. } => (ConfigStatus::NotSent, ClientResourceStatus::Requested),
        _ => (ConfigStatus::Stale, ClientResourceStatus::Requested),
    };
    GenericXdsConfig {
        type_url: kind.url().to_owned(),
        version_info: status.sent_version.clone(),
        last_updated: status.sent_at.map(timestamp),
        config_status: config.into(),
        client_status: client.into(),
        error_state: status.last_error.clone().map(|details| UpdateFailureState {
            details,
            last_update_attempt: status.sent_at.map(timestamp),
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}

fn timestamp(at: SystemTime) -> Timestamp {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp {
        seconds: i64::try_from(since.as_secs()).unwrap_or(i64::MAX),
        nanos: i32::try_from(since.subsec_nanos()).unwrap_or(0),
    }
}
