"""What the log shows of a mistake of ours: where it was, and no values."""

import subprocess
import sys

SCRIPT = """
import structlog
from metergate import logging as ours
ours.configure_logging()
def work():
    secret_key = b"SIXTEEN" + b"SECRETS."
    raise ValueError("a mistake")
try:
    work()
except ValueError:
    structlog.get_logger().exception("it failed")
"""


def test_a_traceback_in_the_log_shows_no_locals():
    shown = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=True).stderr
    assert "a mistake" in shown
    assert "SIXTEENSECRETS" not in shown
