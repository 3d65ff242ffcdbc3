//! What a person can do with a running lab: files for other tools, and exact commands.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use serde_json::json;

use super::bootstrap::node_id;
use super::client::Client;
use super::place::PROXY_VARIABLES;
use super::plan::{ADMIN_PORT, HELLOWORLD, NAMESPACE, XDS_PORT};
use super::world::{CLIENT, app_deployment_name};
use super::{Lab, LabError, Mode};

/// Writes a kubeconfig per cluster and, in namespaces mode, the `exec` script.
pub(super) fn write_files(lab: &Lab) -> Result<(), LabError> {
    for cluster in lab.clusters() {
        let path = lab.run_dir().join(format!("{}.kubeconfig", cluster.plan().name));
        fs::write(&path, cluster.kubeconfig().reveal()).map_err(LabError::file("write", &path))?;
        let private = fs::Permissions::from_mode(0o600);
        fs::set_permissions(&path, private).map_err(LabError::file("protect", &path))?;
    }
    let Some(host_pid) = lab.host_pid else {
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
    let (run, exe) = (lab.run_dir().display(), lab.site.exe.display());
    for client in lab.clients() {
        let cluster = &client.cluster;
        let (url, host) = client.target(&HELLOWORLD, "/hello");
        let header = host.map(|host| format!("-H 'Host: {host}' ")).unwrap_or_default();
        let (within, admin) = match lab.plan().mode() {
            Mode::Namespaces => (format!("{run}/exec {}/{CLIENT} ", cluster.name), "127.0.0.1".to_owned()),
            Mode::Loopback => (String::new(), client.pod.address().to_string()),
        };
        let kubectl = format!("kubectl --kubeconfig {run}/{}.kubeconfig", cluster.name);
        let _ = writeln!(text, "  {} ({})", cluster.name, cluster.network);
        let _ = writeln!(text, "    a request, several times:  {within}curl {header}{url}");
        let _ = writeln!(
            text,
            "    its Envoy's endpoints:     {within}curl http://{admin}:{ADMIN_PORT}/clusters"
        );
        let _ =
            writeln!(text, "    the cluster:               {kubectl} get deploy,pods,svc,endpointslices -A");
        let deployment = app_deployment_name(cluster);
        let _ = writeln!(
            text,
            "    more endpoints:            {kubectl} -n {NAMESPACE} scale deployment {deployment} --replicas 3"
        );
        if let Ok(control_plane) = lab.control_plane(&cluster.control_plane) {
            let url = control_plane.http_url();
            let _ = writeln!(text, "    its proxies:               {exe} proxies --server {url}");
            let _ = writeln!(
                text,
                "    what its client gets:      {exe} endpoints {}.{NAMESPACE} --proxy {} --server {url}",
                HELLOWORLD.name,
                client.pod.name()
            );
            let _ = writeln!(text, "    the same as a proxy:       {within}{}", dump(lab, &client));
            let _ = writeln!(text, "    debug pages:               {url}/debug");
        }
    }
    let _ = writeln!(text, "  scenarios");
    let _ = writeln!(text, "    what there is:             {exe} lab scenario list");
    let _ = writeln!(text, "    for example:               {exe} lab scenario kill-gateway --run-dir {run}");
    let _ = writeln!(text, "  an Envoy of your own");
    let _ = writeln!(text, "    {}", own_envoy(lab));
    let _ = writeln!(text, "  logs: {run}/logs\nCtrl-C ends the lab.");
    text
}

/// How an Envoy that the lab does not run gets its configuration.
fn own_envoy(lab: &Lab) -> String {
    let bootstraps = lab.site.files.display();
    let Some(client) = lab.clients().into_iter().next() else { return String::new() };
    let xds = client.cluster.xds;
    match lab.plan().mode() {
        Mode::Namespaces => format!(
            "its xDS server, within pods of {}: {xds}:{XDS_PORT} (plaintext ADS; bootstraps to copy from: \
             {}/exec {}/{CLIENT} ls {bootstraps})",
            client.cluster.name,
            lab.run_dir().display(),
            client.cluster.name
        ),
        Mode::Loopback => format!(
            "its xDS server: {xds}:{XDS_PORT} (plaintext ADS; bootstraps to copy from: {bootstraps}/*.json)"
        ),
    }
}

/// Asks the control plane what it sends to the client's Envoy.
fn dump(lab: &Lab, client: &Client) -> String {
    let cluster = &client.cluster;
    let node = json!({
        "id": node_id(client.pod.workload(), client.pod.addresses()),
        "metadata": {"CLUSTER_ID": cluster.name, "NETWORK": cluster.network},
    });
    format!("{} dump --xds {}:{XDS_PORT} --type eds --as '{node}'", lab.site.exe.display(), cluster.xds)
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
