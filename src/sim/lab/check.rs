//! The lab's check: named claims about the running lab, each tried for real.

mod outage;
mod paths;
mod scaling;
mod views;

use serde::Serialize;

use super::{Lab, LabError, Mode};

/// One named check and what came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Check {
    /// Its name, stable for machines.
    pub name: &'static str,
    /// Whether the claim held.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

/// The outcome of all checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// Whether every check held.
    pub ok: bool,
    /// `namespaces` or `loopback`.
    pub mode: &'static str,
    /// One entry per check, in the order they ran.
    pub checks: Vec<Check>,
}

impl Verdict {
    fn new(mode: &'static str, checks: Vec<Check>) -> Self {
        Self { ok: checks.iter().all(|check| check.ok), mode, checks }
    }
}

/// What a check saw when its claim held; otherwise what it saw instead.
pub(super) type Seen = Result<String, LabError>;

/// "This claim does not hold: …".
pub(super) fn wrong(what: impl Into<String>, seen: impl Into<String>) -> LabError {
    LabError::Claim { what: what.into(), seen: seen.into() }
}

impl Lab {
    /// Runs every check, one after the other; each restores what it changed. A check that fails does not keep
    /// the next ones from running.
    pub async fn check(&self) -> Verdict {
        let mut checks = Vec::new();
        let seen = paths::all_versions(self).await;
        self.note(&mut checks, "both-versions", seen);
        let seen = views::remote_by_gateway(self).await;
        self.note(&mut checks, "remote-network-by-gateway", seen);
        let seen = paths::identity_crosses(self).await;
        self.note(&mut checks, "identity-crosses", seen);
        // Loopback has one network for all: nothing to try there; `no-foreign-address` holds in both modes.
        if self.plan().mode() == Mode::Namespaces && self.plan().networks.len() > 1 {
            let seen = views::networks_apart(self).await;
            self.note(&mut checks, "networks-apart", seen);
        }
        let seen = paths::http2_crosses(self).await;
        self.note(&mut checks, "http2-crosses", seen);
        let seen = paths::tcp_crosses(self).await;
        self.note(&mut checks, "tcp-crosses", seen);
        let seen = scaling::scale_follows(self).await;
        self.note(&mut checks, "scale-follows", seen);
        let seen = scaling::service_recreated(self).await;
        self.note(&mut checks, "service-recreated", seen);
        let seen = outage::control_plane_restart(self).await;
        self.note(&mut checks, "control-plane-restart", seen);
        let seen = outage::api_server_outage(self).await;
        self.note(&mut checks, "api-server-outage", seen);
        let seen = paths::all_versions(self).await;
        self.note(&mut checks, "restored", seen);
        let seen = views::no_foreign_address(self).await;
        self.note(&mut checks, "no-foreign-address", seen);
        Verdict::new(self.plan().mode().as_str(), checks)
    }

    fn note(&self, checks: &mut Vec<Check>, name: &'static str, seen: Seen) {
        let (ok, detail) = match seen {
            Ok(detail) => (true, detail),
            Err(error) => (false, error.to_string()),
        };
        self.say(&format!("check {name}: {}", if ok { "ok" } else { "FAILED" }));
        checks.push(Check { name, ok, detail });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(name: &'static str, ok: bool) -> Check {
        Check { name, ok, detail: "seen".to_owned() }
    }

    #[test]
    fn one_failed_check_fails_the_verdict() {
        assert!(Verdict::new("loopback", vec![check("a", true), check("b", true)]).ok);
        assert!(!Verdict::new("loopback", vec![check("a", true), check("b", false)]).ok);
    }

    #[test]
    fn verdict_is_one_json_object() {
        let verdict = Verdict::new("namespaces", vec![check("both-versions", true)]);
        assert_eq!(
            serde_json::to_string(&verdict).unwrap(),
            r#"{"ok":true,"mode":"namespaces","checks":[{"name":"both-versions","ok":true,"detail":"seen"}]}"#
        );
    }
}
