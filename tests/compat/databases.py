"""Databases, and the clients of servers as far as they work without one."""

import sqlite3
import tempfile
from pathlib import Path

from table import case


@case("sqlalchemy")
def _() -> None:
    import sqlalchemy as sa
    from sqlalchemy.util._has_cython import HAS_CYEXTENSION

    assert HAS_CYEXTENSION and sqlite3.sqlite_version
    engine = sa.create_engine("sqlite://", poolclass=sa.pool.StaticPool)
    table = sa.Table("t", sa.MetaData(), sa.Column("x", sa.Integer, primary_key=True))
    with engine.begin() as connection:
        table.create(connection)
        connection.execute(table.insert(), [{"x": 1}, {"x": 5}])
        rows = connection.execute(sa.select(table).where(table.c.x > 1)).all()
    assert rows == [(5,)]


@case("psycopg", "psycopg-binary")
def _() -> None:
    import psycopg
    from psycopg import sql

    assert psycopg.pq.__impl__ == "binary"
    assert psycopg.conninfo.make_conninfo("host=h", port=5) == "host=h port=5"
    query = sql.SQL("select {} from {}").format(sql.Literal(1), sql.Identifier("a b"))
    assert query.as_string(None) == 'select 1 from "a b"'
    try:
        psycopg.connect("host=127.0.0.1 port=1 connect_timeout=3")
    except psycopg.OperationalError as error:
        assert "refused" in str(error)
    else:
        raise AssertionError("connected to port 1")


@case("psycopg2-binary")
def _() -> None:
    import psycopg2
    import psycopg2.extensions as extensions

    assert extensions.adapt([1, "a"]).getquoted() == b"ARRAY[1,'a']"
    assert extensions.parse_dsn("host=h port=5") == {"host": "h", "port": "5"}
    try:
        psycopg2.connect("host=127.0.0.1 port=1 connect_timeout=3")
    except psycopg2.OperationalError as error:
        assert "refused" in str(error)
    else:
        raise AssertionError("connected to port 1")


@case("asyncpg")
def _() -> None:
    import asyncio

    import asyncpg

    assert asyncpg.Range(1, 5) == asyncpg.Range(1, 5)

    async def main() -> None:
        await asyncpg.connect(host="127.0.0.1", port=1, user="u", timeout=5)

    try:
        asyncio.run(main())
    except OSError as error:
        assert error.errno == 111
    else:
        raise AssertionError("connected to port 1")


@case("pymssql")
def _() -> None:
    import pymssql

    try:
        pymssql.connect("127.0.0.1", "u", "p", "d", port=1, login_timeout=2)
    except pymssql.OperationalError as error:
        assert "127.0.0.1" in str(error)
    else:
        raise AssertionError("connected to port 1")


@case("pymongo")
def _() -> None:
    import bson

    assert bson.has_c()
    document = {"a": [1, "x", {"b": None}], "i": bson.ObjectId("0" * 24)}
    assert bson.decode(bson.encode(document)) == document


@case("hiredis", "redis")
def _() -> None:
    import hiredis
    import redis

    reader = hiredis.Reader()
    reader.feed(b"*2\r\n$5\r\nhello\r\n:7\r\n")
    assert reader.gets() == [b"hello", 7]
    assert hiredis.pack_command(("GET", "k")) == b"*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"
    assert redis.utils.HIREDIS_AVAILABLE


@case("duckdb")
def _() -> None:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute(
            "create table t as select range as x from range(100)"
        ).fetchall()
        assert connection.execute("select sum(x) from t").fetchall() == [(4950,)]
        connection.create_function("twice", lambda x: x * 2, ["BIGINT"], "BIGINT")
        assert connection.execute("select twice(21)").fetchall() == [(42,)]


@case("apsw")
def _() -> None:
    import apsw

    connection = apsw.Connection(":memory:")
    connection.create_scalar_function("twice", lambda x: x * 2)
    assert list(connection.execute("select twice(21), json('[1]')")) == [(42, "[1]")]
    connection.close()


@case("lmdb")
def _() -> None:
    import lmdb

    with tempfile.TemporaryDirectory() as folder, lmdb.open(folder) as store:
        with store.begin(write=True) as change:
            change.put(b"k", b"v")
        with store.begin() as view:
            assert view.get(b"k") == b"v"


@case("rocksdict")
def _() -> None:
    import rocksdict

    with tempfile.TemporaryDirectory() as folder:
        store = rocksdict.Rdict(str(Path(folder) / "db"))
        store["a"] = [1, 2]
        assert store["a"] == [1, 2]
        store.close()
