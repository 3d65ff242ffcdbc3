//! What is said when an answer breaks off.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use futures::StreamExt as _;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;

use super::server::{Ca, Server, frame, frames, until};
use super::*;

const H2: &[&str] = &["h2"];
const SHORT: Duration = Duration::from_millis(100);

/// Opens a stream, gets one chunk, then meets `last` when it opens another one. The end of the first.
async fn ending(last: impl Fn() -> Option<Vec<u8>> + Clone + Send + Sync + 'static) -> Ending {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(H2), move |stream| {
        let last = last.clone();
        frames(stream, move |kind, id| match (kind, id) {
            (frame::HEADERS, 1) => Some(
                [frame::write(frame::HEADERS, 4, 1, frame::OK), frame::write(frame::DATA, 0, 1, b"x")]
                    .concat(),
            ),
            (frame::HEADERS, _) => last(),
            _ => Some(Vec::new()),
        })
    });
    let server = server.await;
    let api = client(&server.config(&ca));
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    assert_eq!(watch.body.next().await, Some(Ok("x".into())));
    let poke = api.get("/poke".to_owned(), JSON);
    let end =
        async { tokio::time::timeout(Duration::from_secs(10), watch.body.next()).await.expect("in time") };
    let (_, end) = tokio::join!(tokio::time::timeout(Duration::from_secs(1), poke), end);
    match end {
        Some(Err(TransportError::Closed { server: name, ending })) => {
            assert_eq!(*name, *server.address.to_string());
            ending
        }
        other => panic!("{other:?}"),
    }
}

fn reset(code: u32) -> Vec<u8> {
    frame::write(frame::RST_STREAM, 0, 1, &code.to_be_bytes())
}

#[tokio::test]
async fn a_reset_stream_is_never_taken_for_a_complete_one() {
    // NO_ERROR and CANCEL too: a list that was cut there must not be believed.
    for code in [0, 2, 8, 11] {
        let ending = ending(move || Some(reset(code))).await;
        assert!(matches!(ending, Ending::Reset(_)), "{code}: {ending}");
    }
}

#[tokio::test]
async fn a_closed_connection_is_called_so() {
    let ending = ending(|| None).await;
    assert_eq!(ending, Ending::Connection("by the server".into()));
}

#[tokio::test]
async fn a_stream_above_goaways_last_one_is_told_of_it() {
    let ending = ending(|| Some(frame::goaway(0, 11))).await;
    assert!(matches!(&ending, Ending::GoAway(reason) if !reason.is_empty()), "{ending}");
}

#[tokio::test]
async fn broken_frames_are_a_protocol_error() {
    let ending = ending(|| Some(frame::write(frame::PING, 0, 0, b"short"))).await;
    assert!(matches!(ending, Ending::Protocol(_)), "{ending}");
}

#[tokio::test]
async fn k_05_a_peer_that_does_not_answer_pings_is_given_up() {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(H2), |stream| {
        frames(stream, |kind, id| {
            Some(match kind {
                frame::HEADERS => frame::write(frame::HEADERS, 4, id, frame::OK),
                _ => Vec::new(),
            })
        })
    });
    let server = server.await;
    let api = patient(&server.config(&ca), |patience| (patience.ping, patience.pong) = (SHORT, SHORT));
    let mut watch = api.get("/watch".to_owned(), JSON).await.unwrap();
    let end = tokio::time::timeout(Duration::from_secs(10), watch.body.next()).await.expect("in time");
    let error = end.expect("an end").unwrap_err();
    assert!(matches!(error, TransportError::Closed { ending: Ending::Ping, .. }), "{error}");
    until("the connection is gone", || api.traffic().connections_open() == 0).await;
}

#[tokio::test]
async fn k_05_pings_go_on_while_nothing_is_asked() {
    let ca = Ca::new("ca");
    let pings = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&pings);
    let server = Server::start(ca.server(H2), move |stream| {
        let counted = Arc::clone(&counted);
        frames(stream, move |kind, id| {
            Some(match kind {
                frame::HEADERS => frame::write(frame::HEADERS, 5, id, frame::OK),
                frame::PING => {
                    counted.fetch_add(1, SeqCst);
                    // The payload of the library's PINGs is its own; without the right one this is no answer.
                    Vec::new()
                }
                _ => Vec::new(),
            })
        })
    });
    let server = server.await;
    let api = patient(&server.config(&ca), |patience| (patience.ping, patience.pong) = (SHORT, SHORT));
    assert_eq!(get(&api, "/list").await.unwrap().0, 200);
    until("a PING on an idle connection", || pings.load(SeqCst) > 0).await;
    until("an idle connection that does not answer is given up", || api.traffic().connections_open() == 0)
        .await;
}

#[tokio::test]
async fn a_server_that_never_shakes_hands_is_given_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let api = patient(&kube::Config::new(url.parse().unwrap()), |patience| patience.tls = SHORT);
    let error = get(&api, "/").await.unwrap_err();
    assert!(matches!(error, TransportError::Deadline { phase: "the TLS handshake", .. }), "{error}");
}

#[tokio::test]
async fn what_is_not_tls_and_what_nobody_listens_on_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let api = client(&kube::Config::new(format!("https://{address}").parse().unwrap()));
    let plain = async {
        let (mut tcp, _) = listener.accept().await.unwrap();
        tcp.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await.unwrap();
        tcp
    };
    let (error, tcp) = tokio::join!(get(&api, "/"), plain);
    assert!(matches!(error, Err(TransportError::Tls { .. })), "{error:?}");
    drop((listener, tcp));
    let error = get(&api, "/").await.unwrap_err();
    assert!(matches!(error, TransportError::Connect { .. }), "{error}");
    assert!(error.to_string().starts_with(&address.to_string()), "{error}");
}

#[tokio::test]
async fn an_http_1_1_body_that_is_cut_is_an_error() {
    let ca = Ca::new("ca");
    let server = Server::start(ca.server(&["http/1.1"]), |mut stream| async move {
        use tokio::io::AsyncReadExt as _;
        let _ = stream.read(&mut [0; 4096]).await;
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf").await;
        let _ = stream.shutdown().await;
    });
    let server = server.await;
    let error = get(&client(&server.config(&ca)), "/").await.unwrap_err();
    assert!(matches!(error, TransportError::Closed { ending: Ending::Connection(_), .. }), "{error}");
}
