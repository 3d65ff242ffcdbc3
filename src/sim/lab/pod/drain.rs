//! The end of a pod.

use std::collections::BTreeMap;
use std::sync::PoisonError;
use std::time::Duration;

use tokio::time::Instant;

use super::super::LabError;
use super::super::part::Part;
use super::super::wait::Patience;
use super::RunningPod;
use super::process::Program;

/// How long requests in flight may take before a leaving pod stops regardless.
const SETTLE_LIMIT: Duration = Duration::from_secs(10);
/// How long a leaving pod waits for peers to close connections that are idle: a peer behind a gateway cannot
/// know which of its connections end here, and closes one only after its next request.
const IDLE_LIMIT: Duration = Duration::from_secs(2);
/// How long an Envoy may take to end.
const STOP_GRACE: Duration = Duration::from_secs(3);
/// Looking costs a process each time.
const PAUSE: Duration = Duration::from_millis(80);

impl RunningPod {
    /// Leaves without losing a request: peers are told to close their connections, what is in flight
    /// finishes, then everything stops. The pod must be out of every EndpointSlice.
    pub(in super::super) async fn drain(&self) {
        if self.has_envoy() && self.admin.fail_health_checks().await.is_ok() {
            // Requests that outlast the limit are cut off, as a kubelet does.
            let _ = self.idle().await;
        }
        for envoy in self.take(|program| *program == Program::Envoy) {
            envoy.stop(STOP_GRACE).await;
        }
        self.kill().await;
    }

    /// Waits until no request is in flight.
    async fn idle(&self) -> Result<(), LabError> {
        let start = Instant::now();
        let patience = Patience::new("requests in flight", SETTLE_LIMIT, PAUSE);
        loop {
            let stats = self.admin.stats("downstream_rq_active|downstream_cx_active").await?;
            let requests = active(&stats, "downstream_rq_active");
            let connections = active(&stats, "downstream_cx_active");
            if requests == 0 && (connections == 0 || start.elapsed() > IDLE_LIMIT) {
                return Ok(());
            }
            patience.after(format!("{requests} requests, {connections} connections")).await?;
        }
    }

    /// Ends everything at once.
    pub(in super::super) async fn kill(&self) {
        futures::future::join_all(self.take(|_| true).into_iter().map(Part::kill)).await;
        let opened = self.opened.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(opened) = opened {
            opened.close().await;
        }
    }

    fn take(&self, which: impl Fn(&Program) -> bool) -> Vec<Part> {
        let mut processes = self.lock();
        processes.iter_mut().filter(|process| which(&process.program)).filter_map(|one| one.take()).collect()
    }
}

/// The sum of a gauge over all HTTP listeners but the admin pages' own.
fn active(stats: &BTreeMap<String, u64>, gauge: &str) -> u64 {
    let counts =
        |name: &str| name.starts_with("http.") && !name.starts_with("http.admin.") && name.ends_with(gauge);
    stats.iter().filter(|(name, _)| counts(name)).map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_admin_pages_own_request_is_not_in_flight() {
        let stats = [
            ("http.admin.downstream_rq_active", 1),
            ("http.inbound_0.0.0.0_5000;.downstream_rq_active", 2),
            ("http.inbound_0.0.0.0_5000;.downstream_cx_active", 9),
            ("listener.0.0.0.0_15006.downstream_cx_active", 20),
        ];
        let stats = stats.map(|(name, value)| (name.to_owned(), value)).into();
        assert_eq!(active(&stats, "downstream_rq_active"), 2);
        assert_eq!(active(&stats, "downstream_cx_active"), 9);
    }
}
