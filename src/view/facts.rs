//! What holds for every endpoint of one profile and port: found once, not for each of them.

use crate::model::policy::ClientTlsMode;
use crate::model::{Labels, Name, Workload, WorkloadProfile};

use super::assignment::SocketMatch;
use super::roads::{Road, Roads, Told};
use super::{Decision, EdsKey, EdsName, Inputs, hbone, mtls};

/// As many profiles are remembered: deployments that stand behind one service.
const REMEMBERED: usize = 8;

/// What is the same for all endpoints of one assignment.
pub(super) struct Question<'q> {
    pub(super) inputs: Inputs<'q>,
    pub(super) name: &'q EdsName,
    pub(super) key: &'q EdsKey,
    /// Whether the endpoints are a waypoint's, to which HBONE is always spoken (R4.16).
    pub(super) to_waypoint: bool,
    /// Labels of the subset (R4.8).
    pub(super) subset: Option<&'q Labels>,
    /// What the DestinationRule says of TLS (R4.12).
    pub(super) tls: Option<ClientTlsMode>,
    /// R4.5.
    pub(super) cluster_local: bool,
    /// R4.9.
    pub(super) global: bool,
    /// How the proxy is told of them.
    pub(super) told: Told,
    /// Whether they are names outside the mesh: on none of its networks, and mesh mTLS is not spoken unless a rule says so.
    pub(super) outside: bool,
}

/// How a profile stands to the proxy.
#[derive(Clone, Copy)]
pub(super) struct Sight {
    /// Whether it is of the subset (R4.8).
    pub(super) of_subset: bool,
    /// Why it is not for this proxy (R2.8, R4.5, R4.9).
    pub(super) hidden: Option<Decision>,
    /// Whether the proxy is of its cluster, or one of the two is not known (R4.38).
    pub(super) same_cluster: bool,
    /// Whether it has the label of draining pods (R4.9, R4.11).
    pub(super) draining: bool,
}

/// How endpoints are reached.
#[derive(Clone, Copy)]
pub(super) struct Reach {
    pub(super) road: Road,
    /// Whether HBONE is spoken (R4.17).
    pub(super) tunnel: bool,
    pub(super) socket: SocketMatch,
    /// Whether mesh mTLS is spoken.
    pub(super) mtls: bool,
}

/// What was found for one profile and port.
#[derive(Clone, Copy)]
struct Known {
    of: (*const WorkloadProfile, u16),
    sight: Sight,
    reach: Option<Reach>,
}

/// Finds what holds for workloads, and remembers it.
pub(super) struct Facts<'a, 'q> {
    question: Question<'q>,
    roads: Roads<'a, 'q>,
    /// Whether the subset names a label that pods of one profile do not share.
    subset_by_place: bool,
    known: Vec<Known>,
    /// Which of them was asked for last: mostly it is asked for again.
    latest: usize,
    /// Which of them goes next.
    oldest: usize,
    /// The namespaces whose PeerAuthentications were looked at.
    namespaces: Vec<Name>,
}

impl<'a, 'q> Facts<'a, 'q> {
    pub(super) fn new(question: Question<'q>, roads: Roads<'a, 'q>) -> Self {
        let mut labels = question.subset.into_iter().flat_map(Labels::iter);
        Self {
            subset_by_place: labels.any(|(label, _)| Workload::is_of_place(label)),
            question,
            roads,
            known: Vec::with_capacity(REMEMBERED),
            latest: 0,
            oldest: 0,
            namespaces: Vec::new(),
        }
    }

    /// The ways to networks found so far.
    pub(super) fn roads(&self) -> &Roads<'a, 'q> {
        &self.roads
    }

    /// The namespaces whose PeerAuthentications were looked at, and the ways.
    pub(super) fn into_parts(self) -> (Vec<Name>, Roads<'a, 'q>) {
        (self.namespaces, self.roads)
    }

    /// How a workload stands to the proxy.
    #[inline]
    pub(super) fn sight(&mut self, workload: &Workload, port: u16) -> Sight {
        let sight = self.known(workload, port).sight;
        if self.subset_by_place {
            return Sight { of_subset: self.question.is_of_subset(workload), ..sight };
        }
        sight
    }

    /// How a workload's endpoints on a target port are reached.
    #[inline]
    pub(super) fn reach(&mut self, workload: &Workload, port: u16) -> Reach {
        self.known(workload, port).reach.unwrap_or_else(|| self.new_reach(workload, port))
    }

    /// The same for the one that was asked for last.
    fn new_reach(&mut self, workload: &Workload, port: u16) -> Reach {
        let reach = self.find_reach(workload, port);
        let by_place = self.question.tls.is_none()
            && mtls::asks_for_place(self.question.inputs.policies, &workload.namespace);
        if !by_place {
            self.known[self.latest].reach = Some(reach);
        }
        reach
    }

    #[inline]
    fn known(&mut self, workload: &Workload, port: u16) -> &Known {
        let of = (std::ptr::from_ref::<WorkloadProfile>(workload), port);
        if self.known.get(self.latest).is_none_or(|known| known.of != of) {
            self.latest = self.look_up(of, workload);
        }
        &self.known[self.latest]
    }

    fn look_up(&mut self, of: (*const WorkloadProfile, u16), workload: &Workload) -> usize {
        self.known.iter().position(|known| known.of == of).unwrap_or_else(|| {
            let sight = self.question.sight(workload);
            self.remember(Known { of, sight, reach: None })
        })
    }

    fn remember(&mut self, known: Known) -> usize {
        if self.known.len() < REMEMBERED {
            self.known.push(known);
            return self.known.len() - 1;
        }
        let at = self.oldest;
        self.known[at] = known;
        self.oldest = (at + 1) % REMEMBERED;
        at
    }

    fn find_reach(&mut self, workload: &Workload, port: u16) -> Reach {
        let (question, mode) = (&self.question, workload.tls_mode_text());
        let automatic = question.tls.is_none() && !question.outside;
        if automatic && mode == "istio" && !self.namespaces.contains(&workload.namespace) {
            self.namespaces.push(workload.namespace.clone());
        }
        let meant = (automatic || question.tls.is_some())
            && mtls::is_meant(question.tls, question.inputs.policies, workload, port);
        let features = question.inputs.mesh.features();
        let tunnel = question.told == Told::Apart
            && (question.to_waypoint || hbone::is_spoken(features, question.key, question.name, workload));
        let socket = match meant && !matches!(mode, "" | "disabled") {
            // Where HBONE is all that is spoken, nothing is chosen by a match (R4.17).
            _ if tunnel && question.name.inbound_vip.is_none() => SocketMatch::Tunnel,
            true => SocketMatch::TlsMode,
            false => SocketMatch::Plain,
        };
        let road = match question.outside {
            true => Road::Direct,
            false => self.roads.to(&workload.network, &workload.cluster),
        };
        Reach { road, tunnel, socket, mtls: socket == SocketMatch::TlsMode && mode == "istio" }
    }
}

impl Question<'_> {
    fn sight(&self, workload: &Workload) -> Sight {
        let (key, features) = (self.key, self.inputs.mesh.features());
        let abroad = workload.cluster != key.cluster;
        let hidden = match () {
            () if !key.requested_view.sees(&workload.network) => Some(Decision::NetworkView),
            () if abroad && self.cluster_local => Some(Decision::OtherCluster),
            () if abroad && !self.global => Some(Decision::NotGlobal),
            () => None,
        };
        Sight {
            of_subset: self.is_of_subset(workload),
            hidden,
            same_cluster: !abroad || workload.cluster.is_empty() || key.cluster.is_empty(),
            draining: workload
                .own_labels
                .get(&features.draining_label)
                .is_some_and(|value| !value.is_empty()),
        }
    }

    fn is_of_subset(&self, workload: &Workload) -> bool {
        self.subset.is_none_or(|labels| has_all(workload, labels))
    }
}

/// Whether a workload has every label of a subset, topology labels included (R4.8).
pub(super) fn has_all(workload: &Workload, labels: &Labels) -> bool {
    labels.iter().all(|(key, value)| workload.label(key) == Some(value.as_str()))
}
