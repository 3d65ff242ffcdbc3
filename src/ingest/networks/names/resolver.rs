//! The resolver task: asks when the table says so and tells the registry what differs.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::{FuturesUnordered, StreamExt};
use tokio::time::Instant;

use super::lookup::{Upstream, look_up};
use super::table::{Due, Rules, Table};
use super::{GatewayNames, NameCounts};
use crate::ingest::convert::SpecialAddresses;
use crate::ingest::snapshot::Memory;
use crate::model::{Hostname, Quirk, Quirks};
use crate::registry::Registry;

/// Lookups under way at a time.
const CONCURRENT: usize = 16;
/// How long the addresses of a name that DNS says is gone stay (D8).
const KEEP_GONE: Duration = Duration::from_secs(300);

/// The one resolver of a process.
pub(in crate::ingest) struct Resolver<U> {
    upstream: Arc<U>,
    registry: Arc<Registry>,
    names: Arc<GatewayNames>,
    table: Table,
    memory: Arc<Memory>,
}

impl<U: Upstream> Resolver<U> {
    pub(in crate::ingest) fn new(
        upstream: U,
        registry: Arc<Registry>,
        names: Arc<GatewayNames>,
        special: SpecialAddresses,
        quirks: Quirks,
    ) -> Self {
        let keep_gone = if quirks.has(Quirk::Q31) { Duration::ZERO } else { KEEP_GONE };
        let table = Table::new(Rules { keep_gone, special });
        Self { upstream: Arc::new(upstream), registry, names, table, memory: Arc::default() }
    }

    /// The same, with what names resolved to before the start.
    pub(in crate::ingest) fn remembering(self, memory: Arc<Memory>) -> Self {
        Self { memory, ..self }
    }

    /// Keeps the names of the registry resolved, for ever.
    pub(in crate::ingest) async fn run(mut self) {
        let mut changed = self.registry.host_names_changed();
        changed.mark_changed();
        let mut lookups = FuturesUnordered::new();
        loop {
            let now = Instant::now();
            for host in self.table.expire(now) {
                tracing::warn!(%host, "gateway host name has been gone for too long: its addresses are given up");
                self.publish(&host);
            }
            for due in self.table.due(now, CONCURRENT.saturating_sub(lookups.len())) {
                let (upstream, names) = (Arc::clone(&self.upstream), Arc::clone(&self.names));
                lookups.push(async move {
                    let lookup = look_up(&*upstream, &due.host, names.counts()).await;
                    (due, lookup)
                });
            }
            let full = lookups.len() >= CONCURRENT;
            let wake = self.table.wake();
            tokio::select! {
                // Unbiased: each of them is rare, and all lead back to the top.
                news = changed.changed() => {
                    if news.is_err() {
                        return std::future::pending().await;
                    }
                    self.want();
                }
                Some((due, lookup)) = lookups.next(), if !lookups.is_empty() => self.take(&due, lookup),
                () = tokio::time::sleep_until(wake.unwrap_or(now)), if wake.is_some() && !(full && wake <= Some(now)) => {}
            }
        }
    }

    /// Which names gateways have now. The registry forgets the addresses of a name that went and came back.
    fn want(&mut self) {
        let wanted: BTreeSet<Hostname> = self.registry.networks().host_names().cloned().collect();
        for host in self.table.want(&wanted, Instant::now()) {
            tracing::info!(%host, "gateway host name is not used any more");
            self.names.forget(&host);
        }
        for host in &wanted {
            self.table.recall(host, || self.memory.addresses(host));
            self.publish(host);
        }
    }

    fn take(&mut self, due: &Due, lookup: super::lookup::Lookup) {
        if lookup.v4.is_err() && lookup.v6.is_err() {
            NameCounts::add(&self.names.counts().failures);
        }
        let Some(differs) = self.table.answer(due, lookup, Instant::now()) else {
            return;
        };
        if differs {
            let addresses = self.table.served(&due.host).unwrap_or_default();
            tracing::info!(host = %due.host, ?addresses, "gateway host name has other addresses");
            NameCounts::add(&self.names.counts().changes);
        }
        self.publish(&due.host);
    }

    /// Tells the registry, if it has something else, and operators.
    fn publish(&self, host: &Hostname) {
        let Some(row) = self.table.row(host) else {
            return;
        };
        if self.registry.networks().host_addresses(host).is_some_and(|known| *known != *row.addresses) {
            self.registry.set_host_addresses(host, &row.addresses);
        }
        self.names.set(host, row);
    }
}
