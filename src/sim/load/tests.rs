use std::net::SocketAddr;
use std::sync::Mutex;

use super::super::app::{EchoApp, EchoProtocol, EchoSettings, RunningEcho};
use super::*;

async fn app() -> RunningEcho {
    EchoApp::start(EchoSettings {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        version: "v1".into(),
        cluster: "east".into(),
        name: "helloworld".into(),
        instance: "pod-1".into(),
        protocol: EchoProtocol::Http,
    })
    .await
    .unwrap()
}

fn settings(address: SocketAddr) -> LoadSettings {
    LoadSettings {
        url: format!("http://{address}/hello"),
        host: None,
        rate: 1000.0,
        until: Until::Count(20),
        timeout: Duration::from_secs(10),
        concurrency: 3,
        connections: Connections::Reused,
        interval: Duration::from_millis(5),
    }
}

#[tokio::test]
async fn interim_reports_add_up_to_the_final_one() {
    let app = app().await;
    for connections in [Connections::Reused, Connections::New] {
        let settings = LoadSettings { connections, ..settings(app.address()) };
        let interim = Mutex::new(Vec::new());
        let report = run(&settings, std::future::pending(), |r| interim.lock().unwrap().push(r.tally.ok))
            .await
            .unwrap();
        assert_eq!((report.tally.ok, report.tally.failed), (20, 0), "{report:?}");
        assert_eq!(report.tally.by["v1/east"], 20);
        assert_eq!(interim.into_inner().unwrap().iter().sum::<u64>(), 20);
    }
}

#[tokio::test]
async fn a_dead_target_is_counted_with_its_reason() {
    let app = app().await;
    let settings = LoadSettings { until: Until::Count(3), ..settings(app.address()) };
    app.shutdown().await;
    let report = run(&settings, std::future::pending(), |_| ()).await.unwrap();
    assert_eq!(report.tally.failed, 3);
    let reason = report.tally.errors.keys().next().unwrap();
    assert!(reason.starts_with("connect: "), "{reason}");
}

#[tokio::test]
async fn a_silent_target_times_out_within_the_concurrency() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let settings = LoadSettings {
        until: Until::Count(4),
        timeout: Duration::from_millis(20),
        concurrency: 2,
        ..settings(address)
    };
    let report = run(&settings, std::future::pending(), |_| ()).await.unwrap();
    assert_eq!(report.tally.errors["timeout"], 4);
    drop(listener);
}

#[tokio::test]
async fn stopping_early_returns_what_was_counted() {
    let app = app().await;
    let settings = LoadSettings { until: Until::Count(u64::MAX), ..settings(app.address()) };
    let (first, seen) = tokio::sync::oneshot::channel();
    let mut first = Some(first);
    let stop = async { seen.await.unwrap() };
    let report = run(&settings, stop, |report| {
        if report.tally.ok > 0 {
            first.take().map(|first| first.send(()));
        }
    })
    .await
    .unwrap();
    assert!(report.tally.ok > 0 && report.tally.failed == 0, "{report:?}");
}

#[tokio::test]
async fn settings_that_make_no_load_are_refused() {
    let good = settings(SocketAddr::from(([127, 0, 0, 1], 1)));
    for bad in [
        LoadSettings { url: "https://x/".into(), ..good.clone() },
        LoadSettings { url: "nonsense".into(), ..good.clone() },
        LoadSettings { rate: 0.0, ..good.clone() },
        LoadSettings { rate: f64::NAN, ..good.clone() },
        LoadSettings { concurrency: 0, ..good.clone() },
    ] {
        assert!(run(&bad, std::future::pending(), |_| ()).await.is_err(), "{bad:?}");
    }
}
