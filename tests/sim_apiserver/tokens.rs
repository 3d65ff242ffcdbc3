//! Service account tokens: how they are asked for, what they say, and when they stop to be believed.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD as BASE64;
use http::Method;

use super::raw::{Answer, send};
use super::*;

const REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"namespace": "sample", "name": name}})
}

fn pod(name: &str, account: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"namespace": "sample", "name": name},
           "spec": {"serviceAccountName": account, "nodeName": "node-1", "containers": [{"name": "c", "image": "i"}]}})
}

/// A server with the accounts `web` and `api`, and its administrator.
async fn with_accounts() -> (RunningApiServer, Client) {
    let server = east().await;
    for name in ["web", "api"] {
        server.store().create(account(name)).unwrap();
    }
    let client = client(&server).await;
    (server, client)
}

async fn post(client: &Client, path: &str, body: &Value) -> Answer {
    send(client, Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
}

async fn ask(client: &Client, account: &str, spec: Value) -> Answer {
    let path = format!("/api/v1/namespaces/sample/serviceaccounts/{account}/token");
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec});
    post(client, &path, &request).await
}

async fn token(client: &Client, account: &str, spec: Value) -> String {
    let answer = ask(client, account, spec).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.body.escape_ascii());
    answer.json()["status"]["token"].as_str().unwrap().to_owned()
}

/// A client with `token` instead of the server's own.
async fn bearer(server: &RunningApiServer, token: &str) -> Client {
    client_from(&server.kubeconfig().replace(server.token(), token)).await
}

/// What the server says when `token` lists Services.
async fn code_for(server: &RunningApiServer, token: &str) -> u16 {
    let client = bearer(server, token).await;
    send(&client, Method::GET, "/api/v1/services", &[], "").await.status.as_u16()
}

async fn review(client: &Client, spec: Value) -> Value {
    let answer = post(client, REVIEWS, &json!({"spec": spec})).await;
    assert_eq!(answer.status.as_u16(), 201, "{}", answer.body.escape_ascii());
    answer.json()["status"].clone()
}

#[tokio::test]
async fn a_token_says_whose_it_is_and_opens_the_api() {
    let (server, admin) = with_accounts().await;
    let before = jiff::Timestamp::now().as_second();
    let answer = ask(&admin, "web", json!({})).await.json();
    assert_eq!((&answer["kind"], &answer["metadata"]["name"]), (&json!("TokenRequest"), &json!("web")));
    assert_eq!(answer["spec"]["expirationSeconds"], 3600);
    let token = answer["status"]["token"].as_str().unwrap();
    let parts: Vec<Value> = token
        .split('.')
        .take(2)
        .map(|part| serde_json::from_slice(&BASE64.decode(part).unwrap()).unwrap())
        .collect();
    let (header, claims) = (&parts[0], &parts[1]);
    assert_eq!(header["alg"], "ES256");
    assert_eq!((&claims["iss"], &claims["aud"]), (&json!(ISSUER), &json!([ISSUER])));
    assert_eq!(claims["sub"], "system:serviceaccount:sample:web");
    let uid = &server.store().get(&kinds::SERVICE_ACCOUNTS, "sample", "web").unwrap()["metadata"]["uid"];
    assert_eq!(
        claims["kubernetes.io"],
        json!({"namespace": "sample", "serviceaccount": {"name": "web", "uid": uid}})
    );
    let issued = claims["iat"].as_i64().unwrap();
    assert!((before..before + 60).contains(&issued));
    assert_eq!((claims["exp"].as_i64(), claims["nbf"].as_i64()), (Some(issued + 3600), Some(issued)));
    let expires: jiff::Timestamp = answer["status"]["expirationTimestamp"].as_str().unwrap().parse().unwrap();
    assert_eq!(expires.as_second(), issued + 3600);

    let web = bearer(&server, token).await;
    in_sample(&web, &kinds::SERVICES).create(&Default::default(), &object(service("a"))).await.unwrap();
    let me = post(&web, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &json!({})).await.json();
    assert_eq!(me["status"]["userInfo"]["username"], "system:serviceaccount:sample:web");
    assert_eq!(
        me["status"]["userInfo"]["groups"],
        json!(["system:serviceaccounts", "system:serviceaccounts:sample", "system:authenticated"])
    );
}

#[tokio::test]
async fn a_malformed_order_is_refused() {
    let (_server, client) = with_accounts().await;
    for spec in [json!("text"), json!([]), json!(1)] {
        assert_eq!(ask(&client, "web", spec.clone()).await.status.as_u16(), 400, "{spec}");
    }
}

#[tokio::test]
async fn an_expired_or_foreign_token_is_refused() {
    let (server, admin) = with_accounts().await;
    let expired = server.service_account_token("sample", "web", Duration::ZERO).unwrap();
    let valid = server.service_account_token("sample", "web", Duration::from_secs(60)).unwrap();
    assert_eq!((code_for(&server, &expired).await, code_for(&server, &valid).await), (401, 200));
    let status = review(&admin, json!({"token": expired})).await;
    assert_eq!(status["error"], "service account token has expired");
    let (other, _) = with_accounts().await;
    let foreign = other.service_account_token("sample", "web", Duration::from_secs(60)).unwrap();
    assert_eq!(code_for(&server, &foreign).await, 401);
    assert_eq!(server.service_account_token("sample", "none", Duration::ZERO).unwrap_err().code(), 404);
}

#[tokio::test]
async fn a_token_dies_with_its_account_and_does_not_rise_with_the_next() {
    let (server, admin) = with_accounts().await;
    let token = token(&admin, "web", json!({"audiences": null, "expirationSeconds": 600})).await;
    assert_eq!(code_for(&server, &token).await, 200);
    server.store().delete(&kinds::SERVICE_ACCOUNTS, "sample", "web").unwrap();
    assert_eq!(code_for(&server, &token).await, 401);
    server.store().create(account("web")).unwrap();
    assert_eq!(code_for(&server, &token).await, 401);
    let status = review(&admin, json!({"token": token})).await;
    assert_eq!(status["error"], "service account token has been invalidated");
    assert_eq!(status.get("authenticated"), None);
}

#[tokio::test]
async fn a_bound_token_dies_with_what_it_is_bound_to() {
    let (server, admin) = with_accounts().await;
    let store = server.store();
    store.create(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "node-1"}})).unwrap();
    store.create(pod("p", "web")).unwrap();
    let secret =
        json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"namespace": "sample", "name": "s"}});
    store.create(secret).unwrap();
    let bound =
        |kind: &str, name: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name}});
    for (kind, name, table) in [("Pod", "p", &kinds::PODS), ("Secret", "s", &kinds::SECRETS)] {
        let token = token(&admin, "web", bound(kind, name)).await;
        assert_eq!(code_for(&server, &token).await, 200);
        if kind == "Pod" {
            let status = review(&admin, json!({"token": token})).await;
            let extra = &status["user"]["extra"];
            assert_eq!(extra["authentication.kubernetes.io/pod-name"], json!(["p"]));
            assert_eq!(extra["authentication.kubernetes.io/node-name"], json!(["node-1"]));
        }
        store.delete(table, "sample", name).unwrap();
        assert_eq!(code_for(&server, &token).await, 401, "{kind}");
    }
}

#[tokio::test]
async fn requests_that_make_no_sense_are_refused() {
    let (server, admin) = with_accounts().await;
    server.store().create(pod("p", "api")).unwrap();
    let to = |kind: &str, name: &str, uid: &str| json!({"boundObjectRef": {"apiVersion": "v1", "kind": kind, "name": name, "uid": uid}});
    for (account, spec, code, reason) in [
        ("none", json!({}), 404, "NotFound"),
        ("web", json!({"expirationSeconds": 599}), 422, "Invalid"),
        ("web", json!({"expirationSeconds": (1_i64 << 32) + 1}), 422, "Invalid"),
        ("web", json!({"expirationSeconds": "long"}), 422, "Invalid"),
        ("web", to("Pod", "q", ""), 404, "NotFound"),
        ("web", to("Pod", "p", ""), 400, "BadRequest"),
        ("api", to("Pod", "p", "another"), 409, "Conflict"),
        ("api", to("Service", "p", ""), 400, "BadRequest"),
    ] {
        let status = ask(&admin, account, spec.clone()).await.json();
        assert_eq!((&status["code"], &status["reason"]), (&json!(code), &json!(reason)), "{account} {spec}");
    }
    let path = "/api/v1/namespaces/sample/serviceaccounts/web/token";
    assert_eq!(send(&admin, Method::GET, path, &[], "").await.status.as_u16(), 405);
    assert_eq!(post(&admin, path, &json!({"kind": "Pod"})).await.status.as_u16(), 400);
    let elsewhere = "/api/v1/namespaces/sample/secrets/s/token";
    assert_eq!(post(&admin, elsewhere, &json!({})).await.status.as_u16(), 404);
}

#[tokio::test]
async fn a_token_for_others_opens_nothing_here() {
    let (server, admin) = with_accounts().await;
    let token = token(&admin, "web", json!({"audiences": ["istio-ca", "vault"]})).await;
    assert_eq!(code_for(&server, &token).await, 401);
    assert_eq!(review(&admin, json!({"token": token})).await["user"], json!({}));
    let status = review(&admin, json!({"token": token, "audiences": ["vault", "other"]})).await;
    assert_eq!((&status["authenticated"], &status["audiences"]), (&json!(true), &json!(["vault"])));
    assert_eq!(status["user"]["username"], "system:serviceaccount:sample:web");
}

#[tokio::test]
async fn reviews_tell_who_a_token_is() {
    let (server, admin) = with_accounts().await;
    let status = review(&admin, json!({"token": server.token()})).await;
    assert_eq!(status["user"]["groups"], json!(["system:masters", "system:authenticated"]));
    assert_eq!(review(&admin, json!({"token": "no such"})).await["error"], "invalid bearer token");
    assert_eq!(post(&admin, REVIEWS, &json!({"spec": {}})).await.status.as_u16(), 400);
    assert_eq!(send(&admin, Method::GET, REVIEWS, &[], "").await.status.as_u16(), 405);
    let access = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let asked = json!({"spec": {"resourceAttributes": {"verb": "delete", "resource": "nodes"}}});
    assert_eq!(post(&admin, access, &asked).await.json()["status"]["allowed"], true);
    assert_eq!(post(&admin, access, &json!({"spec": {}})).await.status.as_u16(), 422);
}

#[tokio::test]
async fn reviews_and_tokens_are_discovered() {
    let (_server, admin) = with_accounts().await;
    let groups = admin.list_api_groups().await.unwrap().groups;
    for group in ["authentication.k8s.io", "authorization.k8s.io"] {
        assert!(groups.iter().any(|g| g.name == group), "{group}");
    }
    let reviews = admin.list_api_group_resources("authentication.k8s.io/v1").await.unwrap().resources;
    assert!(reviews.iter().any(|r| r.name == "tokenreviews" && r.verbs == ["create"]));
    let core = admin.list_core_api_resources("v1").await.unwrap().resources;
    assert!(core.iter().any(|r| r.name == "serviceaccounts/token" && r.kind == "TokenRequest"));
}

#[tokio::test]
async fn tokens_outlive_a_restart_of_their_server() {
    let (server, admin) = with_accounts().await;
    let token = token(&admin, "web", json!({})).await;
    let (own, store, authority) = (server.token().to_owned(), server.store(), server.authority().clone());
    assert!(!format!("{server:?} {authority:?}").contains(&own));
    soon(server.shutdown()).await;
    let again = ApiServer::builder().cluster("east").token(own).store(store.clone()).authority(authority);
    assert_eq!(code_for(&again.start().await.unwrap(), &token).await, 200);
    let stranger = ApiServer::builder().cluster("east").store(store).start().await.unwrap();
    assert_eq!(code_for(&stranger, &token).await, 401);
}
