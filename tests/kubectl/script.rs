//! The commands, in the order they are run, and the files they read.

/// Everyday commands, wrong ones among them. Each sees what those before it left.
pub(super) const COMMANDS: &[&str] = &[
    "kubectl version",
    "kubectl cluster-info",
    "kubectl auth can-i create pods",
    // Namespaces, and the small kinds made by `create`.
    "kubectl create namespace shop",
    "kubectl create namespace Not_A_Name",
    "kubectl config set-context --current --namespace=shop",
    "kubectl create configmap settings --from-literal=colour=green --from-literal=size=3",
    "kubectl create configmap settings --from-literal=colour=red",
    "kubectl create secret generic pass --from-literal=word=hush",
    "kubectl create serviceaccount robot",
    "kubectl create token robot --duration=20m",
    "kubectl get configmap,secret,sa",
    "kubectl describe configmap settings",
    "kubectl describe secret pass",
    // Workloads: apply, look, change.
    "kubectl create deployment quick --image=quick:1 --replicas=2 --port=80",
    "kubectl apply -f web.yaml",
    "kubectl apply -f web.yaml",
    "sed -i 's/web:1/web:2/; s/value: warm/value: hot/' web.yaml && kubectl diff -f web.yaml | grep '^[+-] '",
    "kubectl apply -f web.yaml --dry-run=server",
    "kubectl apply -f web.yaml",
    "kubectl apply --server-side -f pod.yaml --dry-run=server",
    "kubectl get deploy",
    "kubectl get deploy web -o wide",
    "kubectl get deploy web -o yaml",
    "kubectl get deploy web -o jsonpath='{.spec.template.spec.containers[*].image}'",
    "kubectl scale deployment web --replicas=3",
    "kubectl scale deployment web --replicas=1 --current-replicas=7",
    "kubectl set image deployment/web app=web:3",
    "kubectl set env deployment/web COLOUR=blue",
    "kubectl label deployment web tier=front",
    "kubectl label deployment web tier=back",
    "kubectl annotate deployment web note='two words'",
    "KUBE_EDITOR=\"sed -i 's/replicas: 3/replicas: 4/'\" kubectl edit deployment web",
    "kubectl patch deployment web -p '{\"spec\":{\"template\":{\"spec\":{\"containers\":[{\"name\":\"side\",\"image\":\"side:1\"}]}}}}'",
    "kubectl patch deployment web --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/annotations/note\"}]'",
    "kubectl patch deployment web --type=json -p '[{\"op\":\"test\",\"path\":\"/spec/replicas\",\"value\":9}]'",
    "kubectl patch deployment web --type=merge -p '{\"spec\":{\"paused\":true}}'",
    "kubectl patch deployment web -p '{\"spec\":{\"strategy\":{\"$retainKeys\":[\"type\"],\"type\":\"Recreate\"}}}'",
    "kubectl patch deployment web --subresource=status --type=merge -p '{\"status\":{\"observedGeneration\":99,\"replicas\":4,\"updatedReplicas\":4,\"readyReplicas\":4,\"availableReplicas\":4,\"conditions\":[{\"type\":\"Available\",\"status\":\"True\",\"lastUpdateTime\":\"2026-01-01T00:00:00Z\",\"lastTransitionTime\":\"2026-01-01T00:00:00Z\"}]}}'",
    "kubectl rollout restart deployment quick",
    "kubectl rollout status deployment web --timeout=20s",
    "kubectl wait --for=condition=Available deployment/web --timeout=20s",
    "kubectl wait --for=jsonpath='{.status.replicas}'=4 deployment/web --timeout=20s",
    "kubectl wait --for=condition=Missing deployment/web --timeout=1s",
    "kubectl describe deployment web",
    // Services, pods, nodes.
    "kubectl expose deployment web --port=80 --target-port=8080",
    "kubectl get svc web",
    "kubectl describe svc web",
    "kubectl create service clusterip plain --tcp=80:8080",
    "kubectl get configmap settings -o yaml | sed s/green/blue/ | kubectl replace -f -",
    "kubectl replace -f stale.yaml",
    "kubectl apply -f pod.yaml",
    "kubectl run one --image=one:1 --labels=app=one --restart=Never",
    "kubectl get pods",
    "kubectl get pods -o wide -l app=one",
    "kubectl get pod one -o name --watch --request-timeout=1s",
    "kubectl get all",
    "kubectl get pods --sort-by=.metadata.name -o name",
    "kubectl get pods -l 'app in (one,two),!missing' -o custom-columns=NAME:.metadata.name,IMAGE:.spec.containers[0].image",
    "kubectl get pods --field-selector=metadata.name=one,status.phase!=Running -o name",
    "kubectl get pods --field-selector=spec.image=x",
    "kubectl get pods -l 'bad in'",
    "kubectl describe pod one",
    "kubectl apply -f node.yaml",
    "kubectl get nodes",
    "kubectl taint node n1 dedicated=web:NoSchedule",
    "kubectl cordon n1",
    "kubectl get node n1 -o jsonpath='{.spec}'",
    "kubectl describe node n1 | head -20",
    "kubectl logs one",
    // Custom kinds.
    "kubectl apply -f crd.yaml",
    "kubectl wait --for=condition=Established crd/widgets.example.com --timeout=20s",
    "kubectl apply -f widget.yaml",
    "kubectl get widgets",
    "kubectl get wd round -o yaml",
    "kubectl patch widget round -p '{\"spec\":{\"size\":2}}'",
    "kubectl patch widget round --type=merge -p '{\"spec\":{\"size\":2}}'",
    "kubectl scale widget round --replicas=5",
    // Wrong ones.
    "kubectl get gadgets",
    "kubectl get pod missing",
    "kubectl apply -f unknown-kind.yaml",
    "kubectl apply -f unknown-field.yaml",
    "kubectl apply -f unknown-field.yaml --validate=warn",
    "kubectl apply -f wrong-type.yaml",
    "kubectl apply -f bad-name.yaml",
    "kubectl apply -f no-selector.yaml",
    "kubectl create -f pod.yaml",
    "kubectl replace -f absent.yaml",
    "kubectl delete pod missing",
    "kubectl patch pod one -p '{\"spec\":{\"containers\":[{\"image\":\"nameless\"}]}}'",
    "kubectl patch deployment web -p '{\"spec\":{\"selector\":{\"matchLabels\":{\"app\":\"other\"}}}}'",
    "kubectl get --raw /api/v1/namespaces/shop/pods/missing",
    "kubectl get --raw /nowhere",
    "kubectl get --raw /readyz",
    "kubectl get --raw '/api/v1/namespaces/default/pods?watch=True&timeoutSeconds=1'",
    "kubectl delete --raw /api/v1/namespaces",
    "kubectl delete namespace default --wait=false",
    "kubectl create --raw /api/v1/namespaces/default/configmaps -f elsewhere.json",
    "kubectl create -f long-name.json --dry-run=server -o name | wc -c",
    // What a server says of itself.
    "kubectl api-resources -o name | sort",
    "kubectl api-resources --api-group=apps -o name --cached=false | grep -E '^(deployments|replicasets)'",
    "kubectl api-versions | grep -E '^(v1|apps/v1|example.com/v1)$'",
    "kubectl explain service.spec.ports.port",
    "kubectl explain widget.spec",
    "kubectl explain pod.spec.containers.nope",
    // Deleting.
    "kubectl delete -f absent.yaml --ignore-not-found",
    "kubectl delete -f pod.yaml --dry-run=server",
    "kubectl delete -f pod.yaml",
    "kubectl delete pod -l app=one --wait",
    "kubectl wait --for=delete pod/one --timeout=20s",
    "kubectl patch configmap settings -p '{\"metadata\":{\"finalizers\":[\"example.com/hold\"]}}'",
    "kubectl delete configmap settings --wait=false",
    "kubectl get configmap settings -o jsonpath='{.metadata.finalizers} {.metadata.deletionGracePeriodSeconds}'",
    "kubectl patch configmap settings --type=json -p '[{\"op\":\"remove\",\"path\":\"/metadata/finalizers\"}]'",
    "kubectl get configmap settings",
    "kubectl delete deployment --all",
    "kubectl delete crd widgets.example.com",
    "kubectl delete node n1",
    "kubectl delete namespace shop --wait=false",
];

/// Files in the directory the commands run in.
pub(super) const FILES: &[(&str, &str)] = &[
    (
        "elsewhere.json",
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"namespace":"shop","name":"elsewhere"}}"#,
    ),
    (
        "long-name.json",
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"generateName":"seventy-letters-seventy-letters-seventy-letters-seventy-letters-seventy"}}"#,
    ),
    (
        "web.yaml",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
  labels: {app: web}
spec:
  replicas: 2
  selector:
    matchLabels: {app: web}
  template:
    metadata:
      labels: {app: web}
    spec:
      containers:
      - name: app
        image: web:1
        env:
        - {name: MODE, value: warm}
        ports:
        - {name: http, containerPort: 8080}
        readinessProbe:
          httpGet: {path: /ready, port: http}
        resources:
          limits: {cpu: 500m, memory: 64Mi}
        volumeMounts:
        - {name: data, mountPath: /data}
      volumes:
      - name: data
        emptyDir: {}
"#,
    ),
    (
        "pod.yaml",
        r#"
apiVersion: v1
kind: Pod
metadata:
  name: two
  labels: {app: two}
spec:
  containers:
  - name: main
    image: two:latest
    command: ["run", "--fast"]
  - name: second
    image: second@sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
"#,
    ),
    (
        "stale.yaml",
        r#"
apiVersion: v1
kind: ConfigMap
metadata:
  name: settings
  resourceVersion: "1"
data: {colour: blue}
"#,
    ),
    (
        "absent.yaml",
        r#"
apiVersion: v1
kind: ConfigMap
metadata: {name: absent}
"#,
    ),
    (
        "node.yaml",
        r#"
apiVersion: v1
kind: Node
metadata:
  name: n1
  labels: {topology.kubernetes.io/zone: z1}
spec: {podCIDR: 10.1.0.0/24}
"#,
    ),
    (
        "crd.yaml",
        r#"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.example.com}
spec:
  group: example.com
  scope: Namespaced
  names: {plural: widgets, singular: widget, kind: Widget, shortNames: [wd]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas}
    additionalPrinterColumns:
    - {name: Size, type: integer, jsonPath: .spec.size}
    schema:
      openAPIV3Schema:
        type: object
        description: A widget.
        properties:
          spec:
            type: object
            description: What is wanted.
            properties:
              size: {type: integer, description: How large it is.}
              replicas: {type: integer}
          status:
            type: object
            x-kubernetes-preserve-unknown-fields: true
"#,
    ),
    (
        "widget.yaml",
        r#"
apiVersion: example.com/v1
kind: Widget
metadata: {name: round}
spec: {size: 1}
"#,
    ),
    (
        "unknown-kind.yaml",
        r#"
apiVersion: example.com/v1
kind: Gadget
metadata: {name: g}
"#,
    ),
    (
        "unknown-field.yaml",
        r#"
apiVersion: v1
kind: Service
metadata: {name: typo}
spec:
  ports:
  - {port: 80, protocl: TCP}
"#,
    ),
    (
        "wrong-type.yaml",
        r#"
apiVersion: v1
kind: Service
metadata: {name: wrong}
spec:
  ports: many
"#,
    ),
    (
        "bad-name.yaml",
        r#"
apiVersion: v1
kind: Service
metadata: {name: Bad_Name}
spec:
  ports: [{port: 80}]
"#,
    ),
    (
        "no-selector.yaml",
        r#"
apiVersion: apps/v1
kind: Deployment
metadata: {name: incomplete}
spec:
  template:
    metadata: {labels: {app: x}}
    spec:
      containers: [{name: app, image: x}]
"#,
    ),
];
