"""`metergate doctor`: looks at a whole site and says, line by line, what is wrong and what to do. Repairs nothing."""

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

from metergate import doctor_home, doctor_lines
from metergate.findings import Finding, State
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
    for finding in _keys(site, file):
        yield finding
    for finding in await asyncio.to_thread(lambda: list(doctor_home.look(site))):
        yield finding
    queue: asyncio.Queue[Finding | None] = asyncio.Queue()

    async def pass_on(source: AsyncIterator[Finding]) -> None:
        try:
            async for finding in source:
                queue.put_nowait(finding)
        except ConfigError as error:
            queue.put_nowait(Finding(State.WRONG, "config", str(error)))
        finally:
            queue.put_nowait(None)

    sources = [*(doctor_lines.look(site, bus) for bus in site.bus), doctor_lines.listen(site)]
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


def _keys(site: SiteFile, file: Path) -> Iterator[Finding]:
    try:
        for error in missing_keys(file, site):
            yield Finding(State.WRONG, "keys", str(error))
    except (ConfigError, StorageError) as error:
        yield Finding(State.WRONG, "keys", str(error))


async def _progress() -> None:
    """Show on a terminal that the doctor is still at it: a dot now and then, which the next finding wipes out."""
    while sys.stdout.isatty():
        await asyncio.sleep(MARK_S)
        print(".", end="", flush=True)


def _tell(finding: Finding) -> None:
    start = "\r" if sys.stdout.isatty() else ""
    print(f"{start}{finding}", flush=True)
