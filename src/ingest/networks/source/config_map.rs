//! The document in the mesh ConfigMap, key `meshNetworks`, of the config cluster's system namespace.

use std::time::Duration;

use futures::stream::{BoxStream, StreamExt};
use tokio::time::Instant;

use super::MeshPublisher;
use crate::ingest::objects::{ConfigMapObject, ObjectKey};
use crate::ingest::watch::{Failure, ListReason, Received, SourceEvent};

/// The key in it.
const KEY: &str = "meshNetworks";
/// How long a document that is gone still counts: `kubectl replace --force` deletes and creates, and a list
/// may lie. Then, if it went with a list, another list has to say the same (K-21).
pub(in crate::ingest) const GRACE: Duration = Duration::from_secs(5);

/// A document that is no longer there.
struct Absent {
    /// When that is to count.
    due: Instant,
    /// A list left it out, and nobody has confirmed that yet.
    doubted: bool,
}

/// Publishes what the ConfigMap says, for ever. If nothing is heard within `patience` (`None`: wait for ever),
/// the clusters go on without a document until it comes; without permission they do so at once. `relist` asks
/// for a list now.
pub(in crate::ingest) async fn follow_config_map(
    mut events: BoxStream<'static, SourceEvent<ConfigMapObject>>,
    relist: impl Fn(ListReason) + Send,
    publisher: MeshPublisher,
    config_map: ObjectKey,
    patience: Option<Duration>,
) {
    let origin = format!("ConfigMap {config_map}");
    let is_ours = |key: &ObjectKey| key.name == config_map.name;
    let deadline = patience.map(|patience| Instant::now() + patience);
    let mut listing: Option<Option<Received<ConfigMapObject>>> = None;
    let mut recalled = publisher.memory.recalled();
    recalled.mark_changed();
    let mut absent: Option<Absent> = None;
    loop {
        let gone = absent.as_ref().map(|absent| absent.due);
        let event = tokio::select! {
            // Biased: what is heard counts more than the deadline.
            biased;
            event = events.next() => event,
            Ok(()) = recalled.changed(), if !publisher.is_known() => {
                let text = recalled.borrow_and_update().clone();
                if let Some(text) = text {
                    // Told by the publisher; what is heard later takes its place.
                    let _ = publisher.take(&text, &format!("snapshot of {origin}"));
                }
                continue;
            }
            () = tokio::time::sleep_until(deadline.unwrap_or_else(Instant::now)),
                if deadline.is_some() && !publisher.is_known() =>
            {
                publisher.unreachable(&origin, "nothing was heard of it in time");
                publisher.nothing();
                continue;
            }
            () = tokio::time::sleep_until(gone.unwrap_or_else(Instant::now)), if gone.is_some() => {
                match absent.take() {
                    Some(Absent { doubted: true, .. }) => {
                        relist(ListReason::Requested);
                        absent = Some(Absent { due: Instant::now() + GRACE, doubted: true });
                    }
                    _ => publish(&publisher, &origin, ""),
                }
                continue;
            }
        };
        let Some(event) = event else { return std::future::pending().await };
        match event {
            SourceEvent::Init => listing = Some(None),
            SourceEvent::InitApply(received) if is_ours(&received.key) => listing = Some(Some(received)),
            SourceEvent::InitDelete(key) if is_ours(&key) => listing = Some(None),
            SourceEvent::InitDone { reason } => match listing.take().flatten() {
                Some(received) => {
                    absent = None;
                    take(&publisher, &origin, received);
                }
                None if !publisher.names_networks() => publish(&publisher, &origin, ""),
                None => match &mut absent {
                    Some(absent) => absent.doubted &= reason != ListReason::Requested,
                    None => absent = Some(Absent { due: Instant::now() + GRACE, doubted: true }),
                },
            },
            SourceEvent::Apply(received) if is_ours(&received.key) => {
                absent = None;
                take(&publisher, &origin, received);
            }
            SourceEvent::Delete { key, .. } if is_ours(&key) => {
                absent = Some(Absent { due: Instant::now() + GRACE, doubted: false });
            }
            SourceEvent::Connected | SourceEvent::Idle => publisher.reachable(),
            SourceEvent::Failed(failure @ (Failure::Forbidden(_) | Failure::NotServed(_))) => {
                publisher.unreachable(&origin, failure.text());
                publisher.nothing();
            }
            _ => {}
        }
    }
}

fn take(publisher: &MeshPublisher, origin: &str, received: Received<ConfigMapObject>) {
    match received.object {
        Ok(object) => publish(publisher, origin, object.data.get(KEY).map_or("", |text| text)),
        Err(reason) => publisher.unreadable(origin, &reason),
    }
}

fn publish(publisher: &MeshPublisher, origin: &str, text: &str) {
    match publisher.take(text, &format!("{origin}, key {KEY}")) {
        Ok(()) => publisher.memory.set_document(text),
        // Told by the publisher. At the first look there is no version before: the clusters go on without one.
        Err(_) => publisher.nothing(),
    }
}
