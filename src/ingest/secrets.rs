//! Remote clusters from Secrets of the config cluster (R1.1–R1.7).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};
use tokio::sync::watch as signal;
use tokio::time::Instant;

use super::absences::{self, Absences};
use super::client::ApiServer;
use super::kubeconfig::{KubeconfigRules, RemoteKubeconfig, check_cluster_id};
use super::objects::{ObjectKey, SecretObject};
use super::options;
use super::problems::Problems;
use super::roster::{Claims, Source};
use super::staging::Guard;
use super::watch::{
    KubeSource, ListReason, ObjectSource, Received, Source as Watched, SourceEvent, SourceLimits,
};

/// Secrets with this label hold kubeconfigs (R1.1).
const SELECTOR: &str = "istio/multiCluster=true";
/// What the problem of an unreadable Secret list is about.
const SUBJECT: &str = "remote Secrets";
/// And that of a list that lacks most of them.
const MISSING: &str = "remote Secrets, list";

/// The Secrets of the config cluster's system namespace.
pub(super) struct SecretWatch {
    events: BoxStream<'static, SourceEvent<SecretObject>>,
    /// Asks for a complete list.
    relist: Box<dyn Fn() + Send + Sync>,
    rules: KubeconfigRules,
    /// Creation times; 0 of one that could never be read.
    known: BTreeMap<ObjectKey, i64>,
    listing: Option<Listing>,
    absences: Absences,
    failing: signal::Sender<bool>,
}

/// A list in progress.
struct Listing {
    began: Instant,
    secrets: Vec<Received<SecretObject>>,
}

/// What one look yields.
pub(super) struct News {
    pub(super) claims: Vec<(Source, Claims)>,
    /// When the look began, if it was one at every source there is.
    pub(super) complete: Option<Instant>,
}

impl SecretWatch {
    pub(super) fn new(
        server: Arc<ApiServer>,
        namespace: &str,
        limits: Arc<SourceLimits>,
        rules: KubeconfigRules,
        guard: Guard,
    ) -> Self {
        let source = KubeSource::new(server, limits).in_namespace(namespace).labelled(SELECTOR);
        let Watched { events, control } = source.start();
        let relist = move || control.relist(ListReason::Requested);
        Self::from_events(events, Box::new(relist), rules, guard)
    }

    fn from_events(
        events: BoxStream<'static, SourceEvent<SecretObject>>,
        relist: Box<dyn Fn() + Send + Sync>,
        rules: KubeconfigRules,
        guard: Guard,
    ) -> Self {
        let (known, absences) = (BTreeMap::new(), Absences::new(guard));
        Self { events, relist, rules, known, listing: None, absences, failing: signal::Sender::new(false) }
    }

    /// Whether the last thing that was heard of the Secrets is that they cannot be read.
    pub(super) fn failing(&self) -> signal::Receiver<bool> {
        self.failing.subscribe()
    }

    /// Asks for a complete list now.
    pub(super) fn list_again(&self) {
        (self.relist)();
    }

    /// The next change. Cancelling loses nothing.
    pub(super) async fn next(&mut self, problems: &Problems) -> News {
        loop {
            let due = self.absences.due();
            let event = tokio::select! {
                // Unbiased: both are rare.
                event = self.events.next() => event,
                () = tokio::time::sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {
                    self.absences.asked();
                    self.list_again();
                    continue;
                }
            };
            let Some(event) = event else { return std::future::pending().await };
            let fails = matches!(event, SourceEvent::Failed(_));
            self.failing.send_if_modified(|failing| std::mem::replace(failing, fails) != fails);
            match event {
                SourceEvent::Failed(failure) => {
                    problems
                        .set(SUBJECT, format!("cannot be read, what is known stands: {}", failure.text()));
                }
                SourceEvent::Connected | SourceEvent::Idle => problems.clear(SUBJECT),
                event => {
                    if let Some(news) = self.take_in(event, problems) {
                        return news;
                    }
                }
            }
        }
    }

    fn take_in(&mut self, event: SourceEvent<SecretObject>, problems: &Problems) -> Option<News> {
        match event {
            SourceEvent::Init => {
                self.listing = Some(Listing { began: Instant::now(), secrets: Vec::new() });
            }
            SourceEvent::InitApply(received) => {
                if let Some(listing) = &mut self.listing {
                    listing.secrets.push(received);
                }
            }
            SourceEvent::InitDelete(key) => {
                if let Some(listing) = &mut self.listing {
                    listing.secrets.retain(|listed| listed.key != key);
                }
            }
            SourceEvent::InitDone { .. } => {
                let listing = self.listing.take()?;
                return Some(self.swap(listing, problems));
            }
            SourceEvent::Apply(received) => {
                let claims = vec![self.claims(received)];
                return Some(News { claims, complete: None });
            }
            SourceEvent::Delete { key, .. } => {
                let claims = vec![self.gone(&key)];
                return Some(News { claims, complete: None });
            }
            SourceEvent::Connected | SourceEvent::Idle | SourceEvent::Failed(_) => {}
        }
        None
    }

    /// A complete list: Secrets that are not in it are gone, unless those are most of them: then a second list
    /// has to say the same.
    fn swap(&mut self, Listing { began, secrets }: Listing, problems: &Problems) -> News {
        let listed: BTreeSet<_> = secrets.iter().map(|received| &received.key).collect();
        let mut missing: Vec<_> = self.known.keys().filter(|key| !listed.contains(key)).cloned().collect();
        if self.absences.believes(missing.len(), self.known.len(), began) {
            problems.clear(MISSING);
        } else {
            problems.set(MISSING, absences::text(missing.len(), self.known.len(), "Secrets"));
            missing.clear();
        }
        let mut claims: Vec<_> = missing.iter().map(|key| self.gone(key)).collect();
        claims.extend(secrets.into_iter().map(|received| self.claims(received)));
        News { claims, complete: Some(began) }
    }

    fn gone(&mut self, key: &ObjectKey) -> (Source, Claims) {
        let created = self.known.remove(key).unwrap_or_default();
        (source(key, created), Claims::Gone)
    }

    fn claims(&mut self, received: Received<SecretObject>) -> (Source, Claims) {
        let known = self.known.entry(received.key.clone()).or_default();
        let secret = match received.object {
            Ok(secret) => secret,
            Err(reason) => return (source(&received.key, *known), Claims::Unreadable(reason)),
        };
        *known = secret.created;
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
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use serde_json::json;
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;
    use crate::ingest::client::AddressPolicy;
    use crate::ingest::cluster::CONFIRM_AFTER;
    use crate::ingest::roster::{Action, Contest, Roster};

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

    const GOOD: &str = "https://192.0.2.1";

    /// A list of these Secrets.
    fn list(names: &[&str]) -> Vec<SourceEvent<SecretObject>> {
        let secrets = names.iter().map(|name| received(name, &[(&format!("c-{name}"), GOOD)]));
        let mut events = vec![SourceEvent::Init];
        events.extend(secrets.map(SourceEvent::InitApply));
        events.push(SourceEvent::InitDone { reason: ListReason::First });
        events
    }

    struct Table {
        events: mpsc::UnboundedSender<SourceEvent<SecretObject>>,
        watch: SecretWatch,
        roster: Roster,
        problems: Problems,
        asked: Arc<AtomicUsize>,
    }

    impl Table {
        fn new(guard: Guard) -> Self {
            let (events, receiver) = mpsc::unbounded_channel();
            let asked = Arc::<AtomicUsize>::default();
            let count = Arc::clone(&asked);
            let relist = Box::new(move || _ = count.fetch_add(1, Ordering::Relaxed));
            let receiver = UnboundedReceiverStream::new(receiver).boxed();
            Self {
                events,
                watch: SecretWatch::from_events(receiver, relist, AddressPolicy::Remote.into(), guard),
                roster: Roster::new(Contest::First, []),
                problems: Problems::default(),
                asked,
            }
        }

        /// What is done because of these events.
        async fn hear(&mut self, events: Vec<SourceEvent<SecretObject>>) -> Vec<String> {
            events.into_iter().for_each(|event| self.events.send(event).unwrap());
            let mut actions = Vec::new();
            let soon = Duration::from_millis(1);
            while let Ok(news) = tokio::time::timeout(soon, self.watch.next(&self.problems)).await {
                let news = self.roster.update(news.claims, &self.problems);
                actions.extend(news.iter().map(|action| match action {
                    Action::Run(id, ..) => format!("run {id}"),
                    Action::Tell(id, ..) => format!("tell {id}"),
                    Action::Remove(id) => format!("remove {id}"),
                }));
            }
            actions
        }

        /// Time goes by, and nothing is heard meanwhile.
        async fn wait(&mut self, time: Duration) {
            let waiting = tokio::time::timeout(time, self.watch.next(&self.problems)).await;
            assert!(waiting.is_err(), "nothing is done");
        }

        fn subjects(&self) -> Vec<String> {
            self.problems.all().into_iter().map(|problem| problem.subject).collect()
        }
    }

    const NOTHING: [&str; 0] = [];

    #[tokio::test(start_paused = true)]
    async fn r1_5_one_failing_key_does_not_stop_the_others_and_r1_7_a_relist_drops_what_vanished() {
        let mut table = Table::new(Guard::On);
        let mut events = list(&["b"]);
        let mixed = received("a", &[("west", GOOD), ("bad id", GOOD), ("north", "http://x")]);
        events.insert(1, SourceEvent::InitApply(mixed));
        assert_eq!(table.hear(events).await, ["run c-b", "run west"]);
        assert_eq!(
            table.subjects(),
            ["secret istio-system/a, cluster bad id", "secret istio-system/a, cluster north"]
        );
        assert_eq!(table.hear(list(&["b"])).await, ["remove west"], "one of two");
        assert_eq!(table.subjects(), NOTHING);
    }

    #[tokio::test(start_paused = true)]
    async fn a_list_without_most_secrets_removes_no_cluster_before_a_second_one_says_the_same() {
        let mut table = Table::new(Guard::On);
        assert_eq!(table.hear(list(&["a", "b", "c"])).await, ["run c-a", "run c-b", "run c-c"]);
        assert_eq!(table.hear(list(&[])).await, NOTHING);
        assert_eq!(table.subjects(), ["remote Secrets, list"]);
        table.wait(CONFIRM_AFTER - Duration::from_secs(1)).await;
        assert_eq!(table.hear(list(&["a"])).await, NOTHING, "too early to confirm anything");
        assert_eq!(table.asked.load(Ordering::Relaxed), 0);
        table.wait(Duration::from_secs(2)).await;
        assert_eq!(table.asked.load(Ordering::Relaxed), 1, "listed again");
        // It was a lie.
        assert_eq!(table.hear(list(&["a", "b", "c"])).await, NOTHING);
        assert_eq!(table.subjects(), NOTHING);
        // It is true.
        assert_eq!(table.hear(list(&["b"])).await, NOTHING);
        table.wait(CONFIRM_AFTER).await;
        assert_eq!(table.hear(list(&["b"])).await, ["remove c-a", "remove c-c"]);
        assert_eq!((table.subjects(), table.asked.load(Ordering::Relaxed)), (Vec::new(), 2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_delete_event_counts_at_once_and_the_guard_can_be_switched_off() {
        let gone = |name| SourceEvent::Delete { key: ObjectKey::new("istio-system", name), revision: None };
        let mut table = Table::new(Guard::On);
        table.hear(list(&["a", "b"])).await;
        assert_eq!(table.hear(vec![gone("a")]).await, ["remove c-a"]);
        assert_eq!(table.hear(list(&[])).await, NOTHING);
        assert_eq!(table.hear(vec![gone("b")]).await, ["remove c-b"], "also while a list is doubted");
        let mut table = Table::new(Guard::Off);
        table.hear(list(&["a"])).await;
        assert_eq!(table.hear(list(&[])).await, ["remove c-a"]);
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreadable_secret_that_vanished_unseen_is_a_problem_no_longer() {
        let mut table = Table::new(Guard::On);
        let mut events = list(&["a", "b"]);
        let broken = Received { object: Err("it is broken".to_owned()), ..received("x", &[]) };
        events.insert(1, SourceEvent::InitApply(broken));
        assert_eq!(table.hear(events).await, ["run c-a", "run c-b"]);
        assert_eq!(table.subjects(), ["secret istio-system/x"]);
        assert_eq!(table.hear(list(&["a", "b"])).await, NOTHING);
        assert_eq!(table.subjects(), NOTHING);
    }
}
