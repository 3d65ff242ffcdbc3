//! Remote clusters from Secrets of the config cluster (R1.1–R1.7).

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};

use super::client::ApiServer;
use super::kubeconfig::{KubeconfigRules, RemoteKubeconfig, check_cluster_id};
use super::objects::{ObjectKey, SecretObject};
use super::options;
use super::problems::Problems;
use super::roster::{Claims, Source};
use super::watch::{KubeSource, ObjectSource, Received, Source as Watched, SourceEvent, SourceLimits};

/// Secrets with this label hold kubeconfigs (R1.1).
const SELECTOR: &str = "istio/multiCluster=true";
/// What the problem of an unreadable Secret list is about.
const SUBJECT: &str = "remote Secrets";

/// The Secrets of the config cluster's system namespace.
pub(super) struct SecretWatch {
    events: BoxStream<'static, SourceEvent<SecretObject>>,
    rules: KubeconfigRules,
    known: BTreeMap<ObjectKey, i64>,
    listing: Option<Vec<Received<SecretObject>>>,
}

/// What one look yields.
pub(super) struct News {
    pub(super) claims: Vec<(Source, Claims)>,
    /// Every Secret there is was told of at least once.
    pub(super) complete: bool,
}

impl SecretWatch {
    pub(super) fn new(
        server: Arc<ApiServer>,
        namespace: &str,
        limits: Arc<SourceLimits>,
        rules: KubeconfigRules,
    ) -> Self {
        let source = KubeSource::new(server, limits).in_namespace(namespace).labelled(SELECTOR);
        let Watched { events, .. } = source.start();
        Self::from_events(events, rules)
    }

    fn from_events(events: BoxStream<'static, SourceEvent<SecretObject>>, rules: KubeconfigRules) -> Self {
        Self { events, rules, known: BTreeMap::new(), listing: None }
    }

    /// The next change. Cancelling loses nothing.
    pub(super) async fn next(&mut self, problems: &Problems) -> News {
        loop {
            let Some(event) = self.events.next().await else {
                return std::future::pending().await;
            };
            match event {
                SourceEvent::Failed(failure) => {
                    problems
                        .set(SUBJECT, format!("cannot be read, what is known stands: {}", failure.text()));
                }
                SourceEvent::Connected | SourceEvent::Idle => problems.clear(SUBJECT),
                event => {
                    if let Some(news) = self.take_in(event) {
                        return news;
                    }
                }
            }
        }
    }

    fn take_in(&mut self, event: SourceEvent<SecretObject>) -> Option<News> {
        match event {
            SourceEvent::Init => self.listing = Some(Vec::new()),
            SourceEvent::InitApply(received) => {
                if let Some(listing) = &mut self.listing {
                    listing.push(received);
                }
            }
            SourceEvent::InitDelete(key) => {
                if let Some(listing) = &mut self.listing {
                    listing.retain(|listed| listed.key != key);
                }
            }
            SourceEvent::InitDone { .. } => {
                let listing = self.listing.take()?;
                return Some(self.swap(listing));
            }
            SourceEvent::Apply(received) => {
                let claims = vec![self.claims(received)];
                return Some(News { claims, complete: false });
            }
            SourceEvent::Delete { key, .. } => {
                let claims = vec![self.gone(&key)];
                return Some(News { claims, complete: false });
            }
            SourceEvent::Connected | SourceEvent::Idle | SourceEvent::Failed(_) => {}
        }
        None
    }

    /// A complete list: Secrets that are not in it are gone.
    fn swap(&mut self, listing: Vec<Received<SecretObject>>) -> News {
        let known = self.known.keys();
        let vanished: Vec<_> =
            known.filter(|key| !listing.iter().any(|listed| listed.key == **key)).cloned().collect();
        let mut claims: Vec<_> = vanished.iter().map(|key| self.gone(key)).collect();
        claims.extend(listing.into_iter().map(|received| self.claims(received)));
        News { claims, complete: true }
    }

    fn gone(&mut self, key: &ObjectKey) -> (Source, Claims) {
        let created = self.known.remove(key).unwrap_or_default();
        (source(key, created), Claims::Gone)
    }

    fn claims(&mut self, received: Received<SecretObject>) -> (Source, Claims) {
        let known = self.known.get(&received.key).copied().unwrap_or_default();
        let secret = match received.object {
            Ok(secret) => secret,
            Err(reason) => return (source(&received.key, known), Claims::Unreadable(reason)),
        };
        self.known.insert(received.key.clone(), secret.created);
        let claim = |id: &str, value: Option<&Vec<u8>>| {
            check_cluster_id(id).map_err(|refusal| refusal.to_string())?;
            let value = value.ok_or("its value is not base64")?;
            RemoteKubeconfig::parse(value, self.rules.clone()).map_err(|refusal| refusal.to_string())
        };
        let claims = secret.data.iter().map(|(id, value)| (id.as_str().into(), claim(id, value.as_ref())));
        let options = options::from_annotations(&secret.annotations);
        (source(&received.key, secret.created), Claims::Of(claims.collect(), options))
    }
}

fn source(key: &ObjectKey, created: i64) -> Source {
    Source { created, name: format!("secret {key}") }
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use serde_json::json;

    use super::*;
    use crate::ingest::client::AddressPolicy;
    use crate::ingest::roster::{Contest, Roster};
    use crate::ingest::watch::ListReason;

    fn received(name: &str, data: &[(&str, &str)]) -> Received<SecretObject> {
        let data = data.iter().map(|(id, server)| {
            let text = json!({"clusters": [{"name": "x", "cluster": {"server": server}}]});
            ((*id).to_owned(), Some(text.to_string().into_bytes()))
        });
        Received {
            key: ObjectKey::new("istio-system", name),
            uid: "".into(),
            revision: Some(1),
            object: Ok(SecretObject {
                created: 1,
                annotations: crate::ingest::objects::Labels::new(),
                data: data.collect(),
            }),
        }
    }

    #[tokio::test]
    async fn r1_5_one_failing_key_does_not_stop_the_others_and_r1_7_a_relist_drops_what_vanished() {
        let good = "https://192.0.2.1";
        let events = vec![
            SourceEvent::Init,
            SourceEvent::InitApply(received("a", &[("west", good), ("bad id", good), ("north", "http://x")])),
            SourceEvent::InitApply(received("b", &[("south", good)])),
            SourceEvent::InitApply(received("gone", &[("gone", good)])),
            SourceEvent::InitDelete(ObjectKey::new("istio-system", "gone")),
            SourceEvent::InitDone { reason: ListReason::First },
            SourceEvent::Init,
            SourceEvent::InitApply(received("b", &[("south", good)])),
            SourceEvent::InitDone { reason: ListReason::First },
        ];
        let events = stream::iter(events).chain(stream::pending()).boxed();
        let mut watch = SecretWatch::from_events(events, AddressPolicy::Remote.into());
        let problems = Problems::default();
        let mut roster = Roster::new(Contest::First, []);

        let news = watch.next(&problems).await;
        assert!(news.complete);
        assert_eq!(roster.update(news.claims, &problems).len(), 2);
        let subjects: Vec<_> = problems.all().into_iter().map(|problem| problem.subject).collect();
        assert_eq!(
            subjects,
            ["secret istio-system/a, cluster bad id", "secret istio-system/a, cluster north"]
        );

        let news = watch.next(&problems).await;
        let actions = roster.update(news.claims, &problems);
        assert_eq!(actions.len(), 1, "{actions:?}");
        assert_eq!(problems.all(), []);
    }
}
