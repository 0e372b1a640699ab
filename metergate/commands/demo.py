"""`metergate demo`: the main job on one machine: simulated meters, gateway, store, API, and a table to watch."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import msgspec
import uvloop
from pydantic import ValidationError

from headend.tokens import SCOPES, TokenBook
from metergate.demo_site import demo_site, store_keys
from metergate.demo_supply import APPROVERS, enrol, write_requests
from metergate.demo_view import DemoView
from metergate.gaps import count_gaps
from metergate.http import bind, serve
from metergate.logging import configure_logging
from metergate.parts import Parts, build
from metergate.signals import stop_on_signals
from metergate.site import ApiSettings
from metergate.world import Places
from metering import timing
from metering.errors import ConfigError, StorageError
from metering.model import SECOND

# The simulated site: in an installed package beside the code, in a checkout in config/.
_INSTALLED = Path(__file__).parents[1] / "simulation.toml"
FLEET = _INSTALLED if _INSTALLED.exists() else Path(__file__).parents[2] / "config" / "simulation.toml"
START_S = 20.0  # the simulated site listens by then, or something is wrong with this machine
GOODBYE_S = 5.0
TOKEN_DAYS = 1


def run_demo(api: str, data: Path, seconds: float | None) -> None:
    """Run the demo until Ctrl-C, or for so many seconds; print `readings=N meters=N gaps=N` at the end."""
    if not FLEET.exists():
        raise ConfigError(f"{FLEET} is missing: install metergate anew, or run the demo from a checkout")
    configure_logging(quiet=True)
    data.mkdir(parents=True, exist_ok=True)
    uvloop.run(_run(api, data.resolve(), seconds))


async def _run(api: str, data: Path, seconds: float | None) -> None:
    stop = asyncio.Event()
    stop_on_signals(stop)
    with bind(_api_settings(api)) as listening:  # before anything starts: a taken port is told at once
        await _run_over(listening, api, data, stop, seconds)


async def _run_over(listening: socket.socket, api: str, data: Path, stop: asyncio.Event, seconds: float | None) -> None:
    async with _world(data) as places:
        site = demo_site(places, data, api)
        store_keys(site, places)
        enrol(site, places)
        write_requests(site)
        parts = build(site, with_api=True)
        try:
            await _watch(parts, places, listening, stop, seconds)
        finally:
            parts.close()


async def _watch(
    parts: Parts, places: Places, listening: socket.socket, stop: asyncio.Event, seconds: float | None
) -> None:
    from api.app import create_app  # noqa: PLC0415 - the API's packages load while the meters already listen

    parts.stop = stop
    if seconds is not None:
        asyncio.get_running_loop().call_later(seconds, stop.set)
    assert parts.office is not None  # noqa: S101 - built with the API
    app = create_app(parts.office)
    view = DemoView(parts, places.broker_name, fresh_tokens(parts.office.tokens))
    async with asyncio.TaskGroup() as group:
        group.create_task(view.run(stop))
        await parts.run(lambda late: serve(app, listening, parts.site.api, late))
    status = parts.gateway.status()
    gaps = await asyncio.to_thread(count_gaps, parts.store, [meter.id for meter in parts.site.meter], timing.now())
    print(f"readings={status.recorder.readings} meters={status.meters} gaps={gaps}", flush=True)


@asynccontextmanager
async def _world(data: Path) -> AsyncIterator[Places]:
    """Run the simulated site in a process of its own: what the gateway costs is then the gateway's alone."""
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "metergate.commands.simulate",
        str(FLEET),
        str(data),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for the gateway, which ends the meters last
    )
    assert child.stdin is not None  # noqa: S101 - asked for above
    assert child.stdout is not None  # noqa: S101 - asked for above
    try:
        async with asyncio.timeout(START_S):
            line = await child.stdout.readline()
        if not line:
            raise StorageError("the simulated meters did not start; metergate simulate says why", retry=False)
        yield msgspec.json.decode(line, type=Places)
    finally:
        child.stdin.close()
        try:
            async with asyncio.timeout(GOODBYE_S):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


def _api_settings(listen: str) -> ApiSettings:
    try:
        return ApiSettings(listen=listen)
    except ValidationError as error:
        raise ConfigError(str(error.errors()[0]["msg"]).removeprefix("Value error, ")) from None


def fresh_tokens(book: TokenBook) -> dict[str, str]:
    """Return a token of each kind by its scope, and each approver's by their name; those of earlier demos end."""
    for token in book.list():
        if token.name.startswith("demo ") and token.revoked_at is None:
            book.revoke(token.id)
    expires = timing.now() + TOKEN_DAYS * 86_400 * SECOND
    kinds = [(scope, scope) for scope in SCOPES] + [(name, "commands:approve") for name in APPROVERS]
    return {name: book.create(f"demo {name}", [scope], [""], expires) for name, scope in kinds}
