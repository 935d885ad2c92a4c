"""The Python API by plain calls: the same names, without `async` and `await`.

    from orchestrator.sync import create_models

    with create_models(runtime="asyncio") as models:
        print(models.model("tier:fast").generate("Why is the sky blue?").text)

Everything runs on an event loop of its own, in a thread of its own: so it works where a loop runs already (a notebook), and
from several threads at once. Ctrl-C cancels what is being waited for, upstream too.
"""

from __future__ import annotations

import builtins
from collections.abc import Coroutine, Generator, Iterable, Iterator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeVar, overload

from orchestrator.errors import OrchestratorError
from orchestrator.python import model as asynchronous
from orchestrator.python import models as opening
from orchestrator.python.conversation import MAX_STEPS
from orchestrator.python.loop import Loop
from orchestrator.python.models import Configuration, Runtime
from orchestrator.python.reply import ModelReply
from orchestrator.python.stream import Delta
from orchestrator.python.stream import ModelStream as AsyncStream
from orchestrator.types import Json

if TYPE_CHECKING:
    import openai

    from orchestrator.python.client import End, Run
    from orchestrator.python.tools import Tool

__all__ = ["Model", "ModelStream", "Models", "create_models"]

T = TypeVar("T")


def create_models(
    config: Configuration | None = None, *, runtime: Runtime = "ray", connect: str | None = None
) -> Models:
    """See `orchestrator.create_models`; `with create_models(…) as models: …`."""
    return Models(opening.create_models(config, runtime=runtime, connect=connect))


class Models:
    """See `orchestrator.Models`. Open within `with`, or from `start` to `close`."""

    def __init__(self, models: opening.Models) -> None:
        self._models = models
        self._loop: Loop | None = None

    def start(self) -> Self:
        """Opens it. Raises ConfigError and NoApplication. Harmless when it is open."""
        if self._loop is None:
            self._models.prepare()
            loop = Loop()
            try:
                loop.run(self._models.start())
            except BaseException:
                # Interrupted, it may have been opened all the same.
                try:
                    loop.run(self._models.aclose())
                finally:
                    loop.close()
                raise
            self._loop = loop
        return self

    def close(self) -> None:
        """Ends whatever was started. Harmless when it is closed."""
        loop, self._loop = self._loop, None
        if loop is not None:
            try:
                loop.run(self._models.aclose())
            finally:
                loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def model(self, selector: str, user_id: str | None = None) -> Model:
        """See `orchestrator.Models.model`."""
        return Model(self._models.model(selector, user_id), self.run, self.end)

    def list(self) -> builtins.list[str]:
        """See `orchestrator.Models.list`."""
        return self.run(self._models.list())

    def pools(self) -> builtins.list[Json]:
        """See `orchestrator.Models.pools`."""
        return self.run(self._models.pools())

    def should_use(self, user_id: str) -> bool:
        """See `orchestrator.Models.should_use`."""
        return self._models.should_use(user_id)

    def openai(self) -> openai.OpenAI:
        """See `orchestrator.Models.openai`."""
        if self._loop is None:
            raise _not_open()
        from orchestrator.python.client import app_over, plain_client

        return plain_client(app_over(self._models.current), self.run, self.end)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Waits for something on the loop of these models. Raises OrchestratorError unless they are open."""
        loop = self._loop  # another thread may close them meanwhile
        if loop is None:
            coroutine.close()
            raise _not_open()
        return loop.run(coroutine)

    def end(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """The same for what ends something; harmless when they are closed, and all that was theirs with them."""
        loop = self._loop
        if loop is None:
            coroutine.close()
        else:
            loop.run(coroutine)


def _not_open() -> OrchestratorError:
    return OrchestratorError("the models are not open: use `with create_models(...) as models`")


class Model:
    """See `orchestrator.Model`."""

    def __init__(self, model: asynchronous.Model, run: Run, end: End) -> None:
        self._model = model
        self._run = run
        self._end = end
        self.selector = model.selector
        self.user_id = model.user_id

    def __repr__(self) -> str:
        return f"Model({self.selector!r})"

    def generate(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        **params: Any,
    ) -> ModelReply:
        """See `orchestrator.Model.generate`."""
        asked = self._model.generate(
            prompt, messages=messages, system=system, tools=tools, max_steps=max_steps, **params
        )
        return self._run(asked)

    def stream(
        self,
        prompt: str | None = None,
        *,
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        **params: Any,
    ) -> ModelStream:
        """See `orchestrator.Model.stream`; a plain iterator, and a context manager."""
        stream = self._model.stream(
            prompt, messages=messages, system=system, tools=tools, max_steps=max_steps, **params
        )
        return ModelStream(stream, self._run, self._end)

    @overload
    def generate_object(
        self,
        prompt: str | None = None,
        *,
        schema: type[T],
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        with_reply: Literal[False] = False,
        **params: Any,
    ) -> T: ...

    @overload
    def generate_object(
        self,
        prompt: str | None = None,
        *,
        schema: type[T],
        messages: Sequence[Any] | None = None,
        system: str | None = None,
        tools: Iterable[Tool] | None = None,
        max_steps: int = MAX_STEPS,
        with_reply: Literal[True],
        **params: Any,
    ) -> tuple[T, ModelReply]: ...

    def generate_object(self, prompt: str | None = None, *, with_reply: bool = False, **asked: Any) -> Any:
        """See `orchestrator.Model.generate_object`."""
        value, reply = self._run(self._model.generate_object(prompt, with_reply=True, **asked))
        return (value, reply) if with_reply else value


class ModelStream:
    """See `orchestrator.ModelStream`. A loop that is left stops what goes on upstream; so does the end of `with`."""

    def __init__(self, stream: AsyncStream, run: Run, end: End) -> None:
        self._stream = stream
        self._run = run
        self._end = end

    @property
    def reply(self) -> ModelReply:
        """The whole answer, once the last delta has come. Raises OrchestratorError before."""
        return self._stream.reply

    def __iter__(self) -> Iterator[Delta]:
        return self._iterate()

    def _iterate(self) -> Generator[Delta, None, None]:
        # A generator, since Python closes one whose loop was left.
        try:
            while (delta := self._run(_next(self._stream))) is not None:
                yield delta
        finally:
            self.close()

    def __next__(self) -> Delta:
        delta = self._run(_next(self._stream))
        if delta is None:
            raise StopIteration
        return delta

    def close(self) -> None:
        """Stops it, upstream too, and waits until it has ended. Harmless after the end, and that of the models."""
        self._end(self._stream.aclose())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _next(stream: AsyncStream) -> Delta | None:
    try:
        return await anext(stream)
    except StopAsyncIteration:
        return None
