//! The resolver on virtual time, over scripted servers; and over a real server.

mod real_server;

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::lookup::{Code, Found, Lookup, Records, Response, Upstream};
use super::table::{Rules, Table};
use super::{GatewayNames, NameStatus, Resolver};
use crate::ingest::convert::SpecialAddresses;
use crate::ingest::snapshot::Memory;
use crate::model::{ClusterRole, GatewayHost, Hostname, Quirk, Quirks};
use crate::registry::{ClusterWriter, NetworkClaim, Registry};

const HOST: &str = "test.gw.istio.io";

/// What a scripted server answers to both kinds of questions.
#[derive(Clone)]
enum Answer {
    /// These addresses, with this TTL.
    Records(Vec<IpAddr>, u32),
    NxDomain(u32),
    /// No error and no records at all.
    Empty,
    ServFail,
    Refused,
    Unreachable,
}

/// Servers that answer what they are told to, and remember who asked what and when.
#[derive(Clone, Default)]
struct Script(Arc<Mutex<Scripted>>);

#[derive(Default)]
struct Scripted {
    servers: Vec<SocketAddr>,
    answers: HashMap<(SocketAddr, String, bool), Answer>,
    asked: Vec<(Instant, SocketAddr, String, bool)>,
}

fn server(n: u8) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, n], 53))
}

impl Script {
    fn servers(count: u8) -> Self {
        let script = Self::default();
        script.0.lock().unwrap().servers = (1..=count).map(server).collect();
        script
    }

    /// What server `n` says of a host, for A and AAAA.
    fn says_of(&self, n: u8, host: &str, a: Answer, aaaa: Answer) {
        let answers = &mut self.0.lock().unwrap().answers;
        answers.insert((server(n), host.to_owned(), true), a);
        answers.insert((server(n), host.to_owned(), false), aaaa);
    }

    fn says(&self, n: u8, answer: &Answer) {
        self.says_of(n, HOST, answer.clone(), answer.clone());
    }

    /// Questions since the last call.
    fn asked(&self) -> usize {
        std::mem::take(&mut self.0.lock().unwrap().asked).len()
    }
}

impl Upstream for Script {
    fn servers(&self) -> BoxFuture<'_, Vec<SocketAddr>> {
        std::future::ready(self.0.lock().unwrap().servers.clone()).boxed()
    }

    fn ask<'a>(
        &'a self,
        server: SocketAddr,
        host: &'a Hostname,
        records: Records,
    ) -> BoxFuture<'a, Result<Response, String>> {
        let v4 = records == Records::A;
        let mut script = self.0.lock().unwrap();
        script.asked.push((Instant::now(), server, host.to_string(), v4));
        let answer =
            script.answers.get(&(server, host.to_string(), v4)).cloned().unwrap_or(Answer::Unreachable);
        std::future::ready(response(answer, v4)).boxed()
    }
}

fn response(answer: Answer, v4: bool) -> Result<Response, String> {
    let plain = |code, ttl| Ok(Response { code, addresses: Vec::new(), ttl });
    match answer {
        Answer::Records(addresses, ttl) => {
            let addresses = addresses.into_iter().filter(|address| address.is_ipv4() == v4).collect();
            Ok(Response { code: Code::NoError, addresses, ttl: Some(ttl) })
        }
        Answer::NxDomain(ttl) => plain(Code::NxDomain, Some(ttl)),
        Answer::Empty => plain(Code::NoError, None),
        Answer::ServFail => plain(Code::ServFail, None),
        Answer::Refused => plain(Code::Other("REFUSED".to_owned()), None),
        Answer::Unreachable => Err("timed out".to_owned()),
    }
}

fn records(texts: &[&str], ttl: u32) -> Answer {
    Answer::Records(texts.iter().map(|text| text.parse().unwrap()).collect(), ttl)
}

/// A registry with a resolver over a script.
struct World {
    registry: Arc<Registry>,
    names: Arc<GatewayNames>,
    writer: ClusterWriter,
    task: JoinHandle<()>,
}

impl Drop for World {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn claim(cluster: &str, hosts: &[&str]) -> NetworkClaim {
    let gateway = |host: &&str| GatewayHost {
        network: "n1".into(),
        cluster: cluster.into(),
        host: (*host).into(),
        port: 15443,
        hbone_port: 0,
    };
    NetworkClaim { network: None, gateways: Vec::new(), hosts: hosts.iter().map(gateway).collect() }
}

impl World {
    fn new(upstream: impl Upstream, quirks: Quirks, special: SpecialAddresses) -> Self {
        Self::remembering(upstream, quirks, special, Arc::default())
    }

    fn remembering(
        upstream: impl Upstream,
        quirks: Quirks,
        special: SpecialAddresses,
        memory: Arc<Memory>,
    ) -> Self {
        let registry = Registry::new();
        let writer = registry.writer("c1".into(), ClusterRole::Config).unwrap();
        let names = Arc::<GatewayNames>::default();
        let resolver = Resolver::new(upstream, Arc::clone(&registry), Arc::clone(&names), special, quirks);
        let task = tokio::spawn(resolver.remembering(memory).run());
        Self { registry, names, writer, task }
    }

    fn over(script: &Script) -> Self {
        Self::new(script.clone(), Quirks::OURS, SpecialAddresses::Drop)
    }

    fn names(&mut self, hosts: &[&str]) {
        self.writer.claim_networks(claim("c1", hosts));
    }

    /// The gateways, and how many pushes they cost since the last call.
    fn sees(&self) -> (Vec<String>, usize) {
        let networks = self.registry.networks();
        let addresses = networks.gateways().map(|gateway| gateway.address.to_string()).collect();
        let pushes = usize::from(!self.registry.changes().take().networks.is_empty());
        (addresses, pushes)
    }

    fn status(&self, host: &str) -> NameStatus {
        self.names.all().into_iter().find(|status| *status.host == *host).unwrap()
    }
}

/// Lets virtual time pass.
async fn pass(seconds: u64) {
    sleep(Duration::from_secs(seconds)).await;
}

fn seen(addresses: &[&str], pushes: usize) -> (Vec<String>, usize) {
    (addresses.iter().map(|address| (*address).to_owned()).collect(), pushes)
}

/// The narrative of the case, with our answer to Q31 (D8): a name that is gone keeps its addresses for five
/// minutes; the peer drops them at once.
async fn gateway_hostnames(quirks: Quirks) {
    let script = Script::servers(2);
    script.says(1, &Answer::ServFail);
    script.says(2, &records(&["10.0.0.0", "fd00::"], 60));
    let mut world = World::new(script.clone(), quirks, SpecialAddresses::Drop);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees(), seen(&["10.0.0.0", "fd00::"], 1), "first answer");
    assert_eq!(script.asked(), 4, "both kinds at both servers");

    script.says(2, &records(&["10.0.0.1", "fd00::1"], 60));
    pass(60).await;
    assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::1"], 1), "TTL over");

    script.says(2, &Answer::ServFail);
    pass(3600).await;
    assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::1"], 0), "all servers fail: kept without limit");
    assert!(world.status(HOST).last_error.unwrap().contains("SERVFAIL"));
    let asked = script.asked() / 4;
    assert!((115..=125).contains(&asked), "asked every 30 s, not {asked} times in an hour");

    script.says(2, &records(&["10.0.0.2", "fd00::2"], 60));
    pass(31).await;
    assert_eq!(world.sees(), seen(&["10.0.0.2", "fd00::2"], 1), "recovered");

    script.says(2, &Answer::NxDomain(30));
    pass(60).await;
    if !quirks.has(Quirk::Q31) {
        assert_eq!(world.sees(), seen(&["10.0.0.2", "fd00::2"], 0), "kept for a while");
        assert!(world.status(HOST).gone_for.is_some());
        pass(300).await;
    }
    assert_eq!(world.sees(), seen(&[], 1), "gone");

    script.says(2, &records(&["10.0.0.3"], 60));
    pass(31).await;
    assert_eq!(world.sees(), seen(&["10.0.0.3"], 1), "back");

    world.names(&[]);
    pass(1).await;
    assert_eq!(world.sees(), seen(&[], 1), "not configured any more");
    script.asked();
    pass(7200).await;
    assert_eq!(script.asked(), 0, "nobody asks for it");
    assert!(world.names.all().is_empty());
}

#[tokio::test(start_paused = true)]
async fn dns_01_gateway_host_names_live_with_their_records() {
    gateway_hostnames(Quirks::OURS).await;
}

#[tokio::test(start_paused = true)]
async fn q31_the_peer_drops_a_name_that_is_gone_at_once() {
    gateway_hostnames(Quirks::of([Quirk::Q31])).await;
}

#[tokio::test(start_paused = true)]
async fn r3_15_servers_are_asked_in_order_until_one_knows() {
    let script = Script::servers(3);
    script.says(1, &Answer::Unreachable);
    script.says(2, &records(&["10.0.0.2"], 60));
    script.says(3, &records(&["10.0.0.3"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees().0, ["10.0.0.2"]);
    assert_eq!(script.asked(), 4, "the third is not asked");

    script.says(1, &Answer::NxDomain(30));
    pass(60).await;
    assert_eq!(world.sees().0, ["10.0.0.2"], "`no such name` of one server is no reason not to ask the next");
    script.says(1, &Answer::Refused);
    script.says(2, &Answer::Refused);
    script.says(3, &Answer::NxDomain(30));
    pass(60).await;
    assert!(world.status(HOST).gone_for.is_some(), "one server says that it is gone, nobody else knows");
}

#[tokio::test(start_paused = true)]
async fn d08_operators_see_which_addresses_are_held_and_when_they_are_asked_for() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1", "fd00::1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    assert!(world.status(HOST).last_good.is_empty());
    script.says(1, &Answer::Unreachable);
    // Nobody answers for an hour: always asked again within half a minute, and always said when.
    let mut waits = Vec::new();
    for _ in 0..60 {
        pass(61).await;
        waits.push(world.status(HOST).next);
    }
    assert!(waits.iter().all(|wait| *wait <= Duration::from_secs(30)), "{waits:?}");
    assert!(waits.iter().any(|wait| *wait > Duration::from_secs(1)), "{waits:?}");
    let status = world.status(HOST);
    assert_eq!((status.last_good, status.ttl_left), (status.addresses, Some(Duration::ZERO)));
    script.says(1, &records(&["10.0.0.1", "fd00::1"], 60));
    pass(31).await;
    assert!(world.status(HOST).last_good.is_empty());
}

#[tokio::test(start_paused = true)]
async fn r3_15_refusal_is_no_answer() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    script.says(1, &Answer::Refused);
    pass(7200).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
    let status = world.status(HOST);
    assert!(
        status.last_error.unwrap().contains("REFUSED") && status.age.unwrap() > Duration::from_secs(7000)
    );
}

#[tokio::test(start_paused = true)]
async fn r3_15_one_failing_kind_of_records_is_tolerated() {
    let script = Script::servers(1);
    let both = records(&["10.0.0.1", "fd00::1"], 300);
    script.says(1, &both);
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::1"], 1));
    script.says_of(1, HOST, records(&["10.0.0.2"], 300), Answer::ServFail);
    pass(300).await;
    assert_eq!(world.sees(), seen(&["10.0.0.2", "fd00::1"], 1), "what failed stands as it was");
    assert!(world.status(HOST).last_error.unwrap().starts_with("AAAA:"));
    assert_eq!(world.status(HOST).last_good, ["fd00::1".parse::<IpAddr>().unwrap()], "the other is fresh");
    script.says(1, &records(&["10.0.0.3"], 300));
    pass(31).await;
    assert_eq!(
        world.sees(),
        seen(&["10.0.0.3", "fd00::1"], 1),
        "asked again soon, although the other kind lives longer"
    );
    pass(300).await;
    assert_eq!(world.sees(), seen(&["10.0.0.3"], 1), "a kind that is gone has had its grace");
    script.says_of(1, HOST, Answer::ServFail, Answer::Empty);
    pass(7200).await;
    assert_eq!(
        world.sees(),
        seen(&["10.0.0.3"], 0),
        "an empty answer beside a failing one takes nothing away"
    );
}

#[tokio::test(start_paused = true)]
async fn r3_16_life_is_at_least_half_a_minute_and_at_most_an_hour() {
    // Twice per half minute where a cache may answer, else five seconds or a tenth, or half as much again, ahead of
    // the end.
    for (ttl, at_most, at_least) in [(1, 245, 235), (30, 142, 129), (600, 7, 5), (86_400, 1, 1)] {
        let script = Script::servers(1);
        script.says(1, &records(&["10.0.0.1"], ttl));
        let mut world = World::over(&script);
        world.names(&[HOST]);
        pass(1).await;
        script.asked();
        pass(3600).await;
        let asked = script.asked() / 2;
        assert!((at_least..=at_most).contains(&asked), "ttl {ttl}: {asked} lookups in an hour");
        assert_eq!(world.sees().1, 1, "equal answers push nothing");
    }
}

#[tokio::test(start_paused = true)]
async fn r3_16_an_answer_is_renewed_before_it_ends() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 100));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    script.asked();
    pass(91).await;
    assert_eq!(script.asked(), 0);
    pass(4).await;
    assert_eq!(script.asked(), 2, "five seconds ahead, or up to half as much again");
    assert!(world.status(HOST).ttl_left.unwrap() > Duration::from_secs(95));
}

#[tokio::test(start_paused = true)]
async fn names_that_were_asked_for_together_drift_apart() {
    let rules = Rules { keep_gone: Duration::from_secs(300), special: SpecialAddresses::Drop };
    let mut table = Table::new(rules);
    let start = Instant::now();
    table.want(&(0..100).map(|n| Hostname::from(format!("gw{n}.example").as_str())).collect(), start);
    let found = |text: &str| Ok(Found { addresses: vec![text.parse().unwrap()], ttl: Some(600) });
    for due in table.due(start, 100) {
        table.answer(&due, Lookup { v4: found("10.0.0.1"), v6: found("fd00::1") }, start);
    }
    let first = table.wake().unwrap();
    assert!(first >= start + Duration::from_millis(592_500), "{:?}", first - start);
    // Ten at most in any tenth of the two and a half seconds would be even; all at once is what must not be.
    let mut bursts = Vec::new();
    for step in 0..=10 {
        bursts.push(table.due(start + Duration::from_millis(592_500 + 250 * step), 100).len());
    }
    assert_eq!(bursts.iter().sum::<usize>(), 100, "none later than five seconds ahead");
    assert!(bursts.iter().all(|burst| *burst < 40), "{bursts:?}");
}

#[tokio::test(start_paused = true)]
async fn r3_16_a_copy_from_a_cache_is_asked_for_again_at_its_end() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 100));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    // A caching server counts down: asked ahead of the end it has five seconds left.
    script.says(1, &records(&["10.0.0.1"], 5));
    pass(96).await;
    script.says(1, &records(&["10.0.0.2"], 100));
    script.asked();
    pass(5).await;
    assert_eq!(script.asked(), 2);
    assert_eq!(world.sees().0, ["10.0.0.2"], "not later than the record's end");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_was_never_resolved_is_tried_soon_again() {
    let script = Script::servers(1);
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(8).await;
    assert_eq!(script.asked() / 2, 4, "at once, then after 1, 2 and 4 seconds");
    script.says(1, &records(&["10.0.0.1"], 60));
    pass(8).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn one_lookup_serves_every_gateway_of_a_name() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 60));
    let mut world = World::over(&script);
    let mut other = world.registry.writer("c2".into(), ClusterRole::Remote).unwrap();
    world.names(&[HOST]);
    let mut second = claim("c2", &[HOST]);
    second.hosts.push(GatewayHost { port: 443, ..second.hosts[0].clone() });
    other.claim_networks(second);
    pass(1).await;
    assert_eq!(script.asked(), 2);
    assert_eq!(world.sees().0.len(), 3);
    world.names(&[]);
    pass(1).await;
    assert_eq!(world.sees().0.len(), 2, "the other cluster's stay");
    assert_eq!(script.asked(), 0);
    world.names(&[HOST]);
    assert_eq!(world.sees().0.len(), 3, "known: no lookup, no wait");
}

#[tokio::test(start_paused = true)]
async fn a_name_that_comes_back_at_once_has_its_addresses() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 3600));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    // The registry forgets the name in between; the resolver sees only the end of it.
    world.names(&[]);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn k40_special_addresses_are_dropped_unless_allowed() {
    let script = Script::servers(1);
    script.says(1, &records(&["127.0.0.1", "169.254.1.1", "10.0.0.1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
    assert!(world.status(HOST).last_error.unwrap().contains("not used"));
    assert!(world.status(HOST).last_good.is_empty(), "what is left is fresh");
    let mut world = World::new(script.clone(), Quirks::OURS, SpecialAddresses::Keep);
    world.names(&[HOST]);
    pass(1).await;
    assert_eq!(world.sees().0.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn k40_d08_an_answer_of_special_addresses_only_takes_nothing_away_at_once() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    script.says(1, &records(&["127.0.0.1"], 60));
    pass(300).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
    assert!(world.status(HOST).last_error.unwrap().contains("not used"));
    pass(120).await;
    assert!(world.sees().0.is_empty());
}

#[tokio::test(start_paused = true)]
async fn d08_a_failing_lookup_ends_the_wait_for_a_name_that_was_gone() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    script.says(1, &Answer::NxDomain(30));
    pass(100).await;
    script.says(1, &Answer::ServFail);
    pass(3600).await;
    assert_eq!(world.sees().0, ["10.0.0.1"]);
}

#[tokio::test(start_paused = true)]
async fn r3_16_a_copy_is_one_in_any_order() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1", "10.0.0.2"], 100));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    script.says(1, &records(&["10.0.0.2", "10.0.0.1"], 5));
    pass(96).await;
    script.says(1, &records(&["10.0.0.3"], 100));
    pass(6).await;
    assert_eq!(world.sees().0, ["10.0.0.3"], "asked at the end of the first answer");
}

#[tokio::test(start_paused = true)]
async fn names_that_fail_do_not_keep_others_waiting() {
    let script = Script::servers(1);
    let failing: Vec<_> = (0..60).map(|n| format!("a{n}.example")).collect();
    for host in &failing {
        script.says_of(1, host, Answer::ServFail, Answer::ServFail);
    }
    script.says_of(1, "z.example", records(&["10.0.0.1"], 60), Answer::Empty);
    let rules = Rules { keep_gone: Duration::from_secs(300), special: SpecialAddresses::Drop };
    let mut table = Table::new(rules);
    let wanted = failing.iter().map(|host| host.as_str().into()).chain(["z.example".into()]).collect();
    let start = Instant::now();
    table.want(&wanted, start);
    // Sixteen at a time, each failing after ten seconds.
    for round in 0..4 {
        let now = start + Duration::from_secs(10 * round);
        let due = table.due(now, 16);
        if due.iter().any(|due| &*due.host == "z.example") {
            return;
        }
        for due in due {
            let failed = || Err("SERVFAIL".to_owned());
            table.answer(&due, Lookup { v4: failed(), v6: failed() }, now + Duration::from_secs(10));
        }
    }
    panic!("the last name is never asked for");
}

#[tokio::test(start_paused = true)]
async fn hundreds_of_names_are_looked_up_side_by_side() {
    let script = Script::servers(1);
    let hosts: Vec<_> = (0..300).map(|n| format!("gw{n}.example")).collect();
    for (n, host) in hosts.iter().enumerate() {
        let address = format!("10.0.{}.{}", n / 200, n % 200);
        script.says_of(1, host, records(&[&address], 60), Answer::Empty);
    }
    let mut world = World::over(&script);
    world.names(&hosts.iter().map(String::as_str).collect::<Vec<_>>());
    let registry = Arc::clone(&world.registry);
    world.names.asked(move || registry.networks().host_names().cloned().collect()).await;
    assert_eq!(world.sees().0.len(), 300);
    assert_eq!(world.names.counts().queries.load(Ordering::Relaxed), 600);
    assert_eq!(world.names.counts().changes.load(Ordering::Relaxed), 300);
}

#[tokio::test(start_paused = true)]
async fn d08_each_kind_of_records_goes_and_fails_by_itself() {
    // The kind that goes, the one that fails, and what is left.
    let gone = [Answer::NxDomain(60), Answer::Empty, Answer::Records(Vec::new(), 60)];
    for (answer, v4_goes) in gone.iter().flat_map(|answer| [(answer, true), (answer, false)]) {
        let script = Script::servers(1);
        script.says(1, &records(&["10.0.0.1", "fd00::1"], 60));
        let mut world = World::over(&script);
        world.names(&[HOST]);
        pass(1).await;
        assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::1"], 1));
        match v4_goes {
            true => script.says_of(1, HOST, answer.clone(), Answer::ServFail),
            false => script.says_of(1, HOST, Answer::ServFail, answer.clone()),
        }
        pass(300).await;
        assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::1"], 0), "five minutes of grace");
        pass(100).await;
        let kept = if v4_goes { "fd00::1" } else { "10.0.0.1" };
        assert_eq!(world.sees(), seen(&[kept], 1), "a failing kind is kept, one that is gone is not");
        pass(3600).await;
        assert_eq!(world.sees(), seen(&[kept], 0));
        script.says(1, &records(&["10.0.0.2", "fd00::2"], 60));
        pass(31).await;
        assert_eq!(world.sees(), seen(&["10.0.0.2", "fd00::2"], 1));
    }
}

#[tokio::test(start_paused = true)]
async fn d08_a_kind_that_goes_while_the_other_is_answered_has_its_grace_too() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1", "fd00::1"], 60));
    let mut world = World::over(&script);
    world.names(&[HOST]);
    pass(1).await;
    world.sees();
    script.says_of(1, HOST, Answer::Empty, records(&["fd00::2"], 60));
    pass(60).await;
    assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::2"], 1), "what is answered counts at once");
    assert!(world.status(HOST).last_error.unwrap().contains("a while longer"));
    assert_eq!(world.status(HOST).gone_for, None, "the name itself is there");
    pass(241).await;
    assert_eq!(world.sees(), seen(&["10.0.0.1", "fd00::2"], 0));
    pass(60).await;
    assert_eq!(world.sees(), seen(&["fd00::2"], 1));
    assert_eq!(world.status(HOST).last_error, None);
}

#[tokio::test(start_paused = true)]
async fn q31_each_kind_of_records_goes_at_once() {
    let script = Script::servers(1);
    script.says(1, &records(&["10.0.0.1", "fd00::1"], 60));
    let mut world = World::new(script.clone(), Quirks::of([Quirk::Q31]), SpecialAddresses::Drop);
    world.names(&[HOST]);
    pass(1).await;
    world.sees();
    script.says_of(1, HOST, Answer::NxDomain(60), Answer::ServFail);
    pass(60).await;
    assert_eq!(world.sees(), seen(&["fd00::1"], 1));
}

#[tokio::test(start_paused = true)]
async fn d8_what_a_name_resolved_to_before_a_restart_holds_until_dns_says_something() {
    let script = Script::servers(1);
    script.says(1, &Answer::Unreachable);
    let memory = Arc::<Memory>::default();
    let address = |text: &str| -> IpAddr { text.parse().unwrap() };
    let before = vec![address("10.0.0.7"), address("fd00::7"), address("127.0.0.1")];
    memory.recall_addresses(&[(HOST.into(), before), ("unused.example".into(), vec![])].into());
    let mut world =
        World::remembering(script.clone(), Quirks::OURS, SpecialAddresses::Drop, Arc::clone(&memory));
    world.names(&[HOST]);
    pass(3600).await;
    assert_eq!(world.sees(), seen(&["10.0.0.7", "fd00::7"], 1), "without limit; K-40");
    script.says(1, &records(&["10.0.0.8"], 60));
    pass(60).await;
    assert_eq!(world.sees(), seen(&["10.0.0.8", "fd00::7"], 1), "a kind that is gone has its grace");
    pass(400).await;
    assert_eq!(world.sees(), seen(&["10.0.0.8"], 1));
    // It is not remembered over what DNS said.
    script.says(1, &Answer::NxDomain(30));
    pass(600).await;
    assert_eq!(world.sees(), seen(&[], 1));
}
