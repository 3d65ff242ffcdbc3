//! Every way in which the document changes.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::stream::{self, StreamExt};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Duration, timeout};

use super::*;
use crate::ingest::networks::config_map_name;
use crate::ingest::objects::{ConfigMapObject, ObjectKey};
use crate::ingest::watch::{Failure, ListReason, Received, SourceEvent};

/// What a snapshot says, if it has this document.
fn said(document: &str) -> Documents {
    Documents { mesh_networks: Some(document.into()), ..Documents::default() }
}

/// A publisher with what it publishes to.
struct World {
    registry: Arc<Registry>,
    problems: Arc<Problems>,
    feed: MeshFeed,
    publisher: Option<MeshPublisher>,
    /// Lists that were asked for.
    asked: Arc<AtomicUsize>,
    memory: Arc<Memory>,
    patience: Option<Duration>,
    task: Option<JoinHandle<()>>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.iter().for_each(JoinHandle::abort);
    }
}

impl World {
    fn new() -> Self {
        let (registry, problems) = (Registry::new(), Arc::<Problems>::default());
        let publisher = MeshPublisher::new(
            Arc::clone(&registry),
            Arc::clone(&problems),
            HostNames::Allowed,
            SpecialAddresses::Drop,
        );
        let (feed, publisher) = (publisher.feed(), Some(publisher));
        let patience = Some(Duration::from_secs(30));
        let (asked, memory) = (Arc::default(), Arc::default());
        Self { registry, problems, feed, publisher, asked, memory, patience, task: None }
    }

    /// A snapshot of cluster `east` is being looked for, and nobody gives up waiting.
    fn remembering() -> Self {
        let mut world = Self::new();
        world.patience = None;
        world.memory.await_documents(&"east".into());
        world.publisher =
            world.publisher.take().map(|publisher| publisher.remembering(Arc::clone(&world.memory)));
        world
    }

    fn recall(&self, document: &str) {
        self.memory.recall_documents(&"east".into(), said(document));
    }

    fn follow_file(mut self, path: &Path) -> Self {
        let file = MeshFile::open(path).unwrap();
        let publisher = self.publisher.take().unwrap();
        publisher.take(file.text(), "the file").unwrap();
        self.task = Some(tokio::spawn(file.follow(publisher)));
        self
    }

    fn follow_events(mut self) -> (Self, mpsc::UnboundedSender<SourceEvent<ConfigMapObject>>) {
        let (sender, receiver) = mpsc::unbounded_channel();
        let events = stream::unfold(receiver, async |mut receiver| {
            let event = receiver.recv().await?;
            Some((event, receiver))
        });
        let publisher = self.publisher.take().unwrap();
        let patience = self.patience;
        let asked = Arc::clone(&self.asked);
        let relist = move |reason| {
            assert_eq!(reason, ListReason::Requested);
            asked.fetch_add(1, Ordering::SeqCst);
        };
        self.task = Some(tokio::spawn(follow_config_map(
            events.boxed(),
            relist,
            publisher,
            ObjectKey::new("istio-system", config_map_name("")),
            patience,
        )));
        (self, sender)
    }

    /// Waits until the cluster belongs to this network by the document.
    async fn until(&mut self, network: &str) {
        let cluster = ClusterId::from("c1");
        let belongs = |networks: &Option<Arc<MeshNetworks>>| {
            networks.as_ref().is_some_and(|n| **n.of_cluster(&cluster, &"".into()).own() == *network)
        };
        timeout(Duration::from_secs(30), self.feed.wait_for(belongs)).await.expect("in time").unwrap();
    }

    async fn until_problem(&self, word: &str) {
        let told = async {
            while !self.problems.all().iter().any(|problem| problem.text.contains(word)) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(Duration::from_secs(30), told).await.expect("told in time");
    }

    fn gateways(&self) -> Vec<String> {
        self.registry.networks().gateways().map(|gateway| gateway.address.to_string()).collect()
    }
}

fn document(network: &str) -> String {
    format!(
        "networks: {{{network}: {{endpoints: [{{fromRegistry: c1}}], gateways: [{{address: 7.7.7.7, port: 1}}]}}}}"
    )
}

fn folder() -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("networks.yaml");
    (folder, path)
}

/// Time stands still while a file is read, and goes on by itself while nothing happens.
#[tokio::test(start_paused = true)]
async fn r2_4_a_file_is_read_again_and_bad_content_keeps_the_last_good_one() {
    let (_folder, path) = folder();
    std::fs::write(&path, document("one")).unwrap();
    let mut world = World::new().follow_file(&path);
    world.until("one").await;
    assert_eq!(world.gateways(), ["7.7.7.7"]);
    std::fs::write(&path, "networks: {two: {endpoints: [{fromRegistry: a b}], gateways: [{port: 0}]}}")
        .unwrap();
    world.until_problem("networks.two.endpoints[0].fromRegistry").await;
    world.until_problem("networks.two.gateways[0].port").await;
    world.until_problem("what was read before stands").await;
    world.until("one").await;
    assert_eq!(world.gateways(), ["7.7.7.7"]);
    std::fs::remove_file(&path).unwrap();
    world.until_problem("No such file").await;
    world.until("one").await;
    std::fs::write(&path, document("three")).unwrap();
    world.until("three").await;
    assert_eq!(world.problems.all(), []);
}

#[tokio::test(start_paused = true)]
async fn r2_4_a_mounted_volume_exchanges_links() {
    let (folder, path) = folder();
    let version = |name: &str, network: &str| {
        let version = folder.path().join(name);
        std::fs::create_dir(&version).unwrap();
        std::fs::write(version.join("networks.yaml"), document(network)).unwrap();
    };
    version("..v1", "one");
    let data = folder.path().join("..data");
    std::os::unix::fs::symlink("..v1", &data).unwrap();
    std::os::unix::fs::symlink("..data/networks.yaml", &path).unwrap();
    let mut world = World::new().follow_file(&path);
    world.until("one").await;
    version("..v2", "two");
    let next = folder.path().join("..data_tmp");
    std::os::unix::fs::symlink("..v2", &next).unwrap();
    std::fs::rename(&next, &data).unwrap();
    world.until("two").await;
}

#[tokio::test(start_paused = true)]
async fn r2_4_a_file_that_is_being_written_is_not_believed() {
    let (_folder, path) = folder();
    std::fs::write(&path, document("one")).unwrap();
    let mut world = World::new().follow_file(&path);
    world.until("one").await;
    std::fs::write(&path, "").unwrap();
    world.until_problem("is empty").await;
    assert_eq!(world.gateways(), ["7.7.7.7"]);
    std::fs::write(&path, "networks: {}").unwrap();
    world.until("").await;
    assert!(world.gateways().is_empty() && world.problems.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn r2_4_a_file_counts_once_two_reads_agree() {
    let (_folder, path) = folder();
    std::fs::write(&path, document("one")).unwrap();
    let file = MeshFile::open(&path).unwrap();
    // What a slow writer leaves behind in its first second.
    std::fs::write(&path, "networks: {}").unwrap();
    let writer = async {
        tokio::time::sleep(Duration::from_millis(500)).await;
        std::fs::write(&path, document("two")).unwrap();
    };
    let (settled, ()) = tokio::join!(file.settled(), writer);
    assert_eq!(settled.unwrap(), document("two"));
}

#[test]
fn a_file_that_cannot_be_read_stops_the_start() {
    let (_folder, path) = folder();
    assert!(MeshFile::open(&path).is_err());
}

fn config_map(name: &str, text: Option<&str>) -> Received<ConfigMapObject> {
    let data = text.map(|text| ("meshNetworks".into(), text.into()));
    Received {
        key: ObjectKey::new("istio-system", name),
        uid: "".into(),
        revision: None,
        object: Ok(ConfigMapObject { data: data.into_iter().collect() }),
    }
}

#[tokio::test(start_paused = true)]
async fn r2_4_the_config_map_is_followed() {
    let (mut world, events) = World::new().follow_events();
    let send = |event| events.send(event).unwrap();
    send(SourceEvent::Init);
    send(SourceEvent::InitApply(config_map("other", Some(&document("wrong")))));
    send(SourceEvent::InitApply(config_map("istio", Some(&document("one")))));
    send(SourceEvent::InitDone { reason: ListReason::First });
    world.until("one").await;
    send(SourceEvent::Apply(config_map("istio", Some("5"))));
    world.until_problem("ConfigMap istio-system/istio, key meshNetworks").await;
    world.until("one").await;
    send(SourceEvent::Apply(config_map("istio", Some(&document("two")))));
    world.until("two").await;
    send(SourceEvent::Apply(config_map("istio", None)));
    world.until("").await;
    assert!(world.gateways().is_empty());
    send(SourceEvent::Apply(config_map("istio", Some(&document("three")))));
    world.until("three").await;
    send(SourceEvent::Delete { key: ObjectKey::new("istio-system", "istio"), revision: None });
    world.until("").await;
}

#[tokio::test(start_paused = true)]
async fn k33_a_config_map_that_is_replaced_changes_nothing() {
    let (mut world, events) = World::new().follow_events();
    let send = |event| events.send(event).unwrap();
    send(SourceEvent::Apply(config_map("istio", Some(&document("one")))));
    world.until("one").await;
    send(SourceEvent::Delete { key: ObjectKey::new("istio-system", "istio"), revision: None });
    tokio::time::sleep(config_map::GRACE / 2).await;
    world.until("one").await;
    send(SourceEvent::Apply(config_map("istio", Some(&document("one")))));
    tokio::time::sleep(config_map::GRACE * 2).await;
    world.until("one").await;
    assert_eq!(world.asked.load(Ordering::SeqCst), 0);
}

#[tokio::test(start_paused = true)]
async fn k21_a_list_without_the_config_map_is_asked_for_again() {
    let (mut world, events) = World::new().follow_events();
    let send = |event| events.send(event).unwrap();
    send(SourceEvent::Apply(config_map("istio", Some(&document("one")))));
    world.until("one").await;
    send(SourceEvent::Init);
    send(SourceEvent::InitDone { reason: ListReason::Expired });
    tokio::time::sleep(config_map::GRACE * 3).await;
    world.until("one").await;
    assert!(world.asked.load(Ordering::SeqCst) > 0);
    send(SourceEvent::Init);
    send(SourceEvent::InitApply(config_map("istio", Some(&document("one")))));
    send(SourceEvent::InitDone { reason: ListReason::Requested });
    tokio::time::sleep(config_map::GRACE * 3).await;
    world.until("one").await;
    for reason in [ListReason::Expired, ListReason::Requested] {
        send(SourceEvent::Init);
        send(SourceEvent::InitDone { reason });
    }
    world.until("").await;
    assert!(world.gateways().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_told_until_the_source_answers() {
    let (world, events) = World::new().follow_events();
    events.send(SourceEvent::Failed(Failure::Forbidden("HTTP 403".to_owned()))).unwrap();
    world.until_problem("HTTP 403").await;
    events.send(SourceEvent::Connected).unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(world.problems.all(), []);
}

#[tokio::test(start_paused = true)]
async fn clusters_go_on_without_a_document_that_cannot_be_had() {
    let (mut world, events) = World::new().follow_events();
    events.send(SourceEvent::Failed(Failure::Unreachable("down".to_owned()))).unwrap();
    tokio::time::sleep(Duration::from_secs(29)).await;
    assert!(world.feed.borrow().is_none(), "it may still come");
    world.until("").await;
    world.until_problem("in time").await;
    events.send(SourceEvent::Apply(config_map("istio", Some(&document("late"))))).unwrap();
    world.until("late").await;
    assert_eq!(world.problems.all(), []);

    let (mut world, events) = World::new().follow_events();
    events.send(SourceEvent::Failed(Failure::Forbidden("HTTP 403".to_owned()))).unwrap();
    world.until("").await;
    world.until_problem("HTTP 403").await;
}

/// However it cannot be had, and whether or not anybody waits for it without limit.
#[tokio::test(start_paused = true)]
async fn a_document_from_before_a_restart_stands_in_while_the_config_map_cannot_be_read() {
    let unreadable = Received { object: Err("it is broken".to_owned()), ..config_map("istio", None) };
    let causes = [
        (vec![], "in time"),
        (vec![SourceEvent::Failed(Failure::Unreachable("it is down".to_owned()))], "it is down"),
        (vec![SourceEvent::Failed(Failure::Forbidden("HTTP 403".to_owned()))], "HTTP 403"),
        (vec![SourceEvent::Apply(unreadable)], "it is broken"),
        (vec![SourceEvent::Apply(config_map("istio", Some("5")))], "key meshNetworks"),
    ];
    for (events, problem) in causes {
        let (mut world, sender) = World::remembering().follow_events();
        events.into_iter().for_each(|event| sender.send(event).unwrap());
        tokio::time::sleep(Duration::from_secs(60)).await;
        assert!(world.feed.borrow().is_none(), "{problem}: the snapshot is being looked for");
        world.recall(&document("before"));
        tokio::time::sleep(Duration::from_millis(1100)).await;
        world.until("before").await;
        assert_eq!(world.gateways(), ["7.7.7.7"], "{problem}");
        let told: Vec<_> = world.problems.all().into_iter().map(|problem| problem.text).collect();
        assert!(
            told.len() == 1 && told[0].contains(problem) && told[0].contains("before stands"),
            "{told:?}"
        );
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.until("before").await;
        sender.send(SourceEvent::Apply(config_map("istio", Some(&document("now"))))).unwrap();
        world.until("now").await;
        assert_eq!(world.problems.all(), []);
        // What was heard is not replaced by what was remembered.
        sender.send(SourceEvent::Failed(Failure::Forbidden("HTTP 403".to_owned()))).unwrap();
        tokio::time::sleep(Duration::from_secs(60)).await;
        world.until("now").await;
    }
}

#[tokio::test(start_paused = true)]
async fn a_document_from_before_a_restart_is_nobodys_concern_when_the_config_map_is_read_in_time() {
    let (mut world, events) = World::remembering().follow_events();
    world.recall(&document("before"));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(world.feed.borrow().is_none());
    events.send(SourceEvent::Apply(config_map("istio", Some(&document("now"))))).unwrap();
    world.until("now").await;
    tokio::time::sleep(Duration::from_secs(60)).await;
    world.until("now").await;
    // Nothing was known before, and nobody waits for ever.
    let mut world = World::remembering();
    world.patience = Some(Duration::from_secs(20));
    let (mut world, _events) = world.follow_events();
    world.memory.recall_documents(&"west".into(), said(&document("another's")));
    world.memory.recall_documents(&"east".into(), Documents::default());
    world.until("").await;
}

#[tokio::test(start_paused = true)]
async fn k21_a_first_list_without_the_config_map_of_before_is_asked_for_again() {
    let (mut world, events) = World::remembering().follow_events();
    world.recall(&document("before"));
    let list = |reason| {
        events.send(SourceEvent::Init).unwrap();
        events.send(SourceEvent::InitDone { reason }).unwrap();
    };
    list(ListReason::First);
    tokio::time::sleep(config_map::GRACE * 3).await;
    world.until("before").await;
    assert!(world.asked.load(Ordering::SeqCst) > 0);
    list(ListReason::Requested);
    world.until("").await;
}

#[test]
fn k40_a_static_gateway_never_has_a_special_address() {
    let world = World::new();
    let text = "networks: {n: {gateways: [{address: 127.0.0.1, port: 1}, {address: 7.7.7.7, port: 1}]}}";
    world.publisher.as_ref().unwrap().take(text, "test").unwrap();
    assert_eq!(world.gateways(), ["7.7.7.7"]);
    assert!(world.problems.all()[0].text.contains("127.0.0.1"));
}
