//! What happened while a scenario ran, second by second. Pure: observations go in, rows come out.
//!
//! What is counted (requests) belongs to the second it was observed in; what is a state (hosts, counters,
//! cluster health) holds from when it was seen until something else is seen.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Hosts of one Envoy cluster: `address:port` → weight.
pub type Weights = BTreeMap<String, u32>;

/// Requests of one client.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Requests {
    /// Good answers.
    pub ok: u64,
    /// Bad answers and requests without one.
    pub failed: u64,
    /// Good answers by `version/cluster`.
    pub by: BTreeMap<String, u64>,
    /// Failures by reason.
    pub errors: BTreeMap<String, u64>,
}

impl Requests {
    /// Adds `more`.
    pub fn add(&mut self, more: &Self) {
        self.ok += more.ok;
        self.failed += more.failed;
        for (into, from) in [(&mut self.by, &more.by), (&mut self.errors, &more.errors)] {
            for (key, count) in from {
                *into.entry(key.clone()).or_default() += count;
            }
        }
    }
}

/// How often one Envoy took or refused configuration, since it started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Updates {
    /// Lists of Envoy clusters it took.
    pub cds: u64,
    /// Endpoints of the watched Envoy cluster it took.
    pub eds: u64,
    /// Configuration it refused, of any kind.
    pub rejected: u64,
}

/// Health of each cluster as one control plane says it: cluster → word.
pub type Health = BTreeMap<String, String>;

/// One observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The scenario did something.
    Done(String),
    /// Requests a client finished since the observation before.
    Requests(String, Requests),
    /// What a client's Envoy has for the watched service.
    Hosts(String, Weights),
    /// The counters of a client's Envoy.
    Updates(String, Updates),
    /// What a control plane says of its clusters.
    Health(String, Health),
}

/// Something the scenario did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// Milliseconds since the scenario began.
    pub at_ms: u64,
    /// What was done.
    pub what: String,
}

/// One client in one second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientRow {
    /// Requests that ended in this second.
    #[serde(flatten)]
    pub requests: Requests,
    /// Hosts of the watched service at its end.
    pub weights: Weights,
    /// Counters at its end.
    pub updates: Updates,
}

/// One second.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// Seconds since the scenario began.
    pub t: u64,
    /// What the scenario did in it.
    pub marks: Vec<Mark>,
    /// Each client by its cluster.
    pub clients: BTreeMap<String, ClientRow>,
    /// Each control plane's view of the clusters at its end.
    #[serde(rename = "controlPlanes")]
    pub control_planes: BTreeMap<String, Health>,
}

impl Row {
    /// The next second, before anything is known of it: states stay, counts begin anew.
    fn next(&self) -> Self {
        let clients = self.clients.iter().map(|(name, client)| {
            (name.clone(), ClientRow { requests: Requests::default(), ..client.clone() })
        });
        Self {
            t: self.t + 1,
            marks: Vec::new(),
            clients: clients.collect(),
            control_planes: self.control_planes.clone(),
        }
    }
}

/// All seconds so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Timeline {
    rows: Vec<Row>,
}

impl Timeline {
    /// Notes what was observed `at` after the beginning. Observations come in order of time; one that is late
    /// counts for the latest second.
    pub fn note(&mut self, at: Duration, observation: Observation) {
        self.reach(at);
        let Some(row) = self.rows.last_mut() else {
            return;
        };
        match observation {
            Observation::Done(what) => {
                row.marks.push(Mark { at_ms: u64::try_from(at.as_millis()).unwrap_or(u64::MAX), what });
            }
            Observation::Requests(client, more) => {
                row.clients.entry(client).or_default().requests.add(&more);
            }
            Observation::Hosts(client, weights) => row.clients.entry(client).or_default().weights = weights,
            Observation::Updates(client, updates) => {
                row.clients.entry(client).or_default().updates = updates;
            }
            Observation::Health(control_plane, health) => {
                row.control_planes.insert(control_plane, health);
            }
        }
    }

    /// Makes sure that the second of `at` has a row, and all before it.
    pub fn reach(&mut self, at: Duration) {
        while self.rows.len() as u64 <= at.as_secs() {
            let next = self.rows.last().map(Row::next).unwrap_or_default();
            self.rows.push(next);
        }
    }

    /// The rows, one per second.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// What each client's requests came to.
    pub fn totals(&self) -> BTreeMap<String, Requests> {
        let mut totals: BTreeMap<String, Requests> = BTreeMap::new();
        for (name, client) in self.rows.iter().flat_map(|row| &row.clients) {
            totals.entry(name.clone()).or_default().add(&client.requests);
        }
        totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn answered(ok: u64, by: &str) -> Observation {
        let requests = Requests { ok, by: [(by.to_owned(), ok)].into(), ..Requests::default() };
        Observation::Requests("east".to_owned(), requests)
    }

    fn weights(list: &[(&str, u32)]) -> Weights {
        list.iter().map(|(host, weight)| ((*host).to_owned(), *weight)).collect()
    }

    #[test]
    fn requests_belong_to_their_second_and_states_last() {
        let mut timeline = Timeline::default();
        let one = weights(&[("10.10.2.1:5000", 1)]);
        timeline.note(ms(100), Observation::Hosts("east".to_owned(), one.clone()));
        timeline.note(ms(250), answered(10, "v1/east"));
        timeline.note(ms(900), answered(9, "v2/west"));
        timeline.note(ms(2100), answered(5, "v1/east"));
        let rows = timeline.rows();
        assert_eq!(rows.iter().map(|row| row.t).collect::<Vec<_>>(), [0, 1, 2]);
        let ok = |t: usize| rows[t].clients["east"].requests.ok;
        assert_eq!((ok(0), ok(1), ok(2)), (19, 0, 5));
        assert_eq!(rows[0].clients["east"].requests.by["v2/west"], 9);
        assert!(rows.iter().all(|row| row.clients["east"].weights == one));
    }

    #[test]
    fn a_change_shows_in_the_second_it_was_seen_in() {
        let mut timeline = Timeline::default();
        let health = |word: &str| {
            Observation::Health("east".to_owned(), [("west".to_owned(), word.to_owned())].into())
        };
        timeline.note(ms(10), health("live"));
        timeline.note(ms(1200), Observation::Done("the API server of west is killed".to_owned()));
        timeline.note(ms(3500), health("stale"));
        let seen: Vec<_> = timeline.rows().iter().map(|row| &row.control_planes["east"]["west"]).collect();
        assert_eq!(seen, ["live", "live", "live", "stale"]);
        let marks: Vec<_> = timeline.rows().iter().map(|row| row.marks.len()).collect();
        assert_eq!(marks, [0, 1, 0, 0]);
        assert_eq!(timeline.rows()[1].marks[0].at_ms, 1200);
    }

    #[test]
    fn a_late_observation_counts_for_the_latest_second() {
        let mut timeline = Timeline::default();
        timeline.reach(ms(2000));
        timeline.note(ms(1999), answered(3, "v1/east"));
        assert_eq!(timeline.rows().len(), 3);
        assert_eq!(timeline.rows()[2].clients["east"].requests.ok, 3);
    }

    #[test]
    fn totals_are_sums_over_all_seconds() {
        let mut timeline = Timeline::default();
        timeline.note(ms(100), answered(10, "v1/east"));
        let failed =
            Requests { failed: 2, errors: [("timeout".to_owned(), 2)].into(), ..Requests::default() };
        timeline.note(ms(4100), Observation::Requests("east".to_owned(), failed));
        let totals = timeline.totals();
        assert_eq!((totals["east"].ok, totals["east"].failed), (10, 2));
        assert_eq!(totals["east"].errors["timeout"], 2);
    }

    #[test]
    fn a_row_survives_its_json() {
        let mut timeline = Timeline::default();
        timeline.note(ms(0), answered(1, "v1/east"));
        timeline
            .note(ms(1), Observation::Updates("east".to_owned(), Updates { cds: 3, eds: 7, rejected: 0 }));
        let text = serde_json::to_string(&timeline.rows()[0]).unwrap();
        let row: Row = serde_json::from_str(&text).unwrap();
        assert_eq!(row, timeline.rows()[0]);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["clients"]["east"]["ok"], 1);
        assert_eq!(value["clients"]["east"]["updates"]["eds"], 7);
    }
}
