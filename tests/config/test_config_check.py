"""A wrong configuration file is reported completely, with places and ways out; a right one is filled in."""

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from replica_manager.config_check import check, load
from replica_manager.config_findings import ConfigError, Finding

SMALLEST = '[cell]\nname = "shop"\n[service]\nimage = "key-value"\n'
HOSTS = """\
[cell]
name = "shop"
kind = "hosts"
[service]
image = "key-value"
[[server]]
id = 0
host = "h0"
public_address = "192.0.2.1:80"
private_address = "198.51.100.1:7000"
[[server]]
id = 1
host = "h1"
public_address = "192.0.2.2:80"
private_address = "198.51.100.2:7000"
[[witness]]
id = 0
host = "h2"
private_address = "198.51.100.3:7000"
"""


def findings_of(directory: Path, text: str, *, images: tuple[str, ...] = ("key-value",)) -> list[Finding]:
    """Check `text` on a machine that has `images`."""
    path = directory / "spare.toml"
    path.write_text(text)
    return check(path, lambda _, one: None if one.image in images else (f"no image `{one.image}`", "build it"))


def errors_of(directory: Path, text: str) -> list[tuple[int, str]]:
    """Return line and key of every error."""
    return [(found.line, found.path) for found in findings_of(directory, text) if found.severity == "error"]


def test_smallest_file_describes_a_whole_one_machine_cell(tmp_path: Path) -> None:
    """Servers, witnesses, directories are filled in; relative paths are relative to the file."""
    path = tmp_path / "spare.toml"
    path.write_text(SMALLEST)
    config = load(path)
    assert [finding for finding in check(path, lambda *_: None) if finding.severity == "error"] == []
    assert [server.id for server in config.server] == [0, 1]
    assert [witness.id for witness in config.witness] == [0]
    assert config.cell.witnesses == 1
    assert config.cell.runtime_dir in {"/run/spare/shop", "/dev/shm/spare/shop"}
    assert config.cell.state_dir == str(tmp_path / "var/cell")
    assert config.server[1].storage == [str(tmp_path / "var/cell/s1/a"), str(tmp_path / "var/cell/s1/b")]
    assert config.server[0].image == "key-value"
    assert config.server[0].public_address == "10.77.0.10:7700"
    assert config.witness[0].private_address == "10.78.0.110:7800"
    assert config.path == path


def test_loopback_members_get_distinct_ports(tmp_path: Path) -> None:
    """Without namespaces all members share 127.0.0.1."""
    path = tmp_path / "spare.toml"
    path.write_text(SMALLEST.replace("[service]", 'network = "loopback"\nf = 2\n[service]'))
    config = load(path)
    addresses = [
        address
        for server in config.server
        for address in (server.public_address, server.private_address, server.admin_address)
    ] + [witness.private_address for witness in config.witness]
    assert len(set(addresses)) == len(addresses) == 3 * 3 + 2


def test_a_cell_of_hosts_is_complete(tmp_path: Path) -> None:
    """The same file format describes real hosts."""
    assert findings_of(tmp_path, HOSTS) == []


def test_an_address_that_every_host_has_for_itself_clashes_on_one_host_only(tmp_path: Path) -> None:
    """The usual 127.0.0.1 for administration on every server."""
    own = HOSTS.replace('host = "h', 'admin_address = "127.0.0.1:9100"\nhost = "h').replace(
        'admin_address = "127.0.0.1:9100"\nhost = "h2"', 'host = "h2"'
    )
    assert findings_of(tmp_path, own) == []
    clash = own.replace('public_address = "192.0.2.2:80"', 'public_address = "127.0.0.1:9100"')
    assert errors_of(tmp_path, clash) == [(14, "server[1].admin_address")]


def test_all_mistakes_are_found_at_once(tmp_path: Path) -> None:
    """Syntax, unknown keys, types, ranges and contradictions, each with its line, none twice."""
    text = """\
fault_injection = "yes"
[cel]
[cell]
name = shop
ff = 3
witnesses = 7
durability = "synch"
listen = "http"
[service]
image = 3
[timeouts]
crash_ms = 500
heartbeat_ms = 1000
[limits]
request_bytes_max = 99_999_999
[[server]]
id = 0
admin_address = "10.0.0.1"
[[server]]
id = 0
storage = ["/a", "/a"]
"""
    assert errors_of(tmp_path, text) == [
        (1, "fault_injection"),
        (2, "cel"),
        (4, ""),
        (5, "cell.ff"),
        (6, "cell.witnesses"),
        (7, "cell.durability"),
        (8, "cell.listen"),
        (10, "service.image"),
        (12, "timeouts.crash_ms"),
        (13, "timeouts.heartbeat_ms"),
        (15, "limits.request_bytes_max"),
        (18, "server[0].admin_address"),
        (20, "server[1].id"),
        (21, "server[1].storage"),
    ]


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("[cell]\nnaem = 'x'\n", "did you mean `name`?"),
        ("[cell]\nlisten = 'http'\n", "it belongs into [service]"),
        ("[cell]\npublish = 'http'\n", "it belongs into [[server]]"),
        ("[cell]\nfault_injection = true\n", "it belongs at the top of the file, above the first section"),
        ("[cell]\ndurability = 'synch'\n", "did you mean `sync`?"),
        ("[cell]\nf = '2'\n", "write 2 without quotes"),
        ("fault_injection = 'true'\n", "write true without quotes"),
        ("fault_injection = True\n", "write true"),
        ("[cell]\nname = shop\n", 'text needs quotes: "shop"'),
        ("[service]\ncommand = 'x'\n", 'write ["x"]'),
        ("[server]\nid = 0\n", "write [[server]] with double brackets"),
        (
            "[server]\n[server]\n",
            "a section may stand only once; servers and witnesses have double brackets: [[server]]",
        ),
        ("[cell]\nf = 1\nf = 2\n", "the key stands twice"),
        ("[service]\ncommand = ['a',\n[cell]\n", "the list that begins here is never closed by `]`"),
        ("[cell]\nname = 'x\nf = 1\n", "the closing quote is missing"),
        ("cell = 3\n", "write [cell] on a line of its own"),
    ],
)
def test_mistakes_come_with_a_way_out(tmp_path: Path, text: str, suggestion: str) -> None:
    """What people really mistype."""
    assert suggestion in [finding.suggestion for finding in findings_of(tmp_path, text)]


def with_cell(extra: str) -> str:
    """The smallest file with more lines in `[cell]`."""
    return SMALLEST.replace("[service]", f"{extra}\n[service]")


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        (with_cell("f = 0"), (3, "cell.f"), "a whole number from 1 to 16"),
        (with_cell("f = 2\nwitnesses = 1"), (4, "cell.witnesses"), "it is f = 2, or 0"),
        (SMALLEST + "[[server]]\nid = 0\n", (5, "server"), "exactly 2 [[server]] sections, found 1"),
        (SMALLEST + "[[server]]\nid = 0\n[[server]]\nid = 2\n", (8, "server[1].id"), "ids are 0 to 1 without gaps"),
        (SMALLEST + "[[witness]]\nid = 1\n", (6, "witness[0].id"), "ids are 0 to 0 without gaps"),
        (SMALLEST + "[[server]]\n[[server]]\nid = 1\n", (5, "server[0].id"), "`id` is missing"),
        ('[cell]\nname = "x"\n', (1, "service"), "section [service] is missing"),
        (SMALLEST.replace('image = "key-value"', ""), (3, "service.image"), "no image"),
        (SMALLEST.replace("key-value", "other"), (4, "service.image"), "no image `other`"),
        (with_cell('runtime_dir = "/tmp/' + "x" * 60 + '"'), (3, "cell.runtime_dir"), "may have at most 107 bytes"),
        (with_cell('runtime_dir = "var/cell"'), (3, "cell.runtime_dir"), "same directory as state_dir"),
        (
            with_cell('witnesses = 0\nfencing = "/no/such/fence now"'),
            (4, "cell.fencing"),
            "is not an executable program",
        ),
        (with_cell('witnesses = 0\nfencing = "fence \'x"'), (4, "cell.fencing"), "is no command"),
        (SMALLEST + '[hypervisor]\nisolation = "none"\n', (6, "hypervisor.isolation"), "subprocess"),
        (SMALLEST + '[hypervisor]\ndriver = "subprocess"\n', (6, "hypervisor.isolation"), "not isolated"),
        (
            SMALLEST + '[hypervisor]\ndriver = "subprocess"\nisolation = "none"',
            (6, "service.command"),
            "needs the command",
        ),
        (SMALLEST + "[timeouts]\ncrash_ms = 1999\n", (6, "timeouts.crash_ms"), "from 2000"),
        (SMALLEST + "[timeouts]\nelection_ms = 4000\n", (6, "timeouts.election_ms"), "below crash_ms"),
        (SMALLEST + "[timeouts]\nheartbeat_ms = 1000\n", (6, "timeouts.heartbeat_ms"), "below election_ms"),
        (SMALLEST + "[timeouts]\nstall_max_ms = 100\n", (6, "timeouts.stall_start_ms"), "more than stall_max_ms"),
        (SMALLEST + "[limits]\nframe_bytes_max = 5000\n", (6, "limits.request_bytes_max"), "do not fit"),
        (SMALLEST + "[updates]\nbuffer_bytes_max = 5000000\n", (6, "updates.buffer_bytes_max"), "one update"),
        (
            SMALLEST + "[updates]\nbuffer_entries_max = 99\n",
            (6, "limits.open_requests_max"),
            "buffer_entries_max = 99",
        ),
        (
            SMALLEST + '[[server]]\nid = 0\npublic_address = "192.0.2.1:80"\n[[server]]\nid = 1\n',
            (7, "server[0].public_address"),
            "choose their addresses",
        ),
        (HOSTS.replace('host = "h1"\n', ""), (11, "server[1].host"), "`host` is missing"),
        (
            HOSTS.replace("198.51.100.2:7000", "198.51.100.1:7000"),
            (15, "server[1].private_address"),
            "is also server[0]",
        ),
        (HOSTS.replace("198.51.100.3:7000", "198.51.100:7000"), (19, "witness[0].private_address"), "no IPv4 address"),
        ("fault_injection = true\n" + HOSTS, (1, "fault_injection"), "one-machine"),
        (with_cell("state_disk_mib = 64"), (3, "cell.state_disk_mib"), "tests in which it fails"),
        (
            "fault_injection = true\n" + with_cell("state_disk_mib = 8"),
            (4, "cell.state_disk_mib"),
            "too small for a file system",
        ),
        (HOSTS.replace('kind = "hosts"', 'kind = "hosts"\nwitnesses = 0'), (4, "cell.fencing"), "another host"),
        (HOSTS.replace('kind = "hosts"', 'kind = "hosts"\nwitnesses = 0'), (17, "witness"), "0 [[witness]] sections"),
    ],
)
def test_contradictions_are_errors(tmp_path: Path, text: str, place: tuple[int, str], words: str) -> None:
    """Every rule names the offending key, value and limit."""
    found = [finding for finding in findings_of(tmp_path, text) if words in finding.message]
    assert [(finding.severity, finding.line, finding.path) for finding in found][:1] == [("error", *place)]


@pytest.mark.parametrize(
    ("text", "path"),
    [
        (with_cell('witnesses = 0\nfencing = "none"'), "cell.fencing"),
        (SMALLEST + "[timeouts]\nheartbeat_ms = 400\n", "timeouts.heartbeat_ms"),
        (SMALLEST + 'command = ["x"]\n', "service.command"),
        (SMALLEST + '[[server]]\nid = 0\nstorage = ["/a", "/b"]\n[[server]]\nid = 1\n', "server[0].storage"),
        (HOSTS.replace('host = "h2"', 'host = "h0"'), "witness[0].host"),
        (HOSTS.replace('host = "h0"', 'host = "h0"\nrack = "r"').replace('host = "h1"', 'host = "h1"\nrack = "r"'),
         "server[1].rack"),
        (HOSTS.replace('kind = "hosts"', 'kind = "hosts"\nnetwork = "loopback"'), "cell.network"),
    ],
)  # fmt: skip
def test_weaknesses_are_warnings_and_do_not_stop_a_cell(tmp_path: Path, text: str, path: str) -> None:
    """Fault domains that fall together, fencing that splits: the operator decides."""
    found = findings_of(tmp_path, text)
    assert path in [finding.path for finding in found if finding.severity == "warning"]
    assert [finding for finding in found if finding.severity == "error"] == []
    load(tmp_path / "spare.toml")


def test_load_refuses_a_wrong_file_with_all_findings(tmp_path: Path) -> None:
    """The one-sentence message names the first mistake and how many there are."""
    path = tmp_path / "spare.toml"
    path.write_text(with_cell("f = 0\nff = 1"))
    with pytest.raises(ConfigError) as raised:
        load(path)
    assert [finding.path for finding in raised.value.findings] == ["cell.f", "cell.ff"]
    assert "spare.toml:3" in str(raised.value)
    assert "and 1 more" in str(raised.value)


def test_missing_unreadable_and_binary_files_are_findings(tmp_path: Path) -> None:
    """Nothing that a path can name ends in a traceback."""
    (tmp_path / "binary").write_bytes(b"[cell]\n\xff\xfe")
    (tmp_path / "long").write_bytes(b"#" * 1_100_000)
    messages = [
        check(path)[0].message for path in (tmp_path / "none", tmp_path, tmp_path / "binary", tmp_path / "long")
    ]
    assert messages == [
        "there is no such file",
        "cannot be read: Is a directory",
        "is not UTF-8 text",
        "has 1100000 bytes; a configuration has at most 1048576",
    ]


LINES = st.lists(
    st.one_of(
        st.sampled_from(
            [*SMALLEST.splitlines(), *HOSTS.splitlines(), "command = [", "'''", '"""', "[a", "x = {", "= 1"]
        ),
        st.text(st.characters(codec="utf-8"), max_size=12),
    ),
    max_size=25,
)


@given(LINES)
def test_any_text_gives_findings_and_never_another_error(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str]
) -> None:
    """Syntax recovery always ends, and every finding has a place in the file."""
    text = "\n".join(lines)
    for finding in findings_of(tmp_path_factory.getbasetemp(), text):
        assert 0 <= finding.line <= text.count("\n") + 1 + text.count("\r")
        assert finding.message


def test_a_complete_configuration_survives_a_round_trip(tmp_path: Path) -> None:
    """`check` accepts what `load` completed: defaults obey the rules."""
    path = tmp_path / "spare.toml"
    path.write_text(SMALLEST)
    values = msgspec.to_builtins(msgspec.structs.replace(load(path), path=None))
    del values["path"]
    again = tmp_path / "again.toml"
    again.write_text(as_toml(values))
    assert msgspec.structs.replace(load(again), path=path) == load(path)


def as_toml(values: dict[str, object]) -> str:
    """Write sections of plain values; JSON's numbers, texts and lists are TOML's."""
    lines = [f"{key} = {msgspec.json.encode(value).decode()}" for key, value in values.items() if not is_section(value)]
    for name, section in values.items():
        for table in section if isinstance(section, list) else [section] if is_section(section) else []:
            lines.append(f"[[{name}]]" if isinstance(section, list) else f"[{name}]")
            lines.extend(f"{key} = {msgspec.json.encode(value).decode()}" for key, value in table.items())
    return "\n".join(lines)


def is_section(value: object) -> bool:
    """Say whether `value` needs a header of its own."""
    return isinstance(value, dict | list)


def test_a_cell_that_serves_http_listens_for_framed_clients_beside_it(tmp_path: Path) -> None:
    """One-machine cells choose the second port themselves; a framed cell has none."""
    path = tmp_path / "spare.toml"
    http = SMALLEST + 'listen = "http"\n'
    path.write_text(http)
    assert [server.framed_address for server in load(path).server] == ["10.77.0.10:7701", "10.77.0.11:7701"]
    path.write_text(http.replace("[service]", 'network = "loopback"\n[service]'))
    assert [server.framed_address for server in load(path).server] == ["127.0.0.1:7400", "127.0.0.1:7401"]
    path.write_text(SMALLEST)
    assert [server.framed_address for server in load(path).server] == ["", ""]


def test_framed_addresses_of_hosts_stand_on_all_servers_or_on_none(tmp_path: Path) -> None:
    """One that is missing is missed only when the other server is dead."""
    http = HOSTS.replace('image = "key-value"', 'image = "key-value"\nlisten = "http"')
    assert findings_of(tmp_path, http) == []
    half = http.replace('host = "h0"', 'host = "h0"\nframed_address = "192.0.2.1:7700"')
    assert [found.path for found in findings_of(tmp_path, half)] == ["server[1].framed_address"]
    whole = half.replace('host = "h1"', 'host = "h1"\nframed_address = "192.0.2.2:7700"')
    assert findings_of(tmp_path, whole) == []
    clash = whole.replace("192.0.2.2:7700", "192.0.2.2:80")
    assert errors_of(tmp_path, clash) != []
    unused = findings_of(tmp_path, whole.replace('listen = "http"', 'listen = "framed"'))
    assert [(found.severity, found.path) for found in unused] == [
        ("warning", "server[0].framed_address"),
        ("warning", "server[1].framed_address"),
    ]
