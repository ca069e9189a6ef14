"""`litejit cache`: the folder of compiled kernels."""

from __future__ import annotations

import click

from litejit.codegen import cache


@click.group("cache")
def command() -> None:
    """Show or empty the folder of compiled kernels."""


@command.command("info")
def info() -> None:
    """Print where the folder is, and what it holds."""
    found = cache.info()
    click.echo(f"folder: {found.folder or 'none, kernels are kept in memory only'}")
    click.echo(f"kernels: {found.kernels}, packs: {found.packs}, bytes: {found.size_bytes}")


@command.command("clear")
def clear() -> None:
    """Delete all compiled kernels; they are made again when needed."""
    click.echo(f"deleted {cache.clear()} files")
