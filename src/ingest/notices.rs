//! That something below a folder may have changed: notices of the system, and a look now and then without.

use std::path::Path;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecursiveMode, Watcher};
use tokio::sync::mpsc;

/// A look this often even without a notice: links may lead to places that are not watched.
const RESCAN: Duration = Duration::from_secs(10);

/// Notices about one folder.
pub(super) struct Notices {
    notices: mpsc::Receiver<()>,
    /// How long changes are collected.
    coalesce: Duration,
    /// Kept for its side effect; `None` where notices are not to be had, and looking again suffices.
    _watcher: Option<notify::RecommendedWatcher>,
}

impl Notices {
    /// Notices about `folder`, from now on; with why there are none, if that is so.
    pub(super) fn of(
        folder: &Path,
        depth: RecursiveMode,
        coalesce: Duration,
    ) -> (Self, Option<notify::Error>) {
        let (sender, notices) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // Our own reading is no change. Full means that a look is already due.
            if event.as_ref().map_or(true, is_change) {
                let _ = sender.try_send(());
            }
        });
        let watcher = watcher.and_then(|mut watcher| {
            watcher.watch(folder, depth)?;
            Ok(watcher)
        });
        let (watcher, error) = match watcher {
            Ok(watcher) => (Some(watcher), None),
            Err(error) => (None, Some(error)),
        };
        (Self { notices, coalesce, _watcher: watcher }, error)
    }

    /// Waits until something may have changed. Cancelling loses nothing that a later look does not find.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            // Unbiased: either leads to a look.
            notice = self.notices.recv() => {
                if notice.is_none() {
                    tokio::time::sleep(RESCAN).await;
                }
            }
            () = tokio::time::sleep(RESCAN) => return,
        }
        tokio::time::sleep(self.coalesce).await;
        while self.notices.try_recv().is_ok() {}
    }
}

fn is_change(event: &Event) -> bool {
    match event.kind {
        EventKind::Access(kind) => matches!(kind, AccessKind::Close(AccessMode::Write)),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn reading_is_no_change_and_writing_is_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let (mut notices, error) = Notices::of(folder.path(), RecursiveMode::Recursive, SOON);
        assert!(error.is_none());
        for round in 0..5 {
            let read = std::fs::read_to_string(&path).unwrap();
            assert!(std::fs::read_dir(folder.path()).unwrap().count() == 1);
            std::fs::write(&path, format!("{read}{round}")).unwrap();
            tokio::time::timeout(RESCAN / 2, notices.next()).await.expect("a notice of the writing");
        }
        // The notices of one reading come before those of the writing after it: none is left over.
        std::fs::read_to_string(&path).unwrap();
        std::fs::write(folder.path().join("other"), "").unwrap();
        tokio::time::timeout(RESCAN / 2, notices.next()).await.expect("a notice of the writing");
        std::fs::read_to_string(&path).unwrap();
        assert!(notices.notices.try_recv().is_err());
    }

    #[test]
    fn what_counts() {
        use notify::event::{CreateKind, ModifyKind, RemoveKind};
        let change = |kind| is_change(&Event::new(kind));
        assert!(change(EventKind::Any) && change(EventKind::Modify(ModifyKind::Any)));
        assert!(change(EventKind::Create(CreateKind::File)) && change(EventKind::Remove(RemoveKind::File)));
        assert!(change(EventKind::Access(AccessKind::Close(AccessMode::Write))));
        assert!(!change(EventKind::Access(AccessKind::Close(AccessMode::Read))));
        assert!(!change(EventKind::Access(AccessKind::Open(AccessMode::Any))));
        assert!(!change(EventKind::Access(AccessKind::Read)));
    }
}
