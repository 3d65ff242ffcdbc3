//! The cluster's API server as the lab uses it: plain REST over TLS, like any other client.

use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::LabError;
use super::plan::{AppService, NAMESPACE, SYSTEM_NAMESPACE};

/// Where a kind's objects of one namespace live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Collection {
    /// Pods of the application.
    Pods,
    /// Services of the application.
    Services,
    /// EndpointSlices of the application.
    EndpointSlices,
    /// Secrets of the system namespace.
    Secrets,
}

impl Collection {
    fn path(self) -> String {
        match self {
            Self::Pods => format!("/api/v1/namespaces/{NAMESPACE}/pods"),
            Self::Services => format!("/api/v1/namespaces/{NAMESPACE}/services"),
            Self::EndpointSlices => {
                format!("/apis/discovery.k8s.io/v1/namespaces/{NAMESPACE}/endpointslices")
            }
            Self::Secrets => format!("/api/v1/namespaces/{SYSTEM_NAMESPACE}/secrets"),
        }
    }
}

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
        let client = kube::Client::try_from(config).map_err(|error| unusable(error.to_string()))?;
        Ok(Self { client })
    }

    /// Creates `object`.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn create(&self, kind: Collection, object: &Value) -> Result<(), LabError> {
        self.request("POST", kind.path(), Some(object)).await.map(|_| ())
    }

    /// Merges `patch` into an object.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn patch(&self, kind: Collection, name: &str, patch: &Value) -> Result<(), LabError> {
        self.request("PATCH", format!("{}/{name}", kind.path()), Some(patch)).await.map(|_| ())
    }

    /// Merges `patch` into an object's status.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn patch_status(&self, kind: Collection, name: &str, patch: &Value) -> Result<(), LabError> {
        self.request("PATCH", format!("{}/{name}/status", kind.path()), Some(patch)).await.map(|_| ())
    }

    /// Deletes an object.
    ///
    /// # Errors
    /// [`LabError::Http`].
    pub async fn delete(&self, kind: Collection, name: &str) -> Result<(), LabError> {
        self.request("DELETE", format!("{}/{name}", kind.path()), None).await.map(|_| ())
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
        self.client.request(request).await.map_err(|error| failed(error.to_string()))
    }
}

/// The merge patch that makes `slice`'s endpoints those of an EndpointSlice object.
pub fn endpoints_of(slice: &Value) -> Value {
    serde_json::json!({"endpoints": slice["endpoints"]})
}

/// Deletes the Service and its slice at once.
///
/// # Errors
/// [`LabError::Http`].
pub async fn delete_service(api: &ApiClient, service: &AppService) -> Result<(), LabError> {
    api.delete(Collection::Services, service.name).await?;
    api.delete(Collection::EndpointSlices, &super::world::slice_name(service)).await
}
