//! How much of everything.

use std::time::Duration;

use super::world::Shape;

/// What a user chooses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Sizes {
    /// Clusters, each a network.
    pub clusters: usize,
    /// Services, the same in each.
    pub services: u32,
    /// Endpoints of each service in each cluster.
    pub endpoints: u32,
    /// Proxies where a phase does not need another number.
    pub proxies: usize,
    /// Seed of worlds and fleets.
    pub seed: u64,
}

impl Sizes {
    /// Those that the goals are for.
    pub const STANDARD: Self = Self { clusters: 3, services: 200, endpoints: 20, proxies: 200, seed: 1 };
    /// A world that is there in a moment.
    pub const QUICK: Self = Self { clusters: 2, services: 6, endpoints: 3, proxies: 12, seed: 1 };

    pub(super) fn shape(self) -> Shape {
        Shape { clusters: self.clusters, services: self.services, endpoints: self.endpoints, seed: self.seed }
    }
}

/// Everything that has a number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Amounts {
    pub(super) sizes: Sizes,
    /// Whether the goals are for these.
    pub(super) standard: bool,
    /// Changes one after the other, and the time between them.
    pub(super) changes: usize,
    pub(super) pause: Duration,
    /// Events of a burst, and how long it takes.
    pub(super) burst: (usize, Duration),
    /// Events per second under load.
    pub(super) load: f64,
    /// Proxies of the phases that need many.
    pub(super) many: usize,
    /// Proxies of the phase that needs most.
    pub(super) most: usize,
    /// How long nothing comes before it is over.
    pub(super) quiet: Duration,
    /// How long idleness is measured.
    pub(super) idle: Duration,
    /// Steps of a slope.
    pub(super) steps: usize,
    /// Endpoints of a large service, and how often it is sent.
    pub(super) large: (u32, usize),
    /// Services of the two worlds of the phase about Envoy clusters.
    pub(super) wide: [u32; 2],
    /// Proxies that ask for everything in them.
    pub(super) everything: usize,
    /// Healthy proxies beside stuck ones.
    pub(super) healthy: usize,
}

impl Amounts {
    pub(super) fn new(sizes: Sizes, quick: bool) -> Self {
        let standard = !quick && Sizes { seed: Sizes::STANDARD.seed, ..sizes } == Sizes::STANDARD;
        if quick {
            return Self {
                sizes,
                standard,
                changes: 6,
                pause: Duration::from_millis(5),
                burst: (40, Duration::from_millis(80)),
                load: 200.0,
                many: 20,
                most: 30,
                quiet: Duration::from_millis(200),
                idle: Duration::from_millis(200),
                steps: 2,
                large: (50, 2),
                wide: [5, 20],
                everything: 5,
                healthy: 5,
            };
        }
        Self {
            sizes,
            standard,
            changes: 200,
            pause: Duration::from_millis(50),
            burst: (2_000, Duration::from_secs(4)),
            load: 500.0,
            many: 1_000,
            most: 10_000,
            // Longer than a push is held back for want of an acknowledgement.
            quiet: Duration::from_secs(1),
            // A keepalive ping of each connection, whenever it connected.
            idle: Duration::from_secs(30),
            steps: 5,
            large: (1_000, 20),
            wide: [1_000, 10_000],
            everything: 20,
            healthy: 100,
        }
    }
}
