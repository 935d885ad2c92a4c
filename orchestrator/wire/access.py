"""Who may ask: the endpoint's keys, and what holds where there are none.

A key is found by the SHA-256 of what was presented, and compared with it in constant time. A plain hash is right for keys
of 32 random bytes (`orchestrator.keys`): there is nothing to guess, so nothing to slow a guesser down for; and a look into a
table by hash tells nobody anything, since nobody can choose what the hash of a guess begins with.

Where there are no keys, it depends on where the endpoint is bound. On loopback only this machine may use it: a replica
listens on a port of its own besides the proxy's, so any other peer is refused; and so is a request for another host's name,
since a page could have its own name mean this machine (DNS rebinding) and would then be of the same origin. An endpoint that
was opened to others with keys, and whose configuration lost them all meanwhile, is closed to everybody.

With keys none of that is needed: whoever has no key is refused, whatever name or page or machine it comes by, and no
browser adds a key of itself as it does cookies.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import logging
import time
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Literal, cast, get_args

from orchestrator.callers import Caller
from orchestrator.config.operations import CallerKey
from orchestrator.errors import LedgerFailed
from orchestrator.keyring import Keyring, Known, known
from orchestrator.wire.callers import away
from orchestrator.wire.http import Header, Refused, Scope
from orchestrator.wire.origins import host_of, is_local

Keyless = Literal["here", "nobody", "anybody"]
"""Who may use an endpoint whose configuration has no keys: whoever is on this machine, nobody, or anybody."""

OPEN = frozenset({"/", "/health", "/ready", "/openapi.json"})
"""Paths that need no key: they tell whether the endpoint is well and what it serves, and nothing of anybody's."""
CLOSED = (
    "the endpoint was opened with keys, and its configuration has none any more: nobody may use it until 'server.keys' "
    "has some"
)
_ADMIN = "/admin/"
_METRICS = "/metrics"
"""Costs by user stand in it: it needs an admin's key, too. (Prometheus sends one: `authorization: {credentials_file: …}`.)"""
_PRESENTED = 3
"""Keys of one request that are looked at: clients may send one in each of their headers."""
_BEARER: Header = (b"www-authenticate", b'Bearer realm="orchestrator"')
_WRONG: Header = (b"www-authenticate", b'Bearer realm="orchestrator", error="invalid_token"')

_log = logging.getLogger("orchestrator.access")


def keyless_of(wanted: str | None, callers: tuple[CallerKey, ...]) -> Keyless:
    """What is to hold where the configuration has no keys: as it is wanted, and if nothing is said, by whether it has some
    now. Raises ValueError."""
    for one in get_args(Keyless):
        if wanted == one:
            return cast(Keyless, one)
    if wanted is not None:
        raise ValueError(f"keyless: there is {', '.join(get_args(Keyless))}, and no {wanted!r}")
    return "nobody" if callers else "anybody"


class Access:
    """Looks at keys for an application. Costs about 3 µs a request."""

    def __init__(
        self, keyless: Keyless = "anybody", keyring: Keyring | None = None, *, now: Callable[[], float] = time.time
    ) -> None:
        self.keyring = keyring
        """Keys beside those of the configuration; None: there are none."""
        self._keyless = keyless
        self._now = now
        self._callers: tuple[CallerKey, ...] = ()
        """Those of the configuration that `_by_hash` is made of."""
        self._by_hash: dict[str, Known] = {}

    def taken(self, callers: tuple[CallerKey, ...]) -> None:
        """Told of each configuration that is taken over: one that closes the endpoint is worth a line in the log."""
        if not callers and self._keyless == "nobody":
            _log.error("%s", CLOSED)

    def guard(self, scope: Scope, callers: tuple[CallerKey, ...]) -> None:
        """Whether anything may be asked from there at all. Raises Refused (401, 403)."""
        if callers or self._keyless == "anybody":
            return
        if self._keyless == "nobody":
            raise Refused(401, "no_keys", CLOSED, headers=(_BEARER,))
        if (reason := _foreign(scope)) is not None:
            raise Refused(403, "loopback_only", reason)

    async def caller(self, scope: Scope, path: str, callers: tuple[CallerKey, ...]) -> Caller | None:
        """Who asks; None: no key is needed. Raises Refused (401, 403)."""
        if not callers or path in OPEN:
            return None
        if callers is not self._callers:
            self._callers, self._by_hash = callers, {key.key_sha256: known(key) for key in callers}
        hashes = [hashlib.sha256(key).hexdigest() for key in _presented(scope["headers"])]
        found = self._find(hashes)
        if found is None and hashes and self.keyring is not None:
            try:
                await self.keyring.look()
            except LedgerFailed as error:
                # Whoever asks has not shown a key yet: where the database is, is not for them.
                _log.warning("a key could not be looked up: %s", error)
                raise away() from None
            found = self._find(hashes)
        if found is None:
            raise _refused(bool(hashes))
        if found.until_s <= self._now():
            what = f"the key {found.caller.name!r} has expired: its last day was {found.key.expires}"
            raise Refused(401, "invalid_api_key", what, headers=(_WRONG,))
        if (path.startswith(_ADMIN) or path == _METRICS) and not found.caller.admin:
            raise Refused(403, "admin_only", f"{path} needs a key with `admin: true`; {found.caller.name!r} has none")
        return found.caller

    def _find(self, hashes: Iterable[str]) -> Known | None:
        for one in hashes:
            found = self._by_hash.get(one) or (None if self.keyring is None else self.keyring.find(one))
            if found is not None and hmac.compare_digest(found.key.key_sha256, one):
                return found
        return None


def _presented(headers: Iterable[Header]) -> list[bytes]:
    """The keys in a request: a bearer's token, Anthropic's header, Azure's."""
    found: list[bytes] = []
    for name, value in headers:
        if name == b"authorization":
            scheme, _, token = value.partition(b" ")
            if scheme.lower() == b"bearer":
                found.append(token.strip())
        elif name in (b"x-api-key", b"api-key"):
            found.append(value.strip())
    return [key for key in found if key][:_PRESENTED]


def _refused(presented: bool) -> Refused:
    if presented:
        what = "this key is not known here, or was revoked"
        return Refused(401, "invalid_api_key", what, headers=(_WRONG,))
    what = "a key is needed: `authorization: Bearer KEY`, `x-api-key: KEY` or `api-key: KEY`"
    return Refused(401, "invalid_api_key", what, headers=(_BEARER,))


def _foreign(scope: Scope) -> str | None:
    """Why a request does not come from this machine, or not to it; None: it does."""
    if not _is_loopback(scope.get("client")):
        return "without keys, only this machine may use the endpoint"
    host = next((value for name, value in scope["headers"] if name == b"host"), None)
    # A request of HTTP/1.0 may name none.
    if host is not None and not is_local(host_of(f"//{host.decode('latin-1')}")):
        return "without keys, the endpoint is to be asked for by a name of this machine, such as localhost"
    return None


def _is_loopback(client: Any) -> bool:
    try:
        return _loopback(client[0])
    except (TypeError, IndexError, ValueError):
        return False


@lru_cache(maxsize=256)
def _loopback(host: str) -> bool:
    """Remembered: most requests come from the same few, the proxy above all."""
    return ipaddress.ip_address(host).is_loopback
