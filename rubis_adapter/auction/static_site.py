"""The pages that the web server serves from files, rendered from the same templates as the dynamic ones.

`python -m rubis_adapter.auction.static_site` writes them to `static/`; they are kept there, so that neither an image
nor a start of the service has to render them.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from rubis_adapter.auction.presentation import STATIC, page_environment
from rubis_adapter.population.data_sets import REGIONS

STATIC_ROOT: Final = Path(__file__).parent / "static"
"""Document root of the web server."""

_PAGES: Final = {
    "index.html": ("Home", "static_home.html"),
    "register.html": ("Register", "static_register.html"),
    "browse.html": ("Browse", "static_browse.html"),
    "sell.html": ("Sell", "static_sell.html"),
    "about_me.html": ("AboutMeAuth", "static_about_me.html"),
}


def static_pages() -> Mapping[str, str]:
    """Contents of the static pages by file name below `/rubis_servlets/`."""
    environment = page_environment()
    return {
        file_name: environment.get_template(template).render(page=page, regions=REGIONS)
        for file_name, (page, template) in _PAGES.items()
    }


def main() -> None:
    """Writes the static pages."""
    for file_name, text in static_pages().items():
        (STATIC_ROOT / STATIC.strip("/") / file_name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
