//! Whole responses that many streams are sent at the same time, in memory once.
//!
//! Of a response only version, type and nonce are a stream's own, a hundred bytes. The rest is the same for all proxies of
//! one projection that ask for the same, and follows from the digest of its contents (D20).

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use bytes::Bytes;
use dashmap::DashMap;
use hashbrown::DefaultHashBuilder;

use crate::xds::resource::ResourceType;

/// So many are remembered before those that nobody sends any more are looked for.
const SWEEP_FROM: usize = 64;

/// What resources a response has, and in which form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::xds) struct Contents {
    pub(in crate::xds) kind: ResourceType,
    /// Whether as delta sends them.
    pub(in crate::xds) delta: bool,
    /// Over their names and contents, in order.
    pub(in crate::xds) digest: u128,
}

/// The resources of responses, as long as some stream is sending them.
#[derive(Debug)]
pub(in crate::xds) struct Joined {
    sections: DashMap<Contents, Weak<Vec<u8>>, DefaultHashBuilder>,
    sweep_at: AtomicUsize,
    made: AtomicU64,
}

impl Default for Joined {
    fn default() -> Self {
        Self { sections: DashMap::default(), sweep_at: AtomicUsize::new(SWEEP_FROM), made: AtomicU64::new(0) }
    }
}

/// Shared with the other streams that send it.
struct Section(Arc<Vec<u8>>);

impl AsRef<[u8]> for Section {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Joined {
    /// The bytes of these contents: those that another stream is sending if they are the same, else what `join` makes.
    /// They are compared, because clients choose names and so what goes into digests. Cost ∝ the bytes: a comparison.
    pub(super) fn bytes(
        &self,
        contents: Contents,
        is_same: impl FnOnce(&[u8]) -> bool,
        join: impl FnOnce() -> Vec<u8>,
    ) -> Bytes {
        self.sweep();
        let section = {
            let mut known = self.sections.entry(contents).or_default();
            let Some(section) = known.upgrade() else {
                // One joins, the others wait that long.
                let section = Arc::new(join());
                self.made.fetch_add(1, Ordering::Relaxed);
                *known = Arc::downgrade(&section);
                return Bytes::from_owner(Section(section));
            };
            section
        };
        if is_same(&section) { Bytes::from_owner(Section(section)) } else { join().into() }
    }

    /// How many were joined so far.
    #[cfg(test)]
    pub(super) fn made(&self) -> u64 {
        self.made.load(Ordering::Relaxed)
    }

    /// Forgets what nobody sends any more. Doubling the limit keeps the cost per response constant.
    fn sweep(&self) {
        if self.sections.len() >= self.sweep_at.load(Ordering::Relaxed) {
            self.sections.retain(|_, section| section.strong_count() > 0);
            self.sweep_at.store((2 * self.sections.len()).max(SWEEP_FROM), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn contents(digest: u128) -> Contents {
        Contents { kind: ResourceType::Endpoint, delta: true, digest }
    }

    #[test]
    fn equal_contents_are_joined_once_as_long_as_they_are_sent() {
        let joined = Joined::default();
        let same = |_: &[u8]| true;
        let first = joined.bytes(contents(1), same, || vec![1]);
        let second = joined.bytes(contents(1), same, || unreachable!("it is there"));
        assert_eq!((first.as_ptr(), joined.made()), (second.as_ptr(), 1));
        let other = joined.bytes(Contents { delta: false, ..contents(1) }, same, || vec![2]);
        assert_eq!((&other[..], joined.made()), (&[2][..], 2));
        let forged = joined.bytes(contents(1), |section| section == [9], || vec![9]);
        assert_eq!((&forged[..], &first[..]), (&[9][..], &[1][..]), "others get what is theirs");
        drop((first, second));
        assert_eq!(&joined.bytes(contents(1), same, || vec![3])[..], [3]);
        assert_eq!(joined.made(), 3);
    }

    #[test]
    fn what_nobody_sends_is_forgotten() {
        let joined = Joined::default();
        let kept: Vec<_> =
            (0..10).map(|digest| joined.bytes(contents(digest), |_| true, || vec![0])).collect();
        for digest in 10..1000 {
            joined.bytes(contents(digest), |_| true, || vec![0]);
        }
        assert!(joined.sections.len() <= SWEEP_FROM, "{}", joined.sections.len());
        assert!(kept.iter().zip(0..).all(|(bytes, digest)| {
            let again = joined.bytes(contents(digest), |_| true, || unreachable!("it is kept"));
            again.as_ptr() == bytes.as_ptr()
        }));
    }
}
