use std::future::pending;
use std::os::unix::fs::PermissionsExt as _;

use tokio::sync::Notify;

use super::*;

fn report(scenario: &str) -> Report {
    Report { scenario: scenario.to_owned(), ok: true, ..Report::default() }
}

/// A lab whose scenarios last until they are cancelled or, if called `short`, end at once.
fn start(dir: &Path) -> (tokio::task::JoinHandle<()>, Arc<Notify>) {
    let began = Arc::new(Notify::new());
    let notify = Arc::clone(&began);
    let play = move |request: Request, replies: Replies, cancel: CancellationToken| {
        let notify = Arc::clone(&notify);
        async move {
            replies.send(Reply::Say(format!("playing {}", request.scenario)));
            notify.notify_one();
            if request.scenario != "short" {
                cancel.cancelled().await;
            }
            Reply::Report(Box::new(report(&request.scenario)))
        }
    };
    (tokio::spawn(serve(listen(dir).unwrap(), play)), began)
}

fn request(scenario: &str) -> Request {
    Request { scenario: scenario.to_owned(), ..Request::default() }
}

#[tokio::test]
async fn lines_arrive_in_order_and_the_report_ends_them() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, _) = start(dir.path());
    for _ in 0..3 {
        let mut said = Vec::new();
        let got = ask(dir.path(), &request("short"), pending(), |reply| said.push(reply)).await.unwrap();
        assert_eq!(got, report("short"));
        assert_eq!(said, [Reply::Say("playing short".to_owned())]);
    }
    lab.abort();
}

#[tokio::test]
async fn a_second_scenario_is_told_which_one_runs() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, began) = start(dir.path());
    let stop = Arc::new(Notify::new());
    let first = {
        let (dir, stop) = (dir.path().to_owned(), Arc::clone(&stop));
        tokio::spawn(async move { ask(&dir, &request("long"), stop.notified(), |_| ()).await })
    };
    began.notified().await;
    let error = ask(dir.path(), &request("short"), pending(), |_| ()).await.unwrap_err();
    assert!(error.to_string().contains("scenario long has been running"), "{error}");
    assert!(!error.is_usage());
    stop.notify_one();
    // Cut short, it still reports; then the lab is free.
    assert_eq!(first.await.unwrap().unwrap(), report("long"));
    ask(dir.path(), &request("short"), pending(), |_| ()).await.unwrap();
    lab.abort();
}

#[tokio::test]
async fn an_asker_that_vanishes_ends_its_scenario() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, began) = start(dir.path());
    let first = {
        let dir = dir.path().to_owned();
        tokio::spawn(async move { ask(&dir, &request("long"), pending(), |_| ()).await })
    };
    began.notified().await;
    first.abort();
    let free = async {
        while let Err(error) = ask(dir.path(), &request("short"), pending(), |_| ()).await {
            assert!(error.to_string().contains("long"), "{error}");
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), free).await.unwrap();
    lab.abort();
}

#[tokio::test]
async fn nonsense_is_refused_as_wrong_use() {
    let dir = tempfile::tempdir().unwrap();
    let (lab, _) = start(dir.path());
    let mut stream = UnixStream::connect(dir.path().join(NAME)).await.unwrap();
    stream.write_all(b"{\"colour\":1}\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let Reply::Refused(refusal) = serde_json::from_str(&text).unwrap() else { panic!("{text}") };
    assert!(refusal.usage && refusal.why.contains("no request of a scenario"), "{refusal:?}");
    lab.abort();
}

#[tokio::test]
async fn the_only_running_lab_is_found() {
    let temporary = tempfile::tempdir().unwrap();
    let run = |name: &str| {
        let dir = temporary.path().join(name);
        fs::create_dir(&dir).unwrap();
        dir
    };
    let none = find(None, temporary.path()).await.unwrap_err();
    assert!(none.to_string().contains("no lab is running") && none.is_usage(), "{none}");
    let one = run("tombolo-lab-1");
    let (lab, _) = start(&one);
    // The directory of a lab that was killed: its socket is there and nobody listens.
    drop(listen(&run("tombolo-lab-0")).unwrap());
    run("else");
    assert_eq!(find(None, temporary.path()).await.unwrap(), one);
    let two = run("tombolo-lab-2");
    let (other, _) = start(&two);
    let several = find(None, temporary.path()).await.unwrap_err().to_string();
    assert!(
        several.contains(&format!("--run-dir {} or --run-dir {}", one.display(), two.display())),
        "{several}"
    );
    assert_eq!(find(Some(&two), temporary.path()).await.unwrap(), two);
    let wrong = find(Some(temporary.path()), temporary.path()).await.unwrap_err().to_string();
    assert!(wrong.contains("no lab answers in"), "{wrong}");
    lab.abort();
    other.abort();
}

#[tokio::test]
async fn the_socket_is_the_owners_in_a_directory_of_any_depth() {
    let temporary = tempfile::tempdir().unwrap();
    let deep = temporary.path().join("d".repeat(150));
    fs::create_dir(&deep).unwrap();
    let (lab, _) = start(&deep);
    let mode = fs::metadata(deep.join(NAME)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    ask(&deep, &request("short"), pending(), |_| ()).await.unwrap();
    lab.abort();
    let _ = lab.await;
    // The next lab of the same directory takes its place.
    let (lab, _) = start(&deep);
    ask(&deep, &request("short"), pending(), |_| ()).await.unwrap();
    lab.abort();
}
