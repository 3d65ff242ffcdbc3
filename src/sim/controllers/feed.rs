//! Keeps a cache in step with the API server, through outages.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;

use super::cache::{Cache, Change};
use super::health::Health;

/// The pause after the first failure; it doubles with each further one up to [`RETRY_MOST`].
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(1);
/// How long one watch request lasts: a dead connection is noticed soon after.
const WATCH_SECONDS: u32 = 60;

/// Follows one kind for ever and tells `on_change` of every change, after the cache has it. What the cache
/// holds stays through errors: an outage removes nothing.
pub(super) async fn follow<K>(
    api: Api<K>,
    kind: &'static str,
    cache: Arc<Cache<K>>,
    health: Arc<Health>,
    on_change: impl Fn(&Change<K>) + Send,
) where
    K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
{
    let config = watcher::Config::default().timeout(WATCH_SECONDS);
    let mut events = watcher(api, config).boxed();
    let mut pause = RETRY_FIRST;
    while let Some(event) = events.next().await {
        match event {
            // Said before the list is asked for: proves nothing.
            Ok(watcher::Event::Init) => drop(cache.apply(watcher::Event::Init)),
            Ok(event) => {
                pause = RETRY_FIRST;
                health.watch_works(kind);
                for change in cache.apply(event) {
                    on_change(&change);
                }
            }
            Err(error) => {
                health.watch_failed(kind, &error);
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY_MOST);
            }
        }
    }
}
