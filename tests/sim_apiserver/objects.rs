//! Single objects: create, read, replace, patch, delete, and how each is refused.

use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};

use super::*;

#[tokio::test]
async fn leases_are_not_replaced_blindly() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::LEASES);
    let lease = |version: Option<&str>| {
        object(json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease",
                      "metadata": {"namespace": "sample", "name": "a", "resourceVersion": version},
                      "spec": {"holderIdentity": "me"}}))
    };
    let made = api.create(&PostParams::default(), &lease(None)).await.unwrap();
    assert_eq!(code(api.replace("a", &PostParams::default(), &lease(None)).await), 422);
    assert_eq!(code(api.replace("a", &PostParams::default(), &lease(Some("1"))).await), 409);
    let version = made.metadata.resource_version.unwrap();
    api.replace("a", &PostParams::default(), &lease(Some(&version))).await.unwrap();
}

#[tokio::test]
async fn an_object_lives_its_life() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let made = api.create(&PostParams::default(), &object(service("a"))).await.unwrap();
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    assert_eq!(made.data["spec"]["ports"][0]["protocol"], "TCP");
    let again = api.create(&PostParams::default(), &object(service("a"))).await;
    assert_eq!(code(again), 409);

    let mut next = made.clone();
    next.data["spec"]["ports"][0]["port"] = json!(5001);
    let replaced = api.replace("a", &PostParams::default(), &next).await.unwrap();
    assert_eq!(replaced.data["spec"]["ports"][0]["port"], 5001);
    assert_eq!(replaced.data["spec"]["clusterIP"], made.data["spec"]["clusterIP"]);
    assert_eq!(code(api.replace("a", &PostParams::default(), &next).await), 409);

    let patch = Patch::Merge(json!({"metadata": {"labels": {"app": null, "team": "x"}}}));
    let patched = api.patch("a", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        patched.metadata.labels.unwrap().into_iter().collect::<Vec<_>>(),
        [("team".into(), "x".into())]
    );

    api.delete("a", &DeleteParams::default()).await.unwrap();
    assert_eq!(code(api.get("a").await), 404);
    assert_eq!(code(api.delete("a", &DeleteParams::default()).await), 404);
}

#[tokio::test]
async fn status_is_written_through_its_own_path() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::PODS);
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"nodeName": "n"},
                     "status": {"phase": "Running"}});
    let made = api.create(&PostParams::default(), &object(pod)).await.unwrap();
    assert_eq!(made.data["status"]["phase"], "Pending");
    let patch = Patch::Merge(json!({"spec": {"nodeName": "other"}, "status": {"phase": "Running"}}));
    let ready = api.patch_status("p", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(
        (&ready.data["status"]["phase"], &ready.data["spec"]["nodeName"]),
        (&json!("Running"), &json!("n"))
    );
    let patch = Patch::Merge(json!({"status": {"phase": "Failed"}}));
    let kept = api.patch("p", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(kept.data["status"]["phase"], "Running");
    assert_eq!(kept.metadata.resource_version, ready.metadata.resource_version);
    let no_status = in_sample(&client(&server).await, &kinds::SECRETS);
    assert_eq!(code(no_status.get_status("p").await), 404);
}

#[tokio::test]
async fn scale_changes_the_replicas() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::DEPLOYMENTS);
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
               "spec": {"selector": {"matchLabels": {"app": "d"}},
                        "template": {"metadata": {"labels": {"app": "d"}}}}});
    api.create(&PostParams::default(), &object(deployment)).await.unwrap();
    let patch = Patch::Merge(json!({"spec": {"replicas": 3}}));
    let scale = api.patch_scale("d", &PatchParams::default(), &patch).await.unwrap();
    assert_eq!(scale.spec.unwrap().replicas, Some(3));
    let stored = api.get("d").await.unwrap();
    assert_eq!((stored.data["spec"]["replicas"].as_i64(), stored.metadata.generation), (Some(3), Some(2)));
}

#[tokio::test]
async fn deletes_honour_their_preconditions() {
    let server = east().await;
    let api = in_sample(&client(&server).await, &kinds::SERVICES);
    let made = api.create(&PostParams::default(), &object(service("a"))).await.unwrap();
    let only = |uid: Option<String>| DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version: None }),
        ..DeleteParams::default()
    };
    assert_eq!(code(api.delete("a", &only(Some("other".into()))).await), 409);
    assert!(api.delete("a", &only(made.metadata.uid)).await.is_ok());
}

#[tokio::test]
async fn bad_objects_are_refused_with_a_reason() {
    let server = east().await;
    let client = client(&server).await;
    let api = in_sample(&client, &kinds::SERVICES);
    let create = async |value: Value| api.create(&PostParams::default(), &object(value)).await;
    let mut nameless = service("a");
    nameless["metadata"] = json!({});
    assert_eq!(code(create(nameless).await), 422);
    assert_eq!(code(create(service("Not_DNS")).await), 422);
    let mut elsewhere = service("a");
    elsewhere["metadata"]["namespace"] = json!("other");
    assert_eq!(code(create(elsewhere).await), 400);
    let mut pod = service("a");
    pod["kind"] = json!("Pod");
    assert_eq!(code(create(pod).await), 400);
    let nowhere: Api<DynamicObject> =
        Api::namespaced_with(client.clone(), "absent", &resource(&kinds::SERVICES));
    let mut homeless = service("a");
    homeless["metadata"]["namespace"] = json!("absent");
    assert_eq!(code(nowhere.create(&PostParams::default(), &object(homeless)).await), 404);
    assert!(server.store().list(&kinds::SERVICES, None).is_empty());
}

#[tokio::test]
async fn unknown_forms_and_methods_are_refused() {
    let server = east().await;
    let client = client(&server).await;
    server.store().create(service("a")).unwrap();
    let send = async |method: &str, path: &str, media: &str, body: &str| {
        let request = http::Request::builder().method(method).uri(path).header("content-type", media);
        code(client.request_text(request.body(body.as_bytes().to_vec()).unwrap()).await)
    };
    let one = "/api/v1/namespaces/sample/services/a";
    let all = "/api/v1/namespaces/sample/services";
    for media in ["application/apply-patch+yaml", "text/plain", ""] {
        assert_eq!(send("PATCH", one, media, "{}").await, 415, "{media}");
    }
    assert_eq!(send("POST", all, "application/cbor", "k8s").await, 415);
    assert_eq!(send("POST", all, "application/vnd.kubernetes.protobuf", "k8s").await, 400);
    assert_eq!(send("POST", all, "application/json", "{").await, 400);
    assert_eq!(send("POST", all, "application/json", "[]").await, 400);
    assert_eq!(send("POST", one, "application/json", "{}").await, 405);
    assert_eq!(send("PUT", all, "application/json", "{}").await, 405);
    assert_eq!(send("POST", "/version", "application/json", "{}").await, 405);
    assert_eq!(send("GET", "/api/v1/widgets", "", "").await, 404);
    assert_eq!(send("PUT", one, "application/json", &"x".repeat(4 << 20)).await, 413);
    assert_eq!(send("PATCH", &format!("{one}?dryRun=Some"), "application/merge-patch+json", "{}").await, 422);
    assert_eq!(
        send("PATCH", &format!("{one}?fieldValidation=So"), "application/merge-patch+json", "{}").await,
        422
    );
}
