//! The services beside discovery, and discovery of assignments alone.

use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use envoy_types::pb::envoy::service::load_stats::v3::load_reporting_service_client::LoadReportingServiceClient;
use envoy_types::pb::envoy::service::status::v3::ClientStatusRequest;
use envoy_types::pb::envoy::service::status::v3::ConfigStatus;
use envoy_types::pb::envoy::service::status::v3::client_status_discovery_service_client::ClientStatusDiscoveryServiceClient;
use tombolo::proto::discovery as wire;
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint};
use tonic::Code;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::eds::EdsStream;
use crate::client::{Delta, sidecar};
use crate::world::{World, eds, endpoints, key, shard};

fn url(world: &World) -> String {
    format!("http://{}", world.address)
}

async fn channel(world: &World) -> tonic::transport::Channel {
    tonic::transport::Endpoint::from_shared(url(world)).unwrap().connect().await.unwrap()
}

#[tokio::test]
async fn l14_health_is_what_ready_is_and_flips_before_the_drain() {
    let world = World::start(1).await;
    let mut client = HealthClient::new(channel(&world).await);
    let mut watch = client.watch(HealthCheckRequest::default()).await.unwrap().into_inner();
    let status = |response: Option<tonic_health::pb::HealthCheckResponse>| response.unwrap().status();
    assert_eq!(status(watch.message().await.unwrap()), ServingStatus::Serving);
    world.ready.send_replace(false);
    assert_eq!(status(watch.message().await.unwrap()), ServingStatus::NotServing);
    world.ready.send_replace(true);
    assert_eq!(status(watch.message().await.unwrap()), ServingStatus::Serving);
    world.shutdown.cancel();
    assert_eq!(status(watch.message().await.unwrap()), ServingStatus::NotServing);
    world.stop().await;
}

#[tokio::test]
async fn l12_load_reports_are_unimplemented_and_clients_are_listed() {
    let world = World::start(1).await;
    let mut loads = LoadReportingServiceClient::connect(url(&world)).await.unwrap();
    let status = loads.stream_load_stats(tokio_stream::empty()).await.expect_err("refused");
    assert_eq!(status.code(), Code::Unimplemented);

    let mut stream = Delta::open(world.address, sidecar("p", "east", "net-east")).await;
    stream.subscribe(Endpoint, &[&eds(0)]).await;
    let response = stream.next().await.unwrap();
    let mut clients = ClientStatusDiscoveryServiceClient::connect(url(&world)).await.unwrap();
    let mut config = async || {
        let answer = clients.fetch_client_status(ClientStatusRequest::default()).await.unwrap().into_inner();
        let [client] = &answer.config[..] else { panic!("one proxy: {answer:?}") };
        assert!(client.node.as_ref().unwrap().id.contains("~p.sample~"));
        let [of_type] = &client.generic_xds_configs[..] else { panic!("one type: {client:?}") };
        assert_eq!(of_type.type_url, Endpoint.url());
        assert!(of_type.xds_config.is_none(), "never the content");
        of_type.clone()
    };
    assert_eq!(config().await.config_status(), ConfigStatus::Stale);
    stream.nack(&response, "no good").await;
    stream.silent().await;
    let rejected = config().await;
    assert_eq!(rejected.config_status(), ConfigStatus::Error);
    assert_eq!(rejected.error_state.unwrap().details, "no good");
    world.stop().await;
}

#[tokio::test]
async fn e01_e02_e03_assignments_by_their_own_service() {
    let mut world = World::start(2).await;
    let mut stream = EdsStream::open(world.address, sidecar("p", "east", "net-east")).await;
    // Without a type: the method says it.
    stream.send("", &[]).await;
    stream.silent().await;
    stream.send("", &[&eds(0)]).await;
    let response = stream.next().await.unwrap();
    assert_eq!((response.type_url.as_str(), response.resources.len()), (Endpoint.url(), 1));
    world.east.set(key(0), shard("east", 0, 3));
    stream.ack(&response, &[&eds(0)]).await;
    let pushed = stream.next().await.unwrap();
    assert_eq!(endpoints(&crate::client::value(&pushed.resources[0])).len(), 4, "three and the gateway");
    stream.ack(&pushed, &[&eds(0)]).await;
    // X-C05.
    stream.send(Cluster.url(), &[]).await;
    assert_eq!(stream.next().await.expect_err("refused").code(), Code::InvalidArgument);

    // X-E05: the same content and version by an aggregated stream.
    let mut ads = Delta::open(world.address, sidecar("p", "east", "net-east")).await;
    ads.subscribe(Endpoint, &[&eds(0)]).await;
    let aggregated = ads.expect(Endpoint).await;
    assert_eq!(aggregated.resources[0].2, crate::client::value(&pushed.resources[0]));
    world.stop().await;
}

#[tokio::test]
async fn e04_unary_fetches_are_unimplemented() {
    let world = World::start(1).await;
    let mut client = EndpointDiscoveryServiceClient::connect(url(&world)).await.unwrap();
    let request = envoy_types::pb::envoy::service::discovery::v3::DiscoveryRequest::default();
    assert_eq!(client.fetch_endpoints(request).await.expect_err("refused").code(), Code::Unimplemented);
    world.stop().await;
}

#[tokio::test]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    let world = World::start(1).await;
    let mut client = ServerReflectionClient::new(channel(&world).await);
    let list = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::iter([list])).await.unwrap().into_inner();
    let Some(MessageResponse::ListServicesResponse(services)) =
        answers.message().await.unwrap().unwrap().message_response
    else {
        panic!("a list")
    };
    let names: Vec<_> = services.service.into_iter().map(|service| service.name).collect();
    for wanted in ["envoy.service.discovery.v3.AggregatedDiscoveryService", "grpc.health.v1.Health"] {
        assert!(names.iter().any(|name| name == wanted), "{names:?}");
    }
    assert!(wire::DESCRIPTORS.len() > 100);
    world.stop().await;
}
