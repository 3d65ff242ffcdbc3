//! `ingress`: requests from outside, through an ordinary gateway, to the application of every cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Value, json};

use super::super::LabError;
use super::super::client::parse_hello;
use super::super::kubelet::Role;
use super::super::plan::SYSTEM_NAMESPACE;
use super::super::pod::RunningPod;
use super::super::wait::until;
use super::super::world::ingress::{INGRESS, INGRESS_LABEL, INGRESS_PORTS, ingress as objects};
use super::policies::{NAME, apply, homes, host, policy};
use super::split::{bound, chi_square};
use super::stage::{PATIENCE, Stage};
use super::{Seen, wrong};

/// What is served.
const SHOP: &str = "shop.example";
/// Served with TLS only, and later.
const SECOND: &str = "second.example";
/// Its certificate is a file that is not there.
const BROKEN: &str = "broken.example";
/// Percent of the split that is for the first version.
const FIRST_SHARE: u32 = 80;
/// Requests of the split.
const SPLIT: usize = 1000;
/// Requests after which every cluster has answered.
const SOME: usize = 20;

/// Opens a gateway in one cluster and asks it from the network of another.
pub(super) async fn ingress(stage: &Stage) -> Result<(), LabError> {
    let files = Files::make(&stage.lab.site.files)?;
    let visitor = Visitor::of(stage, open(stage).await?, files)?;
    let versions: Vec<String> = stage.lab.plan().clusters.iter().map(|one| one.version.clone()).collect();
    let homes = homes(stage);
    let subsets: Vec<Value> =
        versions.iter().map(|version| json!({"name": version, "labels": {"version": version}})).collect();
    let rule = json!({"host": host(), "subsets": subsets});
    apply(stage, &homes, &policy("networking", "DestinationRule", rule)).await?;
    apply(stage, &homes, &policy("networking", "VirtualService", routes(&versions))).await?;
    let first = [visitor.http_server(), visitor.https_server(SHOP)];
    apply(stage, &homes, &gateway(first.to_vec())).await?;
    let answers: BTreeSet<String> = stage.lab.plan().clusters.iter().map(Stage::answer_of).collect();
    stage.expect("host-and-path", by_host_and_path(&visitor, &answers).await);
    stage.expect("unknown-host", unknown(&visitor).await);
    stage.expect("split-as-told", split(&visitor, &versions).await);
    stage.expect("tls-by-server-name", encrypted(&visitor, SHOP).await);
    let others = [visitor.https_server(SECOND), https(BROKEN, Path::new("/absent"), Path::new("/absent"))];
    apply(stage, &homes, &gateway(first.into_iter().chain(others).collect())).await?;
    stage.expect("bad-file-costs-one-server", one_is_broken(&visitor).await);
    Ok(())
}

/// Applies the gateway's objects; its pod, once it is ready.
async fn open(stage: &Stage) -> Result<Arc<RunningPod>, LabError> {
    let name = stage.cluster.name.clone();
    let pods = |lab: &super::super::Lab, of: &str| -> Vec<Arc<RunningPod>> {
        let own = |pod: &Arc<RunningPod>| pod.cluster() == of && pod.role() == Role::Ingress;
        lab.pods().into_iter().filter(own).collect()
    };
    let (of, made) = (name.clone(), objects(&stage.cluster));
    stage.undo_by(format!("{INGRESS} of {name} is gone"), move |lab| async move {
        let api = lab.cluster(&of)?.api();
        if api.get(("Deployment", SYSTEM_NAMESPACE, INGRESS)).await?.is_some() {
            api.scale(&format!("{SYSTEM_NAMESPACE}/{INGRESS}"), 0).await?;
        }
        until("no ingress gateway", PATIENCE, async || match pods(&lab, &of).len() {
            0 => Ok(()),
            count => Err(format!("{count} of them")),
        })
        .await?;
        for object in made.iter().rev() {
            api.remove(object).await?;
        }
        Ok(())
    });
    for object in objects(&stage.cluster) {
        stage.lab.cluster(&name)?.api().apply(&object).await?;
    }
    let ready = until("an ingress gateway", PATIENCE, async || {
        let ready = pods(&stage.lab, &name).into_iter().find(|pod| pod.is_ready());
        ready.ok_or_else(|| "none is ready".to_owned())
    })
    .await?;
    stage.done(format!("{} is ready", ready.path()));
    Ok(ready)
}

fn gateway(servers: Vec<Value>) -> Value {
    policy("networking", "Gateway", json!({"selector": {"istio": INGRESS_LABEL}, "servers": servers}))
}

fn https(name: &str, certificate: &Path, key: &Path) -> Value {
    let [_, (_, port, _)] = INGRESS_PORTS;
    json!({
        "port": {"number": port, "name": format!("https-{name}"), "protocol": "HTTPS"}, "hosts": [name],
        "tls": {"mode": "SIMPLE", "serverCertificate": certificate, "privateKey": key},
    })
}

/// By path: one version alone, a split of the first and the last, everything.
fn routes(versions: &[String]) -> Value {
    let subset = |version: &String| json!({"host": host(), "subset": version});
    let rewritten = |prefix: String, route: Value| {
        let by_path = json!([{"uri": {"prefix": prefix}}]);
        json!({"match": by_path, "rewrite": {"uri": "/hello"}, "route": route})
    };
    let only = versions
        .iter()
        .map(|version| rewritten(format!("/only/{version}"), json!([{"destination": subset(version)}])));
    let shares = [(versions.first(), FIRST_SHARE), (versions.last(), 100 - FIRST_SHARE)];
    let shares: Vec<Value> = shares
        .into_iter()
        .filter_map(|(version, weight)| Some(json!({"destination": subset(version?), "weight": weight})))
        .collect();
    let split = rewritten("/split".to_owned(), json!(shares));
    let all = json!({"match": [{"uri": {"prefix": "/hello"}}], "route": [{"destination": {"host": host()}}]});
    let http: Vec<Value> = only.chain([split, all]).collect();
    json!({"hosts": [SHOP, SECOND], "gateways": [NAME], "http": http})
}

/// A certificate for what is served, where the gateway's Envoy reads it. It lives as long as the lab.
struct Files {
    certificate: PathBuf,
    key: PathBuf,
}

impl Files {
    fn make(dir: &Path) -> Result<Self, LabError> {
        let failed = |error: rcgen::Error| LabError::Command {
            what: "making a certificate".to_owned(),
            output: error.to_string(),
        };
        let key = rcgen::KeyPair::generate().map_err(failed)?;
        let names = vec![SHOP.to_owned(), SECOND.to_owned()];
        let made = rcgen::CertificateParams::new(names).and_then(|params| params.self_signed(&key));
        let files = Self { certificate: dir.join("ingress.crt"), key: dir.join("ingress.key") };
        for (path, text) in
            [(&files.certificate, made.map_err(failed)?.pem()), (&files.key, key.serialize_pem())]
        {
            std::fs::write(path, text).map_err(LabError::file("write", path))?;
        }
        Ok(files)
    }
}

/// Somebody outside of the gateway's network.
struct Visitor {
    from: Arc<RunningPod>,
    address: String,
    files: Files,
}

/// What came of a request: the status, and who answered.
type Answer = (String, Option<String>);

impl Visitor {
    /// The gateway between networks of another cluster: no sidecar is in its way.
    fn of(stage: &Stage, gateway: Arc<RunningPod>, files: Files) -> Result<Self, LabError> {
        let other = stage.other()?;
        let outside = |pod: &Arc<RunningPod>| {
            pod.cluster() == other.name && pod.role() == Role::Gateway && pod.is_ready()
        };
        let from = stage.lab.pods().into_iter().find(outside).ok_or_else(|| LabError::Missing {
            what: format!("{} has no ready gateway", other.name),
            hint: "wait for it, or scale its Deployment up".to_owned(),
        })?;
        let address = gateway.outer_address().unwrap_or_else(|| gateway.address()).to_string();
        Ok(Self { from, address, files })
    }

    fn http_server(&self) -> Value {
        let [(_, port, _), _] = INGRESS_PORTS;
        json!({"port": {"number": port, "name": "http", "protocol": "HTTP"}, "hosts": ["*.example"]})
    }

    fn https_server(&self, name: &str) -> Value {
        https(name, &self.files.certificate, &self.files.key)
    }

    /// What comes of `count` plain requests for `host`.
    async fn plain(&self, host: &str, path: &str, count: usize) -> Result<Vec<Answer>, LabError> {
        let [(_, _, port), _] = INGRESS_PORTS;
        self.ask(&format!("--header 'Host: {host}' 'http://{}:{port}{path}'", self.address), count).await
    }

    /// What comes of one request over TLS to `name`.
    async fn secure(&self, name: &str) -> Result<Option<Answer>, LabError> {
        let [_, (_, _, port)] = INGRESS_PORTS;
        let roots = self.files.certificate.display();
        let resolved = format!("--cacert '{roots}' --resolve {name}:{port}:{}", self.address);
        Ok(self.ask(&format!("{resolved} 'https://{name}:{port}/hello'"), 1).await?.pop())
    }

    async fn ask(&self, arguments: &str, count: usize) -> Result<Vec<Answer>, LabError> {
        let request = format!("curl --silent --max-time 5 --write-out ' %{{http_code}}\\n' {arguments}");
        let script = format!("for i in $(seq {count}); do {request} | tr '\\n' ' '; echo; done");
        let what = format!("curl {arguments} in {}", self.from.path());
        let output = self.from.place().script(&what, &script).await?;
        let answer = |line: &str| {
            let (body, status) = line.trim_end().rsplit_once(' ').unwrap_or(("", line.trim()));
            (status.to_owned(), parse_hello(body.trim()))
        };
        Ok(output.lines().map(answer).collect())
    }
}

/// Every cluster answers, the others through their gateways; each path of one version is answered by that alone.
async fn by_host_and_path(visitor: &Visitor, answers: &BTreeSet<String>) -> Seen {
    let heard = async |path: &str, wanted: &BTreeSet<String>| {
        let what = format!("{SHOP}{path} of {} is answered by {wanted:?}", visitor.address);
        until(&what, PATIENCE, async || {
            let seen = visitor.plain(SHOP, path, SOME).await.map_err(|error| error.to_string())?;
            let by: BTreeSet<String> = seen.iter().filter_map(|(_, who)| who.clone()).collect();
            let all = seen.iter().all(|(status, who)| status == "200" && who.is_some());
            if all && by == *wanted { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await
    };
    heard("/hello", answers).await?;
    for answer in answers {
        let version = answer.split('/').next().unwrap_or_default();
        heard(&format!("/only/{version}"), &BTreeSet::from([answer.clone()])).await?;
    }
    let by: Vec<&str> = answers.iter().map(String::as_str).collect();
    Ok(format!("{} asks {}: {} answer", visitor.from.path(), visitor.address, by.join(", ")))
}

/// A host that nobody serves, and a path that no route is for.
async fn unknown(visitor: &Visitor) -> Seen {
    for (host, path) in [("shop.elsewhere", "/hello"), ("other.example", "/hello"), (SHOP, "/nothing")] {
        let seen = visitor.plain(host, path, 1).await?;
        if seen.iter().any(|(status, _)| status != "404") || seen.is_empty() {
            return Err(wrong(format!("{host}{path} is not found"), format!("{seen:?}")));
        }
    }
    Ok("404 for two hosts and a path".to_owned())
}

/// Requests of one connection are split by weight.
async fn split(visitor: &Visitor, versions: &[String]) -> Seen {
    let [(_, _, port), _] = INGRESS_PORTS;
    let url = format!("http://{}:{port}/split?n=[1-{SPLIT}]", visitor.address);
    let script = format!("curl --silent --show-error --fail --header 'Host: {SHOP}' '{url}'");
    let output = visitor.from.place().script(&format!("curl {url}"), &script).await?;
    let mut by: BTreeMap<&str, u64> = BTreeMap::new();
    let who: Vec<String> = output.lines().filter_map(parse_hello).collect();
    for version in who.iter().filter_map(|who| who.split('/').next()) {
        *by.entry(version).or_default() += 1;
    }
    let ends = [versions.first(), versions.last()].map(|one| one.map_or("", String::as_str));
    let observed = ends.map(|version| by.get(version).copied().unwrap_or(0));
    let (statistic, most) = (chi_square(&observed, &[FIRST_SHARE, 100 - FIRST_SHARE]), bound(2));
    let told = format!("{by:?}, chi-square {statistic:.1}");
    if observed.iter().sum::<u64>() != SPLIT as u64 || statistic > most {
        return Err(wrong(format!("{SPLIT} requests are split {FIRST_SHARE}:{}", 100 - FIRST_SHARE), told));
    }
    Ok(told)
}

/// Waits until `name` is answered over TLS.
async fn encrypted(visitor: &Visitor, name: &str) -> Seen {
    until(&format!("{name} is answered over TLS"), PATIENCE, async || {
        match visitor.secure(name).await.map_err(|error| error.to_string())? {
            Some((status, Some(who))) if status == "200" => Ok(format!("{name} is answered by {who}")),
            other => Err(format!("{other:?}")),
        }
    })
    .await
}

/// A server with good files is there beside one whose files are not; that one alone answers nobody.
async fn one_is_broken(visitor: &Visitor) -> Seen {
    let second = encrypted(visitor, SECOND).await?;
    let first = encrypted(visitor, SHOP).await?;
    match visitor.secure(BROKEN).await? {
        Some((status, None)) if status == "000" => Ok(format!("{second}, {first}, {BROKEN} by nobody")),
        other => Err(wrong(format!("{BROKEN} is answered by nobody"), format!("{other:?}"))),
    }
}
