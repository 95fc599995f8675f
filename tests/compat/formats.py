"""Formats again: newer serialisers, codecs, sets, matchers, hashes."""

import io
import json
import uuid

from table import case

SAMPLE = {"a": [1, 2.5, None, True], "b": {"c": "\u00e9\u4e2d"}, "d": []}
DATA = b"atoll" * 10_000


@case("ormsgpack")
def _() -> None:
    import ormsgpack

    assert ormsgpack.unpackb(ormsgpack.packb(SAMPLE)) == SAMPLE
    try:
        ormsgpack.packb(object())
    except ormsgpack.MsgpackEncodeError:
        pass
    else:
        raise AssertionError("accepted")


@case("ijson")
def _() -> None:
    import ijson
    import ijson.backends.yajl2_c as backend

    text = io.BytesIO(json.dumps({"rows": [{"n": i} for i in range(100)]}).encode())
    assert [row["n"] for row in backend.items(text, "rows.item")] == list(range(100))
    try:
        list(backend.parse(io.BytesIO(b'{"a": ')))
    except ijson.IncompleteJSONError:
        pass
    else:
        raise AssertionError("accepted")


@case("fastavro")
def _() -> None:
    import fastavro

    fields = [{"name": "x", "type": "int"}, {"name": "s", "type": ["null", "string"]}]
    schema = {"type": "record", "name": "Row", "fields": fields}
    rows = [{"x": 1, "s": None}, {"x": 2, "s": "two"}]
    file = io.BytesIO()
    fastavro.writer(file, fastavro.parse_schema(schema), rows, codec="deflate")
    file.seek(0)
    assert list(fastavro.reader(file)) == rows


@case("thriftpy2")
def _() -> None:
    import thriftpy2
    from thriftpy2.protocol.cybin import TCyBinaryProtocolFactory
    from thriftpy2.utils import deserialize, serialize

    idl = "struct Point { 1: i32 x, 2: optional string name }"
    # The module of an IDL is kept by name, once for an interpreter.
    point = thriftpy2.load_fp(io.StringIO(idl), "point_thrift").Point
    data = serialize(point(x=3, name="p"), TCyBinaryProtocolFactory())
    again = deserialize(point(), data, TCyBinaryProtocolFactory())
    assert (again.x, again.name) == (3, "p")


@case("cramjam")
def _() -> None:
    import cramjam

    for codec in (cramjam.snappy, cramjam.zstd, cramjam.brotli, cramjam.gzip):
        assert bytes(codec.decompress(codec.compress(DATA))) == DATA


@case("backports.zstd")
def _() -> None:
    from backports import zstd

    assert zstd.decompress(zstd.compress(DATA)) == DATA


@case("isal")
def _() -> None:
    import zlib

    from isal import igzip, isal_zlib

    assert zlib.decompress(isal_zlib.compress(DATA)) == DATA
    assert igzip.decompress(igzip.compress(DATA)) == DATA


@case("zopfli")
def _() -> None:
    import gzip

    from zopfli.gzip import compress

    assert gzip.decompress(compress(DATA)) == DATA


@case("pybase64")
def _() -> None:
    import pybase64

    assert pybase64.b64encode(b"\xff\xfe", altchars=b"-_") == b"__4="
    assert pybase64.b64decode(b"YXRvbGw=", validate=True) == b"atoll"


@case("google-crc32c")
def _() -> None:
    import google_crc32c

    assert google_crc32c.implementation == "c"
    assert google_crc32c.value(b"123456789") == 0xE3069283


@case("crc32c")
def _() -> None:
    import crc32c

    assert crc32c.crc32c(b"123456789") == 0xE3069283


@case("uuid-utils")
def _() -> None:
    import uuid_utils

    first, second = uuid_utils.uuid7(), uuid_utils.uuid7()
    assert first < second and first.version == 7
    assert str(uuid_utils.UUID(int=5)) == str(uuid.UUID(int=5))


@case("pyroaring")
def _() -> None:
    from pyroaring import BitMap

    one, other = BitMap(range(0, 100_000, 2)), BitMap(range(0, 100_000, 3))
    assert len(one & other) == 16_667
    assert BitMap.deserialize(one.serialize()) == one


@case("bitarray")
def _() -> None:
    from bitarray import bitarray
    from bitarray.util import ba2int

    bits = bitarray("1101") + bitarray(4)
    bits[4:] = 0
    assert bits.count() == 3 and ba2int(bits) == 0b11010000


@case("levenshtein")
def _() -> None:
    import Levenshtein

    assert Levenshtein.distance("kitten", "sitting") == 3
    assert Levenshtein.median(["atol", "toll", "atoll"]) == "atoll"


@case("jellyfish")
def _() -> None:
    import jellyfish

    assert jellyfish.soundex("Robert") == "R163"
    assert jellyfish.damerau_levenshtein_distance("ab", "ba") == 1


@case("pyahocorasick")
def _() -> None:
    import ahocorasick

    words = ahocorasick.Automaton()
    for word in ("he", "she", "hers"):
        words.add_word(word, word)
    words.make_automaton()
    assert [word for _, word in words.iter("ushers")] == ["she", "he", "hers"]


@case("marisa-trie")
def _() -> None:
    import marisa_trie

    trie = marisa_trie.Trie(["atoll", "atom", "ring"])
    assert sorted(trie.keys("ato")) == ["atoll", "atom"] and "at" not in trie


@case("google-re2")
def _() -> None:
    import re2

    assert re2.fullmatch(r"(\d+)-(\w+)", "12-ab").groups() == ("12", "ab")
    try:
        re2.compile("(")
    except re2.error:
        pass
    else:
        raise AssertionError("accepted")


@case("nh3")
def _() -> None:
    import nh3

    assert nh3.clean("<b onclick=x>hi</b><script>1</script>") == "<b>hi</b>"


@case("maxminddb")
def _() -> None:
    import tempfile

    import maxminddb
    import maxminddb.extension

    with tempfile.NamedTemporaryFile(suffix=".mmdb") as file:
        file.write(b"not a database")
        file.flush()
        try:
            maxminddb.open_database(file.name, maxminddb.MODE_MMAP_EXT)
        except maxminddb.InvalidDatabaseError:
            pass
        else:
            raise AssertionError("accepted")


@case("pycryptodome")
def _() -> None:
    from Crypto.Cipher import AES, ChaCha20_Poly1305
    from Crypto.Hash import SHA3_256
    from Crypto.PublicKey import ECC
    from Crypto.Signature import DSS

    cipher = AES.new(b"k" * 32, AES.MODE_GCM, nonce=b"n" * 12)
    data, tag = cipher.encrypt_and_digest(b"secret")
    again = AES.new(b"k" * 32, AES.MODE_GCM, nonce=b"n" * 12)
    assert again.decrypt_and_verify(data, tag) == b"secret"
    assert len(ChaCha20_Poly1305.new(key=b"k" * 32).nonce) == 12
    key, digest = ECC.generate(curve="P-256"), SHA3_256.new(b"signed")
    signature = DSS.new(key, "fips-186-3").sign(digest)
    DSS.new(key.public_key(), "fips-186-3").verify(digest, signature)


@case("hf-xet")
def _() -> None:
    import hf_xet

    # A session is a runtime of threads, which end with it.
    session = hf_xet.XetSession()
    assert session.status() == hf_xet.XetTaskState.Running


@case("frozendict")
def _() -> None:
    from frozendict import frozendict

    small = frozendict(a=1)
    assert small | {"b": 2} == {"a": 1, "b": 2} and hash(small) == hash(frozendict(a=1))


@case("immutables")
def _() -> None:
    import immutables

    small = immutables.Map(a=1)
    with small.mutate() as change:
        change["b"] = 2
        larger = change.finish()
    assert dict(larger) == {"a": 1, "b": 2} and len(small) == 1


@case("lazy-object-proxy")
def _() -> None:
    import lazy_object_proxy

    calls: list[int] = []
    proxy = lazy_object_proxy.Proxy(lambda: calls.append(1) or [3])
    assert not calls and len(proxy) == 1 and calls == [1] and proxy == [3]
