//! What lists and bookmarks have in common in both encodings.

use super::{FrameError, ListPage, Object, Received, Revision, WatchFrame};
use crate::ingest::objects::raw::{ListMeta, ObjectMeta};

/// The annotation of the bookmark that ends the first part of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A list with more objects without a name is none: they could be told from each other by nothing.
const NAMELESS_ITEMS: usize = 100;

/// Bytes of a list that an object has at least: it has a name, a uid, a revision and a creation time.
const ITEM: usize = 32;
/// Bytes of a list that an entry of an object has at least: an endpoint's address or a port's number, and what is
/// around it.
const ENTRY: usize = 8;
/// Bytes that any list may have too few, for servers that leave out what they must not.
const SLACK: usize = 4096;

/// The objects of a list.
pub(super) struct Items<T> {
    items: Vec<Received<T>>,
    nameless: usize,
    /// Bytes of the list that no object accounts for yet.
    bytes: usize,
    too_dense: bool,
}

impl<T: Object> Items<T> {
    /// Of a list of so many bytes. Objects take many times as much room here as the least they can have there: a
    /// list that holds more of them than any API server could write into it is none (K-37).
    pub(super) fn of(bytes: usize) -> Self {
        Self { items: Vec::new(), nameless: 0, bytes: bytes.saturating_add(SLACK), too_dense: false }
    }

    pub(super) fn push(&mut self, item: Received<T>) {
        let entries = item.object.as_ref().map_or(0, T::entries);
        match self.bytes.checked_sub(ITEM + ENTRY * entries) {
            Some(rest) => self.bytes = rest,
            None => self.too_dense = true,
        }
        self.nameless += usize::from(item.key.name.is_empty());
        if !self.too_dense && (self.nameless <= NAMELESS_ITEMS || !item.key.name.is_empty()) {
            self.items.push(item);
        }
    }

    pub(super) fn finish(self) -> Result<Vec<Received<T>>, String> {
        if self.too_dense {
            return Err("there are more objects in the list than its bytes can be".to_owned());
        }
        if self.nameless > NAMELESS_ITEMS {
            return Err(format!("{} items have no metadata.name", self.nameless));
        }
        Ok(self.items)
    }
}

pub(super) fn page<T>(meta: &ListMeta<'_>, items: Vec<Received<T>>) -> Result<ListPage<T>, FrameError> {
    if meta.resource_version.is_empty() {
        return Err(FrameError::NoRevision("a list"));
    }
    Ok(ListPage {
        revision: Revision::new(&meta.resource_version),
        next: Some(meta.r#continue.to_string()).filter(|token| !token.is_empty()),
        items,
    })
}

pub(super) fn bookmark<T>(meta: &ObjectMeta<'_>) -> Result<WatchFrame<T>, FrameError> {
    if meta.resource_version.is_empty() {
        return Err(FrameError::NoRevision("a bookmark"));
    }
    let end = meta.annotations.get(INITIAL_EVENTS_END);
    Ok(WatchFrame::Bookmark {
        revision: Revision::new(&meta.resource_version),
        initial_events_end: end.is_some_and(|value| &**value == "true"),
    })
}
