//! What the fuzz targets and the smoke test do with bytes: read them as something a foreign cluster or an operator
//! could have written. None may panic or hang, and what is kept of a list has room in its bytes; what reading takes
//! besides is measured by tests/decode_memory.rs.

use tombolo::ingest::client::AddressPolicy;
use tombolo::ingest::convert::Advertised;
use tombolo::ingest::kubeconfig::RemoteKubeconfig;
use tombolo::ingest::objects::wire::{
    Encoding, Framer, ListPage, decode_frame, decode_list, decode_one, decode_status,
};
use tombolo::ingest::objects::{
    ConfigMapObject, GatewayObject, NamespaceObject, NodeObject, Object, PodObject, SecretObject,
    ServiceExportObject, ServiceImportObject, ServiceObject, SliceObject,
};
use tombolo::ingest::options::StalePolicy;
use tombolo::ingest::snapshot::{self, Pin, Snapshot};
use tombolo::registry::ClusterState;
use xxhash_rust::xxh3::xxh3_128;

/// Kinds that [`objects`] chooses from by its first byte.
pub(crate) const KINDS: u8 = 10;

/// The first byte chooses kind and encoding; the rest is read as an object, an event, a list and an answer.
pub(crate) fn objects(data: &[u8]) {
    let Some((choice, bytes)) = data.split_first() else { return };
    let encoding = if (choice / KINDS).is_multiple_of(2) { Encoding::Json } else { Encoding::Protobuf };
    match choice % KINDS {
        0 => object::<NamespaceObject>(encoding, bytes),
        1 => object::<NodeObject>(encoding, bytes),
        2 => object::<PodObject>(encoding, bytes),
        3 => object::<ServiceObject>(encoding, bytes),
        4 => object::<SecretObject>(encoding, bytes),
        5 => object::<ConfigMapObject>(encoding, bytes),
        6 => object::<SliceObject>(encoding, bytes),
        7 => object::<GatewayObject>(encoding, bytes),
        8 => object::<ServiceExportObject>(encoding, bytes),
        _ => object::<ServiceImportObject>(encoding, bytes),
    }
}

fn object<T: Object>(encoding: Encoding, bytes: &[u8]) {
    if let Ok(received) = decode_one::<T>(encoding, bytes) {
        assert!(received.object.is_err() || !received.key.name.is_empty(), "what is read has a name");
        reason_is_short(&received.object);
    }
    let _ = decode_frame::<T>(encoding, bytes);
    let _ = T::from_protobuf(bytes);
    if let Ok(ListPage { items, revision, .. }) = decode_list::<T>(encoding, bytes) {
        assert!(!revision.is_empty() && items.len() <= bytes.len());
        let entries = items.iter().filter_map(|item| Some(item.object.as_ref().ok()?.entries()));
        assert!(entries.sum::<usize>() <= bytes.len(), "what says nothing is not kept");
        items.iter().for_each(|item| reason_is_short(&item.object));
    }
    let status = decode_status(bytes, None, 500);
    assert!(status.message.chars().count() <= 200 && status.causes.len() <= 8);
}

fn reason_is_short<T>(object: &Result<T, String>) {
    assert!(object.as_ref().err().is_none_or(|reason| reason.chars().count() <= 200));
}

/// The most a frame may have here.
const FRAME: usize = 4096;

/// The first two bytes choose the encoding and how the rest is cut into chunks. The frames do not depend on the cut.
pub(crate) fn frames(data: &[u8]) {
    let [choice, cut, body @ ..] = data else { return };
    let encoding = if choice.is_multiple_of(2) { Encoding::Json } else { Encoding::Protobuf };
    let whole = cut_into_frames(encoding, body, body.len().max(1));
    let pieces = cut_into_frames(encoding, body, usize::from(*cut).max(1));
    assert!(whole.iter().map(Vec::len).sum::<usize>() <= body.len());
    // A frame that is too long is told at another place, if the cut says so earlier.
    assert!(whole.iter().zip(&pieces).all(|(a, b)| a == b));
}

fn cut_into_frames(encoding: Encoding, body: &[u8], chunk: usize) -> Vec<Vec<u8>> {
    let mut framer = Framer::new(encoding, FRAME);
    let mut frames = Vec::new();
    for chunk in body.chunks(chunk) {
        framer.push(chunk);
        loop {
            match framer.next() {
                Ok(Some(frame)) => {
                    assert!(frame.len() <= FRAME);
                    let _ = decode_frame::<SliceObject>(encoding, &frame);
                    frames.push(frame.to_vec());
                }
                Ok(None) => break,
                Err(_) => return frames,
            }
        }
    }
    let _ = framer.is_between_frames();
    frames
}

/// A kubeconfig from a Secret or a file.
pub(crate) fn kubeconfig(data: &[u8]) {
    if let Err(refusal) = RemoteKubeconfig::parse(data, AddressPolicy::Remote) {
        assert!(!refusal.to_string().is_empty());
    }
}

/// Where the head of a snapshot's file says how long the body is and what it sums up to.
const LENGTH: std::ops::Range<usize> = 16..24;

/// A snapshot's file; then the same bytes as the body of a file whose head is right.
pub(crate) fn snapshot(data: &[u8]) {
    let _ = snapshot::parse(data);
    let mut file = empty_snapshot();
    file.truncate(LENGTH.end);
    file[LENGTH].copy_from_slice(&(data.len() as u64).to_le_bytes());
    let sum = xxh3_128(&[&file, data].concat());
    file.extend_from_slice(&sum.to_le_bytes());
    file.extend_from_slice(data);
    let read = snapshot::parse(&file);
    assert!(matches!(read, Ok(_) | Err(snapshot::Corrupt::Content(_))), "the head is right: {read:?}");
    if let Ok(snapshot) = read {
        assert!(snapshot::parse(&snapshot::write(&snapshot)).is_ok(), "what is read can be written and read");
    }
}

/// The file of a cluster without anything.
pub(crate) fn empty_snapshot() -> Vec<u8> {
    snapshot::write(&Snapshot {
        cluster: "west".into(),
        pin: Pin { server: "https://1.2.3.4:6443".to_owned(), ca: Some([7; 32]) },
        uid: "u-1".into(),
        confirmed: std::time::SystemTime::UNIX_EPOCH,
        terms: snapshot::Terms {
            trusted: ["n2".into()].into(),
            advertised: Advertised::parse("+gw.example.com:443,[2001:db8::1]:1").0,
            stale: StalePolicy::Drop(std::time::Duration::from_secs(90)),
            trust_domain: "td".into(),
        },
        addresses: [("gw.example.com".into(), vec!["192.0.2.1".parse().expect("an address")])].into(),
        mesh_networks: Some("networks: {}".into()),
        mesh_config: Some("trustDomain: td".into()),
        policies: Some("[]".into()),
        state: ClusterState::default(),
    })
}
