"""Whole emulations against a small site on loopback: phases, report, faults, the command."""

import asyncio
import json
import resource
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from rubis_adapter.client_emulator import (
    EmulationReport,
    EmulatorSettings,
    InvalidSettings,
    Phase,
    Progress,
    run_emulation,
)
from rubis_adapter.client_emulator.__main__ import main
from rubis_adapter.client_emulator.emulation import require_descriptors
from rubis_adapter.client_emulator.interactions import MODIFYING, Interaction
from tests.rubis_emulator.small_site import Answer, SeenRequest, SmallSite, http, page_for


def settings_for(*sites: SmallSite, **changes: Any) -> EmulatorSettings:
    values: dict[str, Any] = {
        "addresses": tuple(site.address for site in sites),
        "clients": 30,
        "think_time_scale": 0.002,
        "up_ramp_s": 0.3,
        "session_s": 1.5,
        "down_ramp_s": 0.3,
    }
    return EmulatorSettings(**(values | changes))


def emulate(
    answer: Callable[[SeenRequest], Answer] = page_for, **changes: Any
) -> tuple[EmulationReport, list[Progress], SmallSite]:
    async def run() -> tuple[EmulationReport, list[Progress], SmallSite]:
        told: list[Progress] = []
        async with SmallSite(answer) as site:
            report = await run_emulation(settings_for(site, **changes), told.append)
        return report, told, site

    return asyncio.run(run())


def test_an_emulation_without_faults_reports_none_and_visits_most_interactions() -> None:
    report, told, site = emulate()
    document = json.loads(json.dumps(report.to_json()))
    assert document["requests"] > 100
    assert document["failed_requests"] == 0
    assert document["failures"] == {}
    assert document["sorry_share"] == 0
    assert document["requests"] == sum(document["interactions"].values())
    modifying = sum(document["interactions"].get(name.value, 0) for name in MODIFYING)
    assert document["modifying_requests"] == modifying > 0
    assert document["all_phases"]["requests"] == len(site.seen) > document["requests"]
    assert site.connections == 30
    assert told[-1].phase is Phase.FINISHING
    assert (told[-1].running_clients, told[-1].requests) == (0, len(site.seen))


def test_expected_interactions_were_visited_and_add_up() -> None:
    document = emulate(session_s=3.0)[0].to_json()
    expected = document["expected_interactions"]
    assert sum(expected.values()) == pytest.approx(document["requests"], rel=0.01)
    assert "PutCommentAuth" not in expected
    often = [name for name, number in expected.items() if number >= 20]
    assert len(often) > 15
    assert all(document["interactions"].get(name, 0) > 0 for name in often)


def test_latencies_and_throughput_are_those_of_the_runtime_session() -> None:
    document = emulate()[0].to_json()
    latency_ms = document["latency_ms"]
    assert 0 < latency_ms["p50"] <= latency_ms["p90"] <= latency_ms["p99"] <= latency_ms["max"] * 1.01
    assert len(document["completed_per_second"]) == 2
    assert document["throughput_rps"] == pytest.approx(sum(document["completed_per_second"]) / 1.5, abs=0.001)
    assert document["throughput_rps"] == pytest.approx(document["requests"] / 1.5, rel=0.2)
    for part in document["per_interaction"].values():
        assert part["latency_ms"]["max"] <= latency_ms["max"]


def test_the_phases_follow_each_other() -> None:
    told = emulate(up_ramp_s=1.2, session_s=1.2, down_ramp_s=1.2)[1]
    order = [list(Phase).index(progress.phase) for progress in told]
    assert order == sorted(order)
    assert told[0].phase is not told[-1].phase is Phase.FINISHING
    assert told[0].running_clients > 0
    assert all(before.requests <= after.requests for before, after in pairwise(told))
    assert told[0].total_s == pytest.approx(3.6)


def misbehaving(seen: SeenRequest) -> Answer:
    """Some pages fail, each in its own way."""
    answers = {
        "SearchItemsByCategory": Answer(http(b"ERROR: the database is asleep")),
        "BrowseRegions": Answer(http(b"", "503 Service Unavailable")),
        "RegisterUser": Answer(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\nshort", closes=True),
        "Register": Answer(http(b"<body>another page</body>")),
        "AboutMeAuth": Answer(b"", closes=True),
        "SellItemForm": Answer(b"hello\r\n\r\n"),
    }
    return answers.get(seen.page_name) or page_for(seen)


def test_every_kind_of_failure_is_counted_by_its_reason_with_samples() -> None:
    document = emulate(misbehaving, session_s=3.0)[0].to_json()
    failures = document["failures"]
    assert {"error_page", "status", "connection_lost"} <= failures.keys()
    assert failures.keys() <= {"error_page", "status", "truncated", "mark_missing", "connection_lost", "malformed"}
    assert document["failed_requests"] == sum(reason["count"] for reason in failures.values())
    sample = failures["error_page"]["samples"][0]
    assert sample["interaction"] == Interaction.SEARCH_ITEMS_IN_CATEGORY
    assert "the database is asleep" in sample["detail"]
    assert len(failures["error_page"]["samples"]) <= 5
    assert "password" not in json.dumps(failures)
    assert document["interactions"]["Home"] > 30, "failures lead home"


def test_a_site_that_falls_silent_gives_timeouts_and_does_not_hold_the_emulation_up() -> None:
    report, _, site = emulate(lambda _: Answer(b"", hangs=True), timeout_s=0.5, clients=10)
    document = report.to_json()
    assert document["failures"].keys() == {"timeout"}
    assert document["failed_requests"] == document["requests"] > 0
    assert document["throughput_rps"] == 0
    assert document["all_phases"]["failed_requests"] == len(site.seen)


def test_a_dead_server_is_survived_by_going_to_the_other_one() -> None:
    """Only a request that was under way is lost; whoever was thinking finds the other server."""

    async def run() -> tuple[EmulationReport, int]:
        async with SmallSite() as first, SmallSite() as second:
            task = asyncio.create_task(run_emulation(settings_for(first, second), lambda _: None))
            while len(first.seen) < 100:
                await asyncio.sleep(0.005)
            await first.__aexit__()
            return await task, second.connections

    report, connections = asyncio.run(run())
    document = report.to_json()
    assert document["requests"] > 100
    assert document["all_phases"]["failed_requests"] <= 15
    assert document["failures"].keys() <= {"connection_lost", "truncated"}
    assert connections >= 30


def test_sorry_pages_are_counted_and_are_no_failures() -> None:
    def sorry(seen: SeenRequest) -> Answer:
        if "SearchItems" not in seen.page_name:
            return page_for(seen)
        return Answer(http(f'<body data-page="{seen.page_name}">Sorry, nothing found</body>'.encode()))

    document = emulate(sorry)[0].to_json()
    assert document["failed_requests"] == 0
    searches = [part for name, part in document["per_interaction"].items() if name.startswith("SearchItems")]
    assert document["sorry_pages"] == sum(part["sorry"] for part in searches) > 0
    assert document["sorry_share"] == pytest.approx(document["sorry_pages"] / document["requests"], abs=0.0001)


def test_images_are_loaded_and_counted_apart() -> None:
    report, _, site = emulate(loads_images=True)
    document = report.to_json()
    images = sum(seen.path.endswith(".jpg") for seen in site.seen)
    assert 0 < document["images"]["requests"] <= images
    assert document["images"]["failed"] == 0
    assert document["requests"] == sum(document["interactions"].values())


def test_browsing_modifies_nothing() -> None:
    document = emulate(mix="browsing")[0].to_json()
    assert document["modifying_requests"] == 0
    assert not {name.value for name in MODIFYING} & document["interactions"].keys()


def test_a_cancelled_emulation_closes_its_connections() -> None:
    async def run() -> None:
        async with SmallSite() as site:
            task = asyncio.create_task(run_emulation(settings_for(site, session_s=3600.0), lambda _: None))
            while len(site.seen) < 30:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await site.wait_until_idle()

    asyncio.run(asyncio.wait_for(run(), 60))


@pytest.mark.parametrize(
    "changes",
    [
        {"addresses": ()},
        {"addresses": (("localhost", 0),)},
        {"clients": 0},
        {"clients": 10**6},
        {"users": 0},
        {"mix": "selling"},
        {"session_s": 0.0},
        {"timeout_s": 0.0},
        {"up_ramp_s": -1.0},
        {"think_time_scale": float("nan")},
        {"down_ramp_s": float("inf")},
    ],
)
def test_settings_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    values: dict[str, Any] = {"addresses": (("localhost", 80),), "clients": 1} | changes
    with pytest.raises(InvalidSettings, match=str(next(iter(changes))).rstrip("es").removesuffix("_s")):
        EmulatorSettings(**values)


def test_more_clients_than_open_files_are_refused() -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    require_descriptors(1)
    with pytest.raises(InvalidSettings, match=f"this process may have {hard}"):
        require_descriptors(hard)


def command(*arguments: str) -> Result:
    async def run() -> Result:
        async with SmallSite() as site:
            times = ["--think-time-scale", "0.01", "--up-ramp", "0.2", "--session", "1", "--down-ramp", "0.2"]
            address = f"127.0.0.1:{site.port}"
            return await asyncio.to_thread(CliRunner().invoke, main, [address, *times, *arguments])

    return asyncio.run(run())


def test_the_command_prints_a_summary_and_writes_the_report(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    result = command("--clients", "5", "--report", str(path))
    assert result.exit_code == 0, result.output
    assert "failed 0" in result.output
    document = json.loads(path.read_text())
    assert document["settings"]["clients"] == 5
    assert f"requests {document['requests']}," in result.output


def test_the_command_says_what_is_wrong_with_its_arguments() -> None:
    wrong_clients = command("--clients", "0")
    assert wrong_clients.exit_code == 1
    assert "0 clients: from 1 to 50000" in wrong_clients.output
    wrong_address = CliRunner().invoke(main, ["localhost"])
    assert wrong_address.exit_code == 2
    assert "'localhost' is not HOST:PORT" in wrong_address.output
