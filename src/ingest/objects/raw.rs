//! The wire form of the objects: everything optional, reduced at once. Both encodings are read into the messages
//! here, and one conversion makes objects of these.

pub(super) mod json;
mod message;
pub(super) mod protobuf;
mod values;

mod config;
mod entry;
mod gateway;
mod place;
mod service;
mod slice;

pub(super) use entry::{ServiceEntry, WorkloadEntry};
pub(super) use gateway::{Gateway, ServiceExport, ServiceImport};
pub(super) use message::json_message;
pub(super) use values::Text;

use message::message;
use values::{Blob, IntOrString, Map, Texts, Time};

use super::Labels;
use crate::model::Name;

include!(concat!(env!("OUT_DIR"), "/kubernetes_slim.rs"));

/// The message of a kind: it has metadata.
pub(super) trait Root<'a> {
    fn metadata(&self) -> &ObjectMeta<'a>;

    /// Why an object that was read cannot be used as a whole: what it was before stays.
    fn problem(&self) -> Option<String> {
        None
    }
}

macro_rules! roots {
    ($($message:ident)*) => {
        $(impl<'a> Root<'a> for $message<'a> {
            fn metadata(&self) -> &ObjectMeta<'a> {
                &self.metadata
            }
        })*
    };
}

roots! { Namespace Node Pod Service EndpointSlice Secret ConfigMap Gateway ServiceExport ServiceImport }

impl<'a> Root<'a> for ServiceEntry<'a> {
    fn metadata(&self) -> &ObjectMeta<'a> {
        &self.metadata
    }

    fn problem(&self) -> Option<String> {
        self.spec.problem()
    }
}

impl<'a> Root<'a> for WorkloadEntry<'a> {
    fn metadata(&self) -> &ObjectMeta<'a> {
        &self.metadata
    }

    fn problem(&self) -> Option<String> {
        self.spec.problem()
    }
}

impl ObjectMeta<'_> {
    /// A label; empty when missing.
    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", |value| value)
    }

    pub(super) fn annotation(&self, name: &str) -> Option<Name> {
        self.annotations.get(name).map(Text::name)
    }
}

impl Map<'_, Text<'_>> {
    fn into_labels(self) -> Labels {
        self.into_entries().map(|(key, value)| (key.common(), value.common())).collect()
    }
}
