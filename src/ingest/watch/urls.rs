//! The requests of one source.

use std::fmt::Write as _;
use std::time::Duration;

use super::Selection;
use crate::ingest::objects::wire::Revision;
use crate::ingest::objects::{Object, ObjectKey};

/// Path and query of everything one source asks for.
#[derive(Debug)]
pub(super) struct Urls {
    /// `/api/v1` or `/apis/GROUP/VERSION`.
    api: String,
    plural: &'static str,
    /// The collection.
    path: String,
    namespaced: bool,
    /// `labelSelector=…&fieldSelector=…&`, or nothing.
    selectors: String,
}

/// Asked after a probe that was not answered: says whether the server itself is well.
pub(super) const READY: &str = "/readyz";

impl Urls {
    pub(super) fn new<T: Object>(selection: &Selection) -> Self {
        let own = (T::GROUP, T::VERSION);
        let api =
            match selection.api.as_ref().map_or(own, |(group, version)| (group.as_str(), version.as_str())) {
                ("", version) => format!("/api/{version}"),
                (group, version) => format!("/apis/{group}/{version}"),
            };
        let path = match &selection.namespace {
            Some(namespace) if T::NAMESPACED => {
                format!("{api}/namespaces/{}/{}", escape(namespace), T::PLURAL)
            }
            _ => format!("{api}/{}", T::PLURAL),
        };
        let mut selectors = String::new();
        for (name, selector) in [("labelSelector", &selection.labels), ("fieldSelector", &selection.fields)] {
            if let Some(selector) = selector {
                let _ = write!(selectors, "{name}={}&", escape(selector));
            }
        }
        Self { api, plural: T::PLURAL, path, namespaced: T::NAMESPACED, selectors }
    }

    /// The collection's path, for messages.
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// The rule that permits what one source asks for.
    pub(super) fn permission(&self) -> String {
        let group = self.api.strip_prefix("/apis/").and_then(|api| api.split('/').next()).unwrap_or_default();
        format!(
            "its ClusterRole needs the rule {{apiGroups: [\"{group}\"], resources: [\"{}\"], \
             verbs: [get, list, watch]}}",
            self.plural
        )
    }

    /// A page of a quorum list: no `resourceVersion` means the most recent state.
    pub(super) fn page(&self, limit: u32, token: Option<&str>) -> String {
        let mut url = format!("{}?{}limit={limit}", self.path, self.selectors);
        if let Some(token) = token {
            let _ = write!(url, "&continue={}", escape(token));
        }
        url
    }

    /// The whole state as events, then a bookmark, then changes.
    pub(super) fn streaming_list(&self, timeout: Duration) -> String {
        format!(
            "{}?{}watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true\
             &timeoutSeconds={}",
            self.path,
            self.selectors,
            timeout.as_secs()
        )
    }

    /// The changes after a revision.
    pub(super) fn watch(&self, after: &Revision, timeout: Duration) -> String {
        format!(
            "{}?{}watch=true&allowWatchBookmarks=true&resourceVersion={}&timeoutSeconds={}",
            self.path,
            self.selectors,
            escape(after.as_str()),
            timeout.as_secs()
        )
    }

    /// The least list that names the present revision.
    pub(super) fn probe(&self) -> String {
        self.page(1, None)
    }

    /// One object, answered from the store itself.
    pub(super) fn object(&self, key: &ObjectKey) -> String {
        if self.namespaced {
            let namespace = escape(&key.namespace);
            format!("{}/namespaces/{namespace}/{}/{}", self.api, self.plural, escape(&key.name))
        } else {
            format!("{}/{}/{}", self.api, self.plural, escape(&key.name))
        }
    }
}

/// Everything but unreserved characters, percent-encoded (RFC 3986).
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            other => {
                let _ = write!(escaped, "%{other:02X}");
            }
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::objects::{NamespaceObject, PodObject, SliceObject};

    #[test]
    fn requests_are_written_as_the_api_wants_them() {
        let all = Urls::new::<SliceObject>(&Selection::default());
        assert_eq!(all.page(500, None), "/apis/discovery.k8s.io/v1/endpointslices?limit=500");
        assert_eq!(
            all.watch(&Revision::new("7"), Duration::from_secs(300)),
            "/apis/discovery.k8s.io/v1/endpointslices?watch=true&allowWatchBookmarks=true&resourceVersion=7\
             &timeoutSeconds=300"
        );
        let some = Selection {
            namespace: Some("a/b".into()),
            labels: Some("x=y,z".into()),
            fields: Some("status.phase!=Failed".into()),
            api: None,
        };
        let pods = Urls::new::<PodObject>(&some);
        assert_eq!(
            pods.page(1, Some("a+b=")),
            "/api/v1/namespaces/a%2Fb/pods?labelSelector=x%3Dy%2Cz&fieldSelector=status.phase%21%3DFailed\
             &limit=1&continue=a%2Bb%3D"
        );
        assert_eq!(pods.object(&ObjectKey::new("n", "p")), "/api/v1/namespaces/n/pods/p");
        let namespaces = Urls::new::<NamespaceObject>(&some);
        let rule = "its ClusterRole needs the rule {apiGroups: [\"discovery.k8s.io\"], resources: \
                    [\"endpointslices\"], verbs: [get, list, watch]}";
        assert_eq!(all.permission(), rule);
        assert!(namespaces.permission().contains("{apiGroups: [\"\"], resources: [\"namespaces\"]"));
        assert_eq!(namespaces.path(), "/api/v1/namespaces");
        assert_eq!(namespaces.object(&ObjectKey::new("", "n")), "/api/v1/namespaces/n");
    }
}
