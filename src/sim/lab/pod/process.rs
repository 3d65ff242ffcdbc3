//! One process of a pod, which is started again when it dies.

use std::time::Duration;

use tokio::time::Instant;

use super::super::LabError;
use super::super::kubelet::{Proxy, Workload, now};
use super::super::part::Part;
use super::super::site::Site;
use super::RunningPod;

/// How long a process that died stays away at first; each further time twice as long.
const FIRST_BACKOFF: Duration = Duration::from_secs(10);
/// The longest it stays away.
const LONGEST_BACKOFF: Duration = Duration::from_secs(300);
/// One that ran so long has a clean slate.
const FORGIVEN: Duration = Duration::from_secs(600);

/// What a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Program {
    /// The application on a port.
    App(u16),
    /// The Envoy.
    Envoy,
}

/// One process of a pod.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) program: Program,
    container: String,
    part: Option<Part>,
    started: Option<(Instant, String)>,
    restarts: u32,
    backoff: Duration,
    due: Option<Instant>,
}

/// How a process is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in super::super) struct Health {
    /// The container it counts for.
    pub(in super::super) container: String,
    /// RFC 3339: since when it runs; none when it does not.
    pub(in super::super) started_at: Option<String>,
    /// How often it was started again.
    pub(in super::super) restarts: u32,
}

impl Process {
    /// What `workload` consists of; nothing of it runs yet.
    pub(super) fn all(workload: &Workload) -> Vec<Self> {
        let new = |container: &str, program| Self {
            program,
            container: container.to_owned(),
            part: None,
            started: None,
            restarts: 0,
            backoff: FIRST_BACKOFF,
            due: None,
        };
        let mut all = Vec::new();
        if workload.proxy != Proxy::Router {
            for container in &workload.containers {
                all.extend(container.ports.iter().map(|port| new(&container.name, Program::App(*port))));
            }
        }
        if workload.proxy != Proxy::None {
            all.push(new(workload.proxy_container(), Program::Envoy));
        }
        all
    }

    /// Starts it unless it runs.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) fn start(&mut self, pod: &RunningPod, site: &Site) -> Result<(), LabError> {
        if self.part.is_some() {
            return Ok(());
        }
        let (name, command) = match self.program {
            Program::App(port) => (format!("{}/app-{port}", pod.path()), pod.app_command(site, port)),
            Program::Envoy => (format!("{}/envoy", pod.path()), pod.envoy_command(site)?),
        };
        self.part = Some(Part::spawn(&name, command, &site.logs)?);
        self.started = Some((Instant::now(), now()));
        self.due = None;
        Ok(())
    }

    /// Notices its end, and starts it again when that is due.
    pub(super) fn tend(&mut self, pod: &RunningPod, site: &Site) -> Health {
        if let Some(Err(ended)) = self.part.as_mut().map(Part::check_running) {
            self.part = None;
            let ran = self.started.take().map(|(start, _)| start.elapsed()).unwrap_or_default();
            if ran >= FORGIVEN {
                self.backoff = FIRST_BACKOFF;
            }
            self.due = Some(Instant::now() + self.backoff);
            site.say(&format!("{ended}; it starts again in {:?}", self.backoff));
            self.backoff = (self.backoff * 2).min(LONGEST_BACKOFF);
            self.restarts += 1;
        }
        if self.due.is_some_and(|due| due <= Instant::now())
            && let Err(error) = self.start(pod, site)
        {
            self.due = Some(Instant::now() + self.backoff);
            site.say(&error.to_string());
        }
        Health {
            container: self.container.clone(),
            started_at: self.started.as_ref().map(|(_, time)| time.clone()),
            restarts: self.restarts,
        }
    }

    /// Sends SIGKILL; its end is noticed by [`Process::tend`].
    pub(super) fn kill_now(&mut self) {
        if let Some(part) = &mut self.part {
            part.kill_now();
        }
    }

    /// Takes the process out, for its end.
    pub(super) fn take(&mut self) -> Option<Part> {
        self.started = None;
        self.due = None;
        self.part.take()
    }
}
