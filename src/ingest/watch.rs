//! Lists and watches behind a trait of our own.
//!
//! Nothing outside this file names the library's list/watch loop: whoever consumes [`SourceEvent`]s does not
//! know how they are made.

mod backoff;

use std::sync::Arc;
use std::time::Duration;

use futures::stream::{self, BoxStream, StreamExt};
use kube::runtime::watcher;
use tokio::sync::mpsc;

use backoff::Backoff;
pub use backoff::RetryPolicy;

use super::client::{ApiServer, UnusableAnswer};
use super::objects::{Decoded, Object, ObjectKey};

/// One object a source told of, readable or not.
#[derive(Clone, Debug)]
pub struct Received<T> {
    /// Which object.
    pub key: ObjectKey,
    /// What it says, or why it cannot be read.
    pub object: Result<T, String>,
}

/// Why a source delivers nothing at the moment. It keeps trying by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// *Retried.* No answer, or a broken connection.
    Unreachable(String),
    /// *Retried.* The API server answered with an error.
    Refused(String),
    /// *Retried.* 401: the credentials are not accepted.
    Unauthorized(String),
    /// *Retried.* 403: the credentials may not read this kind.
    Forbidden(String),
    /// *Retried.* 404: the API server does not know this kind.
    NotServed(String),
}

impl Failure {
    /// What happened, in words; never credentials.
    pub fn text(&self) -> &str {
        match self {
            Self::Unreachable(text)
            | Self::Refused(text)
            | Self::Unauthorized(text)
            | Self::Forbidden(text)
            | Self::NotServed(text) => text,
        }
    }
}

/// What a source delivers. Between `Init` and `InitDone` every object there is arrives as `InitApply`; an
/// `Init` in between starts over. Objects held but not listed are gone (mark and sweep).
#[derive(Clone, Debug)]
pub enum SourceEvent<T> {
    /// A complete list begins.
    Init,
    /// An object of that list.
    InitApply(Received<T>),
    /// The list is complete.
    InitDone,
    /// An object was added or changed.
    Apply(Received<T>),
    /// An object was deleted.
    Delete(ObjectKey),
    /// A watch is established: what was missed arrives next, then the source is current.
    Connected,
    /// Nothing arrives for now; another attempt follows.
    Failed(Failure),
}

/// Something that delivers all objects of one kind, and their changes, for ever.
pub trait ObjectSource<T>: Send + 'static {
    /// The events. The stream ends only when the source is dropped.
    fn events(self) -> BoxStream<'static, SourceEvent<T>>;
}

/// Objects of one kind of one API server.
#[derive(Debug)]
pub struct KubeSource {
    server: Arc<ApiServer>,
    namespace: Option<String>,
    labels: Option<String>,
    fields: Option<String>,
    retry: RetryPolicy,
}

impl KubeSource {
    /// Every object of a kind.
    pub fn new(server: Arc<ApiServer>, retry: RetryPolicy) -> Self {
        Self { server, namespace: None, labels: None, fields: None, retry }
    }

    /// Only objects of one namespace.
    pub fn in_namespace(mut self, namespace: &str) -> Self {
        self.namespace = Some(namespace.to_owned());
        self
    }

    /// Only objects that match a label selector.
    pub fn labelled(mut self, selector: &str) -> Self {
        self.labels = Some(selector.to_owned());
        self
    }

    /// Only objects that match a field selector.
    pub fn with_fields(mut self, selector: &str) -> Self {
        self.fields = Some(selector.to_owned());
        self
    }
}

/// How long a watch may last: the server ends it, and the next one goes on from the last revision.
const WATCH_TIMEOUT: Duration = Duration::from_secs(280);
/// Objects per list page.
const PAGE_SIZE: u32 = 500;
/// Notices of established watches that are not yet consumed. One is enough: they all say the same.
const CONNECTED_NOTICES: usize = 1;

impl<T: Object> ObjectSource<T> for KubeSource {
    fn events(self) -> BoxStream<'static, SourceEvent<T>> {
        let (connected, notices) = mpsc::channel(CONNECTED_NOTICES);
        let client = self.server.client(connected);
        let api = T::api(client, self.namespace.as_deref());
        let config = watcher::Config {
            label_selector: self.labels,
            field_selector: self.fields,
            timeout: u32::try_from(WATCH_TIMEOUT.as_secs()).ok(),
            page_size: Some(PAGE_SIZE),
            ..watcher::Config::default()
        };
        let objects =
            Attempts { events: watcher(api, config).boxed(), backoff: Backoff::new(self.retry), wait: None };
        let objects = stream::unfold(objects, async |mut attempts| {
            let event = attempts.next().await;
            event.map(|event| (event, attempts))
        });
        let notices = stream::unfold(notices, async |mut notices| {
            notices.recv().await.map(|()| (SourceEvent::Connected, notices))
        });
        stream::select(notices, objects).boxed()
    }
}

/// The library's loop with our pauses between attempts.
struct Attempts<T> {
    events: BoxStream<'static, watcher::Result<watcher::Event<Decoded<T>>>>,
    backoff: Backoff,
    wait: Option<Duration>,
}

impl<T> Attempts<T> {
    async fn next(&mut self) -> Option<SourceEvent<T>> {
        if let Some(wait) = self.wait.take() {
            tokio::time::sleep(wait).await;
        }
        Some(match self.events.next().await? {
            Ok(watcher::Event::Init) => SourceEvent::Init,
            Ok(watcher::Event::InitApply(object)) => SourceEvent::InitApply(received(object)),
            Ok(watcher::Event::InitDone) => SourceEvent::InitDone,
            Ok(watcher::Event::Apply(object)) => SourceEvent::Apply(received(object)),
            Ok(watcher::Event::Delete(object)) => SourceEvent::Delete(object.key()),
            Err(error) => {
                self.wait = Some(self.backoff.next());
                SourceEvent::Failed(failure(&error))
            }
        })
    }
}

fn received<T>(decoded: Decoded<T>) -> Received<T> {
    Received { key: decoded.key(), object: decoded.object }
}

/// Sorts an error of the loop by what an operator does about it.
fn failure(error: &watcher::Error) -> Failure {
    let cause = match error {
        watcher::Error::InitialListFailed(cause)
        | watcher::Error::WatchStartFailed(cause)
        | watcher::Error::WatchFailed(cause) => cause,
        watcher::Error::WatchError(status) => return refused(status.code, &status.message),
        watcher::Error::NoResourceVersion => {
            return Failure::Refused("a list or an event without a resourceVersion".to_owned());
        }
    };
    match cause {
        kube::Error::Api(status) => refused(status.code, &status.message),
        kube::Error::Service(error) => match error.downcast_ref::<UnusableAnswer>() {
            Some(UnusableAnswer::Status(status)) => {
                refused(status.as_u16(), status.canonical_reason().unwrap_or_default())
            }
            Some(other) => Failure::Refused(other.to_string()),
            None => Failure::Unreachable(chain(&**error)),
        },
        other => Failure::Unreachable(chain(other)),
    }
}

fn refused(code: u16, message: &str) -> Failure {
    let message: String = message.chars().take(200).filter(|c| !c.is_control()).collect();
    let text = format!("HTTP {code}: {message}");
    match code {
        401 => Failure::Unauthorized(text),
        403 => Failure::Forbidden(text),
        404 => Failure::NotServed(text),
        _ => Failure::Refused(text),
    }
}

/// An error and its causes in one line. The innermost ones say what really happened.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text.push_str(": ");
            text.push_str(&inner_text);
        }
        cause = inner.source();
    }
    text.chars().take(300).filter(|c| !c.is_control()).collect()
}

#[cfg(test)]
mod tests;
