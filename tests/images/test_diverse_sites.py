"""Two images with hardly a program in common serve the same site: nobody can tell from a byte which one answered.

Source: SPARE §4.6.2 (heterogeneous replicas); design "Service adapter" (the uniform representation).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from exec_wrapper.wire import Execute, Executed
from images.build import build
from images.catalog import Catalog, Image
from rubis_adapter.population.data_sets import data_set
from tests.images.booted_guest import BootedGuest, booted
from tests.images.conftest import link_layers
from tests.images.test_guests import SEED, START_US, differing_paths
from tests.rubis.random_requests import walk

pytestmark = [pytest.mark.vm, pytest.mark.slow, pytest.mark.timeout(1800)]

REQUESTS = tuple(walk(7, data_set("tiny"), 240))
HALF = len(REQUESTS) // 2


@pytest.fixture(scope="module")
def mariadb_image(project_catalog: Catalog, sources: Path) -> Image:
    """The site on Debian 12 with nginx, gunicorn and MariaDB."""
    return build("rubis-mariadb", project_catalog, lambda progress: None, project_root=sources)


@pytest.fixture(scope="module")
def postgres_image(project_catalog: Catalog, sources: Path) -> Image:
    """The site on Debian 13 with lighttpd, waitress and PostgreSQL."""
    return build("rubis-postgres", project_catalog, lambda progress: None, project_root=sources)


@dataclass(frozen=True)
class Life:
    """What a domain said from its boot until it had executed all requests."""

    at_first: Sequence[bytes]
    """Parts of its state."""
    first_half: Sequence[Executed]
    in_the_middle: Sequence[bytes]
    second_half: Sequence[Executed]
    at_last: Sequence[bytes]


def _execute(guest: BootedGuest, requests: Sequence[bytes], first: int) -> list[Executed]:
    """Execute `requests` under the numbers from `first`."""
    answers = []
    for sequence, request in enumerate(requests, first):
        answer = guest.ask(Execute(sequence - 1, sequence, START_US + sequence * 1_000_000, SEED, request))
        assert isinstance(answer, Executed), answer
        answers.append(answer)
    return answers


def _live(guest: BootedGuest) -> Life:
    at_first = guest.take_state(0, 1)
    first_half = _execute(guest, REQUESTS[:HALF], 1)
    in_the_middle = guest.take_state(HALF, HALF + 1)
    second_half = _execute(guest, REQUESTS[HALF:], HALF + 1)
    return Life(at_first, first_half, in_the_middle, second_half, guest.take_state(len(REQUESTS), len(REQUESTS) + 1))


def _live_again(guest: BootedGuest, other: Life) -> None:
    """Begin with the state that another domain had in the middle: it is that state, and leads to the same end."""
    guest.set_state(HALF + 1, other.in_the_middle)
    assert guest.take_state(HALF, HALF + 1) == other.in_the_middle
    assert _execute(guest, REQUESTS[HALF:], HALF + 1) == other.second_half
    assert guest.take_state(len(REQUESTS), len(REQUESTS) + 1) == other.at_last


@pytest.fixture(scope="module")
def mariadb_life(mariadb_image: Image) -> Life:
    """The machine is gone when this is known: only one is there at a time."""
    with booted(mariadb_image) as guest:
        guest.connect()
        return _live(guest)


def test_every_reply_update_and_part_of_the_state_has_the_same_bytes(
    mariadb_life: Life, mariadb_image: Image, postgres_image: Image
) -> None:
    """From the data set on, through hundreds of requests; and a state of either lives on in the other."""
    answers = [*mariadb_life.first_half, *mariadb_life.second_half]
    assert sum(bool(answer.update) for answer in answers) > len(answers) // 4
    assert len(mariadb_life.at_first) > 10
    assert mariadb_life.at_first != mariadb_life.in_the_middle != mariadb_life.at_last
    with booted(postgres_image) as guest:
        assert guest.connect().image == postgres_image.image_id
        postgres_life = _live(guest)
        for mine, theirs in zip([*postgres_life.first_half, *postgres_life.second_half], answers, strict=True):
            assert mine == theirs, REQUESTS[theirs.sequence - 1]
        assert postgres_life == mariadb_life
        _live_again(guest, mariadb_life)
    with booted(mariadb_image) as guest:
        guest.connect()
        _live_again(guest, postgres_life)


def test_the_images_have_no_server_program_kernel_or_python_in_common(
    mariadb_image: Image, postgres_image: Image
) -> None:
    """What the manifests say of the parts that a request passes through."""
    ours, theirs = mariadb_image.manifest, postgres_image.manifest
    assert ours.release != theirs.release
    assert ours.kernel_release != theirs.kernel_release
    for package in ("libc6", "python3", "busybox-static"):
        assert ours.packages[package] != theirs.packages[package]
    servers = {"nginx-light", "mariadb-server", "lighttpd", "postgresql-17", "python3-waitress"}
    assert servers & ours.packages.keys() == {"nginx-light", "mariadb-server"}
    assert servers & theirs.packages.keys() == {"lighttpd", "postgresql-17", "python3-waitress"}
    assert not theirs.wheels
    assert {"pymysql", "psycopg"} & {name.partition("-")[0] for name in ours.wheels} == {"pymysql"}
    assert ours.data_set == theirs.data_set
    assert ours.project_packages == theirs.project_packages, "the adapter and the site themselves are the same"


def test_two_builds_differ_in_the_files_of_the_database_alone(
    postgres_image: Image, project_catalog: Catalog, sources: Path, tmp_path: Path
) -> None:
    """As the manifest says; the digest of the rows is the same."""
    catalog = Catalog(tmp_path / "images")
    link_layers(project_catalog, catalog)
    again = build("rubis-postgres", catalog, lambda progress: None, project_root=sources)

    assert differing_paths(postgres_image, again) == []
    assert postgres_image.manifest.data_set == again.manifest.data_set
    assert postgres_image.manifest.files["initrd"] == again.manifest.files["initrd"]
