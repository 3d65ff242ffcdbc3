//! Other tokens of the same user (K-30, K-31, K-43).

use std::sync::Mutex as Lock;

use futures::future::BoxFuture;

use super::*;
use crate::ingest::client::TokenUser;
use crate::ingest::cluster::fake::{Feed, Plan, Unknown};
use crate::model::{CredentialFacts, Name};

/// An API server as it is seen with a token.
struct With {
    server: FakeServer,
    user: Lock<TokenUser>,
}

impl With {
    fn token(server: &FakeServer, n: usize) -> Arc<Self> {
        Self::of(server, TokenUser::example("sa", n))
    }

    fn of(server: &FakeServer, user: TokenUser) -> Arc<Self> {
        Arc::new(Self { server: server.clone(), user: Lock::new(user) })
    }

    /// Whether its requests come with this token.
    fn asks_with(&self, n: usize) -> bool {
        self.user.lock().unwrap().header() == TokenUser::example("sa", n).header()
    }
}

impl Feeds for With {
    fn open(&self, plan: &Plan, kinds: &[ObjectKind]) -> Feed {
        self.server.open(plan, kinds)
    }

    fn uid(&self) -> BoxFuture<'static, Result<Name, Unknown>> {
        self.server.uid()
    }

    fn credentials(&self) -> CredentialFacts {
        self.server.credentials()
    }

    fn token_user(&self) -> Option<TokenUser> {
        Some(self.user.lock().unwrap().clone())
    }

    fn take_token(&self, next: TokenUser) {
        *self.user.lock().unwrap() = next;
    }
}

/// A plane that serves a cluster with the first token.
async fn serving(server: &FakeServer) -> (Plane, Arc<With>) {
    let mut plane = Plane::new();
    let first = With::token(server, 1);
    plane.run_feeds("c1", Arc::clone(&first) as Arc<dyn Feeds>, &[]);
    plane.settle().await;
    assert_eq!((plane.web(), plane.health("c1")), (web(&[("c1", 3)]), "live"));
    plane.changes();
    (plane, first)
}

fn exchanged(plane: &Plane) -> u64 {
    plane.row("c1").tokens_exchanged
}

#[tokio::test(start_paused = true)]
async fn k30_another_token_of_the_same_user_lists_nothing_and_ends_no_watch() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let (mut plane, first) = serving(&server).await;
    for n in 2..=50 {
        let next = With::token(&server, n);
        plane.run_feeds("c1", Arc::clone(&next) as Arc<dyn Feeds>, &[]);
        plane.settle().await;
        assert!(first.asks_with(n), "token {n} is in use");
        assert_eq!(Arc::strong_count(&next), 1, "its own connection is gone (K-43)");
    }
    assert_eq!((server.opened(), server.open_now(), plane.set.tasks.len()), (1, 1, 1));
    assert_eq!((exchanged(&plane), plane.problems()), (49, Vec::new()));
    assert!(plane.changes().is_empty());
    server.serve("web", &addresses(1, 4));
    plane.settle().await;
    assert_eq!(plane.web(), web(&[("c1", 4)]), "it is watched as before");
    assert_eq!(plane.row("c1").source, "secret 50");
    // Back to the one before, as the Secret says then.
    plane.hash = 48;
    plane.run_feeds("c1", With::token(&server, 49), &[]);
    plane.settle().await;
    assert!(first.asks_with(49) && server.opened() == 1);
    plane.remove("c1");
    plane.pass(Duration::from_secs(6)).await;
    assert_eq!((plane.web(), plane.set.tasks.len()), (web(&[]), 0));
}

#[tokio::test(start_paused = true)]
async fn k31_a_token_that_is_not_accepted_leaves_the_one_that_is() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let (mut plane, first) = serving(&server).await;
    let refusing = FakeServer::with(world("n1", "u1", 1, 3));
    refusing.go_down();
    plane.run_feeds("c1", With::token(&refusing, 2), &[]);
    plane.pass(HOUR).await;
    assert!(first.asks_with(1));
    assert!(plane.problems()[0].starts_with("cluster c1, new credentials: not in use"));
    server.serve("web", &addresses(1, 4));
    plane.settle().await;
    assert_eq!((plane.web(), server.open_now(), exchanged(&plane)), (web(&[("c1", 4)]), 1, 0));
    // A good one after it.
    plane.run_feeds("c1", With::token(&server, 3), &[]);
    plane.settle().await;
    assert!(first.asks_with(3));
    assert_eq!((plane.problems(), server.opened(), refusing.open_now()), (Vec::new(), 1, 0));
}

#[tokio::test(start_paused = true)]
async fn k30_what_is_not_only_another_token_is_listed() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let (mut plane, first) = serving(&server).await;
    // Another user, who may be permitted to do less.
    let other = With::of(&server, TokenUser::example("other", 1));
    plane.run_feeds("c1", Arc::clone(&other) as Arc<dyn Feeds>, &[]);
    plane.settle().await;
    assert!(first.asks_with(1) && server.opened() == 2);
    // The same user where the API server does not say which cluster it is.
    server.hide_identity(true);
    plane.run_feeds("c1", With::of(&server, TokenUser::example("other", 2)), &[]);
    plane.pass(Duration::from_secs(4)).await;
    assert_eq!(server.opened(), 2, "it is waited for");
    plane.pass(Duration::from_secs(5)).await;
    assert_eq!((server.opened(), server.open_now(), exchanged(&plane)), (3, 1, 0));
    server.hide_identity(false);
    // Another cluster by the same name, address and user (K-20).
    let moved = FakeServer::with(world("n1", "u2", 1, 3));
    plane.run_feeds("c1", With::of(&moved, TokenUser::example("other", 3)), &[]);
    plane.settle().await;
    assert_eq!((moved.open_now(), exchanged(&plane)), (1, 0));
    assert!(plane.problems().iter().any(|text| text.starts_with("cluster c1, identity")));
    // One that is not heard gets a token at once that way.
    moved.go_down();
    plane.settle().await;
    let back = FakeServer::with(world("n1", "u2", 1, 3));
    plane.run_feeds("c1", With::of(&back, TokenUser::example("other", 4)), &[]);
    plane.settle().await;
    assert_eq!((back.open_now(), plane.health("c1"), exchanged(&plane)), (1, "live", 0));
}

#[tokio::test(start_paused = true)]
async fn k30_the_last_of_several_tokens_is_the_one_in_use() {
    let server = FakeServer::with(world("n1", "u1", 1, 3));
    let (mut plane, first) = serving(&server).await;
    server.delay_identity(Duration::from_secs(1));
    for n in 2..=4 {
        plane.run_feeds("c1", With::token(&server, n), &[]);
        plane.pass(Duration::from_millis(300)).await;
    }
    assert!(first.asks_with(1), "nobody has answered yet");
    // The first of them again, before anybody has.
    plane.hash = 0;
    plane.run_feeds("c1", With::token(&server, 1), &[]);
    plane.pass(Duration::from_secs(9)).await;
    assert!(first.asks_with(1));
    assert_eq!((exchanged(&plane), server.opened(), plane.set.tasks.len()), (0, 1, 1));
    plane.hash = 7;
    plane.run_feeds("c1", With::token(&server, 5), &[]);
    plane.pass(Duration::from_secs(2)).await;
    assert!(first.asks_with(5));
    assert_eq!((exchanged(&plane), server.opened(), plane.problems()), (1, 1, Vec::new()));
}
