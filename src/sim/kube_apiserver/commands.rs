//! The command lines. Both programs run in the server's directory and name files relative to it.

use std::env;
use std::net::SocketAddr;
use std::path::Path;

use tokio::process::Command;

use super::KubeAssets;
use super::files::{ACCOUNT_KEY, ACCOUNT_PUBLIC_KEY, CERTIFICATE, ETCD_DATA, KEY, TOKENS};

/// Where etcd answers: a socket in the server's directory, which no other user can enter and no other server
/// can take. The port is part of its name, [`super::etcd::SOCKET`].
const ETCD_URL: &str = "unix://etcd:0";
/// etcd insists on an address for further members.
const PEER_URL: &str = "unix://peer:0";
/// etcd reads its flags from variables too: those of the caller are for another etcd.
const ETCD_VARIABLES: &str = "ETCD_";

/// etcd with what it holds in `dir`.
pub(super) fn etcd(assets: &KubeAssets, dir: &Path) -> Command {
    let mut command = Command::new(assets.program(super::ETCD));
    command.current_dir(dir);
    for (name, _) in env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with(ETCD_VARIABLES)) {
        command.env_remove(name);
    }
    command.args(["--name", "tombolo", "--data-dir", ETCD_DATA, "--log-level", "warn"]);
    command.args(["--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL]);
    command.args(["--listen-peer-urls", PEER_URL, "--initial-advertise-peer-urls", PEER_URL]);
    command.arg("--initial-cluster").arg(format!("tombolo={PEER_URL}"));
    // What it holds need not survive the machine.
    command.arg("--unsafe-no-fsync");
    command
}

/// kube-apiserver on `listen`, an address this process holds too.
pub(super) fn kube_apiserver(
    assets: &KubeAssets,
    dir: &Path,
    listen: SocketAddr,
    service_range: &str,
) -> Command {
    let mut command = Command::new(assets.program(super::KUBE_APISERVER));
    let address = listen.ip().to_string();
    command.current_dir(dir);
    command.args(["--etcd-servers", ETCD_URL]);
    command.args(["--bind-address", &address, "--secure-port", &listen.port().to_string()]);
    command.arg("--permit-port-sharing");
    // Otherwise looked for by the default route, which a network namespace need not have.
    command.args(["--advertise-address", &address]);
    if listen.ip().is_loopback() {
        // EndpointSlices hold no loopback addresses: the Service `kubernetes` goes without.
        command.args(["--endpoint-reconciler-type", "none"]);
    }
    command.args(["--service-cluster-ip-range", service_range]);
    command.args([
        "--tls-cert-file",
        CERTIFICATE,
        "--tls-private-key-file",
        KEY,
        "--cert-dir",
        "certificates",
    ]);
    command.args(["--service-account-issuer", "https://kubernetes.default.svc"]);
    command.args(["--service-account-key-file", ACCOUNT_PUBLIC_KEY]);
    command.args(["--service-account-signing-key-file", ACCOUNT_KEY]);
    command.args(["--token-auth-file", TOKENS, "--authorization-mode", "RBAC"]);
    // Nobody makes the ServiceAccounts that it wants each pod to have.
    command.args(["--disable-admission-plugins", "ServiceAccount"]);
    command.args(["--profiling=false"]);
    command
}
