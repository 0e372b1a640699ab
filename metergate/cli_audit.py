"""The command line of `metergate audit`: names and help. What the commands do stands in `metergate.commands`."""

from pathlib import Path
from typing import Annotated

import typer

audit_app = typer.Typer(
    help="The audit of a head-end: who decided what. Example: metergate audit verify headend.toml", no_args_is_help=True
)

HeadendArgument = Annotated[Path, typer.Argument(metavar="HEADEND", help="The head-end's configuration file.")]


@audit_app.command("verify")
def audit_verify(
    file: HeadendArgument,
    anchors: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Signed heads that were kept elsewhere: metergate audit heads.")
    ] = None,
    from_log: Annotated[
        bool, typer.Option("--from-log", help="Take the heads that gateways sent back, from the head-end's log.")
    ] = False,
    key: Annotated[
        list[str] | None, typer.Option(metavar="ed25519:…", help="A further key that signed heads; may be repeated.")
    ] = None,
) -> None:
    """Look for any changed, missing or cut-off entry; exit code 1 where there is one. The head-end may run.

    Example: metergate audit verify headend.toml --from-log
    """
    from metergate.commands.audit import run_verify

    raise typer.Exit(run_verify(file, anchors, key or [], from_log=from_log))


@audit_app.command("export")
def audit_export(
    file: HeadendArgument,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
) -> None:
    """Write every entry as a line of JSON, with the hashes that chain them.

    Example: metergate audit export headend.toml --out audit.ndjson
    """
    from metergate.commands.audit import run_export

    run_export(file, out)


@audit_app.command("heads")
def audit_heads(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A gateway's or head-end's data folder.")],
) -> None:
    """Print the signed heads that a log holds, one a line, to be given to `verify --anchors`. A gateway may run.

    Example: metergate audit heads /var/lib/metergate
    """
    from metergate.commands.audit import run_heads

    run_heads(directory)
