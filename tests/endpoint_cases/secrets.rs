//! Which clusters the Secrets amount to, and which credentials are refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tombolo::ingest::Rehearsal;
use tombolo::ingest::kubeconfig::{KubeconfigPolicy, verdict};

use super::flags::{Flag, Flags};
use super::shape::{Answer, Shape, answer, given, only, same, text, texts};

/// The namespace whose Secrets are watched (R1.1).
const WATCHED: &str = "istio-system";

/// R1.1–R1.7.
pub(crate) fn remote_secrets(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["configCluster", "steps"])?;
        only("expect", &case["expect"], &["clustersAfterStep"])?;
        let config = text(&case["input"], "configCluster")?;
        let mut rehearsal = Rehearsal::new(config.into(), flags.quirks());
        let mut secrets: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let expected = given(&case["expect"], "clustersAfterStep")?;
        for (index, step) in given(&case["input"], "steps")?.iter().enumerate() {
            perform(&mut rehearsal, &mut secrets, step)?;
            let running = rehearsal.running().iter().map(|(id, number)| (id.to_string(), json!(number)));
            let after = Value::Object(running.collect());
            let wanted = expected.get(index).ok_or("fewer expectations than steps")?;
            if let Err(how) = same(&format!("after step {}", index + 1), &after, wanted) {
                return Ok(Err(how));
            }
        }
        Ok(Ok(()))
    };
    answer(compare())
}

fn perform(
    rehearsal: &mut Rehearsal,
    secrets: &mut BTreeMap<String, BTreeMap<String, String>>,
    step: &Value,
) -> Shape<()> {
    only("a step", step, &["op", "secret", "data", "clientBuildFails", "labels", "annotations"])?;
    let name = text(step, "secret")?;
    let (namespace, _) = name.split_once('/').ok_or_else(|| format!("secret {name:?} has no namespace"))?;
    // Of other namespaces nothing is heard.
    let heard = namespace == WATCHED;
    match text(step, "op")? {
        "create" | "add" | "update" => {
            let before = secrets.get(name).cloned().unwrap_or_default();
            let data = match &step["data"] {
                // Only its labels or annotations changed.
                Value::Null => before,
                data => read(data, &before, step["clientBuildFails"] == true)?,
            };
            if heard {
                // Cases say no ages.
                rehearsal.secret(name, 0, &data);
            }
            secrets.insert(name.to_owned(), data);
        }
        "delete" => {
            secrets.remove(name);
            if heard {
                rehearsal.gone(name);
            }
        }
        other => return Err(format!("op {other:?} is not known")),
    }
    Ok(())
}

/// Kubeconfigs whose bytes differ where the case's texts do. What cannot be built is not a kubeconfig at all;
/// a text that was there before is what it was.
fn read(data: &Value, before: &BTreeMap<String, String>, fails: bool) -> Shape<BTreeMap<String, String>> {
    let data = data.as_object().ok_or("data is not an object")?;
    let one = |(id, word): (&String, &Value)| -> Shape<(String, String)> {
        let word = word.as_str().ok_or("a kubeconfig is not a text")?;
        let good = kubeconfig(word);
        let unchanged = before.get(id) == Some(&good);
        Ok((id.clone(), if fails && !unchanged { format!("- {word}") } else { good }))
    };
    data.iter().map(one).collect()
}

fn kubeconfig(word: &str) -> String {
    json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "c",
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443"}}],
        "users": [{"name": "u", "user": {"token": word}}],
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
    })
    .to_string()
}

/// R1.13, R1.14.
pub(crate) fn kubeconfig_policy(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["rows"])?;
        only("expect", &case["expect"], &["accepted"])?;
        let mut ours = Vec::new();
        for row in given(&case["input"], "rows")? {
            only("a row", row, &["auth", "allow"])?;
            let allowed = texts(row, "allow")?;
            let policy = if flags.has(Flag::KubeconfigRules) {
                KubeconfigPolicy::peer(allowed.iter().map(String::as_str))
            } else {
                KubeconfigPolicy::parse(&allowed.join(",")).map_err(|error| error.to_string())?
            };
            ours.push(Value::Bool(verdict(&row["auth"], policy).is_ok()));
        }
        Ok(same("accepted", &ours, &given(&case["expect"], "accepted")?.to_vec()))
    };
    answer(compare())
}
