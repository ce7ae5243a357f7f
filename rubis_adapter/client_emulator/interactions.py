"""What an emulated user can do on the auction site: the states of the transition tables, in their column order.

Source: the RUBiS client emulator's state names; the marks are an agreement with the site's templates.
"""

from enum import StrEnum
from typing import Final


class Interaction(StrEnum):
    """One request of an emulated user; the order of the members is the column order of the transition tables."""

    HOME = "Home"
    REGISTER = "Register"
    REGISTER_USER = "RegisterUser"
    BROWSE = "Browse"
    BROWSE_CATEGORIES = "BrowseCategories"
    SEARCH_ITEMS_IN_CATEGORY = "SearchItemsInCategory"
    BROWSE_REGIONS = "BrowseRegions"
    BROWSE_CATEGORIES_IN_REGION = "BrowseCategoriesInRegion"
    SEARCH_ITEMS_IN_REGION = "SearchItemsInRegion"
    VIEW_ITEM = "ViewItem"
    VIEW_USER_INFO = "ViewUserInfo"
    VIEW_BID_HISTORY = "ViewBidHistory"
    BUY_NOW_AUTH = "BuyNowAuth"
    BUY_NOW = "BuyNow"
    STORE_BUY_NOW = "StoreBuyNow"
    PUT_BID_AUTH = "PutBidAuth"
    PUT_BID = "PutBid"
    STORE_BID = "StoreBid"
    PUT_COMMENT_AUTH = "PutCommentAuth"
    PUT_COMMENT = "PutComment"
    STORE_COMMENT = "StoreComment"
    SELL = "Sell"
    SELECT_CATEGORY_TO_SELL_ITEM = "SelectCategoryToSellItem"
    SELL_ITEM_FORM = "SellItemForm"
    REGISTER_ITEM = "RegisterItem"
    ABOUT_ME_AUTH = "AboutMeAuth"
    ABOUT_ME = "AboutMe"


BACK: Final = "Back"
"""Column of the transition tables: the interaction before this one is repeated."""
END_OF_SESSION: Final = "EndOfSession"
"""Column of the transition tables: the user leaves, another one comes."""

STATIC: Final = frozenset(
    {Interaction.HOME, Interaction.REGISTER, Interaction.BROWSE, Interaction.SELL, Interaction.ABOUT_ME_AUTH}
)
"""Pages that the web server serves from files; all others run the application."""

MODIFYING: Final = frozenset(
    {
        Interaction.REGISTER_USER,
        Interaction.REGISTER_ITEM,
        Interaction.STORE_BID,
        Interaction.STORE_BUY_NOW,
        Interaction.STORE_COMMENT,
    }
)
"""Interactions that change the database when they succeed."""

_SERVLET_OF: Final = {
    Interaction.SEARCH_ITEMS_IN_CATEGORY: "SearchItemsByCategory",
    Interaction.BROWSE_CATEGORIES_IN_REGION: "BrowseCategories",
    Interaction.SEARCH_ITEMS_IN_REGION: "SearchItemsByRegion",
    Interaction.SELECT_CATEGORY_TO_SELL_ITEM: "BrowseCategories",
}


def servlet_name(interaction: Interaction) -> str:
    """The page that serves `interaction`: a servlet's name, or the interaction's own for a static page."""
    return _SERVLET_OF.get(interaction, interaction.value)


def page_mark(interaction: Interaction) -> bytes:
    """What the page of `interaction` must contain: `<body data-page="…">` with its servlet's name.

    A static page carries its interaction's name: `Home`, `Register`, `Browse`, `Sell`, `AboutMeAuth`.
    """
    return f'data-page="{servlet_name(interaction)}"'.encode("ascii")
