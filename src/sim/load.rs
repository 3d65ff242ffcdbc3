//! A bounded load generator for the lab and its scenarios: HTTP/1.1, paced, tallied by who answered.
//!
//! Names are resolved by the system's resolver, anew for every connection.

mod tally;

use std::future::Future;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use http::{HeaderMap, Request, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use thiserror::Error;
use tokio::time::{Instant, MissedTickBehavior};

pub use self::tally::{Outcome, Report, Tally};

/// Answers are read up to this many bytes.
const BODY_LIMIT: usize = 4 * 1024 * 1024;
/// Fastest pace, in requests per second.
pub const MAX_RATE: f64 = 100_000.0;

/// What to send, how fast, and until when.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadSettings {
    /// Plain `http://` URL.
    pub url: String,
    /// `Host` header instead of the URL's host and port.
    pub host: Option<String>,
    /// Requests started per second.
    pub rate: f64,
    /// When to stop starting requests.
    pub until: Until,
    /// How long one request may take, connecting included.
    pub timeout: Duration,
    /// Most requests under way at once; when reached, the pace waits.
    pub concurrency: usize,
    /// Whether connections are reused.
    pub connections: Connections,
    /// Time between two interim reports.
    pub interval: Duration,
}

/// The planned end of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// After this time.
    Elapsed(Duration),
    /// After this many requests.
    Count(u64),
}

/// Whether requests share connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Connections {
    /// Keep-alive: idle connections are used again.
    Reused,
    /// Every request opens its own.
    New,
}

/// Settings that make no load. *Fatal* for the start; nothing was sent.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum LoadError {
    /// The URL is not a plain HTTP URL with a host.
    #[error("cannot send requests to {url:?}: {why}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// A number is out of its range.
    #[error("{0}")]
    Range(String),
}

/// Sends requests until the planned end or until `stop` completes, then waits for those under way.
///
/// `interim` gets, every interval, what was counted since the report before; the returned report counts
/// everything. Failures are counted, never returned as errors.
///
/// # Errors
/// [`LoadError`] for settings that make no load.
pub async fn run(
    settings: &LoadSettings,
    stop: impl Future<Output = ()>,
    mut interim: impl FnMut(&Report),
) -> Result<Report, LoadError> {
    let target = check(settings)?;
    let client = client(settings.connections);
    let started = Instant::now();
    let elapsed = || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let mut pace = tokio::time::interval(Duration::from_secs_f64(1.0 / settings.rate));
    // A held-up pace does not burst afterwards: the rate is an upper bound.
    pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut report_at = tokio::time::interval_at(started + settings.interval, settings.interval);
    let (planned, count) = match settings.until {
        Until::Elapsed(time) => (Some(started + time), u64::MAX),
        Until::Count(count) => (None, count),
    };
    let (mut recent, mut total) = (Tally::default(), Tally::default());
    let mut under_way = FuturesUnordered::new();
    let (mut sent, mut stopping) = (0_u64, false);
    tokio::pin!(stop);
    while !(under_way.is_empty() && (stopping || sent >= count)) {
        let may_send = !stopping && sent < count && under_way.len() < settings.concurrency;
        // Biased: stopping and reporting must not starve behind a fast target.
        tokio::select! {
            biased;
            () = &mut stop, if !stopping => stopping = true,
            () = sleep_until(planned), if !stopping => stopping = true,
            _ = report_at.tick() => {
                interim(&Report::new(elapsed(), std::mem::take(&mut recent)));
            }
            Some(outcome) = under_way.next(), if !under_way.is_empty() => {
                recent.count(&outcome);
                total.count(&outcome);
            }
            _ = pace.tick(), if may_send => {
                sent += 1;
                under_way.push(request(&client, &target, settings));
            }
        }
    }
    if !recent.is_empty() {
        interim(&Report::new(elapsed(), recent));
    }
    Ok(Report::new(elapsed(), total))
}

fn check(settings: &LoadSettings) -> Result<Uri, LoadError> {
    let refuse = |why: &str| LoadError::Url { url: settings.url.clone(), why: why.to_owned() };
    let uri: Uri = settings.url.parse().map_err(|error| refuse(&format!("{error}")))?;
    if uri.scheme_str() != Some("http") {
        return Err(refuse("only http:// URLs are supported"));
    }
    if uri.host().is_none_or(str::is_empty) {
        return Err(refuse("there is no host"));
    }
    let range = |ok: bool, text: &str| {
        if ok { Ok(()) } else { Err(LoadError::Range(text.to_owned())) }
    };
    range(
        settings.rate > 0.0 && settings.rate <= MAX_RATE,
        "the rate must be above 0 and at most 100000 per second",
    )?;
    range(settings.concurrency > 0, "the concurrency must be at least 1")?;
    range(!settings.timeout.is_zero(), "the timeout must be longer than 0")?;
    range(!settings.interval.is_zero(), "the interval must be longer than 0")?;
    Ok(uri)
}

fn client(connections: Connections) -> Client<HttpConnector, Empty<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let mut builder = Client::builder(TokioExecutor::new());
    builder.pool_timer(TokioTimer::new());
    if connections == Connections::New {
        builder.pool_max_idle_per_host(0);
    }
    builder.build(connector)
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

async fn request(
    client: &Client<HttpConnector, Empty<Bytes>>,
    target: &Uri,
    settings: &LoadSettings,
) -> Outcome {
    tokio::time::timeout(settings.timeout, exchange(client, target, settings))
        .await
        .unwrap_or_else(|_| Outcome::Failed("timeout".into()))
}

async fn exchange(
    client: &Client<HttpConnector, Empty<Bytes>>,
    target: &Uri,
    settings: &LoadSettings,
) -> Outcome {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = target.clone();
    if let Some(host) = settings.host.as_deref() {
        let Ok(host) = http::HeaderValue::from_str(host) else {
            return Outcome::Failed("the Host header is not valid".into());
        };
        request.headers_mut().insert(http::header::HOST, host);
    }
    if settings.connections == Connections::New {
        request.headers_mut().insert(http::header::CONNECTION, http::HeaderValue::from_static("close"));
    }
    let response = match client.request(request).await {
        Ok(response) => response,
        Err(error) => return Outcome::Failed(explain(&error)),
    };
    let (parts, body) = response.into_parts();
    if let Err(error) = Limited::new(body, BODY_LIMIT).collect().await {
        return Outcome::Failed(format!("body: {error}"));
    }
    Outcome::Answered {
        status: parts.status.as_u16(),
        version: text(&parts.headers, "x-app-version"),
        cluster: text(&parts.headers, "x-app-cluster"),
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    headers.get(name).map_or_else(|| "-".to_owned(), |v| String::from_utf8_lossy(v.as_bytes()).into_owned())
}

/// The stage that failed and the innermost cause: few distinct texts, so that they can be counted.
fn explain(error: &hyper_util::client::legacy::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    // Error chains are short; the bound guards against a cycle.
    for _ in 0..16 {
        match cause.source() {
            Some(inner) => cause = inner,
            None => break,
        }
    }
    let stage = if error.is_connect() { "connect" } else { "request" };
    format!("{stage}: {cause}")
}

#[cfg(test)]
mod tests;
