//! What is told of credentials (K-16, K-17, K-18).

use std::time::SystemTime;

use super::*;
use crate::model::{CredentialFacts, Expiry};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// A client certificate, or a token that was given once, that ends in so many days.
fn given(days: u32) -> CredentialFacts {
    CredentialFacts { given_until: Some(SystemTime::now() + days * DAY), ..CredentialFacts::default() }
}

impl Plane {
    /// What somebody has to know by the present facts, `since` days after the start.
    fn expiry(&self, id: &str, since: u32) -> Expiry {
        self.row(id).credentials.expiry(SystemTime::now() + since * DAY)
    }
}

#[tokio::test(start_paused = true)]
async fn k18_the_end_of_credentials_is_told_ahead_and_gone_with_new_ones() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.set_credentials(given(40));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    assert_eq!((plane.problems(), plane.expiry("c1", 0)), (Vec::new(), Expiry::Far));
    plane.changes();
    plane.pass(9 * DAY).await;
    assert_eq!(plane.problems(), NOTHING);
    for (days, since, words, expiry) in [
        (2, 11, "within 30 days", Expiry::Within30Days),
        (23, 34, "within 7 days", Expiry::Within7Days),
        (7, 41, "have ended at", Expiry::Expired),
    ] {
        plane.pass(days * DAY).await;
        let problems = plane.problems();
        assert!(problems.len() == 1, "{problems:?}");
        assert!(problems[0].starts_with("cluster c1, credentials: ") && problems[0].contains(words));
        assert_eq!(plane.expiry("c1", since), expiry);
    }
    assert_eq!((plane.health("c1"), plane.web()), ("live", web(&[("c1", 2)])));
    // Other ones of the same source, as a file that was read again.
    server.set_credentials(given(400));
    plane.pass(Duration::from_secs(31)).await;
    assert_eq!((plane.problems(), plane.expiry("c1", 41)), (Vec::new(), Expiry::Far));
    assert!(plane.changes().is_empty());
}

#[tokio::test(start_paused = true)]
async fn k18_what_is_renewed_is_no_alarm_before_it_has_ended() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let renewed = |hours: u32| CredentialFacts {
        renewed_until: Some(SystemTime::now() + hours * HOUR),
        ..CredentialFacts::default()
    };
    server.set_credentials(renewed(2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    for _ in 0..4 {
        plane.pass(HOUR / 2 - Duration::from_secs(1)).await;
        assert_eq!((plane.problems(), plane.expiry("c1", 0)), (Vec::new(), Expiry::Far));
    }
    plane.pass(HOUR).await;
    assert!(plane.problems()[0].contains("have ended at"), "{:?}", plane.problems());
    server.set_credentials(renewed(30));
    plane.pass(Duration::from_secs(31)).await;
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k16_credentials_that_cannot_be_obtained_anew_are_told_before_they_are_refused() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    let problem = Some("cannot read token file /t: it is not a regular file".to_owned());
    server.set_credentials(CredentialFacts { problem: problem.clone(), ..CredentialFacts::default() });
    plane.pass(Duration::from_secs(31)).await;
    assert_eq!(
        plane.problems(),
        [
            "cluster c1, credentials: cannot be obtained anew: cannot read token file /t: it is not a regular file"
        ]
    );
    assert_eq!((plane.row("c1").credentials.problem, plane.health("c1")), (problem, "live"));
    plane.remove("c1");
    plane.pass(Duration::from_secs(6)).await;
    assert_eq!(plane.problems(), NOTHING);
}

#[tokio::test(start_paused = true)]
async fn k17_a_cluster_that_was_never_reached_tells_of_its_credentials_too() {
    let server = FakeServer::with(world("n1", "u1", 1, 2));
    server.go_down();
    server.set_credentials(given(3));
    let mut plane = Plane::new();
    plane.run("c1", &server);
    plane.settle().await;
    assert!(plane.problems().iter().any(|text| text.contains("within 7 days")), "{:?}", plane.problems());
    plane.pass(4 * DAY).await;
    assert!(plane.problems().iter().any(|text| text.contains("have ended")), "{:?}", plane.problems());
}

#[tokio::test(start_paused = true)]
async fn k31_of_credentials_that_are_only_tried_nothing_is_told_until_they_serve() {
    let (old, new) = (FakeServer::with(world("n1", "u1", 1, 2)), FakeServer::with(world("n1", "u1", 1, 2)));
    old.set_credentials(given(3));
    new.set_credentials(given(400));
    new.go_down();
    let mut plane = Plane::new();
    plane.run("c1", &old);
    plane.settle().await;
    plane.run("c1", &new);
    plane.pass(HOUR).await;
    let of_credentials = |plane: &Plane| {
        let problems = plane.problems().into_iter();
        problems.filter(|text| text.starts_with("cluster c1, credentials")).count()
    };
    assert_eq!((of_credentials(&plane), plane.expiry("c1", 0)), (1, Expiry::Within7Days));
    new.come_up();
    plane.settle().await;
    assert_eq!((plane.problems(), plane.expiry("c1", 0)), (Vec::new(), Expiry::Far));
}
