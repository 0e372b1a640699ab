"""The command line of `metergate quarantine`: names and help. What the commands do stands in `metergate.commands`."""

from pathlib import Path
from typing import Annotated

import typer

quarantine_app = typer.Typer(
    help="Readings that a head-end held back as of the future. Example: metergate quarantine list headend.toml",
    no_args_is_help=True,
)

HeadendArgument = Annotated[Path, typer.Argument(metavar="HEADEND", help="The head-end's configuration file.")]
GatewayOption = Annotated[str, typer.Option(help="The gateway whose readings are meant.")]
DeviceOption = Annotated[str, typer.Option(help="Only readings of this device.")]
ReasonOption = Annotated[str, typer.Option(help="Why: it stands in the audit and in an event at each device.")]


@quarantine_app.command("list")
def quarantine_list(file: HeadendArgument) -> None:
    """List what waits for a decision: how much of which device, its stamps, and how far the gateway's clock was ahead.

    Example: metergate quarantine list headend.toml
    """
    from metergate.commands.quarantine import show

    show(file)


@quarantine_app.command("release")
def quarantine_release(
    file: HeadendArgument, gateway: GatewayOption, reason: ReasonOption, device: DeviceOption = ""
) -> None:
    """Take readings in as they are: their stamps are right, and it was the head-end's clock that was behind.

    Example: metergate quarantine release headend.toml --gateway gw1 --reason "our clock stood at January"
    """
    from metergate.commands.quarantine import decide

    decide(file, "release", gateway, device, reason, None)


@quarantine_app.command("retime")
def quarantine_retime(
    file: HeadendArgument,
    gateway: GatewayOption,
    reason: ReasonOption,
    device: DeviceOption = "",
    offset: Annotated[
        float | None, typer.Option(metavar="SECONDS", help="How far ahead the stamps are; without it as was measured.")
    ] = None,
) -> None:
    """Take readings in with earlier stamps: the gateway's clock was ahead. They are marked and not billed on.

    What a meter stamped by its own clock (its load profile) stays as it is and goes on waiting.

    Example: metergate quarantine retime headend.toml --gateway gw1 --reason "its clock was set to next month"
    """
    from metergate.commands.quarantine import decide

    decide(file, "retime", gateway, device, reason, offset)
