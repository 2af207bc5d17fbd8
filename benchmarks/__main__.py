"""Run the benchmarks, print one table: `python -m benchmarks [NAME ...]`.

The exit status is 1 when a bar was missed.
"""

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks import batch, cluster, jails, kernels, lab, notebooks, reports
from benchmarks.figures import Figure, private_folders

BENCHMARKS: dict[str, Callable[[Path], list[Figure]]] = {
    "start": lambda runtime: asyncio.run(kernels.start(runtime)),
    "ten": lambda runtime: asyncio.run(kernels.ten(runtime)),
    "row": lambda runtime: asyncio.run(kernels.row(runtime)),
    "jails": jails.jails,
    "notebooks": notebooks.notebooks,
    "batch": batch.batch,
    "cluster": cluster.cluster,
    "coordinator": batch.coordinator,
    "scale": batch.scale,
    "lab": lab.lab,
    "exports": reports.exports,
    "report": reports.report,
}


def table(figures: list[Figure]) -> Table:
    """Return the figures as a table."""
    report = Table()
    report.add_column("figure")
    for heading in ("ours", "stock", "compared", "bar"):
        report.add_column(heading, justify="right", no_wrap=True)
    report.add_column("")
    for figure in figures:
        report.add_row(*cells(figure))
    return report


def cells(figure: Figure) -> list[str]:
    """Return a figure's row."""
    verdict = "MISSED" if figure.missed else "ok" if figure.bar is not None else ""
    stock = "" if figure.stock is None else amount(figure.stock, figure.unit)
    return [
        figure.name,
        amount(figure.ours, figure.unit),
        stock,
        compared(figure, figure.value) if stock and figure.kind != "ours" else "",
        "" if figure.bar is None else f"≤ {compared(figure, figure.bar)}",
        verdict,
    ]


def compared(figure: Figure, value: float) -> str:
    """Return what a figure's bar is for: a ratio, or an amount."""
    if figure.stock is not None and figure.kind == "ratio":
        return f"{value:.3f}"
    return amount(value, figure.unit)


def amount(value: float, unit: str) -> str:
    """Return a number with its unit, small times in milliseconds."""
    if unit == "s":
        return f"{value * 1000:.1f} ms" if abs(value) < 1 else f"{value:.2f} s"
    return f"{value:.1f} {unit}" if unit else f"{value:g}"


def main() -> int:
    """Run what the command line names; return the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    names: list[str] = parser.parse_args().names or list(BENCHMARKS)
    if unknown := set(names) - set(BENCHMARKS):
        parser.error(f"no benchmark {', '.join(unknown)}: {', '.join(BENCHMARKS)}")
    console = Console(width=None if sys.stdout.isatty() else 120)
    figures: list[Figure] = []
    for name in names:
        console.print(f"{name} …", highlight=False)
        with private_folders() as runtime:
            figures += BENCHMARKS[name](runtime)
    console.print(table(figures))
    return int(any(figure.missed for figure in figures))


if __name__ == "__main__":
    sys.exit(main())
