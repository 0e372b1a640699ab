"""The command lines of signing: `metergate trust`, and three of `metergate key`. Names and help alone."""

from pathlib import Path
from typing import Annotated

import typer

trust_app = typer.Typer(
    help="The trust document of a gateway: who may order what. Example: metergate trust show trust.json",
    no_args_is_help=True,
)

KeyArgument = Annotated[Path, typer.Argument(metavar="KEY", help="A person's signing key.")]
DocumentArgument = Annotated[Path, typer.Argument(metavar="DOCUMENT", help="A signed trust document.")]
Passphrase = Annotated[
    str | None, typer.Option(metavar="SECRET", help="The key's passphrase: env:NAME or file:PATH; none without it.")
]
Yes = Annotated[bool, typer.Option("--yes", help="Sign without asking: whoever calls has read it.")]
Out = Annotated[Path, typer.Option(metavar="FILE", help="Where it is written.")]


def add_signing(key_app: typer.Typer) -> None:
    """Add the commands of signing to `metergate key`."""
    key_app.command("make")(key_make)
    key_app.command("public")(key_public)
    key_app.command("sign")(key_sign)


def key_make(
    file: Annotated[Path, typer.Argument(metavar="KEY", help="Where the new key is written.")],
    person: Annotated[str, typer.Option(help="Whose key it is: a person's name, as the trust document knows it.")],
    passphrase: Passphrase = None,
) -> None:
    """Make a person's signing key (Ed25519), and print what the trust document needs of it.

    Example: metergate key make anna.pem --person anna --passphrase env:ANNA
    """
    from metergate.commands.sign import make_signing_key

    make_signing_key(file, person, passphrase)


def key_public(file: KeyArgument, passphrase: Passphrase = None) -> None:
    """Print the public form of a signing key and its id.

    Example: metergate key public anna.pem
    """
    from metergate.commands.sign import show_public

    show_public(file, passphrase)


def key_sign(
    key: KeyArgument,
    sheet: Annotated[Path, typer.Argument(metavar="SHEET", help="What GET /v1/commands/{id}/signing answered.")],
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Where it is written; else it is printed.")] = None,
    passphrase: Passphrase = None,
    yes: Yes = False,
) -> None:
    """Show a supply command as its own signed bytes have it, ask, and sign it: one approval.

    Example: metergate key sign anna.pem c-17.json --out c-17-anna.json
    """
    from metergate.commands.sign import sign_sheet

    sign_sheet(key, sheet, out, passphrase, yes=yes)


@trust_app.command("make")
def trust_make(
    draft: Annotated[Path, typer.Argument(metavar="DRAFT", help="The draft (TOML), see config/trust.toml.")],
    key: KeyArgument,
    out: Out,
    passphrase: Passphrase = None,
    yes: Yes = False,
) -> None:
    """Turn a draft into a trust document with a custodian's first signature.

    Example: metergate trust make trust.toml dora.pem --out trust.json
    """
    from metergate.commands.trust import make

    make(draft, key, out, passphrase, yes=yes)


@trust_app.command("sign")
def trust_sign(document: DocumentArgument, key: KeyArgument, passphrase: Passphrase = None, yes: Yes = False) -> None:
    """Add another custodian's signature to a trust document.

    Example: metergate trust sign trust.json emil.pem
    """
    from metergate.commands.trust import sign_it

    sign_it(document, key, passphrase, yes=yes)


@trust_app.command("show")
def trust_show(document: DocumentArgument) -> None:
    """Print what a trust document says, and which of its custodians have signed it.

    Example: metergate trust show trust.json
    """
    from metergate.commands.trust import show

    show(document)


@trust_app.command("install")
def trust_install(
    site: Annotated[Path, typer.Argument(metavar="FILE", help="The gateway's configuration file.")],
    document: DocumentArgument,
) -> None:
    """Put a trust document in force on this gateway: the first one on site, later ones by the custodians of the last.

    Example: metergate trust install /etc/metergate/site.toml trust.json
    """
    from metergate.commands.trust import install

    install(site, document)
