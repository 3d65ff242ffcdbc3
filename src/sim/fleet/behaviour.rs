//! How proxies behave, and in which shares.

use std::fmt;
use std::str::FromStr;

use super::FleetError;
use super::dice::Dice;

/// Which protocol a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// Delta.
    Delta,
    /// State of the world.
    Sotw,
}

/// What a proxy does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Manner {
    /// Reads and acknowledges at once, as Envoy does; comes back after a failure.
    Plain,
    /// Subscribes and never reads.
    Stopped,
    /// Reads at a bounded rate.
    Slow,
    /// Rejects everything.
    Nack,
    /// Leaves with all others of this kind at once, again and again, and comes back.
    Storm,
    /// Leaves now and then and comes back.
    Random,
}

impl Manner {
    /// Whether everything it asked for ever reaches it.
    pub(super) fn reads(self) -> bool {
        self != Self::Stopped
    }
}

/// One kind of proxy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Behaviour {
    /// Its protocol.
    pub protocol: Protocol,
    /// Its manner.
    pub manner: Manner,
}

impl Behaviour {
    /// Envoy with delta.
    pub const DELTA: Self = Self { protocol: Protocol::Delta, manner: Manner::Plain };
    /// Envoy with state of the world.
    pub const SOTW: Self = Self { protocol: Protocol::Sotw, manner: Manner::Plain };

    /// `manner` with delta.
    pub fn delta(manner: Manner) -> Self {
        Self { protocol: Protocol::Delta, manner }
    }
}

const MANNERS: [(&str, Manner); 5] = [
    ("stopped", Manner::Stopped),
    ("slow", Manner::Slow),
    ("nack", Manner::Nack),
    ("storm", Manner::Storm),
    ("random", Manner::Random),
];

impl fmt::Display for Behaviour {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.protocol, MANNERS.iter().find(|(_, manner)| *manner == self.manner)) {
            (Protocol::Delta, None) => f.write_str("delta"),
            (Protocol::Sotw, None) => f.write_str("sotw"),
            (Protocol::Delta, Some((name, _))) => f.write_str(name),
            (Protocol::Sotw, Some((name, _))) => write!(f, "{name}/sotw"),
        }
    }
}

impl FromStr for Behaviour {
    type Err = FleetError;

    fn from_str(text: &str) -> Result<Self, FleetError> {
        let unknown = || {
            FleetError::Mix {
            text: text.to_owned(),
            why: "the behaviours are delta, sotw, stopped, slow, nack, storm and random; /sotw behind one of the \
                  last five has it speak that protocol"
                .to_owned(),
        }
        };
        let (name, protocol) = match text.split_once('/') {
            None if text == "delta" => return Ok(Self::DELTA),
            None if text == "sotw" => return Ok(Self::SOTW),
            None | Some((_, "delta")) => (text.trim_end_matches("/delta"), Protocol::Delta),
            Some((name, "sotw")) => (name, Protocol::Sotw),
            Some(_) => return Err(unknown()),
        };
        let found = MANNERS.iter().find(|(known, _)| *known == name);
        found.map(|(_, manner)| Self { protocol, manner: *manner }).ok_or_else(unknown)
    }
}

/// Behaviours and their shares: `delta=90%,stopped=10%`. One without a share gets what the others leave.
#[derive(Debug, Clone, PartialEq)]
pub struct Mix {
    shares: Vec<(Behaviour, f64)>,
}

impl Mix {
    /// All alike.
    pub fn all(behaviour: Behaviour) -> Self {
        Self { shares: vec![(behaviour, 100.0)] }
    }

    /// The behaviour of each of `count` proxies. Shares are met to the nearest proxy; who is who is up to `seed`.
    pub fn assign(&self, count: usize, seed: u64) -> Vec<Behaviour> {
        let mut all = Vec::with_capacity(count);
        let mut upto = 0.0;
        for (behaviour, share) in &self.shares {
            upto += share;
            // Rounding the sums, not the shares, makes the numbers add up.
            let end = ((upto / 100.0 * count as f64).round() as usize).min(count);
            all.resize(end.max(all.len()), *behaviour);
        }
        Dice::new(seed, usize::MAX).shuffle(&mut all);
        all
    }
}

impl FromStr for Mix {
    type Err = FleetError;

    fn from_str(text: &str) -> Result<Self, FleetError> {
        let refuse = |why: String| FleetError::Mix { text: text.to_owned(), why };
        let mut shares = Vec::new();
        let mut rest = None;
        for part in text.split(',') {
            match part.split_once('=') {
                None if rest.is_none() => {
                    rest = Some(shares.len());
                    shares.push((part.parse()?, 0.0));
                }
                None => return Err(refuse("only one behaviour may go without a share".to_owned())),
                Some((name, share)) => {
                    let number = share.trim_end_matches('%').parse::<f64>().ok();
                    let number = number.filter(|share| (0.0..=100.0).contains(share));
                    let share =
                        number.ok_or_else(|| refuse(format!("{share:?} is no share from 0% to 100%")))?;
                    shares.push((name.parse()?, share));
                }
            }
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if let Some(at) = rest {
            shares[at].1 = (100.0 - sum).max(0.0);
        }
        let sum: f64 = shares.iter().map(|(_, share)| share).sum();
        if (sum - 100.0).abs() > 0.01 {
            return Err(refuse(format!("the shares add up to {sum}%, not to 100%")));
        }
        Ok(Self { shares })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counts(mix: &str, count: usize, seed: u64) -> Vec<(String, usize)> {
        let mut found = std::collections::BTreeMap::new();
        for behaviour in mix.parse::<Mix>().unwrap().assign(count, seed) {
            *found.entry(behaviour.to_string()).or_default() += 1;
        }
        found.into_iter().collect()
    }

    #[test]
    fn shares_are_met_to_the_nearest_proxy() {
        let pair = |name: &str, count| (name.to_owned(), count);
        assert_eq!(counts("delta=90%,stopped=10%", 50, 1), [pair("delta", 45), pair("stopped", 5)]);
        assert_eq!(
            counts("sotw,slow/sotw=33%,nack=33%", 10, 1),
            [pair("nack", 3), pair("slow/sotw", 4), pair("sotw", 3)]
        );
        assert_eq!(counts("delta=99.9,storm=0.1", 10, 1), [pair("delta", 10)]);
    }

    #[test]
    fn who_is_who_is_up_to_the_seed_alone() {
        let mix: Mix = "delta=50%,sotw=50%".parse().unwrap();
        assert_eq!(mix.assign(100, 1), mix.assign(100, 1));
        assert_ne!(mix.assign(100, 1), mix.assign(100, 2));
    }

    #[test]
    fn mixes_that_make_no_sense_are_refused() {
        for bad in
            ["", "delta=90%", "delta,sotw", "delta=110%", "delta=x", "fast", "slow/x", "delta=60%,sotw=60%"]
        {
            assert!(bad.parse::<Mix>().is_err(), "{bad}");
        }
    }

    #[test]
    fn behaviours_are_written_as_they_are_read() {
        for text in ["delta", "sotw", "stopped", "nack/sotw", "random", "storm/sotw"] {
            assert_eq!(text.parse::<Behaviour>().unwrap().to_string(), text);
        }
    }
}
