//! `deploy/kubernetes`: manifests. No cluster is asked: schemas, what they say to Systole, and how they hang together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::Value;

use super::expressions::{Asked, asked};
use super::files;
use super::support::{self, Buffer, SOON, World};

const ROOT: &str = "deploy/kubernetes";
const SETTINGS: &str = "deploy/kubernetes/base/systole.toml";
/// Folders that are meant to be applied.
const BUILT: [&str; 3] = ["base", "example", "small"];
/// The limit of every process of ours.
const MEMORY: &str = "256Mi";
/// What a stopping process takes at most beside `shutdown-grace`: the supervisor's bound for a part, and that for the disk.
const PARTS_STOP_WITHIN: Duration = Duration::from_secs(20 + 5);

/// Every file with manifests.
fn manifest_files() -> Vec<PathBuf> {
    let folders = std::fs::read_dir(files::path(ROOT)).unwrap().map(|entry| entry.unwrap().path());
    let folders = folders.filter(|path| path.is_dir());
    let files = folders.flat_map(|folder| std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()));
    files
        .filter(|file| file.extension().is_some_and(|end| end == "yaml") && !file.ends_with("kustomization.yaml"))
        .collect()
}

/// Every manifest, read once.
fn manifests() -> &'static [Value] {
    static READ: OnceLock<Vec<Value>> = OnceLock::new();
    let all = READ.get_or_init(|| files::yaml(&manifest_files()));
    assert!(all.len() > 12, "{}", all.len());
    all
}

fn of_kind(kind: &str) -> Vec<&'static Value> {
    manifests().iter().filter(|manifest| manifest["kind"] == kind).collect()
}

fn name(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap()
}

/// What has pods.
fn workloads() -> Vec<&'static Value> {
    [of_kind("Deployment"), of_kind("StatefulSet")].concat()
}

fn pod(workload: &Value) -> &Value {
    &workload["spec"]["template"]["spec"]
}

/// The one container of its pods.
fn container(workload: &Value) -> &Value {
    let containers = pod(workload)["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{}", name(workload));
    &containers[0]
}

fn is_ours(workload: &Value) -> bool {
    container(workload)["image"] == "systole"
}

/// A list of strings; none where there is no list.
fn strings(list: &Value) -> Vec<String> {
    list.as_array().into_iter().flatten().map(|one| one.as_str().unwrap().to_owned()).collect()
}

fn labels(of: &Value) -> BTreeMap<String, String> {
    let all = of.as_object().into_iter().flatten();
    all.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned())).collect()
}

/// Whether a selector picks these labels.
fn picks(selector: &Value, found: &BTreeMap<String, String>) -> bool {
    let equal = labels(&selector["matchLabels"]).iter().all(|(key, value)| found.get(key) == Some(value));
    let mut among = selector["matchExpressions"].as_array().into_iter().flatten();
    equal
        && among.all(|one| {
            assert_eq!(one["operator"], "In");
            found.get(one["key"].as_str().unwrap()).is_some_and(|value| strings(&one["values"]).contains(value))
        })
}

/// The labels of every pod that manifests make.
fn pods_labels() -> Vec<BTreeMap<String, String>> {
    workloads().iter().map(|workload| labels(&workload["spec"]["template"]["metadata"]["labels"])).collect()
}

/// The settings in force in the container, as `systole config` says them: it refuses what it does not know.
fn settings(workload: &Value) -> BTreeMap<String, String> {
    let container = container(workload);
    let world = World::on(Buffer::Embedded);
    let words = strings(&container["args"]);
    let mut launch = world.launch("config").args(["--json"]).args(words);
    for variable in container["env"].as_array().unwrap() {
        let value = match variable["name"].as_str().unwrap() {
            "SYSTOLE_CONFIG" => files::path(SETTINGS).display().to_string(),
            _ => variable["value"].as_str().unwrap().to_owned(),
        };
        launch = launch.env(variable["name"].as_str().unwrap(), &value);
    }
    let told = launch.run().expect_code(0).json();
    let told = told.as_array().unwrap().iter();
    told.filter_map(|one| Some((one["name"].as_str()?.to_owned(), one["value"].as_str()?.to_owned()))).collect()
}

/// The question of the autoscaler to Prometheus.
fn query_of_the_scaler() -> &'static str {
    of_kind("ScaledObject")[0]["spec"]["triggers"][0]["metadata"]["query"].as_str().unwrap()
}

/// What the autoscaler asks Prometheus.
pub fn asked_by_the_scaler() -> BTreeSet<Asked> {
    asked(query_of_the_scaler())
}

/// What `kubectl kustomize` makes of a folder. `None` where there is no kubectl.
fn built(folder: &str) -> Option<String> {
    let built = Command::new("kubectl").arg("kustomize").arg(files::path(ROOT).join(folder)).output().ok()?;
    assert!(built.status.success(), "{folder}: {}", String::from_utf8_lossy(&built.stderr));
    Some(String::from_utf8(built.stdout).unwrap())
}

#[test]
fn every_manifest_keeps_to_the_schemas_of_kubernetes() {
    let Some((faults, unknown)) = files::judge(&manifest_files()) else {
        return support::skip("the schemas of Kubernetes", "kubernetes-validate is not installed");
    };
    support::oracle::fail_on("manifests against the schemas", faults);
    assert_eq!(unknown.into_iter().collect::<BTreeSet<_>>(), ["PodMonitor".into(), "ScaledObject".into()].into());
}

#[test]
fn kustomize_builds_what_is_to_be_applied() {
    for folder in BUILT {
        let Some(made) = built(folder) else { return support::skip("kustomize", "kubectl is not installed") };
        let version = format!("systole:{}\n", env!("CARGO_PKG_VERSION"));
        assert!(made.contains(&version), "{folder}: not the image of this version");
        assert!(!made.contains("image: systole\n"), "{folder}: an image without a version");
    }
}

#[test]
fn every_pod_runs_without_rights_and_within_its_memory() {
    let dockerfile = files::text("Dockerfile");
    for workload in workloads() {
        let (name, pod, container) = (name(workload), pod(workload), container(workload));
        let user = &pod["securityContext"]["runAsUser"];
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        assert_eq!(pod["securityContext"]["fsGroup"], *user, "{name}: its volumes would not be its own");
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["enableServiceLinks"], false, "{name}");
        let security = &container["securityContext"];
        assert_eq!(security["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(security["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(strings(&security["capabilities"]["drop"]), ["ALL"], "{name}");
        assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        if is_ours(workload) {
            assert_eq!(container["resources"]["limits"]["memory"], MEMORY, "{name}");
            assert!(dockerfile.contains(&format!("--uid {user} ")), "{name}: {user} is not the user of the image");
        }
    }
}

#[test]
fn what_a_container_is_told_exists_and_fits_its_ports_and_its_grace() {
    for workload in workloads().into_iter().filter(|workload| is_ours(workload)) {
        let (name, container, settings) = (name(workload), container(workload), settings(workload));
        for variable in container["env"].as_array().unwrap() {
            let variable = variable["name"].as_str().unwrap();
            let setting = variable.strip_prefix("SYSTOLE_").unwrap().to_lowercase().replace('_', "-");
            assert!(settings.contains_key(&setting), "{name}: there is no {variable}");
        }
        let listen = &settings["listen"];
        assert_eq!(*listen, format!("0.0.0.0:{}", container["ports"][0]["containerPort"]), "{name}");
        let port = container["ports"][0]["name"].as_str().unwrap();
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            assert_eq!(container[probe]["httpGet"]["port"], port, "{name}: {probe}");
        }
        assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/health/live", "no restart mends anything else");

        let before: u64 =
            container["lifecycle"]["preStop"]["exec"]["command"][1].as_str().map_or(0, |s| s.parse().unwrap());
        let in_flight = settings.get("shutdown-grace").map_or(0, |grace| grace.trim_end_matches('s').parse().unwrap());
        let parts = if settings.contains_key("claim-rows") { PARTS_STOP_WITHIN.as_secs() } else { 0 };
        let grace = pod(workload)["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > before + in_flight + parts, "{name}: {grace} s are less than it may take to stop");
        if let Some(data) = settings.get("data") {
            let mounts = container["volumeMounts"].as_array().unwrap();
            let mount = mounts.iter().find(|mount| mount["mountPath"] == data.as_str());
            assert!(mount.is_some_and(|mount| mount["readOnly"] != true), "{name}: {data} is no volume");
        }
    }
}

#[test]
fn probes_ask_for_what_is_served() {
    let world = World::on(Buffer::Embedded);
    let up = world.up().start();
    for workload in workloads().into_iter().filter(|workload| is_ours(workload)) {
        for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
            let path = container(workload)[probe]["httpGet"]["path"].as_str().unwrap();
            up.await_status(path, 200, SOON);
        }
    }
    up.stop();
}

#[test]
fn selectors_find_what_they_are_for() {
    let pods = pods_labels();
    for workload in workloads() {
        let own = labels(&workload["spec"]["template"]["metadata"]["labels"]);
        let others =
            pods.iter().filter(|labels| **labels != own).filter(|labels| picks(&workload["spec"]["selector"], labels));
        assert!(picks(&workload["spec"]["selector"], &own), "{}: it does not know its own pods", name(workload));
        assert_eq!(others.count(), 0, "{}: it takes others' pods for its own", name(workload));
        let terms = &pod(workload)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        for term in terms.as_array().into_iter().flatten() {
            assert!(picks(&term["labelSelector"], &own), "{}: the first pod would wait for ever", name(workload));
        }
    }
    for manifest in [of_kind("PodDisruptionBudget"), of_kind("PodMonitor")].concat() {
        assert!(pods.iter().any(|labels| picks(&manifest["spec"]["selector"], labels)), "{}", name(manifest));
    }
    for policy in of_kind("NetworkPolicy") {
        assert!(pods.iter().any(|labels| picks(&policy["spec"]["podSelector"], labels)), "{}", name(policy));
    }
    for service in of_kind("Service") {
        let selector = serde_json::json!({ "matchLabels": service["spec"]["selector"] });
        let behind: Vec<&Value> = workloads()
            .into_iter()
            .filter(|workload| picks(&selector, &labels(&workload["spec"]["template"]["metadata"]["labels"])))
            .collect();
        assert_eq!(behind.len(), 1, "{}", name(service));
        let target = &service["spec"]["ports"][0]["targetPort"];
        assert_eq!(container(behind[0])["ports"][0]["name"], *target, "{}", name(service));
    }
}

/// Locks, renames and exchanged folders mean the same only on one file system of one machine.
#[test]
fn whatever_works_on_the_files_is_held_on_one_node() {
    for workload in workloads() {
        let volumes = pod(workload)["volumes"].as_array().cloned().unwrap_or_default();
        if volumes.iter().any(|volume| volume["persistentVolumeClaim"]["claimName"] == "systole-data") {
            let terms = &pod(workload)["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
            assert_eq!(terms[0]["topologyKey"], "kubernetes.io/hostname", "{}", name(workload));
        }
    }
    let claims = of_kind("PersistentVolumeClaim");
    assert!(claims.iter().all(|claim| strings(&claim["spec"]["accessModes"]) == ["ReadWriteOnce"]));
}

#[test]
fn there_are_never_more_batchers_than_partitions() {
    let scaled = &of_kind("ScaledObject")[0]["spec"];
    let target = scaled["scaleTargetRef"]["name"].as_str().unwrap();
    let deployments = of_kind("Deployment");
    let batch = deployments.into_iter().find(|one| name(one) == target).expect("what is scaled is there");
    assert_eq!(strings(&container(batch)["args"]), ["batch"]);
    let help = World::on(Buffer::Embedded).launch("batch").args(["--help"]).run().expect_code(0).stdout;
    let of_partitions = help.split_once("--partitions").expect("--partitions").1;
    let partitions =
        of_partitions.split_once('(').and_then(|(_, said)| said.split_once(" unless set")).expect("its default").0;
    assert!(scaled["maxReplicaCount"].as_u64().unwrap() <= partitions.parse().unwrap());
    assert!(scaled["minReplicaCount"].as_u64().unwrap() >= 1, "none alive is an alarm");
}

/// With a number in the manifest, each `kubectl apply -k` would set back what the autoscaler has set.
#[test]
fn what_is_scaled_is_applied_without_a_number() {
    let target = of_kind("ScaledObject")[0]["spec"]["scaleTargetRef"]["name"].as_str().unwrap();
    let number_in = |folder| {
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().unwrap();
        std::fs::write(&file, built(folder)?).unwrap();
        let all = files::yaml(&[file.path().to_owned()]);
        let scaled = all.into_iter().find(|one| one["kind"] == "Deployment" && name(one) == target);
        Some(scaled.expect("what is scaled is there")["spec"].get("replicas").cloned())
    };
    let Some(number) = number_in("example") else { return support::skip("kustomize", "kubectl is not installed") };
    assert_eq!(number, None);
    assert!(number_in("base").unwrap().is_some(), "somebody must say how many");
}

#[test]
fn a_door_that_has_lost_the_buffer_asks_for_no_batchers() {
    let of = |name: &str, pod: &str, labels: &str| {
        Value::from(format!(r#"{name}{{namespace="systole", job="systole-serve", instance="{pod}"{labels}}}"#))
    };
    let waits = r#", partition="0", column="pending""#;
    let mut tests = String::from("evaluation_interval: 1m\ntests:\n");
    for (second_sees, answer) in [(1, "[{ labels: '{}', value: 900 }]"), (0, "[{ labels: '{}', value: 20 }]")] {
        tests += "- interval: 1m\n  input_series:\n";
        for (pod, sees, waiting) in [("first", 1, 20), ("second", second_sees, 900)] {
            let series = [("systole_buffer_reachable", "", sees), ("systole_buffer_ledger_heartbeats", waits, waiting)];
            for (metric, labels, value) in series {
                tests += &format!("  - {{ series: {}, values: '{value}x10' }}\n", of(metric, pod, labels));
            }
        }
        let query = Value::from(query_of_the_scaler());
        tests += &format!("  promql_expr_test: [{{ expr: {query}, eval_time: 5m, exp_samples: {answer} }}]\n");
    }
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&file, tests).unwrap();
    let Some((well, said)) = files::promtool(&["test", "rules", file.path().to_str().unwrap()]) else {
        return support::skip("the question of the autoscaler", "promtool is not installed");
    };
    assert!(well, "{said}");
}

/// The operator of Prometheus leaves out a whole PodMonitor that names a Secret which is not there, `optional` or not.
#[test]
fn the_secret_of_the_pod_monitor_is_needed_and_the_readme_makes_it() {
    let endpoint = &of_kind("PodMonitor")[0]["spec"]["podMetricsEndpoints"][0];
    let secret = &endpoint["authorization"]["credentials"];
    assert!(secret.get("optional").is_none(), "it would not be heeded");
    let [name, key] = ["name", "key"].map(|of| secret[of].as_str().unwrap());
    let made = format!("create secret generic {name} --from-literal={key}=");
    assert!(files::text("deploy/kubernetes/README.md").contains(&made), "{made}");
}

#[test]
fn images_and_settings_are_those_of_the_dockerfile_and_of_compose() {
    let (dockerfile, compose) = (files::text("Dockerfile"), files::text("docker-compose.yml"));
    assert!(dockerfile.contains("\nEXPOSE 8080\n") && dockerfile.contains("\nENTRYPOINT [\"systole\"]\n"));
    let redis = workloads().into_iter().find(|workload| !is_ours(workload)).unwrap();
    let image = container(redis)["image"].as_str().unwrap();
    assert!(compose.contains(&format!("image: {image}\n")), "{image}");
    let told = container(redis)["args"].to_string();
    for safe in [r#""--appendonly","yes""#, r#""--appendfsync","always""#, r#""--maxmemory-policy","noeviction""#] {
        assert!(told.contains(safe), "{told}");
    }
}

#[test]
fn compose_tells_every_role_what_exists() {
    let compose = &files::yaml(&[files::path("docker-compose.yml")])[0];
    let services = compose["services"].as_object().unwrap().iter();
    let ours: Vec<_> = services.filter(|(_, service)| service["image"] == "systole:latest").collect();
    assert!(ours.len() >= 3);
    for (name, service) in ours {
        let world = World::on(Buffer::Embedded);
        let mut launch = world.launch("config").args(["--json"]).args(strings(&service["command"]));
        for (variable, value) in labels(&service["environment"]) {
            launch = launch.env(&variable, &value);
        }
        let told = launch.run().expect_code(0).json();
        for variable in labels(&service["environment"]).keys().filter(|name| *name != "SYSTOLE_BUFFER") {
            let setting = variable.strip_prefix("SYSTOLE_").unwrap().to_lowercase().replace('_', "-");
            let known = told.as_array().unwrap().iter().any(|one| one["name"] == setting.as_str());
            assert!(known, "{name}: there is no {variable}");
        }
        let listen = told.as_array().unwrap().iter().find(|one| one["name"] == "listen").unwrap();
        let port = &strings(&service["healthcheck"]["test"])[2];
        assert!(
            listen["value"].as_str().unwrap().ends_with(&format!(":{port}")),
            "{name}: its health is asked at {port}"
        );
    }
}

/// Whatever Cargo.toml names must be in the context of the image's build, else cargo refuses.
#[test]
fn the_image_is_built_with_all_that_cargo_wants() {
    let (dockerfile, ignored) = (files::text("Dockerfile"), files::text(".dockerignore"));
    let before_first_build = dockerfile.split_once("cargo build").unwrap().0;
    let manifest: toml::Table = files::text("Cargo.toml").parse().unwrap();
    assert!(manifest.contains_key("bench"));
    for (targets, folder) in [("bench", "benches"), ("test", "tests"), ("example", "examples")] {
        let there = before_first_build.contains(&format!("\nCOPY {folder} {folder}\n"));
        let let_in = ignored.contains(&format!("\n!{folder}\n"));
        assert!(!manifest.contains_key(targets) || (there && let_in), "{targets} needs {folder}/");
    }
}

/// The line of the README that makes the rules a `PrometheusRule`.
#[test]
fn the_rules_can_be_wrapped_for_the_operator() {
    let readme = files::text("deploy/kubernetes/README.md");
    let line = readme.lines().find(|line| line.contains("kind: PrometheusRule")).expect("the line");
    let script = line.replace("| kubectl apply -f -", "");
    let made = Command::new("sh").args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rule.yaml");
    std::fs::write(&file, made.stdout).unwrap();
    let rule = &files::yaml(&[file])[0];
    assert_eq!(rule["kind"], "PrometheusRule");
    assert_eq!(rule["spec"]["groups"], *super::prometheus::groups());
}
