//! Services by host, and what was probably meant by a host that is not there.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::model::policy::wildcards;
use crate::model::{Resolution, Service};
use crate::registry::ServiceSnapshot;

use super::finding::listed;

/// Every service that some cluster has, by host.
#[derive(Debug, Default)]
pub(super) struct Hosts<'a> {
    by_host: HashMap<&'a str, Vec<&'a Arc<ServiceSnapshot>>>,
    /// `*.suffix` of every host.
    suffixes: HashSet<String>,
    /// First label → hosts.
    by_label: BTreeMap<&'a str, BTreeSet<&'a str>>,
    namespaces: HashSet<&'a str>,
}

impl<'a> Hosts<'a> {
    /// Cost ∝ services and the labels of their hosts.
    pub(super) fn new(services: &'a [Arc<ServiceSnapshot>]) -> Self {
        let mut hosts = Self::default();
        for snapshot in services {
            let Some(service) = snapshot.service.as_deref() else { continue };
            let host = service.key.hostname.as_str();
            hosts.namespaces.insert(&service.key.namespace);
            hosts.by_host.entry(host).or_default().push(snapshot);
            hosts.suffixes.extend(wildcards(host));
            hosts.by_label.entry(first_label(host)).or_default().insert(host);
        }
        hosts
    }

    /// The services of one host name, by namespace.
    pub(super) fn of(&self, host: &str) -> &[&'a Arc<ServiceSnapshot>] {
        self.by_host.get(host).map_or(&[], Vec::as_slice)
    }

    /// Whether a service is meant by a host or `*.suffix`.
    pub(super) fn any(&self, pattern: &str) -> bool {
        self.by_host.contains_key(pattern) || pattern.starts_with('*') && self.suffixes.contains(pattern)
    }

    /// Whether a namespace has services.
    pub(super) fn serves(&self, namespace: &str) -> bool {
        self.namespaces.contains(namespace)
    }

    /// What is there instead of a host that is not: `; did you mean …?`, a ServiceEntry with a wildcard, or nothing.
    pub(super) fn hint(&self, host: &str, domain: &str) -> String {
        let full = format!("{host}.svc.{domain}");
        if self.by_host.contains_key(full.as_str()) {
            return format!("; did you mean {full}? Only names without dots are completed");
        }
        let covering = wildcards(host).find(|wildcard| self.by_host.contains_key(wildcard.as_str()));
        if let Some(wildcard) = covering.filter(|_| !host.starts_with('*')) {
            return format!("; a ServiceEntry has {wildcard}, which is another host: add one for this host");
        }
        match self.by_label.get(first_label(host)).filter(|_| !host.starts_with('*')) {
            Some(near) => format!("; there is {}", listed(near)),
            None => String::new(),
        }
    }
}

fn first_label(host: &str) -> &str {
    host.split('.').next().unwrap_or(host)
}

/// Whether a service only names another one: clients are told of that one.
pub(super) fn is_alias(service: &Service) -> bool {
    matches!(service.resolution, Resolution::Alias(_))
}
