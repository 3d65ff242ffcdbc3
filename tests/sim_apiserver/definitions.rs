//! CustomResourceDefinitions: kinds that come and go while the server runs.

use futures::StreamExt as _;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, WatchParams};

use super::*;

fn definition(plural: &str, kind: &str) -> Value {
    let version = |name: &str, storage: bool| {
        json!({
            "name": name, "served": true, "storage": storage,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}},
            "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size",
                "statusReplicasPath": ".status.size", "labelSelectorPath": ".status.selector"}},
            "additionalPrinterColumns": [
                {"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                {"name": "Ready", "type": "string", "priority": 1,
                 "jsonPath": ".status.conditions[?(@.type==\"Ready\")].status"},
            ],
            "selectableFields": [{"jsonPath": ".spec.colour"}],
        })
    };
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.org")},
        "spec": {
            "group": "example.org", "scope": "Namespaced",
            "names": {"plural": plural, "kind": kind, "shortNames": [format!("{plural}x")], "categories": ["all"]},
            "versions": [version("v1beta1", false), version("v1", true)],
        },
    })
}

fn widgets(client: &Client, version: &str) -> Api<DynamicObject> {
    let gvk = GroupVersionKind::gvk("example.org", version, "Widget");
    Api::namespaced_with(client.clone(), "sample", &ApiResource::from_gvk_with_plural(&gvk, "widgets"))
}

fn widget(name: &str, version: &str, colour: &str) -> Value {
    json!({"apiVersion": format!("example.org/{version}"), "kind": "Widget",
           "metadata": {"namespace": "sample", "name": name},
           "spec": {"size": 1, "colour": colour, "anything": {"goes": [1, "two"]}}})
}

async fn established() -> (RunningApiServer, Client) {
    let server = east().await;
    let client = client(&server).await;
    let definitions = everywhere(&client, &kinds::CUSTOM_RESOURCE_DEFINITIONS);
    let made =
        definitions.create(&PostParams::default(), &object(definition("widgets", "Widget"))).await.unwrap();
    let told = |condition: &str| {
        let conditions = made.data["status"]["conditions"].as_array().unwrap();
        conditions.iter().any(|c| c["type"] == condition && c["status"] == "True")
    };
    assert!(told("NamesAccepted") && told("Established"), "{:?}", made.data["status"]);
    assert_eq!(made.data["status"]["acceptedNames"]["singular"], "widget");
    (server, client)
}

fn json_get(path: &str, accept: &str) -> http::Request<Vec<u8>> {
    http::Request::get(path).header("accept", accept).body(Vec::new()).unwrap()
}

#[tokio::test]
async fn a_definition_is_discovered_in_both_forms() {
    let (_server, client) = established().await;
    let resources = client.list_api_group_resources("example.org/v1").await.unwrap().resources;
    let names: Vec<&str> = resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, ["widgets", "widgets/scale", "widgets/status"]);
    assert_eq!(resources[0].short_names.as_deref(), Some(&["widgetsx".to_owned()][..]));
    let groups = client.list_api_groups().await.unwrap().groups;
    let group = groups.into_iter().find(|group| group.name == "example.org").unwrap();
    assert_eq!(group.preferred_version.unwrap().version, "v1");
    assert_eq!(group.versions.len(), 2);
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    let all: Value = client.request(json_get("/apis", accept)).await.unwrap();
    assert_eq!(all["kind"], "APIGroupDiscoveryList");
    let items = all["items"].as_array().unwrap();
    let item = items.iter().find(|item| item["metadata"]["name"] == "example.org").unwrap();
    assert_eq!(item["versions"][0]["resources"][0]["subresources"][0]["subresource"], "scale");
}

#[tokio::test]
async fn custom_objects_are_read_and_written_in_every_version() {
    let (_server, client) = established().await;
    let (new, old) = (widgets(&client, "v1"), widgets(&client, "v1beta1"));
    let made = old.create(&PostParams::default(), &object(widget("a", "v1beta1", "red"))).await.unwrap();
    assert_eq!(made.types.unwrap().api_version, "example.org/v1beta1");
    assert_eq!(made.metadata.generation, Some(1));
    let read = new.get("a").await.unwrap();
    assert_eq!(read.types.unwrap().api_version, "example.org/v1");
    assert_eq!(read.data["spec"]["anything"], json!({"goes": [1, "two"]}));
    let patch = json!({"spec": {"size": 2}});
    let patched = old.patch("a", &PatchParams::default(), &Patch::Merge(patch)).await.unwrap();
    assert_eq!(
        (patched.types.unwrap().api_version.as_str(), patched.metadata.generation),
        ("example.org/v1beta1", Some(2))
    );
    let listed: Value =
        client.request(json_get("/apis/example.org/v1beta1/widgets", "application/json")).await.unwrap();
    assert_eq!(listed["kind"], "WidgetList");
    assert_eq!(listed["items"][0]["apiVersion"], "example.org/v1beta1");
}

#[tokio::test]
async fn custom_objects_have_status_scale_columns_and_selectable_fields() {
    let (_server, client) = established().await;
    let api = widgets(&client, "v1");
    for (name, colour) in [("a", "red"), ("b", "blue")] {
        api.create(&PostParams::default(), &object(widget(name, "v1", colour))).await.unwrap();
    }
    let status = json!({"spec": {"size": 9}, "status": {"size": 1, "selector": "x=y",
                        "conditions": [{"type": "Ready", "status": "True"}]}});
    let reported = api.patch_status("a", &PatchParams::default(), &Patch::Merge(status)).await.unwrap();
    assert_eq!((&reported.data["spec"]["size"], reported.metadata.generation), (&json!(1), Some(1)));
    let five = Patch::Merge(json!({"spec": {"replicas": 5}}));
    let scale = api.patch_scale("a", &PatchParams::default(), &five).await.unwrap();
    assert_eq!(scale.status.unwrap().selector.as_deref(), Some("x=y"));
    assert_eq!(api.get("a").await.unwrap().data["spec"]["size"], 5);
    let red = api.list(&ListParams::default().fields("spec.colour=red")).await.unwrap();
    assert_eq!(red.items.iter().map(name).collect::<Vec<_>>(), ["a"]);
    let table: Value = client
        .request(json_get(
            "/apis/example.org/v1/namespaces/sample/widgets/a",
            "application/json;as=Table;v=v1;g=meta.k8s.io",
        ))
        .await
        .unwrap();
    assert_eq!(table["rows"][0]["cells"], json!(["a", 5, "True"]));
    assert_eq!(table["columnDefinitions"][2]["priority"], 1);
}

#[tokio::test]
async fn a_deleted_definition_takes_objects_and_watches_along() {
    let (server, client) = established().await;
    let api = widgets(&client, "v1");
    api.create(&PostParams::default(), &object(widget("a", "v1", "red"))).await.unwrap();
    let now = server.store().resource_version().to_string();
    let mut watch = api.watch(&WatchParams::default(), &now).await.unwrap().boxed();
    let definitions = everywhere(&client, &kinds::CUSTOM_RESOURCE_DEFINITIONS);
    definitions.delete("widgets.example.org", &DeleteParams::default()).await.unwrap();
    assert_eq!(told(&soon(watch.next()).await.unwrap().unwrap()), "DELETED a");
    assert!(soon(watch.next()).await.is_none(), "the watch ends in order");
    assert_eq!(code(api.get("a").await), 404);
    assert_eq!(code(client.request_text(json_get("/apis/example.org/v1", "application/json")).await), 404);
    // The same definition again starts empty.
    definitions.create(&PostParams::default(), &object(definition("widgets", "Widget"))).await.unwrap();
    assert!(api.list(&ListParams::default()).await.unwrap().items.is_empty());
    api.create(&PostParams::default(), &object(widget("b", "v1", "red"))).await.unwrap();
}

#[tokio::test]
async fn definitions_that_make_no_sense_are_refused_with_the_field() {
    let server = east().await;
    let client = client(&server).await;
    let definitions = everywhere(&client, &kinds::CUSTOM_RESOURCE_DEFINITIONS);
    let refused = async |change: fn(&mut Value)| {
        let mut bad = definition("widgets", "Widget");
        change(&mut bad);
        match definitions.create(&PostParams::default(), &object(bad)).await {
            Err(kube::Error::Api(status)) => {
                let field = status.details.as_ref().map(|d| d.causes[0].field.clone()).unwrap_or_default();
                (status.code, status.reason.clone(), field)
            }
            other => panic!("expected a refusal, got {other:?}"),
        }
    };
    let invalid = |field: &str| (422, "Invalid".to_owned(), field.to_owned());
    assert_eq!(refused(|d| d["metadata"]["name"] = json!("widgets")).await, invalid("metadata.name"));
    let two = refused(|d| d["spec"]["versions"][0]["storage"] = json!(true)).await;
    assert_eq!(two, invalid("spec.versions"));
}
