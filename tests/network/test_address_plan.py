"""Addresses and names, from the configuration alone."""

import msgspec
import pytest

from agreement.identifiers import MemberId
from replica_manager.config import CellSection, Config, ServerSection, ServiceSection, WitnessSection
from replica_manager.network.address_plan import (
    Endpoint,
    member_namespace,
    namespace_name,
    namespace_pattern,
    plan_addresses,
)
from replica_manager.network.bridges import filter_rules
from replica_manager.network.local_cell import plan_places


def one_machine(f: int, name: str = "shop") -> Config:
    return Config(
        cell=CellSection(name=name, f=f),
        service=ServiceSection(),
        server=[ServerSection(id=number) for number in range(f + 1)],
        witness=[WitnessSection(id=number) for number in range(f)],
    )


def test_a_one_machine_cell_chooses_its_addresses() -> None:
    plan = plan_addresses(one_machine(1))
    assert {server: str(endpoint) for server, endpoint in plan.public.items()} == {
        0: "10.77.0.10:7700",
        1: "10.77.0.11:7700",
    }
    assert {str(member): str(endpoint) for member, endpoint in plan.private.items()} == {
        "s0": "10.78.0.10:7800",
        "s1": "10.78.0.11:7800",
        "w0": "10.78.0.110:7800",
    }


def test_all_addresses_of_a_large_cell_differ() -> None:
    places = plan_places(one_machine(80))
    addresses = [address for place in places for address in place.addresses.values()]
    assert len(set(addresses)) == len(addresses) == 81 * 2 + 80 + 1


def test_a_cell_beyond_the_plan_is_refused() -> None:
    with pytest.raises(ValueError, match="numbers its members 0 to 89, not 90"):
        plan_addresses(one_machine(90))


def test_a_cell_that_serves_http_has_a_port_for_framed_clients_beside_it() -> None:
    config = msgspec.structs.replace(one_machine(1), service=ServiceSection(listen="http"))
    assert {server: str(endpoint) for server, endpoint in plan_addresses(config).framed.items()} == {
        0: "10.77.0.10:7701",
        1: "10.77.0.11:7701",
    }
    assert plan_addresses(one_machine(1)).framed == {}


def test_real_hosts_have_the_configured_addresses() -> None:
    config = Config(
        cell=CellSection(name="shop", kind="hosts"),
        service=ServiceSection(),
        server=[
            ServerSection(id=number, public_address=f"192.0.2.{number}:80", private_address=f"[fd00::{number}]:7800")
            for number in (0, 1)
        ],
        witness=[WitnessSection(id=0, private_address="box.example:7800")],
    )
    plan = plan_addresses(config)
    assert plan.public[1] == Endpoint("192.0.2.1", 80)
    assert plan.private[MemberId.server(1)] == Endpoint("fd00::1", 7800)
    assert str(plan.private[MemberId.server(1)]) == "[fd00::1]:7800"
    assert plan.private[MemberId.witness(0)] == Endpoint("box.example", 7800)


def test_a_real_host_without_an_address_is_refused() -> None:
    config = Config(cell=CellSection(name="shop", kind="hosts"), service=ServiceSection(), server=[ServerSection(id=0)])
    with pytest.raises(ValueError, match="has no port"):
        plan_addresses(config)


def test_namespaces_of_a_cell_are_told_from_those_of_a_cell_whose_name_begins_alike() -> None:
    pattern = namespace_pattern("a")
    assert pattern.fullmatch(namespace_name("a", "switch"))
    assert pattern.fullmatch(member_namespace("a", MemberId.server(12)))
    assert pattern.fullmatch(member_namespace("a", MemberId.witness(0)))
    for other in (namespace_name("a-s0", "switch"), namespace_name("a-b", "s0"), namespace_name("aa", "s0"), "spare-a"):
        assert not pattern.fullmatch(other)


def test_the_packet_filter_ties_each_network_to_its_device() -> None:
    rules = filter_rules({"public": "10.77.0.0/24", "private": "10.78.0.0/24"})
    assert 'iifname "public" ip daddr != 10.77.0.0/24 drop' in rules
    assert 'iifname "private" ip daddr != 10.78.0.0/24 drop' in rules
    assert "hook forward priority filter; policy drop;" in rules
