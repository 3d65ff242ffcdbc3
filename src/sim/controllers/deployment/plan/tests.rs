use serde_json::{Value, json};

use super::*;

fn object<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// A Deployment with its pods and two nodes, through time.
struct World {
    deployment: Deployment,
    pods: Vec<Arc<Pod>>,
    leaving: HashSet<String>,
    nodes: Vec<Arc<Node>>,
    failure: Option<Trouble>,
    second: i64,
    made: usize,
}

impl World {
    fn new(replicas: i32) -> Self {
        let node = |name: &str| Arc::new(object(json!({"metadata": {"name": name}})));
        Self {
            deployment: object(json!({
                "metadata": {"name": "web", "namespace": "n", "uid": "d1", "generation": 1},
                "spec": {
                    "replicas": replicas,
                    "selector": {"matchLabels": {"app": "web"}},
                    "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c"}]}},
                },
            })),
            pods: Vec::new(),
            leaving: HashSet::new(),
            nodes: vec![node("n1"), node("n2")],
            failure: None,
            second: 0,
            made: 0,
        }
    }

    fn plan(&self) -> Plan {
        reconcile(&Input {
            deployment: &self.deployment,
            pods: &self.pods,
            leaving: &self.leaving,
            nodes: &self.nodes,
            failure: self.failure.as_ref(),
            now: at(self.second),
        })
    }

    /// Takes one decision and carries it out; how many pods were created and deleted.
    fn step(&mut self) -> (usize, usize) {
        let plan = self.plan();
        let (mut created, mut deleted) = (0, 0);
        for action in plan.actions {
            match action {
                Action::Create(pod) => {
                    created += 1;
                    self.made += 1;
                    let mut pod = *pod;
                    pod.metadata.name = Some(format!("web-{}", self.made));
                    pod.metadata.uid = Some(format!("u{}", self.made));
                    self.pods.push(Arc::new(pod));
                }
                Action::Delete(pod) => {
                    deleted += 1;
                    self.pods.retain(|held| !Arc::ptr_eq(held, &pod));
                }
                other => panic!("not expected here: {other:?}"),
            }
        }
        if let Some(status) = plan.status {
            self.deployment.status = Some(status);
        }
        (created, deleted)
    }

    /// Makes every pod ready, or those of a name.
    fn ready(&mut self, wanted: impl Fn(&str) -> bool) {
        for pod in &mut self.pods {
            if wanted(pod.metadata.name.as_deref().unwrap()) {
                let since = at(self.second).to_string();
                let mut next = pod.as_ref().clone();
                next.status = object(json!({"phase": "Running", "conditions": [
                    {"type": "Ready", "status": "True", "lastTransitionTime": since}]}));
                *pod = Arc::new(next);
            }
        }
    }

    fn settled(replicas: i32) -> Self {
        let mut world = Self::new(replicas);
        world.step();
        world.ready(|_| true);
        assert_eq!(world.step(), (0, 0));
        world
    }

    fn new_template(&mut self, text: &str) {
        let metadata = self.deployment.spec.template.metadata.get_or_insert_default();
        metadata.annotations = Some([("restarted".to_owned(), text.to_owned())].into());
        self.deployment.metadata.generation =
            self.deployment.metadata.generation.map(|generation| generation + 1);
    }

    fn names(&self) -> Vec<&str> {
        self.pods.iter().map(|pod| pod.metadata.name.as_deref().unwrap()).collect()
    }

    fn condition(&self, kind: &str) -> Option<(String, String)> {
        let status = serde_json::to_value(self.deployment.status.as_ref()?).unwrap();
        let all = status["conditions"].as_array()?.clone();
        let found = all.into_iter().find(|condition| condition["type"] == kind)?;
        Some((found["status"].as_str()?.to_owned(), found["reason"].as_str()?.to_owned()))
    }

    fn counts(&self) -> [i32; 5] {
        let status = self.deployment.status.clone().unwrap_or_default();
        [
            status.replicas,
            status.updated_replicas,
            status.ready_replicas,
            status.available_replicas,
            status.unavailable_replicas,
        ]
        .map(|count| count.unwrap_or(0))
    }
}

fn says(status: &str, reason: &str) -> Option<(String, String)> {
    Some((status.to_owned(), reason.to_owned()))
}

#[test]
fn pods_are_made_from_the_template_and_owned() {
    let mut world = World::new(3);
    world.step();
    let pod = &world.pods[0];
    let owner = pods::controller_of(pod.as_ref()).unwrap();
    assert_eq!(
        (owner.kind.as_str(), owner.uid.as_str(), owner.block_owner_deletion),
        ("Deployment", "d1", Some(true))
    );
    let hash = &pod.metadata.labels.as_ref().unwrap()[TEMPLATE_HASH];
    assert_eq!(pod.metadata.generate_name, Some(format!("web-{hash}-")));
    let on = |node: &str| {
        let is = |pod: &&Arc<Pod>| pod.spec.as_ref().unwrap().node_name.as_deref() == Some(node);
        world.pods.iter().filter(is).count()
    };
    assert_eq!((on("n1") + on("n2"), on("n1").abs_diff(on("n2"))), (3, 1));
}

#[test]
fn the_status_follows_the_pods() {
    let mut world = World::new(2);
    world.step();
    assert_eq!(world.counts(), [0, 0, 0, 0, 2]);
    assert_eq!(world.condition("Available"), says("False", "MinimumReplicasUnavailable"));
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetCreated"));
    world.step();
    assert_eq!(world.counts(), [2, 2, 0, 0, 2]);
    assert_eq!(world.condition("Progressing"), says("True", "ReplicaSetUpdated"));
    world.ready(|_| true);
    world.step();
    assert_eq!(world.counts(), [2, 2, 2, 2, 0]);
    assert_eq!(world.condition("Available"), says("True", "MinimumReplicasAvailable"));
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetAvailable"));
    let before = world.deployment.status.clone();
    world.second += 100;
    world.step();
    assert_eq!(world.deployment.status, before, "time alone changes nothing");
}

#[test]
fn scaling_a_finished_rollout_does_not_begin_another() {
    let mut world = World::settled(1);
    world.deployment.spec.replicas = Some(4);
    assert_eq!(world.step(), (3, 0));
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetAvailable"));
    assert_eq!(world.condition("Available"), says("False", "MinimumReplicasUnavailable"));
    world.deployment.spec.replicas = Some(0);
    assert_eq!(world.step(), (0, 4));
    world.step();
    assert_eq!(world.counts(), [0; 5]);
}

#[test]
fn scaling_down_spares_the_oldest_that_are_ready() {
    let mut world = World::settled(2);
    world.deployment.spec.replicas = Some(4);
    world.step();
    world.second += 50;
    world.ready(|name| name == "web-3");
    world.deployment.spec.replicas = Some(2);
    assert_eq!(world.step(), (0, 2));
    assert_eq!(world.names(), ["web-1", "web-2"]);
}

#[test]
fn pods_on_their_way_out_are_replaced_but_not_deleted_again() {
    let mut world = World::settled(3);
    world.leaving.insert("u1".into());
    assert_eq!(world.step(), (1, 0));
    world.deployment.spec.replicas = Some(1);
    let deleted: Vec<_> = world.plan().actions;
    assert_eq!(deleted.len(), 2, "{deleted:?}");
}

#[test]
fn finished_pods_are_replaced_and_kept_up_to_a_limit() {
    let mut world = World::settled(1);
    for round in 0..15 {
        let mut failed = world.pods.pop().unwrap().as_ref().clone();
        failed.status.get_or_insert_default().phase = Some("Failed".into());
        world.pods.insert(0, Arc::new(failed));
        let (created, deleted) = world.step();
        assert_eq!((created, deleted), (1, usize::from(round >= FINISHED_KEPT)), "round {round}");
    }
    assert_eq!(world.pods.len(), FINISHED_KEPT + 1);
}

#[test]
fn a_new_template_comes_up_before_the_old_one_goes() {
    let mut world = World::settled(3);
    world.new_template("now");
    let mut steps = 0;
    loop {
        let (created, deleted) = world.step();
        let ready = world.pods.iter().filter(|pod| pods::is_ready(pod)).count();
        assert!(ready >= 3, "{ready} ready");
        assert!(world.pods.len() <= 4, "{} pods", world.pods.len());
        world.second += 1;
        if (created, deleted) == (0, 0) {
            if world.pods.iter().all(|pod| pods::is_ready(pod)) {
                break;
            }
            world.ready(|_| true);
        }
        steps += 1;
        assert!(steps < 50, "the rollout ends");
    }
    assert_eq!(world.names(), ["web-4", "web-5", "web-6"]);
    assert_eq!(world.counts(), [3, 3, 3, 3, 0]);
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetAvailable"));
}

#[test]
fn old_pods_that_serve_nobody_do_not_hold_up_a_rollout() {
    let mut world = World::new(2);
    world.step();
    world.new_template("repaired");
    world.step();
    world.ready(|name| name == "web-3");
    world.step();
    world.step();
    world.ready(|_| true);
    world.step();
    assert!(world.names().iter().all(|name| !["web-1", "web-2"].contains(name)), "{:?}", world.names());
}

#[test]
fn recreate_waits_until_the_old_ones_are_gone() {
    let mut world = World::settled(2);
    world.deployment.spec.strategy = object(json!({"type": "Recreate"}));
    world.new_template("now");
    let plan = world.plan();
    assert!(plan.actions.iter().all(|action| matches!(action, Action::Delete(_))), "{:?}", plan.actions);
    world.leaving = ["u1".to_owned(), "u2".to_owned()].into();
    assert!(world.plan().actions.is_empty(), "the old ones are still there");
    world.pods.clear();
    assert_eq!(world.step(), (2, 0));
}

#[test]
fn a_paused_deployment_scales_but_keeps_its_template() {
    let mut world = World::settled(2);
    world.deployment.spec.paused = Some(true);
    world.new_template("later");
    assert_eq!(world.step(), (0, 0));
    assert_eq!(world.condition("Progressing"), says("Unknown", "DeploymentPaused"));
    world.deployment.spec.replicas = Some(1);
    assert_eq!(world.step(), (0, 1));
    world.deployment.spec.paused = None;
    assert_eq!(world.step(), (1, 0));
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetCreated"));
}

#[test]
fn a_rollout_that_stands_still_is_called_stuck_until_it_moves() {
    let mut world = World::new(1);
    world.deployment.spec.progress_deadline_seconds = Some(60);
    world.step();
    world.step();
    let plan = world.plan();
    assert_eq!(plan.again, Some(Duration::from_secs(60)));
    world.second = 61;
    world.step();
    assert_eq!(world.condition("Progressing"), says("False", "ProgressDeadlineExceeded"));
    world.second = 500;
    world.step();
    assert_eq!(world.condition("Progressing"), says("False", "ProgressDeadlineExceeded"));
    world.ready(|_| true);
    world.step();
    assert_eq!(world.condition("Progressing"), says("True", "NewReplicaSetAvailable"));
}

#[test]
fn a_pod_is_available_once_it_has_been_ready_for_long_enough() {
    let mut world = World::new(1);
    world.deployment.spec.min_ready_seconds = Some(10);
    world.step();
    world.ready(|_| true);
    let plan = world.plan();
    assert_eq!(plan.again, Some(Duration::from_secs(10)));
    world.step();
    assert_eq!(world.counts(), [1, 1, 1, 0, 1]);
    world.second = 10;
    world.step();
    assert_eq!(world.counts(), [1, 1, 1, 1, 0]);
}

#[test]
fn without_a_schedulable_node_pods_are_held_back_with_a_reason() {
    let mut world = World::new(1);
    let nodes = std::mem::take(&mut world.nodes);
    assert_eq!(world.step(), (0, 0));
    assert_eq!(world.condition("ReplicaFailure"), says("True", "Unschedulable"));
    world.nodes = nodes;
    assert_eq!(world.step(), (1, 0));
    assert_eq!(world.condition("ReplicaFailure"), None);
}

#[test]
fn a_template_with_a_node_of_its_own_is_not_scheduled() {
    let mut world = World::new(1);
    world.nodes.clear();
    world.deployment.spec.template.spec.get_or_insert_default().node_name = Some("elsewhere".into());
    assert_eq!(world.step(), (1, 0));
    assert_eq!(world.pods[0].spec.as_ref().unwrap().node_name.as_deref(), Some("elsewhere"));
}

#[test]
fn a_refused_creation_is_told_until_nothing_is_missing() {
    let mut world = World::new(1);
    world.failure = Some(Trouble { reason: "FailedCreate", message: "quota".into() });
    world.step();
    assert_eq!(world.condition("ReplicaFailure"), says("True", "FailedCreate"));
    world.step();
    assert_eq!(world.condition("ReplicaFailure"), None);
}

#[test]
fn invalid_selectors_are_refused_and_touch_nothing() {
    for selector in [
        json!({}),
        json!({"matchLabels": {"app": "other"}}),
        json!({"matchExpressions": [{"key": "app", "operator": "Sometimes"}]}),
    ] {
        let mut world = World::settled(1);
        world.deployment.spec.replicas = Some(0);
        world.deployment.spec.selector = object(selector);
        assert_eq!(world.step(), (0, 0));
        assert_eq!(world.condition("ReplicaFailure"), says("True", "InvalidSelector"));
        assert_eq!(world.counts(), [1, 1, 1, 1, 0], "what was known stays");
    }
}

#[test]
fn a_relabelled_pod_is_released_and_replaced() {
    let mut world = World::settled(1);
    let mut pod = world.pods[0].as_ref().clone();
    pod.metadata.labels.as_mut().unwrap().insert("app".into(), "debug".into());
    world.pods[0] = Arc::new(pod);
    let actions = world.plan().actions;
    assert!(matches!(actions[..], [Action::Release(_), Action::Create(_)]), "{actions:?}");
}

#[test]
fn a_deployment_waits_for_its_pods_as_its_finalizer_says() {
    let mut world = World::settled(2);
    world.deployment.metadata.deletion_timestamp = Some(object(json!("2026-01-01T00:00:00Z")));
    assert!(world.plan().actions.is_empty());
    world.deployment.metadata.finalizers = Some(vec!["orphan".into()]);
    let actions = world.plan().actions;
    assert!(matches!(actions[..], [Action::Release(_), Action::Release(_), Action::Finish("orphan")]));
    world.deployment.metadata.finalizers = Some(vec!["foregroundDeletion".into()]);
    assert_eq!(world.step(), (0, 2));
    assert_eq!(world.plan().actions, [Action::Finish("foregroundDeletion")]);
}
