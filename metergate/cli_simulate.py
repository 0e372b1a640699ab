"""The command line of `metergate simulate`: a file's meters, or a whole fleet. What they do stands in the commands."""

from pathlib import Path
from typing import Annotated

import typer
from typer.core import TyperGroup

SecondsOption = Annotated[float | None, typer.Option("--for", metavar="SECONDS", help="Stop by itself.", min=1)]


class _FileOrFleet(TyperGroup):
    """`simulate FILE` is short for `simulate file FILE`."""

    def parse_args(self, ctx: typer.Context, args: list[str]) -> list[str]:  # type: ignore[override] # its own is private
        if args and args[0] not in {*self.commands, *ctx.help_option_names}:
            args = ["file", *args]
        return super().parse_args(ctx, args)


simulate_app = typer.Typer(
    cls=_FileOrFleet,
    help="Simulated meters of a FILE, or a whole fleet of gateways. Example: metergate simulate config/simulation.toml",
    no_args_is_help=True,
)


@simulate_app.command("file")
def simulate_file(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="What to simulate: endpoints, meters, faults.")],
    seconds: SecondsOption = None,
) -> None:
    """Run simulated meters that behave, and misbehave as the file asks. The word `file` may be left out.

    Example: metergate simulate file config/simulation.toml
    """
    from metergate.commands.simulate import run_simulation

    run_simulation(file, seconds)


@simulate_app.command("fleet")
def simulate_fleet(
    gateways: Annotated[int, typer.Option(metavar="N", help="How many gateways.", min=1, max=50_000)] = 20,
    meters: Annotated[int, typer.Option(metavar="M", help="How many meters in all.", min=1, max=5_000_000)] = 1_000,
    seconds: Annotated[
        float, typer.Option("--for", metavar="SECONDS", help="How long, from when all gateways are up.", min=1)
    ] = 60,
    interval: Annotated[
        int, typer.Option(metavar="SECONDS", help="How often each meter is read: 15 minutes, compressed.", min=1)
    ] = 10,
) -> None:
    """Run a fleet of true gateways, with meters inside, against a broker and a head-end of its own; print what it cost.

    Exit code 1 when a reading was lost or stands twice.

    Example: metergate simulate fleet --gateways 100 --meters 10000 --for 60 --interval 30
    """
    from metergate.commands.simulate_fleet import run_fleet

    raise typer.Exit(run_fleet(gateways, meters, seconds, interval))
