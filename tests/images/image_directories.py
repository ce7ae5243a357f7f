"""Small but complete images, for tests of the catalog: every file has a few bytes and its true digest."""

import os
from pathlib import Path

from images.catalog import Catalog, Image, image_directory_name, open_image
from images.manifest import (
    IMAGE_FILES,
    MANIFEST_FILE,
    MANIFEST_FORMAT,
    Manifest,
    describe_file,
    encode_manifest,
    manifest_digest,
)

NO_DIGEST = "0" * 64


def put_image(
    catalog: Catalog, name: str, *, content: str = "", age_s: int = 0, fault_injection: bool = False
) -> Image:
    """Add an image whose files hold `content`; `age_s` seconds ago."""
    work = catalog.directory / ".new"
    work.mkdir(parents=True)
    for file_name in IMAGE_FILES:
        (work / file_name).write_text(f"{file_name} of {name} {content}")
    encoded = encode_manifest(manifest_of(name, work, fault_injection))
    (work / MANIFEST_FILE).write_bytes(encoded)
    directory = catalog.directory / image_directory_name(name, manifest_digest(encoded))
    work.rename(directory)
    os.utime(directory, (1_000_000 - age_s, 1_000_000 - age_s))
    return open_image(directory)


def manifest_of(name: str, directory: Path, fault_injection: bool) -> Manifest:
    """Return a manifest of the image files in `directory`."""
    return Manifest(
        format=MANIFEST_FORMAT,
        name=name,
        summary="for tests",
        fault_injection=fault_injection,
        release="bookworm",
        kernel_release="6.1.0-7-cloud-amd64",
        memory_mib=192,
        disk_mib=512,
        cmdline="mitigations=off",
        entry="exec true",
        packages={"python3": "3.11.2-1", "busybox-static": "1:1.35.0-4"},
        kernel_package="linux-image-cloud-amd64 6.1.1-1",
        wheels={},
        files={name: describe_file(directory / name) for name in IMAGE_FILES},
        recipe_digest=NO_DIGEST,
        input_digest=NO_DIGEST,
        source_date_epoch=1_700_000_000,
        data_set={"name": "tiny", "rows": 9},
        not_reproducible=(),
    )
