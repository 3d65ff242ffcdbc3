//! How many pods a Deployment wants, and how many may be too many or too few while they change.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

/// The limits of one Deployment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Limits {
    /// Pods wanted.
    pub(super) wanted: usize,
    /// Pods there may be beyond those wanted.
    pub(super) surge: usize,
    /// Pods wanted that may be unavailable.
    pub(super) unavailable: usize,
    /// Whether all old pods go before a new one comes.
    pub(super) recreate: bool,
}

impl Limits {
    /// The limits `deployment` sets, with Kubernetes' defaults.
    pub(super) fn of(deployment: &Deployment) -> Self {
        let spec = &deployment.spec;
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        let strategy = spec.strategy.as_ref();
        if strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate") {
            return Self { wanted, surge: 0, unavailable: 0, recreate: true };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let surge = rolling.and_then(|rolling| rolling.max_surge.as_ref()).unwrap_or(&quarter);
        let unavailable = rolling.and_then(|rolling| rolling.max_unavailable.as_ref()).unwrap_or(&quarter);
        let (surge, mut unavailable) =
            (part(surge, wanted, usize::div_ceil), part(unavailable, wanted, |part, of| part / of));
        if surge == 0 && unavailable == 0 {
            // Nothing could ever change.
            unavailable = 1;
        }
        Self { wanted, surge, unavailable: unavailable.min(wanted), recreate: false }
    }

    /// Pods that must stay available.
    pub(super) fn least_available(&self) -> usize {
        self.wanted - self.unavailable
    }
}

/// A number, or a share of `whole` rounded by `divide`; what is neither counts as 0.
fn part(value: &IntOrString, whole: usize, divide: impl Fn(usize, usize) -> usize) -> usize {
    match value {
        IntOrString::Int(number) => usize::try_from(*number).unwrap_or(0),
        IntOrString::String(text) => {
            let percent = text.strip_suffix('%').and_then(|number| number.parse::<usize>().ok());
            percent.map_or(0, |percent| divide(percent.saturating_mul(whole), 100))
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::apps::v1::{DeploymentStrategy, RollingUpdateDeployment};

    use super::*;

    fn limits(replicas: i32, surge: Option<IntOrString>, unavailable: Option<IntOrString>) -> (usize, usize) {
        let mut deployment = Deployment::default();
        deployment.spec.replicas = Some(replicas);
        deployment.spec.strategy = Some(DeploymentStrategy {
            rolling_update: Some(RollingUpdateDeployment { max_surge: surge, max_unavailable: unavailable }),
            type_: Some("RollingUpdate".into()),
        });
        let limits = Limits::of(&deployment);
        (limits.surge, limits.unavailable)
    }

    #[test]
    fn shares_round_towards_more_pods() {
        assert_eq!(limits(1, None, None), (1, 0));
        assert_eq!(limits(3, None, None), (1, 0));
        assert_eq!(limits(10, None, None), (3, 2));
        assert_eq!(limits(10, Some(IntOrString::Int(5)), Some(IntOrString::String("50%".into()))), (5, 5));
    }

    #[test]
    fn something_may_always_change() {
        assert_eq!(limits(3, Some(IntOrString::Int(0)), Some(IntOrString::Int(0))), (0, 1));
        assert_eq!(limits(0, Some(IntOrString::Int(0)), None), (0, 0));
    }
}
