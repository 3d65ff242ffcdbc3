//! Bytes of an API server to objects: two encodings, one answer. No I/O.
//!
//! ```text
//! watch body ── Framer ── frames ── decode_frame ── WatchFrame<T>
//! list body ─────────────────────── decode_list ─── ListPage<T>
//! ```
//!
//! Nothing here panics. What is read takes at most some 20 times the room of its bytes, and 8 MiB: lists have ends
//! (an object with more than 20 000 elements of one sort is unreadable), and so do objects per byte. An object that cannot be read costs
//! only itself: it arrives as a [`Received`] with a reason and, where its metadata can still be found, its name
//! (K-38). What is no list, no event or no object of the wanted kind is a [`FrameError`] (K-12, K-22).

mod encoding;
mod frames;
mod identity;
mod json;
mod page;
mod protobuf;
mod revision;
mod status;

use crate::model::Name;

pub use encoding::{Encoding, accept_list, accept_watch};
pub use frames::{FrameError, Framer};
pub use revision::Revision;
pub use status::{ApiStatus, decode_status};

pub(super) use identity::key;
pub(super) use revision::number as revision_number;

use super::{Object, ObjectKey};

/// Why an object without a name is not read.
pub(super) const NAMELESS: &str = "it has no metadata.name";

/// Whether what stands beside an object's fields is of its kind. Items of lists do not say what they are.
pub(super) fn is_of<T: Object>(kind: &str, api_version: &str) -> bool {
    (kind.is_empty() || kind == T::KIND) && is_api_of::<T>(api_version)
}

/// Whether this is the group and version of a kind, or not said, or whatever the path asked for (R4.39).
fn is_api_of<T: Object>(api_version: &str) -> bool {
    !T::FIXED_API || api_version.is_empty() || api_version == T::API_VERSION
}

/// One object a source told of, readable or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received<T> {
    /// Which object; without a name if not even that can be read.
    pub key: ObjectKey,
    /// Its uid; may be empty.
    pub uid: Name,
    /// Its revision, if that is a number (D32).
    pub revision: Option<u64>,
    /// What it says, or why it cannot be read.
    pub object: Result<T, String>,
}

/// One event of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WatchFrame<T> {
    /// An object is there, now or since before the watch.
    Added(Received<T>),
    /// An object changed.
    Modified(Received<T>),
    /// An object is gone; the state is its last one.
    Deleted(Received<T>),
    /// Everything up to `revision` was told.
    Bookmark {
        /// Where a next watch goes on.
        revision: Revision,
        /// Every object that was there at the start has been told of (streaming lists).
        initial_events_end: bool,
    },
    /// The watch ends with this.
    Error(ApiStatus),
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListPage<T> {
    /// The revision of the whole list.
    pub revision: Revision,
    /// Token of the next page; `None` on the last one.
    pub next: Option<String>,
    /// The objects of this page, in the server's order.
    pub items: Vec<Received<T>>,
}

/// Reads one frame of a watch.
///
/// # Errors
/// *Retried* by another watch: the frame is no event of this kind. An unreadable object is no error.
pub fn decode_frame<T: Object>(encoding: Encoding, frame: &[u8]) -> Result<WatchFrame<T>, FrameError> {
    match encoding {
        Encoding::Json => json::frame(frame),
        Encoding::Protobuf if T::PROTOBUF => protobuf::frame(frame),
        Encoding::Protobuf => Err(FrameError::NotServed),
    }
}

/// Reads the body of a list.
///
/// # Errors
/// *Retried* by another list: another kind, or no revision (K-22). An unreadable object is no error.
pub fn decode_list<T: Object>(encoding: Encoding, body: &[u8]) -> Result<ListPage<T>, FrameError> {
    match encoding {
        Encoding::Json => json::list(body),
        Encoding::Protobuf if T::PROTOBUF => protobuf::list(body),
        Encoding::Protobuf => Err(FrameError::NotServed),
    }
}

/// Reads the body of a single object.
///
/// # Errors
/// *Retried* by another request: another kind. An unreadable object is no error.
pub fn decode_one<T: Object>(encoding: Encoding, body: &[u8]) -> Result<Received<T>, FrameError> {
    match encoding {
        Encoding::Json => json::one(body),
        Encoding::Protobuf if T::PROTOBUF => protobuf::one(body),
        Encoding::Protobuf => Err(FrameError::NotServed),
    }
}

#[cfg(test)]
mod tests;
