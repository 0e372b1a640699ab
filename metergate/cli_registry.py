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
    fleet: Annotated[Path, typer.Argument(metavar="FLEET", help="The file with the tables of gateways and meters.")],
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


@registry_app.command("ca")
def registry_ca(file: HeadendArgument) -> None:
    """Make the authority that signs the gateways' certificates, where the file's [enrolment] says.

    Example: metergate registry ca headend.toml
    """
    from metergate.commands.registry_keys import make_authority

    make_authority(file)


@registry_app.command("certificate")
def registry_certificate(
    file: HeadendArgument,
    name: Annotated[str, typer.Argument(metavar="NAME", help="The common name, as metergate.headend.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Where NAME.pem and NAME.key are written.")],
    host: Annotated[
        list[str] | None, typer.Option(help="For a broker: its host name or address; may be repeated.")
    ] = None,
) -> None:
    """Make key and certificate for the broker (with --host) or for the head-end at the broker (without).

    Example: metergate registry certificate headend.toml broker --host mqtt.example --out /etc/mosquitto/certs
    """
    from metergate.commands.registry_keys import make_certificate

    make_certificate(file, name, out, host or [])


@registry_app.command("invite")
def registry_invite(
    file: HeadendArgument,
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="The gateway's id.")],
    hours: Annotated[int, typer.Option(help="Hours until the token expires.", min=1, max=720)] = 24,
) -> None:
    """Make a gateway, or let one enrol anew, and print its one-time token, this once.

    Example: metergate registry invite headend.toml elm-7
    """
    from metergate.commands.registry_keys import invite

    invite(file, gateway, hours)


@registry_app.command("revoke")
def registry_revoke(
    file: HeadendArgument,
    gateway: Annotated[str, typer.Argument(metavar="GATEWAY", help="The gateway's id.")],
) -> None:
    """Revoke a gateway: nothing of it is taken any more, and its certificate stands in the list for the broker.

    Example: metergate registry revoke headend.toml elm-7
    """
    from metergate.commands.registry_keys import revoke

    revoke(file, gateway)
