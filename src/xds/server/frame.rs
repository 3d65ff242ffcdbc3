//! A response as one gRPC message: the shared bytes of its resources between a few bytes of its own.

use std::collections::VecDeque;

use bytes::{BufMut, Bytes, BytesMut};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

use super::joined::{Contents, Joined};
use crate::proto::discovery::{DeltaDiscoveryResponse, DiscoveryResponse};

/// The pieces of one message, in order.
pub(in crate::xds) type Chunks = VecDeque<Bytes>;

/// Resources from this size on are sent from where they are; smaller ones are copied together, because a write each
/// costs more than the copy (performance.md §2).
const SHARED_FROM: usize = 16 << 10;
/// The flag and the length in front of every gRPC message.
const PREFIX: usize = 5;
/// The field `resources` of both messages.
const RESOURCES: u32 = 2;

/// Responses with so many bytes of small resources are put together once for all streams that send the same.
const JOINED_FROM: usize = 64 << 10;

/// Where whole responses are shared, and what this one is; `None` for one that is not to be shared.
pub(in crate::xds) type Sharing<'a> = Option<(&'a Joined, Contents)>;

/// Frames a state-of-the-world response.
pub(in crate::xds) fn sotw(response: &DiscoveryResponse, sharing: Sharing<'_>) -> Chunks {
    let texts = [(1, &response.version_info), (4, &response.type_url), (5, &response.nonce)];
    frame(&texts, &response.resources, sharing)
}

/// Frames a delta response.
pub(in crate::xds) fn delta(response: &DeltaDiscoveryResponse, sharing: Sharing<'_>) -> Chunks {
    let mut texts = vec![(1, &response.system_version_info), (4, &response.type_url), (5, &response.nonce)];
    texts.extend(response.removed_resources.iter().map(|name| (6, name)));
    frame(&texts, &response.resources, sharing)
}

/// Fields of protobuf may come in any order: the texts first, then the resources.
fn frame(texts: &[(u32, &String)], resources: &[Bytes], sharing: Sharing<'_>) -> Chunks {
    let head: usize = texts.iter().map(|(tag, text)| field_len(*tag, text.len())).sum();
    let (mut total, mut own) = (head, PREFIX + head);
    for resource in resources {
        let framed = field_len(RESOURCES, resource.len());
        total += framed;
        own += if resource.len() < SHARED_FROM { framed } else { framed - resource.len() };
    }
    // Where most of it is sent from where it is, a copy would cost more than it spares.
    let small = own - head - PREFIX;
    let sharing = sharing.filter(|_| small >= JOINED_FROM && 2 * small >= total - head);
    let mut chunks = Chunks::new();
    let mut buffer = BytesMut::with_capacity(if sharing.is_some() { PREFIX + head } else { own });
    buffer.put_u8(0);
    buffer.put_u32(u32::try_from(total).expect("resources of one stream are far below 4 GiB"));
    for (tag, text) in texts {
        put_key(*tag, text.len(), &mut buffer);
        buffer.put_slice(text.as_bytes());
    }
    if let Some((joined, contents)) = sharing {
        chunks.push_back(buffer.freeze());
        let is_ours = |section: &[u8]| section.len() == total - head && is_joined(section, resources);
        chunks.push_back(joined.bytes(contents, is_ours, || join(resources, total - head)));
        return chunks;
    }
    for resource in resources {
        put_key(RESOURCES, resource.len(), &mut buffer);
        if resource.len() < SHARED_FROM {
            buffer.put_slice(resource);
        } else {
            chunks.push_back(buffer.split().freeze());
            chunks.push_back(resource.clone());
        }
    }
    if !buffer.is_empty() {
        chunks.push_back(buffer.freeze());
    }
    chunks
}

/// All resources as fields, one after the other.
fn join(resources: &[Bytes], length: usize) -> Vec<u8> {
    let mut all = Vec::with_capacity(length);
    for resource in resources {
        put_key(RESOURCES, resource.len(), &mut all);
        all.put_slice(resource);
    }
    all
}

/// Whether these are all resources as fields, one after the other.
fn is_joined(mut section: &[u8], resources: &[Bytes]) -> bool {
    let mut next = |bytes: &[u8]| match section.split_at_checked(bytes.len()) {
        Some((head, rest)) => {
            section = rest;
            head == bytes
        }
        None => false,
    };
    let mut key = Vec::with_capacity(PREFIX);
    resources.iter().all(|resource| {
        key.clear();
        put_key(RESOURCES, resource.len(), &mut key);
        next(&key) && next(resource)
    })
}

fn field_len(tag: u32, len: usize) -> usize {
    key_len(tag) + encoded_len_varint(len as u64) + len
}

fn put_key(tag: u32, len: usize, buffer: &mut impl BufMut) {
    encode_key(tag, WireType::LengthDelimited, buffer);
    encode_varint(len as u64, buffer);
}

#[cfg(test)]
mod tests {
    use prost::Message;

    use super::*;
    use crate::xds::resource::ResourceType;

    /// The message inside the frame, whose prefix must tell its length.
    fn unframed(chunks: &Chunks) -> Bytes {
        let mut all = BytesMut::new();
        chunks.iter().for_each(|chunk| all.extend_from_slice(chunk));
        let all = all.freeze();
        assert_eq!(all[0], 0);
        let length = u32::from_be_bytes(all[1..PREFIX].try_into().expect("4 bytes"));
        assert_eq!(length as usize, all.len() - PREFIX);
        all.slice(PREFIX..)
    }

    fn resources(sizes: &[usize]) -> Vec<Bytes> {
        sizes.iter().zip(1_u8..).map(|(size, fill)| Bytes::from(vec![fill; *size])).collect()
    }

    #[test]
    fn framed_responses_decode_to_what_they_were() {
        for sizes in [&[][..], &[0, 1, 200], &[SHARED_FROM, 3, SHARED_FROM - 1, 70_000], &[100_000]] {
            let delta = DeltaDiscoveryResponse {
                system_version_info: "v".into(),
                resources: resources(sizes),
                type_url: "type.googleapis.com/x".into(),
                nonce: "12".into(),
                removed_resources: vec!["gone".into(), String::new()],
            };
            let read =
                DeltaDiscoveryResponse::decode(unframed(&super::delta(&delta, None))).expect("a response");
            assert_eq!(read, delta);
            let sotw = DiscoveryResponse {
                version_info: "v".into(),
                resources: resources(sizes),
                type_url: "type.googleapis.com/x".into(),
                nonce: "12".into(),
            };
            assert_eq!(
                DiscoveryResponse::decode(unframed(&super::sotw(&sotw, None))).expect("a response"),
                sotw
            );
        }
    }

    #[test]
    fn large_resources_are_sent_from_where_they_are_and_small_ones_together() {
        let parts = resources(&[10, 20, 100_000, 30, 40]);
        let response = DiscoveryResponse { resources: parts.clone(), ..DiscoveryResponse::default() };
        let chunks = sotw(&response, None);
        assert_eq!(chunks.len(), 3);
        assert_eq!(chunks[1].as_ptr(), parts[2].as_ptr());
    }

    #[test]
    fn large_responses_are_shared_but_for_what_is_a_streams_own() {
        let joined = Joined::default();
        let contents = Contents { kind: ResourceType::Endpoint, delta: true, digest: 1 };
        let response = |nonce: &str, sizes: &[usize]| DeltaDiscoveryResponse {
            resources: resources(sizes),
            nonce: nonce.into(),
            ..DeltaDiscoveryResponse::default()
        };
        let many = [9_000; 8];
        let (one, two) = (response("1", &many), response("22", &many));
        let framed = [&one, &two].map(|response| delta(response, Some((&joined, contents))));
        for (response, chunks) in [&one, &two].into_iter().zip(&framed) {
            assert_eq!(DeltaDiscoveryResponse::decode(unframed(chunks)).expect("a response"), *response);
        }
        assert_eq!(framed[0][1].as_ptr(), framed[1][1].as_ptr());
        assert_eq!(joined.made(), 1);
        // Other resources that claim to be the same get their own bytes.
        let forged = response("4", &[9_000, 9_000, 9_000, 9_000, 9_000, 9_000, 9_000, 9_001]);
        let chunks = delta(&forged, Some((&joined, contents)));
        assert_eq!(DeltaDiscoveryResponse::decode(unframed(&chunks)).expect("a response"), forged);
        // Small ones, and large resources that are sent from where they are, are not worth it.
        for sizes in [&[100; 8][..], &[200_000, 10]] {
            delta(&response("3", sizes), Some((&joined, Contents { digest: 2, ..contents })));
        }
        assert_eq!(joined.made(), 1);
    }
}
