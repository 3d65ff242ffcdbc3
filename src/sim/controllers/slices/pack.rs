//! Distributes endpoints over slices with as few writes as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::discovery::v1::{Endpoint, EndpointPort, EndpointSlice};

/// Endpoints in one slice.
pub(super) const MOST: usize = 100;

/// The endpoints that share their ports, by the uid of their pods.
#[derive(Debug, Clone)]
pub(super) struct Group {
    pub(super) ports: Vec<EndpointPort>,
    endpoints: BTreeMap<String, Endpoint>,
}

impl Group {
    pub(super) fn new(ports: Vec<EndpointPort>, endpoint: Endpoint) -> Self {
        let mut group = Self { ports, endpoints: BTreeMap::new() };
        group.add(endpoint);
        group
    }

    pub(super) fn add(&mut self, endpoint: Endpoint) {
        self.endpoints.insert(identity(&endpoint), endpoint);
    }
}

/// What tells an endpoint from others while its readiness or address changes.
fn identity(endpoint: &Endpoint) -> String {
    let uid = endpoint.target_ref.as_ref().and_then(|target| target.uid.clone());
    uid.unwrap_or_else(|| endpoint.addresses.join(","))
}

/// One write.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum SliceChange {
    /// Create this slice under a name made from its `generateName`.
    Create(Box<EndpointSlice>),
    /// Replace this slice.
    Update(Box<EndpointSlice>),
    /// Delete this slice.
    Delete(Arc<EndpointSlice>),
}

/// A slice on its way from what it is to what it will be.
struct Draft<'a> {
    from: &'a Arc<EndpointSlice>,
    endpoints: Vec<Endpoint>,
    changed: bool,
}

/// A slice as it will be.
struct Content {
    ports: Vec<EndpointPort>,
    endpoints: Vec<Endpoint>,
}

/// The writes that turn `existing`, slices of one Service and address family, into slices of `groups`: in the
/// order to make them, so that no endpoint is missing in between.
///
/// Every endpoint is in one slice, no slice has more than [`MOST`], each slice is written at most once. An
/// endpoint stays where it is. New ones go into slices that are written anyway, else together into the fullest
/// slice with room for all, else into a new one. Slices left empty are reused before others are made, and one
/// empty slice remains where there are no endpoints. `dress` completes metadata and says whether that changed
/// anything.
pub(super) fn pack(
    groups: Vec<Group>,
    existing: &[Arc<EndpointSlice>],
    blank: &EndpointSlice,
    dress: impl Fn(&mut EndpointSlice) -> bool,
) -> Vec<SliceChange> {
    let mut spare: Vec<&Arc<EndpointSlice>> = Vec::new();
    let mut created: Vec<Content> = Vec::new();
    let mut updates: Vec<SliceChange> = Vec::new();
    let mut kept = 0;
    let (mut by_group, others) = assign(&groups, existing);
    spare.extend(others);
    for (at, group) in groups.into_iter().enumerate() {
        let ports = group.ports.clone();
        let (drafts, new) = place(group, std::mem::take(&mut by_group[at]));
        created.extend(new.into_iter().map(|endpoints| Content { ports: ports.clone(), endpoints }));
        for draft in drafts {
            if draft.endpoints.is_empty() {
                spare.push(draft.from);
                continue;
            }
            kept += 1;
            let mut slice = draft.from.as_ref().clone();
            let dressed = dress(&mut slice);
            if draft.changed || dressed {
                slice.endpoints = filled(draft.endpoints);
                updates.push(SliceChange::Update(Box::new(slice)));
            }
        }
    }
    if kept == 0 && created.is_empty() {
        created.push(Content { ports: Vec::new(), endpoints: Vec::new() });
    }
    let mut changes = Vec::new();
    for content in created {
        match take_best(&mut spare, &content) {
            Some(old) => updates.extend(reuse(old, content, &dress)),
            None => {
                let mut slice = blank.clone();
                dress(&mut slice);
                changes.push(SliceChange::Create(Box::new(content.into(slice))));
            }
        }
    }
    changes.append(&mut updates);
    changes.extend(spare.into_iter().cloned().map(SliceChange::Delete));
    changes
}

impl Content {
    fn into(self, mut slice: EndpointSlice) -> EndpointSlice {
        slice.ports = Some(self.ports).filter(|ports| !ports.is_empty());
        slice.endpoints = filled(self.endpoints);
        slice
    }
}

/// The field as the API serves it: a list, empty or not.
fn filled(endpoints: Vec<Endpoint>) -> Option<Vec<Endpoint>> {
    Some(endpoints)
}

fn ports(slice: &EndpointSlice) -> &[EndpointPort] {
    slice.ports.as_deref().unwrap_or_default()
}

fn endpoints(slice: &EndpointSlice) -> &[Endpoint] {
    let endpoints: Option<&[Endpoint]> = slice.endpoints.as_deref();
    endpoints.unwrap_or_default()
}

/// The existing slices of each group, and those of none.
fn assign<'a>(
    groups: &[Group],
    existing: &'a [Arc<EndpointSlice>],
) -> (Vec<Vec<&'a Arc<EndpointSlice>>>, Vec<&'a Arc<EndpointSlice>>) {
    let mut by_group = vec![Vec::new(); groups.len()];
    let mut others = Vec::new();
    for slice in existing {
        match groups.iter().position(|group| group.ports == ports(slice)) {
            Some(at) => by_group[at].push(slice),
            None => others.push(slice),
        }
    }
    (by_group, others)
}

/// Distributes one group over its slices; what fits nowhere comes in new ones.
fn place<'a>(group: Group, slices: Vec<&'a Arc<EndpointSlice>>) -> (Vec<Draft<'a>>, Vec<Vec<Endpoint>>) {
    let mut wanted = group.endpoints;
    let mut drafts: Vec<Draft<'a>> = slices.into_iter().map(|slice| keep(slice, &mut wanted)).collect();
    let mut rest: Vec<Endpoint> = wanted.into_values().collect();
    drafts.sort_by_key(|draft| std::cmp::Reverse(draft.endpoints.len()));
    for draft in drafts.iter_mut().filter(|draft| draft.changed) {
        let room = MOST.saturating_sub(draft.endpoints.len()).min(rest.len());
        draft.endpoints.extend(rest.drain(..room));
    }
    let mut new = Vec::new();
    while !rest.is_empty() {
        let fits = |draft: &&mut Draft<'_>| !draft.changed && draft.endpoints.len() + rest.len() <= MOST;
        match drafts.iter_mut().find(fits) {
            Some(draft) => {
                draft.endpoints.append(&mut rest);
                draft.changed = true;
            }
            None => new.push(rest.drain(..rest.len().min(MOST)).collect()),
        }
    }
    (drafts, new)
}

/// What stays of a slice: the endpoints still wanted, each as it should be now.
fn keep<'a>(slice: &'a Arc<EndpointSlice>, wanted: &mut BTreeMap<String, Endpoint>) -> Draft<'a> {
    let mut draft = Draft { from: slice, endpoints: Vec::new(), changed: false };
    for held in endpoints(slice) {
        // Taken out of `wanted` once: a copy of it elsewhere goes.
        let endpoint = if draft.endpoints.len() < MOST { wanted.remove(&identity(held)) } else { None };
        draft.changed |= endpoint.as_ref() != Some(held);
        draft.endpoints.extend(endpoint);
    }
    draft
}

/// The spare slice that already is what is asked for, else any.
fn take_best<'a>(
    spare: &mut Vec<&'a Arc<EndpointSlice>>,
    content: &Content,
) -> Option<&'a Arc<EndpointSlice>> {
    let same = |slice: &&Arc<EndpointSlice>| {
        ports(slice) == content.ports && endpoints(slice) == content.endpoints.as_slice()
    };
    let at = spare.iter().position(same).or_else(|| spare.len().checked_sub(1))?;
    Some(spare.swap_remove(at))
}

fn reuse(
    old: &Arc<EndpointSlice>,
    content: Content,
    dress: impl Fn(&mut EndpointSlice) -> bool,
) -> Option<SliceChange> {
    let mut slice = old.as_ref().clone();
    let dressed = dress(&mut slice);
    let same = ports(old) == content.ports && endpoints(old) == content.endpoints.as_slice();
    (dressed || !same).then(|| SliceChange::Update(Box::new(content.into(slice))))
}

#[cfg(test)]
mod tests;
