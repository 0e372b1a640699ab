"""`metergate headend`: takes in what gateways send, and serves the API, until a signal says stop."""

from pathlib import Path

import structlog
import uvloop

from metergate.headend_file import HeadendFile, load_headend
from metergate.logging import configure_logging
from metergate.signals import stop_on_signals

logger = structlog.get_logger(__name__)


def run_headend(path: Path) -> None:
    """Run the head-end of a file until SIGINT or SIGTERM."""
    file = load_headend(path)
    configure_logging()
    uvloop.run(_run(file))


async def _run(file: HeadendFile) -> None:
    from api.app import create_app  # noqa: PLC0415 - after the file was found good
    from metergate.centre import build, run_until_stopped  # noqa: PLC0415 - as above
    from metergate.http import bind, serve  # noqa: PLC0415 - as above

    centre = build(file)
    stop_on_signals(centre.stop)
    listening = bind(file.api)
    app = create_app(centre.office, centre.fleet)
    logger.info("head-end runs", gateways=len(centre.registry.gateways()), api=file.api.listen)
    await run_until_stopped(centre, lambda stop: serve(app, listening, file.api, stop))
