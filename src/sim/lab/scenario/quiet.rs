//! Counters of proxies that must not move.

use std::collections::BTreeMap;
use std::time::Duration;

use futures::future::try_join_all;

use super::super::wait::until_every;
use super::super::{Lab, LabError};
use super::stage::PATIENCE;
use super::{Seen, wrong};

/// What changes whenever a proxy takes or refuses configuration of any kind.
pub(super) const ANY: &str = r"(^|\.)(version|update_success|update_rejected|update_failure)$";
/// What changes whenever a proxy takes or refuses a list of Envoy clusters.
pub(super) const LISTS: &str =
    r"^cluster_manager\.cds\.(version|update_success|update_rejected|update_failure)$";
/// What Envoys say of their control plane.
const CONNECTED: &str = r"^control_plane\.connected_state$";
/// Between two looks: nothing is on its way if they are equal.
const PAUSE: Duration = Duration::from_millis(400);

/// The counters of every Envoy of the lab at one time.
#[derive(Debug)]
pub(super) struct Quiet {
    filter: &'static str,
    counters: BTreeMap<String, BTreeMap<String, u64>>,
}

impl Quiet {
    /// The counters that match `filter`, once they stand still. An Envoy that waits before it connects again stands
    /// still too, and gets everything anew once it does: all of them have to be connected.
    pub(super) async fn settled(lab: &Lab, filter: &'static str) -> Result<Self, LabError> {
        let mut last = read(lab, filter).await?;
        until_every("proxies have everything", PATIENCE, PAUSE, async || {
            let now = read(lab, filter).await.map_err(|error| error.to_string())?;
            let moved = moved(&last, &now);
            last = now;
            let away = away(&read(lab, CONNECTED).await.map_err(|error| error.to_string())?);
            let troubles = [moved, away].concat();
            if troubles.is_empty() { Ok(()) } else { Err(troubles.join(", ")) }
        })
        .await?;
        Ok(Self { filter, counters: last })
    }

    /// Whether they are what they were. Pods that came or went meanwhile do not count.
    pub(super) async fn unchanged(&self, lab: &Lab) -> Seen {
        let now = read(lab, self.filter).await?;
        let moved = moved(&self.counters, &now);
        if !moved.is_empty() {
            return Err(wrong("no proxy gets anything", moved.join(", ")));
        }
        let counters: usize = self.counters.values().map(BTreeMap::len).sum();
        Ok(format!("{counters} update counters of {} Envoys unchanged", self.counters.len()))
    }
}

/// By pod, then by counter.
async fn read(lab: &Lab, filter: &str) -> Result<BTreeMap<String, BTreeMap<String, u64>>, LabError> {
    let reading = lab.pods().into_iter().map(async |pod| {
        let stats = pod.admin().stats(filter).await?;
        Ok::<_, LabError>((pod.path(), stats))
    });
    Ok(try_join_all(reading).await?.into_iter().collect())
}

/// The pods whose Envoys are not connected to a control plane.
fn away(connected: &BTreeMap<String, BTreeMap<String, u64>>) -> Vec<String> {
    let away = connected.iter().filter(|(_, states)| states.values().any(|state| *state != 1));
    away.map(|(pod, _)| format!("{pod} is not connected")).collect()
}

/// What differs, in pods that are in both.
fn moved(
    before: &BTreeMap<String, BTreeMap<String, u64>>,
    after: &BTreeMap<String, BTreeMap<String, u64>>,
) -> Vec<String> {
    let mut moved = Vec::new();
    for (pod, counters) in after {
        let Some(then) = before.get(pod) else {
            continue;
        };
        for (name, value) in counters {
            let was = then.get(name);
            if was != Some(value) {
                let was = was.map_or_else(|| "nothing".to_owned(), ToString::to_string);
                moved.push(format!("{pod} {name}: {was} → {value}"));
            }
        }
    }
    moved
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(list: &[(&str, &str, u64)]) -> BTreeMap<String, BTreeMap<String, u64>> {
        let mut all: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for (pod, name, value) in list {
            all.entry((*pod).to_owned()).or_default().insert((*name).to_owned(), *value);
        }
        all
    }

    #[test]
    fn who_is_not_connected_is_not_quiet() {
        let pods = counters(&[
            ("east/sleep", "control_plane.connected_state", 1),
            ("west/sleep", "control_plane.connected_state", 0),
        ]);
        assert_eq!(away(&pods), ["west/sleep is not connected"]);
    }

    #[test]
    fn a_moved_counter_is_named_and_a_new_pod_is_not() {
        let before = counters(&[("east/sleep", "a.update_success", 3), ("east/sleep", "b.version", 9)]);
        let after = counters(&[
            ("east/sleep", "a.update_success", 4),
            ("east/sleep", "b.version", 9),
            ("east/sleep", "c.version", 1),
            ("west/new", "a.update_success", 1),
        ]);
        let wanted = ["east/sleep a.update_success: 3 → 4", "east/sleep c.version: nothing → 1"];
        assert_eq!(moved(&before, &after), wanted);
        assert!(moved(&before, &before).is_empty());
    }
}
