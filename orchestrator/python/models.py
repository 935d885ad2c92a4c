"""`create_models`: where models come from."""

from __future__ import annotations

import asyncio
import builtins
import os
from collections.abc import Mapping
from contextlib import AsyncExitStack
from importlib import import_module
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from orchestrator.errors import BadChoice, OrchestratorError
from orchestrator.python.model import Model
from orchestrator.types import Json
from orchestrator.wire.within import Coordinating

if TYPE_CHECKING:
    from contextlib import AbstractAsyncContextManager

    import openai

Runtime = Literal["ray", "asyncio"]
Configuration = str | os.PathLike[str] | Mapping[str, Any]


def create_models(
    config: Configuration | None = None, *, runtime: Runtime = "ray", connect: str | None = None
) -> Models:
    """Models by name: `async with create_models("config.yaml") as models: …`.

    `config` is a file, or the same as a dict; without one, the default configuration is used, which has a simulated provider
    and whatever providers' keys the environment has. It is read once, when the models are opened: ConfigError.

    `runtime="ray"`: a provider's pool is an actor of the Ray cluster at hand (the one that Ray is initialised for, else that
    of RAY_ADDRESS, else one that is started on this machine and ended with the models), shared by all processes there that
    use the same configuration, so that limits hold for all of them together. `runtime="asyncio"`: everything is in this
    process; for notebooks and tests.

    `connect="auto"`: no configuration of one's own but the application that runs already: `orchestrator serve` on this
    machine, or that of the cluster which RAY_ADDRESS names or a job runs on. Any other value is the address of a Ray cluster.
    Raises NoApplication where there is none.
    """
    if runtime not in ("ray", "asyncio"):
        raise BadChoice("runtime", f"has to be 'ray' or 'asyncio', not {runtime!r}")
    if connect is not None and config is not None:
        raise BadChoice("connect", "the running application has its configuration: give config or connect")
    if connect is not None and runtime != "ray":
        raise BadChoice("connect", "a running application is reached by runtime='ray'")
    return Models(config, runtime, connect)


class Models:
    """The models of a configuration, or of a running application. Open within `async with`, or from `start` to `aclose`.

    Belongs to the event loop that opens it. At its end whatever it started is ended, and requests that go on are cut off.
    """

    def __init__(self, config: Configuration | None, runtime: Runtime, connect: str | None) -> None:
        self._config = config
        self._runtime = runtime
        self._connect = connect
        self._stack: AsyncExitStack | None = None
        self._coordinator: Coordinating | None = None
        self._ray: Any = None

    def model(self, selector: str, user_id: str | None = None) -> Model:
        """The model that a selector names: `openai/gpt-4o-mini`, an alias, `tier:fast`, `user:john:experiment1`.

        `user_id` says who asks. Whether there is such a model turns out when it is asked: UnknownSelector.
        """
        return Model(selector, user_id, self.current)

    async def list(self) -> builtins.list[str]:
        """The selectors: tiers, aliases and what providers list. A model that is not listed can be asked for all the same."""
        return [row["id"] for row in await self.current().models()]

    async def pools(self) -> builtins.list[Json]:
        """The state of each provider: in flight, queued, breakers; and which were left out, and why."""
        return await self.current().pools()

    def should_use(self, user_id: str) -> bool:
        """Whether a user is sent through the orchestrator, beside an existing system: the configuration's `rollout`.

        Decides at once, without asking anybody; of a running application, by what its configuration said a second ago.
        """
        return bool(self.current().rollout(user_id)["use"])

    def openai(self) -> openai.AsyncOpenAI:
        """OpenAI's client over these models, without a server: chat, responses, embeddings, with all errors of theirs.

        Ends with the models; needs no closing of its own. Raises OrchestratorError unless they are open.
        """
        self.current()
        from orchestrator.python.client import app_over, async_client

        return async_client(app_over(self.current))

    async def start(self) -> Self:
        """Opens it. Raises ConfigError and NoApplication. Harmless when it is open."""
        if self._stack is None:
            async with AsyncExitStack() as stack:
                self._coordinator = await stack.enter_async_context(await self._backend())
                self._stack = stack.pop_all()
        return self

    async def aclose(self) -> None:
        """Ends whatever was started. Harmless when it is closed."""
        stack, self._stack, self._coordinator = self._stack, None, None
        if stack is not None:
            await stack.aclose()

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def _backend(self) -> AbstractAsyncContextManager[Coordinating]:
        self.prepare()
        if self._connect is not None:
            connected: AbstractAsyncContextManager[Coordinating] = self._ray.connected(self._connect)
            return connected
        config = await asyncio.to_thread(_read, self._config)
        if self._runtime == "ray":
            embedded: AbstractAsyncContextManager[Coordinating] = self._ray.embedded(config)
            return embedded
        from orchestrator.inprocess import inprocess

        return inprocess(config)

    def prepare(self) -> None:
        """Imports what it will need. Ray wants to be imported in the main thread, for its signals."""
        if self._runtime == "ray":
            # By name, so that nothing here depends on where Ray is.
            self._ray = import_module("actors.embedded" if self._connect is None else "actors.connected")

    def current(self) -> Coordinating:
        """What answers. Raises OrchestratorError unless the models are open."""
        if self._coordinator is None:
            raise OrchestratorError("the models are not open: use `async with create_models(...) as models`")
        return self._coordinator


def _read(config: Configuration | None) -> Any:
    """Reads a configuration; looks whether somebody answers, which may take a moment. Raises ConfigError."""
    from orchestrator.config.load import default_config, load, load_mapping

    if isinstance(config, Mapping):
        return load_mapping(dict(config))
    return load(default_config() if config is None else config)
