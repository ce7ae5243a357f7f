"""The dynamic pages, by the name of their servlet in RUBiS."""

from collections.abc import Callable, Mapping
from typing import Final

from rubis_adapter.auction.page import Page, PageRequest
from rubis_adapter.auction.pages import bidding, browsing, buying, commenting, people, selling, viewing

PageFunction = Callable[[PageRequest], Page]

PAGES: Final[Mapping[str, PageFunction]] = {
    "RegisterUser": people.register_user,
    "BrowseCategories": browsing.browse_categories,
    "SearchItemsByCategory": browsing.search_items_by_category,
    "BrowseRegions": browsing.browse_regions,
    "SearchItemsByRegion": browsing.search_items_by_region,
    "ViewItem": viewing.view_item,
    "ViewUserInfo": people.view_user_info,
    "ViewBidHistory": viewing.view_bid_history,
    "BuyNowAuth": buying.buy_now_auth,
    "BuyNow": buying.buy_now_form,
    "StoreBuyNow": buying.store_buy_now,
    "PutBidAuth": bidding.put_bid_auth,
    "PutBid": bidding.put_bid,
    "StoreBid": bidding.store_bid,
    "PutCommentAuth": commenting.put_comment_auth,
    "PutComment": commenting.put_comment,
    "StoreComment": commenting.store_comment,
    "SellItemForm": selling.sell_item_form,
    "RegisterItem": selling.register_item,
    "AboutMe": people.about_me,
}
