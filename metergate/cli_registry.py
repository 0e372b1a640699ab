"""The command line of `metergate registry`: names and help. What the commands do stands in `metergate.commands`."""

from pathlib import Path
from typing import Annotated

import typer

registry_app = typer.Typer(
    help="The head-end's gateways, meters and meter points. Example: metergate registry list headend.toml",
    no_args_is_help=True,
)

HeadendArgument = Annotated[Path, typer.Argument(metavar="HEADEND", help="The head-end's configuration file.")]


@registry_app.command("import")
def registry_import(
    file: HeadendArgument,
    fleet: Annotated[Path, typer.Argument(metavar="FLEET", help="The file with [[gateway]] and [[meter]] tables.")],
) -> None:
    """Take gateways and meters of a file into the registry: added and changed, never removed. Again is harmless.

    Running head-ends know it within seconds. Example: metergate registry import headend.toml fleet.toml
    """
    from metergate.commands.registry import take_in

    take_in(file, fleet)


@registry_app.command("list")
def registry_list(file: HeadendArgument) -> None:
    """List gateways and meters with the points where they hang.

    Example: metergate registry list headend.toml
    """
    from metergate.commands.registry import show

    show(file)
