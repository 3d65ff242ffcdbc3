//! Who goes on when credentials are exchanged: decided once (K-30, R1.21).

use std::sync::{Mutex, PoisonError};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It lists; somebody else may serve.
    Waiting,
    /// It serves, or is about to and nobody else is.
    Taken,
    /// It has handed what it had to the one that serves, and ends.
    Handed,
    /// It is called off, or its cluster is removed: it says nothing any more.
    Over,
}

/// The turn of one generation to serve. The generation takes it and its owner calls it off; whoever comes first
/// decides, so that there is never a cluster whose old credentials were stopped for new ones that were called
/// off meanwhile.
#[derive(Debug)]
pub(in crate::ingest) struct Turn(Mutex<State>);

impl Default for Turn {
    fn default() -> Self {
        Self(Mutex::new(State::Waiting))
    }
}

impl Turn {
    /// From now on this generation serves; `then` is done before anybody can see that. False if it was called off:
    /// it ends and stops nobody.
    pub(super) fn take(&self, then: impl FnOnce()) -> bool {
        self.change(State::Taken, then)
    }

    /// The one that serves goes on with what this generation has, which `then` gives it. False if it was called off.
    pub(super) fn hand_over(&self, then: impl FnOnce()) -> bool {
        self.change(State::Handed, then)
    }

    /// Whether it has handed over what it had.
    pub(in crate::ingest) fn is_handed(&self) -> bool {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) == State::Handed
    }

    /// This generation is not wanted any more. False if it has taken its turn: it is the one that serves; or if it
    /// has handed over what it had.
    pub(in crate::ingest) fn call_off(&self) -> bool {
        self.change(State::Over, || ())
    }

    /// Its cluster is removed, whether or not it serves.
    pub(in crate::ingest) fn end(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State::Over;
    }

    /// Says something in the generation's name, unless it is over: what it said before then can be taken back
    /// and does not come again.
    pub(super) fn say(&self, say: impl FnOnce()) {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if *state != State::Over {
            say();
        }
    }

    fn change(&self, to: State, then: impl FnOnce()) -> bool {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let decides = *state == State::Waiting;
        if decides {
            then();
            *state = to;
        }
        decides
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn k30_a_turn_is_taken_or_called_off_and_never_both() {
        let taken = Turn::default();
        assert!(taken.take(|| ()));
        assert!(!taken.call_off());
        let handed = Turn::default();
        assert!(handed.hand_over(|| ()) && handed.is_handed());
        assert!(!handed.call_off() && !handed.take(|| panic!("it is over")));
        let off = Turn::default();
        assert!(off.call_off() && !off.take(|| panic!("it was called off")));
        assert!(!off.hand_over(|| panic!("it was called off")));
        off.say(|| panic!("it is over"));
        taken.end();
        taken.say(|| panic!("it is over"));
    }
}
