"""Commands about what there is: boards, ports, tools."""

from __future__ import annotations

import json
from dataclasses import asdict

import click

from tinymbn.commands import arguments
from tinymbn.terminal import printable


@click.command()
@arguments.as_json
def boards(as_json: bool) -> None:
    """List the boards: core, clock, RAM, flash, and how each was tested."""
    from tinymbn import bench_report
    from tinymbn.board import known_boards
    from tinymbn.summary import SCHEMA

    known = known_boards()
    if as_json:
        values = {"schema": SCHEMA, "boards": [bench_report.board_values(board) for board in known]}
        click.echo(json.dumps(values, indent=2))
        return
    bench_report.print_boards(known)


@click.command()
@arguments.as_json
def ports(as_json: bool) -> None:
    """List the serial ports: which board each may be, and whether it can be opened."""
    from tinymbn.ports import list_ports
    from tinymbn.summary import SCHEMA

    found = list_ports()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "ports": [asdict(port) for port in found]}, indent=2))
        return
    if not found:
        click.echo("no serial ports; is the board connected? Emulated boards need none: tinymbn boards")
    for port in found:
        boards = f": perhaps {' or '.join(port.boards)}" if port.boards else ""
        problem = f"; {port.problem}" if port.problem else ""
        click.echo(f"{printable(str(port))}{boards}{printable(problem)}")


@click.command()
@arguments.as_json
def doctor(as_json: bool) -> None:
    """Check compilers, emulators, flash tools and permissions, and say what to do."""
    from tinymbn.doctor import checks, require_all
    from tinymbn.summary import SCHEMA

    found = checks()
    if as_json:
        click.echo(json.dumps({"schema": SCHEMA, "checks": [asdict(check) for check in found]}, indent=2))
    else:
        width = max(len(check.name) for check in found)
        for check in found:
            click.echo(f"{check.state:8}  {check.name:{width}}  {printable(check.found)}")
            if check.advice:
                click.echo(f"{'':8}  {'':{width}}  {printable(check.advice)}")
    require_all(found)
