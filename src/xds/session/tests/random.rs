//! Random histories of requests and changes: every response is one that the rules allow, and after quiet the client
//! holds what the world has for its subscriptions.

/// The test that plays histories with the client of a protocol, which has `new`, `take`, `settle` and `check`.
macro_rules! play_histories {
    ($client:ident) => {
        impl StateMachineTest for $client {
            type SystemUnderTest = Self;
            type Reference = History;

            fn init_test((): &()) -> Self {
                Self::new(world())
            }

            fn apply(mut client: Self, (): &(), step: Step) -> Self {
                client.take(&step);
                client
            }

            fn teardown(mut client: Self, (): ()) {
                client.settle();
                client.check();
            }
        }

        prop_state_machine! {
            #![proptest_config(config())]
            #[test]
            fn the_client_ends_up_with_the_world(sequential 1..LONGEST => $client);
        }
    };
}

mod delta;
mod sotw;

use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};

use super::*;

/// Names of every type; `own` is in the proxy's own list.
const NAMES: [&str; 4] = ["a", "b", "c", "own"];
/// The longest history.
const LONGEST: usize = 120;

/// What happens next. Types and names are indexes.
#[derive(Clone, Debug)]
enum Step {
    Put(usize, usize, u8),
    Delete(usize, usize),
    /// The lists, or the view, are looked at although nothing changed.
    Touch(usize),
    Rekey,
    /// Subscribes, with the nonce of this form.
    Ask(usize, usize, Nonce),
    Leave(usize, usize, Nonce),
    Star(usize),
    Unstar(usize),
    Poll,
    /// One message only: the transport takes no more.
    PollOnce,
    /// Answers the oldest unanswered response; `true` rejects it.
    Answer(bool),
    /// Rejects what was never sent.
    Reject(usize),
    Wait(u64),
    /// A new stream of the same client; whether all clusters have synced at the server that it meets (D27).
    Reconnect(bool),
}

/// The nonce of a request that is no answer.
#[derive(Clone, Copy, Debug)]
enum Nonce {
    Empty,
    /// Of the last response.
    Last,
    /// Of the first response.
    First,
    Unknown,
}

fn nonce() -> impl Strategy<Value = Nonce> {
    prop_oneof![
        4 => Just(Nonce::Empty),
        2 => Just(Nonce::Last),
        1 => Just(Nonce::First),
        1 => Just(Nonce::Unknown),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let (kind, name) = (0..5usize, 0..NAMES.len());
    prop_oneof![
        8 => (kind.clone(), name.clone(), 0..3u8).prop_map(|(k, n, v)| Step::Put(k, n, v)),
        4 => (kind.clone(), name.clone()).prop_map(|(k, n)| Step::Delete(k, n)),
        1 => kind.clone().prop_map(Step::Touch),
        1 => Just(Step::Rekey),
        8 => (kind.clone(), name.clone(), nonce()).prop_map(|(k, n, o)| Step::Ask(k, n, o)),
        4 => (kind.clone(), name, nonce()).prop_map(|(k, n, o)| Step::Leave(k, n, o)),
        2 => kind.clone().prop_map(Step::Star),
        2 => kind.clone().prop_map(Step::Unstar),
        10 => Just(Step::Poll),
        4 => Just(Step::PollOnce),
        8 => prop::bool::weighted(0.2).prop_map(Step::Answer),
        1 => kind.prop_map(Step::Reject),
        4 => (0..400u64).prop_map(Step::Wait),
        1 => prop::bool::ANY.prop_map(Step::Reconnect),
    ]
}

/// Histories: anything may happen at any time. What a client then may and must be told follows from what it asked and
/// from the world, and the client of each protocol checks it as it is told.
struct History;

impl ReferenceStateMachine for History {
    type State = ();
    type Transition = Step;

    fn init_state() -> BoxedStrategy<()> {
        Just(()).boxed()
    }

    fn transitions((): &()) -> BoxedStrategy<Step> {
        thread_local!(static STEPS: BoxedStrategy<Step> = step().boxed());
        STEPS.with(BoxedStrategy::clone)
    }

    fn apply((): (), _: &Step) {}
}

/// About so many steps in all: `TOMBOLO_RANDOM_STEPS`, 20 000 without it.
fn config() -> ProptestConfig {
    let wished = std::env::var("TOMBOLO_RANDOM_STEPS").ok();
    let steps: usize = wished.map_or(20_000, |text| text.parse().expect("TOMBOLO_RANDOM_STEPS is a number"));
    let cases = u32::try_from(2 * steps / LONGEST).expect("fewer steps");
    ProptestConfig { cases, ..ProptestConfig::default() }
}

fn kind(index: usize) -> ResourceType {
    ResourceType::ALL[index]
}

/// What is said of a name that does not exist, where something is (D23).
fn stands_in(kind: ResourceType, name: &str) -> Option<String> {
    matches!(kind, Endpoint | Route).then(|| format!("{name}="))
}

/// Names by type, e.g. those that must be answered.
type Due = BTreeSet<(ResourceType, String)>;

fn world() -> World {
    World::new(&[(Cluster, "a", "1"), (Endpoint, "a", "1")])
}

impl World {
    /// The content of a name as it would be sent.
    fn said(&self, kind: ResourceType, name: &str) -> Option<String> {
        let text = self.content.get(&(kind, name.to_owned()))?;
        Some(format!("{name}={text}"))
    }
}
