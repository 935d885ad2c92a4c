"""`vllm:` and `command:` of a provider: both come to one command, which is filled in on the node that runs it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path as File
from typing import Any

from orchestrator.config.document import Document, Path
from orchestrator.config.schema import Engine, Vllm
from orchestrator.config.sections import read_section
from orchestrator.config.settings import Hosted, Replicas

ENGINE = tuple(one.name for one in fields(Engine))
"""What may stand beside `command`."""
SERVER = "vllm.entrypoints.openai.api_server"
_OURS = {
    "--host": "the address is chosen on its node",
    "--port": "a free one is chosen on its node",
    "--api-key": "it is made up anew whenever the server is started",
    "--model": "that is 'model'",
    "--served-model-name": "that is 'served_name'",
}
_PARALLEL = ("--tensor-parallel-size", "-tp", "--pipeline-parallel-size", "-pp", "--data-parallel-size", "-dp")


def read_hosted(document: Document, path: Path, raw: Mapping[str, Any], folder: File) -> Hosted | None:
    """What a provider has run here; None: nothing, or with its problems noted."""
    if "vllm" in raw:
        _alone(document, path, raw)
        read = read_section(document, (*path, "vllm"), Vllm, raw["vllm"])
        return None if read is None else _vllm(document, (*path, "vllm"), read, folder)
    if "command" in raw:
        command = raw["command"]
        if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
            document.problem((*path, "command"), "has to be a list of words: the program and its arguments")
            return None
        if not any("{port}" in word for word in (*command, *_texts(raw.get("env")))):
            what = "has to say {port} somewhere: the free port that the server is to listen on"
            document.problem((*path, "command"), what)
        read = read_section(document, path, Engine, {key: raw[key] for key in ENGINE if key in raw})
        first, *rest = command
        return None if read is None else _hosted(document, path, read, (_placed(first, folder), *rest), read.env)
    _alone(document, path, raw)
    return None


def _alone(document: Document, path: Path, raw: Mapping[str, Any]) -> None:
    """Notes what makes sense beside a command alone."""
    for key in ENGINE:
        if key in raw:
            within = "belongs into 'vllm'" if "vllm" in raw else "is for a local model: it stands beside 'command'"
            document.problem((*path, key), within)


def _texts(env: object) -> list[str]:
    return [value for value in env.values() if isinstance(value, str)] if isinstance(env, dict) else []


def _placed(word: str, folder: File) -> str:
    """A program, or a path that begins with a dot, from the configuration's folder; a bare name is looked up on its node."""
    return str((folder / word).absolute()) if word.startswith(("./", "../")) else word


def _vllm(document: Document, path: Path, read: Vllm, folder: File) -> Hosted | None:
    for number, word in enumerate(read.args):
        if (why := _OURS.get(word.partition("=")[0])) is not None:
            document.problem((*path, "args", number), f"may not hold {word.partition('=')[0]}: {why}")
    name = read.served_name or read.model
    command = ["{python}" if read.python is None else _placed(read.python, folder), "-m", SERVER]
    command += ["--host", "{host}", "--port", "{port}"]
    command += ["--model", _placed(read.model, folder), "--served-model-name", name]
    said = any(word.partition("=")[0] in _PARALLEL for word in read.args)
    if read.gpus >= 2 and not said:
        command += ["--tensor-parallel-size", str(int(read.gpus))]
    # The key goes by the environment: arguments show in the list of processes.
    env = {"VLLM_API_KEY": "{key}", **read.env}
    return _hosted(document, path, read, (*command, *read.args), env, (name,))


def _hosted(
    document: Document,
    path: Path,
    read: Engine,
    command: tuple[str, ...],
    env: Mapping[str, str],
    serves: tuple[str, ...] = (),
) -> Hosted | None:
    count = read.replicas
    replicas = count if isinstance(count, Replicas) else Replicas(count, count)
    if replicas.min > replicas.max:
        document.problem((*path, "replicas", "min"), f"may not be over 'max', which is {replicas.max}")
    if read.gpus > 1 and read.gpus != int(read.gpus):
        document.problem((*path, "gpus"), "has to be a whole number where it is over 1")
    return Hosted(
        command=command,
        env=env,
        gpus=float(read.gpus),
        replicas=replicas,
        cold_start_s=read.cold_start_s,
        hang_s=read.hang_s,
        serves=serves,
    )
