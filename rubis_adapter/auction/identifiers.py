"""New ids, given out by the application: a database's own counter keeps the numbers of rolled-back inserts."""

from sqlalchemy import Connection, bindparam, select, update

from rubis_adapter.auction.page import Sorry
from rubis_adapter.schema import ID_MAX, IDS_ROW, ids

_COUNTERS = {
    column.name: (
        select(column).where(ids.c.id == IDS_ROW).with_for_update(),
        update(ids).where(ids.c.id == IDS_ROW).values({column: bindparam("last_id")}),
    )
    for column in ids.columns
    if column is not ids.c.id
}


def next_id(connection: Connection, counter: str) -> int:
    """Gives out the next id of the table `counter`, a column of `ids`.

    Raises:
      Sorry: all ids are used up.
    """
    read, write = _COUNTERS[counter]
    last_id: int = connection.execute(read).scalar_one()
    if last_id >= ID_MAX:
        raise Sorry("there is no room for more.")
    connection.execute(write, {"last_id": last_id + 1})
    return last_id + 1
