//! Patches, rehearsals, field checks and OpenAPI documents over HTTP.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams};

use super::*;

fn deployment() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
           "spec": {"selector": {"matchLabels": {"app": "d"}},
                    "template": {"metadata": {"labels": {"app": "d"}},
                                 "spec": {"containers": [{"name": "main", "image": "main:1"}]}}}})
}

async fn raw(
    client: &Client,
    method: &str,
    path: &str,
    media: &str,
    body: &Value,
) -> Result<String, kube::Error> {
    let request = http::Request::builder().method(method).uri(path).header("content-type", media);
    client.request_text(request.body(body.to_string().into_bytes()).unwrap()).await
}

async fn document(client: &Client, path: &str) -> Value {
    client.request(http::Request::get(path).body(Vec::new()).unwrap()).await.unwrap()
}

#[tokio::test]
async fn each_patch_type_changes_the_object_its_way() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::DEPLOYMENTS);
    api.create(&PostParams::default(), &object(deployment())).await.unwrap();
    let side = json!({"spec": {"template": {"spec": {"containers": [{"name": "side", "image": "side:1"}]}}}});
    let patched = api.patch("d", &PatchParams::default(), &Patch::Strategic(&side)).await.unwrap();
    let images = |object: &DynamicObject| -> Vec<String> {
        let containers = object.data["spec"]["template"]["spec"]["containers"].as_array().unwrap();
        containers.iter().map(|container| container["image"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(images(&patched), ["side:1", "main:1"]);
    let patched = api.patch("d", &PatchParams::default(), &Patch::Merge(&side)).await.unwrap();
    assert_eq!(images(&patched), ["side:1"]);
    let stale = Patch::Merge(json!({"metadata": {"resourceVersion": "1"}}));
    assert_eq!(code(api.patch("d", &PatchParams::default(), &stale).await), 409);
}

#[tokio::test]
async fn patches_that_do_not_fit_are_refused_by_kind_of_fault() {
    let server = east().await;
    let client = client(&server).await;
    server.store().create(service("a")).unwrap();
    let path = "/api/v1/namespaces/sample/services/a";
    for (media, body, want) in [
        ("application/json-patch+json", json!([{"op": "remove", "path": "/spec/nope"}]), 422),
        ("application/json-patch+json", json!({"op": "remove"}), 400),
        ("application/strategic-merge-patch+json", json!({"spec": {"ports": [{"name": "x"}]}}), 422),
        ("application/strategic-merge-patch+json", json!({"spec": {"$patch": "twist"}}), 400),
        ("application/merge-patch+json", json!({"spec": {"ports": "many"}}), 400),
        ("application/apply-patch+yaml", json!({}), 415),
    ] {
        assert_eq!(code(raw(&client, "PATCH", path, media, &body).await), want, "{media} {body}");
    }
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"plural": "widgets", "kind": "Widget"},
                 "versions": [{"name": "v1", "served": true, "storage": true,
                               "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    server.store().create(definition).unwrap();
    let strategic = "application/strategic-merge-patch+json";
    let custom = raw(&client, "PATCH", "/apis/example.com/v1/widgets/w", strategic, &json!({})).await;
    assert_eq!(code(custom), 415);
    let openapi = document(&client, "/openapi/v3/apis/example.com/v1").await;
    let schema = &openapi["components"]["schemas"]["com.example.v1.Widget"];
    assert_eq!(schema["x-kubernetes-group-version-kind"][0]["kind"], "Widget");
}

#[tokio::test]
async fn a_rehearsal_answers_and_changes_nothing() {
    let server = east().await;
    let client = client(&server).await;
    let api = in_sample(&client, &kinds::SERVICES);
    let rehearsed = PostParams { dry_run: true, ..PostParams::default() };
    let made = api.create(&rehearsed, &object(service("a"))).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.resource_version.is_none());
    assert_eq!(code(api.get("a").await), 404);

    let real = api.create(&PostParams::default(), &object(service("a"))).await.unwrap();
    assert_eq!(made.data["spec"]["clusterIP"], real.data["spec"]["clusterIP"]);
    assert_eq!(code(api.create(&rehearsed, &object(service("a"))).await), 409);
    let before = server.store().resource_version();
    let patch = Patch::Merge(json!({"spec": {"sessionAffinity": "ClientIP"}}));
    let params = PatchParams { dry_run: true, ..PatchParams::default() };
    let patched = api.patch("a", &params, &patch).await.unwrap();
    assert_eq!(patched.data["spec"]["sessionAffinity"], "ClientIP");
    let mut next = real.clone();
    next.data["spec"]["sessionAffinity"] = json!("ClientIP");
    api.replace("a", &rehearsed, &next).await.unwrap();
    api.delete("a", &DeleteParams { dry_run: true, ..DeleteParams::default() }).await.unwrap();
    let everything = "/api/v1/namespaces/sample/services?dryRun=All";
    raw(&client, "DELETE", everything, "application/json", &json!({})).await.unwrap();
    assert_eq!(api.get("a").await.unwrap(), real);
    assert_eq!(server.store().resource_version(), before);
}

#[tokio::test]
async fn unknown_fields_are_never_stored() {
    let server = east().await;
    let client = client(&server).await;
    let mut typo = service("a");
    typo["spec"]["selctor"] = json!({"app": "a"});
    let path = "/api/v1/namespaces/sample/services";
    let strict = format!("{path}?fieldValidation=Strict");
    assert_eq!(code(raw(&client, "POST", &strict, "application/json", &typo).await), 400);
    raw(&client, "POST", path, "application/json", &typo).await.unwrap();
    let stored = server.store().get(&kinds::SERVICES, "sample", "a").unwrap();
    assert!(stored["spec"].get("selctor").is_none() && stored["spec"]["ports"].is_array());
    let patch = json!({"spec": {"prots": []}});
    let strict = format!("{path}/a?fieldValidation=Strict");
    assert_eq!(code(raw(&client, "PATCH", &strict, "application/merge-patch+json", &patch).await), 400);
}

#[tokio::test]
async fn openapi_documents_lead_from_the_index_to_every_kind() {
    let server = east().await;
    let client = client(&server).await;
    let index = document(&client, "/openapi/v3").await;
    for kind in kinds::KINDS.iter() {
        let group = if kind.group.is_empty() { "api".to_owned() } else { format!("apis/{}", kind.group) };
        let url = index["paths"][format!("{group}/{}", kind.version)]["serverRelativeURL"].as_str().unwrap();
        let found = document(&client, url).await;
        let schemas = found["components"]["schemas"].as_object().unwrap();
        let is_kind =
            |schema: &Value| schema["x-kubernetes-group-version-kind"][0]["kind"] == kind.kind.as_str();
        assert!(schemas.values().any(is_kind), "{kind:?}");
    }
    assert!(document(&client, "/openapi/v2").await["definitions"].is_object());
    let binary = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
    let request = http::Request::get("/openapi/v2").header("accept", binary).body(Vec::new()).unwrap();
    assert!(client.request_text(request).await.unwrap().contains("Kubernetes"));
}
