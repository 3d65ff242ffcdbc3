//! The same kubectl commands against a synthetic and a real API server: the same exit codes, the same words,
//! the same objects. What differs is listed in [`DEVIATIONS`] with its reason, and nothing is listed that does
//! not differ.
//!
//! Needs the programs of `make kube-assets`. Without them the comparison is skipped loudly and the commands run
//! against the synthetic server alone; with `CI=true` that is a failure.
// The allowance for tests covers test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::Value;
use tokio::process::Command;
use tombolo::sim::apiserver::ApiServer;
use tombolo::sim::kube_apiserver::{KubeApiServer, KubeAssets};

#[path = "kube/assets.rs"]
mod assets;
#[path = "kube/client.rs"]
mod client;
#[path = "kubectl/deviations.rs"]
mod deviations;
#[path = "kubectl/normal.rs"]
mod normal;
#[path = "kubectl/script.rs"]
mod script;

use self::assets::assets;
use self::client::client;
use deviations::{DEVIATIONS, What};
use normal::Own;

/// No command needs as long.
const LIMIT: Duration = Duration::from_secs(120);

/// What is compared after each command, besides what it says.
const KINDS: &[(&str, &str, &str)] = &[
    ("", "v1", "ConfigMap"),
    ("", "v1", "Namespace"),
    ("", "v1", "Node"),
    ("", "v1", "Pod"),
    ("", "v1", "Secret"),
    ("", "v1", "Service"),
    ("", "v1", "ServiceAccount"),
    ("apps", "v1", "Deployment"),
    ("apiextensions.k8s.io", "v1", "CustomResourceDefinition"),
    ("example.com", "v1", "Widget"),
];

/// Namespaces servers bring with them, and what is in them.
const OWN_NAMESPACES: [&str; 4] = ["default", "kube-node-lease", "kube-public", "kube-system"];

/// Objects by kind, namespace and name.
type Objects = BTreeMap<String, Value>;

/// What one command did.
#[derive(Debug)]
struct Outcome {
    exit: Option<i32>,
    stdout: String,
    stderr: String,
    objects: Objects,
}

/// A server as its users see it.
struct Server {
    directory: tempfile::TempDir,
    own: Own,
    client: Client,
}

impl Server {
    async fn new(kubeconfig: &str, url: &str, kubectl: &Path) -> Self {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("kubeconfig"), kubeconfig).unwrap();
        for (name, content) in script::FILES {
            std::fs::write(directory.path().join(name), content).unwrap();
        }
        std::fs::create_dir(directory.path().join("bin")).unwrap();
        std::os::unix::fs::symlink(kubectl, directory.path().join("bin/kubectl")).unwrap();
        let own = Own { url: url.to_owned(), directory: directory.path().display().to_string() };
        Self { directory, own, client: client(kubeconfig).await }
    }

    async fn run(&self, line: &str) -> Outcome {
        let dir = self.directory.path();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(dir).kill_on_drop(true).stdin(Stdio::null());
        command.env("PATH", format!("{}:{path}", dir.join("bin").display()));
        command.env("HOME", dir).env("KUBECONFIG", dir.join("kubeconfig")).env("TMPDIR", dir);
        let output = tokio::time::timeout(LIMIT, command.output()).await;
        let output = output.unwrap_or_else(|_| panic!("{line}: takes longer than {LIMIT:?}")).unwrap();
        Outcome {
            exit: output.status.code(),
            stdout: normal::text(&String::from_utf8_lossy(&output.stdout), &self.own),
            stderr: normal::message(&String::from_utf8_lossy(&output.stderr), &self.own),
            objects: self.objects().await,
        }
    }

    async fn objects(&self) -> Objects {
        let mut found = Objects::new();
        for (group, version, kind) in KINDS {
            let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, kind));
            let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
            // A kind that is not defined yet has no objects.
            let Ok(list) = api.list(&ListParams::default()).await else { continue };
            for item in list {
                let (name, namespace) = (item.metadata.name.clone(), item.metadata.namespace.clone());
                let (name, namespace) = (name.unwrap_or_default(), namespace.unwrap_or_default());
                let home = if *kind == "Namespace" { &name } else { &namespace };
                if !OWN_NAMESPACES.contains(&home.as_str()) {
                    let value = normal::object(serde_json::to_value(&item).unwrap());
                    found.insert(format!("{kind} {namespace}/{name}"), value);
                }
            }
        }
        found
    }

    async fn run_all(&self) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(script::COMMANDS.len());
        for line in script::COMMANDS {
            outcomes.push(self.run(line).await);
        }
        outcomes
    }
}

async fn synthetic(kubectl: &Path) -> Vec<Outcome> {
    let server = ApiServer::builder().cluster("east").start().await.unwrap();
    let outcomes = Server::new(&server.kubeconfig(), server.url(), kubectl).await.run_all().await;
    server.shutdown().await;
    outcomes
}

async fn real(assets: &KubeAssets, kubectl: &Path) -> Vec<Outcome> {
    let server = KubeApiServer::builder().cluster("east").start(assets).await;
    let server = server.unwrap_or_else(|error| panic!("{error}"));
    let outcomes = Server::new(&server.kubeconfig(), server.url(), kubectl).await.run_all().await;
    server.stop().await;
    outcomes
}

/// Every list that patches merge: `type.field` to its strategy and key.
type MergeKeys = BTreeMap<String, (String, String)>;

/// The types and the merge keys that a server's OpenAPI documents publish.
async fn merge_keys(client: &Client) -> (BTreeSet<String>, MergeKeys) {
    let (mut types, mut keys) = (BTreeSet::new(), MergeKeys::new());
    for path in ["api/v1", "apis/apps/v1", "apis/discovery.k8s.io/v1", "apis/coordination.k8s.io/v1"] {
        let request = http::Request::get(format!("/openapi/v3/{path}")).body(Vec::new()).unwrap();
        let document: Value = client.request(request).await.unwrap();
        for (name, schema) in document["components"]["schemas"].as_object().unwrap() {
            types.insert(name.clone());
            for (field, property) in schema["properties"].as_object().into_iter().flatten() {
                let text = |key: &str| property[key].as_str().unwrap_or_default().to_owned();
                let strategy = text("x-kubernetes-patch-strategy");
                if !strategy.is_empty() {
                    let entry = (strategy, text("x-kubernetes-patch-merge-key"));
                    keys.insert(format!("{name}.{field}"), entry);
                }
            }
        }
    }
    (types, keys)
}

/// What differs between two outcomes of a command, with both sides.
fn differences(synthetic: &Outcome, real: &Outcome) -> Vec<(What, String)> {
    let mut found = Vec::new();
    let mut compare = |what: What, synthetic: String, real: String| {
        if synthetic != real {
            found.push((what, format!("--- synthetic\n{synthetic}\n--- real\n{real}\n")));
        }
    };
    compare(What::Exit, format!("{:?}", synthetic.exit), format!("{:?}", real.exit));
    compare(What::Output, synthetic.stdout.clone(), real.stdout.clone());
    compare(What::Message, synthetic.stderr.clone(), real.stderr.clone());
    found
}

/// The fields in which two sets of objects differ, each with both its values.
fn differing(synthetic: &Objects, real: &Objects) -> BTreeSet<String> {
    let (left, right) = (leaves(synthetic), leaves(real));
    let none = "(absent)".to_owned();
    let paths: BTreeSet<&String> = left.keys().chain(right.keys()).collect();
    let both = paths.into_iter().map(|path| (path, left.get(path), right.get(path)));
    both.filter(|(_, left, right)| left != right)
        .map(|(path, left, right)| {
            format!("{path}\n      {} | {}", left.unwrap_or(&none), right.unwrap_or(&none))
        })
        .collect()
}

fn leaves(objects: &Objects) -> BTreeMap<String, String> {
    fn walk(path: String, value: &Value, into: &mut BTreeMap<String, String>) {
        match value {
            Value::Object(map) if !map.is_empty() => {
                map.iter().for_each(|(key, value)| walk(format!("{path}.{key}"), value, into));
            }
            Value::Array(list) if !list.is_empty() => {
                list.iter().enumerate().for_each(|(at, value)| walk(format!("{path}[{at}]"), value, into));
            }
            leaf => {
                into.insert(path, leaf.to_string());
            }
        }
    }
    let mut out = BTreeMap::new();
    objects.iter().for_each(|(name, value)| walk(name.clone(), value, &mut out));
    out
}

/// A pipe would end the table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_do_the_same_on_a_synthetic_and_on_a_real_server() {
    let assets = assets();
    let kubectl = assets.as_ref().map(KubeAssets::kubectl).or_else(kubectl_on_path);
    let Some(kubectl) = kubectl else {
        return println!("SKIPPED: there is no kubectl");
    };
    let Some(assets) = assets else {
        let outcomes = synthetic(&kubectl).await;
        let failed = outcomes.iter().filter(|outcome| outcome.exit.is_none()).count();
        return assert_eq!(failed, 0, "commands ended by a signal");
    };
    let (synthetic, real) = tokio::join!(synthetic(&kubectl), real(&assets, &kubectl));

    println!("\n| command | differs in | because |\n|---|---|---|");
    for (command, what, reason) in DEVIATIONS {
        let what: Vec<String> = what.iter().map(What::to_string).collect();
        println!("| `{}` | {} | {reason} |", cell(command), what.join(", "));
    }
    let mut wrong = Vec::new();
    let mut seen = Vec::new();
    let mut known = BTreeSet::new();
    for (command, (synthetic, real)) in script::COMMANDS.iter().zip(synthetic.iter().zip(&real)) {
        let mut found = differences(synthetic, real);
        // What an earlier command left different is not held against this one.
        let objects = differing(&synthetic.objects, &real.objects);
        let fresh: Vec<&str> = objects.difference(&known).map(String::as_str).collect();
        if !fresh.is_empty() {
            found.push((What::Objects, format!("    {}\n", fresh.join("\n    "))));
        }
        known = objects;
        for (what, sides) in found {
            if DEVIATIONS.iter().any(|(listed, parts, _)| listed == command && parts.contains(&what)) {
                seen.push((*command, what));
            } else {
                wrong.push(format!("{command}\n  differs in {what}:\n{sides}"));
            }
        }
    }
    for (command, parts, _) in DEVIATIONS {
        for what in parts.iter().filter(|what| !seen.contains(&(*command, **what))) {
            wrong.push(format!("{command}\n  is listed as differing in {what}, but does not"));
        }
    }
    println!("\n{} commands, {} deviations listed", script::COMMANDS.len(), DEVIATIONS.len());
    assert!(wrong.is_empty(), "\n{}\n{} findings", wrong.join("\n"), wrong.len());
}

#[tokio::test]
async fn patches_merge_by_the_keys_a_real_server_publishes() {
    let Some(assets) = assets() else { return };
    let synthetic = ApiServer::builder().start().await.unwrap();
    let (types, ours) = merge_keys(&client(&synthetic.kubeconfig()).await).await;
    let real = KubeApiServer::builder().start(&assets).await.unwrap_or_else(|error| panic!("{error}"));
    let (_, theirs) = merge_keys(&client(&real.kubeconfig()).await).await;
    real.stop().await;
    let of_shared_type = |path: &str| path.rsplit_once('.').is_some_and(|(name, _)| types.contains(name));
    let theirs: MergeKeys = theirs.into_iter().filter(|(path, _)| of_shared_type(path)).collect();
    assert!(theirs.len() > 20, "{theirs:?}");
    assert_eq!(ours, theirs);
}

fn kubectl_on_path() -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|program| program.is_file())
}
