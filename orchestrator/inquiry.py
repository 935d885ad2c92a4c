"""What a provider is asked beside calls: which models it has, and, if the configuration wants it, whether it is well.

Both are GETs that bill nothing. A probe speaks of an account and of its address, never of a model: one that is answered
closes an account's breaker before its cooldown is over; one that is not counts as a failure of the account, and keeps an
open breaker open.

A key that was refused, or has no credit left, is another matter, since a path that answers may be one that needs no key
(OpenRouter's list of models is public). A probe takes back only what a probe has said: if the path itself refused the key,
its 200 shows that the key is good. What a call was told, only a call takes back.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Callable

from orchestrator.config.settings import Provider
from orchestrator.dialects import DIALECTS
from orchestrator.dialects.failures import classify
from orchestrator.providers import credentials
from orchestrator.resilience.admission import Account
from orchestrator.resilience.gate import Gate
from orchestrator.transport import Transport, TransportError
from orchestrator.types import Failure, FailureKind

MODELS_S = 300.0
"""How long a provider's list of models is kept."""
AGAIN_S = 15.0
"""The same where there was none."""
_ABOUT_THE_KEY = frozenset({FailureKind.UNAUTHORIZED, FailureKind.QUOTA})
_ABOUT_THE_ACCOUNT = _ABOUT_THE_KEY | frozenset(
    {FailureKind.UNREACHABLE, FailureKind.RESET, FailureKind.SILENT, FailureKind.SERVER_ERROR, FailureKind.CUT}
)
"""What a probe may come to that says the account is ill. Anything else (429, 404) says that somebody is there."""

_log = logging.getLogger("orchestrator.inquiry")


class Inquiry:
    """Asks one provider."""

    def __init__(self, provider: Provider, transport: Transport, gate: Gate, clock: Callable[[], float]) -> None:
        self._provider = provider
        self._dialect = DIALECTS[provider.dialect]
        self._transport = transport
        self._gate = gate
        self._clock = clock
        self._listed: tuple[str, ...] = ()
        self._stale_at_s = -math.inf
        """When the list is asked for again."""
        self._refused: dict[Account, str] = {}
        """What a probe of an account was told of its key."""

    async def models(self) -> tuple[str, ...]:
        """The models' names: the configured ones, or those that the provider lists, asked at most every 5 minutes. A list
        that could not be had is asked for sooner, and the one before it stays."""
        if self._provider.models is not None:
            return self._provider.models
        accounts = self._gate.admission.accounts
        if not accounts:
            hosted = self._provider.hosted
            return self._listed or (() if hosted is None else hosted.serves)
        if self._clock() >= self._stale_at_s:
            names = await self._ask_models(accounts[0])
            self._listed = names or self._listed
            self._stale_at_s = self._clock() + (MODELS_S if names else AGAIN_S)
        return self._listed

    async def _ask_models(self, account: Account) -> tuple[str, ...]:
        got = await self._get(self._dialect.models_path, account)
        if isinstance(got, Failure):
            _log.warning("the models of %s are not listed: %s", self._provider.name, got.message)
            return ()
        names = self._dialect.decode_models(got)
        return tuple(name.removeprefix(self._provider.model_prefix) for name in names)

    async def probe_forever(self) -> None:
        """Probes every account each `health.every_s`, until it is cancelled."""
        while True:
            await asyncio.sleep(self._provider.health.every_s)
            accounts = self._gate.admission.accounts
            await asyncio.gather(*(self._probe(account) for account in accounts))

    async def _probe(self, account: Account) -> None:
        got = await self._get(self._provider.health.path, account)
        ill = got if isinstance(got, Failure) and got.kind in _ABOUT_THE_ACCOUNT else None
        if ill is not None:
            _log.info("%s: a probe of account %d failed: %s", self._provider.name, account.index, ill.message)
            if ill.kind in _ABOUT_THE_KEY:
                self._refused[account] = ill.message
        elif account.misconfigured is not None and (
            isinstance(got, Failure) or account.misconfigured != self._refused.get(account)
        ):
            return  # somebody is there; of the key it says nothing
        self._gate.probed(account, ill)

    async def _get(self, path: str, account: Account) -> bytes | Failure:
        """The body that a path answers with, or why there is none."""
        upstream = account.upstream
        headers = {**self._dialect.headers, **credentials(self._provider.key_header, upstream.key)}
        limit_s = self._provider.timeouts.connect_s
        try:
            async with asyncio.timeout(limit_s):
                response = await self._transport.send(
                    self._provider.url(path, at=upstream.base_url), headers, b"", method="GET"
                )
                try:
                    body = await response.read()
                finally:
                    await response.aclose()
        except TransportError as error:
            return Failure(error.kind, error.message)
        except TimeoutError:
            return Failure(FailureKind.SILENT, f"no answer within {limit_s:g} s")
        return body if response.status == 200 else classify(response.status, response.headers, body)
