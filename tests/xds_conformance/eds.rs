//! §1.4: assignments by their own service.

use envoy_types::pb::envoy::service::discovery::v3 as peer;
use envoy_types::pb::envoy::service::endpoint::v3::endpoint_discovery_service_client::EndpointDiscoveryServiceClient;
use tombolo::proto::discovery::{DeltaDiscoveryRequest, DiscoveryRequest, Status};
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint};
use tonic::Code;

use super::client::{BOTH, Delta, Protocol, Sotw, Stream, sidecar};
use super::common::{ALL, reject};
use super::plane::Plane;
use super::world::{eds, rule, service, slice};

async fn open(plane: &Plane, protocol: Protocol) -> Stream {
    Stream::open_eds(plane.address(), protocol, sidecar("a", "east", "net-east")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn xe01_the_rules_are_those_of_aggregated_streams() {
    for protocol in BOTH {
        let plane = Plane::start(3).await;
        let mut stream = open(&plane, protocol).await;
        // The method says the type.
        stream.ask_url("", &[eds(0)]);
        let first = stream.take(Endpoint).await;
        assert_eq!(first.names(), [eds(0)]);
        // X-C09, X-C11, X-C16.
        stream.silent().await;
        stream.ask(Endpoint, &[eds(0), eds(9)]);
        let ghost = stream.take(Endpoint).await;
        assert_eq!(ghost.endpoints(&eds(9)), [""; 0]);
        plane.apply(slice(0, 2));
        let told = stream.until(|told| told.has(&eds(0)) && told.endpoints(&eds(0)).len() == 2).await;
        stream.silent().await;
        plane.apply(slice(0, 3));
        let rejected = stream.expect(Endpoint).await;
        stream.nack(&rejected, "no");
        stream.silent().await;
        plane.apply(slice(9, 1));
        plane.apply(service(9));
        stream.until_endpoints(&eds(9), 1).await;
        // X-C18, X-S08, X-D08, X-D09: a request with an old nonce.
        let names = vec![eds(1), eds(1)];
        match protocol {
            Sotw => {
                stream.sotw(DiscoveryRequest {
                    resource_names: names,
                    response_nonce: told.nonce.clone(),
                    ..DiscoveryRequest::default()
                });
                stream.silent().await;
                assert_eq!(stream.start(Endpoint, &[eds(1)]).await.names(), [eds(1)]);
            }
            Delta => {
                for _ in 0..2 {
                    stream.delta(DeltaDiscoveryRequest {
                        resource_names_subscribe: names.clone(),
                        response_nonce: told.nonce.clone(),
                        ..DeltaDiscoveryRequest::default()
                    });
                    assert_eq!(stream.take(Endpoint).await.names(), [eds(1)]);
                }
                // X-D11.
                plane.apply(slice(1, 2));
                let told = stream.expect(Endpoint).await;
                stream.delta(DeltaDiscoveryRequest {
                    resource_names_subscribe: vec![eds(2)],
                    response_nonce: told.nonce,
                    error_detail: Some(Status { code: 3, message: "no".to_owned() }),
                    ..DeltaDiscoveryRequest::default()
                });
                assert_eq!(stream.take(Endpoint).await.names(), [eds(2)]);
            }
        }
        stream.silent().await;
        drop(stream);
        // X-C12: a rejection as the first message counts as a subscription (D26).
        let mut stream = open(&plane, protocol).await;
        reject(&mut stream, Endpoint, &[eds(0)], "x", "", "out of place");
        assert_eq!(stream.take(Endpoint).await.names(), [eds(0)]);
        // X-C15.
        for _ in 0..2 {
            assert_eq!(stream.start(Endpoint, &[eds(0), eds(1)]).await.names(), [eds(1)]);
            stream.ask(Endpoint, &[eds(0)]);
            stream.silent().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xe02_assignments_are_answered_before_any_cluster_was_asked_for() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        let mut stream = open(&plane, protocol).await;
        assert_eq!(stream.start(Endpoint, &[eds(0)]).await.endpoints(&eds(0)), ["10.10.0.1:8080"]);
        let mut aggregated = plane.proxy(protocol, "a").await;
        assert_eq!(aggregated.start(Endpoint, &[eds(0)]).await.endpoints(&eds(0)), ["10.10.0.1:8080"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xe03_no_names_of_assignments_is_not_everything() {
    let plane = Plane::start(1).await;
    for protocol in BOTH {
        for mut stream in [open(&plane, protocol).await, plane.proxy(protocol, "a").await] {
            stream.ask(Endpoint, &ALL);
            stream.silent().await;
            plane.apply(slice(0, 2));
            stream.silent().await;
            plane.apply(slice(0, 1));
            stream.start(Endpoint, &[eds(0)]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xe04_unary_fetches_are_unimplemented() {
    let plane = Plane::start(1).await;
    let url = format!("http://{}", plane.address());
    let mut client = EndpointDiscoveryServiceClient::connect(url).await.unwrap();
    let request = peer::DiscoveryRequest::default();
    assert_eq!(client.fetch_endpoints(request).await.expect_err("refused").code(), Code::Unimplemented);
    plane.serves().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xe05_both_ways_at_once_say_the_same() {
    let plane = Plane::start(2).await;
    for (round, protocol) in BOTH.into_iter().enumerate() {
        let mut alone = open(&plane, protocol).await;
        let mut aggregated = plane.proxy(protocol, "a").await;
        aggregated.start(Cluster, &ALL).await;
        let names = [eds(0), eds(1)];
        let (a, b) = (alone.start(Endpoint, &names).await, aggregated.start(Endpoint, &names).await);
        assert_eq!((a.version, a.resources), (b.version, b.resources));
        plane.apply(slice(0, 2 + round));
        let (a, b) = (alone.take(Endpoint).await, aggregated.take(Endpoint).await);
        assert_eq!((a.version, a.resources), (b.version, b.resources));
        // What clusters do is nothing to a stream of assignments alone.
        plane.apply(rule(0, 3 + round as u32));
        aggregated.until(|told| told.is(Cluster)).await;
        alone.silent().await;
    }
}
