//! `weights`, `distribute`, `failover`, `subsets`, `strict-mtls`, `authorization`: policies, and what Envoys make of
//! them.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::LabError;
use super::super::client::{Client, authority};
use super::super::kubelet::Role;
use super::super::plan::{ClusterPlan, HELLOWORLD, NAMESPACE};
use super::super::pod::RunningPod;
use super::super::truth::truth;
use super::super::wait::until;
use super::super::world::app_deployment_name;
use super::endpoints::{app_pods, has_ready, replicas, set_ready};
use super::gateway::far;
use super::split::split_as;
use super::stage::{ANSWER_LIMIT, PATIENCE, Stage, hosts_of};
use super::{Seen, wrong};

/// Name of every policy made here.
pub(super) const NAME: &str = "lab-scenario";
/// Percent of its own cluster under `distribute`.
const NEAR: u32 = 70;
/// Ready pods under `weights`.
const MANY: usize = 3;
/// The account of the clients.
const CLIENT_ACCOUNT: &str = "cluster.local/ns/sample/sa/sleep";

/// The application, as policies name it.
pub(super) fn host() -> String {
    format!("{}.{NAMESPACE}.svc.cluster.local", HELLOWORLD.name)
}

/// A policy of the lab.
pub(super) fn policy(group: &str, kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": format!("{group}.istio.io/v1"), "kind": kind,
        "metadata": {"name": NAME, "namespace": NAMESPACE}, "spec": spec,
    })
}

/// The clusters whose policies are read: the homes of the control planes.
pub(super) fn homes(stage: &Stage) -> BTreeSet<String> {
    stage.lab.control_planes().iter().filter_map(|one| one.plan().home.clone()).collect()
}

/// Applies a policy where it is read; gone at the end.
pub(super) async fn apply(stage: &Stage, homes: &BTreeSet<String>, object: &Value) -> Result<(), LabError> {
    let kind = object["kind"].as_str().unwrap_or_default();
    for home in homes {
        let (of, what) = (home.clone(), object.clone());
        stage.undo_by(format!("the {kind} of {home} is deleted"), move |lab| async move {
            lab.cluster(&of)?.api().remove(&what).await
        });
        stage.lab.cluster(home)?.api().apply(object).await?;
    }
    stage.done(format!("a {kind} is in {}", homes.iter().map(String::as_str).collect::<Vec<_>>().join(", ")));
    Ok(())
}

/// Pods of one cluster behind one gateway: its weight is their sum, and requests follow it.
pub(super) async fn weights(stage: &Stage) -> Result<(), LabError> {
    let far = far(stage)?;
    let (name, deployment) = (stage.cluster.name.clone(), app_deployment_name(&stage.cluster));
    let (of, called) = (name.clone(), deployment.clone());
    let before = replicas(&stage.lab, &name, &deployment).await?;
    stage.undo_by(format!("{deployment} of {name} has {before} replicas"), move |lab| async move {
        lab.cluster(&of)?.api().scale(&called, before).await?;
        has_ready(&lab, &of, before).await.map(drop)
    });
    stage.lab.cluster(&name)?.api().scale(&deployment, MANY).await?;
    has_ready(&stage.lab, &name, MANY).await?;
    stage.done(format!("{name} has {MANY} pods"));
    let rule = json!({"host": host(), "trafficPolicy": {"loadBalancer": {"simple": "ROUND_ROBIN"}}});
    apply(stage, &homes(stage), &policy("networking", "DestinationRule", rule)).await?;
    has_rule(stage, "round robin", |config| !config.contains("LEAST_REQUEST")).await?;
    let shown = stage.follow(&stage.clients, PATIENCE).await;
    let shown = match shown {
        Ok(()) => one_gateway_has(&far, MANY).await,
        Err(error) => Err(error),
    };
    stage.expect("weights-shown", shown);
    let now = truth(&stage.lab, &HELLOWORLD).await?;
    let ready = |one: &ClusterPlan| u32::try_from(now.count(&one.name)).unwrap_or(u32::MAX);
    let shares: BTreeMap<String, u32> =
        stage.lab.plan().clusters.iter().map(|one| (one.name.clone(), ready(one))).collect();
    stage.expect("split-by-weight", all_split(&far, |_| shares.clone()).await);
    Ok(())
}

/// Each client has one host with `weight` times the weight of the lightest.
async fn one_gateway_has(clients: &[Client], weight: usize) -> Seen {
    let mut seen = Vec::new();
    for client in clients {
        let hosts = hosts_of(client).await?;
        let (least, most) =
            (hosts.values().map(|host| host.weight).min(), hosts.values().map(|host| host.weight).max());
        let (Some(least), Some(most)) = (least, most) else {
            return Err(wrong("a client has hosts", client.pod.path()));
        };
        if u64::from(most) != u64::from(least) * weight as u64 {
            return Err(wrong(format!("the gateway weighs {weight} pods"), format!("{hosts:?}")));
        }
        seen.push(format!("{} {most}:{least}", client.cluster.name));
    }
    Ok(format!("/clusters of {}", seen.join(", ")))
}

async fn all_split(clients: &[Client], shares: impl Fn(&Client) -> BTreeMap<String, u32>) -> Seen {
    let mut seen = Vec::new();
    for client in clients {
        seen.push(split_as(client, &shares(client)).await?);
    }
    Ok(seen.join("; "))
}

/// Every cluster keeps [`NEAR`] percent of its clients' requests.
pub(super) async fn distribute(stage: &Stage) -> Result<(), LabError> {
    let clusters = &stage.lab.plan().clusters;
    let near = |own: &ClusterPlan| -> BTreeMap<String, u32> {
        let others = clusters.len() as u32 - 1;
        let far = (100 - NEAR) / others;
        let share = |one: &ClusterPlan| if one.name == own.name { 100 - far * others } else { far };
        clusters.iter().map(|one| (one.name.clone(), share(one))).collect()
    };
    let rules: Vec<Value> = clusters
        .iter()
        .map(|own| {
            let to: serde_json::Map<String, Value> = clusters
                .iter()
                .map(|one| (format!("{}/*", one.region), json!(near(own)[&one.name])))
                .collect();
            json!({"from": format!("{}/*", own.region), "to": to})
        })
        .collect();
    let lb = json!({"localityLbSetting": {"enabled": true, "distribute": rules}});
    let rule = json!({"host": host(), "trafficPolicy": {"loadBalancer": lb}});
    apply(stage, &homes(stage), &policy("networking", "DestinationRule", rule)).await?;
    let arrived = has_rule(stage, "shares", |config| config.contains("locality_weighted_lb_config")).await;
    let split = match arrived {
        Ok(()) => all_split(&stage.clients, |client| near(&client.cluster)).await,
        Err(error) => Err(error),
    };
    stage.expect("split-as-told", split);
    Ok(())
}

/// Waits until the configuration of every client's Envoy cluster of the application is as wanted.
async fn has_rule(stage: &Stage, what: &str, wanted: impl Fn(&str) -> bool) -> Result<(), LabError> {
    for client in &stage.clients {
        let name = format!("{} has a rule with {what}", client.pod.path());
        until(&name, PATIENCE, async || {
            let dump = client.pod.admin().config(&HELLOWORLD.envoy_cluster()).await;
            let dump = dump.map_err(|error| error.to_string())?;
            if dump.contains("eds_cluster_config") && wanted(&dump) {
                Ok(())
            } else {
                Err("it has not".to_owned())
            }
        })
        .await?;
    }
    Ok(())
}

/// Clients stay in their cluster until its pods are unready, without any outlier detection.
pub(super) async fn failover(stage: &Stage) -> Result<(), LabError> {
    let clusters = &stage.lab.plan().clusters;
    let name = stage.cluster.name.clone();
    let ring = clusters.iter().zip(clusters.iter().cycle().skip(1));
    let rules: Vec<Value> = ring.map(|(one, next)| json!({"from": one.region, "to": next.region})).collect();
    let lb = json!({"localityLbSetting": {"enabled": true, "failover": rules}});
    let rule = json!({"host": host(), "trafficPolicy": {"loadBalancer": lb}});
    apply(stage, &homes(stage), &policy("networking", "DestinationRule", rule)).await?;
    stage.expect("near-first", only_from(stage, |client| client.cluster.name.clone()).await);
    let pods = app_pods(&stage.lab, &name).await?;
    let before = pods.len();
    let (of, all) = (name.clone(), pods.clone());
    stage.undo_by(format!("the pods of {name} are ready"), move |lab| async move {
        set_ready(&lab, &of, &all, true).await?;
        has_ready(&lab, &of, before).await.map(drop)
    });
    set_ready(&stage.lab, &name, &pods, false).await?;
    has_ready(&stage.lab, &name, 0).await?;
    stage.done(format!("the pods of {name} are unready"));
    let next = clusters
        .iter()
        .cycle()
        .skip_while(|one| one.name != name)
        .nth(1)
        .unwrap_or(&stage.cluster)
        .name
        .clone();
    let target = |client: &Client| {
        if client.cluster.name == name { next.clone() } else { client.cluster.name.clone() }
    };
    stage.expect("next-region-takes-over", only_from(stage, target).await);
    set_ready(&stage.lab, &name, &pods, true).await?;
    has_ready(&stage.lab, &name, before).await?;
    stage.expect("returns", only_from(stage, |client| client.cluster.name.clone()).await);
    Ok(())
}

/// Waits until each client's requests are answered by one cluster alone.
async fn only_from(stage: &Stage, cluster: impl Fn(&Client) -> String) -> Seen {
    const SOME: usize = 20;
    let start = Instant::now();
    for client in &stage.clients {
        let (own, path) = (cluster(client), client.pod.path());
        until(&format!("{path} is answered by {own} alone"), PATIENCE, async || {
            let by = client.answers(&HELLOWORLD, SOME).await.map_err(|error| error.to_string())?;
            let alone = by.keys().all(|who| who.rsplit('/').next() == Some(own.as_str()));
            if alone { Ok(()) } else { Err(format!("{by:?}")) }
        })
        .await?;
    }
    Ok(format!("every client, within {} ms", start.elapsed().as_millis()))
}

/// Requests go to the version that a header names.
pub(super) async fn subsets(stage: &Stage) -> Result<(), LabError> {
    let versions: BTreeSet<String> =
        stage.lab.plan().clusters.iter().map(|cluster| cluster.version.clone()).collect();
    let subsets: Vec<Value> =
        versions.iter().map(|version| json!({"name": version, "labels": {"version": version}})).collect();
    let rule = json!({"host": host(), "subsets": subsets});
    let route = |version: &str| json!([{"destination": {"host": host(), "subset": version}}]);
    let chosen = |version: &String| json!({"match": [{"headers": {"x-version": {"exact": version}}}], "route": route(version)});
    let other = json!({"route": [{"destination": {"host": host()}}]});
    let routes: Vec<Value> = versions.iter().map(chosen).chain([other]).collect();
    let homes = homes(stage);
    apply(stage, &homes, &policy("networking", "DestinationRule", rule)).await?;
    apply(stage, &homes, &policy("networking", "VirtualService", json!({"hosts": [host()], "http": routes})))
        .await?;
    stage.expect("version-asked-for", versions_answer(stage, &versions).await);
    Ok(())
}

async fn versions_answer(stage: &Stage, versions: &BTreeSet<String>) -> Seen {
    const SOME: usize = 10;
    for client in &stage.clients {
        for version in versions {
            let header = format!("x-version: {version}");
            until(&format!("{} is answered by {version} alone", client.pod.path()), PATIENCE, async || {
                let by =
                    client.answers_to(&HELLOWORLD, &header, SOME).await.map_err(|error| error.to_string())?;
                let alone = by.keys().all(|who| who.split('/').next() == Some(version.as_str()));
                if alone { Ok(()) } else { Err(format!("{by:?}")) }
            })
            .await?;
        }
    }
    let versions: Vec<&str> = versions.iter().map(String::as_str).collect();
    Ok(format!("{SOME} requests for each of {} by every client", versions.join(", ")))
}

/// Plaintext is refused, requests of the mesh go on.
pub(super) async fn strict(stage: &Stage) -> Result<(), LabError> {
    let pods = stage.lab.pods();
    let of = |role: Role| {
        let cluster = &stage.cluster.name;
        let mut found = pods.iter().filter(move |pod| pod.cluster() == cluster && pod.is_ready());
        found.find(|pod| {
            pod.role() == role
                && (role != Role::App || pod.deployment() == Some(&app_deployment_name(&stage.cluster)))
        })
    };
    let (Some(outsider), Some(target)) = (of(Role::Gateway), of(Role::App)) else {
        return Err(wrong("a gateway and the application run", format!("not in {}", stage.cluster.name)));
    };
    stage.expect("plaintext-before", plaintext(outsider, target, true).await);
    let spec = json!({"mtls": {"mode": "STRICT"}});
    apply(stage, &homes(stage), &policy("security", "PeerAuthentication", spec)).await?;
    stage.expect("plaintext-refused", plaintext(outsider, target, false).await);
    stage.expect("mesh-goes-on", stage.answers(&stage.clients, ANSWER_LIMIT).await);
    Ok(())
}

/// Waits until a request from a pod that does not speak mTLS is answered, or is not.
async fn plaintext(from: &RunningPod, to: &RunningPod, answered: bool) -> Seen {
    let url = format!("http://{}:{}/hello", to.address(), HELLOWORLD.port);
    let what = format!("{url} in plaintext is {}", if answered { "answered" } else { "refused" });
    let script =
        format!("curl --silent --output /dev/null --max-time 5 --write-out '%{{http_code}}' '{url}' || true");
    until(&what, PATIENCE, async || {
        let code = from.place().script(&what, &script).await.map_err(|error| error.to_string())?;
        let ok = code.trim() == "200";
        if ok == answered { Ok(()) } else { Err(format!("status {}", code.trim())) }
    })
    .await?;
    Ok(what)
}

/// The clients of every cluster may call the application of one, another account of another cluster may not.
pub(super) async fn authorize(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let rules = json!([{"from": [{"source": {"principals": [CLIENT_ACCOUNT]}}]}]);
    let selector = json!({"matchLabels": {"app": HELLOWORLD.name, "version": stage.cluster.version}});
    let spec = json!({"selector": selector, "action": "ALLOW", "rules": rules});
    apply(stage, &homes(stage), &policy("security", "AuthorizationPolicy", spec)).await?;
    let other = stage.other()?;
    stage.expect("other-principal-denied", denied(stage, &other).await);
    let (_, far) = stage.near_and_far();
    let far = if far.is_empty() { stage.clients.clone() } else { far };
    let callers: Vec<String> = far.iter().map(|client| client.cluster.name.clone()).collect();
    let answers = [Stage::answer_of(&stage.cluster)];
    let allowed = stage.record.answered_by(&callers, &answers, ANSWER_LIMIT);
    let allowed = allowed.await.map(|()| format!("{CLIENT_ACCOUNT} of other clusters is answered by {name}"));
    stage.expect("principal-of-another-cluster-allowed", allowed);
    Ok(())
}

/// The application of `other` calls as itself: its own cluster answers, the protected one denies.
async fn denied(stage: &Stage, other: &ClusterPlan) -> Seen {
    const SOME: usize = 20;
    let pods = stage.lab.pods();
    let deployment = app_deployment_name(other);
    let caller = pods.iter().find(|pod| {
        pod.cluster() == other.name
            && pod.deployment() == Some(&deployment)
            && pod.is_ready()
            && !pod.is_leaving()
    });
    let Some(caller) = caller else {
        return Err(wrong(format!("{deployment} runs"), format!("it does not in {}", other.name)));
    };
    let url = format!("http://{}/hello", authority(&HELLOWORLD));
    let request = format!("curl --silent --max-time 5 --write-out ' %{{http_code}}\\n' '{url}'");
    let script = format!("for i in $(seq {SOME}); do {request} | tr '\\n' ' '; echo; done");
    let own = format!("cluster: {}", stage.cluster.name);
    let what = format!("{} denies {}", stage.cluster.name, caller.path());
    until(&what, PATIENCE, async || {
        let output = caller.place().script(&what, &script).await.map_err(|error| error.to_string())?;
        let (denied, served) = (output.matches(" 403").count(), output.matches(&own).count());
        if denied > 0 && served == 0 {
            Ok(format!("{denied} of {SOME} denied, none served by {}", stage.cluster.name))
        } else {
            Err(format!("{denied} denied, {served} served"))
        }
    })
    .await
}
