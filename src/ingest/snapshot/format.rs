//! The bytes of a file: a head that says what it is, and a protobuf message that nobody reads before its
//! checksum was right.
//!
//! ```text
//! 0   8  "tombolo\0"
//! 8   4  version of the format, little-endian
//! 12  4  0
//! 16  8  length of the body, little-endian
//! 24  16 xxh3-128 of bytes 0…23 and the body, little-endian
//! 40  …  the body: `tombolo.snapshot.Snapshot`
//! ```

use xxhash_rust::xxh3::Xxh3;

use super::{Snapshot, decode, encode};

const MAGIC: &[u8; 8] = b"tombolo\0";
/// Raised when an older version would misunderstand a body, or when a body of before lacks what a restart needs;
/// fields that may be ignored do not raise it.
const VERSION: u32 = 4;
const CHECKED_HEAD: usize = 24;
const HEAD: usize = CHECKED_HEAD + 16;
/// The largest file that is read: some two million endpoints.
pub const MAX_BYTES: usize = 256 << 20;

/// *Skipped*: a file that cannot be used whatever it is for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Corrupt {
    /// It begins with something else.
    #[error("it is not a snapshot")]
    Foreign,
    /// A newer version wrote it.
    #[error("it has format {0}, and this version knows formats up to {VERSION}")]
    FutureFormat(u32),
    /// An older version wrote it.
    #[error(
        "it has format {0}, which lacks what format {VERSION} has: it is written anew once its cluster is read"
    )]
    OldFormat(u32),
    /// It is shorter or longer than it says.
    #[error("it has {found} bytes where its head says {expected}")]
    Length {
        /// What it should have.
        expected: u64,
        /// What it has.
        found: u64,
    },
    /// Bytes have changed since it was written.
    #[error("its checksum is wrong")]
    Checksum,
    /// It was written wrongly.
    #[error("its content makes no sense: {0}")]
    Content(String),
    /// More than is read.
    #[error("it is larger than {MAX_BYTES} bytes")]
    TooLarge,
}

/// The file of a snapshot. Times are cut to milliseconds.
pub fn write(snapshot: &Snapshot) -> Vec<u8> {
    write_within(snapshot, usize::MAX).expect("no file is that large")
}

/// The same, unless it were larger than that: then it is not written to its end.
pub(super) fn write_within(snapshot: &Snapshot, limit: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    encode::encode(snapshot, &mut bytes, limit);
    if bytes.len() > limit {
        return None;
    }
    let length = (bytes.len() - HEAD) as u64;
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[16..24].copy_from_slice(&length.to_le_bytes());
    let checksum = checksum(&bytes[..CHECKED_HEAD], &bytes[HEAD..]);
    bytes[CHECKED_HEAD..HEAD].copy_from_slice(&checksum.to_le_bytes());
    Some(bytes)
}

/// Reads a file; any bytes whatever are fine to try.
///
/// # Errors
/// What is wrong with it.
pub fn parse(bytes: &[u8]) -> Result<Snapshot, Corrupt> {
    if bytes.len() > MAX_BYTES {
        return Err(Corrupt::TooLarge);
    }
    if !bytes.starts_with(MAGIC) {
        return Err(Corrupt::Foreign);
    }
    let (Some(head), Some(sum), Some(body)) =
        (bytes.first_chunk::<CHECKED_HEAD>(), bytes.get(CHECKED_HEAD..HEAD), bytes.get(HEAD..))
    else {
        return Err(Corrupt::Length { expected: HEAD as u64, found: bytes.len() as u64 });
    };
    let version = u32::from_le_bytes([head[8], head[9], head[10], head[11]]);
    if version > VERSION {
        return Err(Corrupt::FutureFormat(version));
    }
    if version < VERSION {
        return Err(Corrupt::OldFormat(version));
    }
    let mut length = [0; 8];
    length.copy_from_slice(&head[16..24]);
    let expected = u64::from_le_bytes(length);
    if expected != body.len() as u64 {
        return Err(Corrupt::Length { expected, found: body.len() as u64 });
    }
    if checksum(head, body).to_le_bytes() != sum {
        return Err(Corrupt::Checksum);
    }
    decode::decode(body).map_err(Corrupt::Content)
}

fn checksum(head: &[u8], body: &[u8]) -> u128 {
    let mut hash = Xxh3::new();
    hash.update(head);
    hash.update(body);
    hash.digest128()
}
