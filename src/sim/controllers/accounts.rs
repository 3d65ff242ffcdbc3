//! The ServiceAccount `default` of each namespace, which a real API server wants before it admits pods.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{ObjectMeta, PostParams};
use kube::{Api, Client};

use super::Caches;
use super::cache::{Change, Key};
use super::pods;
use super::queue::{Outcome, WorkQueue};
use super::work::{Reconcile, WorkError, code};

const NAME: &str = "default";

/// A namespace is looked at when it appears.
pub(super) fn on_namespace(queue: &WorkQueue, change: &Change<Namespace>) {
    if let (None, Some(namespace)) = (&change.old, &change.new) {
        queue.add(Key::of(namespace.as_ref()));
    }
}

/// Creates what is missing.
pub(super) struct AccountController {
    client: Client,
    caches: Arc<Caches>,
}

impl AccountController {
    pub(super) fn new(client: Client, caches: Arc<Caches>) -> Self {
        Self { client, caches }
    }
}

impl Reconcile for AccountController {
    const KIND: &'static str = "Namespace";

    async fn ready(&self) {
        self.caches.namespaces.synced().await;
    }

    async fn reconcile(&self, key: &Key) -> Result<Outcome, WorkError> {
        let there = self.caches.namespaces.get(key);
        if there.is_none_or(|namespace| pods::is_terminating(namespace.as_ref())) {
            return Ok(Outcome::Done);
        }
        let metadata = ObjectMeta {
            name: Some(NAME.to_owned()),
            namespace: Some(key.name.clone()),
            ..ObjectMeta::default()
        };
        let account = ServiceAccount { metadata, ..ServiceAccount::default() };
        let api: Api<ServiceAccount> = Api::namespaced(self.client.clone(), &key.name);
        match api.create(&PostParams::default(), &account).await {
            Ok(_) => Ok(Outcome::Done),
            // There already; or a server without this kind, or a namespace that is gone.
            Err(error) if matches!(code(&error), 404 | 409) => Ok(Outcome::Done),
            Err(error) => {
                Err(WorkError::request("create", "ServiceAccount", &Key::new(&key.name, NAME), error))
            }
        }
    }
}
