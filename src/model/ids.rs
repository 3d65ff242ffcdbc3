//! Names of things: cheap to clone, ordered, never mixed up.

use std::fmt;
use std::ops::Deref;

use arcstr::ArcStr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::interned::intern;

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident by $make:expr) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(ArcStr);

        impl $name {
            /// Wraps a text.
            pub fn new(text: impl AsRef<str>) -> Self {
                Self::from(text.as_ref())
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// Whether the text is empty.
            pub fn is_empty(&self) -> bool {
                self.0.is_empty()
            }
        }

        impl Deref for $name {
            type Target = str;

            fn deref(&self) -> &str {
                &self.0
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                let make: fn(&str) -> ArcStr = $make;
                Self(make(text))
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::from(text.as_str())
            }
        }

        impl From<&Self> for $name {
            fn from(text: &Self) -> Self {
                text.clone()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                deserializer.deserialize_str(Text).map(Self)
            }
        }
    };
}

/// Reads a text without keeping a copy in between.
struct Text;

impl serde::de::Visitor<'_> for Text {
    type Value = ArcStr;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<ArcStr, E> {
        Ok(ArcStr::from(text))
    }
}

text_id! {
    /// A Kubernetes cluster: one API server. Envoy's clusters are always called *Envoy clusters*. Interned.
    ClusterId by intern
}
text_id! {
    /// A network: the workloads that reach each other's addresses directly. Empty means "not known" (R2.7).
    /// Interned.
    NetworkId by intern
}
text_id! {
    /// Any other short, shared text: a namespace, a port name, a node name, an account. One pointer; a copy
    /// costs no memory. Made from a text it has memory of its own; [`Name::interned`] looks for a copy first.
    Name by |text| ArcStr::from(text)
}
text_id! {
    /// A fully qualified service host name, `<name>.<namespace>.svc.<domain>` for Kubernetes Services.
    /// Interned.
    Hostname by intern
}

impl Name {
    /// Gives back the memory of interned texts that nobody holds any more. Cost ∝ all of them.
    pub fn forget_unused() {
        super::interned::forget_unused();
    }

    /// The process's one copy of a text: for texts that many objects repeat, such as namespaces and port
    /// names. Costs a look-up; the memory goes with the last holder.
    pub fn interned(text: &str) -> Self {
        Self(intern(text))
    }
}

impl From<&Name> for NetworkId {
    /// Shares the text.
    fn from(name: &Name) -> Self {
        Self(name.0.clone())
    }
}

impl From<&NetworkId> for Name {
    /// Shares the text.
    fn from(network: &NetworkId) -> Self {
        Self(network.0.clone())
    }
}

impl From<&ClusterId> for Name {
    /// Shares the text.
    fn from(cluster: &ClusterId) -> Self {
        Self(cluster.0.clone())
    }
}

/// A service across all clusters: the same host name in the same namespace is the same service (R0.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ServiceKey {
    /// The namespace the service lives in.
    pub namespace: Name,
    /// Its host name.
    pub hostname: Hostname,
}

impl ServiceKey {
    /// A key from its parts.
    pub fn new(namespace: impl Into<Name>, hostname: impl Into<Hostname>) -> Self {
        Self { namespace: namespace.into(), hostname: hostname.into() }
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.hostname)
    }
}

/// One pod of one cluster: what a proxy's node id and `CLUSTER_ID` name together (D12).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct WorkloadId {
    /// The cluster whose API server knows the pod.
    pub cluster: ClusterId,
    /// The pod's namespace.
    pub namespace: Name,
    /// The pod's name.
    pub name: Name,
}

impl fmt::Display for WorkloadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.cluster, self.namespace, self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_one_pointer_and_ids_share_their_text() {
        assert_eq!(size_of::<Name>(), size_of::<usize>());
        assert_eq!(size_of::<Option<ServiceKey>>(), 2 * size_of::<usize>());
        let (one, two) = (ClusterId::from("some-cluster"), ClusterId::from("some-cluster".to_owned()));
        assert!(ArcStr::ptr_eq(&one.0, &two.0));
        assert!(ArcStr::ptr_eq(&Name::interned("a-port").0, &Name::interned("a-port").0));
        assert!(!ArcStr::ptr_eq(&Name::from("a-port").0, &Name::interned("a-port").0));
        assert_eq!(Name::from("a-port"), Name::interned("a-port"), "equal by content all the same");
    }

    #[test]
    fn texts_are_written_and_read_as_texts() {
        let name: Name = serde_json::from_str("\"a\\u0062\"").unwrap();
        assert_eq!(serde_json::to_string(&name).unwrap(), "\"ab\"");
        assert!(serde_json::from_str::<Name>("7").is_err());
    }
}
