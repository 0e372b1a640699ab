"""The command line: names, help and exit codes. What a command does stands in `metergate.commands`.

Exit codes: 0 done, 1 it failed, 2 the configuration or the call is wrong (nothing was started), 130 interrupted.
"""

import sys
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import typer

from metergate.cli_audit import audit_app
from metergate.cli_key import key_app
from metergate.cli_quarantine import quarantine_app
from metergate.cli_registry import registry_app
from metergate.cli_simulate import simulate_app
from metergate.cli_trust import add_signing, trust_app
from metering.errors import ConfigError, MeterError, StorageError

app = typer.Typer(
    name="metergate",
    help="Reads electricity meters where they hang and brings every interval safely to the billing office.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
token_app = typer.Typer(help="Bearer tokens of the API. Example: metergate token list site.toml", no_args_is_help=True)
log_app = typer.Typer(help="The durable log. Example: metergate log inspect /var/lib/metergate", no_args_is_help=True)
app.add_typer(token_app, name="token")
add_signing(key_app)
app.add_typer(key_app, name="key")
app.add_typer(trust_app, name="trust")
app.add_typer(registry_app, name="registry")
app.add_typer(quarantine_app, name="quarantine")
app.add_typer(audit_app, name="audit")
app.add_typer(simulate_app, name="simulate")
app.add_typer(log_app, name="log")

SiteArgument = Annotated[Path, typer.Argument(metavar="FILE", help="The site's configuration file.")]


def main() -> NoReturn:
    """Run the command line and exit with its code."""
    try:
        app()
    except ConfigError as error:
        _fail(str(error), 2)
    except (StorageError, MeterError, OSError) as error:
        _fail(str(error), 1)
    sys.exit(0)


def _fail(message: str, code: int) -> NoReturn:
    print(f"metergate: {message}", file=sys.stderr)
    sys.exit(code)


@app.command()
def demo(
    api: Annotated[str, typer.Option(metavar="HOST:PORT", help="Where the API listens.")] = "127.0.0.1:8080",
    data: Annotated[
        Path, typer.Option(metavar="DIR", help="Where log and store are kept; a second start goes on with them.")
    ] = Path("metergate-data/demo"),
    seconds: Annotated[
        float | None, typer.Option("--for", metavar="SECONDS", help="Stop by itself and print a summary line.", min=1)
    ] = None,
) -> None:
    """Run simulated meters of every protocol, gateway, embedded store and API on this machine.

    Example: metergate demo --for 60 --data /tmp/demo
    """
    from metergate.commands.demo import run_demo

    run_demo(api, data, seconds)


@app.command()
def site(file: SiteArgument) -> None:
    """Run one building or one substation: gateway, store and API in one process.

    Example: metergate site /etc/metergate/site.toml
    """
    from metergate.commands.serve import run_site

    run_site(file, with_api=True)


@app.command()
def gateway(file: SiteArgument) -> None:
    """Run the edge alone: meters into the log, from there to the head-end (the table uplink) or into the store. No API.

    Example: metergate gateway /etc/metergate/site.toml
    """
    from metergate.commands.serve import run_site

    run_site(file, with_api=False)


@app.command()
def headend(file: Annotated[Path, typer.Argument(metavar="FILE", help="The head-end's configuration file.")]) -> None:
    """Run the centre: take in what gateways send over the broker, keep it, and serve the API.

    Example: metergate headend /etc/metergate/headend.toml
    """
    from metergate.commands.headend import run_headend

    run_headend(file)


@app.command()
def enrol(
    file: SiteArgument,
    headend: Annotated[str, typer.Option(metavar="URL", help="The head-end's API.")],
    token: Annotated[str, typer.Option(metavar="SECRET", help="The one-time token: env:NAME or file:PATH.")],
    api_ca: Annotated[
        Path | None, typer.Option("--ca", metavar="FILE", help="Who signed the API's certificate, if not a known one.")
    ] = None,
) -> None:
    """Get this gateway its certificate for the broker, by a one-time token of the head-end. Its key stays here.

    Example: metergate enrol site.toml --headend https://headend.example --token file:/etc/metergate/elm-7.token
    """
    from metergate.commands.enrol import run_enrol

    run_enrol(file, headend, token, api_ca)


@app.command()
def check(file: SiteArgument) -> None:
    """Check a configuration file; print what each bus will be asked to carry and how long the log lasts.

    Example: metergate check site.toml
    """
    from metergate.commands.check import run_check

    raise typer.Exit(run_check(file))


@app.command()
def read(
    file: SiteArgument,
    meter: Annotated[str, typer.Argument(metavar="METER", help="The meter's id in the file.")],
) -> None:
    """Read one meter now, by itself, and print its values. A running gateway is not needed, nor disturbed on TCP.

    Example: metergate read site.toml flat-01
    """
    from metergate.commands.read import run_read

    run_read(file, meter)


@app.command()
def clock(
    file: SiteArgument,
    meter: Annotated[str, typer.Argument(metavar="METER", help="The meter's id in the file.")],
    set_it: Annotated[
        bool, typer.Option("--set", help="Set it by this machine's clock, after the rows that it touches are read.")
    ] = False,
) -> None:
    """Show how far a meter's clock is off and how it drifts, and set it where asked. The gateway must be stopped.

    Example: metergate clock site.toml flat-01 --set
    """
    from metergate.commands.clock import run_clock

    run_clock(file, meter, set_it=set_it)


@app.command()
def export(
    file: SiteArgument,
    start: Annotated[str, typer.Option("--from", metavar="TIME", help="First instant, RFC 3339 with offset.")],
    end: Annotated[str, typer.Option("--to", metavar="TIME", help="First instant that is not wanted any more.")],
    point: Annotated[list[str] | None, typer.Option(help="Only this meter point; may be repeated.")] = None,
    form: Annotated[str, typer.Option("--format", help="csv or ndjson.")] = "csv",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write here instead of to the terminal.")] = None,
) -> None:
    """Write readings out of the store, as billing would read them.

    Example: metergate export site.toml --from 2026-11-01T00:00:00Z --to 2026-12-01T00:00:00Z --out november.csv
    """
    from metergate.commands.export import run_export

    run_export(file, start, end, point or [], form, out)


@app.command()
def kpi(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The head-end's or the site's configuration file.")],
    by: Annotated[
        Literal["gateway", "region", "device", "meter-point"], typer.Option(help="What the figures are of.")
    ] = "gateway",
    days: Annotated[int, typer.Option(help="How many judged days, the newest ones.", min=1, max=100)] = 7,
    each_day: Annotated[bool, typer.Option("--each-day", help="A row for each day.")] = False,
) -> None:
    """Print how much of what was promised was collected: success, on time, at the first try, lost, missing.

    Example: metergate kpi /etc/metergate/headend.toml --by region --days 30
    """
    from metergate.commands.kpi import run_kpi

    run_kpi(file, by, days, each_day=each_day)


@app.command()
def bench(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Which bars; all without a name.")
    ] = None,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the rows here, too.")] = None,
) -> None:
    """Measure the bars of the budget table: ours, what it is compared with, the ratio, and whether it holds.

    Example: metergate bench log-append month-read
    """
    from metergate.commands.bench import run_bench

    raise typer.Exit(run_bench(names or [], json_file))


@app.command()
def doctor(file: SiteArgument) -> None:
    """Find out what is wrong at this site, and say what to do: lines, meters, store, disk, clock.

    Example: metergate doctor site.toml
    """
    from metergate.commands.doctor import run_doctor

    raise typer.Exit(run_doctor(file))


@token_app.command("create")
def token_create(
    file: SiteArgument,
    name: Annotated[str, typer.Option(help="What will use it.")],
    scope: Annotated[
        list[str], typer.Option(help="readings:read, commands:request, commands:approve, audit:read, admin.")
    ],
    region: Annotated[list[str] | None, typer.Option(help="Region prefix; may be repeated. Without one: none.")] = None,
    everywhere: Annotated[bool, typer.Option("--everywhere", help="All regions.")] = False,
    days: Annotated[int, typer.Option(help="Days until it expires.", min=1, max=3650)] = 365,
    person: Annotated[
        str, typer.Option(help="Whose it is, as trust documents name approvers. Without one: its name.")
    ] = "",
) -> None:
    """Create a token and print it, this once.

    Example: metergate token create site.toml --name billing --scope readings:read --region js/nj --days 90
    """
    from metergate.commands.token import create

    create(file, name, scope, [""] if everywhere else region or [], days, person)


@token_app.command("list")
def token_list(file: SiteArgument) -> None:
    """List tokens: names, scopes, regions, expiry. Never the tokens themselves.

    Example: metergate token list site.toml
    """
    from metergate.commands.token import show

    show(file)


@token_app.command("revoke")
def token_revoke(
    file: SiteArgument, token: Annotated[str, typer.Argument(metavar="ID", help="The token's id, from the list.")]
) -> None:
    """Revoke a token; it stops working at once.

    Example: metergate token revoke site.toml 4f1d2a90
    """
    from metergate.commands.token import revoke

    revoke(file, token)


@log_app.command("inspect")
def log_inspect(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="A gateway's data folder, or its log folder.")],
    quarantine: Annotated[
        bool, typer.Option("--quarantine", help="Show what is in quarantine, with the reasons.")
    ] = False,
) -> None:
    """Show a log: segments, records, cursors, what was evicted or quarantined. Reads only; the gateway may run.

    Example: metergate log inspect /var/lib/metergate
    """
    from metergate.commands.log import inspect

    inspect(directory, with_quarantine=quarantine)
