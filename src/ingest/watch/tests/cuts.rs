//! Bodies that are cut at every byte: K-24.

use super::*;

/// All bytes of an answer, up to where it would go on for ever.
fn bytes(reply: Reply) -> (String, Vec<u8>) {
    let Reply::Answer { content_type, body, .. } = reply else { panic!("no answer") };
    let bytes = body.into_iter().filter_map(|piece| match piece {
        Piece::Bytes(bytes) => Some(bytes),
        _ => None,
    });
    (content_type.unwrap(), bytes.flatten().collect())
}

/// The first `length` bytes, then a reset or an orderly end.
fn cut(content_type: &str, whole: &[u8], length: usize, reset: bool) -> Reply {
    let end = if reset { vec![Piece::Break] } else { Vec::new() };
    let body = [Piece::Bytes(whole[..length].to_vec())].into_iter().chain(end);
    Reply::body(content_type, body.collect())
}

/// A server with a ghost in its first answer to `what`, cut after `length` bytes; the ghost is gone afterwards.
async fn list_cut(
    encoding: Encoding,
    streams: Streams,
    what: For,
    length: Option<usize>,
    reset: bool,
) -> usize {
    let world = World::new(&["a", "ghost"]).speaking(encoding).streaming(streams);
    let asked = Asked { at: Instant::now(), url: url(what).to_owned(), accept: accept(encoding) };
    let (kind, whole) = bytes(world.answer(&asked));
    let length = length.unwrap_or(whole.len()).min(whole.len());
    let script = script(&world, first(what, vec![cut(&kind, &whole, length, reset)]));
    let mut consumer = Consumer::new(&script);
    world.delete("ghost");
    consumer.run(seconds(1)).await;
    consumer.run(seconds(20)).await;
    assert_eq!(consumer.held, world.truth(), "{encoding:?} {what:?} cut after {length} of {}", whole.len());
    if length < whole.len() - 1 {
        let done = consumer.story.iter().position(|(_, line)| line.starts_with("done")).unwrap();
        assert!(consumer.story[..done].iter().all(|(_, line)| !line.starts_with("apply")));
    }
    whole.len()
}

fn url(what: For) -> &'static str {
    match what {
        For::StreamingList => "/x?sendInitialEvents=true",
        _ => "/x?limit=500",
    }
}

fn accept(encoding: Encoding) -> &'static str {
    match encoding {
        Encoding::Json => "application/json",
        Encoding::Protobuf => "application/vnd.kubernetes.protobuf",
    }
}

async fn lists_cut_everywhere(streams: Streams, what: For) {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let whole = list_cut(encoding, streams, what, None, false).await;
        assert!(whole > 100);
        for length in 0..whole {
            list_cut(encoding, streams, what, Some(length), length % 2 == 0).await;
        }
        for length in whole - 8..whole {
            list_cut(encoding, streams, what, Some(length), length % 2 == 1).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn k24_a_streaming_list_cut_at_any_byte_leaves_no_ghost() {
    lists_cut_everywhere(Streams::Served, For::StreamingList).await;
}

#[tokio::test(start_paused = true)]
async fn k24_a_page_cut_at_any_byte_leaves_no_ghost() {
    lists_cut_everywhere(Streams::Refused, For::FirstPage).await;
}

/// A watch that is cut goes on where it was: no event is lost, none is told in part.
async fn watch_cut(encoding: Encoding, length: Option<usize>, reset: bool) -> usize {
    let world = World::new(&["a", "b"]).speaking(encoding).streaming(Streams::Refused);
    let mut fault = length.map(|length| (length, reset));
    let inner = world.clone();
    let script = Script::new(move |asked| match (asked.is_for(), fault) {
        (For::Watch, Some((length, reset))) => {
            fault = None;
            let (kind, whole) = bytes(inner.answer(asked));
            cut(&kind, &whole, length.min(whole.len()), reset)
        }
        (For::FirstPage, _) => {
            let listed = inner.answer(asked);
            inner.set("a", "n1");
            inner.delete("b");
            inner.set("c", "n2");
            listed
        }
        _ => inner.answer(asked),
    });
    let mut consumer = Consumer::new(&script);
    consumer.run(seconds(20)).await;
    assert_eq!(consumer.held, world.truth(), "{encoding:?} cut at {length:?}");
    let changes: Vec<_> = consumer
        .told()
        .into_iter()
        .filter(|line| line.starts_with("apply") || line.starts_with("delete"))
        .collect();
    assert_eq!(changes, ["apply a=n1", "delete b", "apply c=n2"], "each once, in order: {length:?}");
    assert_eq!(consumer.times("init"), 1, "no list is needed");
    let asked = Asked {
        at: Instant::now(),
        url: "/x?watch=true&resourceVersion=10".to_owned(),
        accept: accept(encoding),
    };
    bytes(world.answer(&asked)).1.len()
}

#[tokio::test(start_paused = true)]
async fn k24_a_watch_cut_at_any_byte_loses_nothing_and_tells_nothing_twice() {
    for encoding in [Encoding::Json, Encoding::Protobuf] {
        let whole = watch_cut(encoding, None, false).await;
        assert!(whole > 100);
        for length in 0..=whole {
            watch_cut(encoding, Some(length), true).await;
            watch_cut(encoding, Some(length), false).await;
        }
    }
}
