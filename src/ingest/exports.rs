//! ServiceExports for Services that have none (R4.40). Only where `ENABLE_MCS_AUTO_EXPORT` is on: nothing else is
//! ever written to a cluster.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::client::{Answer, BodyError, Exchange, collect};
use super::objects::ObjectKey;
use crate::model::Name;

/// Between two exports: ten a second at most.
const PACE: Duration = Duration::from_millis(100);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pauses after a failure that may pass: twice as long each time, up to the longest.
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Largest answer about one Service.
const MAX_BODY: usize = 1 << 20;

/// Exports the Services of one cluster, in a task of its own that ends with this.
#[derive(Debug)]
pub(super) struct Exports(mpsc::UnboundedSender<Vec<ObjectKey>>);

impl Exports {
    /// Needs a runtime. `api` is the group and version of exports.
    pub(super) fn start(exchange: Arc<dyn Exchange>, api: (Name, Name)) -> Self {
        let (sender, receiver) = mpsc::unbounded_channel();
        tokio::spawn(Exporter { exchange, api }.run(receiver));
        Self(sender)
    }

    /// These are to be exported; never waits. Those that are exported already cost one refused request.
    pub(super) fn want(&self, services: Vec<ObjectKey>) {
        // The task ends only after this.
        let _ = self.0.send(services);
    }
}

/// Why a Service is not exported now.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// *Retried.* It may pass by itself.
    Later(String),
    /// *Skipped* until the Service or its export changes.
    Refused(String),
}

struct Exporter {
    exchange: Arc<dyn Exchange>,
    api: (Name, Name),
}

impl Exporter {
    async fn run(self, mut wanted: mpsc::UnboundedReceiver<Vec<ObjectKey>>) {
        let mut pending: BTreeSet<ObjectKey> = BTreeSet::new();
        let mut pause = FIRST_PAUSE;
        loop {
            if pending.is_empty() {
                let Some(more) = wanted.recv().await else { return };
                pending.extend(more);
            }
            while let Ok(more) = wanted.try_recv() {
                pending.extend(more);
            }
            if wanted.is_closed() {
                return;
            }
            let Some(service) = pending.pop_first() else { continue };
            let result = tokio::time::timeout(PATIENCE, self.export(&service)).await;
            match result.unwrap_or_else(|_| Err(Failure::Later("no answer in time".to_owned()))) {
                Ok(()) => {
                    pause = FIRST_PAUSE;
                    tokio::time::sleep(PACE).await;
                }
                Err(Failure::Refused(why)) => {
                    let server = self.exchange.server();
                    tracing::warn!(server, %service, why, "a Service cannot be exported; see deploy/export-rbac.yaml");
                    tokio::time::sleep(PACE).await;
                }
                Err(Failure::Later(why)) => {
                    tracing::debug!(server = self.exchange.server(), %service, why, "exported later");
                    pending.insert(service);
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            }
        }
    }

    /// Makes the export, owned by its Service: it goes with it. One that is there already is as good.
    async fn export(&self, service: &ObjectKey) -> Result<(), Failure> {
        let ObjectKey { namespace, name } = service;
        if ![namespace, name].into_iter().all(|part| is_plain(part)) {
            return Err(Failure::Refused("its name is none for a URL".to_owned()));
        }
        let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
        let answer = self.exchange.get(path, "application/json").await;
        let answer = answer.map_err(|error| Failure::Later(error.to_string()))?;
        if answer.status == StatusCode::NOT_FOUND {
            return Ok(()); // It has gone meanwhile.
        }
        self.accepted(&answer)?;
        let object = read(answer).await?;
        let Some(uid) = object["metadata"]["uid"].as_str() else {
            return Err(Failure::Refused("the Service has no uid".to_owned()));
        };
        let (group, version) = &self.api;
        let export = json!({
            "apiVersion": format!("{group}/{version}"),
            "kind": "ServiceExport",
            "metadata": {"namespace": namespace.as_str(), "name": name.as_str(), "ownerReferences": [
                {"apiVersion": "v1", "kind": "Service", "name": name.as_str(), "uid": uid}]},
        });
        let path = format!("/apis/{group}/{version}/namespaces/{namespace}/serviceexports");
        let answer = self.exchange.post(path, Bytes::from(export.to_string())).await;
        let answer = answer.map_err(|error| Failure::Later(error.to_string()))?;
        match answer.status {
            StatusCode::CONFLICT => Ok(()),
            _ => self.accepted(&answer),
        }
    }

    fn accepted(&self, answer: &Answer) -> Result<(), Failure> {
        let status = answer.status;
        match status {
            _ if status.is_success() => Ok(()),
            StatusCode::UNAUTHORIZED => {
                self.exchange.unauthorized(answer.presented);
                Err(Failure::Later(status.to_string()))
            }
            StatusCode::TOO_MANY_REQUESTS | StatusCode::REQUEST_TIMEOUT => {
                Err(Failure::Later(status.to_string()))
            }
            _ if status.is_client_error() => Err(Failure::Refused(status.to_string())),
            _ => Err(Failure::Later(status.to_string())),
        }
    }
}

/// Names of Services and namespaces have only these characters.
fn is_plain(part: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    !part.is_empty() && part.bytes().all(plain) && part != "." && part != ".."
}

async fn read(answer: Answer) -> Result<Value, Failure> {
    let bytes = collect(answer.body, MAX_BODY).await.map_err(|error| match error {
        BodyError::Transport(error) => Failure::Later(error.to_string()),
        too_large @ BodyError::TooLarge(_) => Failure::Refused(format!("the Service is {too_large}")),
    })?;
    serde_json::from_slice(&bytes).map_err(|_| Failure::Later("an answer that is not JSON".to_owned()))
}

#[cfg(test)]
mod tests;
