"""Packages doing what people use them for, in two interpreters at once, and again.

Where `test_wheels.py` and the matrix look whether a package works at all, these write
files that main reads, talk to real servers, and serve each other. Each is a process of
its own. A case is skipped where its package or its server is not installed.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from sins import run_child

pytestmark = pytest.mark.slow

DRIVER = """
import sys, threading
import atoll

folder, address, code, after = sys.argv[1:]
failures = []

def life(round, index):
    names = f"ROUND, INDEX, FOLDER, ADDRESS = {round}, {index}, {folder!r}, {address!r}"
    try:
        with atoll.Interpreter() as interpreter:
            barrier.wait(60)
            interpreter.exec(names + chr(10) + code)
            barrier.wait(300)
    except BaseException as error:
        barrier.abort()
        failures.append(error)

for round in range(2):
    barrier = threading.Barrier(2)
    threads = [threading.Thread(target=life, args=(round, i)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
exec(after, {"FOLDER": folder, "ADDRESS": address})
print("done")
"""


def need(*names: str) -> None:
    for name in names:
        try:
            version(name)
        except PackageNotFoundError:
            pytest.skip(f"{name} is not installed")


def work(code: str, after: str = "", folder: object = "", address: str = "") -> None:
    """Run the code in two interpreters at once, twice, then `after` in main."""
    arguments = [str(folder), address, code, after]
    few = {"OMP_NUM_THREADS": "2", "OPENBLAS_NUM_THREADS": "2"}
    assert run_child("-c", DRIVER, *arguments, timeout=280, **few) == "done\n"


# ──── files ────


def test_pandas_writes_parquet_with_pyarrow(tmp_path: Path) -> None:
    need("pandas", "pyarrow")
    work(
        """
import pandas as pd
path = f"{FOLDER}/{ROUND}-{INDEX}.parquet"
frame = pd.DataFrame({"key": ["a", "b"] * 5000, "value": range(10_000)})
frame["at"] = pd.date_range("2024-01-01", periods=10_000, freq="min")
frame.to_parquet(path, engine="pyarrow", compression="zstd")
again = pd.read_parquet(path, engine="pyarrow")
pd.testing.assert_frame_equal(frame, again)
assert again.groupby("key").value.sum().to_dict() == {"a": 24_995_000, "b": 25_000_000}
""",
        """
import pyarrow.parquet
for name in ("0-0", "0-1", "1-0", "1-1"):
    table = pyarrow.parquet.read_table(f"{FOLDER}/{name}.parquet")
    assert table.num_rows == 10_000 and table["value"][9_999].as_py() == 9_999
""",
        tmp_path,
    )


def test_polars_queries_lazily(tmp_path: Path) -> None:
    need("polars")
    work(
        """
import polars as pl
path = f"{FOLDER}/{ROUND}-{INDEX}.csv"
keys = [n % 7 for n in range(7000)]
pl.DataFrame({"key": keys, "value": range(7000)}).write_csv(path)
sums = (
    pl.scan_csv(path).filter(pl.col("value") >= 10).group_by("key")
    .agg(pl.col("value").sum()).sort("key").collect()
)
assert sums["value"].sum() == sum(range(10, 7000))
doubled = sums.with_columns(
    twice=pl.col("value").map_elements(lambda n: n * 2, return_dtype=pl.Int64)
)
assert doubled["twice"].to_list() == [n * 2 for n in sums["value"]]
""",
        folder=tmp_path,
    )


def test_scikit_learn_fits() -> None:
    need("scikit-learn")
    work("""
import numpy as np
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.model_selection import cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
random = np.random.default_rng(INDEX)
points = random.normal(size=(300, 4))
kinds = (points[:, 0] + points[:, 1] > 0).astype(int)
machine = make_pipeline(StandardScaler(), SVC())
assert cross_val_score(machine, points, kinds, cv=3, n_jobs=2).mean() > 0.9
trees = GradientBoostingClassifier(n_estimators=30, random_state=1)
assert trees.fit(points, kinds).score(points, kinds) > 0.95
""")


def test_matplotlib_draws(tmp_path: Path) -> None:
    need("matplotlib")
    work(
        """
import matplotlib
matplotlib.use("Agg")
import matplotlib.image
import matplotlib.pyplot as plt
figure, axes = plt.subplots(figsize=(3, 2), dpi=100)
axes.plot(range(10), [n * n for n in range(10)], label="$x^2$")
axes.set_title("reef")
axes.legend()
path = f"{FOLDER}/{ROUND}-{INDEX}.png"
figure.savefig(path)
plt.close(figure)
picture = matplotlib.image.imread(path)
assert picture.shape == (200, 300, 4) and 0.5 < picture.mean() < 1
""",
        """
pictures = {open(f"{FOLDER}/{name}.png", "rb").read() for name in ("0-0", "0-1", "1-1")}
assert len(pictures) == 1 and pictures.pop().startswith(b"\\x89PNG")
""",
        tmp_path,
    )


HDF5_IN_MAIN = """
import h5py
for name in ("0-0", "0-1", "1-0", "1-1"):
    with h5py.File(f"{FOLDER}/{name}.h5") as file:
        assert file["group/numbers"][:].sum() == 499_500
        assert file["group"].attrs["unit"] == "m"
"""


@pytest.mark.parametrize("end", ["file.close()", "import sys; sys.kept = file"])
def test_hdf5_files_are_whole_after_the_interpreter(tmp_path: Path, end: str) -> None:
    # A file that nobody closes is written out by HDF5's own function for atexit().
    need("h5py")
    work(
        f"""
import h5py, numpy
file = h5py.File(f"{{FOLDER}}/{{ROUND}}-{{INDEX}}.h5", "w")
numbers = numpy.arange(1000)
file.create_dataset("group/numbers", data=numbers, compression="gzip")
file["group"].attrs["unit"] = "m"
{end}
""",
        HDF5_IN_MAIN,
        tmp_path,
    )


def test_sqlalchemy_shares_a_sqlite_file(tmp_path: Path) -> None:
    need("sqlalchemy")
    work(
        """
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
class Base(DeclarativeBase): pass
class Visit(Base):
    __tablename__ = f"visit_{ROUND}_{INDEX}"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
url = f"sqlite:///{FOLDER}/all.db"
engine = sa.create_engine(url, connect_args={"timeout": 60})
Base.metadata.create_all(engine)
with Session(engine) as session, session.begin():
    session.add_all(Visit(name=f"guest {n}") for n in range(100))
with Session(engine) as session:
    wanted = sa.select(Visit).where(Visit.name.like("%9")).order_by(Visit.id)
    assert [v.name for v in session.scalars(wanted)][:2] == ["guest 9", "guest 19"]
engine.dispose()
""",
        """
import sqlite3
with sqlite3.connect(f"{FOLDER}/all.db") as database:
    for table in ("visit_0_0", "visit_0_1", "visit_1_0", "visit_1_1"):
        assert database.execute(f"select count(*) from {table}").fetchone() == (100,)
""",
        tmp_path,
    )


# ──── servers in the process ────


def test_tls_with_a_certificate_of_cryptography(tmp_path: Path) -> None:
    need("cryptography")
    work(
        """
import asyncio, datetime, ipaddress, ssl
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
key = ec.generate_private_key(ec.SECP256R1())
name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "reef")])
now = datetime.datetime.now(datetime.timezone.utc)
day = datetime.timedelta(days=1)
names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
certificate = (
    x509.CertificateBuilder().subject_name(name).issuer_name(name)
    .public_key(key.public_key()).serial_number(x509.random_serial_number())
    .not_valid_before(now - day).not_valid_after(now + day)
    .add_extension(x509.SubjectAlternativeName(names), critical=False)
    .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    .sign(key, hashes.SHA256())
)
path = f"{FOLDER}/{ROUND}-{INDEX}.pem"
pem = certificate.public_bytes(serialization.Encoding.PEM)
with open(path, "wb") as file:
    file.write(pem + key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption()))
server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
server_side.load_cert_chain(path)
client_side = ssl.create_default_context(cadata=pem.decode())
async def answer(reader, writer):
    writer.write((await reader.readexactly(100_000))[::-1])
    await writer.drain()
    writer.close()
async def main():
    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=server_side)
    port = server.sockets[0].getsockname()[1]
    async def ask():
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", port, ssl=client_side)
        assert writer.get_extra_info("ssl_object").version() == "TLSv1.3"
        writer.write(b"a" * 50_000 + b"z" * 50_000)
        assert (await reader.read(1)) == b"z"
        assert len(await reader.read(-1)) == 99_999
        writer.close()
    async with server:
        await asyncio.gather(*(ask() for _ in range(5)))
asyncio.run(main())
""",
        folder=tmp_path,
    )


GRPC = """
import atoll

def start():
    import sys, grpc
    from concurrent.futures import ThreadPoolExecutor
    def echo(request, context):
        return request[::-1]
    def count(request, context):
        for number in range(int(request)):
            yield b"%d" % number
    handlers = grpc.method_handlers_generic_handler("reef.Echo", {
        "Echo": grpc.unary_unary_rpc_method_handler(echo),
        "Count": grpc.unary_stream_rpc_method_handler(count),
    })
    sys.server = grpc.server(ThreadPoolExecutor(4))
    sys.server.add_generic_rpc_handlers((handlers,))
    port = sys.server.add_insecure_port("127.0.0.1:0")
    sys.server.start()
    return port

def ask(port):
    import grpc
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        echo = channel.unary_unary("/reef.Echo/Echo")
        pending = [echo.future(b"%d-reef" % n, timeout=60) for n in range(50)]
        wanted = [(b"%d-reef" % n)[::-1] for n in range(50)]
        assert [each.result() for each in pending] == wanted
        count = channel.unary_stream("/reef.Echo/Count")
        return sum(int(number) for number in count(b"100", timeout=60))

def stop():
    import sys
    return sys.server.stop(grace=None).wait(60)

for _ in range(2):
    with atoll.Interpreter() as server, atoll.Interpreter() as client:
        port = server.call(start)
        assert client.call(ask, port) == 4950
        assert ask(port) == 4950
        assert server.call(stop)
print("done")
"""


def test_grpc_between_two_interpreters_and_main() -> None:
    need("grpcio")
    assert run_child("-c", GRPC, timeout=280) == "done\n"


# ──── servers beside it ────


def wait_for(path: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert process.poll() is None, f"{process.args} ended with {process.returncode}"
        assert time.monotonic() < deadline, f"{path} is not there after a minute"
        time.sleep(0.02)


@pytest.fixture
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A folder with the socket of a PostgreSQL server that is ready."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not found:
        pytest.skip("PostgreSQL is not installed")
    # It refuses to run as root; Debian's package has a user for it.
    user = {"user": "postgres"} if os.geteuid() == 0 else {}
    folder = Path(
        subprocess.check_output(
            ["mktemp", "-d", "/tmp/atoll-pg-XXXXXX"], text=True
        ).strip()
    )
    try:
        if user:
            shutil.chown(folder, "postgres")
        data = folder / "data"
        make = [found[-1] / "initdb", "-D", data, "-A", "trust", "-U", "reef", "-N"]
        quiet = {"stdout": subprocess.DEVNULL, "cwd": "/", **user}
        subprocess.run(make, check=True, timeout=240, **quiet)
        options = ["-c", "listen_addresses=", "-c", f"unix_socket_directories={folder}"]
        server = subprocess.Popen(
            [found[-1] / "postgres", "-D", data, *options],
            stderr=subprocess.DEVNULL,
            **quiet,
        )
        try:
            wait_for(folder / ".s.PGSQL.5432", server)
            ready = [found[-1] / "pg_isready", "-q", "-h", folder, "-t", "60"]
            deadline = time.monotonic() + 60
            while subprocess.run(ready).returncode and time.monotonic() < deadline:
                time.sleep(0.05)
            yield str(folder)
        finally:
            server.terminate()
            server.wait(60)
    finally:
        shutil.rmtree(folder)


def test_psycopg_with_postgresql(postgres: str) -> None:
    need("psycopg", "psycopg-binary")
    work(
        """
import psycopg
assert psycopg.pq.__impl__ == "binary"
with psycopg.connect(host=ADDRESS, user="reef", dbname="postgres") as connection:
    table = f"visit_{ROUND}_{INDEX}"
    connection.execute(f"create table {table} (id int, name text, at timestamptz)")
    with connection.cursor() as cursor:
        cursor.executemany(
            f"insert into {table} values (%s, %s, now())",
            [(n, f"guest {n}") for n in range(200)],
        )
        with cursor.copy(f"copy {table} (id, name) from stdin") as copy:
            for n in range(200, 1000):
                copy.write_row((n, "copied"))
        rows = cursor.execute(
            f"select sum(id), array_agg(name order by id) from {table}", binary=True
        ).fetchone()
    assert rows[0] == 499_500 and rows[1][7] == "guest 7"
    try:
        connection.execute("select 1/0")
    except psycopg.errors.DivisionByZero:
        connection.rollback()
    else:
        raise AssertionError
""",
        address=postgres,
    )


def test_asyncpg_with_postgresql(postgres: str) -> None:
    need("asyncpg")
    work(
        """
import asyncio, asyncpg
async def main():
    async with asyncpg.create_pool(
        host=ADDRESS, user="reef", database="postgres", min_size=2, max_size=4
    ) as pool:
        async def one(n):
            return await pool.fetchval("select $1::int * 2", n)
        assert await asyncio.gather(*map(one, range(40))) == [n * 2 for n in range(40)]
        async with pool.acquire() as connection, connection.transaction():
            cursor = connection.cursor("select generate_series(1, 100) as n")
            assert sum([row["n"] async for row in cursor]) == 5050
asyncio.run(main())
""",
        address=postgres,
    )


@pytest.fixture
def redis_socket(tmp_path: Path) -> Iterator[str]:
    """The socket of a Redis server."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("redis-server is not installed")
    path = tmp_path / "redis"
    options = ["--port", "0", "--unixsocket", path, "--save", "", "--dir", tmp_path]
    server = subprocess.Popen([program, *options], stdout=subprocess.DEVNULL)
    try:
        wait_for(path, server)
        yield str(path)
    finally:
        server.terminate()
        server.wait(60)


def test_redis_with_hiredis(redis_socket: str) -> None:
    need("redis", "hiredis")
    work(
        """
import redis, redis.utils, threading
assert redis.utils.HIREDIS_AVAILABLE
client = redis.Redis(unix_socket_path=ADDRESS, decode_responses=True)
key = f"{ROUND}-{INDEX}"
with client.pipeline() as pipe:
    for n in range(500):
        pipe.rpush(key, n)
    assert pipe.execute() == list(range(1, 501))
assert client.lrange(key, 0, 2) == ["0", "1", "2"]
assert client.hset("h" + key, mapping={"a": "1"}) == 1
assert client.hgetall("h" + key) == {"a": "1"}
with client.pubsub(ignore_subscribe_messages=False) as listener:
    listener.subscribe(key)
    assert listener.get_message(timeout=60)["type"] == "subscribe"
    publisher = threading.Thread(target=client.publish, args=(key, "reef"))
    publisher.start()
    assert listener.get_message(timeout=60)["data"] == "reef"
    publisher.join()
client.close()
""",
        """
import redis
with redis.Redis(unix_socket_path=ADDRESS) as client:
    assert sorted(client.keys("?-?")) == [b"0-0", b"0-1", b"1-0", b"1-1"]
""",
        address=redis_socket,
    )
