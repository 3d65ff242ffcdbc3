//! What a lab is asked to be.

use thiserror::Error;

/// The most clusters of a lab.
pub const MAX_CLUSTERS: u8 = 8;
/// The first clusters are called like this, later ones `c5`, `c6`, ….
const NAMES: [&str; 4] = ["east", "west", "north", "south"];

/// Which control plane serves which cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Topology {
    /// One control plane per cluster; each watches all.
    MultiPrimary,
    /// The first cluster's control plane serves and watches all.
    PrimaryRemote,
    /// One control plane outside of all clusters serves and watches all.
    External,
}

impl Topology {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::MultiPrimary => "multi-primary",
            Self::PrimaryRemote => "primary-remote",
            Self::External => "external",
        }
    }
}

/// How traffic gets into a sidecar, unless a pod says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Sidecars {
    /// Transparently.
    Captured,
    /// By explicit addresses: a vanilla sidecar in mode NONE.
    None,
}

impl Sidecars {
    /// The word on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::None => "none",
        }
    }
}

/// Numbers and arrangement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shape {
    clusters: u8,
    networks: u8,
    /// Which control plane serves which cluster.
    pub topology: Topology,
    /// How traffic gets into a sidecar.
    pub sidecars: Sidecars,
}

/// Why a shape cannot be. *Fatal*.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ShapeError {
    /// Too few or too many clusters.
    #[error("{0} clusters: a lab has 1 to {MAX_CLUSTERS}")]
    Clusters(u8),
    /// Too few or too many networks.
    #[error(
        "{networks} networks for {clusters} clusters: each network has at least one cluster, and there is at least one network"
    )]
    Networks {
        /// How many networks were asked for.
        networks: u8,
        /// For how many clusters.
        clusters: u8,
    },
}

impl Shape {
    /// `clusters` on `networks`: the i-th cluster is in network i modulo `networks`.
    ///
    /// # Errors
    /// `ShapeError`.
    pub fn new(
        clusters: u8,
        networks: u8,
        topology: Topology,
        sidecars: Sidecars,
    ) -> Result<Self, ShapeError> {
        if !(1..=MAX_CLUSTERS).contains(&clusters) {
            return Err(ShapeError::Clusters(clusters));
        }
        if !(1..=clusters).contains(&networks) {
            return Err(ShapeError::Networks { networks, clusters });
        }
        Ok(Self { clusters, networks, topology, sidecars })
    }

    /// How many clusters.
    pub fn clusters(&self) -> u8 {
        self.clusters
    }

    /// Names of the clusters.
    pub fn cluster_names(&self) -> Vec<String> {
        (0..self.clusters).map(cluster_name).collect()
    }

    /// How many networks.
    pub fn networks(&self) -> u8 {
        self.networks
    }
}

impl Default for Shape {
    fn default() -> Self {
        Self { clusters: 2, networks: 2, topology: Topology::MultiPrimary, sidecars: Sidecars::Captured }
    }
}

/// The name of the cluster at `at`, from 0.
pub(super) fn cluster_name(at: u8) -> String {
    NAMES.get(usize::from(at)).map_or_else(|| format!("c{}", at + 1), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impossible_shapes_say_what_is_possible() {
        let shape = |clusters, networks| Shape::new(clusters, networks, Topology::External, Sidecars::None);
        assert!(shape(9, 1).unwrap_err().to_string().contains("1 to 8"));
        assert!(shape(0, 0).unwrap_err().to_string().contains("0 clusters"));
        assert!(shape(2, 3).unwrap_err().to_string().contains("3 networks for 2 clusters"));
        assert!(shape(2, 0).is_err());
        assert!(shape(8, 8).is_ok());
    }

    #[test]
    fn the_fifth_cluster_has_a_number() {
        assert_eq!([0, 1, 4, 7].map(cluster_name), ["east", "west", "c5", "c8"]);
    }
}
