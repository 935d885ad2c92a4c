"""Browsers: which pages may use the endpoint, and what their preflights are answered (the Fetch standard, "CORS protocol").

A page may send a request to any address that its browser reaches, this machine's among them; a JSON body in `text/plain`
needs no preflight. So where no key protects the endpoint, a request that names an origin is answered only if that origin is
a page of this machine, or one that the configuration allows (`server.origins`). What is no browser names none.

With keys, a page needs one as everybody does, and no browser sends it of itself: so any page may ask, unless the
configuration names those that may.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from urllib.parse import urlsplit

from orchestrator.wire.http import Header, Refused, Scope

_SHOWN = (
    b"x-request-id, request-id, x-orchestrator-provider, x-orchestrator-model, x-orchestrator-strategy, "
    b"x-orchestrator-attempts, x-orchestrator-cost-usd, x-orchestrator-cache, retry-after, x-should-retry, "
    b"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, x-ratelimit-limit-tokens, "
    b"x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens"
)
_PREFLIGHT_S = b"600"


def host_of(url: str) -> str | None:
    """The host that an address names, in lower case; None where it names none."""
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def is_local(host: str | None) -> bool:
    """Whether a name means this machine: localhost, or a loopback address as browsers write it."""
    if host is None:
        return False
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name; one that only looks like an address (`127.0.0.1.example.com`) is somebody's.
        return host == "localhost" or host.endswith(".localhost")


def check_origin(scope: Scope, origins: Sequence[str], *, keys: bool) -> tuple[Header, ...]:
    """The headers that let a page read the answer; none for what is no page. Raises Refused (403) for a page that may not.

    `keys`: whether the endpoint asks for keys.
    """
    origin = next((value for name, value in scope["headers"] if name == b"origin"), None)
    if origin is None:
        return ()
    text = origin.decode("latin-1")
    named = origins or (("*",) if keys else ())
    if not is_local(host_of(text)) and text not in named and "*" not in named:
        what = "pages of this origin may not use the endpoint; 'server.origins' in the configuration allows others"
        raise Refused(403, "origin_not_allowed", what)
    return (
        (b"access-control-allow-origin", origin),
        (b"access-control-expose-headers", _SHOWN),
        (b"vary", b"origin"),
    )


def preflight(scope: Scope) -> tuple[Header, ...] | None:
    """What a preflight is answered beside `check_origin`'s headers; None: the request is none."""
    asked = {
        name: value for name, value in scope["headers"] if name.startswith((b"access-control-request-", b"origin"))
    }
    if scope["method"] != "OPTIONS" or b"access-control-request-method" not in asked or b"origin" not in asked:
        return None
    headers: list[Header] = [
        (b"access-control-allow-methods", b"GET, POST, DELETE"),
        (b"access-control-allow-headers", asked.get(b"access-control-request-headers", b"content-type, authorization")),
        (b"access-control-max-age", _PREFLIGHT_S),
    ]
    if asked.get(b"access-control-request-private-network") == b"true":
        headers.append((b"access-control-allow-private-network", b"true"))
    return tuple(headers)
