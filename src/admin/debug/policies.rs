//! `/debug/policies`: every policy object, what is in use of it, and what is wrong with it.

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::admin::query::Query;
use crate::admin::reply::{self, Refusal};
use crate::admin::{Shared, Sources};
use crate::ingest::{KindStatus, PolicyState, PolicyStatus};
use crate::model::Moment;

const KNOWN: [&str; 4] = ["kind", "namespace", "name", "invalid"];

/// The mesh-wide document and the objects by kind. `?kind=`, `?namespace=` and `?name=` restrict, `?invalid` shows
/// objects that are set aside only. Cost ∝ all policies. `?lint` is another answer: [`lint`](super::lint).
pub(in crate::admin) async fn policies(State(sources): Shared, query: Query) -> Result<Response, Refusal> {
    if query.is_on("lint") {
        return super::lint::page(&sources, &query);
    }
    query.only(&KNOWN)?;
    let all = sources.policies.as_ref().map(|policies| policies.all()).unwrap_or_default();
    let kinds: Vec<_> = all.iter().map(|kind| kind.kind.name()).collect();
    if let Some(wanted) = query.get("kind").filter(|wanted| !kinds.contains(wanted)) {
        let known = kinds.join(", ");
        return Err(Refusal::query(format!(
            "kind={wanted:?} is none that is watched here; there are [{known}]"
        )));
    }
    let wanted = |kind: &&KindStatus| query.get("kind").is_none_or(|wanted| wanted == kind.kind.name());
    let kinds = all.iter().filter(wanted).map(|kind| (kind.kind.name().to_owned(), row(kind, &query)));
    let kinds: serde_json::Map<String, Value> = kinds.collect();
    Ok(reply::json(&query, &json!({"mesh": mesh(&sources), "kinds": kinds})))
}

fn mesh(sources: &Sources) -> Value {
    json!(**sources.registry.policies().mesh())
}

fn row(kind: &KindStatus, query: &Query) -> Value {
    let fits = |key, value: &str| query.get(key).is_none_or(|wanted| wanted == value);
    let wanted = |object: &&PolicyStatus| {
        fits("namespace", &object.namespace)
            && fits("name", &object.name)
            && !(query.is_on("invalid") && object.state == PolicyState::Ok)
    };
    let now = Moment::now();
    let objects: Vec<_> = kind.objects.iter().filter(wanted).map(|object| shown(object, now)).collect();
    json!({"apiVersion": kind.api_version, "source": kind.source, "objects": objects})
}

fn shown(object: &PolicyStatus, now: Moment) -> Value {
    let now = now.time_of_day().duration_since(std::time::UNIX_EPOCH).unwrap_or_default().as_secs();
    let age = u64::try_from(object.created).ok().filter(|created| *created != 0);
    json!({
        "namespace": object.namespace, "name": object.name,
        "ageSeconds": age.map(|created| now.saturating_sub(created)),
        "scopes": object.scopes, "state": object.state, "error": object.error,
        "problems": object.problems,
        "resourceVersion": object.told, "inUse": object.is_used, "resourceVersionInUse": object.used,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_shown_with_what_of_it_cannot_be_done() {
        let object = PolicyStatus {
            namespace: "shop".into(),
            name: "x".into(),
            created: 0,
            scopes: vec!["shop".into()],
            state: PolicyState::Ok,
            error: None,
            problems: vec!["action CUSTOM".to_owned()],
            told: Some(2),
            used: Some(2),
            is_used: true,
        };
        let expected = json!({
            "namespace": "shop", "name": "x", "ageSeconds": null, "scopes": ["shop"], "state": "ok",
            "error": null, "problems": ["action CUSTOM"],
            "resourceVersion": 2, "inUse": true, "resourceVersionInUse": 2,
        });
        assert_eq!(shown(&object, Moment::now()), expected);
    }
}
