"""Object stores, tables and drivers of databases."""

import tempfile
from pathlib import Path

from table import case


@case("obstore")
def _() -> None:
    import obstore
    from obstore.store import LocalStore, MemoryStore

    with tempfile.TemporaryDirectory() as folder:
        for store in (MemoryStore(), LocalStore(folder)):
            obstore.put(store, "a/b.bin", b"x" * 1000)
            assert bytes(obstore.get(store, "a/b.bin").bytes()) == b"x" * 1000
            assert bytes(obstore.get_range(store, "a/b.bin", start=1, end=3)) == b"xx"
            assert [m["path"] for m in obstore.list(store).collect()] == ["a/b.bin"]


@case("connectorx", "pyarrow", "pandas")
def _() -> None:
    import sqlite3

    import connectorx

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.db"
        with sqlite3.connect(path) as database:
            database.execute("create table t (n integer, s text)")
            database.executemany("insert into t values (?, ?)", [(1, "a"), (2, "b")])
        database.close()
        table = connectorx.read_sql(
            f"sqlite://{path}", "select * from t", return_type="arrow"
        )
        assert table.column("n").to_pylist() == [1, 2]


@case("deltalake", "pyarrow")
def _() -> None:
    import deltalake
    import pyarrow

    with tempfile.TemporaryDirectory() as folder:
        table = pyarrow.table({"n": [1, 2, 3]})
        deltalake.write_deltalake(folder, table)
        deltalake.write_deltalake(folder, table, mode="append")
        delta = deltalake.DeltaTable(folder)
        assert delta.version() == 1
        assert sorted(delta.to_pyarrow_table()["n"].to_pylist()) == [1, 1, 2, 2, 3, 3]


@case("lancedb", "pyarrow")
def _() -> None:
    import lancedb

    rows = [{"id": i, "vector": [float(i), 1.0]} for i in range(20)]
    with tempfile.TemporaryDirectory() as folder:
        table = lancedb.connect(folder).create_table("t", rows)
        assert table.count_rows() == 20
        assert table.search([7.1, 1.0]).limit(1).to_list()[0]["id"] == 7


@case("datafusion", "pyarrow")
def _() -> None:
    import datafusion

    context = datafusion.SessionContext()
    context.from_pydict({"n": [1, 2, 3]}, name="t")
    assert context.sql("select sum(n) as s from t").to_pydict() == {"s": [6]}


@case("adbc-driver-sqlite", "pyarrow")
def _() -> None:
    import adbc_driver_sqlite.dbapi

    with adbc_driver_sqlite.dbapi.connect() as connection:
        cursor = connection.cursor()
        cursor.execute("select 40 + ?", (2,))
        assert cursor.fetchone() == (42,)
        cursor.close()


@case("sqlite-vec", "apsw")
def _() -> None:
    import apsw
    import sqlite_vec

    database = apsw.Connection(":memory:")
    database.enable_load_extension(True)
    database.load_extension(sqlite_vec.loadable_path())
    distance = database.execute("select vec_distance_l2('[0, 3]', '[4, 0]')")
    assert distance.fetchall() == [(5.0,)]
    database.close()


@case("chromadb")
def _() -> None:
    import chromadb
    from chromadb.config import Settings

    client = chromadb.EphemeralClient(Settings(anonymized_telemetry=False))
    rows = client.get_or_create_collection("points", embedding_function=None)
    rows.upsert(["a", "b"], embeddings=[[0.0, 1.0], [5.0, 5.0]])
    found = rows.query(query_embeddings=[[4.0, 4.0]], n_results=1)
    assert found["ids"] == [["b"]]


@case("faiss-cpu", "numpy")
def _() -> None:
    import faiss
    import numpy

    points = numpy.random.default_rng(1).random((200, 8), dtype=numpy.float32)
    index = faiss.IndexFlatL2(8)
    index.add(points)
    distances, found = index.search(points[:5], 1)
    assert found[:, 0].tolist() == [0, 1, 2, 3, 4] and distances.max() < 1e-6


@case("usearch", "numpy")
def _() -> None:
    import numpy
    from usearch.index import Index

    points = numpy.random.default_rng(1).random((100, 8), dtype=numpy.float32)
    index = Index(ndim=8, metric="l2sq")
    index.add(numpy.arange(100), points)
    assert index.search(points[42], 1).keys.tolist() == [42]


@case("oracledb")
def _() -> None:
    import oracledb

    parts = oracledb.ConnectParams(user="user", password="secret")
    parts.parse_connect_string("127.0.0.1:1/service")
    assert (parts.host, parts.port, parts.service_name) == ("127.0.0.1", 1, "service")
    try:
        oracledb.connect(params=parts)
    except oracledb.Error as error:
        assert "DPY-6005" in str(error)
    else:
        raise AssertionError("connected")


@case("clickhouse-connect")
def _() -> None:
    from clickhouse_connect.datatypes.registry import get_from_name
    from clickhouse_connect.driver.insert import InsertContext
    from clickhouse_connect.driver.transform import NativeTransform
    from clickhouse_connect.driverc import dataconv

    assert dataconv.__file__.endswith(".so")
    types = [get_from_name("Int32"), get_from_name("String")]
    rows = [(1, "a"), (2, "b")]
    block = b"".join(
        NativeTransform.build_insert(InsertContext("t", ["n", "s"], types, rows))
    )
    assert b"Int32" in block and b"\x01\x00\x00\x00\x02\x00\x00\x00" in block


@case("asyncmy")
def _() -> None:
    import asyncio

    import asyncmy
    import asyncmy.errors

    async def main() -> None:
        await asyncmy.connect(host="127.0.0.1", port=1, connect_timeout=5)

    try:
        asyncio.run(main())
    except asyncmy.errors.OperationalError as error:
        assert error.args[0] == 2003
    else:
        raise AssertionError("connected")


@case("aiokafka")
def _() -> None:
    from aiokafka.record.default_records import (
        DefaultRecordBatch,
        DefaultRecordBatchBuilder,
    )

    assert DefaultRecordBatch.__module__.endswith("_crecords.default_records")
    builder = DefaultRecordBatchBuilder(2, 1, True, -1, -1, 0, 100_000)
    for i in range(20):
        builder.append(i, 1_700_000_000_000, b"key", b"value %d" % i, [])
    batch = DefaultRecordBatch(bytes(builder.build()))
    assert batch.validate_crc()
    assert [record.value for record in batch][-1] == b"value 19"


@case("cassandra-driver")
def _() -> None:
    from cassandra.cmurmur3 import murmur3
    from cassandra.metadata import Murmur3Token

    assert Murmur3Token.hash_fn(b"123") == murmur3(b"123") == -7468325962851647638


@case("pygit2")
def _() -> None:
    import pygit2

    with tempfile.TemporaryDirectory() as folder:
        repository = pygit2.init_repository(folder)
        blob = repository.create_blob(b"hello\n")
        assert str(blob) == "ce013625030ba8dba906f756967f9e9ca394464a"
        tree = repository.TreeBuilder()
        tree.insert("a", blob, pygit2.enums.FileMode.BLOB)
        who = pygit2.Signature("a", "a@b", 0, 0)
        commit = repository.create_commit(
            "refs/heads/main", who, who, "one", tree.write(), []
        )
        assert [c.id for c in repository.walk(commit)] == [commit]
