//! The lists of made-up clusters in memory, and the way from them to a registry. Shared by the benchmarks of ingest.

use std::sync::Arc;

use serde_json::Value;
use tombolo::ingest::Counts;
use tombolo::ingest::convert::ClusterContext;
use tombolo::ingest::objects::Object;
use tombolo::ingest::objects::wire::{Encoding, decode_list};
use tombolo::ingest::staging::{StagedEvent, Staging};
use tombolo::ingest::watch::{ListReason, SourceEvent};
use tombolo::model::ClusterRole;
use tombolo::registry::{ClusterWriter, Registry};

use super::cluster::{PAGE, Shape, pages};
use super::schema;

/// The pages of one cluster.
pub struct Lists {
    pub namespaces: Vec<Vec<u8>>,
    pub nodes: Vec<Vec<u8>>,
    pub pods: Vec<Vec<u8>>,
    pub services: Vec<Vec<u8>>,
    pub slices: Vec<Vec<u8>>,
}

impl Lists {
    pub fn json(shape: Shape) -> Self {
        Self {
            namespaces: pages("Namespace", "v1", shape.namespaces()).collect(),
            nodes: pages("Node", "v1", shape.nodes()).collect(),
            pods: pages("Pod", "v1", shape.pods()).collect(),
            services: pages("Service", "v1", shape.services()).collect(),
            slices: pages("EndpointSlice", "discovery.k8s.io/v1", shape.slices()).collect(),
        }
    }

    pub fn protobuf(shape: Shape) -> Self {
        fn all(kind: &str, items: impl Iterator<Item = Value>) -> Vec<Vec<u8>> {
            let messages: Vec<Vec<u8>> = items.map(|item| schema::message(kind, &item)).collect();
            messages.chunks(PAGE).map(|page| schema::list(kind, "1000000", page)).collect()
        }
        Self {
            namespaces: all("Namespace", shape.namespaces()),
            nodes: all("Node", shape.nodes()),
            pods: all("Pod", shape.pods()),
            services: all("Service", shape.services()),
            slices: all("EndpointSlice", shape.slices()),
        }
    }

    pub fn bytes(&self) -> usize {
        let all = [&self.namespaces, &self.nodes, &self.pods, &self.services, &self.slices];
        all.into_iter().flatten().map(Vec::len).sum()
    }
}

/// A cluster as the server holds it.
pub type Held = (Staging, ClusterWriter);

/// One cluster, from its lists to the registry.
pub fn take_in(registry: &Arc<Registry>, number: usize, lists: &Lists, encoding: Encoding) -> Held {
    let cluster = format!("c{number}");
    let context = ClusterContext::new(cluster.as_str().into());
    let mut staging = Staging::new(context, "istio-system".into(), Arc::new(Counts::default()));
    list(&mut staging, StagedEvent::Namespace, encoding, &lists.namespaces);
    list(&mut staging, StagedEvent::Node, encoding, &lists.nodes);
    list(&mut staging, StagedEvent::Pod, encoding, &lists.pods);
    list(&mut staging, StagedEvent::Service, encoding, &lists.services);
    list(&mut staging, StagedEvent::Slice, encoding, &lists.slices);
    assert!(staging.is_complete() && staging.pending_pods() == 0);
    let role = if number == 0 { ClusterRole::Config } else { ClusterRole::Remote };
    let mut writer = registry.writer(cluster.as_str().into(), role).expect("the only writer");
    writer.replace(staging.state());
    (staging, writer)
}

/// All clusters, from their lists to the registry.
pub fn ready(lists: &[Lists], encoding: Encoding) -> (Arc<Registry>, Vec<Held>) {
    let registry = Registry::new();
    let one = |(number, lists)| take_in(&registry, number, lists, encoding);
    let clusters = lists.iter().enumerate().map(one).collect();
    assert!(!registry.changes().take().is_empty());
    (registry, clusters)
}

fn list<T: Object>(
    staging: &mut Staging,
    event: fn(SourceEvent<T>) -> StagedEvent,
    encoding: Encoding,
    pages: &[Vec<u8>],
) {
    staging.apply(event(SourceEvent::Init));
    for page in pages {
        for item in decode_list::<T>(encoding, page).expect("a list").items {
            staging.apply(event(SourceEvent::InitApply(item)));
        }
    }
    staging.apply(event(SourceEvent::InitDone { reason: ListReason::First }));
}
