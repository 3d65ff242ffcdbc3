//! `kill-api`, `hang-api`: a cluster's API server goes away; nothing else does.

use super::super::LabError;
use super::news;
use super::quiet::{ANY, Quiet};
use super::stage::{PATIENCE, Stage};

/// What makes an API server of no use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    Killed,
    Frozen,
}

/// The API server is killed: its port is closed, watches end.
pub(super) async fn kill(stage: &Stage) -> Result<(), LabError> {
    outage(stage, Fault::Killed).await
}

/// The API server is frozen: connections stay open and nothing comes. What the control planes say of the cluster
/// is shown and not asserted: silence and quiet look the same until idle watches are probed.
pub(super) async fn hang(stage: &Stage) -> Result<(), LabError> {
    outage(stage, Fault::Frozen).await
}

async fn outage(stage: &Stage, fault: Fault) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let other = stage.other()?;
    let quiet = Quiet::settled(&stage.lab, ANY).await?;
    begin(stage, fault).await?;
    stage.answered(20).await?;
    stage.lasting().await;
    stage.expect("nothing-moves", quiet.unchanged(&stage.lab).await);
    stage.expect("others-change", news::spread(stage, &other, "news-meanwhile", PATIENCE).await);
    // The news of the other cluster go, and the API server comes back.
    stage.back().await?;
    stage.say(format!("waiting for a change in {name}"));
    stage.expect("catches-up", news::spread(stage, &stage.cluster, "news-afterwards", PATIENCE).await);
    Ok(())
}

async fn begin(stage: &Stage, fault: Fault) -> Result<(), LabError> {
    let name = stage.cluster.name.clone();
    let cluster = stage.lab.cluster(&name)?;
    match fault {
        Fault::Killed => {
            let of = name.clone();
            stage.undo_by(format!("the API server of {name} is back"), move |lab| async move {
                lab.cluster(&of)?.resume_api().await
            });
            cluster.kill_api().await;
            stage.done(format!("the API server of {name} is killed"));
        }
        Fault::Frozen => {
            let of = name.clone();
            stage.undo_by(format!("the API server of {name} goes on"), move |lab| async move {
                lab.cluster(&of)?.unhang_api().await;
                Ok(())
            });
            cluster.hang_api().await;
            stage.done(format!("the API server of {name} is frozen"));
        }
    }
    Ok(())
}
