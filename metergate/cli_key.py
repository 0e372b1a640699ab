"""The command line of `metergate key`: names and help. What the commands do stands in `metergate.commands.key`."""

from pathlib import Path
from typing import Annotated

import typer

key_app = typer.Typer(
    help="The meters' keys and passwords, encrypted, and people's signing keys. Example: metergate key list site.toml",
    no_args_is_help=True,
)

SiteArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The site's configuration file.")]
SecretOption = Annotated[str | None, typer.Option(metavar="SECRET", help="env:NAME, file:PATH, or - to be asked.")]
MeterArgument = Annotated[str, typer.Argument(metavar="METER", help="The meter's id in the file.")]


@key_app.command("init")
def key_init(
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Where the new master key is written.")],
) -> None:
    """Make a master key: it opens the key store and stands outside of it.

    Example: metergate key init /etc/metergate/master.key
    """
    from metergate.commands.key import make_master_key

    make_master_key(path)


@key_app.command("add")
def key_add(
    file: SiteArgument,
    meter: MeterArgument,
    encryption: SecretOption = None,
    authentication: SecretOption = None,
    broadcast: SecretOption = None,
    master: SecretOption = None,
    password: SecretOption = None,
    operator: SecretOption = None,
    counter: Annotated[
        int | None, typer.Option(help="The invocation counter goes on from here, never lower.", min=0, max=0xFFFFFFFF)
    ] = None,
) -> None:
    """Store or change a meter's keys. A running gateway takes them at once.

    Example: metergate key add site.toml flat-01 --encryption file:guek.hex --authentication file:gak.hex --counter 0
    """
    from metergate.commands.key import add

    secrets = {
        "encryption": encryption,
        "authentication": authentication,
        "broadcast": broadcast,
        "master": master,
        "password": password,
        "operator": operator,
    }
    add(file, meter, secrets, counter)


@key_app.command("import")
def key_import(
    file: SiteArgument,
    keys: Annotated[Path, typer.Argument(metavar="KEYS", help="TOML: a table for each meter, keys in hex digits.")],
) -> None:
    """Store the keys of many meters from a file, as makers deliver them with a shipment.

    Example: metergate key import site.toml shipment.toml
    """
    from metergate.commands.key import add_all

    add_all(file, keys)


@key_app.command("list")
def key_list(file: SiteArgument) -> None:
    """List whose keys there are, and which meter refused them. Never the keys themselves.

    Example: metergate key list site.toml
    """
    from metergate.commands.key import show

    show(file)


@key_app.command("remove")
def key_remove(file: SiteArgument, meter: MeterArgument) -> None:
    """Forget a meter's keys and passwords.

    Example: metergate key remove site.toml flat-01
    """
    from metergate.commands.key import remove

    remove(file, meter)


@key_app.command("unlock")
def key_unlock(file: SiteArgument, meter: MeterArgument) -> None:
    """Let a meter be asked again with the keys that it refused, after the cause was found elsewhere.

    Example: metergate key unlock site.toml flat-01
    """
    from metergate.commands.key import unlock

    unlock(file, meter)


@key_app.command("rotate")
def key_rotate(
    file: SiteArgument,
    new: Annotated[str, typer.Option("--new", metavar="SECRET", help="The new master key: env:NAME or file:PATH.")],
) -> None:
    """Encrypt the key store anew under another master key.

    Example: metergate key rotate site.toml --new file:/etc/metergate/master-2027.key
    """
    from metergate.commands.key import rotate

    rotate(file, new)


@key_app.command("transport")
def key_transport(file: SiteArgument) -> None:
    """Print the gateway's public key, to which meter keys are wrapped. Take it from the site, by a way you trust.

    Example: metergate key transport gateway.toml
    """
    from metergate.commands.key_wrap import transport

    transport(file)


@key_app.command("wrap")
def key_wrap(
    keys: Annotated[Path, typer.Argument(metavar="KEYS", help="TOML: a table for each meter, keys in hex digits.")],
    gateway: Annotated[str, typer.Option("--for", metavar="GATEWAY", help="The gateway's id.")],
    public: Annotated[str, typer.Option("--to", metavar="KEY", help="Its public key, of metergate key transport.")],
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="Where a file for each meter is written.")],
    version: Annotated[int, typer.Option(help="Counts up with each change of these keys.", min=1)] = 1,
) -> None:
    """Wrap meters' keys for one gateway, away from any network. The head-end carries them and can open none.

    Example: metergate key wrap shipment.toml --for gw-1 --to 5f0c... --out wrapped
    """
    from metergate.commands.key_wrap import wrap_all

    wrap_all(keys, gateway, public, version, out)
