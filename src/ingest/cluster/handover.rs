//! Another token of the same user, which is no reason to list anything (K-30).

use std::time::Duration;

use super::Generation;
use crate::model::ClusterHealth;

/// How long the API server may take to accept the token.
const LIMIT: Duration = Duration::from_secs(5);

impl Generation {
    /// Hands the token to the generation that serves, if that is all that differs, once the API server has accepted
    /// it and has said that it is the same cluster. Then this generation is over. Whatever is not as clear as that is
    /// left to a complete listing: another user may be permitted to read less.
    pub(super) async fn hand_over(&self) -> bool {
        let Some(serving) = self.predecessor.as_ref().and_then(|predecessor| predecessor.feeds.upgrade())
        else {
            return false;
        };
        let (now, next) = (serving.token_user(), self.feeds.token_user());
        let Some((_, next)) = now.zip(next).filter(|(now, next)| now.is_same_user(next)) else {
            return false;
        };
        let cluster = &self.context.cluster;
        let pin = self.identities.pin(cluster);
        // One that is refused, or not heard, would try the token late.
        let is_well =
            |health: &ClusterHealth| matches!(health, ClusterHealth::Live | ClusterHealth::Degraded(_));
        let well = self.registry.clusters().look(cluster, |row| is_well(&row.health)).unwrap_or_default();
        if pin.is_empty() || !well {
            return false;
        }
        let accepted = tokio::time::timeout(LIMIT, self.feeds.uid()).await;
        if !matches!(accepted, Ok(Ok(uid)) if uid == pin) {
            return false;
        }
        let handed = self.turn.hand_over(|| serving.take_token(next));
        if handed {
            let facts = serving.credentials();
            self.registry.clusters().update(cluster, |row| {
                row.tokens_exchanged += 1;
                row.credentials = facts;
            });
            tracing::info!("another token of the same user is in use; everything is watched as before");
        }
        handed
    }
}
