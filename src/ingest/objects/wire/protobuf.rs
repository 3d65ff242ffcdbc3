//! Kubernetes protobuf: bare messages in envelopes, which name their kind.

use super::identity::Identity;
use super::status::{self, short};
use super::{ApiStatus, FrameError, ListPage, Object, Received, WatchFrame, page};
use crate::ingest::objects::raw::protobuf::{Fault, Message, Wire, delimited, next, skip};
use crate::ingest::objects::raw::{ListMeta, Namespace, Status, TypeMeta, Unknown, WatchEvent};

/// What every envelope begins with: `k8s` and a zero byte.
const MAGIC: &[u8] = b"k8s\0";

pub(super) fn frame<T: Object>(frame: &[u8]) -> Result<WatchFrame<T>, FrameError> {
    let event = WatchEvent::parse(frame).map_err(malformed)?;
    let (named, message) = open(event.object.raw.bytes())?;
    let object = || {
        check::<T>(T::KIND, &named)?;
        Ok(item(message))
    };
    Ok(match &*event.r#type {
        "ADDED" => WatchFrame::Added(object()?),
        "MODIFIED" => WatchFrame::Modified(object()?),
        "DELETED" => WatchFrame::Deleted(object()?),
        // A bookmark is an object of its kind with nothing but metadata, field 1 of every kind.
        "BOOKMARK" => {
            check::<T>(T::KIND, &named)?;
            page::bookmark(&Namespace::parse(message).map_err(malformed)?.metadata)?
        }
        "ERROR" if &*named.kind == "Status" => {
            WatchFrame::Error(status::read(&Status::parse(message).map_err(malformed)?, 500))
        }
        "ERROR" => return Err(FrameError::wrong_kind("Status", &named.api_version, &named.kind)),
        other => return Err(FrameError::UnknownEvent(short(other))),
    })
}

pub(super) fn list<T: Object>(body: &[u8]) -> Result<ListPage<T>, FrameError> {
    let (named, mut message) = open(body)?;
    check::<T>(T::LIST_KIND, &named)?;
    let (mut meta, mut items) = (ListMeta::default(), page::Items::of(body.len()));
    while let Some((number, wire)) = next(&mut message).map_err(malformed)? {
        match number {
            1 => meta.merge(wire, &mut message).map_err(malformed)?,
            2 => items.push(item(delimited(wire, &mut message).map_err(malformed)?)),
            _ => skip(number, wire, &mut message).map_err(malformed)?,
        }
    }
    page::page(&meta, items.finish().map_err(|reason| FrameError::protobuf(&reason))?)
}

pub(super) fn one<T: Object>(body: &[u8]) -> Result<Received<T>, FrameError> {
    let (named, message) = open(body)?;
    check::<T>(T::KIND, &named)?;
    Ok(item(message))
}

/// A `Status` in its envelope; `None` for anything else.
pub(super) fn status(body: &[u8], http: u16) -> Option<ApiStatus> {
    let (named, message) = open(body).ok()?;
    let status = Status::parse(message).ok()?;
    (&*named.kind == "Status").then(|| status::read(&status, http))
}

/// Kind and message of an envelope.
fn open(bytes: &[u8]) -> Result<(TypeMeta<'_>, &[u8]), FrameError> {
    let envelope = bytes.strip_prefix(MAGIC).ok_or_else(|| FrameError::protobuf("no envelope"))?;
    let envelope = Unknown::parse(envelope).map_err(malformed)?;
    if !envelope.content_encoding.is_empty() {
        return Err(FrameError::protobuf("the message is encoded once more"));
    }
    Ok((envelope.type_meta, envelope.raw.bytes()))
}

fn check<T: Object>(wanted: &'static str, named: &TypeMeta<'_>) -> Result<(), FrameError> {
    if *named.kind == *wanted && *named.api_version == *T::API_VERSION {
        return Ok(());
    }
    Err(FrameError::wrong_kind(wanted, &named.api_version, &named.kind))
}

fn item<T: Object>(message: &[u8]) -> Received<T> {
    T::from_protobuf(message)
        .unwrap_or_else(|reason| Identity::of_message(message).unreadable(short(&reason)))
}

fn malformed(fault: Fault) -> FrameError {
    FrameError::protobuf(&fault.into_text())
}
