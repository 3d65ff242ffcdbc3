//! JSON: events, lists and objects.
//!
//! Each is first read in one pass. Only where that fails (a bad object, an event that is none of an object) it is
//! read again with care: objects one by one, each from its own slice.

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess};
use serde_json::value::RawValue;

use super::identity::Identity;
use super::status::{self, short};
use super::{
    ApiStatus, FrameError, ListPage, NAMELESS, Object, Received, WatchFrame, is_api_of, is_of, page,
};
use crate::ingest::objects::raw::json::{self, Fields, Json, Loose};
use crate::ingest::objects::raw::{ListMeta, ObjectMeta, Status, Text, json_message};

json_message! { Bookmark {
    kind: Loose<'a>, "kind";
    api_version: Loose<'a>, "apiVersion";
    metadata: ObjectMeta<'a>, "metadata";
} }

json_message! { KindOnly {
    kind: Loose<'a>, "kind";
} }

json_message! { Who {
    kind: Loose<'a>, "kind";
    api_version: Loose<'a>, "apiVersion";
    metadata: WhoMeta<'a>, "metadata";
} }

json_message! { WhoMeta {
    namespace: Loose<'a>, "namespace";
    name: Loose<'a>, "name";
    uid: Loose<'a>, "uid";
    revision: Loose<'a>, "resourceVersion";
} }

#[derive(Deserialize)]
struct Event<'a> {
    r#type: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

pub(super) fn frame<T: Object>(bytes: &[u8]) -> Result<WatchFrame<T>, FrameError> {
    let text = &*String::from_utf8_lossy(bytes);
    if let Some(event) = whole::<QuickEvent<'_, T>>(text).ok().and_then(QuickEvent::finish) {
        return Ok(event);
    }
    let event: Event<'_> = serde_json::from_str(text).map_err(|error| malformed(&error))?;
    let object = event.object.get();
    Ok(match event.r#type.as_str() {
        "ADDED" => WatchFrame::Added(event_object(object)?),
        "MODIFIED" => WatchFrame::Modified(event_object(object)?),
        "DELETED" => WatchFrame::Deleted(event_object(object)?),
        "BOOKMARK" => {
            let mark = whole::<Bookmark<'_>>(object).map_err(|error| malformed(&error))?;
            let (kind, api_version) = (mark.kind.0, mark.api_version.0);
            if !is_of::<T>(&kind, &api_version) {
                return Err(FrameError::wrong_kind(T::KIND, &api_version, &kind));
            }
            page::bookmark(&mark.metadata)?
        }
        "ERROR" => {
            let kind = whole::<KindOnly<'_>>(object).map_err(|error| malformed(&error))?.kind.0;
            if *kind != *"Status" {
                return Err(FrameError::wrong_kind("Status", "", &kind));
            }
            let status = whole::<Status<'_>>(object).map_err(|error| malformed(&error))?;
            WatchFrame::Error(status::read(&status, 500))
        }
        other => return Err(FrameError::UnknownEvent(short(other))),
    })
}

pub(super) fn list<T: Object>(body: &[u8]) -> Result<ListPage<T>, FrameError> {
    let text = &*String::from_utf8_lossy(body);
    match whole::<List<'_, T, false>>(text) {
        Ok(list) => list.into_page(),
        Err(_) => careful_list(text)?.into_page(),
    }
}

/// Items one by one. What is no list at all is told by its kind.
fn careful_list<T: Object>(text: &str) -> Result<List<'_, T, true>, FrameError> {
    whole(text).map_err(|error| match whole::<KindOnly<'_>>(text) {
        Ok(other) if *other.kind.0 != *T::LIST_KIND => {
            FrameError::wrong_kind(T::LIST_KIND, "", &other.kind.0)
        }
        _ => malformed(&error),
    })
}

pub(super) fn one<T: Object>(body: &[u8]) -> Result<Received<T>, FrameError> {
    let text = &*String::from_utf8_lossy(body);
    let kind = whole::<KindOnly<'_>>(text).map_err(|error| malformed(&error))?.kind.0;
    if *kind == *T::KIND { event_object(text) } else { Err(FrameError::wrong_kind(T::KIND, "", &kind)) }
}

/// A `Status`; `None` for anything else.
pub(super) fn http_status(body: &[u8], http: u16) -> Option<ApiStatus> {
    let text = std::str::from_utf8(body).ok()?;
    let kind = whole::<KindOnly<'_>>(text).ok()?.kind.0;
    let status = whole::<Status<'_>>(text).ok()?;
    (&*kind == "Status").then(|| status::read(&status, http))
}

fn event_object<T: Object>(object: &str) -> Result<Received<T>, FrameError> {
    item(object).or_else(|(identity, reason)| {
        if is_of::<T>(&identity.kind, &identity.api_version) {
            return Ok(identity.unreadable(reason));
        }
        Err(FrameError::wrong_kind(T::KIND, &identity.api_version, &identity.kind))
    })
}

fn item<T: Object>(object: &str) -> Result<Received<T>, (Identity, String)> {
    let mut from = serde_json::Deserializer::from_str(object);
    T::from_json(&mut from).map_err(|error| (who(object), reason(&error)))
}

/// Whose object it is, whatever else is wrong with it (K-38).
fn who(object: &str) -> Identity {
    let who = whole::<Who<'_>>(object).unwrap_or_default();
    let meta = who.metadata;
    Identity::new(
        [&who.api_version.0, &who.kind.0],
        [&meta.namespace.0, &meta.name.0, &meta.uid.0, &meta.revision.0],
    )
}

/// Reads a text that is nothing but a `T`.
fn whole<'a, T: Json<'a>>(text: &'a str) -> serde_json::Result<T> {
    let mut from = serde_json::Deserializer::from_str(text);
    let value = json::read(&mut from)?;
    from.end()?;
    Ok(value)
}

/// What is wrong, without where.
fn reason(error: &serde_json::Error) -> String {
    let text = error.to_string();
    short(text.rsplit_once(" at line ").map_or(&*text, |(text, _)| text))
}

fn malformed(error: &serde_json::Error) -> FrameError {
    FrameError::json(&format!("{} (column {})", reason(error), error.column()))
}

/// An event of an object that can be read.
struct QuickEvent<'a, T> {
    r#type: Text<'a>,
    object: Option<Received<T>>,
}

impl<T> Default for QuickEvent<'_, T> {
    fn default() -> Self {
        Self { r#type: Text::default(), object: None }
    }
}

impl<'de, T: Object> Fields<'de> for QuickEvent<'de, T> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "type" => self.r#type = json::value(map, name)?,
            // The type comes first; what is no object of ours is read with care.
            "object" if matches!(&*self.r#type, "ADDED" | "MODIFIED" | "DELETED") => {
                self.object = json::value::<Item<T>, A>(map, name)?.0;
            }
            "object" => return Err(A::Error::custom("not an event of an object")),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de, T: Object> Json<'de> for QuickEvent<'de, T> {
    const EXPECTED: &'static str = "an event";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        json::fields(map)
    }
}

impl<T> QuickEvent<'_, T> {
    fn finish(self) -> Option<WatchFrame<T>> {
        let object = self.object?;
        match &*self.r#type {
            "ADDED" => Some(WatchFrame::Added(object)),
            "MODIFIED" => Some(WatchFrame::Modified(object)),
            "DELETED" => Some(WatchFrame::Deleted(object)),
            _ => None,
        }
    }
}

/// An object and whose it is; `None` for `null`.
struct Item<T>(Option<Received<T>>);

impl<T> Default for Item<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<'de, T: Object> Json<'de> for Item<T> {
    const EXPECTED: &'static str = "an object";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        T::from_json(MapAccessDeserializer::new(map)).map(|object| Self(Some(object)))
    }
}

struct List<'a, T, const CAREFUL: bool> {
    kind: Text<'a>,
    api_version: Text<'a>,
    metadata: ListMeta<'a>,
    items: Option<Items<T, CAREFUL>>,
}

impl<T, const CAREFUL: bool> Default for List<'_, T, CAREFUL> {
    fn default() -> Self {
        Self {
            kind: Text::default(),
            api_version: Text::default(),
            metadata: ListMeta::default(),
            items: None,
        }
    }
}

impl<T: Object, const CAREFUL: bool> List<'_, T, CAREFUL> {
    fn into_page(self) -> Result<ListPage<T>, FrameError> {
        if *self.kind != *T::LIST_KIND || !is_api_of::<T>(&self.api_version) {
            return Err(FrameError::wrong_kind(T::LIST_KIND, &self.api_version, &self.kind));
        }
        let items = self.items.ok_or_else(|| FrameError::json("the list has no items"))?;
        page::page(&self.metadata, items.0)
    }
}

impl<'de, T: Object, const CAREFUL: bool> Fields<'de> for List<'de, T, CAREFUL> {
    fn field<A: MapAccess<'de>>(&mut self, name: &str, map: &mut A) -> Result<bool, A::Error> {
        match name {
            "kind" => self.kind = json::value(map, name)?,
            "apiVersion" => self.api_version = json::value(map, name)?,
            "metadata" => self.metadata = json::value(map, name)?,
            "items" => self.items = Some(json::value(map, name)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

impl<'de, T: Object, const CAREFUL: bool> Json<'de> for List<'de, T, CAREFUL> {
    const EXPECTED: &'static str = "a list";

    fn from_map<A: MapAccess<'de>>(map: A) -> Result<Self, A::Error> {
        json::fields(map)
    }
}

struct Items<T, const CAREFUL: bool>(Vec<Received<T>>);

impl<T, const CAREFUL: bool> Default for Items<T, CAREFUL> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<'de, T: Object, const CAREFUL: bool> Json<'de> for Items<T, CAREFUL> {
    const EXPECTED: &'static str = "a list";

    fn from_seq<A: SeqAccess<'de>>(mut seq: A) -> Result<Self, A::Error> {
        // In JSON the least object has more bytes than would be too few.
        let mut items = page::Items::of(usize::MAX);
        if CAREFUL {
            while let Some(raw) = seq.next_element::<&RawValue>()? {
                items.push(item(raw.get()).unwrap_or_else(|(identity, reason)| identity.unreadable(reason)));
            }
        } else {
            while let Some(item) = json::element::<Item<T>, A>(&mut seq)? {
                items.push(item.0.unwrap_or_else(|| Identity::default().unreadable(NAMELESS.to_owned())));
            }
        }
        items.finish().map(Self).map_err(A::Error::custom)
    }
}
