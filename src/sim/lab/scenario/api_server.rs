//! `kill-api`, `hang-api`: a cluster's API server goes away; nothing else does.

use std::time::Duration;

use tokio::time::Instant;

use super::super::LabError;
use super::super::wait::until;
use super::quiet::{ANY, Quiet};
use super::stage::{PATIENCE, Stage};
use super::{Seen, news};

/// For control planes to notice that a connection broke or is there again; they are asked every second.
const NOTICE_LIMIT: Duration = Duration::from_secs(30);

/// For a change to arrive once the API server is back: its return is noticed within 5 s (G4), the rest is the change
/// itself on a busy machine.
const CATCH_UP_LIMIT: Duration = Duration::from_secs(10);

/// The API server is killed: its port is closed, watches end.
pub(super) async fn kill(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let quiet = Quiet::settled(&stage.lab, ANY).await?;
    stage.other()?;
    let of = name.clone();
    stage.undo_by(format!("the API server of {name} is back"), move |lab| async move {
        lab.cluster(&of)?.resume_api().await
    });
    stage.lab.cluster(&name)?.kill_api().await;
    stage.done(format!("the API server of {name} is killed"));
    while_away(stage, &quiet).await?;
    says_so(stage).await
}

/// The API server is frozen: connections stay open and nothing comes, not even answers to PINGs (K-05).
pub(super) async fn hang(stage: &Stage) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let quiet = Quiet::settled(&stage.lab, ANY).await?;
    stage.other()?;
    let of = name.clone();
    stage.undo_by(format!("the API server of {name} goes on"), move |lab| async move {
        lab.cluster(&of)?.unhang_api().await;
        Ok(())
    });
    stage.lab.cluster(&name)?.hang_api().await;
    stage.done(format!("the API server of {name} is frozen"));
    while_away(stage, &quiet).await?;
    says_so(stage).await
}

/// Requests go on, no proxy gets anything but news of another cluster.
async fn while_away(stage: &Stage, quiet: &Quiet) -> Result<(), LabError> {
    stage.answered(20).await?;
    stage.lasting().await;
    stage.expect("nothing-moves", quiet.unchanged(&stage.lab).await);
    let other = stage.other()?;
    stage.expect("others-change", news::spread(stage, &other, "news-meanwhile", PATIENCE).await);
    Ok(())
}

/// Control planes call the cluster not live while it is away, and live once it is back.
async fn says_so(stage: &Stage) -> Result<(), LabError> {
    let noticed = is_called(stage, "not live", |word| word != "live").await;
    afterwards(stage).await?;
    let healed = is_called(stage, "live", |word| word == "live").await;
    stage.expect("says-so", noticed.and_then(|noticed| Ok(format!("{noticed}; {}", healed?))));
    Ok(())
}

/// The news of the other cluster go, the API server comes back, and a change arrives.
async fn afterwards(stage: &Stage) -> Result<(), LabError> {
    stage.back().await?;
    stage.say(format!("waiting for a change in {}", stage.cluster.name));
    stage.expect("catches-up", news::spread(stage, &stage.cluster, "news-afterwards", CATCH_UP_LIMIT).await);
    Ok(())
}

/// Waits until every control plane calls the cluster something that is `fit`, which is `what` in words.
async fn is_called(stage: &Stage, what: &str, fit: impl Fn(&str) -> bool) -> Seen {
    let name = &stage.cluster.name;
    let start = Instant::now();
    let words = until(&format!("every control plane says that {name} is {what}"), NOTICE_LIMIT, async || {
        let planes = stage.record.latest().control_planes;
        let words =
            planes.iter().map(|(plane, health)| (plane, health.get(name).map_or("unknown", String::as_str)));
        let text: Vec<String> = words.clone().map(|(plane, word)| format!("{plane} says {word}")).collect();
        let all = !planes.is_empty() && words.clone().all(|(_, word)| fit(word));
        if all { Ok(text.join(", ")) } else { Err(text.join(", ")) }
    })
    .await?;
    Ok(format!("{words} after {} ms", start.elapsed().as_millis()))
}
