//! Cluster addresses of Services.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::super::effect::Effect;

/// The range addresses come from, 10.96.0.0/12, and how many of its bits count.
const BASE: u32 = (10 << 24) | (96 << 16);
const MASK: u32 = 0x000f_ffff;

/// Gives Services addresses in order of creation, none twice within about a million.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// The last one given.
    last: u32,
    /// Those of the range that Services brought along.
    brought: HashSet<u32>,
}

impl Addresses {
    /// Gives `service` an address if it wants one and has none. A rehearsal takes none away.
    pub(super) fn give(&mut self, service: &mut Value, effect: Effect) {
        let spec = &service["spec"];
        let given = spec["clusterIP"].as_str().unwrap_or_default();
        if given.is_empty() && spec["type"] != "ExternalName" && spec.is_object() {
            let next = self.next();
            service["spec"]["clusterIP"] = json!(Ipv4Addr::from_bits(BASE | next).to_string());
            if effect == Effect::Stored {
                self.last = next;
            }
        } else if effect == Effect::Stored
            && let Ok(address) = given.parse::<Ipv4Addr>()
            && address.to_bits() & !MASK == BASE
        {
            self.brought.insert(address.to_bits() & MASK);
        }
        let address = service["spec"]["clusterIP"].clone();
        if address.is_string() && service["spec"]["clusterIPs"].is_null() {
            service["spec"]["clusterIPs"] = json!([address]);
        }
    }

    fn next(&self) -> u32 {
        let following = (1..=MASK).map(|step| (self.last + step) & MASK);
        let mut free = following.filter(|at| *at != 0 && !self.brought.contains(at));
        free.next().unwrap_or(self.last)
    }
}
