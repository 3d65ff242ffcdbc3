//! What lists and bookmarks have in common in both encodings.

use super::{FrameError, ListPage, Received, Revision, WatchFrame};
use crate::ingest::objects::raw::{ListMeta, ObjectMeta};

/// The annotation of the bookmark that ends the first part of a streaming list.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";
/// A list with more objects without a name is none: they could be told from each other by nothing.
const NAMELESS_ITEMS: usize = 100;

/// The objects of a list.
pub(super) struct Items<T> {
    items: Vec<Received<T>>,
    nameless: usize,
}

impl<T> Default for Items<T> {
    fn default() -> Self {
        Self { items: Vec::new(), nameless: 0 }
    }
}

impl<T> Items<T> {
    pub(super) fn push(&mut self, item: Received<T>) {
        self.nameless += usize::from(item.key.name.is_empty());
        if self.nameless <= NAMELESS_ITEMS || !item.key.name.is_empty() {
            self.items.push(item);
        }
    }

    pub(super) fn finish(self) -> Result<Vec<Received<T>>, String> {
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
