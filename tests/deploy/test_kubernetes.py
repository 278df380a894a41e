"""deploy/kubernetes: the manifests are valid, agree with each other, with the image and with what the service does."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from clients import connect_blocking
from command import in_process
from fastecho._version import __version__
from fastecho._workers.lifecycle import DRAIN_MARGIN
from pages import ROOT
from patience import wait_until
from processes import Service, echoes
from scrapes import metrics_url, samples, status

FOLDER = ROOT / "deploy" / "kubernetes"
DOCKERFILE = (ROOT / "deploy" / "container" / "Dockerfile").read_text()
OLDEST = "1.30"
"""The manifests are checked for this version of Kubernetes, and for the newest that kubernetes-validate has."""

Manifest = dict[str, Any]


def load(path: Path) -> Manifest:
    found: Manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


KUSTOMIZATION = load(FOLDER / "kustomization.yaml")


def resolved() -> list[Manifest]:
    """What `kustomize build` makes of the folder: the resources, with the images that the kustomization names."""
    manifests = [load(FOLDER / name) for name in KUSTOMIZATION["resources"]]
    tags = {each["name"]: each["newTag"] for each in KUSTOMIZATION["images"]}
    for manifest in manifests:
        for container in manifest.get("spec", {}).get("template", {}).get("spec", {}).get("containers", []):
            if container["image"] in tags:
                container["image"] += f":{tags[container['image']]}"
    return manifests


MANIFESTS = {manifest["kind"]: manifest for manifest in resolved()}
BUILT_IN = [kind for kind in MANIFESTS if kind != "PodMonitor"]
DEPLOYMENT = MANIFESTS["Deployment"]["spec"]
POD = DEPLOYMENT["template"]["spec"]
[CONTAINER] = POD["containers"]
PORTS = {port["name"]: (port["containerPort"], port["protocol"]) for port in CONTAINER["ports"]}
LABELS = {"app.kubernetes.io/name": "fastecho"}


@pytest.fixture
def config(capsys: pytest.CaptureFixture[str]):
    """What the arguments of the container mean to the command, in an environment as the pod has it."""
    outcome = in_process(CONTAINER["args"], {"FASTECHO_HOST": "*", "FASTECHO_WORKERS": "1"}, capsys)
    assert (outcome.code, outcome.err) == (0, "")
    return outcome.config


@pytest.mark.parametrize("version", [OLDEST, kubernetes_validate.latest_version()])
@pytest.mark.parametrize("kind", BUILT_IN)
def test_a_manifest_is_valid(kind: str, version: str) -> None:
    kubernetes_validate.validate(MANIFESTS[kind], version, strict=True)


def test_a_mistake_in_a_manifest_is_found() -> None:
    wrong = deepcopy(MANIFESTS["Deployment"])
    wrong["spec"]["template"]["spec"]["containers"][0]["readinessProbe"]["periodSecond"] = 2
    with pytest.raises(kubernetes_validate.ValidationError, match="periodSecond"):
        kubernetes_validate.validate(wrong, OLDEST, strict=True)


def test_the_kustomization_has_each_manifest_of_the_folder_once() -> None:
    assert KUSTOMIZATION.keys() == {"apiVersion", "kind", "resources", "images"}
    assert (KUSTOMIZATION["apiVersion"], KUSTOMIZATION["kind"]) == ("kustomize.config.k8s.io/v1beta1", "Kustomization")
    files = {path.name for path in FOLDER.iterdir()} - {"kustomization.yaml"}
    assert sorted(KUSTOMIZATION["resources"]) == sorted(files)
    assert len(MANIFESTS) == len(files), "a kind is there twice"


def test_a_file_has_one_manifest_and_the_name_of_its_kind() -> None:
    for name in KUSTOMIZATION["resources"]:
        [manifest] = yaml.safe_load_all((FOLDER / name).read_text())
        assert name == f"{manifest['kind'].lower()}.yaml"


def selectors() -> Iterator[tuple[str, dict[str, str]]]:
    yield "Deployment", DEPLOYMENT["selector"]["matchLabels"]
    for constraint in POD["topologySpreadConstraints"]:
        yield "topologySpreadConstraints", constraint["labelSelector"]["matchLabels"]
    yield "Service", MANIFESTS["Service"]["spec"]["selector"]
    for kind in ("PodDisruptionBudget", "PodMonitor"):
        yield kind, MANIFESTS[kind]["spec"]["selector"]["matchLabels"]
    yield "NetworkPolicy", MANIFESTS["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"]


def test_all_have_one_name_and_select_the_pods() -> None:
    for kind, manifest in MANIFESTS.items():
        assert manifest["metadata"] == {"name": "fastecho", "labels": LABELS}, kind
    assert DEPLOYMENT["template"]["metadata"]["labels"] == LABELS
    assert {kind: labels for kind, labels in selectors() if labels != LABELS} == {}


def test_the_image_is_that_of_this_version() -> None:
    assert CONTAINER["image"] == f"fastecho:{__version__}"


def test_the_pod_is_what_the_image_was_made_for() -> None:
    """Its user, its ports, its entry point; and the extra that the arguments need."""
    [(user, group)] = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.M)
    assert POD["securityContext"]["runAsUser"] == int(user)
    assert POD["securityContext"]["runAsGroup"] == int(group)
    [exposed] = re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.M)
    assert set(exposed.split()) == {f"{port}/{protocol.lower()}" for port, protocol in PORTS.values()}
    assert "command" not in CONTAINER
    [entry] = re.findall(r"^ENTRYPOINT (.*)$", DOCKERFILE, re.M)
    assert json.loads(entry) == ["fastecho"]
    for step in re.findall(r"-m pip (?:wheel|install) .*", DOCKERFILE):
        assert re.search(r"(\.|fastecho)\[metrics\]'$", step), step


def test_the_pod_keeps_to_the_restricted_pod_security_standard() -> None:
    assert POD["securityContext"]["runAsNonRoot"] is True
    assert POD["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    own = CONTAINER["securityContext"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    assert own["readOnlyRootFilesystem"] is True
    assert "volumes" not in POD


def test_the_arguments_open_the_ports_of_the_container(config) -> None:
    assert (config.port, "TCP") == PORTS["echo"]
    assert config.udp
    assert (config.port, "UDP") == PORTS["echo-udp"]
    host, _, port = str(config.metrics).rpartition(":")
    assert (host, (int(port), "TCP")) == ("*", PORTS["metrics"])


def test_the_variables_of_a_service_would_be_taken_for_options(capsys: pytest.CaptureFixture[str]) -> None:
    """Kubernetes sets FASTECHO_PORT for a Service with the name fastecho, unless the pod asks for none of them."""
    assert MANIFESTS["Service"]["metadata"]["name"] == "fastecho"
    outcome = in_process([], {"FASTECHO_PORT": "tcp://10.96.0.10:8007"}, capsys)
    assert "FASTECHO_PORT" in outcome.complaint(78)
    assert POD["enableServiceLinks"] is False


def test_each_named_port_is_one_of_the_container() -> None:
    for port in MANIFESTS["Service"]["spec"]["ports"]:
        assert port["name"] == port["targetPort"]
        assert (port["port"], port["protocol"]) == PORTS[port["targetPort"]]
    allowed = [port for rule in MANIFESTS["NetworkPolicy"]["spec"]["ingress"] for port in rule["ports"]]
    assert {port["port"]: port["protocol"] for port in allowed} == {name: port[1] for name, port in PORTS.items()}
    assert {port["name"] for port in MANIFESTS["Service"]["spec"]["ports"]} == {"echo", "echo-udp"}
    for probe in ("readinessProbe", "livenessProbe"):
        assert CONTAINER[probe]["httpGet"]["port"] == "metrics"


def test_the_metrics_are_for_prometheus_only() -> None:
    rules = MANIFESTS["NetworkPolicy"]["spec"]["ingress"]
    open_to_all = {port["port"] for rule in rules if "from" not in rule for port in rule["ports"]}
    assert open_to_all == {"echo", "echo-udp"}


# Of the reference of monitoring.coreos.com/v1: those that a manifest such as this one may use.
MONITOR_FIELDS = {"selector", "podMetricsEndpoints", "namespaceSelector", "jobLabel", "podTargetLabels", "sampleLimit"}
ENDPOINT_FIELDS = {
    "port", "portNumber", "path", "scheme", "interval", "scrapeTimeout", "honorLabels", "honorTimestamps",
    "metricRelabelings", "relabelings", "filterRunning",
}  # fmt: skip


def test_the_pod_monitor_has_documented_fields_and_the_path_of_the_metrics() -> None:
    monitor = MANIFESTS["PodMonitor"]
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert {"selector", "podMetricsEndpoints"} <= monitor["spec"].keys() <= MONITOR_FIELDS
    [endpoint] = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint.keys() <= ENDPOINT_FIELDS
    assert (endpoint["port"], endpoint["path"]) == ("metrics", "/metrics")
    assert re.fullmatch(r"[1-9]\d*s", endpoint["interval"])


def test_the_probes_and_the_metric_of_the_autoscaler_are_those_of_the_service() -> None:
    """A service that stops is alive and not ready, and goes on accepting."""
    ready, alive = (CONTAINER[name]["httpGet"]["path"] for name in ("readinessProbe", "livenessProbe"))
    [metric] = MANIFESTS["HorizontalPodAutoscaler"]["spec"]["metrics"]
    with Service("--metrics", "127.0.0.1:0", "--shutdown-delay", "1h") as service:
        url = metrics_url(service)
        assert (status(url, ready), status(url, alive)) == (200, 200)
        with connect_blocking(service.address) as sock:
            assert echoes(sock)
            wait_until(lambda: samples(url)[metric["pods"]["metric"]["name"], ""] == 1, "the connection is counted")
        service.send(signal.SIGTERM)
        wait_until(lambda: status(url, ready) == 503, "the service is not ready")
        assert status(url, alive) == 200
        with connect_blocking(service.address) as sock:
            assert echoes(sock)


def test_the_autoscaler_scales_the_deployment_before_a_pod_is_full(config) -> None:
    spec = MANIFESTS["HorizontalPodAutoscaler"]["spec"]
    target = spec["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"]) == (MANIFESTS["Deployment"]["apiVersion"], "Deployment")
    assert target["name"] == MANIFESTS["Deployment"]["metadata"]["name"]
    assert "replicas" not in DEPLOYMENT, "each apply would set back what the autoscaler has chosen"
    [metric] = spec["metrics"]
    cpu = int(CONTAINER["resources"]["requests"]["cpu"])  # a worker each
    assert int(metric["pods"]["target"]["averageValue"]) <= config.max_connections * cpu / 2
    assert spec["minReplicas"] >= 2, "one pod is no service while it is replaced"


def test_the_memory_is_enough_for_all_connections(config) -> None:
    """With the figures of docs/scaling.md: idle ones within the request, ones that hold a buffer within the limit."""
    idle = json.loads((ROOT / "docs" / "capacity.json").read_text())["idle"]
    cpu = int(CONTAINER["resources"]["requests"]["cpu"])  # a worker each
    count, each = cpu * config.max_connections, idle["user"] + idle["kernel"]
    assert idle["base"] + count * each <= mebibytes(CONTAINER["resources"]["requests"]["memory"])
    assert idle["base"] + count * (each + config.buffer_size) <= mebibytes(CONTAINER["resources"]["limits"]["memory"])


def mebibytes(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)(Mi|Gi)", text).groups()  # type: ignore[union-attr]
    return int(number) << (20 if unit == "Mi" else 30)


def test_as_many_workers_as_cpus_are_requested() -> None:
    [variable] = CONTAINER["env"]
    assert variable["name"] == "FASTECHO_WORKERS"
    assert variable["valueFrom"] == {"resourceFieldRef": {"resource": "requests.cpu"}}
    assert "cpu" in CONTAINER["resources"]["requests"]


def test_a_pod_stops_within_its_grace_period_and_after_it_is_known_to_stop(config) -> None:
    """Readiness is 503 from SIGTERM on. Then the delay, then the drain, then SIGKILL."""
    assert "lifecycle" not in CONTAINER, "a preStop hook takes part of the grace period: it belongs into the sum"
    probe = CONTAINER["readinessProbe"]
    known = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    propagation = 10  # seconds, of the endpoint to the rules of each node
    assert known + propagation <= config.shutdown_delay
    longest = config.shutdown_delay + config.drain_timeout + DRAIN_MARGIN
    assert longest + 5 <= POD["terminationGracePeriodSeconds"]


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(ms|s)", text).groups()  # type: ignore[union-attr]
    return int(number) / (1000 if unit == "ms" else 1)


def test_a_load_balancer_sees_a_replacement_before_the_next_pod_stops(config) -> None:
    """With the checks of deploy/haproxy: until an instance is up there, and until it is down."""
    haproxy = (ROOT / "deploy" / "haproxy" / "haproxy.cfg").read_text()
    [(inter, fall, rise)] = re.findall(r"inter (\w+) fall (\d+) rise (\d+)", haproxy)
    [timeout] = re.findall(r"timeout check (\w+)", haproxy)
    until_up = int(rise) * seconds(inter) + seconds(timeout)
    until_down = int(fall) * seconds(inter) + seconds(timeout)
    assert until_up <= DEPLOYMENT["minReadySeconds"]
    assert until_down <= config.shutdown_delay
    assert DEPLOYMENT["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
