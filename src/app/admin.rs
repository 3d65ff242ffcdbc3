//! The admin pages on a thread of their own: they answer while everything else is busy, and a dump of a large
//! registry delays no push.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::admin::{Sources, http_pages, monitoring_pages};

/// How long open requests may take once the server ends.
const GRACE: Duration = Duration::from_secs(2);

/// The listeners of the pages, where wanted.
pub(super) struct Pages {
    pub(super) http: Option<TcpListener>,
    pub(super) monitoring: Option<TcpListener>,
}

/// The running thread.
#[derive(Debug)]
pub(super) struct AdminThread {
    /// Closed when the thread has ended.
    ended: watch::Receiver<()>,
}

impl AdminThread {
    /// Serves until `stop`.
    pub(super) fn start(pages: Pages, sources: Arc<Sources>, stop: CancellationToken) -> io::Result<Self> {
        let (running, ended) = watch::channel(());
        let detach = |listener: Option<TcpListener>| listener.map(TcpListener::into_std).transpose();
        let http = detach(pages.http)?;
        let monitoring = detach(pages.monitoring)?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("admin".to_owned()).spawn(move || {
            let work = async {
                tokio::join!(
                    serve(http, http_pages(Arc::clone(&sources)), &stop),
                    serve(monitoring, monitoring_pages(sources), &stop),
                );
            };
            runtime.block_on(work);
            // Ends connections that are still open.
            runtime.shutdown_background();
            drop(running);
        })?;
        Ok(Self { ended })
    }

    /// Waits until the thread has ended.
    pub(super) async fn stopped(&mut self) {
        // The sender never sends: an error means that it is gone.
        while self.ended.changed().await.is_ok() {}
    }
}

async fn serve(listener: Option<std::net::TcpListener>, pages: Router, stop: &CancellationToken) {
    let Some(listener) = listener else {
        return;
    };
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%error, "an admin listener is lost"),
    };
    let serving = axum::serve(listener, pages).with_graceful_shutdown(stop.clone().cancelled_owned());
    let limit = async {
        stop.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    // Unbiased: open requests end, or are cut off.
    tokio::select! {
        ended = serving.into_future() => {
            if let Err(error) = ended {
                tracing::error!(%error, "admin pages ended");
            }
        }
        () = limit => {}
    }
}
