//! Whether anybody has to be told that the endpoints of one cluster differ (R6.1).

use std::collections::HashMap;
use std::net::IpAddr;

use crate::model::{Endpoint, EndpointShard, Health, Name};

/// What pairs an endpoint with its former version (R0.2).
type Key<'a> = (&'a Name, &'a Name, Option<&'a IpAddr>, &'a Name);

fn key(endpoint: &Endpoint) -> Key<'_> {
    let workload = &endpoint.workload;
    (&workload.namespace, workload.workload_name(), endpoint.addresses.first(), &endpoint.port_name)
}

/// Whether proxies may see the difference between two shares of a service. They do not see another order of
/// the same endpoints, nor new endpoints that are unhealthy and not sent. Cost ∝ the endpoints of both.
pub(super) fn is_seen(old: Option<&EndpointShard>, new: Option<&EndpointShard>) -> bool {
    let (Some(old), Some(new)) = (old, new) else {
        return true;
    };
    if old.service != new.service || old.endpoints.is_empty() || new.endpoints.is_empty() {
        return true;
    }
    let before: HashMap<_, _> = old.endpoints.iter().map(|endpoint| (key(endpoint), endpoint)).collect();
    let after: HashMap<_, _> = new.endpoints.iter().map(|endpoint| (key(endpoint), endpoint)).collect();
    if before.len() < old.endpoints.len() || after.len() < new.endpoints.len() {
        // Some cannot be told apart: endpoints without an address.
        return old.endpoints != new.endpoints;
    }
    let changed = |endpoint: &Endpoint| match before.get(&key(endpoint)) {
        Some(former) => !is_same(former, endpoint),
        None => endpoint.health != Health::Unhealthy || endpoint.exposure.sends_unhealthy(),
    };
    new.endpoints.iter().any(changed) || before.keys().any(|key| !after.contains_key(key))
}

/// R0.3: the order of the addresses does not matter.
fn is_same(a: &Endpoint, b: &Endpoint) -> bool {
    let sorted = |endpoint: &Endpoint| {
        let mut addresses = endpoint.addresses.to_vec();
        addresses.sort();
        addresses
    };
    a == b
        || (a.addresses.len() > 1
            && sorted(a) == sorted(b)
            && Endpoint { addresses: b.addresses.clone(), ..a.clone() } == *b)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::model::{Discoverability, Exposure, Workload};

    fn shard(endpoints: &[(&str, Health, bool)]) -> EndpointShard {
        let endpoint = |&(address, health, send_unhealthy): &(&str, Health, bool)| Endpoint {
            health,
            exposure: Exposure::new(Discoverability::Always, send_unhealthy),
            ..Endpoint::new(address.parse().expect("address"), 80, "http", Arc::<Workload>::default())
        };
        EndpointShard::new("c1".into(), None, endpoints.iter().map(endpoint).collect())
    }

    #[test]
    fn r6_1_what_proxies_see_of_a_difference() {
        use Health::{Healthy, Unhealthy};
        let (one, two) = (("10.0.0.1", Healthy, false), ("10.0.0.2", Healthy, false));
        let seen = |old: &[_], new: &[_]| is_seen(Some(&shard(old)), Some(&shard(new)));
        assert!(!seen(&[one, two], &[two, one]), "another order");
        assert!(seen(&[one], &[one, two]), "a new endpoint");
        assert!(seen(&[one, two], &[one]), "one has gone");
        assert!(seen(&[one], &[("10.0.0.1", Unhealthy, false)]), "one has changed");
        assert!(!seen(&[one], &[one, ("10.0.0.2", Unhealthy, false)]), "a new one that is not sent");
        assert!(seen(&[one], &[one, ("10.0.0.2", Unhealthy, true)]), "a new one that is sent");
        assert!(seen(&[one], &[]) && seen(&[], &[("10.0.0.2", Unhealthy, false)]));
        assert!(is_seen(None, Some(&shard(&[one]))) && is_seen(Some(&shard(&[one])), None));
    }

    #[test]
    fn r0_3_the_order_of_an_endpoints_other_addresses_does_not_matter() {
        let with = |addresses: &[&str], port| {
            let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().expect("address")).collect();
            let endpoint = Endpoint::new(addresses[0], port, "http", Arc::<Workload>::default());
            EndpointShard::new("c1".into(), None, vec![Endpoint { addresses: addresses.into(), ..endpoint }])
        };
        let three = with(&["10.0.0.1", "fd00::1", "fd00::2"], 80);
        assert!(!is_seen(Some(&three), Some(&with(&["10.0.0.1", "fd00::2", "fd00::1"], 80))));
        assert!(is_seen(Some(&three), Some(&with(&["10.0.0.1", "fd00::2", "fd00::1"], 81))));
        assert!(is_seen(Some(&three), Some(&with(&["10.0.0.1", "fd00::2"], 80))));
    }
}
