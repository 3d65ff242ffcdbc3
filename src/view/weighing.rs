//! Endpoints of one assignment by locality, as they come (R4.19, R4.22 with D3–D5).

use std::collections::BTreeMap;
use std::net::IpAddr;

use hashbrown::{HashMap, HashSet};

use super::assignment::{AssignedEndpoint, Origin};
use super::lb::Member;
use crate::model::{Locality, NodePlace, Quirk, Quirks, Standing};

/// Room for the first endpoints of a locality.
const FIRST: usize = 16;

/// Places that are found without a look-up, in bits.
const RECENT: u32 = 6;

/// What spreads addresses over slots.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
/// No place in any slot.
const NOWHERE: [(*const NodePlace, usize); 1 << RECENT] = [(std::ptr::null(), 0); 1 << RECENT];

/// Weight that goes through one set of gateways.
#[derive(Debug)]
pub(super) struct Through {
    pub(super) set: usize,
    pub(super) total: u128,
    /// What each gateway gets under Q14: every endpoint's weight divided on its own.
    pub(super) each: u128,
}

/// What one locality collects before weights are final.
#[derive(Debug)]
pub(super) struct Collected<'a> {
    pub(super) standing: Standing,
    pub(super) locality: &'a Locality,
    /// Endpoints at their own addresses, with their own weights.
    pub(super) direct: Vec<Weighed<'a>>,
    /// The sum of these weights.
    pub(super) weight: u128,
    pub(super) through: Vec<Through>,
}

/// An endpoint whose weight is not fitted yet.
#[derive(Debug)]
pub(super) struct Weighed<'a> {
    pub(super) endpoint: AssignedEndpoint<'a>,
    pub(super) weight: u128,
}

impl Weighed<'_> {
    /// Whether it is a gateway.
    pub(super) fn is_gateway(&self) -> bool {
        matches!(self.endpoint.origin, Origin::Gateway { .. })
    }
}

impl Member for Weighed<'_> {
    fn label(&self, label: &str) -> &str {
        match (self.endpoint.origin, label) {
            (Origin::Direct(workload), _) => workload.label(label).unwrap_or_default(),
            (Origin::Gateway { network, .. }, "topology.istio.io/network") => network,
            (Origin::Gateway { cluster, .. }, "topology.istio.io/cluster") => cluster,
            (Origin::Gateway { .. }, _) => "",
        }
    }

    fn weight(&self) -> u128 {
        self.weight
    }
}

/// Collects an assignment's endpoints; [`finish`](Self::finish) turns them into groups with exact weights.
#[derive(Debug)]
pub(super) struct Weighing<'a> {
    pub(super) quirks: Quirks,
    /// The factor for every weight; `None` when it follows from the gateways in use (D5).
    pub(super) scale: Option<u128>,
    pub(super) collected: Vec<Collected<'a>>,
    index: BTreeMap<(Standing, &'a Locality), usize>,
    /// Where endpoints at a place of the current standing go.
    places: HashMap<*const NodePlace, usize>,
    /// The same for some of these places, each in the slot of its address.
    recent: [(*const NodePlace, usize); 1 << RECENT],
    /// What the endpoints that come next are worth.
    standing: Standing,
    /// The shard that they are of.
    shard: usize,
    /// Whether there is an endpoint that traffic can go to.
    serves: bool,
    sent: Sent,
}

/// The addresses that are sent. Each comes once in a shard, so that nothing need be known of those of one alone.
#[derive(Debug)]
enum Sent {
    /// Nobody asks.
    Unknown,
    /// There are none yet.
    None,
    /// All are of this shard.
    Of(usize),
    /// They are of several.
    Known(HashSet<(IpAddr, u16)>),
}

impl<'a> Weighing<'a> {
    /// Nothing yet. `scale` is the factor for every weight if that is settled; `once` asks for every address only once.
    pub(super) fn new(quirks: Quirks, scale: Option<u128>, once: bool) -> Self {
        Self {
            quirks,
            scale,
            collected: Vec::new(),
            index: BTreeMap::new(),
            places: HashMap::new(),
            recent: NOWHERE,
            standing: Standing::Regular,
            shard: 0,
            serves: false,
            sent: if once { Sent::None } else { Sent::Unknown },
        }
    }

    /// The endpoints that come next are of this shard, with this standing.
    pub(super) fn next(&mut self, shard: usize, standing: Standing) {
        if self.standing != standing {
            self.places.clear();
            self.recent = NOWHERE;
        }
        (self.shard, self.standing) = (shard, standing);
    }

    /// Whether every address is to be sent only once.
    pub(super) fn asks_for_once(&self) -> bool {
        !matches!(self.sent, Sent::Unknown)
    }

    /// Whether traffic has somewhere to go with what came so far.
    pub(super) fn serves(&self) -> bool {
        self.serves
    }

    /// Traffic has somewhere to go.
    pub(super) fn serve(&mut self) {
        self.serves = true;
    }

    /// A locality has endpoints, whatever becomes of them.
    pub(super) fn meet(&mut self, place: &'a NodePlace) {
        self.at(place);
    }

    /// An endpoint at its own address; says whether that was not sent yet.
    pub(super) fn direct(&mut self, place: &'a NodePlace, endpoint: AssignedEndpoint<'a>) -> bool {
        if !self.is_new(&endpoint) {
            return false;
        }
        let (collected, weight) = (self.at(place), endpoint.weight.into());
        collected.weight += weight;
        collected.direct.push(Weighed { endpoint, weight });
        true
    }

    fn is_new(&mut self, endpoint: &AssignedEndpoint<'_>) -> bool {
        let Some(address) = endpoint.address() else { return true };
        match &mut self.sent {
            Sent::Unknown => return true,
            Sent::Of(shard) if *shard == self.shard => return true,
            Sent::None => {
                self.sent = Sent::Of(self.shard);
                return true;
            }
            Sent::Of(_) => {
                let all = self.collected.iter().flat_map(|one| &one.direct).map(|one| &one.endpoint);
                let place = |one: &AssignedEndpoint<'_>| Some((one.address()?, one.port()));
                self.sent = Sent::Known(all.filter_map(place).collect());
            }
            Sent::Known(_) => {}
        }
        let Sent::Known(known) = &mut self.sent else { return true };
        known.insert((address, endpoint.port()))
    }

    /// An endpoint behind a set of so many gateways.
    pub(super) fn through(&mut self, place: &'a NodePlace, set: usize, gateways: usize, weight: u32) {
        let scaled = self.scaled(weight.into(), self.scale.unwrap_or(1));
        let through = &mut self.at(place).through;
        let at = through.iter().position(|through| through.set == set).unwrap_or_else(|| {
            through.push(Through { set, total: 0, each: 0 });
            through.len() - 1
        });
        through[at].total += u128::from(weight);
        through[at].each += scaled / gateways as u128;
    }

    /// A weight times the scale; under Q16 within 32 bits.
    pub(super) fn scaled(&self, weight: u128, scale: u128) -> u128 {
        let scaled = weight.saturating_mul(scale);
        if self.quirks.has(Quirk::Q16) { scaled.min(u32::MAX.into()) } else { scaled }
    }

    fn at(&mut self, place: &'a NodePlace) -> &mut Collected<'a> {
        let of = std::ptr::from_ref(place);
        let slot = (of.addr() as u64).wrapping_mul(GOLDEN) >> (u64::BITS - RECENT);
        let at = match self.recent[slot as usize] {
            (known, at) if known == of => at,
            _ => {
                let at = self.look_up(place);
                self.recent[slot as usize] = (of, at);
                at
            }
        };
        &mut self.collected[at]
    }

    fn look_up(&mut self, place: &'a NodePlace) -> usize {
        let of = std::ptr::from_ref(place);
        if let Some(at) = self.places.get(&of) {
            return *at;
        }
        let at = self.find(&place.locality);
        self.places.insert(of, at);
        at
    }

    fn find(&mut self, locality: &'a Locality) -> usize {
        let (standing, next) = (self.standing, self.collected.len());
        let at = *self.index.entry((standing, locality)).or_insert(next);
        if at == next {
            let (direct, through) = (Vec::with_capacity(FIRST), Vec::new());
            self.collected.push(Collected { standing, locality, direct, weight: 0, through });
        }
        at
    }
}
