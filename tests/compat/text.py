"""Serialisation, compression, hashing, mark-up, matching."""

import datetime
import io
import uuid

from table import case

SAMPLE = {"a": [1, 2.5, None, True], "b": {"c": "\u00e9\u4e2d"}, "d": []}


@case("pydantic-core", "pydantic", quick=True)
def _() -> None:
    import pydantic

    class Item(pydantic.BaseModel):
        name: str
        price: float
        tags: list[str] = []

    item = Item.model_validate_json('{"name": "x", "price": "1.5"}')
    assert item.model_dump() == {"name": "x", "price": 1.5, "tags": []}
    try:
        Item(name="x", price="cheap")
    except pydantic.ValidationError as error:
        assert error.errors()[0]["type"] == "float_parsing"
    else:
        raise AssertionError("accepted")


@case("msgspec")
def _() -> None:
    import msgspec

    class Point(msgspec.Struct):
        x: int
        y: float = 0.5

    assert msgspec.json.decode(b'{"x": 3}', type=Point) == Point(3)
    assert msgspec.msgpack.decode(msgspec.msgpack.encode(SAMPLE)) == SAMPLE


@case("orjson", quick=True)
def _() -> None:
    import orjson

    assert orjson.loads(orjson.dumps(SAMPLE)) == SAMPLE
    moment = datetime.datetime(2024, 2, 3, tzinfo=datetime.UTC)
    assert orjson.dumps([moment, uuid.UUID(int=1)]) == (
        b'["2024-02-03T00:00:00+00:00","00000000-0000-0000-0000-000000000001"]'
    )
    try:
        orjson.loads(b"{")
    except orjson.JSONDecodeError:
        pass
    else:
        raise AssertionError("accepted")


@case("ujson")
def _() -> None:
    import ujson

    assert ujson.loads(ujson.dumps(SAMPLE)) == SAMPLE


@case("python-rapidjson")
def _() -> None:
    import rapidjson

    assert rapidjson.loads(rapidjson.dumps(SAMPLE)) == SAMPLE
    rapidjson.Validator('{"type": "array"}')("[1]")


@case("simplejson")
def _() -> None:
    import decimal

    import simplejson

    assert simplejson.loads(simplejson.dumps(SAMPLE)) == SAMPLE
    assert simplejson.loads("1.1", use_decimal=True) == decimal.Decimal("1.1")


@case("cbor2")
def _() -> None:
    import cbor2

    value = SAMPLE | {"when": datetime.datetime(2024, 1, 1, tzinfo=datetime.UTC)}
    assert cbor2.loads(cbor2.dumps(value)) == value


@case("msgpack")
def _() -> None:
    import msgpack

    assert msgpack.unpackb(msgpack.packb(SAMPLE)) == SAMPLE
    unpacker = msgpack.Unpacker()
    unpacker.feed(b"\x01\x02")
    assert list(unpacker) == [1, 2]


@case("protobuf")
def _() -> None:
    from google.protobuf import descriptor_pb2, json_format, struct_pb2
    from google.protobuf.internal import api_implementation

    assert api_implementation.Type() == "upb"
    value = struct_pb2.Struct()
    value.update({"a": 1, "b": ["x", True]})
    again = struct_pb2.Struct.FromString(value.SerializeToString())
    assert json_format.MessageToDict(again) == {"a": 1.0, "b": ["x", True]}
    assert descriptor_pb2.FileDescriptorProto(name="f").name == "f"


@case("lxml", quick=True)
def _() -> None:
    from lxml import etree, html

    root = etree.fromstring("<r><a x='1'/><a x='2'>t</a></r>")
    assert root.xpath("//a[@x='2']/text()") == ["t"]
    count = (
        '<x:transform xmlns:x="http://www.w3.org/1999/XSL/Transform" version="1.0">'
        '<x:template match="/"><n><x:value-of select="count(//a)"/></n></x:template>'
        "</x:transform>"
    )
    style = etree.XSLT(etree.fromstring(count))
    assert str(style(root)).strip().endswith("<n>2</n>")
    assert html.fromstring("<p>hi<br>you").text_content() == "hiyou"
    try:
        etree.fromstring("<a>")
    except etree.XMLSyntaxError:
        pass
    else:
        raise AssertionError("accepted")


@case("selectolax")
def _() -> None:
    from selectolax.lexbor import LexborHTMLParser

    tree = LexborHTMLParser("<div><p class=a>one</p><p>two</p></div>")
    assert tree.css_first("p.a").text() == "one"


@case("regex")
def _() -> None:
    import regex

    assert regex.findall(r"\p{Lu}\w+", "Ab cd \u00c9f") == ["Ab", "\u00c9f"]
    assert regex.fullmatch(r"(?:colour){e<=1}", "color")


@case("rapidfuzz")
def _() -> None:
    from rapidfuzz import fuzz, process
    from rapidfuzz.distance import Levenshtein

    assert Levenshtein.distance("kitten", "sitting") == 3
    assert (
        process.extractOne("aple", ["pear", "apple"], scorer=fuzz.ratio)[0] == "apple"
    )


@case("pyyaml", quick=True)
def _() -> None:
    import yaml

    text = yaml.dump(SAMPLE, Dumper=yaml.CSafeDumper, allow_unicode=True)
    assert yaml.load(text, Loader=yaml.CSafeLoader) == SAMPLE


@case("ruamel.yaml.clib", "ruamel.yaml")
def _() -> None:
    from ruamel.yaml import YAML

    yaml = YAML(typ="safe", pure=False)
    assert yaml.load("a: [1, {b: c}]") == {"a": [1, {"b": "c"}]}
    out = io.StringIO()
    yaml.dump({"a": 1}, out)
    assert out.getvalue().strip() in ("{a: 1}", "a: 1")


@case("markupsafe")
def _() -> None:
    import markupsafe

    assert str(markupsafe.escape("<a & 'b'>")) == "&lt;a &amp; &#39;b&#39;&gt;"


@case("jinja2")
def _() -> None:
    import jinja2

    template = jinja2.Environment(autoescape=True).from_string(
        "{% for i in items %}{{ loop.index }}={{ i }};{% endfor %}"
    )
    assert template.render(items=["<", 2]) == "1=&lt;;2=2;"


@case("zstandard")
def _() -> None:
    import zstandard

    data = b"atoll" * 10_000
    packed = zstandard.ZstdCompressor(level=3).compress(data)
    assert len(packed) < 200 and zstandard.ZstdDecompressor().decompress(packed) == data


@case("lz4")
def _() -> None:
    import lz4.block
    import lz4.frame

    data = b"atoll" * 10_000
    assert lz4.frame.decompress(lz4.frame.compress(data)) == data
    assert lz4.block.decompress(lz4.block.compress(data)) == data


@case("brotli")
def _() -> None:
    import brotli

    data = b"atoll" * 10_000
    assert brotli.decompress(brotli.compress(data)) == data


@case("python-snappy")
def _() -> None:
    import snappy

    data = b"atoll" * 10_000
    assert snappy.uncompress(snappy.compress(data)) == data


@case("xxhash")
def _() -> None:
    import xxhash

    assert xxhash.xxh64(b"").hexdigest() == "ef46db3751d8e999"
    assert xxhash.xxh32(b"a", seed=0).intdigest() == 0x550D7456


@case("blake3")
def _() -> None:
    import blake3

    assert blake3.blake3(b"").hexdigest().startswith("af1349b9f5f9a1a6a0404dea36dcc949")


@case("mmh3")
def _() -> None:
    import mmh3

    assert mmh3.hash("foo") == -156_908_512


@case("fastuuid")
def _() -> None:
    import fastuuid

    assert str(fastuuid.UUID(str(uuid.UUID(int=5)))) == str(uuid.UUID(int=5))
    assert fastuuid.uuid4() != fastuuid.uuid4()


@case("jiter")
def _() -> None:
    import jiter

    assert jiter.from_json(b'{"a": [1, 2.5]}') == {"a": [1, 2.5]}
    assert jiter.from_json(b'{"a": [1, 2', partial_mode=True) == {"a": [1, 2]}


@case("rpds-py")
def _() -> None:
    import rpds

    small = rpds.HashTrieMap({"a": 1})
    assert dict(small.insert("b", 2)) == {"a": 1, "b": 2} and dict(small) == {"a": 1}
    assert list(rpds.List([1, 2]).push_front(0)) == [0, 1, 2]


@case("pendulum")
def _() -> None:
    import pendulum

    later = pendulum.datetime(2024, 1, 31, tz="Europe/Paris").add(months=1)
    assert later.to_iso8601_string() == "2024-02-29T00:00:00+01:00"
    assert pendulum.parse("2024-05-06T07:08:09Z").day == 6


@case("ciso8601")
def _() -> None:
    import ciso8601

    assert ciso8601.parse_datetime("2024-05-06T07:08:09Z").hour == 7
