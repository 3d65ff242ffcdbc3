//! Which clusters the Secrets amount to, and which credentials are refused.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use tombolo::ingest::Rehearsal;
use tombolo::ingest::kubeconfig::{KubeconfigPolicy, verdict};

use super::flags::{Flag, Flags};
use super::shape::{Answer, Shape, answer, given, only, same, text, texts, truth};

/// The namespace whose Secrets are watched (R1.1).
const WATCHED: &str = "istio-system";

/// The label by which they are selected, and its value (R1.1).
const LABEL: (&str, &str) = ("istio/multiCluster", "true");

/// R1.1–R1.7.
pub(crate) fn remote_secrets(case: &Value, flags: &Flags) -> Answer {
    let compare = || -> Shape<Result<(), String>> {
        only("input", &case["input"], &["configCluster", "steps"])?;
        only("expect", &case["expect"], &["clustersAfterStep"])?;
        let config = text(&case["input"], "configCluster")?;
        let mut world = World {
            rehearsal: Rehearsal::new(config.into(), flags.quirks()),
            secrets: BTreeMap::new(),
            created: 0,
        };
        let steps = given(&case["input"], "steps")?;
        let expected = given(&case["expect"], "clustersAfterStep")?;
        if steps.len() != expected.len() {
            return Err(format!(
                "clustersAfterStep has {} entries for {} steps",
                expected.len(),
                steps.len()
            ));
        }
        for (index, (step, wanted)) in steps.iter().zip(expected).enumerate() {
            world.perform(step)?;
            if let Err(how) = same(&format!("after step {}", index + 1), &world.running(wanted), wanted) {
                return Ok(Err(how));
            }
        }
        Ok(Ok(()))
    };
    answer(compare())
}

/// A Secret as the API server has it.
#[derive(Clone, Default)]
struct Secret {
    created: i64,
    labels: BTreeMap<String, String>,
    /// What the case calls the kubeconfigs, by key.
    words: BTreeMap<String, String>,
    /// What was last told of it; `None` while it is not selected.
    told: Option<BTreeMap<String, String>>,
}

struct World {
    rehearsal: Rehearsal,
    secrets: BTreeMap<String, Secret>,
    created: i64,
}

impl World {
    /// What runs, by instance; only the names where no more is wanted.
    fn running(&self, wanted: &Value) -> Value {
        let running = self.rehearsal.running().iter();
        match wanted {
            Value::Array(_) => running.map(|(id, _)| json!(id.to_string())).collect(),
            _ => Value::Object(running.map(|(id, number)| (id.to_string(), json!(number))).collect()),
        }
    }

    fn perform(&mut self, step: &Value) -> Shape<()> {
        only("a step", step, &["op", "secret", "data", "clientBuildFails", "labels", "annotations"])?;
        let name = text(step, "secret")?;
        let (namespace, _) =
            name.split_once('/').ok_or_else(|| format!("secret {name:?} has no namespace"))?;
        // Of other namespaces nothing is heard.
        let heard = namespace == WATCHED;
        match text(step, "op")? {
            "create" | "add" | "update" => {
                self.created += 1;
                let before = self.secrets.remove(name);
                let usual = || BTreeMap::from([(LABEL.0.to_owned(), LABEL.1.to_owned())]);
                let before = before.unwrap_or_else(|| Secret {
                    created: self.created,
                    labels: usual(),
                    ..Secret::default()
                });
                let next = changed(before, step)?;
                if heard {
                    self.tell(name, &next);
                }
                self.secrets.insert(name.to_owned(), next);
            }
            "delete" => {
                self.secrets
                    .remove(name)
                    .ok_or_else(|| format!("secret {name} is deleted and was not there"))?;
                if heard {
                    self.rehearsal.gone(name);
                }
            }
            other => return Err(format!("op {other:?} is not known")),
        }
        Ok(())
    }

    fn tell(&mut self, name: &str, secret: &Secret) {
        match &secret.told {
            Some(kubeconfigs) => self.rehearsal.secret(name, secret.created, kubeconfigs),
            // Not selected any longer, which a watch by label tells as a deletion.
            None => self.rehearsal.gone(name),
        }
    }
}

/// A Secret after a step. What a step leaves out stays.
fn changed(mut secret: Secret, step: &Value) -> Shape<Secret> {
    if !step["labels"].is_null() {
        secret.labels = words(&step["labels"], "labels")?;
    }
    if !step["data"].is_null() {
        secret.words = words(&step["data"], "data")?;
    }
    let selected = secret.labels.get(LABEL.0).is_some_and(|value| value == LABEL.1);
    let before = secret.told.take().unwrap_or_default();
    // A text that was good before is what it was. What cannot be built is not a kubeconfig at all.
    let mut told = BTreeMap::new();
    for (id, word) in &secret.words {
        let good = kubeconfig(word);
        let bad = fails(&step["clientBuildFails"], id)? && before.get(id) != Some(&good);
        told.insert(id.clone(), if bad { format!("- {word}") } else { good });
    }
    secret.told = selected.then_some(told);
    Ok(secret)
}

/// Whether the client of one cluster cannot be made: of all, of those in a list, or as an object says.
fn fails(said: &Value, id: &str) -> Shape<bool> {
    match said {
        Value::Null => Ok(false),
        Value::Bool(all) => Ok(*all),
        Value::String(one) => Ok(one == "true" || one == id),
        Value::Array(ids) => Ok(ids.iter().any(|other| other == id)),
        Value::Object(_) => truth(said, id),
        other => Err(format!("field clientBuildFails is {other}")),
    }
}

fn words(value: &Value, what: &str) -> Shape<BTreeMap<String, String>> {
    let object = value.as_object().ok_or_else(|| format!("{what} is not an object"))?;
    let word = |(key, value): (&String, &Value)| match value {
        Value::String(word) => Ok((key.clone(), word.clone())),
        other => Err(format!("{what} has {other}, which is not a text")),
    };
    object.iter().map(word).collect()
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
            let policy = match flags.has(Flag::KubeconfigRules) {
                true => KubeconfigPolicy::peer(allowed.iter().map(String::as_str)),
                false => match KubeconfigPolicy::parse(&allowed.join(",")) {
                    Ok(policy) => policy,
                    // We do not start with such an option.
                    Err(error) => return Ok(Err(error.to_string())),
                },
            };
            ours.push(Value::Bool(verdict(&row["auth"], policy).is_ok()));
        }
        Ok(same("accepted", &ours, &given(&case["expect"], "accepted")?.to_vec()))
    };
    answer(compare())
}
