"""What servers and witnesses of a cell must fulfil together: numbers, addresses, directories, fault domains."""

from collections.abc import Callable, Iterator, Sequence

from agreement.identifiers import MemberId
from replica_manager.cell_paths import SOCKET_PATH_BYTES_MAX, CellPaths
from replica_manager.config import Config, ServerSection, WitnessSection
from replica_manager.config_addresses import Address, parse_address
from replica_manager.config_findings import Report
from replica_manager.config_positions import KeyPath
from replica_manager.network.address_plan import plan_addresses

F: KeyPath = ("cell", "f")
WITNESSES: KeyPath = ("cell", "witnesses")
KIND: KeyPath = ("cell", "kind")

OWN_ADDRESSES = frozenset(("127.0.0.1", "::1", "localhost", "0.0.0.0", "::"))  # noqa: S104  (compared, not bound)
"""Addresses that every host and every namespace has for itself."""


def check_members(config: Config, report: Report) -> None:
    """Report what is wrong between the members of the complete configuration `config`."""
    for rule in _RULES:
        rule(config, report)


def _check_server_count(config: Config, report: Report) -> None:
    wanted = config.cell.f + 1
    if len(config.server) != wanted and not report.is_partial:
        hint = "a one-machine cell may leave out all [[server]] sections" if config.cell.kind == "one-machine" else ""
        report.error(
            ("server",),
            f"f = {config.cell.f} needs exactly {wanted} [[server]] sections, found {len(config.server)}",
            hint,
            uses=(F,),
        )


def _check_witness_count(config: Config, report: Report) -> None:
    wanted = config.cell.witnesses
    if wanted not in (0, config.cell.f):
        report.error(
            WITNESSES, f"witnesses = {wanted}: it is f = {config.cell.f}, or 0", "leave it out for f", uses=(F,)
        )
    elif len(config.witness) != wanted and not report.is_partial:
        report.error(
            ("witness",),
            f"the cell needs {wanted} [[witness]] sections, found {len(config.witness)}",
            "or say `witnesses = 0` in [cell], and how a silent server is fenced",
            uses=(F, WITNESSES),
        )


def _check_ids(config: Config, report: Report) -> None:
    groups: Sequence[tuple[str, Sequence[ServerSection | WitnessSection]]] = (
        ("server", config.server),
        ("witness", config.witness),
    )
    for section, members in groups:
        seen: dict[int, int] = {}
        for index, member in enumerate(members):
            path: KeyPath = (section, index, "id")
            if member.id in seen:
                report.error(path, f"id {member.id} is used twice", uses=((section, seen[member.id], "id"),))
            elif member.id >= len(members):
                highest = len(members) - 1
                report.error(path, f"id {member.id}: {section} ids are 0 to {highest} without gaps")
            seen.setdefault(member.id, index)


def _addresses(config: Config) -> Iterator[tuple[KeyPath, str, str]]:
    """Yield every address with its path and the member's own place: equal private addresses clash only there."""
    has_own_networks = config.cell.kind == "one-machine" and config.cell.network == "namespaces"
    for index, server in enumerate(config.server):
        place = f"s{index}" if has_own_networks else server.host
        for key in ("public_address", "framed_address", "private_address", "publish", "admin_address"):
            if text := getattr(server, key):
                yield ("server", index, key), text, "" if key == "publish" else place
    for index, witness in enumerate(config.witness):
        if witness.private_address:
            place = f"w{index}" if has_own_networks else witness.host
            yield ("witness", index, "private_address"), witness.private_address, place


def _check_addresses(config: Config, report: Report) -> None:
    seen: dict[tuple[str, Address], KeyPath] = {}
    for path, text, place in _addresses(config):
        try:
            address = parse_address(text)
        except ValueError as error:
            report.error(path, str(error), "an address is `host:port`")
            continue
        other = seen.setdefault((place if address.host in OWN_ADDRESSES else "", address), path)
        # Addresses that were both chosen here clash only if the ids do, which is reported as such.
        if other != path and (report.is_given(path) or report.is_given(other)):
            report.error(path, f"{text} is also {other[0]}[{other[1]}].{other[2]}", uses=(other,))


def _check_chosen_addresses(config: Config, report: Report) -> None:
    """A cell of namespaces has its own networks; an address of the machine would be out of reach inside them."""
    if config.cell.kind != "one-machine" or config.cell.network != "namespaces":
        return
    try:
        plan = plan_addresses(config)
    except ValueError:
        return  # ids out of range, which is reported as such
    hint = "leave it out; `publish` opens a port of this machine to clients"
    for path, text, _ in _addresses(config):
        member = (
            MemberId.server(_id_at(config, path)) if path[0] == "server" else MemberId.witness(_id_at(config, path))
        )
        chosen = {
            "public_address": plan.public.get(member.number),
            "framed_address": plan.framed.get(member.number),
            "private_address": plan.private[member],
        }
        if chosen.get(str(path[-1])) is not None and text != str(chosen[str(path[-1])]):
            report.error(path, "the namespaces of a one-machine cell choose their addresses", hint, uses=(KIND,))


def _id_at(config: Config, path: KeyPath) -> int:
    members: Sequence[ServerSection | WitnessSection] = config.server if path[0] == "server" else config.witness
    return members[int(path[1])].id


def _check_framed_addresses(config: Config, report: Report) -> None:
    """A port for `spare proxy` stands beside an HTTP port only; on some servers only, it is missed when they remain."""
    given = [index for index, server in enumerate(config.server) if server.framed_address]
    if config.service.listen == "framed":
        for index in given:
            message = 'unused: with listen = "framed" the public address speaks the framed protocol'
            report.warning(("server", index, "framed_address"), message, uses=(("service", "listen"),))
    elif given and len(given) < len(config.server) and not report.is_partial:
        without = next(index for index, server in enumerate(config.server) if not server.framed_address)
        message = f"server[{given[0]}] has a `framed_address`, this server has none"
        hint = "`spare proxy` can fail over only to a server that has one"
        report.error(("server", without, "framed_address"), message, hint)


def _check_hosts(config: Config, report: Report) -> None:
    """A cell of several hosts must say where everything is."""
    if config.cell.kind != "hosts":
        return
    for index, server in enumerate(config.server):
        _require(report, ("server", index), server, ("host", "public_address", "private_address"))
        if server.publish:
            report.error(("server", index, "publish"), "only one-machine cells publish ports", uses=(KIND,))
    for index, witness in enumerate(config.witness):
        _require(report, ("witness", index), witness, ("host", "private_address"))


def _require(report: Report, path: KeyPath, member: ServerSection | WitnessSection, keys: Sequence[str]) -> None:
    for key in keys:
        if not getattr(member, key):
            report.error((*path, key), f'`{key}` is missing: kind = "hosts" needs it', uses=(KIND,))


def _check_fault_domains(config: Config, report: Report) -> None:
    """Two members that fail together are one fault that counts as two."""
    if config.cell.kind != "hosts":
        return
    members: list[tuple[KeyPath, ServerSection | WitnessSection]] = [
        *((("server", index), server) for index, server in enumerate(config.server)),
        *((("witness", index), witness) for index, witness in enumerate(config.witness)),
    ]
    for key, what in (("host", "host"), ("rack", "rack")):
        seen: dict[str, KeyPath] = {}
        for path, member in members:
            value = getattr(member, key)
            if value and (other := seen.setdefault(value, path)) != path:
                report.warning(
                    (*path, key),
                    f"the same {what} `{value}` as {other[0]}[{other[1]}]: if it fails, two members fail at once",
                )


def _check_storage(config: Config, report: Report) -> None:
    for index, server in enumerate(config.server):
        path: KeyPath = ("server", index, "storage")
        if len(server.storage) != 2:
            report.error(path, f"`storage` has two directories, found {len(server.storage)}")
        elif server.storage[0] == server.storage[1]:
            report.error(path, f"both storage directories are {server.storage[0]}", "one disk would be one fault")
    if config.cell.kind != "one-machine":
        return
    seen: dict[str, KeyPath] = {}
    for index, server in enumerate(config.server):
        for directory in server.storage:
            path = ("server", index, "storage")
            if (other := seen.setdefault(directory, path)) != path:
                report.error(path, f"{directory} belongs to server[{other[1]}] already", uses=(other,))


def _check_socket_length(config: Config, report: Report) -> None:
    paths = CellPaths.of(config)
    for server in config.server:
        longest = paths.longest_socket(server.id, config.hypervisor.driver)
        excess = len(longest.encode()) - SOCKET_PATH_BYTES_MAX
        if excess > 0:
            report.error(
                ("cell", "runtime_dir"),
                f"{config.cell.runtime_dir} is {excess} bytes too long: sockets below it, like {longest},"
                f" may have at most {SOCKET_PATH_BYTES_MAX} bytes",
                "choose a short directory such as /run/spare/x",
                uses=(("hypervisor", "driver"),),
            )
            return


def _check_directories_apart(config: Config, report: Report) -> None:
    if config.cell.state_dir == config.cell.runtime_dir:
        report.error(
            ("cell", "runtime_dir"),
            "is the same directory as state_dir; `spare cell down` empties it",
            uses=(("cell", "state_dir"),),
        )


_RULES: Sequence[Callable[[Config, Report], None]] = (
    _check_server_count,
    _check_witness_count,
    _check_ids,
    _check_addresses,
    _check_chosen_addresses,
    _check_framed_addresses,
    _check_hosts,
    _check_fault_domains,
    _check_storage,
    _check_socket_length,
    _check_directories_apart,
)
