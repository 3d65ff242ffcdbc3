//! Tests of the sessions: one per row of the protocol checklist, and random histories.

mod delta;
mod random;

mod sotw;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use envoy_types::pb::envoy::service::discovery::v3::Resource;
use envoy_types::pb::google::protobuf::Any;
use prost::Message;

use super::*;
use crate::proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, Status};
use crate::xds::resource::Entry;
use ResourceType::{Cluster, Endpoint, Listener, Route, Secret};

/// A world of resources, whose bytes are their name and a text.
#[derive(Clone, Debug)]
pub(super) struct World {
    content: BTreeMap<(ResourceType, String), String>,
    synced: Cell<bool>,
}

impl World {
    fn new(content: &[(ResourceType, &str, &str)]) -> Self {
        let mut world = Self { content: BTreeMap::new(), synced: Cell::new(true) };
        content.iter().for_each(|(kind, name, text)| world.put(*kind, name, text));
        world
    }

    fn put(&mut self, kind: ResourceType, name: &str, text: &str) {
        self.content.insert((kind, name.to_owned()), text.to_owned());
    }

    fn delete(&mut self, kind: ResourceType, name: &str) {
        self.content.remove(&(kind, name.to_owned()));
    }

    fn encode(kind: ResourceType, name: &str, text: &str) -> Arc<Encoded> {
        Arc::new(Encoded::new(kind, name, format!("{name}={text}").as_bytes()))
    }

    fn version(&self, kind: ResourceType, name: &str) -> String {
        self.get(kind, name).expect("in the world").version()
    }
}

impl Source for World {
    fn get(&self, kind: ResourceType, name: &str) -> Option<Arc<Encoded>> {
        let text = self.content.get(&(kind, name.to_owned()))?;
        Some(Self::encode(kind, name, text))
    }

    fn empty(&self, kind: ResourceType, name: &str) -> Arc<Encoded> {
        Self::encode(kind, name, "")
    }

    fn lists(&self, kind: ResourceType) -> [Arc<ResourceList>; 3] {
        // Names that begin with `own` are the proxy's own.
        let [shared, own] = [false, true].map(|own| {
            let of_kind =
                self.content.iter().filter(|((k, name), _)| *k == kind && name.starts_with("own") == own);
            let entries = of_kind.map(|((_, name), text)| Entry {
                name: name.as_str().into(),
                encoded: Self::encode(kind, name, text),
            });
            Arc::new(ResourceList::new(entries.collect()))
        });
        [Arc::default(), shared, own]
    }

    fn all_synced(&self) -> bool {
        self.synced.get()
    }
}

/// A response as text: `cds {a=1,b=2} rm{c}`.
fn told(kind: ResourceType, resources: &BTreeSet<String>, removed: &[String]) -> String {
    let resources: Vec<_> = resources.iter().map(String::as_str).collect();
    let mut text = format!("{kind} {{{}}}", resources.join(","));
    if !removed.is_empty() {
        text += &format!(" rm{{{}}}", removed.join(","));
    }
    text
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("text")
}

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(ToString::to_string).collect()
}

fn error() -> Option<Status> {
    Some(Status { code: 13, message: "bad\nresource".into() })
}

fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}
