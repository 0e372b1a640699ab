"""The front door of `metergate` and `python -m metergate`: nothing loads before it can be interrupted."""

import sys


def main() -> None:
    """Run the command line. Ctrl-C while its modules still load ends it as quietly as later."""
    try:
        from metergate.cli import main as run  # noqa: PLC0415 - loading takes a moment in which Ctrl-C may come

        run()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
