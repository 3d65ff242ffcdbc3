//! Which kinds there are, under which versions, and who reads them.

use std::sync::Arc;

use futures::stream::{BoxStream, StreamExt};

use super::decode::{self, At, Notes, Terms};
use crate::ingest::objects::{CustomKind, CustomObject, Document};
use crate::ingest::watch::{KubeSource, ObjectSource, Received, Source, SourceControl, SourceEvent};
use crate::model::policy::{AuthorizationPolicy, Gateway, PolicyKind, PolicyMeta, VirtualService};
use crate::registry::PolicyObject;

/// One kind.
#[derive(Debug)]
pub(super) struct Form {
    /// Which.
    pub(super) kind: PolicyKind,
    /// Versions of its group, the most wanted first.
    pub(super) versions: &'static [&'static str],
    group: &'static str,
    start: fn(KubeSource) -> Started,
    read: fn(PolicyMeta, &At<'_>, &Terms) -> Result<PolicyObject, String>,
}

/// A source that runs, of whatever kind.
pub(super) struct Started {
    pub(super) events: BoxStream<'static, SourceEvent<Document>>,
    pub(super) control: Option<SourceControl>,
}

impl Form {
    /// Lists and watches it under one of its versions, in all namespaces.
    pub(super) fn start(&self, source: KubeSource, version: usize) -> Started {
        (self.start)(source.of_api(self.group, self.versions[version]))
    }

    /// Group and version.
    pub(super) fn api_version(&self, version: usize) -> String {
        format!("{}/{}", self.group, self.versions[version])
    }

    /// Reads one object, and what of it cannot be done although it is used.
    ///
    /// # Errors
    /// What is wrong with it, in one text.
    pub(super) fn decode(
        &self,
        meta: PolicyMeta,
        document: &Document,
        terms: &Terms,
    ) -> Result<(PolicyObject, Vec<String>), String> {
        let spec: serde_json::Value =
            serde_json::from_str(&document.spec).map_err(|error| format!("spec: {error}"))?;
        let spec = if spec.is_null() { serde_json::json!({}) } else { spec };
        let notes = Notes::default();
        let at = At::noted("spec", &spec, &notes);
        at.object().map_err(|_| "spec: an object belongs there".to_owned())?;
        let object = match (self.read)(meta, &at, terms)? {
            PolicyObject::AuthorizationPolicy(policy) => {
                let policy = Arc::unwrap_or_clone(policy);
                let policy = super::authorization::annotated(policy, &document.dry_run);
                PolicyObject::AuthorizationPolicy(Arc::new(policy))
            }
            object => object,
        };
        let problems = [object.problems(), &notes.problems(&at)].concat();
        Ok((object, problems))
    }

    /// What is in use for an object that cannot be read and never could: `None` for kinds that open nothing by
    /// their absence. `document` is what was told, if anything was.
    pub(super) fn instead(&self, meta: PolicyMeta, document: Option<&Document>) -> Option<PolicyObject> {
        let spec = document.and_then(|document| serde_json::from_str(&document.spec).ok());
        let spec: serde_json::Value = spec.unwrap_or_default();
        if self.kind == PolicyKind::PeerAuthentication {
            return decode::closed_peer_authentication(meta, &spec)
                .map(|closed| PolicyObject::PeerAuthentication(Arc::new(closed)));
        }
        if self.kind != PolicyKind::AuthorizationPolicy {
            return None;
        }
        let closed = super::authorization::closed(meta, &spec);
        let dry_run = document.map(|document| document.dry_run.as_str()).unwrap_or_default();
        let closed = super::authorization::annotated(closed, dry_run);
        Some(PolicyObject::AuthorizationPolicy(Arc::new(closed)))
    }
}

/// Reads an object of a kind, as it is read when it is told.
///
/// # Errors
/// What is wrong with it.
#[cfg(test)]
pub(crate) fn read_policy(
    kind: PolicyKind,
    id: crate::model::policy::PolicyId,
    spec: &serde_json::Value,
) -> Result<PolicyObject, String> {
    let form = FORMS.iter().find(|form| form.kind == kind).ok_or("not a kind that is watched")?;
    let document = Document { created: 1, spec: spec.to_string().into(), dry_run: Default::default() };
    let terms = Terms { domain: "cluster.local".into(), ..Terms::default() };
    Ok(form.decode(PolicyMeta { created: 1, id }, &document, &terms)?.0)
}

fn start<K: CustomKind>(source: KubeSource) -> Started {
    let Source { events, control } = ObjectSource::<CustomObject<K>>::start(source);
    Started { events: events.map(plain).boxed(), control: Some(control) }
}

/// The same event, of no particular kind.
fn plain<K>(event: SourceEvent<CustomObject<K>>) -> SourceEvent<Document> {
    let received = |received: Received<CustomObject<K>>| Received {
        key: received.key,
        uid: received.uid,
        revision: received.revision,
        object: received.object.map(|object| object.document),
    };
    match event {
        SourceEvent::Init => SourceEvent::Init,
        SourceEvent::InitApply(object) => SourceEvent::InitApply(received(object)),
        SourceEvent::InitDelete(key) => SourceEvent::InitDelete(key),
        SourceEvent::InitDone { reason } => SourceEvent::InitDone { reason },
        SourceEvent::Apply(object) => SourceEvent::Apply(received(object)),
        SourceEvent::Delete { key, revision } => SourceEvent::Delete { key, revision },
        SourceEvent::Connected => SourceEvent::Connected,
        SourceEvent::Idle => SourceEvent::Idle,
        SourceEvent::Failed(failure) => SourceEvent::Failed(failure),
    }
}

macro_rules! forms {
    ($($kind:ident, $plural:literal, $group:literal [$first:literal $(, $older:literal)*], $read:path;)*) => {
        mod kinds {
            $(#[derive(Clone, Debug)]
            pub(super) struct $kind;)*
        }

        $(impl CustomKind for kinds::$kind {
            const KIND: &'static str = stringify!($kind);
            const LIST_KIND: &'static str = concat!(stringify!($kind), "List");
            const GROUP: &'static str = $group;
            const VERSION: &'static str = $first;
            const API_VERSION: &'static str = concat!($group, "/", $first);
            const PLURAL: &'static str = $plural;
        })*

        /// Every kind that is watched.
        pub(super) static FORMS: &[Form] = &[$(Form {
            kind: PolicyKind::$kind,
            versions: &[$first $(, $older)*],
            group: $group,
            start: start::<kinds::$kind>,
            read: |meta, spec, terms| {
                $read(meta, spec, terms).map(|object| PolicyObject::$kind(Arc::new(object)))
            },
        }),*];
    };
}

// A new kind is one line here.
forms! {
    DestinationRule, "destinationrules", "networking.istio.io" ["v1", "v1beta1", "v1alpha3"], decode::destination_rule;
    Sidecar, "sidecars", "networking.istio.io" ["v1", "v1beta1", "v1alpha3"], decode::sidecar;
    VirtualService, "virtualservices", "networking.istio.io" ["v1", "v1beta1", "v1alpha3"], virtual_service;
    Gateway, "gateways", "networking.istio.io" ["v1", "v1beta1", "v1alpha3"], gateway;
    AuthorizationPolicy, "authorizationpolicies", "security.istio.io" ["v1", "v1beta1"], authorization_policy;
    PeerAuthentication, "peerauthentications", "security.istio.io" ["v1", "v1beta1"], decode::peer_authentication;
}

fn virtual_service(meta: PolicyMeta, spec: &At<'_>, terms: &Terms) -> Result<VirtualService, String> {
    super::virtual_service::virtual_service(meta, spec, &terms.domain)
}

fn gateway(meta: PolicyMeta, spec: &At<'_>, _: &Terms) -> Result<Gateway, String> {
    super::gateway::gateway(meta, spec.elsewhere())
}

fn authorization_policy(meta: PolicyMeta, spec: &At<'_>, _: &Terms) -> Result<AuthorizationPolicy, String> {
    super::authorization::authorization_policy(meta, spec.elsewhere())
}
