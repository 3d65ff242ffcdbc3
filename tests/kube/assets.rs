//! The programs of `make kube-assets`.

use tombolo::sim::kube_apiserver::KubeAssets;

/// The programs, if they are there. Without them what needs them is skipped loudly; with `CI=true` that is a failure.
pub(super) fn assets() -> Option<KubeAssets> {
    match KubeAssets::find(None) {
        Ok(assets) => Some(assets),
        Err(error) => {
            assert!(std::env::var_os("CI").is_none(), "cannot run in CI without this: {error}");
            println!("SKIPPED: what needs a real API server: {error}");
            None
        }
    }
}
