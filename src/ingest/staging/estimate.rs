//! How much memory a cluster's state needs, about.

use std::mem::size_of;

use super::Staging;
use super::pod_table::PodId;
use crate::ingest::convert::{Entry, PodShape};
use crate::ingest::objects::ServiceObject;
use crate::model::{Endpoint, Service, Workload, WorkloadCell, WorkloadProfile};

/// A text and what an allocation has around it: names of pods, Services, slices.
const TEXT: usize = 48;
/// Keys, versions and addresses of one Service in the registry and here.
const SERVICE: usize = size_of::<ServiceObject>() + 2 * size_of::<Service>() + 16 * TEXT;
/// What the pods of one deployment share.
const DEPLOYMENT: usize = size_of::<PodShape>() + size_of::<WorkloadProfile>() + 8 * TEXT;
/// A slice without its entries.
const SLICE: usize = 128 + 2 * TEXT;
/// Tables are three quarters full on average.
const fn in_a_table(bytes: usize) -> usize {
    bytes * 4 / 3 + 1
}

impl Staging {
    /// Bytes held for the cluster here and in the registry, estimated from what is counted anyway: within a third
    /// of what is measured for clusters with many pods. Costs nothing.
    pub fn memory_estimate(&self) -> usize {
        let pod = size_of::<Workload>() + 16 + TEXT + in_a_table(size_of::<WorkloadCell>());
        self.pods.bytes()
            + self.pods.count() * pod
            + self.pods.shapes() * DEPLOYMENT
            + self.slice_entries * size_of::<Entry<PodId>>()
            + self.endpoints * size_of::<Endpoint>()
            + self.slices.len() * SLICE
            + self.services.len() * SERVICE
    }
}
