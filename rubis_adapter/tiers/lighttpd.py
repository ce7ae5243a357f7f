"""lighttpd as the web tier."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rubis_adapter.auction.presentation import SERVLETS, STATIC
from rubis_adapter.tiers.tier_process import find_program
from rubis_adapter.tiers.web_server import CACHE_CONTROL, WebServer

PACKAGE: Final = "lighttpd"

_CONFIGURATION: Final = """\
server.modules = ("mod_redirect", "mod_setenv", "mod_proxy")
server.bind = "{socket}"
server.socket-perms = "0600"
server.document-root = "{root}"
server.upload-dirs = ("{run_dir}")
server.tag = ""
# The gate lets no odd path through; what it lets through in a query must reach the application as it was sent.
server.http-parseopts = ("url-normalize" => "disable")
server.max-request-field-size = 65535
# Nothing of a file's age or place on the disk may show in a reply.
static-file.etags = "disable"
server.range-requests = "disable"
# As much as the 16 bits of these settings hold, 18 hours.  The adapter opens a new connection after it.
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 65535
server.max-read-idle = 65535
server.max-write-idle = 65535
index-file.names = ("index.html")
mimetype.assign = (
  ".html" => "text/html; charset=utf-8",
  ".css" => "text/css; charset=utf-8",
  ".jpg" => "image/jpeg",
  "" => "application/octet-stream",
)
url.redirect = ("^/(rubis_servlets)?(\\?|$)" => "{static}")
url.redirect-code = 302
$HTTP["url"] =~ "^{servlets}" {{
  proxy.server = ("" => (("host" => "{application_socket}")))
}} else $HTTP["url"] =~ "^{static}" {{
  setenv.add-response-header = ("Cache-Control" => "{cache_control}")
}}
"""


class Lighttpd(WebServer):
    """`lighttpd` in one process."""

    def _configuration_name(self) -> str:
        return "lighttpd.conf"

    def _configuration(self, root: Path) -> str:
        return _CONFIGURATION.format(
            run_dir=self._run_dir,
            root=root,
            socket=self.socket,
            application_socket=self._application_socket,
            static=STATIC,
            servlets=SERVLETS,
            cache_control=CACHE_CONTROL,
        )

    def _command(self, configuration: Path) -> Sequence[str]:
        return (find_program("lighttpd", PACKAGE), "-D", "-f", str(configuration))
