"""The command `spare`.

Every module here is a group of commands; they are imported when they are used, so that `spare --help` is there at once.
Data goes to standard output, everything said to a person to standard error.
"""

from typing import NoReturn


def main() -> NoReturn:
    """Run the command line of this process and end it with its exit code."""
    from replica_manager.control.cli.root import spare

    spare.main(prog_name="spare")
    raise AssertionError("the command group ends the process")
