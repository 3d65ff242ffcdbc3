//! The addresses of one thing: nearly always exactly one.

use std::fmt;
use std::net::IpAddr;
use std::ops::Deref;

use serde::{Serialize, Serializer};

/// A list of addresses that needs no memory of its own for a single one. Reads as a slice; the first is the
/// identity of what has them.
#[derive(Clone)]
pub struct Addresses(List);

#[derive(Clone)]
enum List {
    One(IpAddr),
    /// Any number but one.
    Many(Box<[IpAddr]>),
}

impl Deref for Addresses {
    type Target = [IpAddr];

    fn deref(&self) -> &[IpAddr] {
        match &self.0 {
            List::One(address) => std::slice::from_ref(address),
            List::Many(addresses) => addresses,
        }
    }
}

impl Default for Addresses {
    fn default() -> Self {
        Self(List::Many(Box::default()))
    }
}

impl From<IpAddr> for Addresses {
    fn from(address: IpAddr) -> Self {
        Self(List::One(address))
    }
}

impl From<Vec<IpAddr>> for Addresses {
    fn from(addresses: Vec<IpAddr>) -> Self {
        match *addresses {
            [address] => Self(List::One(address)),
            _ => Self(List::Many(addresses.into())),
        }
    }
}

impl From<&[IpAddr]> for Addresses {
    fn from(addresses: &[IpAddr]) -> Self {
        match *addresses {
            [address] => Self(List::One(address)),
            _ => Self(List::Many(addresses.into())),
        }
    }
}

impl FromIterator<IpAddr> for Addresses {
    fn from_iter<I: IntoIterator<Item = IpAddr>>(addresses: I) -> Self {
        let mut addresses = addresses.into_iter();
        let (Some(first), second) = (addresses.next(), addresses.next()) else {
            return Self::default();
        };
        match second {
            None => Self(List::One(first)),
            Some(second) => Self(List::Many([first, second].into_iter().chain(addresses).collect())),
        }
    }
}

impl<'a> IntoIterator for &'a Addresses {
    type Item = &'a IpAddr;
    type IntoIter = std::slice::Iter<'a, IpAddr>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl PartialEq for Addresses {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Addresses {}

impl std::hash::Hash for Addresses {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Debug for Addresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl Serialize for Addresses {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (**self).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_number_reads_as_a_slice_and_one_is_kept_in_place() {
        let all = ["10.0.0.1", "fd00::1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap());
        for count in 0..=all.len() {
            let list = Addresses::from(&all[..count]);
            assert_eq!(*list, all[..count]);
            assert_eq!(list, Addresses::from(all[..count].to_vec()));
            assert_eq!(list, all[..count].iter().copied().collect());
        }
        assert!(size_of::<Addresses>() <= 24);
    }
}
