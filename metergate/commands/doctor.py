"""`metergate doctor`: looks at a whole site and says, line by line, what is wrong and what to do. Repairs nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from gateway.keystore import KeyStore
from gateway.lines import open_keys
from metergate import doctor_broker, doctor_home, doctor_lines
from metergate.findings import Case, Finding, State
from metergate.probe import gateway_runs
from metergate.site import SiteFile, load_site
from metergate.site_keys import missing_keys
from metering.errors import ConfigError, StorageError

MARK_S = 2.0  # between two marks of progress on a terminal


def run_doctor(file: Path) -> int:
    """Print the findings of a site as they come; return 0 when nothing is wrong, 1 otherwise."""
    site = load_site(file)
    return asyncio.run(_run(site, file))


async def _run(site: SiteFile, file: Path) -> int:
    findings = [Finding(State.OK, "config", f"{file} is correct")]
    _tell(findings[0])
    progress = asyncio.ensure_future(_progress())
    try:
        async for finding in _all(site, file):
            findings.append(finding)
            _tell(finding)
    finally:
        progress.cancel()
    wrong = sum(finding.state is State.WRONG for finding in findings)
    print(f"{wrong} wrong, {len(findings)} findings" if wrong else f"all is well, {len(findings)} findings")
    return 1 if wrong else 0


async def _all(site: SiteFile, file: Path) -> AsyncIterator[Finding]:
    keys, faults = _open_keys(site, file)
    try:
        for finding in faults:
            yield finding
        for finding in await asyncio.to_thread(lambda: list(doctor_home.look(site))):
            yield finding
        case = Case(file, site, keys, gateway_runs(site.gateway.data))
        sources = [*(doctor_lines.look(case, bus) for bus in site.bus), doctor_broker.listen(site)]
        async for finding in _together(sources):
            yield finding
    finally:
        if keys is not None:
            keys.close()


async def _together(sources: Sequence[AsyncIterator[Finding]]) -> AsyncIterator[Finding]:
    """Yield what several sources find, as it comes."""
    queue: asyncio.Queue[Finding | None] = asyncio.Queue()

    async def pass_on(source: AsyncIterator[Finding]) -> None:
        try:
            async for finding in source:
                queue.put_nowait(finding)
        except ConfigError as error:
            queue.put_nowait(Finding(State.WRONG, "config", str(error)))
        finally:
            queue.put_nowait(None)

    async with asyncio.TaskGroup() as group:
        for source in sources:
            group.create_task(pass_on(source))
        ended = 0
        while ended < len(sources):
            came = await queue.get()
            if came is None:
                ended += 1
            else:
                yield came


def _open_keys(site: SiteFile, file: Path) -> tuple[KeyStore | None, list[Finding]]:
    """Return the key store, once for all buses because its counters have one owner, and what is wrong with it."""
    try:
        keys = open_keys(site)
    except ConfigError as error:
        todo = "the master key that made the store has to be there for the user who runs metergate ([keys] master)"
        return None, [Finding(State.WRONG, "keys", str(error), todo)]
    except StorageError as error:
        return None, [Finding(State.WRONG, "keys", str(error))]
    try:
        return keys, [Finding(State.WRONG, "keys", str(error)) for error in missing_keys(file, site)]
    except StorageError as error:  # one record is damaged
        return keys, [Finding(State.WRONG, "keys", str(error))]


async def _progress() -> None:
    """Show on a terminal that the doctor is still at it: a dot now and then, which the next finding wipes out."""
    while sys.stdout.isatty():
        await asyncio.sleep(MARK_S)
        print(".", end="", flush=True)


def _tell(finding: Finding) -> None:
    start = "\r" if sys.stdout.isatty() else ""
    print(f"{start}{finding}", flush=True)
