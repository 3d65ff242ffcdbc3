//! How many connections there are, and what shares them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::Bytes;
use futures::StreamExt as _;
use futures::future::join_all;

use super::server::{Accepted, Ca, Seen, Server, frame, frames, frames_after, http, live, text, until};
use super::*;
use crate::ingest::client::connection::{MAX_STREAMS, STREAM_WINDOW};

const BOTH: &[&str] = &["h2", "http/1.1"];

/// Answers lists at once and keeps watches open.
fn lists_and_watches(
    held: Seen<tokio::sync::mpsc::UnboundedSender<Bytes>>,
) -> impl Fn(http::Request<hyper::body::Incoming>) -> server::Answering {
    move |request| {
        if request.uri().query().is_some_and(|query| query.contains("watch=1")) {
            let (sender, answer) = live();
            held.lock().unwrap().push(sender);
            return answer;
        }
        text(200, request.uri().path().to_owned())
    }
}

#[tokio::test]
async fn k43_an_http_2_server_sees_one_connection_however_much_is_asked_at_once() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(BOTH), lists_and_watches(held)).await;
    let api = client(&server.config(&ca));
    let watches = join_all((0..20).map(|n| api.get(format!("/api/v1/kind{n}?watch=1"), JSON))).await;
    assert!(watches.iter().all(|watch| watch.as_ref().is_ok_and(|answer| answer.status == 200)));
    for round in 0..5 {
        let lists = join_all((0..50).map(|n| get(&api, if n % 2 == 0 { "/a" } else { "/b" }))).await;
        assert!(lists.iter().all(Result::is_ok), "round {round}");
    }
    assert_eq!(server.accepted(), 1);
    assert_eq!((api.traffic().connections_opened(), api.traffic().connections_open()), (1, 1));
    assert!(api.traffic().bytes_in() > 0 && api.traffic().since_contact().is_some());
    drop((watches, api));
}

#[tokio::test]
async fn streams_beyond_what_one_connection_carries_open_another_one() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(BOTH), lists_and_watches(held)).await;
    let api = client(&server.config(&ca));
    let path = |n: usize| format!("/api/v1/namespaces/ns{n}/pods?watch=1");
    let mut watches = join_all((0..MAX_STREAMS).map(|n| api.get(path(n), JSON))).await;
    assert_eq!(server.accepted(), 1);
    watches.extend(join_all((0..MAX_STREAMS).map(|n| api.get(path(n), JSON))).await);
    assert!(watches.iter().all(Result::is_ok));
    assert_eq!(server.accepted(), 2);
    // Ended streams make room again.
    watches.truncate(MAX_STREAMS);
    let again = join_all((0..MAX_STREAMS).map(|n| api.get(path(n), JSON))).await;
    assert!(again.iter().all(Result::is_ok));
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_stream_that_nobody_reads_does_not_hold_up_the_others() {
    let ca = Ca::new("ca");
    let server = Server::answering(ca.server(BOTH), |request| match request.uri().path() {
        "/large" => text(200, vec![b'x'; 3 << 20]),
        _ => text(200, "small"),
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    let unread = join_all((0..20).map(|_| api.get("/large".to_owned(), JSON))).await;
    assert!(unread.iter().all(Result::is_ok));
    let buffered = api.traffic().bytes_in();
    assert!(buffered <= 20 * u64::from(STREAM_WINDOW) * 9 / 8, "{buffered} bytes that nobody reads");
    const { assert!(STREAM_WINDOW <= 256 << 10) };
    let small = tokio::time::timeout(Duration::from_secs(10), get(&api, "/small")).await;
    assert_eq!(small.expect("in time").unwrap().1, "small");
    for answer in unread {
        assert_eq!(read(answer.unwrap()).await.unwrap().len(), 3 << 20);
    }
    assert_eq!(server.accepted(), 1);
}

#[tokio::test]
async fn http_1_1_is_spoken_where_there_is_nothing_better() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(&["http/1.1"]), lists_and_watches(held.clone())).await;
    let api = client(&server.config(&ca));
    let lists = join_all((0..3).map(|_| get(&api, "/list"))).await;
    assert!(lists.into_iter().all(|list| list == Ok((200, "/list".to_owned()))));
    let after_burst = server.accepted();
    assert!(after_burst <= 3, "{after_burst}");
    for _ in 0..10 {
        get(&api, "/list").await.unwrap();
    }
    assert_eq!(server.accepted(), after_burst, "idle connections are used again");
    let mut watch = api.get("/pods?watch=1".to_owned(), JSON).await.unwrap();
    get(&api, "/list").await.unwrap();
    held.lock().unwrap()[0].send("event".into()).unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
}

#[tokio::test]
async fn an_idle_http_1_1_connection_that_the_server_closed_is_replaced_without_a_word() {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(&["http/1.1"]), |mut stream| async move {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        // Answers once, then closes as soon as the next request is there.
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let _ = stream.flush().await;
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.shutdown().await;
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    for _ in 0..3 {
        assert_eq!(get(&api, "/").await.unwrap(), (200, "ok".to_owned()));
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn goaway_is_invisible_to_requests_that_the_server_has_not_looked_at() {
    let ca = Ca::new("ca");
    let turns = Arc::new(AtomicUsize::new(0));
    let server = Server::start(ca.server(BOTH), move |stream: Accepted| {
        let first = turns.fetch_add(1, SeqCst) == 0;
        async move {
            if !first {
                return http(stream, Arc::new(|_| text(200, "new"))).await;
            }
            // The first stream gets its headers; the second one meets a server that says goodbye.
            frames(stream, |kind, id| {
                Some(match (kind, id) {
                    (frame::HEADERS, 1) => frame::write(frame::HEADERS, 4, 1, frame::OK),
                    (frame::HEADERS, _) => {
                        [frame::goaway(1, 0), frame::write(frame::DATA, 1, 1, b"old")].concat()
                    }
                    _ => Vec::new(),
                })
            })
            .await;
        }
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    let old = api.get("/watch".to_owned(), JSON).await.unwrap();
    assert_eq!(get(&api, "/list").await.unwrap(), (200, "new".to_owned()));
    assert_eq!(get(&api, "/list").await.unwrap(), (200, "new".to_owned()));
    assert_eq!(read(old).await.unwrap(), b"old", "what the server has taken on goes on");
    assert_eq!(server.accepted(), 2);
}

#[tokio::test]
async fn a_graceful_shutdown_of_a_real_server_loses_no_request_and_no_stream() {
    let ca = Ca::new("ca");
    let (stop, stopping) = tokio::sync::watch::channel(false);
    let (sender, answer) = live();
    let answer = Arc::new(std::sync::Mutex::new(Some(answer)));
    let server = Server::start(ca.server(BOTH), move |stream: Accepted| {
        let (mut stopping, answer) = (stopping.clone(), Arc::clone(&answer));
        async move {
            let service = hyper::service::service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let watch = request.uri().path() == "/watch";
                let held = watch.then(|| answer.lock().unwrap().take()).flatten();
                async move { Ok::<_, std::convert::Infallible>(held.unwrap_or_else(|| text(200, "list"))) }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let builder = hyper::server::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            if !*stopping.borrow() {
                tokio::select! {
                    _ = &mut connection => return,
                    _ = stopping.wait_for(|stop| *stop) => connection.as_mut().graceful_shutdown(),
                }
            }
            let _ = connection.await;
        }
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    stop.send_replace(true);
    for _ in 0..20 {
        assert_eq!(get(&api, "/list").await.unwrap().1, "list");
    }
    assert_eq!(server.accepted(), 2);
    sender.send("event".into()).unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
    drop(sender);
    assert_eq!(watch.body.next().await, None);
}

#[tokio::test]
async fn refused_streams_are_sent_again_but_not_for_ever() {
    let ca = Ca::new("ca");
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    let server = Server::start(ca.server(BOTH), move |stream| {
        let counted = Arc::clone(&counted);
        frames(stream, move |kind, id| {
            if kind == frame::HEADERS {
                counted.fetch_add(1, SeqCst);
                return Some(frame::write(frame::RST_STREAM, 0, id, &7_u32.to_be_bytes()));
            }
            Some(Vec::new())
        })
    });
    let server = server.await;
    let error = get(&client(&server.config(&ca)), "/").await.unwrap_err();
    assert!(matches!(&error, TransportError::Closed { ending: Ending::Reset(_), .. }), "{error}");
    assert_eq!(requests.load(SeqCst), 4);
}

#[tokio::test]
async fn a_server_that_permits_no_streams_does_not_cost_a_socket_per_attempt() {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(BOTH), |stream| async move {
        // MAX_CONCURRENT_STREAMS: none.
        frames_after(stream, &[0, 3, 0, 0, 0, 0], |_, _| Some(Vec::new())).await;
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    for _ in 0..20 {
        let answer = tokio::time::timeout(Duration::from_millis(40), get(&api, "/")).await;
        assert!(answer.is_err() || answer.unwrap().is_err());
    }
    until("few sockets", || api.traffic().connections_open() <= 2).await;
}

#[tokio::test]
async fn a_server_that_permits_one_stream_gets_a_bounded_number_of_connections() {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(BOTH), |stream| async move {
        frames_after(stream, &[0, 3, 0, 0, 0, 1], |kind, id| {
            Some(if kind == frame::HEADERS {
                frame::write(frame::HEADERS, 4, id, frame::OK)
            } else {
                Vec::new()
            })
        })
        .await;
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    let mut held = Vec::new();
    let mut refused = 0;
    for _ in 0..70 {
        match tokio::time::timeout(Duration::from_secs(5), api.get("/watch".to_owned(), JSON)).await {
            Ok(Ok(answer)) => held.push(answer),
            _ => {
                refused += 1;
                break;
            }
        }
    }
    assert_eq!(refused, 1, "after {} connections", held.len());
    assert!((60..=66).contains(&held.len()), "{}", held.len());
    assert!(server.accepted() <= 70, "{}", server.accepted());
}

#[tokio::test]
async fn connections_that_are_no_longer_needed_are_closed() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(BOTH), lists_and_watches(held)).await;
    let api = client(&server.config(&ca));
    let path = |n: usize| format!("/api/v1/namespaces/ns{n}/pods?watch=1");
    let mut watches = join_all((0..MAX_STREAMS).map(|n| api.get(path(n), JSON))).await;
    watches.extend(join_all((0..2).map(|n| api.get(path(n), JSON))).await);
    assert_eq!(api.traffic().connections_open(), 2);
    watches.clear();
    get(&api, "/list").await.unwrap();
    until("one connection", || api.traffic().connections_open() == 1).await;
}

#[tokio::test]
async fn k12_a_suspected_connection_gets_no_new_requests_and_keeps_its_streams() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(BOTH), lists_and_watches(held.clone())).await;
    let api = patient(&server.config(&ca), |patience| patience.young = Duration::ZERO);
    let mut watch = api.get("/pods?watch=1".to_owned(), JSON).await.unwrap();
    get(&api, "/list").await.unwrap();
    assert_eq!(server.accepted(), 1);
    api.suspect_connection();
    get(&api, "/list").await.unwrap();
    assert_eq!(server.accepted(), 2);
    held.lock().unwrap()[0].send("event".into()).unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("event".into())));
    // A new connection is not suspected again and again: who asks too often gets it once more.
    let api = client(&server.config(&ca));
    for _ in 0..5 {
        get(&api, "/list").await.unwrap();
        api.suspect_connection();
    }
    assert_eq!(server.accepted(), 3);
}

#[tokio::test]
async fn k43_a_server_that_begins_to_speak_http_2_gets_one_connection_for_it() {
    let (ca, held) = (Ca::new("ca"), Seen::default());
    let server = Server::answering(ca.server(&["http/1.1"]), lists_and_watches(held)).await;
    let api = client(&server.config(&ca));
    get(&api, "/list").await.unwrap();
    server.exchange_certificate(ca.server(BOTH));
    // One goes on the connection that is there; the others dial, each for itself.
    let watches = join_all((0..10).map(|n| api.get(format!("/api/v1/kind{n}?watch=1"), JSON))).await;
    assert!(watches.iter().all(Result::is_ok));
    get(&api, "/list").await.unwrap();
    until("two connections", || api.traffic().connections_open() <= 2).await;
    let accepted = server.accepted();
    let more = join_all((0..10).map(|n| api.get(format!("/api/v1/more{n}?watch=1"), JSON))).await;
    assert!(more.iter().all(Result::is_ok));
    assert_eq!((server.accepted(), api.traffic().connections_open()), (accepted, 2));
}
