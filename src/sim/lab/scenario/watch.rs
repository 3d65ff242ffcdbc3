//! Who watches while a scenario plays: a steady load from every client, and a look at every client's Envoy and
//! every control plane each second.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde_json::Value;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::super::client::{Client, Load};
use super::super::control::{Replies, Reply};
use super::super::http::fetch;
use super::super::place::Place;
use super::super::plan::{HELLOWORLD, Plan};
use super::super::timeline::{Health, Observation, Requests, Updates, Weights};
use super::super::{Lab, LabError};
use super::record::Record;
use super::stage::Stage;

/// Between two looks.
const SECOND: Duration = Duration::from_secs(1);
/// What a client's Envoy says about updates.
const UPDATES: &str =
    r"^cluster_manager\.cds\.update_success$|^cluster\..*update_(success|rejected)$|update_rejected$";

/// The watchers. Dropping them ends them.
pub(super) struct Watch {
    stop: CancellationToken,
    loads: JoinSet<Result<(), LabError>>,
    looks: JoinSet<()>,
    record: Arc<Record>,
    sent: Arc<AtomicUsize>,
}

impl Watch {
    /// Starts watching.
    ///
    /// # Errors
    /// [`LabError`] when a load cannot be started.
    pub(super) fn start(stage: &Stage, replies: &Replies) -> Result<Self, LabError> {
        let (lab, record) = (&stage.lab, &stage.record);
        let stop = CancellationToken::new();
        let (mut loads, mut looks) = (JoinSet::new(), JoinSet::new());
        for client in stage.clients.clone() {
            let load = client.load(&HELLOWORLD)?;
            let name = client.cluster.name.clone();
            loads.spawn(follow(load, name, Arc::clone(record), stop.clone()));
            looks.spawn(look_at_client(client, Arc::clone(lab), Arc::clone(record)));
        }
        for control_plane in lab.control_planes() {
            let (name, url) = (control_plane.name().to_owned(), control_plane.http_url());
            looks.spawn(look_at_control_plane(name, url, Arc::clone(record)));
        }
        let sent = Arc::new(AtomicUsize::new(0));
        looks.spawn(send_rows(Arc::clone(record), replies.clone(), Arc::clone(&sent)));
        Ok(Self { stop, loads, looks, record: Arc::clone(record), sent })
    }

    /// Ends the loads, waits for what is under way, ends looking, and sends the rows that are left.
    ///
    /// # Errors
    /// [`LabError`] of a load that did not run to its end.
    pub(super) async fn end(mut self, replies: &Replies) -> Result<(), LabError> {
        self.stop.cancel();
        let mut outcome = Ok(());
        while let Some(ended) = self.loads.join_next().await {
            // A task that panicked has said so.
            outcome = outcome.and(ended.unwrap_or(Ok(())));
        }
        self.looks.shutdown().await;
        for row in self.record.rows().into_iter().skip(self.sent.load(Ordering::Relaxed)) {
            replies.send(Reply::Row(row));
        }
        outcome
    }
}

/// Notes what a load reports, until it is told to end and has.
async fn follow(
    mut load: Load,
    client: String,
    record: Arc<Record>,
    stop: CancellationToken,
) -> Result<(), LabError> {
    loop {
        // Unbiased: both come often enough.
        let report = tokio::select! {
            report = load.next() => report?,
            () = stop.cancelled() => break,
        };
        let Some(report) = report else {
            return Err(super::wrong(format!("the load of {client} goes on"), "it ended".to_owned()));
        };
        note(&record, &client, &report);
    }
    load.terminate();
    while let Some(report) = load.next().await? {
        note(&record, &client, &report);
    }
    Ok(())
}

fn note(record: &Record, client: &str, report: &Value) {
    // The last report counts everything once more.
    if report["final"] != true {
        record.note(Observation::Requests(client.to_owned(), requests(report)));
    }
}

fn requests(report: &Value) -> Requests {
    let counts = |key: &str| -> BTreeMap<String, u64> {
        let entries = report[key].as_object().into_iter().flatten();
        entries.filter_map(|(what, count)| Some((what.clone(), count.as_u64()?))).collect()
    };
    Requests {
        ok: report["ok"].as_u64().unwrap_or(0),
        failed: report["failed"].as_u64().unwrap_or(0),
        by: counts("by"),
        errors: counts("errors"),
    }
}

async fn look_at_client(client: Client, lab: Arc<Lab>, record: Arc<Record>) {
    let name = client.cluster.name.clone();
    let near = Near::new(&client);
    let mut ticks = interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        near.meet(&lab);
        // An Envoy that does not answer keeps what was seen last.
        if let Ok(clusters) = client.pod.admin().clusters().await {
            near.meet(&lab);
            for host in
                near.strangers(clusters.iter().flat_map(|(of, hosts)| hosts.keys().map(move |h| (of, h))))
            {
                record.violation(format!("{}: {host}", client.pod.path()));
            }
            let hosts = clusters.get(&HELLOWORLD.envoy_cluster()).cloned().unwrap_or_default();
            let weights: Weights = hosts.into_iter().map(|(host, found)| (host, found.weight)).collect();
            record.note(Observation::Hosts(name.clone(), weights));
        }
        if let Ok(stats) = client.pod.admin().stats(UPDATES).await {
            record.note(Observation::Updates(name.clone(), updates(&stats)));
        }
    }
}

/// The addresses that a client may have: those that pods of its network have or had, gateways', and those of its
/// network's API servers, which real ones publish as Service `kubernetes`.
struct Near {
    network: String,
    met: Mutex<BTreeSet<String>>,
}

impl Near {
    fn new(client: &Client) -> Self {
        Self { network: client.cluster.network.clone(), met: Mutex::default() }
    }

    /// Notes who is there now.
    fn meet(&self, lab: &Lab) {
        let mut met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let own = lab.plan().clusters.iter().filter(|cluster| cluster.network == self.network);
        met.extend(own.map(|cluster| cluster.api.to_string()));
        for pod in lab.pods() {
            if is_in(lab.plan(), pod.cluster(), &self.network) {
                met.insert(pod.address().to_string());
            }
            met.extend(pod.outer_address().map(|address| address.to_string()));
        }
    }

    /// The hosts of outbound Envoy clusters that are none of those.
    fn strangers<'a>(&self, hosts: impl Iterator<Item = (&'a String, &'a String)>) -> Vec<String> {
        let met = self.met.lock().unwrap_or_else(PoisonError::into_inner);
        let address =
            |host: &str| host.rsplit_once(':').map_or(host.to_owned(), |(start, _)| start.to_owned());
        hosts
            .filter(|(cluster, _)| cluster.starts_with("outbound|"))
            .filter(|(_, host)| !met.contains(&address(host)))
            .map(|(cluster, host)| format!("{host} in {cluster}"))
            .collect()
    }
}

fn is_in(plan: &Plan, cluster: &str, network: &str) -> bool {
    plan.cluster(cluster).is_some_and(|cluster| cluster.network == network)
}

fn updates(stats: &BTreeMap<String, u64>) -> Updates {
    let of_service = format!("cluster.{}", HELLOWORLD.envoy_cluster());
    let sum =
        |wanted: &dyn Fn(&str) -> bool| stats.iter().filter(|(name, _)| wanted(name)).map(|(_, n)| n).sum();
    Updates {
        cds: sum(&|name| name == "cluster_manager.cds.update_success"),
        eds: sum(&|name| name.starts_with(&of_service) && name.ends_with("update_success")),
        rejected: sum(&|name| name.ends_with("update_rejected")),
    }
}

async fn look_at_control_plane(name: String, url: String, record: Arc<Record>) {
    let page = format!("{url}/debug/clusters");
    let mut ticks = interval(SECOND);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // One that does not answer says nothing of any cluster.
        let text = fetch(Place::Here, "GET", &page).await.unwrap_or_default();
        record.note(Observation::Health(name.clone(), health(&text)));
    }
}

fn health(page: &str) -> Health {
    let page: Value = serde_json::from_str(page).unwrap_or_default();
    let clusters = page["clusters"].as_array().into_iter().flatten();
    let word = |row: &Value| Some((row["id"].as_str()?.to_owned(), row["health"].as_str()?.to_owned()));
    clusters.filter_map(word).collect()
}

/// Sends each second's row once it is over.
async fn send_rows(record: Arc<Record>, replies: Replies, sent: Arc<AtomicUsize>) {
    let mut ticks = interval(SECOND);
    loop {
        ticks.tick().await;
        for row in record.closed(sent.load(Ordering::Relaxed)) {
            sent.fetch_add(1, Ordering::Relaxed);
            replies.send(Reply::Row(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_report_of_the_load_is_read() {
        let report =
            json!({"ok": 9, "failed": 1, "by": {"v1/east": 9}, "errors": {"timeout": 1}, "t_ms": 250});
        let read = requests(&report);
        assert_eq!((read.ok, read.failed, read.by["v1/east"], read.errors["timeout"]), (9, 1, 9, 1));
    }

    #[test]
    fn updates_of_the_watched_service_are_told_from_others() {
        let stats = [
            ("cluster_manager.cds.update_success", 4),
            ("cluster.outbound|5000||helloworld.sample.svc.cluster.local;.update_success", 7),
            ("cluster.outbound|9000||echo.sample.svc.cluster.local;.update_success", 5),
            ("listener_manager.lds.update_rejected", 1),
        ];
        let stats = stats.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(updates(&stats), Updates { cds: 4, eds: 7, rejected: 1 });
    }

    #[test]
    fn a_control_planes_page_is_read() {
        let page =
            r#"{"clusters":[{"id":"east","health":"live"},{"id":"west","health":"stale"}],"problems":[]}"#;
        assert_eq!(health(page)["west"], "stale");
        assert!(health("").is_empty());
    }

    #[test]
    fn a_host_nobody_of_the_network_has_is_a_stranger() {
        let near = Near { network: "net-east".to_owned(), met: Mutex::new(["10.10.16.1".to_owned()].into()) };
        let of = "outbound|5000||h".to_owned();
        let inbound = "inbound|5000||".to_owned();
        let hosts = ["10.10.16.1:5000".to_owned(), "10.10.16.2:5000".to_owned()];
        let strangers =
            near.strangers([(&of, &hosts[0]), (&of, &hosts[1]), (&inbound, &hosts[1])].into_iter());
        assert_eq!(strangers, ["10.10.16.2:5000 in outbound|5000||h"]);
    }
}
