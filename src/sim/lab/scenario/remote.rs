//! `rotate-secret`, `delete-cluster`: what control planes know of a remote cluster changes.

use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::api::ApiClient;
use super::super::client::Client;
use super::super::plan::{HELLOWORLD, SYSTEM_NAMESPACE};
use super::super::truth::{Truth, truth, written};
use super::super::wait::until;
use super::super::world::{remote_secret, remote_secret_name};
use super::super::{Lab, LabError};
use super::quiet::{ANY, Quiet};
use super::stage::{FOLLOW_LIMIT, PATIENCE, Stage, hosts_of, in_time};
use super::{Seen, news, wrong};

/// How long a removed cluster's endpoints stay (R1.20): the default of `--removal-grace`.
const GRACE: Duration = Duration::from_secs(5);
/// Between the Secret's deletion and when a control plane hears of it, and for looking.
const TOLERANCE: Duration = Duration::from_millis(300);
/// Seconds a token of a rotation is good for: the shortest a server gives.
const TOKEN_SECONDS: u32 = 600;

/// The home clusters of control planes that know the cluster by a Secret.
fn homes(stage: &Stage) -> Result<Vec<String>, LabError> {
    let knows = |plan: &&super::super::plan::ControlPlanePlan| plan.remotes.contains(&stage.cluster.name);
    let planes = stage.lab.plan().control_planes.iter().filter(knows);
    let homes: Vec<String> = planes.filter_map(|plan| plan.home.clone()).collect();
    if homes.is_empty() {
        return Err(LabError::Missing {
            what: format!("no control plane knows {} by a remote Secret", stage.cluster.name),
            hint: "name another --cluster, or start the lab with another shape".to_owned(),
        });
    }
    Ok(homes)
}

/// The clients of control planes at home in `homes`.
fn served(stage: &Stage, homes: &[String]) -> Vec<Client> {
    let of = |client: &&Client| homes.contains(&client.cluster.control_plane);
    stage.clients.iter().filter(of).cloned().collect()
}

/// Puts the Secret with `kubeconfig` for `peer` into `homes`.
async fn tell(lab: &Lab, homes: &[String], peer: &str, kubeconfig: &str) -> Result<(), LabError> {
    for home in homes {
        lab.cluster(home)?.api().apply(&remote_secret(peer, kubeconfig)).await?;
    }
    Ok(())
}

/// The Secret is deleted, and put back later.
pub(super) async fn delete(stage: &Stage) -> Result<(), LabError> {
    let homes = homes(stage)?;
    let clients = served(stage, &homes);
    let name = stage.cluster.name.clone();
    let without = truth(&stage.lab, &HELLOWORLD).await?.without(&name);
    let before = pushes(&clients).await?;
    let (of, at) = (name.clone(), homes.clone());
    stage.undo_by(format!("the Secret of {name} is back in {}", homes.join(", ")), move |lab| async move {
        let kubeconfig = lab.cluster(&of)?.kubeconfig().clone();
        tell(&lab, &at, &of, kubeconfig.reveal()).await
    });
    let start = Instant::now();
    for home in &homes {
        let secret = remote_secret_name(&name);
        stage.lab.cluster(home)?.api().delete(("Secret", SYSTEM_NAMESPACE, secret.as_str())).await?;
    }
    stage.done(format!("the Secret of {name} is deleted in {}", homes.join(", ")));
    let left = leaves(stage, &clients, &without, start).await;
    let gone = left.is_ok();
    stage.expect("leaves-after-grace", left);
    let after = pushes(&clients).await?;
    stage.expect(
        "one-push",
        if gone { one_push(&before, &after) } else { Err(wrong("it leaves", "it stays")) },
    );
    stage.lasting().await;
    stage.answered(20).await?;
    stage.back().await?;
    let start = Instant::now();
    let back = stage.follow(&clients, PATIENCE).await;
    let seen = back.map(|()| format!("every client has it again within {} ms", start.elapsed().as_millis()));
    stage.expect("comes-back", seen);
    Ok(())
}

/// Watches the clients until they have what is left, which is there all the time.
async fn leaves(stage: &Stage, clients: &[Client], without: &Truth, start: Instant) -> Seen {
    let limit = GRACE + FOLLOW_LIMIT * 4;
    let mut earliest = limit;
    for client in clients {
        let (path, network) = (client.pod.path(), &client.cluster.network);
        let before = hosts_of(client).await?;
        let rest = without.standing(network, &before);
        until(&format!("{path} has nothing of {}", stage.cluster.name), limit, async || {
            let hosts = hosts_of(client).await.map_err(|error| error.to_string())?;
            if let Some(lost) = rest.iter().find(|host| !hosts.contains_key(**host)) {
                return Ok(Err(wrong(format!("{path} keeps {lost}"), written(&hosts))));
            }
            without.holds(network, &hosts).map(Ok)
        })
        .await??;
        earliest = earliest.min(start.elapsed());
    }
    stage.done(format!("no client has an endpoint of {}", stage.cluster.name));
    if earliest + TOLERANCE < GRACE {
        return Err(wrong(format!("endpoints stay for {GRACE:?}"), format!("they left after {earliest:?}")));
    }
    in_time(
        &format!("they left {} ms after the Secret, all", earliest.as_millis()),
        start.elapsed(),
        GRACE + FOLLOW_LIMIT,
    )
}

/// How often each client's Envoy took endpoints of the watched service.
async fn pushes(clients: &[Client]) -> Result<Vec<(String, u64)>, LabError> {
    let mut all = Vec::new();
    for client in clients {
        let stats = client
            .pod
            .admin()
            .stats(&format!("^cluster.outbound.{}.*update_success$", HELLOWORLD.port))
            .await?;
        all.push((client.pod.path(), stats.values().sum()));
    }
    Ok(all)
}

fn one_push(before: &[(String, u64)], after: &[(String, u64)]) -> Seen {
    for ((client, then), (_, now)) in before.iter().zip(after) {
        if *now != then + 1 {
            return Err(wrong(format!("{client} gets one push of endpoints"), format!("{}", now - then)));
        }
    }
    Ok(format!("{} each got one push of endpoints", names(before)))
}

fn names(list: &[(String, u64)]) -> String {
    list.iter().map(|(client, _)| client.as_str()).collect::<Vec<_>>().join(", ")
}

/// The credential in the Secret is replaced by another one; then the old one is revoked.
pub(super) async fn rotate(stage: &Stage) -> Result<(), LabError> {
    let homes = homes(stage)?;
    let name = stage.cluster.name.clone();
    let (of, at) = (name.clone(), homes.clone());
    stage.undo_by(format!("the Secret of {name} is as it was"), move |lab| async move {
        let kubeconfig = lab.cluster(&of)?.kubeconfig().clone();
        tell(&lab, &at, &of, kubeconfig.reveal()).await
    });
    let old = account(stage, "tombolo-reader-old").await?;
    tell(&stage.lab, &homes, &name, &old).await?;
    stage.done(format!("control planes use {name} as tombolo-reader-old"));
    let used = ApiClient::from_kubeconfig(&old).await?;
    used.list(("Namespace", "", "")).await?;
    let quiet = Quiet::settled(&stage.lab, ANY).await?;
    let new = account(stage, "tombolo-reader-new").await?;
    tell(&stage.lab, &homes, &name, &new).await?;
    stage.done(format!("the Secret of {name} has a new credential"));
    stage.answered(20).await?;
    let api = stage.lab.cluster(&name)?.api();
    api.delete(("ServiceAccount", SYSTEM_NAMESPACE, "tombolo-reader-old")).await?;
    stage.done("the old credential is revoked");
    stage.expect("old-one-refused", refused(&used).await);
    stage.lasting().await;
    stage.expect("no-push", quiet.unchanged(&stage.lab).await);
    stage.expect("still-watched", news::spread(stage, &stage.cluster, "news-afterwards", PATIENCE).await);
    Ok(())
}

/// Makes a ServiceAccount that may read everything, and a kubeconfig with a token of it. It goes with the
/// scenario.
async fn account(stage: &Stage, account: &str) -> Result<String, LabError> {
    let name = stage.cluster.name.clone();
    let (of, called) = (name.clone(), account.to_owned());
    stage.undo_by(format!("ServiceAccount {account} of {name} is deleted"), move |lab| async move {
        let api = lab.cluster(&of)?.api();
        api.delete(("ClusterRoleBinding", "", called.as_str())).await?;
        api.delete(("ServiceAccount", SYSTEM_NAMESPACE, called.as_str())).await
    });
    let cluster = stage.lab.cluster(&name)?;
    cluster
        .api()
        .apply(&json!({
            "apiVersion": "v1", "kind": "ServiceAccount",
            "metadata": {"name": account, "namespace": SYSTEM_NAMESPACE},
        }))
        .await?;
    let bound = cluster.api().apply(&json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": account},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"kind": "ServiceAccount", "name": account, "namespace": SYSTEM_NAMESPACE}],
    })).await;
    // A server without roles lets every account read everything.
    bound.or_else(|error| if error.has_code(404) { Ok(()) } else { Err(error) })?;
    let token = request_token(cluster.api(), account).await?;
    with_token(cluster.kubeconfig().reveal(), &token)
}

/// A token by the TokenRequest API.
async fn request_token(api: &ApiClient, account: &str) -> Result<String, LabError> {
    let path = format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/serviceaccounts/{account}/token");
    let body = json!({
        "apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
        "spec": {"expirationSeconds": TOKEN_SECONDS},
    });
    let answer = api.post(&path, &body).await?;
    answer["status"]["token"].as_str().map(str::to_owned).ok_or_else(|| LabError::Http {
        method: "POST".to_owned(),
        url: path,
        problem: "the answer has no token".to_owned(),
    })
}

/// `kubeconfig` with `token` as its only credential.
fn with_token(kubeconfig: &str, token: &str) -> Result<String, LabError> {
    let unusable = |problem: String| LabError::Http {
        method: "using".to_owned(),
        url: "the API server's kubeconfig".to_owned(),
        problem,
    };
    let mut parsed: Value =
        serde_saphyr::from_str(kubeconfig).map_err(|error| unusable(error.to_string()))?;
    let users = parsed["users"].as_array_mut().filter(|users| !users.is_empty());
    for user in users.ok_or_else(|| unusable("it has no user".to_owned()))? {
        user["user"] = json!({"token": token});
    }
    // JSON is YAML.
    Ok(parsed.to_string())
}

/// Waits until the API server knows the credential no more; it may remember good ones for a while.
async fn refused(used: &ApiClient) -> Seen {
    until("401 for the old credential", PATIENCE, async || match used.list(("Namespace", "", "")).await {
        Err(error) if error.has_code(401) => Ok("the API server answers it 401".to_owned()),
        Err(error) => Err(error.to_string()),
        Ok(_) => Err("it is accepted".to_owned()),
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_gets_another_token_and_nothing_else_changes() {
        let text = "apiVersion: v1\nclusters: [{name: a, cluster: {server: 'https://x'}}]\n\
                    users: [{name: u, user: {token: old, client-key-data: eA==}}]\n";
        let changed: Value = serde_saphyr::from_str(&with_token(text, "new").unwrap()).unwrap();
        assert_eq!(changed["users"], json!([{"name": "u", "user": {"token": "new"}}]));
        assert_eq!(changed["clusters"][0]["cluster"]["server"], "https://x");
        assert!(with_token("users: []\n", "new").is_err());
    }
}
