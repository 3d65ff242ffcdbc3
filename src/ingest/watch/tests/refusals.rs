//! Credentials and kinds that are not there: K-15, K-46.

use super::*;
use crate::ingest::objects::GatewayObject;

#[tokio::test(start_paused = true)]
async fn k15_refused_credentials_are_read_again_once_at_once_and_then_slowly() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let script = script(&world, move |asked| {
        let revoked = is_revoked.load(std::sync::atomic::Ordering::Relaxed);
        (revoked && asked.is_for() == For::Watch).then(|| Reply::status(401, "Unauthorized", "Unauthorized"))
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    consumer.run(seconds(31)).await;
    let before = script.asked_for(For::Watch).len();
    revoked.store(true, std::sync::atomic::Ordering::Relaxed);
    world.end_watches(false);
    consumer.until("Unauthorized").await;
    let asked = script.asked_for(For::Watch);
    assert_eq!(asked.len() - before, 2, "once, and once more with credentials read again");
    assert_eq!(asked[before + 1].at, asked[before].at);
    consumer.run(seconds(600)).await;
    let asked = script.asked_for(For::Watch);
    let pauses: Vec<_> = asked[before + 1..].windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    assert!((seconds(5)..=seconds(10)).contains(&pauses[0]), "{pauses:?}");
    assert!(pauses.iter().all(|pause| *pause <= seconds(60)) && pauses.len() < 25, "{pauses:?}");
    assert!(pauses[4..].iter().all(|pause| *pause >= seconds(30)), "{pauses:?}");
    assert_eq!(script.reread(), asked.len() as u64 - before as u64, "credentials are read again each time");
    assert_eq!(consumer.held, world.truth(), "what is held stays");
    revoked.store(false, std::sync::atomic::Ordering::Relaxed);
    consumer.until("connected").await;
    assert_eq!(script.asked_for(For::FirstPage).len(), 1, "no list is needed");
}

#[tokio::test(start_paused = true)]
async fn k15_credentials_that_were_renewed_cost_one_request() {
    let world = World::new(&["a"]);
    let script =
        script(&world, first(For::StreamingList, vec![Reply::status(401, "Unauthorized", "expired")]));
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    assert_eq!(consumer.told(), ["init", "done first", "connected"], "nothing is said of it");
    assert_eq!(script.reread(), 1);
}

#[tokio::test(start_paused = true)]
async fn k15_forbidden_is_told_apart_and_tried_slowly() {
    let world = World::new(&["a"]);
    let script = script(&world, |_| Some(Reply::status(403, "Forbidden", "namespaces is forbidden")));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(600)).await;
    let asked = script.asked().len();
    assert!((10..=24).contains(&asked), "{asked} attempts in 10 minutes");
    assert_eq!(consumer.times("Forbidden"), asked);
    assert_eq!((script.looked_again(), script.reread()), (1, 0), "once: who we are may have changed");
    let text = consumer.told()[0].to_owned();
    assert!(text.contains("/api/v1/namespaces at test:6443"), "{text}");
    let rule = r#"{apiGroups: [\"\"], resources: [\"namespaces\"], verbs: [get, list, watch]}"#;
    assert!(text.contains(rule), "what to add: {text}");
}

#[tokio::test(start_paused = true)]
async fn k15_credentials_that_were_good_meanwhile_are_read_again_at_once() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let revoked = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let is_revoked = Arc::clone(&revoked);
    let script = script(&world, move |asked| {
        let refuses = is_revoked.load(std::sync::atomic::Ordering::Relaxed);
        (asked.is_for() == For::Watch && refuses).then(|| {
            // The first one with the old credentials, the next one with new ones.
            is_revoked.store(false, std::sync::atomic::Ordering::Relaxed);
            Reply::status(401, "Unauthorized", "expired")
        })
    });
    let mut consumer = Consumer::new(&script);
    consumer.until("connected").await;
    for round in 1..=3 {
        consumer.run(seconds(31)).await;
        revoked.store(true, std::sync::atomic::Ordering::Relaxed);
        world.end_watches(false);
        consumer.run(seconds(1)).await;
        assert_eq!(script.reread(), round);
        assert_eq!(consumer.times("Unauthorized"), 0, "round {round}: {:?}", consumer.told());
    }
}

#[tokio::test(start_paused = true)]
async fn k15_credentials_are_read_again_once_for_each_row_of_403() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let forbidden = || Reply::status(403, "Forbidden", "no");
    let mut lists = first(For::FirstPage, vec![forbidden(), forbidden()]);
    let mut watches = first(For::Watch, vec![forbidden(), forbidden(), forbidden()]);
    let mut probes = first(For::Probe, vec![forbidden(), forbidden()]);
    let script =
        script(&world, move |asked| lists(asked).or_else(|| watches(asked)).or_else(|| probes(asked)));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(900)).await;
    assert_eq!((consumer.times("Forbidden"), script.looked_again()), (7, 3), "{:?}", consumer.told());
    assert_eq!(consumer.told().last(), Some(&"idle"), "{:?}", consumer.told());
}

#[tokio::test(start_paused = true)]
async fn k15_a_401_is_a_refusal_whatever_page_comes_with_it() {
    let world = World::new(&["a"]).streaming(Streams::Refused);
    let script = script(&world, |asked| (asked.is_for() == For::FirstPage).then(|| Reply::page(401)));
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(600)).await;
    let asked = script.asked_for(For::FirstPage).len();
    assert!((10..=25).contains(&asked), "{asked} attempts in 10 minutes");
    assert_eq!(consumer.times("Unauthorized"), asked - 1, "{:?}", consumer.told());
    assert_eq!(script.reread(), asked as u64);
    assert!(consumer.told()[0].contains("HTTP 401: an answer of type text/html"), "{:?}", consumer.told());
    assert_eq!(script.suspected(), 0, "it is no fault of the connection");
}

#[tokio::test(start_paused = true)]
async fn k46_a_kind_that_was_listed_or_must_be_there_is_asked_for_again_soon() {
    let empty = || {
        let list = r#"{"kind":"GatewayList","apiVersion":"gateway.networking.k8s.io/v1",
            "metadata":{"resourceVersion":"5"},"items":[]}"#;
        Reply::body("application/json", vec![Piece::Bytes(list.as_bytes().to_vec())])
    };
    for needed in [false, true] {
        let mut lists = 0;
        let script = Script::new(move |asked| match asked.is_for() {
            For::StreamingList => Reply::status(422, "Invalid", "sendInitialEvents: Forbidden"),
            For::FirstPage if !needed && lists == 0 => {
                lists += 1;
                empty()
            }
            _ => Reply::status(404, "NotFound", "the server could not find it"),
        });
        let source = KubeSource::new(Arc::clone(&script) as Arc<dyn Exchange>, Arc::default());
        let source = if needed { source.needed() } else { source };
        let mut source: Source<GatewayObject> = source.start();
        let mut missing = 0;
        let until = Instant::now() + seconds(600);
        while let Ok(event) = tokio::time::timeout_at(until, source.events.next()).await {
            missing += usize::from(matches!(event, Some(SourceEvent::Failed(Failure::NotServed(_)))));
        }
        assert!((10..=24).contains(&missing), "{missing} attempts, needed: {needed}");
        assert_eq!(source.control.counts().phase(), SourcePhase::Paused);
    }
}

#[tokio::test(start_paused = true)]
async fn k46_a_kind_that_is_not_served_is_asked_for_every_10_minutes() {
    let plain = || Reply::Answer {
        status: 404,
        content_type: Some("text/plain; charset=utf-8".to_owned()),
        retry_after: None,
        body: vec![Piece::Bytes(b"404 page not found\n".to_vec())],
    };
    for as_status in [true, false] {
        let script = Script::new(move |_| {
            if as_status { Reply::status(404, "NotFound", "the server could not find it") } else { plain() }
        });
        let exchange = Arc::clone(&script) as Arc<dyn Exchange>;
        let mut source: Source<GatewayObject> = KubeSource::new(exchange, Arc::default()).start();
        let event = source.events.next().await;
        assert!(matches!(event, Some(SourceEvent::Failed(Failure::NotServed(_)))), "{event:?}");
        assert_eq!(source.control.counts().phase(), SourcePhase::NotServed);
        let mut events = source.events;
        let mut consume = async |time| {
            let all = async { while events.next().await.is_some() {} };
            let _ = tokio::time::timeout(time, all).await;
        };
        consume(seconds(3599)).await;
        assert_eq!(script.asked().len(), 6, "one hour");
        source.control.relist(ListReason::Requested);
        consume(seconds(1)).await;
        assert_eq!(script.asked().len(), 7, "a request of the consumer does not wait");
    }
}

#[tokio::test(start_paused = true)]
async fn k46_a_page_that_says_404_proves_nothing() {
    let script = Script::new(|_| Reply::page(404));
    let exchange = Arc::clone(&script) as Arc<dyn Exchange>;
    let mut source: Source<GatewayObject> = KubeSource::new(exchange, Arc::default()).start();
    let event = source.events.next().await;
    assert!(matches!(event, Some(SourceEvent::Failed(Failure::Refused(_)))), "{event:?}");
}
