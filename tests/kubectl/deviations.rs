//! Where a synthetic server differs from a real one, and why.

use std::fmt;

/// What differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum What {
    Exit,
    Output,
    Message,
    Objects,
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exit => "exit code",
            Self::Output => "output",
            Self::Message => "message",
            Self::Objects => "objects",
        })
    }
}

use What::{Exit, Message, Objects, Output};

/// Command, what differs, reason.
pub(super) const DEVIATIONS: &[(&str, &[What], &str)] = &[
    ("kubectl version", &[Output], "the version says that the server is synthetic"),
    (
        "kubectl apply --server-side -f pod.yaml --dry-run=server",
        &[Exit, Output, Message],
        "server-side apply is refused with 415: no field is tracked to its manager",
    ),
    (
        "kubectl patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":9}]'",
        &[Message],
        "the message also says which operation failed",
    ),
    (
        "kubectl apply -f pod.yaml",
        &[Objects],
        "no admission plugins, so no default tolerations; the real server runs without the plugin that fills in the service account",
    ),
    (
        "kubectl run one --image=one:1 --labels=app=one --restart=Never",
        &[Objects],
        "no admission plugins, so no default tolerations; the real server runs without the plugin that fills in the service account",
    ),
    (
        "kubectl describe pod one",
        &[Output],
        "no admission plugins, so no default tolerations; the real server runs without the plugin that fills in the service account",
    ),
    ("kubectl apply -f node.yaml", &[Objects], "no admission plugins: no taint until the node is ready"),
    (
        "kubectl taint node n1 dedicated=web:NoSchedule",
        &[Objects],
        "no admission plugins: no taint until the node is ready",
    ),
    (
        "kubectl get node n1 -o jsonpath='{.spec}'",
        &[Output],
        "no admission plugins: no taint until the node is ready",
    ),
    (
        "kubectl describe node n1 | head -20",
        &[Output],
        "no admission plugins: no taint until the node is ready",
    ),
    ("kubectl logs one", &[Exit, Message], "there are no kubelets to ask for logs"),
    (
        "kubectl patch widget round -p '{\"spec\":{\"size\":2}}'",
        &[Message],
        "server-side apply is not among the patch types named",
    ),
    ("kubectl apply -f no-selector.yaml", &[Message], "the first problem is told, not all of them"),
    (
        "kubectl patch pod one -p '{\"spec\":{\"containers\":[{\"image\":\"nameless\"}]}}'",
        &[Message],
        "a patch without its merge key is the client's error: 422 instead of 500",
    ),
    (
        "kubectl patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}}}}'",
        &[Message],
        "the first problem is told, not all of them",
    ),
    ("kubectl api-resources -o name | sort", &[Output], "only the kinds of the lab are served"),
    (
        "kubectl delete namespace shop --wait=false",
        &[Objects],
        "a namespace and what is in it go at once; a real server needs a controller for that",
    ),
];
