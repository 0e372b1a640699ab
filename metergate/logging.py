"""How the process logs: one line an entry on standard error, with colours on a terminal only."""

import logging
import sys

import structlog


def configure_logging(*, quiet: bool = False) -> None:
    """Set up structlog, and keep the libraries' chatter out: bus and store tell their failures themselves."""
    level = logging.WARNING if quiet else logging.INFO
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    for name in ("pymodbus", "pymodbus.logging", "urllib3", "amqtt", "transitions"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            # With rich installed the usual one shows the locals of each frame, keys and passwords among them.
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
