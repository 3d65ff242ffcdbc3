//! The naive model: what three clusters have, what was last heard of them, and what follows from that.

use std::collections::{BTreeMap, BTreeSet};

use super::{CLUSTERS, ENTRANCES, NETWORKS, PORTS, SELECTIONS, SERVICES, vip};

/// What an API server has.
#[derive(Clone, Debug, Default)]
pub(super) struct Truth {
    /// Its Services by their place in [`SERVICES`].
    pub(super) services: BTreeMap<usize, Told>,
    /// The label of the system namespace.
    pub(super) network: Option<usize>,
    /// Its gateway: the network that it is for, and where it is reached.
    pub(super) gateway: Option<(usize, Vec<usize>)>,
}

/// What a cluster tells of one Service.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    /// Which of [`PORTS`] it has.
    pub(super) form: usize,
    /// Addresses, and the zones that their pods are in.
    pub(super) pods: BTreeMap<String, String>,
}

/// One API server of a cluster.
#[derive(Clone, Debug)]
pub(super) struct Side {
    pub(super) truth: Truth,
    pub(super) up: bool,
}

impl Default for Side {
    fn default() -> Self {
        Self { truth: Truth::default(), up: true }
    }
}

/// One cluster.
#[derive(Clone, Debug, Default)]
pub(super) struct Cluster {
    pub(super) sides: [Side; 2],
    pub(super) configured: bool,
    /// The side whose credentials serve.
    serving: Option<usize>,
    /// The side of credentials that came later and were not heard yet; `None` where no API server is behind them.
    candidate: Option<Option<usize>>,
    /// What was last heard of it; `None` while nothing is served.
    served: Option<Truth>,
    /// Which of [`SELECTIONS`] holds for it.
    pub(super) selection: usize,
    /// Seconds after which a removal counts.
    pub(super) removal: Option<u64>,
}

impl Cluster {
    /// The operator adds it, or gives it other credentials.
    pub(super) fn run(&mut self, side: Option<usize>) {
        (self.configured, self.candidate, self.removal) = (true, Some(side), None);
    }

    /// Whoever serves hears the truth while the API server is up; who comes serves once there is one.
    pub(super) fn hear(&mut self) {
        if let Some(Some(side)) = self.candidate
            && self.sides[side].up
        {
            (self.serving, self.candidate) = (Some(side), None);
        }
        if let Some(side) = self.serving.map(|side| &self.sides[side])
            && side.up
        {
            let mut heard = side.truth.clone();
            if !SELECTIONS[self.selection].1 {
                heard.services.clear();
            }
            self.served = Some(heard);
        }
    }

    /// A removal that is due by then takes everything away but what its API servers have.
    pub(super) fn pass(&mut self, seconds: u64) {
        self.removal = self.removal.map(|left| left.saturating_sub(seconds));
        if self.removal == Some(0) && seconds > 0 {
            let before = std::mem::take(self);
            *self = Self { sides: before.sides, selection: before.selection, ..Self::default() };
        }
    }
}

/// Zone and network by address.
type Placed = BTreeMap<String, (String, String)>;

/// Everything that is served.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Found {
    /// By service and cluster.
    pub(super) endpoints: BTreeMap<(&'static str, &'static str), Placed>,
    /// Ports and VIPs of the merged records.
    pub(super) services: BTreeMap<&'static str, Record>,
    /// How many pods each cluster told of.
    pub(super) pods: Vec<usize>,
    /// Where each cluster belongs; empty if nowhere.
    pub(super) networks: Vec<String>,
    /// Gateways by network, cluster and address or host name.
    pub(super) gateways: BTreeSet<(String, String, String)>,
}

/// A service as all clusters together tell it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Record {
    /// Numbers and names.
    pub(super) ports: BTreeMap<u16, String>,
    /// By cluster.
    pub(super) vips: Vec<(String, String)>,
}

/// What clusters in this state amount to.
pub(super) fn expected(clusters: &[Cluster]) -> Found {
    let mut found = Found::default();
    for (c, cluster) in clusters.iter().enumerate() {
        let served = cluster.served.as_ref();
        let network = served.and_then(|truth| truth.network).map_or("", |network| NETWORKS[network]);
        found.networks.push(network.to_owned());
        found.pods.push(served.map_or(0, |truth| truth.services.values().map(|told| told.pods.len()).sum()));
        let Some(truth) = served else { continue };
        for (s, told) in &truth.services {
            let placed = told.pods.iter();
            let placed = placed.map(|(address, zone)| (address.clone(), (zone.clone(), network.to_owned())));
            found.endpoints.insert((SERVICES[*s], CLUSTERS[c]), placed.collect());
            let record = found.services.entry(SERVICES[*s]).or_default();
            for (number, name) in PORTS[told.form] {
                // The first cluster by id names a port (D7).
                record.ports.entry(*number).or_insert_with(|| (*name).to_owned());
            }
            record.vips.push((CLUSTERS[c].to_owned(), vip(c, told.form)));
        }
        // D10: only gateways of the network that it belongs to.
        if let Some((of, entrances)) = truth.gateway.as_ref().filter(|(of, _)| NETWORKS[*of] == network) {
            let told =
                |at: &usize| (NETWORKS[*of].to_owned(), CLUSTERS[c].to_owned(), ENTRANCES[*at].to_owned());
            found.gateways.extend(entrances.iter().map(told));
        }
    }
    found
}
