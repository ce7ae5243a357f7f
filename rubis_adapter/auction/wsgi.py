"""What the application server runs: `gunicorn`, or another WSGI server, `rubis_adapter.auction.wsgi:application`.

Environment: `RUBIS_DATABASE_URL`, an SQLAlchemy address; `RUBIS_UPDATE_SOCKET`, where the adapter listens for updates
(empty: the site runs without a cell).
"""

import logging
import os
from pathlib import Path

from rubis_adapter.auction.application import create_application
from rubis_adapter.auction.reporting import Unreported, UpdateReporter
from rubis_adapter.databases import open_engine
from rubis_adapter.update_manager.channel import UpdateSender
from rubis_adapter.update_manager.manager import UpdateManager
from rubis_adapter.update_manager.reporter import SocketReporter

# waitress warns of a queue when a request finds its one thread on the way back from the one before: a line per request.
logging.getLogger("waitress.queue").setLevel(logging.ERROR)

_engine = open_engine(os.environ["RUBIS_DATABASE_URL"])
_socket = os.environ.get("RUBIS_UPDATE_SOCKET", "")
_reporter: UpdateReporter = (
    SocketReporter(UpdateManager(_engine), UpdateSender(Path(_socket))) if _socket else Unreported()
)

application = create_application(_engine, _reporter)
