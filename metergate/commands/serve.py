"""`metergate site` and `metergate gateway`: run until a signal says stop."""

import asyncio
from pathlib import Path

import structlog
import uvloop

from gateway.master_key import forbid_core_dumps
from metergate.edge import run_edge
from metergate.logging import configure_logging
from metergate.parts import Parts, build
from metergate.signals import stop_on_signals
from metergate.site import SiteFile, load_site
from metergate.site_keys import check_keys

logger = structlog.get_logger(__name__)


def run_site(file: Path, *, with_api: bool) -> None:
    """Run the site of a file until SIGINT or SIGTERM."""
    site = load_site(file)
    if site.uplink is None or with_api:  # else keys may come wrapped from the head-end, while it runs
        check_keys(file, site)
    if site.keys is not None:
        forbid_core_dumps()
    configure_logging()
    uvloop.run(_run(site, with_api=with_api))


async def _run(site: SiteFile, *, with_api: bool) -> None:
    if site.uplink is not None and not with_api:
        stop = asyncio.Event()
        stop_on_signals(stop)
        logger.info("gateway runs", id=site.gateway.id, meters=len(site.meter), headend=site.uplink.host)
        await run_edge(site, stop)
        return
    parts = build(site, with_api=with_api)
    try:
        stop_on_signals(parts.stop)
        if with_api:
            await run_with_api(parts)
        else:
            logger.info("gateway runs", id=site.gateway.id, meters=len(site.meter))
            await parts.run()
    finally:
        parts.close()


async def run_with_api(parts: Parts) -> None:
    """Run the parts with the API in front of them."""
    from api.app import create_app  # noqa: PLC0415 - only where the API runs
    from metergate.http import bind, serve  # noqa: PLC0415 - as above

    assert parts.office is not None  # noqa: S101 - built with the API
    settings = parts.site.api
    listening = bind(settings)
    app = create_app(parts.office)
    logger.info("site runs", id=parts.site.gateway.id, meters=len(parts.site.meter), api=settings.listen)
    await parts.run(lambda stop: serve(app, listening, settings, stop))
