//! What a delete request asks for, and how much time an object gets.
//!
//! Dependents are the garbage collector's business, a controller's, not the API server's: every propagation
//! policy is accepted and treated as `Background`. `Foreground` and `Orphan` would add finalizers that nobody
//! here removes, and leave `kubectl delete --cascade=foreground` waiting for ever.

use serde_json::{Value, json};

use super::effect::Effect;
use super::error::ApiError;
use super::identity;
use super::kinds::{self, Kind};
use super::object;
use super::route::Query;

/// The policies a client may name.
const POLICIES: [&str; 3] = ["Orphan", "Background", "Foreground"];
/// Seconds a pod gets when nothing says otherwise.
const DEFAULT_GRACE: u64 = 30;

/// The options of a delete request.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct DeleteOptions {
    /// The object must be this one.
    pub(super) uid: Option<String>,
    /// The object must be at this version.
    pub(super) resource_version: Option<String>,
    /// Seconds to wait before the object goes, where its kind waits at all.
    pub(super) grace: Option<u64>,
    /// Whether it happens at all.
    pub(super) effect: Effect,
}

impl DeleteOptions {
    /// Delete whatever it is, at once: in-process deletes.
    pub(super) fn at_once() -> Self {
        Self { grace: Some(0), ..Self::default() }
    }

    /// Reads the options of a request: its `DeleteOptions`, and its query where those say nothing.
    ///
    /// # Errors
    /// [`ApiError::BadRequest`] for what cannot be read, [`ApiError::Invalid`] for an unknown policy or dry run.
    pub(super) fn parse(query: &Query, options: &Value) -> Result<Self, ApiError> {
        let policy = options["propagationPolicy"].as_str().unwrap_or(query.get("propagationPolicy"));
        if !policy.is_empty() && !POLICIES.contains(&policy) {
            return Err(ApiError::Invalid {
                kind: "DeleteOptions.meta.k8s.io".into(),
                name: String::new(),
                field: "propagationPolicy".into(),
                why: format!("Unsupported value: {policy:?}: supported values: {}", POLICIES.join(", ")),
            });
        }
        let text = |field: &str| options["preconditions"][field].as_str().map(str::to_owned);
        let grace = match &options["gracePeriodSeconds"] {
            Value::Null => query.number("gracePeriodSeconds")?,
            given => Some(given.as_i64().map_or(0, |seconds| seconds.max(0).unsigned_abs())),
        };
        let effect = Effect::of_options(options)?;
        Ok(Self { uid: text("uid"), resource_version: text("resourceVersion"), grace, effect })
    }

    /// The same, rehearsed when `asked` says so.
    pub(super) fn or(self, asked: Effect) -> Self {
        let effect = if asked == Effect::Rehearsed { asked } else { self.effect };
        Self { effect, ..self }
    }

    /// The first precondition that `current` does not meet, in words.
    pub(super) fn unmet(&self, current: &Value) -> Option<String> {
        let rules =
            [("uid", "UID", &self.uid), ("resourceVersion", "ResourceVersion", &self.resource_version)];
        rules.into_iter().find_map(|(field, word, wanted)| {
            let (wanted, actual) =
                (wanted.as_deref()?, current["metadata"][field].as_str().unwrap_or_default());
            let why = format!(
                "Precondition failed: {word} in precondition: {wanted}, {word} in object meta: {actual}"
            );
            (wanted != actual).then_some(why)
        })
    }
}

/// What happens to an object that is deleted.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Fate {
    /// It goes now.
    Gone,
    /// It stays, in this state, until it is deleted again, or its last finalizer goes.
    Marked(Value),
    /// It is waiting already, and nothing changes.
    Waiting,
}

/// Decides what deleting `current` does.
///
/// A Pod on a node that has not ended is only marked: its kubelet ends it and deletes it with no grace left.
/// A second delete may shorten the wait, never prolong it. Finalizers hold any object.
pub(super) fn fate(kind: &Kind, current: &Value, options: &DeleteOptions) -> Fate {
    let metadata = &current["metadata"];
    let held = metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty());
    let marked = metadata["deletionTimestamp"].is_string();
    let left = metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(0);
    let grace = match (marked, options.grace) {
        (true, None) => left,
        (true, Some(asked)) => asked.min(left),
        (false, asked) => grace_of(kind, current, asked),
    };
    match (grace, held) {
        (0, false) => Fate::Gone,
        _ if marked && grace == left => Fate::Waiting,
        _ => Fate::Marked(mark(kind, current, grace)),
    }
}

/// The seconds an object gets that nobody has deleted yet.
fn grace_of(kind: &Kind, current: &Value, asked: Option<u64>) -> u64 {
    let spec = &current["spec"];
    let placed = spec["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let ended = matches!(current["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !kind.is(&kinds::PODS) || !placed || ended {
        return 0;
    }
    asked.or(spec["terminationGracePeriodSeconds"].as_u64()).unwrap_or(DEFAULT_GRACE)
}

fn mark(kind: &Kind, current: &Value, grace: u64) -> Value {
    let mut next = current.clone();
    let metadata = object::metadata(&mut next);
    metadata.insert("deletionTimestamp".into(), json!(identity::timestamp_in(grace)));
    metadata.insert("deletionGracePeriodSeconds".into(), json!(grace));
    if let Some(generation) =
        metadata.get("generation").and_then(Value::as_u64).filter(|_| kind.has_generation)
    {
        metadata.insert("generation".into(), json!(generation + 1));
    }
    next
}

/// Whether an update that leads to `object` removes it: it was only held by finalizers, and they are gone.
pub(super) fn is_finished(object: &Value) -> bool {
    let metadata = &object["metadata"];
    !metadata["deletionTimestamp"].is_null()
        && metadata["deletionGracePeriodSeconds"].as_u64().unwrap_or(0) == 0
        && metadata["finalizers"].as_array().is_none_or(Vec::is_empty)
}

/// The answer to a delete that removed `last`: the object for some kinds, a `Status` for the others.
pub(super) fn answer(kind: &Kind, last: Value) -> Value {
    let objects: [&Kind; 3] = [&kinds::PODS, &kinds::SERVICES, &kinds::SERVICE_ACCOUNTS];
    if objects.iter().any(|other| kind.is(other)) {
        return last;
    }
    let metadata = &last["metadata"];
    let mut details = json!({"name": metadata["name"], "kind": kind.plural, "uid": metadata["uid"]});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod() -> Value {
        json!({"metadata": {"name": "p"}, "spec": {"nodeName": "n", "terminationGracePeriodSeconds": 7},
               "status": {"phase": "Running"}})
    }

    fn grace(fate: Fate) -> u64 {
        match fate {
            Fate::Marked(object) => object["metadata"]["deletionGracePeriodSeconds"].as_u64().unwrap(),
            other => panic!("expected a mark, got {other:?}"),
        }
    }

    fn within(seconds: u64) -> DeleteOptions {
        DeleteOptions { grace: Some(seconds), ..DeleteOptions::default() }
    }

    #[test]
    fn only_a_pod_that_runs_on_a_node_is_given_time() {
        assert_eq!(grace(fate(&kinds::PODS, &pod(), &DeleteOptions::default())), 7);
        assert_eq!(grace(fate(&kinds::PODS, &pod(), &within(3))), 3);
        assert_eq!(fate(&kinds::PODS, &pod(), &within(0)), Fate::Gone);
        assert_eq!(fate(&kinds::SERVICES, &pod(), &DeleteOptions::default()), Fate::Gone);
        let mut ended = pod();
        ended["status"]["phase"] = json!("Succeeded");
        assert_eq!(fate(&kinds::PODS, &ended, &DeleteOptions::default()), Fate::Gone);
        let mut unplaced = pod();
        unplaced["spec"]["nodeName"] = json!("");
        assert_eq!(fate(&kinds::PODS, &unplaced, &DeleteOptions::default()), Fate::Gone);
    }

    #[test]
    fn a_second_delete_may_only_shorten_the_wait() {
        let Fate::Marked(marked) = fate(&kinds::PODS, &pod(), &DeleteOptions::default()) else { panic!() };
        assert_eq!(fate(&kinds::PODS, &marked, &DeleteOptions::default()), Fate::Waiting);
        assert_eq!(fate(&kinds::PODS, &marked, &within(60)), Fate::Waiting);
        assert_eq!(grace(fate(&kinds::PODS, &marked, &within(2))), 2);
        assert_eq!(fate(&kinds::PODS, &marked, &within(0)), Fate::Gone);
        assert!(!is_finished(&marked), "a status update does not remove a pod that ends");
    }

    #[test]
    fn finalizers_hold_what_has_no_grace_left() {
        let mut held = pod();
        held["metadata"]["finalizers"] = json!(["a/b"]);
        let Fate::Marked(marked) = fate(&kinds::PODS, &held, &within(0)) else { panic!() };
        assert_eq!(fate(&kinds::PODS, &marked, &within(0)), Fate::Waiting);
        assert!(!is_finished(&marked));
    }

    #[test]
    fn options_come_from_body_or_query() {
        let query = Query::parse("gracePeriodSeconds=5&propagationPolicy=Foreground");
        assert_eq!(DeleteOptions::parse(&query, &Value::Null).unwrap(), within(5));
        assert_eq!(DeleteOptions::parse(&query, &json!({"gracePeriodSeconds": 1})).unwrap(), within(1));
        let bad = Query::parse("propagationPolicy=Sideways");
        assert_eq!(DeleteOptions::parse(&bad, &Value::Null).unwrap_err().code(), 422);
    }
}
