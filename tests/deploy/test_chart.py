"""The chart: what it renders is what Kubernetes, KubeRay, Ray and raytile take, and keeps laws of its own."""

from __future__ import annotations

import copy
import json
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.render import CHART, PLAIN, SCHEMA, documents, examples, plain, render, schema
from tests.deploy import laws, manifests, serving
from tests.deploy.manifests import SHARED, Document, clusters, pods
from tests.deploy.mutations import MUTATIONS, RAY, Mutation, caught

EXAMPLES = sorted(examples())
needs_shared = pytest.mark.skipif(not SHARED.exists(), reason="KubeRay's schemas stand beside the project")


@pytest.fixture(scope="module", params=EXAMPLES)
def made(request: pytest.FixtureRequest) -> list[Document]:
    return documents(render(examples()[request.param]))


def one(documents: list[Document], kind: str) -> Document:
    (found,) = [document for document in documents if document["kind"] == kind]
    return found


def test_kubernetes_takes_it(made: list[Document]) -> None:
    assert manifests.core_problems(made) == []


@needs_shared
def test_kuberay_takes_it(made: list[Document], tmp_path: Path) -> None:
    assert manifests.ray_problems(made, tmp_path) == []


def test_it_keeps_the_laws(made: list[Document]) -> None:
    assert laws.problems(made) == []


@pytest.mark.parametrize("name", [None, *EXAMPLES])
def test_helm_has_nothing_to_say(name: str | None) -> None:
    from helm_python.chart import lint

    said = lint(CHART, examples()[name] if name else {}, strict=True)
    assert said["errors"] == []
    assert [one for one in said["messages"] if one["severity"] > 1] == []


@pytest.mark.parametrize("name", EXAMPLES)
def test_plain_yaml_is_the_render(name: str) -> None:
    assert (PLAIN / f"{name}.yaml").read_text(encoding="utf-8") == plain(name, examples()[name]), "run: make manifests"
    assert sorted(path.stem for path in PLAIN.glob("*.yaml")) == EXAMPLES, "run: make manifests"


def test_the_schema_knows_the_settings_that_there_are() -> None:
    assert SCHEMA.read_text(encoding="utf-8") == schema(), "run: make manifests"


def test_every_value_is_in_the_schema() -> None:
    known = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    values = yaml.safe_load((CHART / "values.yaml").read_text(encoding="utf-8"))

    def compare(values: dict[str, Any], schema: dict[str, Any], path: str) -> None:
        schema = known["$defs"]["group"] if schema.get("$ref") == "#/$defs/group" else schema
        if not values or "properties" not in schema:
            return
        assert set(values) == set(schema["properties"]) - {"global"}, path
        for name, value in values.items():
            if isinstance(value, dict):
                compare(value, schema["properties"][name], f"{path}.{name}")

    compare(values, known, "values")


def test_the_settings_of_the_service_arrive() -> None:
    """Whatever is said of the service is in the args that raytile gets, and what nobody said fits the groups."""
    values = examples()["spot-64"]
    config = yaml.safe_load(one(documents(render(values)), "RayService")["spec"]["serveConfigV2"])
    settings = config["applications"][0]["args"]["settings"]
    assert settings.items() >= values["service"]["settings"].items()
    assert settings["max_workers"] == 64 + 8
    assert settings["worker_resources"] == {"num_gpus": 1}
    own = {
        **values["service"]["settings"],
        "max_workers": 3,
        "worker_resources": {"num_gpus": 0.5},
        "max_pixels": 2**30,
    }
    values["service"]["settings"] = own
    config = yaml.safe_load(one(documents(render(values)), "RayService")["spec"]["serveConfigV2"])
    assert config["applications"][0]["args"]["settings"] == own


def test_ray_derives_the_node_types() -> None:
    """What KubeRay's autoscaler makes of a cluster: nodes from nothing to the maximum, with what workers ask for."""
    from ray.autoscaler._private.kuberay import autoscaling_config as kuberay

    for name, values in examples().items():
        ((_, spec),) = clusters(documents(render(values)))
        derived = kuberay._derive_autoscaling_config_from_ray_cr(
            {"metadata": {"name": "raytile", "namespace": "raytile"}, "spec": spec}
        )
        types = derived["available_node_types"]
        head = types.pop(derived["head_node_type"])
        assert head["resources"]["CPU"] == 0
        assert set(types) == set(values["workers"])
        for group, said in values["workers"].items():
            node = types[group]
            assert (node["min_workers"], node["max_workers"]) == (said.get("minReplicas", 0), said["maxReplicas"]), name
            assert node["resources"]["CPU"] == said.get("cpus", 4)
            assert node["resources"].get("GPU", 0) == said.get("gpus", 0)
            assert node["idle_timeout_s"] == said.get("idleTimeoutSeconds", 120)
            assert node["labels"]["ray.io/market-type"] == said.get("market", "on-demand")
    spot, steady = (clusters(documents(render(examples()["spot-64"])))[0][1]["workerGroupSpecs"][n] for n in (1, 0))
    assert (spot["groupName"], steady["groupName"]) == ("spot", "on-demand")
    assert spot["priority"] > steady["priority"]


def test_the_rays_agree() -> None:
    import ray

    for document in (clusters(documents(render(values)))[0][1] for values in examples().values()):
        assert document["rayVersion"] == ray.__version__


def test_the_versions_agree() -> None:
    import tomllib

    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert chart["appVersion"] == project["version"]


@pytest.mark.parametrize("word", ["it's", 'say "a"', "a $HOME b", "`a`", "{a,b}", "a;b", "*", "", "-", "ä ö"])
def test_the_words_of_a_job_are_kept(word: str) -> None:
    """Through two shells: KubeRay's submitter's, and the one in which Ray runs the entrypoint."""
    values = examples()["render"]
    values["job"]["command"][2] = word
    entrypoint = one(documents(render(values)), "RayJob")["spec"]["entrypoint"]
    words = shlex.split(entrypoint)
    assert words[: len(values["job"]["command"])] == values["job"]["command"]
    shown = ["printf", "%s\\n"]
    submitter = subprocess.check_output(["bash", "-ce", f"{shlex.join(shown)} {entrypoint}"], text=True)
    ray = subprocess.check_output(["sh", "-c", shlex.join([*shown, *words])], text=True)
    assert submitter.splitlines() == ray.splitlines() == words
    assert words[-4:] == ["--workers", "1..16", "--worker-resources", '{"num_gpus":1}']


EVERYTHING: dict[str, Any] = {
    "name": "other",
    "image": {"repository": "registry.example.org:5000/raytile", "tag": "0.1.0", "pullSecrets": ["registry"]},
    "auth": {"secret": "token"},
    "volumes": {"models": "models", "store": "store"},
    "s3": {"endpoint": "https://minio.example.org", "region": "eu", "secret": "s3"},
    "serviceAccount": {"name": "mine"},
    "env": [{"name": "A", "value": "b"}, {"name": "A_TOKEN", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}}],
    "service": {"settings": {"store": "/store/here"}, "upgrade": {"type": "None"}},
    "head": {
        "priorityClassName": "high",
        "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "pool", "operator": "In", "values": ["system"]}]}]}}},
    },
    "workers": {
        "one": {"gpus": 2, "hosts": 2, "maxReplicas": 3, "labels": {"zone": "a"}, "runtimeClassName": "nvidia"},
        "two": {"cpus": 8, "topologySpread": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule"}]},
    },
    "redis": {"address": "redis:6379"},
    "networkPolicy": {"extraEgress": [{"to": [{"ipBlock": {"cidr": "169.254.170.23/32"}}], "ports": [{"port": 80}]}]},
    "ingress": {"enabled": True, "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"}},
    "monitoring": {"podMonitor": True, "alerts": True, "dashboards": True},
}  # fmt: skip
JOB = {
    "command": ["raytile", "batch", "/job/a.jsonl", "--out", "/store/a", "--workers", "2"],
    "files": {"a.jsonl": "{}\n", "scene.yaml": "prompt: an island\n"},
}


@pytest.mark.parametrize(
    "more",
    [{"mode": "service"}, {"mode": "cluster"}, {"mode": "job", "job": JOB},
     {"mode": "job", "job": {**JOB, "submissionMode": "HTTPMode", "shutdownAfterFinished": False}}],
    ids=["service", "cluster", "job", "job over HTTP"],
)  # fmt: skip
def test_every_option_renders(more: dict[str, Any], tmp_path: Path) -> None:
    made = documents(render({**EVERYTHING, **more}, name="r", namespace="n"))
    assert manifests.core_problems(made) == []
    assert laws.problems(made) == []
    if SHARED.exists():
        assert manifests.ray_problems(made, tmp_path) == []
    assert {document["metadata"]["namespace"] for document in made} == {"n"}
    assert not [document for document in made if document["kind"] == "ServiceAccount"]
    ((_, cluster),) = clusters(made)
    assert {pod.spec["serviceAccountName"] for pod in pods(made) if "submitter" not in pod.path} == {"mine"}
    assert cluster["authOptions"]["secretName"] == "token"
    assert [mount["mountPath"] for mount in pods(made)[1].container["volumeMounts"]][3:5] == ["/models", "/store"]


@pytest.mark.parametrize("name", EXAMPLES)
def test_the_notes_name_commands_that_are_known(name: str) -> None:
    from helm_python.chart import Chart

    with Chart.load(CHART) as chart:
        notes = chart.render(examples()[name], name="r", namespace="n")["raytile/templates/NOTES.txt"]
    said = [shlex.split(line.partition(" -- ")[2]) for line in notes.splitlines() if " -- raytile " in line]
    assert len(said) == (examples()[name]["mode"] != "job")
    assert [problem for words in said for problem in laws.command_problems(words)] == []
    assert "kubectl -n n " in notes
    assert "<no value>" not in notes


def test_without_network_policies_there_are_none() -> None:
    made = documents(render(examples()["one-gpu"] | {"networkPolicy": {"enabled": False}}))
    assert not [document for document in made if document["kind"] == "NetworkPolicy"]


def test_only_the_autoscaler_talks_to_kubernetes(made: list[Document]) -> None:
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    for pod in pods(made):
        for box in pod.spec["containers"]:
            assert token not in [mount["mountPath"] for mount in box["volumeMounts"]]
    ((_, cluster),) = clusters(made)
    assert token in [mount["mountPath"] for mount in cluster["autoscalerOptions"]["volumeMounts"]]
    assert not [document for document in made if document["kind"] in ("Role", "RoleBinding", "Secret")]


def test_redis_moves_the_head() -> None:
    """With Redis Ray's state outlives the head: it is asked for its password, reached, and no eviction is refused."""
    with_redis, without = (documents(render(examples()[name])) for name in ("spot-64", "one-gpu"))
    options = clusters(with_redis)[0][1]["gcsFaultToleranceOptions"]
    assert options["redisPassword"]["valueFrom"]["secretKeyRef"] == {"name": "raytile-redis", "key": "password"}
    assert "gcsFaultToleranceOptions" not in clusters(without)[0][1]
    assert [one["metadata"]["name"] for one in without if one["kind"] == "PodDisruptionBudget"] == ["raytile-head"]
    assert not [one for one in with_redis if one["kind"] == "PodDisruptionBudget"]

    def out(made: list[Document]) -> set[int]:
        (policy,) = [
            one for one in made if one["metadata"]["name"] == "raytile-head" and one["kind"] == "NetworkPolicy"
        ]
        return {port["port"] for rule in policy["spec"]["egress"] for port in rule["ports"]}

    assert out(with_redis) - out(without) == {6379}


def test_dashboards_and_alerts_come_from_their_folder() -> None:
    values = examples()["spot-64"]
    values["monitoring"] |= {"dashboards": True, "alerts": True}
    made = documents(render(values))
    folder = CHART.parents[1] / "dashboards"
    alerts = yaml.safe_load((folder / "alerts.yaml").read_text(encoding="utf-8"))
    assert one(made, "PrometheusRule")["spec"] == alerts
    maps = {one["metadata"]["name"]: one for one in made if one["kind"] == "ConfigMap"}
    assert set(maps) == {f"raytile-{path.stem}" for path in folder.glob("*.json")}, "link it in deploy/chart/files"
    for path in folder.glob("*.json"):
        found = maps[f"raytile-{path.stem}"]
        assert found["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert json.loads(found["data"][f"raytile-{path.name}"]) == json.loads(path.read_text(encoding="utf-8"))


def test_the_package_stands_alone(tmp_path: Path) -> None:
    """A packed chart has what its links point to, and renders the same."""
    from helm_python.chart import package

    packed = Path(package(CHART, destination=tmp_path))
    values = examples()["spot-64"] | {"monitoring": {"podMonitor": True, "alerts": True, "dashboards": True}}
    assert render(values, chart=packed) == render(values)


def test_names_that_a_service_must_not_have() -> None:
    said = serving.problems(
        "applications:\n  - {name: a, import_path: 'a:b', deployments: [{name: x, ray_actor_options: {num_gpu: 1}}]}"
    )
    assert said == [
        "serveConfigV2.applications[0].deployments[0].ray_actor_options.num_gpu: no such name: did you mean num_gpus?"
    ]


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_faults_are_seen(mutation: Mutation, tmp_path: Path) -> None:
    judged = SHARED.exists()
    wanted = mutation.seen_by if judged else mutation.seen_by - {RAY}
    if not wanted:
        pytest.skip("KubeRay's schemas stand beside the project")
    assert set(caught(mutation, tmp_path if judged else None)) == wanted


def test_policies_follow_the_addresses_of_store_and_redis() -> None:
    def ports(endpoint: str, redis: str) -> set[int]:
        values = {**examples()["spot-64"], "redis": {"address": redis}}
        values["s3"] = {**values["s3"], "endpoint": endpoint}
        policies = [one for one in documents(render(values)) if one["kind"] == "NetworkPolicy"]
        rules = [rule for one in policies for rule in one["spec"].get("egress", []) if "ports" in rule]
        found = [[port["port"] for port in rule["ports"] if port["protocol"] == "TCP"] for rule in rules]
        assert all(len(each) == len({*each}) for each in found)
        return {port for each in found for port in each}

    usual = {53, 443, 6379, 6443}
    assert ports("", "rediss://redis.data.svc:6379") == usual
    assert ports("https://minio.data.svc:9000/", "redis.data.svc:6380") == usual | {9000, 6380}
    assert ports("http://minio.data.svc", "redis.data.svc:6379") == usual | {80}


def test_what_kuberay_overlooks_makes_a_new_cluster_of_a_service_all_the_same() -> None:
    def marked(**group: Any) -> str:
        values = copy.deepcopy(examples()["one-gpu"])
        values["workers"]["gpu"].update(group)
        cluster = clusters(documents(render(values)))[0][1]
        return str(cluster["headGroupSpec"]["template"]["metadata"]["annotations"]["raytile/groups"])

    assert marked() == marked(maxReplicas=1) != marked(maxReplicas=2)
    assert len({marked(), marked(minReplicas=1), marked(tolerations=[])}) == 3


def test_what_is_asked_of_workers_is_said_once_and_only_as_it_was_said() -> None:
    values = copy.deepcopy(examples()["one-gpu"])
    values["service"]["settings"]["worker_resources"] = {"num_cpus": 2}
    args = yaml.safe_load(one(documents(render(values)), "RayService")["spec"]["serveConfigV2"])["applications"][0][
        "args"
    ]
    assert args["settings"]["worker_resources"] == {"num_cpus": 2}
