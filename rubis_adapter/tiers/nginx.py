"""nginx as the web tier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rubis_adapter.auction.application import BODY_BYTES_MAX
from rubis_adapter.auction.presentation import SERVLETS, STATIC
from rubis_adapter.tiers.tier_process import find_program
from rubis_adapter.tiers.web_server import CACHE_CONTROL, WebServer

PACKAGE: Final = "nginx-light"

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
      add_header Cache-Control "{cache_control}";
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


class Nginx(WebServer):
    """`nginx` with one worker."""

    def _configuration_name(self) -> str:
        return "nginx.conf"

    def _configuration(self, root: Path) -> str:
        return _CONFIGURATION.format(
            # An nginx that starts as root would run its worker as nobody, who cannot enter the run directory.
            user_line="user root root;\n" if self._account.user_id == 0 else "",
            run_dir=self._run_dir,
            root=root,
            socket=self.socket,
            application_socket=self._application_socket,
            static=STATIC,
            servlets=SERVLETS,
            body_bytes_max=BODY_BYTES_MAX,
            cache_control=CACHE_CONTROL,
        )

    def _command(self, configuration: Path) -> Sequence[str]:
        return (find_program("nginx", PACKAGE), "-c", str(configuration), "-e", "stderr")
