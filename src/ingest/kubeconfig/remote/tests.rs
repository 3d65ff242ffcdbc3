//! Remote kubeconfigs as whoever may write Secrets would write them.

use std::time::Duration;

use proptest::prelude::*;
use rustix::fs::inotify;
use rustix::time::{ClockId, clock_gettime};
use serde_json::json;

use super::*;
use crate::ingest::client::ApiServer;

fn kubeconfig(cluster: Value, user: Value) -> Vec<u8> {
    json!({"apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "west", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
        "contexts": [{"name": "c", "context": {"cluster": "west", "user": "u"}}]})
    .to_string()
    .into_bytes()
}

fn verdict(cluster: Value, user: Value) -> Result<RemoteKubeconfig, String> {
    RemoteKubeconfig::parse(&kubeconfig(cluster, user), AddressPolicy::Remote)
        .map_err(|error| error.to_string())
}

fn with(name: &str, value: Value) -> Value {
    let mut cluster = json!({"server": "https://192.0.2.1:6443"});
    cluster[name] = value;
    cluster
}

#[test]
fn z_01_every_user_field_has_a_verdict() {
    for (user, allowed) in [
        (json!({}), true),
        (json!({"token": "canary"}), true),
        (json!({"client-certificate-data": "eA==", "client-key-data": "eA=="}), true),
        (json!({"username": "u", "password": "canary"}), true),
        (json!({"exec": {"command": "sleep"}}), false),
        (json!({"auth-provider": {"name": "gcp"}}), false),
        (json!({"auth-provider": {"name": "oidc"}}), false),
        (json!({"tokenFile": "/t"}), false),
        (json!({"client-key": "/k"}), false),
        (json!({"client-certificate": "/c"}), false),
        (json!({"as": "root"}), false),
        (json!({"as-groups": ["system:masters"]}), false),
        (json!({"as-user-extra": {"x": ["y"]}}), false),
        (json!({"somethingNew": 1}), false),
        (json!({"tokenFile": "", "exec": null}), true),
    ] {
        let result = verdict(json!({"server": "https://192.0.2.1"}), user.clone());
        assert_eq!(result.is_ok(), allowed, "{user} {result:?}");
        if let Err(text) = result {
            let field = user.as_object().unwrap().keys().next().unwrap();
            assert!(text.contains(field.as_str()), "{text}");
        }
    }
}

#[test]
fn z_02_z_03_z_05_every_cluster_field_has_a_verdict() {
    for (cluster, allowed) in [
        (with("tls-server-name", json!("kubernetes")), true),
        (with("disable-compression", json!(true)), true),
        (with("insecure-skip-tls-verify", json!(false)), true),
        (with("insecure-skip-tls-verify", json!(true)), false),
        (with("certificate-authority", json!("/ca.pem")), false),
        (with("certificate-authority-data", json!("not base64!")), false),
        (with("certificate-authority-data", json!("bm90IFBFTQ==")), false),
        (with("proxy-url", json!("http://proxy")), false),
        (with("somethingNew", json!("x")), false),
        (json!({}), false),
    ] {
        assert_eq!(verdict(cluster.clone(), json!({})).is_ok(), allowed, "{cluster}");
    }
}

#[test]
fn z_04_the_server_must_be_https_and_elsewhere() {
    for (server, allowed) in [
        ("https://192.0.2.1:6443", true),
        ("https://api.example.com", true),
        ("http://192.0.2.1", false),
        ("https://169.254.169.254", false),
        ("https://[::ffff:169.254.169.254]", false),
        ("https://127.0.0.1:1", false),
        ("https://[::1]:1", false),
        ("https://0.0.0.0", false),
        ("https://user:canary@192.0.2.1", false),
        // The port would be 443.
        ("https://192.0.2.1:644300", false),
        ("https://192.0.2.1:", false),
        ("https://192.0.2.1:0", false),
        ("https://[2001:db8::1]:6443", true),
        ("file:///etc/passwd", false),
        ("nonsense", false),
        ("", false),
    ] {
        let result = verdict(json!({"server": server}), json!({}));
        assert_eq!(result.is_ok(), allowed, "{server} {result:?}");
        assert!(!format!("{result:?}").contains("canary"));
    }
    let local = kubeconfig(json!({"server": "https://127.0.0.1:1"}), json!({}));
    assert!(RemoteKubeconfig::parse(&local, AddressPolicy::Any).is_ok());
}

/// What parsing costs this thread; other work on the machine does not count.
fn cost(bytes: &[u8]) -> (Result<(), Refusal>, Duration) {
    let now = || Duration::try_from(clock_gettime(ClockId::ThreadCPUTime)).unwrap();
    let before = now();
    let result = RemoteKubeconfig::parse(bytes, AddressPolicy::Remote).map(|_| ());
    (result, now() - before)
}

#[test]
fn z_07_bombs_and_giants_are_refused_quickly() {
    let mut bomb = String::from("a0: &a0 [x,x,x,x,x,x,x,x,x]\n");
    for n in 1..30 {
        let before = n - 1;
        bomb.push_str(&format!("a{n}: &a{n} [{}]\n", vec![format!("*a{before}"); 9].join(",")));
    }
    let fill = |unit: &str| unit.repeat(MAX_BYTES / unit.len());
    let merges = format!("a: &a {{x: y}}\nb:\n{}", fill("  - <<: *a\n"));
    for (what, text) in [
        ("10 MiB", " ".repeat(10 << 20)),
        ("billion laughs", bomb),
        (
            "duplicate keys",
            "kind: Config\nusers: [{name: u, user: {token: canary, token: canary}}]\n".to_owned(),
        ),
        ("many duplicate keys", fill("a: 1\n")),
        ("a million nodes", fill("- 1\n")),
        ("deep flow", fill("[")),
        ("deep blocks", fill("- ")),
        ("deep maps", (0..1000).map(|n| format!("{}a:\n", " ".repeat(n))).collect()),
        ("many anchors", (0..60_000).map(|n| format!("- &a{n} 1\n")).collect()),
        ("many merges", merges[..MAX_BYTES.min(merges.len())].to_owned()),
        ("many documents", fill("---\na: 1\n")),
        ("one comment", format!("#{}", fill("x"))),
        ("an endless quote", format!("a: \"{}", fill("canary "))),
        ("escapes", format!("a: \"{}", fill("\\x41"))),
        ("a long scalar", format!("a: {}", fill("x"))),
        ("a tag", format!("!<{}> a", fill("x"))),
        ("quoted credentials", "token: canary: x: [".to_owned()),
    ] {
        let (result, cost) = cost(text.as_bytes());
        let refusal = result.expect_err(what);
        assert!(!refusal.to_string().contains("canary"), "{what}: {refusal}");
        // Without optimisation everything takes several times as long.
        let limit = Duration::from_millis(if cfg!(debug_assertions) { 400 } else { 100 });
        assert!(cost <= limit, "{what}: {cost:?}");
    }
    assert!(matches!(cost(b"\xff\xfe").0, Err(Refusal::Malformed(_))));
    assert_eq!(cost(&vec![b' '; MAX_BYTES + 1]).0, Err(Refusal::TooLarge));
}

#[test]
fn z_07_a_kubeconfig_of_500_clusters_is_read() {
    let mut text = String::from("kind: Config\ncurrent-context: c499\nclusters:\n");
    for n in 0..500 {
        text.push_str(&format!("- name: c{n}\n  cluster: {{server: 'https://192.0.2.1:{n}'}}\n"));
    }
    text.push_str("contexts:\n");
    for n in 0..500 {
        text.push_str(&format!("- name: c{n}\n  context: {{cluster: c{n}, user: u{n}}}\n"));
    }
    text.push_str("users:\n");
    for n in 0..500 {
        text.push_str(&format!("- name: u{n}\n  user: {{token: t{n}}}\n"));
    }
    let kubeconfig = RemoteKubeconfig::parse(text.as_bytes(), AddressPolicy::Remote).unwrap();
    assert_eq!(kubeconfig.cluster_name, "c499");
}

fn permitted(user: Value, options: &str) -> Result<kube::Config, String> {
    let policy = KubeconfigPolicy::parse(options).unwrap();
    let rules = KubeconfigRules { addresses: AddressPolicy::Remote, policy };
    let cluster = json!({"server": "https://192.0.2.1", "tls-server-name": "kubernetes"});
    let parsed = RemoteKubeconfig::parse(&kubeconfig(cluster, user), rules);
    parsed.map(|parsed| (*parsed.config).clone()).map_err(|refusal| refusal.to_string())
}

#[test]
fn r1_14_what_is_permitted_is_taken_over() {
    let auth = permitted(json!({"tokenFile": "/t"}), "tokenFile").unwrap().auth_info;
    assert_eq!(auth.token_file.as_deref(), Some("/t"));
    let files = json!({"client-certificate": "/c", "client-key": "/k"});
    let auth = permitted(files.clone(), "clientKey,clientCertificate").unwrap().auth_info;
    assert_eq!((auth.client_certificate.as_deref(), auth.client_key.as_deref()), (Some("/c"), Some("/k")));
    assert!(permitted(files, "clientKey").unwrap_err().contains("client-certificate"));
    let exec = json!({"exec": {"command": "get-token", "args": ["a"], "provideClusterInfo": true}});
    let exec = permitted(exec, "exec").unwrap().auth_info.exec.unwrap();
    assert_eq!(exec.command.as_deref(), Some("get-token"));
    let cluster = exec.cluster.unwrap();
    assert_eq!(cluster.server.as_deref(), Some("https://192.0.2.1"));
    assert_eq!(cluster.tls_server_name.as_deref(), Some("kubernetes"));
    let gcp = json!({"auth-provider": {"name": "gcp", "config": {"cmd-path": "/bin/gcloud"}}});
    let provider = permitted(gcp, "gcp").unwrap().auth_info.auth_provider.unwrap();
    assert_eq!(provider.config["cmd-path"], "/bin/gcloud");
}

#[test]
fn r1_14_what_is_permitted_but_cannot_work_is_said() {
    for (user, options, word) in [
        (json!({"tokenFile": "t"}), "tokenFile", "absolute"),
        (json!({"client-key": "../k"}), "clientKey", "absolute"),
        (json!({"exec": {}}), "exec", "command"),
        (json!({"exec": {"command": "./x"}}), "exec", "absolute"),
        (json!({"exec": {"command": ["canary"]}}), "exec", "wrong kind"),
        (json!({"exec": "canary"}), "exec", "wrong kind"),
        (json!({"auth-provider": {"name": "azure"}}), "azure", "not supported"),
        (json!({"auth-provider": {"name": "gcp", "config": "canary"}}), "gcp", "wrong kind"),
        (json!({"auth-provider": {"name": "gcp", "config": {"cmd-path": "./canary"}}}), "gcp", "absolute"),
    ] {
        let refusal = permitted(user.clone(), options).unwrap_err();
        assert!(refusal.contains(word) && !refusal.contains("canary"), "{user}: {refusal}");
    }
}

#[test]
fn d34_the_peers_rules_never_relax_what_the_server_accepts() {
    let rules =
        KubeconfigRules { addresses: AddressPolicy::Remote, policy: KubeconfigPolicy::peer(["exec"]) };
    for user in [json!({"as": "root"}), json!({"auth-provider": {"name": "oidc"}}), json!({"new": 1})] {
        let bytes = kubeconfig(json!({"server": "https://192.0.2.1"}), user);
        assert!(matches!(RemoteKubeconfig::parse(&bytes, rules.clone()), Err(Refusal::NotAllowed(..))));
    }
}

#[test]
fn z_01_refused_programs_are_not_run_and_permitted_ones_not_before_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let marker = dir.path().join("ran");
    let touch = json!({"command": "/usr/bin/touch", "args": [marker.to_str().unwrap()]});
    let gcp = json!({"name": "gcp", "config": {"cmd-path": "/usr/bin/touch", "cmd-args": marker.to_str().unwrap()}});
    for (user, options) in [(json!({"exec": touch}), "exec"), (json!({"auth-provider": gcp}), "gcp")] {
        assert!(permitted(user.clone(), "").is_err());
        let config = permitted(user, options).unwrap();
        ApiServer::new(&config, AddressPolicy::Remote).unwrap();
        assert!(!marker.exists());
    }
}

/// What is opened or read in a directory, by whatever means.
struct Openings(rustix::fd::OwnedFd);

impl Openings {
    fn of(dir: &Path) -> Self {
        let told = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
        inotify::add_watch(&told, dir, inotify::WatchFlags::OPEN | inotify::WatchFlags::ACCESS).unwrap();
        Self(told)
    }

    fn any(&self) -> bool {
        let mut room = [std::mem::MaybeUninit::uninit(); 4096];
        inotify::Reader::new(&self.0, &mut room).next().is_ok()
    }
}

#[test]
fn z_01_refused_files_are_not_opened_and_permitted_ones_not_before_they_are_needed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("secret");
    std::fs::write(&file, "canary").unwrap();
    let openings = Openings::of(dir.path());
    let path = file.to_str().unwrap();
    for (user, option) in [
        (json!({"tokenFile": path}), "tokenFile"),
        (json!({"client-certificate": path, "client-key-data": ""}), "clientCertificate"),
        (json!({"client-certificate": path, "client-key": path}), "clientCertificate,clientKey"),
    ] {
        assert!(permitted(user.clone(), "").is_err());
        if let Ok(config) = permitted(user, option) {
            // A certificate without its key is refused here.
            let _ = ApiServer::new(&config, AddressPolicy::Remote);
        }
    }
    let ca = with("certificate-authority", json!(path));
    assert!(verdict(ca, json!({})).unwrap_err().contains("certificate-authority-data"));
    assert!(!openings.any());
    std::fs::read(&file).unwrap();
    assert!(openings.any(), "that is told");
}

#[test]
fn r1_11_the_cluster_is_the_current_contexts_then_the_first_by_name() {
    let name = |current: &str, contexts: Value| {
        let clusters: Vec<_> = ["b", "a", "c"]
            .iter()
            .map(|name| json!({"name": name, "cluster": {"server": "https://192.0.2.1"}}))
            .collect();
        let text = json!({"current-context": current, "clusters": clusters, "contexts": contexts});
        RemoteKubeconfig::parse(text.to_string().as_bytes(), AddressPolicy::Remote).unwrap().cluster_name
    };
    let context = |name: &str, cluster: &str| json!({"name": name, "context": {"cluster": cluster}});
    assert_eq!(name("z", json!([context("y", "b"), context("z", "c")])), "c");
    assert_eq!(name("", json!([context("z", "c"), context("y", "b")])), "b");
    assert_eq!(name("x", json!([context("w", ""), context("y", "b")])), "b");
    assert_eq!(name("", json!([])), "a");
}

#[test]
fn z_09_cluster_ids() {
    for (id, allowed) in [
        ("west", true),
        ("Kubernetes", true),
        ("eu-1.prod_a", true),
        ("", false),
        ("-x", false),
        ("a b", false),
        ("a\n", false),
        ("a|b", false),
        ("ä", false),
        (&"a".repeat(64), false),
        ("a..b", false),
        (&["abc"; 63].join("."), true),
        (&format!("{}.x", ["abc"; 63].join(".")), true),
        (&format!("{}.xy", ["abc"; 63].join(".")), false),
    ] {
        assert_eq!(check_cluster_id(id).is_ok(), allowed, "{id:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4096))]

    /// Where an id goes there are names of files, labels of metrics and keys of problems.
    #[test]
    fn z_09_whatever_is_accepted_as_an_id_is_plain_and_short(id in prop_oneof![
        "\\PC{0,40}",
        "[a-z0-9]{1,3}[a-z0-9._:/@ \n-]{0,3}[a-z0-9]{1,3}",
        "([a-z0-9_-]{1,64}\\.?){0,12}",
    ]) {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
        if check_cluster_id(&id).is_ok() {
            prop_assert!(id.chars().all(plain) && id.len() <= 253, "{id:?}");
            prop_assert!(edge(id.chars().next()) && edge(id.chars().last()) && !id.contains(".."), "{id:?}");
        }
    }
}

#[test]
fn z_01_values_of_another_type_are_not_taken_for_missing_ones() {
    for (user, field) in [
        (json!({"token": 12345}), "token"),
        (json!({"username": ["canary"]}), "username"),
        (json!({"password": 1.5, "username": "u"}), "password"),
        (json!({"client-certificate-data": {"a": "canary"}}), "client-certificate-data"),
    ] {
        let refused = verdict(json!({"server": "https://192.0.2.1"}), user).unwrap_err();
        assert!(refused.contains(&format!("`{field}`")) && !refused.contains("canary"), "{refused}");
    }
    for field in ["certificate-authority-data", "tls-server-name"] {
        for value in [json!(5), json!({"a": "b"}), json!(["x"])] {
            let refused = verdict(with(field, value), json!({})).unwrap_err();
            assert!(refused.contains(field), "the system's roots would be trusted: {refused}");
        }
    }
}

type Change = fn(&mut Value);

#[test]
fn z_01_z_07_what_a_document_must_not_be() {
    let good = || -> Value {
        serde_json::from_slice(&kubeconfig(json!({"server": "https://192.0.2.1"}), json!({}))).unwrap()
    };
    let with = |change: fn(&mut Value)| {
        let mut document = good();
        change(&mut document);
        let parsed = RemoteKubeconfig::parse(document.to_string().as_bytes(), AddressPolicy::Remote);
        parsed.map(|_| ()).map_err(|refusal| refusal.to_string())
    };
    assert_eq!(with(|document| document["preferences"] = json!({"colors": true})), Ok(()));
    assert_eq!(with(|document| document["contexts"][0]["context"]["namespace"] = json!("x")), Ok(()));
    let bad: [(Change, &str); 10] = [
        (|document| document["kind"] = json!("Pod"), "`kind`"),
        (|document| document["apiVersion"] = json!("v2"), "`apiVersion`"),
        (|document| document["somethingNew"] = json!(1), "`somethingNew`"),
        (|document| document["current-context"] = json!(5), "`current-context`"),
        (|document| document["contexts"][0]["context"]["user"] = json!(5), "`user`"),
        (|document| document["contexts"][0]["context"]["new"] = json!("x"), "`new`"),
        (|document| document["users"] = json!({}), "`users`"),
        (|document| document["clusters"][0]["name"] = json!(5), "`clusters`"),
        (
            |document| document["clusters"] = json!([document["clusters"][0], document["clusters"][0]]),
            "two entries",
        ),
        (|document| document["users"] = json!([document["users"][0], document["users"][0]]), "two entries"),
    ];
    for (change, words) in bad {
        let refused = with(change).unwrap_err();
        assert!(refused.contains(words), "{words}: {refused}");
    }
}
