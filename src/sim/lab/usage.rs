//! What a person can do with a running lab: files for other tools, and exact commands.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::bootstrap::node_id;
use super::check::client_target;
use super::place::PROXY_VARIABLES;
use super::plan::{ADMIN_PORT, ClusterPlan, HELLOWORLD, NAMESPACE, XDS_PORT};
use super::{Lab, LabError, Mode};
use serde_json::json;

/// Writes a kubeconfig per cluster and, in namespaces mode, the `exec` script.
pub(super) fn write_files(lab: &Lab) -> Result<(), LabError> {
    for cluster in &lab.plan.clusters {
        let path = lab.run_dir().join(format!("{}.kubeconfig", cluster.name));
        let text = lab.cluster(cluster.name)?.kubeconfig();
        fs::write(&path, text.reveal()).map_err(LabError::file("write", &path))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).map_err(LabError::file("protect", &path))?;
    }
    let Some(host_pid) = lab.options.host_pid else {
        return Ok(());
    };
    let path = lab.run_dir().join("exec");
    fs::write(&path, exec_script(host_pid)).map_err(LabError::file("write", &path))?;
    let runnable = fs::Permissions::from_mode(0o755);
    fs::set_permissions(&path, runnable).map_err(LabError::file("make executable", &path))
}

/// Enters the lab's namespaces first: process ids of pods mean something only there.
fn exec_script(host_pid: u32) -> String {
    format!(
        "#!/bin/sh
# Runs a command in a pod of the lab: exec east/sleep curl http://helloworld.sample:5000/hello
pods=$(dirname \"$0\")/pods
if ! pid=$(cat \"$pods/$1\" 2>/dev/null); then
  echo \"usage: $0 POD COMMAND…; pods:\" $(cd \"$pods\" && echo */*) >&2
  exit 2
fi
shift
unset {}
exec nsenter --target {host_pid} --mount --pid --net -- nsenter --target \"$pid\" --net --mount -- \"$@\"
",
        PROXY_VARIABLES.join(" ")
    )
}

/// The commands to try, one per line, each with a line that says what it does.
pub fn what_to_try(lab: &Lab) -> String {
    let mut text = String::from("\nTry, in another terminal:\n");
    let run = lab.run_dir().display();
    for cluster in &lab.plan.clusters {
        let (url, host) = client_target(cluster, lab.plan.mode(), &HELLOWORLD, "/hello");
        let client = cluster.client.path();
        let (curl, admin) = match lab.plan.mode() {
            Mode::Namespaces => (
                format!("{run}/exec {client} curl {url}"),
                format!("{run}/exec {client} curl 'http://127.0.0.1:{ADMIN_PORT}/clusters'"),
            ),
            Mode::Loopback => (
                format!("curl -H 'Host: {}' {url}", host.unwrap_or_default()),
                format!("curl http://{}:{ADMIN_PORT}/clusters", cluster.client.address),
            ),
        };
        let _ = writeln!(text, "  {}", cluster.name);
        let _ = writeln!(text, "    a request, several times:  {curl}");
        let _ = writeln!(text, "    its Envoy's endpoints:     {admin}");
        let _ = writeln!(
            text,
            "    the cluster:               kubectl --kubeconfig {run}/{}.kubeconfig get pods,svc -A",
            cluster.name
        );
        let (exe, url) = (lab.options.exe.display(), cluster.http_url());
        let _ = writeln!(text, "    its proxies:               {exe} proxies --server {url}");
        let _ = writeln!(
            text,
            "    what its client gets:      {exe} endpoints {}.{NAMESPACE} --proxy sleep --server {url}",
            HELLOWORLD.name
        );
        let _ = writeln!(text, "    the same as a proxy:       {}", dump(lab, cluster));
        let _ = writeln!(text, "    debug pages:               {url}/debug");
    }
    let _ = writeln!(text, "  logs: {run}/logs\nCtrl-C ends the lab.");
    text
}

/// Asks the control plane what it sends to the client's Envoy.
fn dump(lab: &Lab, cluster: &ClusterPlan) -> String {
    let node = json!({
        "id": node_id(&cluster.client),
        "metadata": {"CLUSTER_ID": cluster.name, "NETWORK": cluster.network},
    });
    let (exe, xds) = (lab.options.exe.display(), cluster.xds);
    let dump = format!("{exe} dump --xds {xds}:{XDS_PORT} --type eds --as '{node}'");
    match lab.plan.mode() {
        Mode::Namespaces => format!("{}/exec {} {dump}", lab.run_dir().display(), cluster.client.path()),
        Mode::Loopback => dump,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exec_enters_the_lab_before_the_pod() {
        let script = exec_script(4711);
        let lab = script.find("--target 4711").unwrap();
        let pod = script.find("--target \"$pid\"").unwrap();
        assert!(lab < pod);
    }
}
