"""The web tier: nginx serves the static pages and hands the servlet addresses to the application server."""

import shutil
from pathlib import Path
from typing import Final

from rubis_adapter.auction.application import BODY_BYTES_MAX
from rubis_adapter.auction.presentation import SERVLETS, STATIC
from rubis_adapter.auction.static_site import STATIC_ROOT
from rubis_adapter.tiers.tier_process import Account, TierProcess, accepts_connections, find_program

PACKAGE: Final = "nginx-light"
START_TIMEOUT_SECONDS: Final = 60.0

_CONFIGURATION: Final = """\
{user_line}daemon off;
worker_processes 1;
pid {run_dir}/nginx.pid;
error_log stderr warn;
events {{ worker_connections 64; }}
http {{
  access_log off;
  server_tokens off;
  # Nothing of a file's age or place on the disk may show in a reply.
  etag off;
  if_modified_since off;
  absolute_redirect off;
  merge_slashes off;
  max_ranges 0;
  charset utf-8;
  charset_types text/css;
  types {{ text/html html; text/css css; image/jpeg jpg; }}
  default_type application/octet-stream;
  sendfile on;
  keepalive_timeout 365d;
  keepalive_requests 1000000000;
  client_header_timeout 365d;
  client_max_body_size {body_bytes_max};
  client_body_buffer_size {body_bytes_max};
  large_client_header_buffers 4 32k;
  client_body_temp_path {run_dir}/body;
  proxy_temp_path {run_dir}/proxy;
  fastcgi_temp_path {run_dir}/fastcgi;
  upstream application {{ server unix:{application_socket} max_fails=0; }}
  server {{
    listen unix:{socket};
    server_name _;
    root {root};
    location = / {{ return 302 {static}; }}
    location = /rubis_servlets {{ return 302 {static}; }}
    location {static} {{
      index index.html;
      add_header Cache-Control "public, max-age=3600";
    }}
    location {servlets} {{
      proxy_pass http://application;
      proxy_http_version 1.1;
      proxy_set_header Connection "";
      proxy_next_upstream off;
      proxy_buffering on;
      proxy_buffers 64 16k;
      proxy_max_temp_file_size 0;
      proxy_read_timeout 365d;
      proxy_send_timeout 365d;
    }}
  }}
}}
"""


class WebServer:
    """Runs nginx with a generated configuration; everything it writes is in the run directory."""

    def __init__(self, run_dir: Path, account: Account, application_socket: Path) -> None:
        """`application_socket`: where the application server listens."""
        self._run_dir = run_dir
        self._account = account
        self._application_socket = application_socket
        self.socket = run_dir / "web.sock"
        self._process: TierProcess | None = None

    def start(self) -> None:
        """Starts the server; returns when it takes connections.  Raises `MissingProgram`, `ProcessFailed`."""
        self._account.own_directory(self._run_dir)
        self.socket.unlink(missing_ok=True)  # a killed nginx leaves it behind, and the next one does not replace it
        command = (find_program("nginx", PACKAGE), "-c", str(self._write_configuration()), "-e", "stderr")
        process = TierProcess(command, self._run_dir / "web.log", self._account)
        process.start()
        process.wait_until(lambda: accepts_connections(self.socket), START_TIMEOUT_SECONDS, "takes connections")
        self._process = process

    def stop(self) -> None:
        """Stops the server."""
        if self._process is not None:
            self._process.stop()

    def kill(self) -> None:
        """Ends the server at once."""
        if self._process is not None:
            self._process.kill()

    def is_running(self) -> bool:
        """Whether the server is there."""
        return self._process is not None and self._process.is_running()

    @property
    def pid(self) -> int:
        """Process id of the server; its worker is a child."""
        assert self._process is not None, "not started"
        return self._process.pid

    def _write_configuration(self) -> Path:
        root = self._run_dir / "static"
        shutil.copytree(STATIC_ROOT, root, dirs_exist_ok=True)  # the code may lie where the account cannot read
        for path in (root, *root.rglob("*")):
            self._account.own(path)
        values = {
            # An nginx that starts as root would run its worker as nobody, who cannot enter the run directory.
            "user_line": "user root root;\n" if self._account.user_id == 0 else "",
            "run_dir": self._run_dir,
            "root": root,
            "socket": self.socket,
            "application_socket": self._application_socket,
            "static": STATIC,
            "servlets": SERVLETS,
            "body_bytes_max": BODY_BYTES_MAX,
        }
        path = self._run_dir / "nginx.conf"
        path.write_text(_CONFIGURATION.format_map(values), encoding="utf-8")
        self._account.own(path)
        return path
