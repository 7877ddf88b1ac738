"""The chart, rendered by helm for many sizes; every manifest is checked against the schemas of Kubernetes."""

from __future__ import annotations

import copy
import json
import subprocess
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from tests.tools.kube import NotHere, custom_schemas, helm
from watchword.settings import read_settings

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy" / "helm" / "watchword"
KUBERNETES = ("1.27", "1.34")

Manifest = dict[str, Any]

BASE: dict[str, Any] = {
    "kafka": {"brokers": "kafka-0:9092"},
    "milvus": {"endpoints": ["http://milvus:19530"]},
    "catalog": {"url": {"secret": "postgres"}},
    "media": {"url": "s3://pictures/of-moments"},
}
SETS: dict[str, dict[str, Any]] = {
    "smallest": {
        "kafka": {"replication": 1, "partitions": 8},
        "worker": {"replicas": 1},
        "camera": {"replicas": 1},
        "stream": {"replicas": 1},
        "query": {"replicas": 1},
        "gateway": {"replicas": 1},
    },
    "large": {
        "kafka": {"brokers": "k-0:9092,k-1:9092,k-2:9092", "partitions": 512},
        "milvus": {
            "endpoints": [f"milvus-{n}=http://milvus-{n}:19530" for n in range(8)],
            "token": {"secret": "milvus"},
        },
        "redis": {"url": {"secret": "redis"}},
        "oidc": {
            "issuer": "https://login.example:8443/realms/site",
            "clientId": "watchword",
            "clientSecret": {"secret": "oidc"},
            "publicUrl": "https://watch.example",
            "grants": [{"people": "guards", "groups": ["outside"]}, {"people": "it", "role": "admin"}],
        },
        "worker": {"replicas": 16},
        "camera": {"replicas": 24, "nodeSelector": {"site": "north"}},
        "stream": {"replicas": 64},
        "query": {"replicas": 12, "tolerations": [{"key": "search", "operator": "Exists"}]},
        "settings": {"stream.behind_s": "0.9", "camera.fps": "1"},
    },
    "gpu": {"worker": {"gpu": {"enabled": True, "count": 2, "runtimeClassName": "nvidia"}}},
    "keda": {
        "keda": {"enabled": True, "prometheus": "http://prometheus:9090"},
        "stream": {"autoscaling": {"maxReplicas": 64}},
    },
    "hpa": {"query": {"autoscaling": {"enabled": True, "maxReplicas": 20}}},
    "own-s3": {
        "media": {
            "endpoint": "http://s3:7070",
            "region": "north",
            "allowHttp": True,
            "credentials": {"secret": "s3", "keyOfKey": "access", "keyOfSecret": "secret"},
        }
    },
    "recordings": {"recordings": {"existingClaim": "clips"}},
    "own-database": {"catalog": {"url": {"secret": "database", "key": "uri"}}},
    "secrets": {"redis": {"url": {"secret": "redis", "key": "address"}}, "image": {"pullSecrets": ["registry"]}},
    "monitored": {
        "monitoring": {"serviceMonitor": {"enabled": True, "labels": {"release": "p"}}, "rules": {"enabled": True}}
    },
    "closed": {
        "networkPolicy": {
            "backends": [{"ipBlock": {"cidr": "10.0.0.0/16"}}],
            "scrapers": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "camera": {"egress": [{"cidr": "10.20.0.0/16", "ports": [554]}]},
        "query": {"clients": [{"podSelector": {"matchLabels": {"app": "portal"}}}], "service": {"type": "NodePort"}},
    },
    "open": {"networkPolicy": {"enabled": False}, "disruptions": {"enabled": False}},
}

pytestmark = pytest.mark.stack


def merged(one: dict[str, Any], other: dict[str, Any]) -> dict[str, Any]:
    result = copy.deepcopy(one)
    for key, value in other.items():
        result[key] = merged(result[key], value) if isinstance(value, dict) and key in result else value
    return result


def ran(*words: str, values: dict[str, Any], folder: Path) -> subprocess.CompletedProcess[str]:
    file = folder / "values.json"
    file.write_text(json.dumps(values))
    try:
        command = [str(helm()), *words, str(CHART), "-f", str(file)]
    except NotHere as reason:
        pytest.skip(f"no helm here: {reason}")
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def rendered(values: dict[str, Any], folder: Path) -> list[Manifest]:
    done = ran("template", "site", "--namespace", "watch", values=values, folder=folder)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def check(manifest: Manifest, version: str) -> None:
    """Raise unless an API server would take it."""
    key = manifest["apiVersion"], manifest["kind"]
    if "." in key[0].partition("/")[0] and not key[0].partition("/")[0].endswith(("k8s.io", "policy", "apps")):
        jsonschema.Draft202012Validator(custom_schemas()[key]).validate(manifest)
    else:
        kubernetes_validate.validate(manifest, version, strict=True)


def pods(manifests: list[Manifest]) -> dict[str, Any]:
    """The pod of each process, by its name."""
    found = {}
    for manifest in manifests:
        if manifest["kind"] in ("Deployment", "StatefulSet"):
            template = manifest["spec"]["template"]
            found[template["metadata"]["labels"]["app.kubernetes.io/component"]] = template["spec"]
    return found


@pytest.mark.parametrize("name", SETS)
def test_every_manifest_of_a_value_set_is_valid(name: str, tmp_path: Path) -> None:
    values = merged(BASE, SETS[name])
    assert ran("lint", "--strict", values=values, folder=tmp_path).returncode == 0
    manifests = rendered(values, tmp_path)
    assert len(manifests) >= 8
    try:
        for version in KUBERNETES:
            for manifest in manifests:
                check(manifest, version)
    except NotHere as reason:
        pytest.skip(str(reason))


def test_a_manifest_that_is_wrong_is_found(tmp_path: Path) -> None:
    manifests = rendered(merged(BASE, SETS["keda"]), tmp_path)
    deployment = next(one for one in manifests if one["kind"] == "Deployment")
    deployment["spec"]["template"]["spec"]["containers"][0]["readynessProbe"] = {}
    with pytest.raises(kubernetes_validate.utils.ValidationError):
        check(deployment, KUBERNETES[-1])
    scaled = next(one for one in manifests if one["kind"] == "ScaledObject")
    scaled["spec"]["maxReplicas"] = 3
    try:
        with pytest.raises(jsonschema.ValidationError):
            check(scaled, KUBERNETES[-1])
    except NotHere as reason:
        pytest.skip(str(reason))


@pytest.mark.parametrize("name", SETS)
def test_every_process_starts_on_the_settings_that_its_pod_has(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for process, pod in pods(rendered(merged(BASE, SETS[name]), tmp_path)).items():
        (container,) = pod["containers"]
        assert container["args"] == ["run", process]
        with monkeypatch.context() as patch:
            for variable in container["env"]:
                patch.setenv(variable["name"], variable.get("value", "redis://redis:6379/0"))
            settings = read_settings()
        assert settings.kafka.brokers
        assert settings.milvus.endpoints
        assert settings.encoder.address == "site-worker:8702"
        if process == "gateway":
            assert settings.query.address == "site-query-pods:8700"
            assert settings.gateway.listen == "0.0.0.0:8701"


def test_no_process_needs_the_disk_of_another_one(tmp_path: Path) -> None:
    manifests = rendered(merged(BASE, SETS["large"]), tmp_path)
    assert [one["kind"] for one in manifests if "Volume" in one["kind"]] == []
    for pod in pods(manifests).values():
        assert [sorted(volume) for volume in pod["volumes"]] == [["emptyDir", "name"]]


def test_recordings_are_seen_by_those_who_write_and_by_those_who_read_them(tmp_path: Path) -> None:
    found = pods(rendered(merged(BASE, SETS["recordings"]), tmp_path))
    having = [
        process for process, pod in found.items() if any("persistentVolumeClaim" in one for one in pod["volumes"])
    ]
    assert sorted(having) == ["camera", "query"]


def test_secrets_are_given_to_those_who_use_them_and_named_only(tmp_path: Path) -> None:
    having = {
        process: {
            variable["name"].removeprefix("WATCHWORD_") for variable in container["env"] if "value" not in variable
        }
        for process, pod in pods(rendered(merged(BASE, SETS["own-s3"]), tmp_path)).items()
        for container in pod["containers"]
    }
    media = {"MEDIA__KEY", "MEDIA__SECRET"}
    assert having["worker"] == set()
    assert having["camera"] == {"CATALOG__URL"}
    assert having["query"] == {"CATALOG__URL", *media}
    assert having["stream"] == {"CATALOG__URL", "STREAM__INSTANCE", *media}


def test_no_pod_may_more_than_it_must(tmp_path: Path) -> None:
    for pod in pods(rendered(BASE, tmp_path)).values():
        (container,) = pod["containers"]
        assert pod["automountServiceAccountToken"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert "memory" in container["resources"]["limits"]


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({key: BASE[key] for key in ("milvus", "catalog", "media")}, "kafka.brokers"),
        ({key: BASE[key] for key in ("kafka", "catalog", "media")}, "milvus.endpoints"),
        ({key: BASE[key] for key in ("kafka", "milvus", "media")}, "catalog.url.secret"),
        ({key: BASE[key] for key in ("kafka", "milvus", "catalog")}, "media.url"),
        (merged(BASE, {"media": {"url": "http://bucket"}}), "url"),
        (merged(BASE, {"data": {"size": "1Gi"}}), "data"),
        (merged(BASE, {"strem": {}}), "strem"),
        (merged(BASE, {"worker": {"replicas": "two"}}), "replicas"),
        (merged(BASE, {"keda": {"enabled": True}}), "keda.prometheus"),
        (
            merged(BASE, {"kafka": {"partitions": 4}, "keda": {"enabled": True, "prometheus": "http://p:9090"}}),
            "kafka.partitions",
        ),
    ],
)
def test_values_that_cannot_work_are_refused_by_name(values: dict[str, Any], says: str, tmp_path: Path) -> None:
    done = ran("template", "site", values=values, folder=tmp_path)
    assert done.returncode != 0
    assert says in done.stderr


def test_the_chart_carries_the_rules_that_are_tested() -> None:
    rules = ROOT / "deploy" / "prometheus" / "watchword.rules.yml"
    assert (CHART / "watchword.rules.yml").read_text() == rules.read_text()
