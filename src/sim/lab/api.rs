//! A cluster's API server as the lab uses it: plain REST over TLS, like any other client.

mod location;

use std::time::Duration;

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};

pub use self::location::Location;
use super::LabError;
use super::plan::NAMESPACE;

/// A request that takes longer is as good as lost.
const LIMIT: Duration = Duration::from_secs(10);

/// A client of one API server.
#[derive(Clone)]
pub struct ApiClient {
    client: kube::Client,
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient").finish_non_exhaustive()
    }
}

impl ApiClient {
    /// A client by the text of a kubeconfig.
    ///
    /// # Errors
    /// [`LabError::Http`] when the kubeconfig cannot be used.
    pub async fn from_kubeconfig(text: &str) -> Result<Self, LabError> {
        let unusable = |problem: String| LabError::Http {
            method: "using".to_owned(),
            url: "the API server's kubeconfig".to_owned(),
            problem,
        };
        let parsed = Kubeconfig::from_yaml(text).map_err(|error| unusable(error.to_string()))?;
        let mut config = kube::Config::from_custom_kubeconfig(parsed, &KubeConfigOptions::default())
            .await
            .map_err(|error| unusable(error.to_string()))?;
        // The API server is in the lab; a proxy named by the environment is not.
        config.proxy_url = None;
        // Who asks again, and when, is decided where it is known why.
        config.default_retry = false;
        let client = kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { client })
    }

    /// The client below, for watches and controllers.
    pub fn kube(&self) -> kube::Client {
        self.client.clone()
    }

    /// The object at `place`, if it is there.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn get(&self, place: impl Into<Location>) -> Result<Option<Value>, LabError> {
        present(self.request("GET", place.into().path()?, None).await)
    }

    /// The objects of a collection: a path, or a kind and a namespace with an empty name.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn list(&self, place: impl Into<Location>) -> Result<Vec<Value>, LabError> {
        let mut list = self.request("GET", place.into().path()?, None).await?;
        match list["items"].take() {
            Value::Array(items) => Ok(items),
            _ => Ok(Vec::new()),
        }
    }

    /// Creates `object`.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn create(&self, object: &Value) -> Result<(), LabError> {
        let place = self.place_of(object).await?;
        self.request("POST", place.collection()?, Some(object)).await.map(|_| ())
    }

    /// Creates `object`, or replaces the one of its name. A status goes to where statuses live.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn apply(&self, object: &Value) -> Result<(), LabError> {
        let place = self.place_of(object).await?;
        if let Err(refused) = self.request("POST", place.collection()?, Some(object)).await {
            if !refused.has_code(409) {
                return Err(refused);
            }
            self.replace(&place, object).await?;
        }
        match &object["status"] {
            Value::Null => Ok(()),
            status => self.patch_status(place, &json!({"status": status})).await,
        }
    }

    /// Creates the namespace of `object` if it lives in one that is not there.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn ensure_namespace(&self, object: &Value) -> Result<(), LabError> {
        let Some(namespace) = self.place_of(object).await?.namespace().map(str::to_owned) else {
            return Ok(());
        };
        if self.get(("Namespace", "", namespace.as_str())).await?.is_some() {
            return Ok(());
        }
        let object = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
        match self.create(&object).await {
            Err(refused) if refused.has_code(409) => Ok(()),
            outcome => outcome,
        }
    }

    /// A merge patch replaces what is named and keeps what the server added.
    async fn replace(&self, place: &Location, object: &Value) -> Result<(), LabError> {
        self.request("PATCH", place.path()?, Some(object)).await.map(|_| ())
    }

    /// Merges `patch` into an object.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn patch(&self, place: impl Into<Location>, patch: &Value) -> Result<(), LabError> {
        self.request("PATCH", place.into().path()?, Some(patch)).await.map(|_| ())
    }

    /// Merges `patch` into an object's status: `{"status": …}`.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn patch_status(&self, place: impl Into<Location>, patch: &Value) -> Result<(), LabError> {
        let path = format!("{}/status", place.into().path()?);
        self.request("PATCH", path, Some(patch)).await.map(|_| ())
    }

    /// Asks for `count` replicas of `deployment`, as `kubectl scale` does: through its `/scale`. Its name is
    /// `namespace/name`, or a name of the lab's own namespace.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn scale(&self, deployment: &str, count: usize) -> Result<(), LabError> {
        let (namespace, deployment) = deployment.split_once('/').unwrap_or((NAMESPACE, deployment));
        let place = Location::from(("Deployment", namespace, deployment));
        let patch = json!({"spec": {"replicas": count}});
        self.request("PATCH", format!("{}/scale", place.path()?), Some(&patch)).await.map(|_| ())
    }

    /// Sends `body` to a path of its own kind: a subresource that answers.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, LabError> {
        self.request("POST", path.to_owned(), Some(body)).await
    }

    /// Deletes an object; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn delete(&self, place: impl Into<Location>) -> Result<(), LabError> {
        present(self.request("DELETE", place.into().path()?, None).await).map(|_| ())
    }

    /// Deletes `object` by its name; one that is not there is as good as deleted.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn remove(&self, object: &Value) -> Result<(), LabError> {
        self.delete(self.place_of(object).await?).await
    }

    /// Deletes the object with this uid at once: nothing is left to wait for. Another one of its name stays.
    ///
    /// # Errors
    /// [`LabError::Http`], [`LabError::Refused`].
    pub async fn delete_now(&self, place: impl Into<Location>, uid: &str) -> Result<(), LabError> {
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0, "preconditions": {"uid": uid},
        });
        present(self.request("DELETE", place.into().path()?, Some(&options)).await).map(|_| ())
    }

    /// Where `object` lives. Kinds of others are asked for at the server.
    async fn place_of(&self, object: &Value) -> Result<Location, LabError> {
        if let Some(place) = Location::of(object) {
            return Ok(place);
        }
        let version = object["apiVersion"].as_str().unwrap_or_default();
        // The first group has a root of its own.
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let kinds =
            present(self.request("GET", format!("{root}/{version}"), None).await)?.unwrap_or_default();
        Location::discovered(object, &kinds).ok_or_else(|| LabError::Missing {
            what: format!(
                "the API server has no kind {} in {version}",
                object["kind"].as_str().unwrap_or("?")
            ),
            hint: "apply its CustomResourceDefinition first".to_owned(),
        })
    }

    async fn request(&self, method: &str, path: String, body: Option<&Value>) -> Result<Value, LabError> {
        let failed =
            |problem: String| LabError::Http { method: method.to_owned(), url: path.clone(), problem };
        let media = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let request = http::Request::builder()
            .method(method)
            .uri(&path)
            .header(http::header::CONTENT_TYPE, media)
            .body(body.map(|body| body.to_string().into_bytes()).unwrap_or_default())
            .map_err(|error| failed(error.to_string()))?;
        let answer = tokio::time::timeout(LIMIT, self.client.request(request)).await;
        let answer = answer.map_err(|_| failed(format!("no answer within {LIMIT:?}")))?;
        answer.map_err(|error| match error {
            kube::Error::Api(status) => LabError::Refused {
                method: method.to_owned(),
                url: path.clone(),
                code: status.code,
                problem: status.message.clone(),
            },
            error => failed(error.to_string()),
        })
    }
}

/// "Not found" is an answer.
fn present(outcome: Result<Value, LabError>) -> Result<Option<Value>, LabError> {
    match outcome {
        Ok(object) => Ok(Some(object)),
        Err(refused) if refused.has_code(404) => Ok(None),
        Err(error) => Err(error),
    }
}
