"""`/admin/keys`: keys of callers, made and revoked while the endpoint runs. They are kept in the ledger's database."""

from __future__ import annotations

from contextlib import suppress
from urllib.parse import unquote

from orchestrator.config.operations import CallerKey
from orchestrator.errors import LedgerFailed
from orchestrator.keyring import Keyring, shown
from orchestrator.keys import hash_of, make_key
from orchestrator.types import Json
from orchestrator.wire.chat import parse_object
from orchestrator.wire.http import Receive, Refused, Scope, read_body

PATH = "/admin/keys"
_MAX_BYTES = 100_000
_BOOTSTRAP = (
    "no keys are asked for here: the first one stands in the configuration, below `server: keys:`, with `admin: true`; "
    "`orchestrator key new --name admin --admin` makes it"
)


async def answer_keys(
    keyring: Keyring | None, callers: tuple[CallerKey, ...], path: str, scope: Scope, receive: Receive
) -> Json:
    """What is answered to an admin. Raises Refused."""
    try:
        if scope["method"] == "POST":
            return await _make(_needed(keyring, callers), callers, await read_body(scope, receive, _MAX_BYTES))
        if scope["method"] == "DELETE":
            name = unquote(path.removeprefix(PATH).removeprefix("/"))
            return await _revoke(_needed(keyring, callers), callers, name)
        rows = [{**shown(key), "source": "configuration"} for key in callers]
        kept = await keyring.rows() if keyring is not None else []
        return {"keys": [*rows, *({**row, "source": "ledger"} for row in kept)]}
    except LedgerFailed as error:
        raise away(f": {error}") from None


def away(why: str = "; try again") -> Refused:
    """The answer where the ledger cannot be asked."""
    what = f"keys cannot be looked up at the moment{why}"
    return Refused(503, "ledger_unavailable", what, headers=((b"retry-after", b"1"),))


def _needed(keyring: Keyring | None, callers: tuple[CallerKey, ...]) -> Keyring:
    if not callers:
        raise Refused(400, "no_keys", _BOOTSTRAP)
    if keyring is None or not keyring.kept:
        what = "keys that are made here are kept in the ledger's database: the configuration needs a `ledger:` section"
        raise Refused(400, "no_ledger", what)
    return keyring


async def _make(keyring: Keyring, callers: tuple[CallerKey, ...], body: bytes) -> Json:
    data = parse_object(body)
    if "key_sha256" in data:
        raise Refused(400, "invalid_request", "'key_sha256' is made here, and said nowhere", param="key_sha256")
    key = make_key()
    wanted = _read({**data, "key_sha256": hash_of(key)})
    await keyring.look()
    if wanted.name in {one.name for one in callers} | {*keyring.names()}:
        # One that was revoked has its name, too: what was spent, is left of limits and was cached goes by it.
        what = f"there is, or was, a key of the name {wanted.name!r}; each has a name of its own"
        raise Refused(400, "invalid_request", what, param="name")
    await keyring.add(wanted)
    return {"key": key, **shown(wanted)}


def _read(data: Json) -> CallerKey:
    """Raises Refused (400) with what is wrong."""
    # pydantic and YAML: for those who make keys, and nobody else who answers requests.
    from orchestrator.config.callers import read_caller
    from orchestrator.config.document import Document, TooManyProblems

    document = Document("request", {}, lambda _: False, variables=False)
    wanted: CallerKey | None = None
    with suppress(TooManyProblems):  # they are there, and one is enough
        document.take(data)
        if not document.problems:
            wanted = read_caller(document, (), document.data)
    if wanted is None:
        place, _, what = document.problems[0].partition(": ")[2].partition(": ")
        raise Refused(400, "invalid_request", f"'{place}' {what}", param=place)
    return wanted


async def _revoke(keyring: Keyring, callers: tuple[CallerKey, ...], name: str) -> Json:
    if not await keyring.revoke(name):
        if name in {one.name for one in callers}:
            what = f"the key {name!r} stands in the configuration: it is revoked by taking it out there"
            raise Refused(400, "invalid_request", what)
        raise Refused(404, "not_found", f"there is no key {name!r} that could be revoked")
    return {"name": name, "revoked": True}
