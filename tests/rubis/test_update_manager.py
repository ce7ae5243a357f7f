"""The update manager over real databases: what it reports is what the database holds.

Source: SPARE §4.10.2.
"""

from collections.abc import Callable, Iterator
from datetime import datetime
from decimal import Decimal

import pytest
from sqlalchemy import Connection, Engine, bindparam, delete, exists, func, insert, select, text, update
from sqlalchemy.dialects import mysql, postgresql
from sqlalchemy.exc import IntegrityError

from rubis_adapter.databases import open_engine
from rubis_adapter.errors import UnsupportedStatement
from rubis_adapter.schema import SERVICE_TABLES, bids, categories, comments, items, regions, spare_state, users
from rubis_adapter.tiers.service_processes import DatabaseKind
from rubis_adapter.update_application import apply_rows, merge, read_cursor
from rubis_adapter.update_manager.manager import UpdateManager
from rubis_adapter.update_manager.row_images import RowImage, decode_images
from tests.rubis.running_replica import RunningReplica

pytestmark = pytest.mark.db

NOW = datetime(2030, 1, 2, 3, 4, 5)  # noqa: DTZ001 - the databases hold UTC without a zone
BID = {"id": 1001, "user_id": 3, "item_id": 25, "qty": 1, "bid": Decimal("7.25"), "max_bid": Decimal("9.10")}
BID_ROW = BID | {"date": NOW}
BIDS, CATEGORIES, REGIONS, USERS = (SERVICE_TABLES.index(table) for table in (bids, categories, regions, users))


class Watched:
    """An engine of the application's user with an update manager of its own."""

    def __init__(self, site: RunningReplica) -> None:
        self.engine: Engine = open_engine(site.replica.processes.database.application_url())
        self.manager = UpdateManager(self.engine)
        self.sequence = site.adapter.cursor()

    def update_of(self, change: Callable[[Connection], object]) -> bytes:
        """Runs one request with one transaction."""
        self.manager.begin(self.sequence)
        with self.engine.begin() as connection:
            change(connection)
        self.sequence += 1
        return self.manager.finish()

    def images_of(self, change: Callable[[Connection], object]) -> list[RowImage]:
        update_bytes = self.update_of(change)
        return decode_images(update_bytes) if update_bytes else []


@pytest.fixture
def watched(site: RunningReplica) -> Iterator[Watched]:
    site.expect_changes()
    found = Watched(site)
    yield found
    found.engine.dispose()
    site.replica.open_adapter()  # its cursor has been passed


def category_names(watched: Watched) -> dict[int, str]:
    with watched.engine.connect() as connection:
        return {row.id: row.name for row in connection.execute(select(categories))}


def test_an_insert_is_reported_as_it_is_stored(watched: Watched) -> None:
    [image] = watched.images_of(lambda connection: connection.execute(insert(bids), BID_ROW))
    assert image == RowImage(BIDS, 1001, (3, 25, 1, Decimal("7.25"), Decimal("9.10"), NOW))


def test_many_inserts_of_one_statement_are_reported(watched: Watched) -> None:
    rows = [{"id": key, "name": f"new {key}"} for key in (133, 131, 132)]
    for change in (
        lambda connection: connection.execute(insert(categories), rows),
        lambda connection: connection.execute(insert(regions).values(rows)),
    ):
        assert [(image.id, image.values) for image in watched.images_of(change)] == [
            (key, (f"new {key}",)) for key in (131, 132, 133)
        ]


def test_an_update_reports_all_its_rows_and_no_other(watched: Watched) -> None:
    sells = exists().where(items.c.seller == users.c.id, items.c.category == 6)
    with watched.engine.connect() as connection:
        sellers = list(connection.execute(select(users.c.id).where(sells).order_by(users.c.id)).scalars())
    images = watched.images_of(
        lambda connection: connection.execute(update(users).where(sells).values(rating=users.c.rating + 7))
    )
    assert [image.id for image in images] == sellers
    assert {image.table for image in images} == {USERS}


def test_an_update_for_many_parameters_reports_each(watched: Watched) -> None:
    statement = update(categories).where(categories.c.id == bindparam("key")).values(name=bindparam("new_name"))
    parameters = [{"key": 3, "new_name": "three"}, {"key": 2, "new_name": "two"}, {"key": 99, "new_name": "none"}]
    images = watched.images_of(lambda connection: connection.execute(statement, parameters))
    assert [(image.id, image.values) for image in images] == [(2, ("two",)), (3, ("three",))]


def test_a_delete_reports_the_rows_that_are_gone(watched: Watched) -> None:
    images = watched.images_of(lambda connection: connection.execute(delete(categories).where(categories.c.id < 3)))
    assert images == [RowImage(CATEGORIES, 1, None), RowImage(CATEGORIES, 2, None)]


def test_only_the_last_image_of_a_row_is_reported(watched: Watched) -> None:
    def change(connection: Connection) -> None:
        connection.execute(insert(categories), {"id": 50, "name": "first"})
        connection.execute(update(categories).where(categories.c.id == 50).values(name="second"))
        connection.execute(insert(categories), {"id": 51, "name": "short-lived"})
        connection.execute(delete(categories).where(categories.c.id == 51))

    assert watched.images_of(change) == [RowImage(CATEGORIES, 50, ("second",))]


def test_what_changes_nothing_has_an_empty_update(watched: Watched) -> None:
    def change(connection: Connection) -> None:
        connection.execute(update(categories).where(categories.c.id == 1).values(name=categories.c.name))
        connection.execute(update(categories).where(categories.c.id == 2).values(name="else"))
        connection.execute(update(categories).where(categories.c.id == 2).values(name=names[2]))
        connection.execute(update(categories).where(categories.c.id == 999).values(name="nobody"))
        connection.execute(select(categories)).all()

    names = category_names(watched)
    assert watched.update_of(change) == b""


def test_the_cursor_moves_with_a_change_and_only_with_one(watched: Watched) -> None:
    def cursor() -> int:
        with watched.engine.connect() as connection:
            return read_cursor(connection)

    before = cursor()
    watched.update_of(lambda connection: connection.execute(select(categories)))
    assert cursor() == before
    watched.update_of(lambda connection: connection.execute(delete(categories).where(categories.c.id == 1)))
    assert cursor() == watched.sequence


def test_a_number_that_is_in_the_database_changes_nothing_again(watched: Watched) -> None:
    watched.update_of(lambda connection: connection.execute(delete(categories).where(categories.c.id == 1)))
    watched.sequence -= 1
    with pytest.raises(UnsupportedStatement, match="already"):
        watched.update_of(lambda connection: connection.execute(delete(categories).where(categories.c.id == 2)))
    assert 2 in category_names(watched)
    assert watched.manager.finish() == b""


def test_what_is_rolled_back_is_not_reported(watched: Watched) -> None:
    watched.manager.begin(watched.sequence)
    with watched.engine.connect() as connection:
        connection.execute(delete(categories).where(categories.c.id == 1))
        connection.rollback()
    assert watched.manager.finish() == b""


def test_a_refused_insert_rolls_the_whole_request_back(watched: Watched) -> None:
    def change(connection: Connection) -> None:
        connection.execute(delete(categories).where(categories.c.id == 1))
        connection.execute(insert(regions), {"id": 1, "name": "taken"})

    with pytest.raises(Exception, match=r"(?i)duplicate"):
        watched.update_of(change)
    assert watched.manager.finish() == b""
    assert 1 in category_names(watched)


def test_a_read_that_is_rolled_back_after_the_commit_takes_nothing_back(watched: Watched) -> None:
    watched.manager.begin(watched.sequence)
    with watched.engine.connect() as connection:
        connection.execute(delete(categories).where(categories.c.id == 1))
        connection.commit()
        connection.execute(select(regions)).all()
        connection.rollback()
    assert decode_images(watched.manager.finish()) == [RowImage(CATEGORIES, 1, None)]


def test_a_second_changing_transaction_is_refused(watched: Watched) -> None:
    watched.manager.begin(watched.sequence)
    with watched.engine.connect() as connection:
        connection.execute(delete(categories).where(categories.c.id == 1))
        connection.commit()
        with pytest.raises(UnsupportedStatement, match="one modifying transaction"):
            connection.execute(delete(categories).where(categories.c.id == 2))
        connection.rollback()
    assert decode_images(watched.manager.finish()) == [RowImage(CATEGORIES, 1, None)]


def test_a_change_outside_of_a_request_is_refused(watched: Watched) -> None:
    with watched.engine.connect() as connection, pytest.raises(UnsupportedStatement, match="outside"):
        connection.execute(delete(categories).where(categories.c.id == 1))
    assert 1 in category_names(watched)


def test_a_change_that_commits_by_itself_is_refused(watched: Watched) -> None:
    watched.manager.begin(watched.sequence)
    with watched.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        with pytest.raises(UnsupportedStatement, match="commits by itself"):
            connection.execute(delete(categories).where(categories.c.id == 1))
        connection.rollback()
    assert watched.manager.finish() == b""
    assert 1 in category_names(watched)


@pytest.mark.parametrize(
    "change",
    [
        lambda c: c.execute(text("DELETE FROM categories WHERE id = 1")),
        lambda c: c.execute(text("SELECT 1; DELETE FROM categories WHERE id = 1")),
        lambda c: c.execute(text("WITH gone AS (DELETE FROM categories WHERE id = 1 RETURNING id) SELECT * FROM gone")),
        lambda c: c.execute(text("SELECT id INTO other FROM categories")),
        lambda c: c.exec_driver_sql("UPDATE categories SET name = 'x' WHERE id = 1"),
        lambda c: c.exec_driver_sql("TRUNCATE TABLE categories"),
        lambda c: c.execute(update(categories).where(categories.c.id == 1).values(id=77)),
        lambda c: c.execute(update(categories).where(categories.c.name == "Books"), {"id": 77}),
        lambda c: c.execute(update(categories).ordered_values((categories.c.id, 77), (categories.c.name, "x"))),
        lambda c: c.execute(insert(categories).values(id=func.abs(-77), name="x")),
        lambda c: c.execute(insert(categories), [{"name": "a"}, {"name": "b"}]),
        lambda c: c.execute(insert(categories).values(name="x")),
        lambda c: c.execute(insert(categories).from_select(["id", "name"], select(regions.c.id + 100, regions.c.name))),
        lambda c: c.execute(postgresql.insert(categories).values(id=1, name="x").on_conflict_do_nothing()),
        lambda c: c.execute(mysql.insert(categories).values(id=1, name="x").on_duplicate_key_update(name="x")),
        lambda c: c.execute(insert(categories).prefix_with("IGNORE").values(id=1, name="x")),
        lambda c: c.execute(insert(categories).values(id=77, name="x").add_cte(delete(regions).cte("gone"))),
        lambda c: c.execute(update(spare_state).values(cursor=9)),
        lambda c: c.begin_nested(),
    ],
)
def test_what_cannot_be_captured_is_refused_and_leaves_nothing(
    watched: Watched, change: Callable[[Connection], object]
) -> None:
    names = category_names(watched)
    with pytest.raises(UnsupportedStatement):
        watched.update_of(change)
    assert watched.manager.finish() == b""
    assert category_names(watched) == names


def test_reported_images_applied_elsewhere_give_the_same_rows(
    watched: Watched, both: tuple[RunningReplica, RunningReplica], site: RunningReplica
) -> None:
    """Unlike the application, this also deletes and moves a unique value from one row to another."""

    def change(connection: Connection) -> None:
        nicknames = {row.id: row.nickname for row in connection.execute(select(users).where(users.c.id < 3))}
        connection.execute(update(users).where(users.c.id == 1).values(nickname="in between"))
        connection.execute(update(users).where(users.c.id == 2).values(nickname=nicknames[1]))
        connection.execute(update(users).where(users.c.id == 1).values(nickname=nicknames[2]))
        connection.execute(delete(comments).where(comments.c.rating == 0))
        connection.execute(insert(bids), BID_ROW)

    site.reset()
    watched.sequence = site.adapter.cursor()
    site.expect_changes()
    reported = watched.update_of(change)
    site.replica.open_adapter()
    other = next(replica for replica in both if replica is not site)
    other.apply([(other.adapter.cursor(), reported)], other.adapter.cursor())
    assert other.state() == site.state()


def test_merging_keeps_the_last_image(site: RunningReplica, watched: Watched) -> None:
    def rename(name: str) -> bytes:
        return watched.update_of(
            lambda connection: connection.execute(update(categories).where(categories.c.id == 4).values(name=name))
        )

    merged = merge([rename("a"), rename("b"), rename("c")])
    assert merged == {CATEGORIES: {4: ("c",)}}
    engine = open_engine(site.replica.processes.database.administrator_url())
    with engine.begin() as connection:
        apply_rows(connection, {CATEGORIES: {4: ("d",), 5: None}})
    engine.dispose()
    names = category_names(watched)
    assert names[4] == "d"
    assert 5 not in names


@pytest.fixture
def rounding_trigger(site: RunningReplica) -> Iterator[None]:
    """The database of this replica alone rounds the price of every new bid."""
    if site.kind == DatabaseKind.MARIADB:
        make = ["CREATE TRIGGER rounding BEFORE INSERT ON bids FOR EACH ROW SET NEW.bid = ROUND(NEW.bid, 0)"]
        drop = ["DROP TRIGGER rounding"]
    else:
        body = "BEGIN NEW.bid := round(NEW.bid); RETURN NEW; END"
        make = [
            f"CREATE FUNCTION rounding() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
            "CREATE TRIGGER rounding BEFORE INSERT ON bids FOR EACH ROW EXECUTE FUNCTION rounding()",
        ]
        drop = ["DROP TRIGGER rounding ON bids", "DROP FUNCTION rounding()"]
    engine = open_engine(site.replica.processes.database.administrator_url())
    for statements in (make, drop):
        with engine.begin() as connection:
            for statement in statements:
                connection.exec_driver_sql(statement)
        if statements is make:
            yield
    engine.dispose()


def test_a_database_that_rounds_shows_in_its_updates(
    rounding_trigger: None, site: RunningReplica, both: tuple[RunningReplica, RunningReplica]
) -> None:
    """The application sent the exact price; the update tells what the database made of it."""
    bid = {"itemId": 25, "userId": 3, "minBid": "0.01", "bid": "7000.37", "maxBid": "8000.00", "qty": 1, "maxQty": 1}
    (first, honest_or_not), (second, other) = ((replica, replica.changing_page("StoreBid", **bid)) for replica in both)
    assert honest_or_not[0] == other[0], "the reply does not show it"
    prices = {}
    for replica, (_, update_bytes) in ((first, honest_or_not), (second, other)):
        [image] = [image for image in decode_images(update_bytes) if image.table == BIDS]
        assert image.values is not None
        prices[replica.kind] = image.values[3]
    rounding = prices.pop(site.kind)
    assert rounding == Decimal("7000.00")
    assert list(prices.values()) == [Decimal("7000.37")]


def test_a_column_of_another_type_shows_in_the_updates(running_mariadb: RunningReplica) -> None:
    """No Python differs, only the table: its price has one digit."""
    running_mariadb.reset()
    bid = {"itemId": 25, "userId": 3, "minBid": "0.01", "bid": "7000.37", "maxBid": "8000.00", "qty": 1, "maxQty": 1}
    engine = open_engine(running_mariadb.replica.processes.database.administrator_url())
    with engine.begin() as connection:
        connection.exec_driver_sql("ALTER TABLE bids MODIFY bid DECIMAL(12,1) NOT NULL")
    try:
        _, update_bytes = running_mariadb.changing_page("StoreBid", **bid)
    finally:
        with engine.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE bids MODIFY bid DECIMAL(12,2) NOT NULL")
        engine.dispose()
    [image] = [image for image in decode_images(update_bytes) if image.table == BIDS]
    assert image.values is not None
    assert image.values[3] == Decimal("7000.40")


def test_a_commit_that_the_database_refuses_is_not_reported(running_postgres: RunningReplica) -> None:
    """PostgreSQL checks deferred constraints within COMMIT; no rollback is announced after it."""
    running_postgres.reset()
    running_postgres.expect_changes()
    administrator = open_engine(running_postgres.replica.processes.database.administrator_url())
    with administrator.begin() as connection:
        connection.exec_driver_sql(
            "ALTER TABLE categories ADD CONSTRAINT late UNIQUE (name) DEFERRABLE INITIALLY DEFERRED"
        )
    watched = Watched(running_postgres)
    try:
        with pytest.raises(IntegrityError, match="late"):
            watched.update_of(lambda connection: connection.execute(update(categories).values(name="same")))
        assert watched.manager.finish() == b""
    finally:
        watched.engine.dispose()
        with administrator.begin() as connection:
            connection.exec_driver_sql("ALTER TABLE categories DROP CONSTRAINT late")
        administrator.dispose()
