//! One running pod: its namespaces, its application, its Envoy.

mod drain;
mod process;

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub(super) use self::process::Health;
use self::process::{Process, Program};
use super::bootstrap;
use super::envoy::{self, Admin};
use super::kubelet::{Addresses, Proxy, Role, Workload};
use super::netns::{self, BoxPlan, OpenBox};
use super::place::Place;
use super::plan::ClusterPlan;
use super::site::Site;
use super::{LabError, Mode};

/// A pod whose namespaces are open. Its processes are started, watched and ended by the kubelet; everybody else
/// looks, and may break something.
#[derive(Debug)]
pub struct RunningPod {
    workload: Workload,
    cluster: ClusterPlan,
    addresses: Addresses,
    place: Place,
    admin: Admin,
    opened: Mutex<Option<OpenBox>>,
    processes: Mutex<Vec<Process>>,
    ready: AtomicBool,
    leaving: AtomicBool,
}

impl RunningPod {
    /// Makes the pod's namespaces and starts its application.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) async fn open(
        site: &Site,
        cluster: &ClusterPlan,
        workload: Workload,
        addresses: Addresses,
    ) -> Result<Self, LabError> {
        let mode = site.plan.mode();
        let opened = match site.plan.network(&cluster.network) {
            Some(network) if mode == Mode::Namespaces => {
                let hosts = hosts_file(site, &workload);
                let plan = BoxPlan::pod(network, &workload, &addresses, hosts);
                Some(netns::open(&plan, site.next_number(), &site.logs).await?)
            }
            _ => None,
        };
        let place = opened.as_ref().map_or(Place::Here, |opened| opened.place);
        let pod = Self {
            admin: Admin::new(place, addresses.pod, mode),
            processes: Mutex::new(Process::all(&workload)),
            cluster: cluster.clone(),
            opened: Mutex::new(opened),
            ready: AtomicBool::new(false),
            leaving: AtomicBool::new(false),
            workload,
            addresses,
            place,
        };
        pod.start(site, |program| matches!(program, Program::App(_)))?;
        Ok(pod)
    }

    /// Starts the Envoy, if the pod has one.
    ///
    /// # Errors
    /// [`LabError`].
    pub(super) fn start_envoy(&self, site: &Site) -> Result<(), LabError> {
        self.start(site, |program| matches!(program, Program::Envoy))
    }

    fn start(&self, site: &Site, which: impl Fn(&Program) -> bool) -> Result<(), LabError> {
        let mut processes = self.lock();
        for process in processes.iter_mut().filter(|process| which(&process.program)) {
            process.start(self, site)?;
        }
        Ok(())
    }

    /// Looks after its processes: one that died is started again once its backoff is over.
    pub(super) fn tend(&self, site: &Site) -> Vec<Health> {
        self.lock().iter_mut().map(|process| process.tend(self, site)).collect()
    }

    /// Cluster id.
    pub fn cluster(&self) -> &str {
        &self.workload.cluster
    }

    /// Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.workload.namespace
    }

    /// Name of the Pod object.
    pub fn name(&self) -> &str {
        &self.workload.name
    }

    /// The Deployment it belongs to.
    pub fn deployment(&self) -> Option<&str> {
        self.workload.deployment.as_deref()
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.workload.role()
    }

    /// Its address in its network.
    pub fn address(&self) -> Ipv4Addr {
        self.addresses.pod
    }

    /// Where other networks reach it: gateways only.
    pub fn outer_address(&self) -> Option<Ipv4Addr> {
        self.addresses.outer
    }

    /// Its Envoy's admin pages. Without an Envoy nobody answers there.
    pub fn admin(&self) -> &Admin {
        &self.admin
    }

    /// Whether it has an Envoy at all.
    pub fn has_envoy(&self) -> bool {
        self.workload.proxy != Proxy::None
    }

    /// `cluster/name`.
    pub fn path(&self) -> String {
        self.workload.path()
    }

    /// Where its processes run.
    pub fn place(&self) -> Place {
        self.place
    }

    /// Whether the kubelet found it ready last.
    pub fn is_ready(&self) -> bool {
        self.ready.load(Ordering::Relaxed)
    }

    /// Whether its object is being deleted.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Relaxed)
    }

    /// Kills its Envoy at once, without a word: the kubelet has to notice.
    pub fn kill_envoy(&self) {
        let mut processes = self.lock();
        for process in processes.iter_mut().filter(|process| process.program == Program::Envoy) {
            process.kill_now();
        }
    }

    /// The Pod object's identity.
    pub(super) fn uid(&self) -> &str {
        &self.workload.uid
    }

    /// What it was made from.
    pub(super) fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Its addresses.
    pub(super) fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// What it is sorted by.
    pub(super) fn key(&self) -> (&str, &str, &str) {
        (self.cluster(), self.namespace(), self.name())
    }

    pub(super) fn set_ready(&self, ready: bool) {
        self.ready.store(ready, Ordering::Relaxed);
    }

    pub(super) fn set_leaving(&self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Process>> {
        self.processes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The command of the Envoy, its bootstrap written.
    fn envoy_command(&self, site: &Site) -> Result<tokio::process::Command, LabError> {
        let file = bootstrap_file(site, &self.workload);
        let mode = site.plan.mode();
        let text = bootstrap::bootstrap(&self.cluster, &self.workload, &self.addresses, mode).to_string();
        std::fs::write(&file, text).map_err(LabError::file("write", &file))?;
        Ok(envoy::command(self.place, &site.envoy, &file))
    }

    /// The command of the application on `port`: it knows one address and no proxy.
    fn app_command(&self, site: &Site, port: u16) -> tokio::process::Command {
        let address = match (site.plan.mode(), self.workload.proxy) {
            (Mode::Loopback, Proxy::None) => self.addresses.pod,
            (Mode::Loopback, _) | (Mode::Namespaces, Proxy::Explicit) => self.addresses.app,
            (Mode::Namespaces, _) => Ipv4Addr::UNSPECIFIED,
        };
        let version = self.workload.labels.get("version").map_or("v1", String::as_str);
        let mut command = self.place.command(&site.exe);
        command.args(["sim", "app", "--version", version, "--cluster", self.cluster()]);
        command.args(["--name", self.workload.app(), "--instance", self.name(), "--listen"]);
        command.arg(format!("{address}:{port}"));
        command
    }
}

/// The file that is the pod's `/etc/hosts`.
pub(super) fn hosts_file(site: &Site, workload: &Workload) -> std::path::PathBuf {
    site.files.join(format!("{}.hosts", file_name(workload)))
}

/// The file that is its Envoy's bootstrap.
fn bootstrap_file(site: &Site, workload: &Workload) -> std::path::PathBuf {
    site.files.join(format!("{}.json", file_name(workload)))
}

/// Removes what was written for a pod that is gone.
pub(super) fn remove_files(site: &Site, workload: &Workload) {
    for file in [hosts_file(site, workload), bootstrap_file(site, workload)] {
        // A pod without an Envoy has no bootstrap; what cannot be removed goes with the lab.
        let _ = std::fs::remove_file(file);
    }
}

fn file_name(workload: &Workload) -> String {
    format!("{}-{}-{}", workload.cluster, workload.namespace, workload.name)
}
