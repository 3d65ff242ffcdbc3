//! The document in the mesh ConfigMap `istio`, key `meshNetworks`, of the config cluster's system namespace.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::time::Instant;

use super::MeshPublisher;
use crate::ingest::objects::{ConfigMapObject, ObjectKey};
use crate::ingest::watch::{Failure, Received, SourceEvent};

/// The ConfigMap.
pub(in crate::ingest) const NAME: &str = "istio";
/// The key in it.
const KEY: &str = "meshNetworks";

/// Publishes what the ConfigMap says, for ever. If nothing is heard within `patience` (`None`: wait for ever),
/// the clusters go on without a document until it comes; without permission they do so at once.
pub(in crate::ingest) async fn follow_config_map(
    mut events: BoxStream<'static, SourceEvent<ConfigMapObject>>,
    publisher: MeshPublisher,
    namespace: String,
    patience: Option<Duration>,
) {
    let origin = format!("ConfigMap {namespace}/{NAME}");
    let deadline = patience.map(|patience| Instant::now() + patience);
    let mut listing: Option<Option<Received<ConfigMapObject>>> = None;
    loop {
        let event = tokio::select! {
            // Biased: what is heard counts more than the deadline.
            biased;
            event = events.next() => event,
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                if deadline.is_some() && !publisher.is_known() =>
            {
                publisher.unreadable(&origin, "nothing was heard of it in time");
                publisher.nothing();
                continue;
            }
        };
        let Some(event) = event else { return std::future::pending().await };
        match event {
            SourceEvent::Init => listing = Some(None),
            SourceEvent::InitApply(received) if is_ours(&received.key) => listing = Some(Some(received)),
            SourceEvent::InitDelete(key) if is_ours(&key) => listing = Some(None),
            SourceEvent::InitDone { .. } => match listing.take().flatten() {
                Some(received) => take(&publisher, &origin, received),
                None => publish(&publisher, &origin, ""),
            },
            SourceEvent::Apply(received) if is_ours(&received.key) => take(&publisher, &origin, received),
            SourceEvent::Delete { key, .. } if is_ours(&key) => publish(&publisher, &origin, ""),
            SourceEvent::Failed(failure @ (Failure::Forbidden(_) | Failure::NotServed(_))) => {
                publisher.unreadable(&origin, failure.text());
                publisher.nothing();
            }
            _ => {}
        }
    }
}

fn is_ours(key: &ObjectKey) -> bool {
    &*key.name == NAME
}

fn take(publisher: &MeshPublisher, origin: &str, received: Received<ConfigMapObject>) {
    match received.object {
        Ok(object) => publish(publisher, origin, object.data.get(KEY).map_or("", |text| text)),
        Err(reason) => publisher.unreadable(origin, &reason),
    }
}

fn publish(publisher: &MeshPublisher, origin: &str, text: &str) {
    // Told by the publisher. At the first look there is no version before: the clusters go on without one.
    if publisher.take(text, &format!("{origin}, key {KEY}")).is_err() {
        publisher.nothing();
    }
}
