//! The scenarios.

use futures::future::LocalBoxFuture;

use super::super::LabError;
use super::stage::Stage;
use super::{
    Expected, Needs, Scenario, Subject, api_server, control_plane, endpoints, gateway, ingress, policies,
    remote,
};

/// Boxes an `async fn` of the stage, so that it fits a table.
macro_rules! steps {
    ($function:path) => {{
        fn steps(stage: &Stage) -> LocalBoxFuture<'_, Result<(), LabError>> {
            Box::pin($function(stage))
        }
        steps
    }};
}

const fn expect(name: &'static str, what: &'static str) -> Expected {
    Expected { name, what }
}

/// All of them.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "kill-api",
        about: "the API server of a cluster is killed for a while",
        takes: &["--for"],
        subject: Subject::Last,
        needs: Needs::OtherCluster,
        own: &[
            expect("nothing-moves", "while it is away no Envoy of the lab gets or loses anything"),
            expect("others-change", "a Service created in another cluster meanwhile reaches every client"),
            expect("catches-up", "one created in it afterwards reaches every client"),
            expect("says-so", "control planes say that it is not live, and live afterwards"),
        ],
        steps: steps!(api_server::kill),
    },
    Scenario {
        name: "hang-api",
        about: "the API server of a cluster is frozen for a while: connections stay, nothing comes",
        takes: &["--for"],
        subject: Subject::Last,
        needs: Needs::OtherCluster,
        own: &[
            expect("nothing-moves", "while it is frozen no Envoy of the lab gets or loses anything"),
            expect("others-change", "a Service created in another cluster meanwhile reaches every client"),
            expect("catches-up", "one created in it afterwards reaches every client"),
            expect("says-so", "control planes notice the silence, and say live afterwards"),
        ],
        steps: steps!(api_server::hang),
    },
    Scenario {
        name: "kill-gateway",
        about: "the Envoy of a cluster's gateway is killed; its node starts it again after a pause",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::OtherNetwork,
        own: &[
            expect(
                "retried-elsewhere",
                "clients of other networks are refused connections, and retries succeed",
            ),
            expect("known-hosts-only", "Envoy's own counts: every connection went to a host of its list"),
            expect("comes-back", "once it runs again the cluster answers other networks again"),
        ],
        steps: steps!(gateway::kill),
    },
    Scenario {
        name: "move-gateway",
        about: "a cluster's load balancer moves to a second gateway at another address, and back",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::OtherNetwork,
        own: &[
            expect("answers-by-the-new-one", "the cluster answers other networks through the second gateway"),
            expect("clients-follow", "every client of another network has the new address within a second"),
            expect("endpoints-only", "no Envoy gets a list of Envoy clusters for it (CDS)"),
        ],
        steps: steps!(gateway::relocate),
    },
    Scenario {
        name: "kill-control-plane",
        about: "the control plane of a cluster is killed and started again after a while",
        takes: &["--for"],
        subject: Subject::First,
        needs: Needs::Nothing,
        own: &[
            expect("reconnects", "every Envoy it serves is connected again"),
            expect("catches-up", "a Service created meanwhile reaches every client afterwards"),
            expect("no-endpoint-lost", "its clients keep every host, while it is away and afterwards"),
        ],
        steps: steps!(control_plane::kill),
    },
    Scenario {
        name: "drain-cluster",
        about: "the nodes of a cluster are cordoned for a while and its application's pods deleted gracefully",
        takes: &["--for"],
        subject: Subject::Last,
        needs: Needs::OtherCluster,
        own: &[
            expect("nobody-left", "no client has an endpoint of it within a second of its EndpointSlices"),
            expect("others-answer", "requests are answered by other clusters only"),
            expect("comes-back", "uncordoned, it has as many endpoints as before, and answers"),
        ],
        steps: steps!(endpoints::drain),
    },
    Scenario {
        name: "scale",
        about: "the application of a cluster is scaled as kubectl does",
        takes: &["--to"],
        subject: Subject::Last,
        needs: Needs::Nothing,
        own: &[
            expect("weights-follow", "every client's weights follow within a second of the EndpointSlices"),
            expect("answers-again", "in the end it answers every client"),
        ],
        steps: steps!(endpoints::scale),
    },
    Scenario {
        name: "rotate-secret",
        about: "the credential by which control planes read a cluster is replaced, the old one revoked",
        takes: &["--for"],
        subject: Subject::Last,
        needs: Needs::Secret,
        own: &[
            expect("old-one-refused", "the API server refuses the old credential"),
            expect("no-push", "no Envoy gets or loses anything for it"),
            expect("still-watched", "a Service created in it afterwards reaches every client"),
        ],
        steps: steps!(remote::rotate),
    },
    Scenario {
        name: "delete-cluster",
        about: "the remote Secret of a cluster is deleted for a while",
        takes: &["--for"],
        subject: Subject::Last,
        needs: Needs::Secret,
        own: &[
            expect(
                "leaves-after-grace",
                "its endpoints stay for 5 s, then leave; the others stay throughout",
            ),
            expect("one-push", "each client gets one push of endpoints for it"),
            expect("comes-back", "with the Secret its endpoints are back"),
        ],
        steps: steps!(remote::delete),
    },
    Scenario {
        name: "flap",
        about: "the application's pods of a cluster stop and start being ready, again and again",
        takes: &["--times"],
        subject: Subject::Last,
        needs: Needs::OtherCluster,
        own: &[
            expect("truth-in-the-end", "every client ends with what the API servers say"),
            expect("endpoints-only", "no Envoy gets a list of Envoy clusters for it (CDS)"),
            expect("pushed-as-needed", "endpoints are pushed, at most once per flip"),
        ],
        steps: steps!(endpoints::flap),
    },
    Scenario {
        name: "weights",
        about: "a cluster has three pods: other networks see one gateway with their weight",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::Policies,
        own: &[
            expect("weights-shown", "Envoy's own list of hosts has the sum of the weights at the gateway"),
            expect("split-by-weight", "10 000 requests are split by weight (chi-square)"),
        ],
        steps: steps!(policies::weights),
    },
    Scenario {
        name: "distribute",
        about: "a DestinationRule keeps 70 % of requests in the client's cluster",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::Policies,
        own: &[expect("split-as-told", "10 000 requests of every client are split as told (chi-square)")],
        steps: steps!(policies::distribute),
    },
    Scenario {
        name: "failover",
        about: "a DestinationRule keeps clients near; then the pods of a cluster are not ready for a while",
        takes: &[],
        subject: Subject::First,
        needs: Needs::Policies,
        own: &[
            expect("near-first", "every client is answered by its own cluster alone"),
            expect(
                "next-region-takes-over",
                "its clients are answered by the next one, without outlier detection",
            ),
            expect("returns", "once its pods are ready they answer again, alone"),
        ],
        steps: steps!(policies::failover),
    },
    Scenario {
        name: "subsets",
        about: "a DestinationRule makes subsets by version, a VirtualService routes by header",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::Policies,
        own: &[expect("version-asked-for", "every client is answered by the version it asks for")],
        steps: steps!(policies::subsets),
    },
    Scenario {
        name: "strict-mtls",
        about: "a PeerAuthentication asks for mTLS",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::Policies,
        own: &[
            expect("plaintext-before", "a plaintext request is answered before"),
            expect("plaintext-refused", "and refused then"),
            expect("mesh-goes-on", "clients of every cluster are answered"),
        ],
        steps: steps!(policies::strict),
    },
    Scenario {
        name: "authorization",
        about: "an AuthorizationPolicy lets in one account of every cluster",
        takes: &[],
        subject: Subject::Last,
        needs: Needs::Policies,
        own: &[
            expect("other-principal-denied", "another account of another cluster is denied"),
            expect("principal-of-another-cluster-allowed", "the account is let in from other clusters"),
        ],
        steps: steps!(policies::authorize),
    },
    Scenario {
        name: "ingress",
        about: "an ingress gateway with a Gateway and routes is asked from another network, in plain and with TLS",
        takes: &[],
        subject: Subject::First,
        needs: Needs::Policies,
        own: &[
            expect("host-and-path", "every cluster answers, and one version alone where a path says so"),
            expect("unknown-host", "hosts and paths without a route are not found"),
            expect("split-as-told", "1000 requests are split 80:20 (chi-square)"),
            expect("tls-by-server-name", "with TLS too, with a certificate from files of the gateway"),
            expect(
                "bad-file-costs-one-server",
                "a server without its files answers nobody, the others go on",
            ),
        ],
        steps: steps!(ingress::ingress),
    },
];
