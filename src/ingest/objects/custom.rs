//! Custom resources whose spec is read elsewhere: here it stays the text that came.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::Object;
use super::object::rooted;
use super::raw::json::{self, Fields, Json};
use super::raw::{ObjectMeta, Root};
use super::wire::Received;
use crate::model::Name;

/// Which kind of custom resource. Any version of its group is understood.
pub trait CustomKind: Clone + fmt::Debug + Send + Sync + 'static {
    /// `DestinationRule`, …
    const KIND: &'static str;
    /// `DestinationRuleList`, …
    const LIST_KIND: &'static str;
    /// The API group.
    const GROUP: &'static str;
    /// The newest version of it.
    const VERSION: &'static str;
    /// Group and version.
    const API_VERSION: &'static str;
    /// The name in URLs.
    const PLURAL: &'static str;
}

/// The annotation of AuthorizationPolicies that are only tried.
const DRY_RUN: &str = "istio.io/dry-run";

/// When an object was created and what it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Document {
    /// Seconds since the epoch; 0 when not known.
    pub created: i64,
    /// JSON; `null` for an object without a spec.
    pub spec: Arc<str>,
    /// What its annotation `istio.io/dry-run` says; empty without one.
    pub dry_run: Name,
}

/// An object of a custom kind.
#[derive(Clone, Debug)]
pub struct CustomObject<K> {
    /// What is read of it.
    pub document: Document,
    kind: PhantomData<fn() -> K>,
}

/// Its wire form.
#[derive(Debug, Default)]
pub(super) struct Custom<'a> {
    metadata: ObjectMeta<'a>,
    spec: Option<Box<RawValue>>,
}

impl<'de> Fields<'de> for Custom<'de> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "metadata" => self.metadata = json::value(map, name)?,
            "spec" => self.spec = Some(map.next_value()?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de> Json<'de> for Custom<'de> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        json::fields(map)
    }
}

impl<'a> Root<'a> for Custom<'a> {
    fn metadata(&self) -> &ObjectMeta<'a> {
        &self.metadata
    }
}

impl<K> From<Custom<'_>> for CustomObject<K> {
    fn from(raw: Custom<'_>) -> Self {
        let created = raw.metadata.creation_timestamp.seconds().unwrap_or_default();
        let spec = raw.spec.as_ref().map_or("null", |spec| spec.get()).into();
        let dry_run = raw.metadata.annotation(DRY_RUN).unwrap_or_default();
        Self { document: Document { created, spec, dry_run }, kind: PhantomData }
    }
}

impl<'de, K: CustomKind> Deserialize<'de> for CustomObject<K> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        json::read::<Custom<'de>, D>(from).map(Self::from)
    }
}

impl<K: CustomKind> Object for CustomObject<K> {
    const KIND: &'static str = K::KIND;
    const LIST_KIND: &'static str = K::LIST_KIND;
    const GROUP: &'static str = K::GROUP;
    const VERSION: &'static str = K::VERSION;
    const API_VERSION: &'static str = K::API_VERSION;
    const PLURAL: &'static str = K::PLURAL;
    const NAMESPACED: bool = true;
    const PROTOBUF: bool = false;
    const FIXED_API: bool = false;

    fn entries(&self) -> usize {
        0
    }

    fn from_json<'de, D: Deserializer<'de>>(from: D) -> Result<Received<Self>, D::Error> {
        rooted::<Self, Custom<'de>, D>(from)
    }

    fn from_protobuf(message: &[u8]) -> Result<Received<Self>, String> {
        Err(format!("{} bytes of protobuf of a kind that has none", message.len()))
    }
}
