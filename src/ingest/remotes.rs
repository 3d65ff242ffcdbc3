//! Which remote clusters there are, as Secrets or files say, and what the set of clusters does about it.

use std::sync::Arc;

use tokio::sync::watch as signal;
use tokio::time::{Instant, sleep_until};

use super::adopted::{Adopted, Known};
use super::cluster_set::ClusterSet;
use super::directory::DirectoryWatch;
use super::policies::MeshConfigFeed;
use super::problems::Problems;
use super::roster::{Contest, Roster};
use super::secrets::{self, SecretWatch};

/// Who says which remote clusters there are.
pub(super) enum RemoteSource {
    None,
    Secrets(Box<SecretWatch>),
    Directory(DirectoryWatch),
}

impl RemoteSource {
    pub(super) fn contest(&self) -> Contest {
        match self {
            Self::Directory(_) => Contest::Nobody,
            Self::None | Self::Secrets(_) => Contest::First,
        }
    }

    /// Becomes true when it cannot be looked at.
    fn failing(&self) -> signal::Receiver<bool> {
        match self {
            Self::Secrets(watch) => watch.failing(),
            Self::None | Self::Directory(_) => signal::channel(false).1,
        }
    }

    /// Asks for a complete look, where there are no looks by the clock.
    fn look_again(&self) {
        if let Self::Secrets(watch) = self {
            watch.list_again();
        }
    }

    /// The next news. The first look at a directory does not wait.
    async fn next(&mut self, first: bool, problems: &Problems) -> secrets::News {
        match self {
            Self::None => std::future::pending().await,
            Self::Secrets(watch) => watch.next(problems).await,
            Self::Directory(watch) => {
                if !first {
                    watch.changed().await;
                }
                let began = Instant::now();
                secrets::News { claims: watch.scan(problems).await, complete: Some(began) }
            }
        }
    }
}

/// Settings may name clusters that come later; a misspelt one never does.
fn tell_strangers(set: &ClusterSet) {
    for (id, setting) in &set.options.named {
        let there = set.ids().any(|known| known == id);
        let text = || format!("named by {setting}, and there is no such cluster yet: is its id spelt right?");
        set.problems.tell(format!("cluster {id}, settings"), (!there).then(text));
    }
}

/// Starts, exchanges and removes remote clusters as their source says.
pub(super) async fn follow_remotes(
    mut set: ClusterSet,
    mut source: RemoteSource,
    mut roster: Roster,
    known_set: signal::Sender<bool>,
    mut mesh: MeshConfigFeed,
) {
    let problems = Arc::clone(&set.problems);
    let mut complete = matches!(source, RemoteSource::None);
    known_set.send_replace(complete);
    if complete {
        tell_strangers(&set);
    }
    // Directories are known at once, and Secrets only when the config cluster is.
    let adopts = matches!(source, RemoteSource::Secrets(_));
    let keeper = set.snapshots.clone().filter(|_| adopts);
    let mut adopted = keeper.map(|keeper| {
        let (options, mesh) = (Arc::clone(&set.options), set.mesh.clone());
        let counts = Arc::clone(&set.counts);
        Adopted::new(Arc::clone(&set.registry), keeper, Arc::clone(&problems), counts, options, mesh)
    });
    let mut failing = source.failing();
    let mut adopting = adopted.is_some();
    let mut swept = false;
    loop {
        if complete && !std::mem::replace(&mut swept, true) {
            set.sweep();
        }
        let removal = set.next_removal();
        let doubt = adopted.as_ref().and_then(Adopted::due);
        let now = Instant::now();
        adopted.iter_mut().for_each(|adopted| adopted.grow_old(now));
        let age = adopted.as_ref().and_then(|adopted| adopted.next_age(now));
        tokio::select! {
            known = async {
                match &mut adopted {
                    Some(adopted) => adopted.adopt(&mut failing).await,
                    None => std::future::pending().await,
                }
            }, if adopting && !complete => {
                if known == Known::All {
                    adopting = false;
                    known_set.send_replace(true);
                }
            }
            // Unbiased: all are rare.
            news = source.next(!complete, &problems) => {
                set.perform(roster.update(news.claims, &problems));
                complete |= news.complete.is_some();
                if complete {
                    tell_strangers(&set);
                }
                if let Some(adopted) = adopted.as_mut().filter(|_| complete) {
                    adopted.settle(set.ids(), &roster, news.complete).await;
                }
                known_set.send_if_modified(|known| complete && !std::mem::replace(known, true));
            }
            () = sleep_until(doubt.unwrap_or_else(Instant::now)), if doubt.is_some() => {
                adopted.iter_mut().for_each(Adopted::asked);
                source.look_again();
            }
            Ok(()) = mesh.changed() => {
                let selectors = mesh.borrow_and_update().as_ref().map(|mesh| mesh.discovery_selectors.clone());
                set.discover(&selectors.unwrap_or_default());
            }
            // They grow old above.
            () = sleep_until(age.unwrap_or(now)), if age.is_some() => {}
            () = sleep_until(removal.unwrap_or_else(Instant::now)),
                if removal.is_some() =>
            {
                set.withdraw_due().await;
                if complete {
                    tell_strangers(&set);
                }
            }
        }
    }
}
