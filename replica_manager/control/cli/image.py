"""`spare image build|list|verify`, and what `image_approval` has."""

import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from replica_manager.control.cli.exit_codes import ExitCode
from replica_manager.control.cli.image_approval import approve, history, keygen, revoke
from replica_manager.control.cli.options import DEFAULT_FILE, Settings, config_option, output_option
from replica_manager.control.cli.output import bytes_text, console, print_json, table

if TYPE_CHECKING:
    from images.catalog import Catalog, Image
    from images.progress import BuildProgress

DEFAULT_DIRECTORY = Path("var/images")

directory_option = click.option(
    "-d",
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    help=f"Image directory.  [default: image_dir of the configuration, or {DEFAULT_DIRECTORY}]",
)


@click.group()
def image() -> None:
    """Build, check and approve what virtual machines are booted from."""


for _command in (keygen, approve, revoke, history):
    image.add_command(_command)


@image.command()
@click.argument("recipe", required=False)
@click.option("--variant", help="A variant of the recipe; RECIPE+VARIANT means the same.")
@click.option("--refresh", is_flag=True, help="Build in any case, with the newest packages.")
@directory_option
@config_option
@output_option
@click.pass_obj
def build(
    settings: Settings, recipe: str | None, variant: str | None, refresh: bool, directory: Path | None, output: str
) -> int:
    """Build the image of RECIPE, unless the catalog has it; without RECIPE, say which there are."""
    from images.build import build as build_image
    from images.recipe import recipe_names

    if recipe is None:
        click.echo("recipes: " + ", ".join(recipe_names()))
        return ExitCode.OK
    built = build_image(recipe, _catalog(settings, directory), ProgressLine().show, variant, is_refresh=refresh)
    if output == "json":
        print_json({"image": _document(built)})
    else:
        click.echo(built.image_id)
    return ExitCode.OK


@image.command("list")
@directory_option
@config_option
@output_option
@click.pass_obj
def list_images(settings: Settings, directory: Path | None, output: str) -> int:
    """Show the images, the newest of a name first."""
    documents = [_document(one) for one in _catalog(settings, directory).list()]
    if output == "json":
        print_json({"images": documents})
        return ExitCode.OK
    rows = [
        [one["image"], one["release"], f"{one['memory_mib']} MiB", bytes_text(one["bytes"]), one["note"]]
        for one in documents
    ]
    console().print(table(("IMAGE", "RELEASE", "MEMORY", "SIZE", ""), rows, right=("MEMORY", "SIZE")))
    return ExitCode.OK


@image.command()
@click.argument("images", nargs=-1)
@directory_option
@config_option
@click.pass_obj
def verify(settings: Settings, images: tuple[str, ...], directory: Path | None) -> int:
    """Compare every file of IMAGES, or of all images, with its digest."""
    from images.errors import ImageError

    catalog = _catalog(settings, directory)
    wanted = [catalog.resolve(name, is_fault_injection_allowed=True) for name in images] or list(catalog.list())
    failed = 0
    for one in wanted:
        try:
            catalog.verify(one)
            click.echo(f"{one.image_id}: intact")
        except ImageError as error:
            failed += 1
            click.echo(f"{one.image_id}: DAMAGED: {error}")
            click.echo(f"hint: {error.hint}", err=True)
    if not wanted:
        click.echo(f"no images in {catalog.directory}", err=True)
    return ExitCode.ERROR if failed else ExitCode.OK


class ProgressLine:
    """Shows a build on standard error: one line that is rewritten on a terminal, a line per step elsewhere."""

    def __init__(self) -> None:
        self._is_terminal = sys.stderr.isatty()

    def show(self, progress: "BuildProgress") -> None:
        """Show one report."""
        if not self._is_terminal and progress.phase == "running":
            return
        seconds = progress.elapsed_ms / 1000
        detail = f": {progress.detail}" if progress.detail else ""
        step = f"[{seconds:6.1f} s] {progress.step_index}/{progress.step_count} {progress.title}"
        line = f"{progress.image_name} {step}{detail}{' done' if progress.phase == 'finished' else ''}"
        if not self._is_terminal:
            click.echo(line, err=True)
            return
        width = shutil.get_terminal_size().columns - 1
        is_last = progress.phase == "finished" and progress.step_index == progress.step_count
        click.echo(f"\r{line[:width]:<{width}}", err=True, nl=is_last)


def _catalog(settings: Settings, directory: Path | None) -> "Catalog":
    from images.catalog import Catalog

    if directory is not None:
        return Catalog(directory.absolute())
    if settings.config_path is not None or Path(DEFAULT_FILE).exists():
        return Catalog(Path(settings.load().hypervisor.image_dir))
    return Catalog(DEFAULT_DIRECTORY.absolute())


def _document(one: "Image") -> dict[str, Any]:
    return {
        "image": one.image_id,
        "name": one.name,
        "digest": one.digest,
        "release": one.manifest.release,
        "memory_mib": one.memory_mib,
        "bytes": sum(file.size_bytes for file in one.manifest.files.values()),
        "directory": str(one.directory),
        "note": "misbehaves on purpose" if one.manifest.fault_injection else "",
    }
