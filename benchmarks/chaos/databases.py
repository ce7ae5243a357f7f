"""How often the database of every domain holds every token, read from the disks when nothing runs any more."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.chaos.key_value_load import tokens_in
from exec_wrapper.examples.key_value_commands import decode_fields
from exec_wrapper.examples.key_value_files import KeyValueFiles
from replica_manager.config import Config

DATA_DIRECTORY = "data"
"""Of the key-value store, below the disk of a domain of child processes."""


def find_disk(config: Config, domain: str) -> Path:
    """Return the disk of a domain, a file or a directory.

    Raises:
        FileNotFoundError: it has none.
    """
    number = int(domain.partition(".")[0][1:])
    storage = next(server.storage for server in config.server if server.id == number)
    name = domain if config.hypervisor.driver == "subprocess" else f"{domain}.qcow2"
    found = [path for directory in storage if (path := Path(directory) / name).exists()]
    if not found:
        raise FileNotFoundError(f"{domain} has no disk in {', '.join(storage)}")
    return found[0]


def count_key_value(config: Config, domains: Sequence[str]) -> Mapping[str, Counter[str]]:
    """Return how often each domain's store has each token.

    Raises:
        FileNotFoundError, DamagedFile: a store cannot be read.
    """
    return {
        domain: Counter(tokens_in(stored_entries(find_disk(config, domain) / DATA_DIRECTORY))) for domain in domains
    }


def stored_entries(directory: Path) -> Sequence[tuple[bytes, bytes]]:
    """Return the keys and values that a key-value store has on its disk."""
    files = KeyValueFiles(directory)
    try:
        cursor, content = files.read_snapshot()
        fields = decode_fields(content, 0)
        values = {fields[i]: fields[i + 1] for i in range(0, len(fields), 2)}
        for position, updates in files.replay():
            for update in updates if position > cursor else ():
                kind, (key, *rest) = update[:1], decode_fields(update, 1)
                values.pop(key, None)
                if kind == b"P":
                    values[key] = rest[0]
        return list(values.items())
    finally:
        files.close()
