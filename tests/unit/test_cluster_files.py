"""What clusters are made of (cluster.yaml, configs/kuberay.yaml, configs/serve.yaml, Dockerfile): valid by the schemas of
those who read them, and of one mind with each other and with the code."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import tomllib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from ray.autoscaler._private.util import prepare_config, validate_config

from actors.launch import EVERYWHERE
from actors.pool import LABEL
from orchestrator.config.load import load_mapping
from orchestrator.config.settings import Timeouts

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # Ray's own, at import
    from ray.serve.schema import ServeDeploySchema

    from actors.app import DRAIN_S, NAME, build

ROOT = Path(__file__).resolve().parents[2]
CLUSTER = (ROOT / "cluster.yaml").read_text()
SERVE = yaml.safe_load((ROOT / "configs/serve.yaml").read_text())
CONFIG_MAP, SERVICE = yaml.safe_load_all((ROOT / "configs/kuberay.yaml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
THREADS = "RAY_SERVE_HAPROXY_NBTHREAD"


def exported(script: str) -> dict[str, str]:
    """What a shell script exports; what its commands put in the place of `$(…)` is left as it stands."""
    found: dict[str, str] = {}
    for words in re.findall(r"\bexport ([^&;\n]*)", script):
        found |= dict(word.split("=", 1) for word in shlex.split(words))
    return found


def start_commands() -> list[str]:
    """The commands of cluster.yaml that start Ray: the head's, the workers'."""
    config = yaml.safe_load(CLUSTER)
    commands = [*config["head_start_ray_commands"], *config["worker_start_ray_commands"]]
    return [command for command in commands if "ray start" in command]


def groups() -> list[dict[str, Any]]:
    """The groups of pods: the head's, then the workers'."""
    cluster = SERVICE["spec"]["rayClusterConfig"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def containers() -> list[dict[str, Any]]:
    """Ray's container in each of them."""
    found = []
    for group in groups():
        (container,) = group["template"]["spec"]["containers"]
        found.append(container)
    return found


def test_a_call_may_take_as_long_as_it_may_while_coordinators_come_and_go() -> None:
    """HAProxy and the coordinator let it run on for as long as its provider is given."""
    longest_s = Timeouts().total_s
    assert longest_s == DRAIN_S == float(EVERYWHERE["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])


def test_the_flags_are_the_same_everywhere() -> None:
    """What `orchestrator serve` sets: in every start command, every pod, the image, and what the README says."""
    head, worker = map(exported, start_commands())
    token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": "~/orchestrator/secrets/auth_token"}
    assert EVERYWHERE | token | {THREADS: "$(nproc)"} == head == worker
    for container in containers():
        env = {
            one["name"]: one.get("value") or one["valueFrom"]["resourceFieldRef"]["resource"]
            for one in container["env"]
        }
        assert EVERYWHERE | {THREADS: "limits.cpu"} == env
        assert "cpu" in container["resources"]["limits"]
    (words,) = re.findall(r"^ENV (RAY.*)$", DOCKERFILE, re.MULTILINE)
    assert EVERYWHERE == dict(word.split("=", 1) for word in words.split())
    section = (ROOT / "README.md").read_text().partition("\n## On a cluster\n")[2].partition("\n## ")[0]
    (shell,) = [code for code in re.findall(r"```sh\n(.*?)```", section, re.DOTALL) if "RAY_SERVE" in code]
    assert EVERYWHERE | {"RAY_AUTH_MODE": "token", THREADS: "$(nproc)"} == exported(shell)


def test_cluster_yaml_is_what_ray_reads() -> None:
    """Valid by Ray's own schema, once it has filled in what is not said."""
    prepared = prepare_config(yaml.safe_load(CLUSTER))
    validate_config(prepared)
    types = prepared["available_node_types"]
    bounds = {name: (kind.get("min_workers", 0), kind["max_workers"]) for name, kind in types.items()}
    assert {"head": (0, 0), "cpu": (2, 8), "gpu": (0, 4)} == bounds  # beside the one head
    assert sum(most for _, most in bounds.values()) == prepared["max_workers"]
    with pytest.raises(jsonschema.ValidationError, match="'max_worker' was unexpected"):
        validate_config(prepared | {"max_worker": 3})


def test_nothing_but_rays_own_is_on_the_head() -> None:
    """Neither tasks nor coordinators, which ask for CPUs, nor pools, which do not; nor do any keep a node with GPUs busy."""
    types = yaml.safe_load(CLUSTER)["available_node_types"]
    assert ({"CPU": 0}, {}, {"CPU": 0, "GPU": 1}) == tuple(types[name]["resources"] for name in ("head", "cpu", "gpu"))
    assert [{LABEL: "none"}, None, {LABEL: "none"}] == [types[name].get("labels") for name in ("head", "cpu", "gpu")]
    assert [{LABEL: "none"}, None, {LABEL: "none"}] == [group.get("labels") for group in groups()]
    assert ["0", None, "0"] == [group["rayStartParams"].get("num-cpus") for group in groups()]
    assert [None, None, 1] == [one["resources"]["limits"].get("nvidia.com/gpu") for one in containers()]
    assert 0 < SERVE["applications"][0]["args"]["cpus"] < 1


def test_who_reaches_what() -> None:
    """The dashboard is the head's own; Ray asks for a token everywhere; no secret stands in a file."""
    head, worker = start_commands()
    assert "--dashboard-host=127.0.0.1" in head
    assert "--head" not in worker
    assert "security_group" not in yaml.safe_load(CLUSTER)["provider"]  # Ray's own lets SSH in, and nothing else
    assert {"mode": "token"} == SERVICE["spec"]["rayClusterConfig"]["authOptions"]
    assert "nobody" == SERVE["applications"][0]["args"]["keyless"]
    for group, container in zip(groups(), containers(), strict=True):
        user = group["template"]["spec"]["securityContext"]
        assert (True, 1000) == (user["runAsNonRoot"], user["runAsUser"])
        assert {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}} == container["securityContext"]
        assert [{"secretRef": {"name": "orchestrator-keys", "optional": True}}] == container["envFrom"]
    mounted = yaml.safe_load(CLUSTER)["file_mounts"]
    assert {"~/orchestrator/configs": "configs", "~/orchestrator/secrets": "~/.orchestrator"} == mounted


def closed(schema: Any) -> Any:
    """A structural schema as a JSON schema that refuses what Kubernetes would drop without a word: unknown fields."""
    if isinstance(schema, list):
        return [closed(one) for one in schema]
    if not isinstance(schema, dict):
        return schema
    made = {key: closed(value) for key, value in schema.items()}
    # A field may be called `properties`, too: a schema of an object says that it is one.
    if schema.get("type") == "object" and "properties" in schema:
        made.setdefault("additionalProperties", False)
    return made


def problems(document: Any) -> Iterator[str]:
    """What is wrong with a RayService by the schema that KubeRay publishes."""
    golden = json.loads((ROOT / "tests/golden/kuberay/rayservices.json").read_text())
    for error in jsonschema.Draft202012Validator(closed(golden["schema"])).iter_errors(document):
        yield f"{error.json_path}: {error.message}"


def test_kuberay_yaml_is_what_kuberay_reads() -> None:
    """Valid by the published schema, in which an unknown field is an error here."""
    assert [] == list(problems(SERVICE))
    assert ("ray.io/v1", "RayService") == (SERVICE["apiVersion"], SERVICE["kind"])
    wrong = json.loads(json.dumps(SERVICE))
    wrong["spec"]["rayClusterConfig"]["authOptions"]["mode"] = "tokens"
    wrong["spec"]["rayClusterConfig"]["workerGroupSpecs"][1]["minReplica"] = 0
    del wrong["spec"]["rayClusterConfig"]["headGroupSpec"]["template"]["spec"]["containers"]
    found = "\n".join(sorted(problems(wrong)))
    assert 3 == len(found.splitlines()), found
    for expected in ("'tokens' is not one of", "'minReplica' was unexpected", "'containers' is a required property"):
        assert expected in found
    # What no schema says: KubeRay takes the GPUs from the pods, and refuses more replicas than there may be.
    assert [(2, 2, 8), (0, 0, 4)] == [(one["minReplicas"], one["replicas"], one["maxReplicas"]) for one in groups()[1:]]


def test_kubernetes_serves_the_same() -> None:
    """The deployment is that of configs/serve.yaml; its configuration is valid, and is where it is looked for."""
    assert SERVE == yaml.safe_load(SERVICE["spec"]["serveConfigV2"])
    ((name, text),) = CONFIG_MAP["data"].items()
    config = load_mapping(yaml.safe_load(text), {})
    assert {"sim"} == set(config.providers)
    work = re.findall(r"^WORKDIR (.*)$", DOCKERFILE, re.MULTILINE)[-1]
    for group, container in zip(groups(), containers(), strict=True):
        (mount,) = container["volumeMounts"]
        (volume,) = group["template"]["spec"]["volumes"]
        assert (mount["name"], CONFIG_MAP["metadata"]["name"]) == (volume["name"], volume["configMap"]["name"])
        assert f"{work}/{SERVE['applications'][0]['args']['config']}" == f"{mount['mountPath']}/{name}"


def test_serve_yaml_is_what_serve_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Valid, with arguments that make the application."""
    monkeypatch.chdir(ROOT)
    read = ServeDeploySchema.model_validate(SERVE)
    assert set(SERVE) <= set(ServeDeploySchema.model_fields)  # it takes unknown ones without a word
    (application,) = read.applications
    assert (NAME, "actors.app:build") == (application.name, application.import_path)
    scaling = build(application.args)._bound_deployment._deployment_config.autoscaling_config
    assert (1, 8, 100) == (scaling.min_replicas, scaling.max_replicas, scaling.target_ongoing_requests)


def test_one_image_with_one_ray() -> None:
    """All nodes have the image that the Dockerfile makes; its Ray is one that the project allows, and that is tested here."""
    (version,) = re.findall(r"^ARG RAY_VERSION=(.*)$", DOCKERFILE, re.MULTILINE)
    assert version == ray.__version__ == SERVICE["spec"]["rayClusterConfig"]["rayVersion"]
    (wanted,) = [one for one in map(Requirement, PROJECT["dependencies"]) if one.name == "ray"]
    assert wanted.specifier.contains(version)
    assert {"serve"} == wanted.extras
    for python in re.findall(r"^FROM python:([\d.]+)-slim", DOCKERFILE, re.MULTILINE):
        assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    (extras,) = re.findall(r"\.whl\)\[(.*?)\]", DOCKERFILE)
    assert set(extras.split(",")) <= set(PROJECT["optional-dependencies"])
    (built,) = re.findall(r"docker build --tag (\S+) \.", DOCKERFILE)
    docker = yaml.safe_load(CLUSTER)["docker"]
    assert {built} == {docker["image"], *(container["image"] for container in containers())}
    assert built.endswith(f":{PROJECT['version']}")


def test_what_the_image_is_asked_for() -> None:
    """`ray up` mounts files of user 1000 below HOME, copies by rsync, and has the head start nodes by ssh and boto3; KubeRay
    asks by wget. Both start what they like, so there is no entry point, and a user other than root."""
    for expected in (
        r"apt-get install .*\bopenssh-client rsync wget\b", r"useradd --uid 1000 ", r"^USER 1000:100$",
        r"^ENV HOME=/home/ray$", r"^WORKDIR /home/ray/orchestrator$", r"\[aws,",
    ):  # fmt: skip
        assert re.search(expected, DOCKERFILE, re.MULTILINE), expected
    assert "ENTRYPOINT" not in DOCKERFILE
    hadolint = Path(sys.executable).with_name("hadolint")
    linted = subprocess.run([hadolint, ROOT / "Dockerfile"], capture_output=True, text=True, check=False, timeout=60)
    assert (0, "", "") == (linted.returncode, linted.stdout, linted.stderr)
    assert any(Requirement(one).name == "boto3" for one in PROJECT["optional-dependencies"]["aws"])
    let_in = {
        line[1:].rstrip("/") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    hatch = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed = {*hatch["packages"], PROJECT["readme"], *PROJECT["license-files"], "pyproject.toml", "configs"}
    assert needed == let_in
