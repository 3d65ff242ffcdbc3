//! §1.6: times to live. X-T02 and X-T04 fall away: they are not offered (D29).

use prost_types::value::Kind;
use prost_types::{Struct, Value};
use tombolo::proto::discovery::Node;
use tombolo::xds::resource::ResourceType::{Cluster, Endpoint, Listener, Route};

use super::client::{BOTH, sidecar};
use super::common::ALL;
use super::plane::Plane;
use super::world::{eds, slice};

/// Whether or not the node says that it understands times to live.
async fn has_none(plane: &Plane, node: Node) {
    for protocol in BOTH {
        // `Stream` takes no wrapper in the state of the world and no time to live in delta.
        let mut stream = plane.stream(protocol, node.clone()).await;
        stream.start(Cluster, &ALL).await;
        stream.start(Endpoint, &[eds(0)]).await;
        stream.start(Listener, &ALL).await;
        stream.start(Route, &["80"]).await;
        plane.apply(slice(0, 2));
        stream.until_endpoints(&eds(0), 2).await;
        plane.apply(slice(0, 1));
        stream.until_endpoints(&eds(0), 1).await;
        // No heartbeat.
        stream.silent().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn xt01_no_time_to_live_for_who_does_not_know_it() {
    let plane = Plane::start(1).await;
    has_none(&plane, sidecar("a", "east", "net-east")).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn xt03_no_time_to_live_by_default_for_anybody() {
    let plane = Plane::start(1).await;
    let mut node = sidecar("a", "east", "net-east");
    let features = ["xds.config.supports-resource-ttl", "xds.config.supports-resource-in-sotw"];
    let fields = features.map(|name| (name.to_owned(), Value { kind: Some(Kind::BoolValue(true)) }));
    let metadata = node.metadata.get_or_insert_with(Struct::default);
    metadata.fields.extend(fields);
    has_none(&plane, node).await;
}
