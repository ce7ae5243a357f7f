"""`python -m replica_manager` is the command `spare`."""

from replica_manager.control.cli import main

if __name__ == "__main__":
    main()
