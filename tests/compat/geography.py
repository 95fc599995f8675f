"""Shapes, projections and the files that hold them."""

import tempfile
from pathlib import Path

from table import case


@case("shapely")
def _() -> None:
    import shapely

    circle = shapely.Point(0, 0).buffer(1, quad_segs=64)
    assert abs(circle.area - 3.1415) < 1e-2
    assert shapely.from_wkt("POLYGON((0 0,2 0,2 2,0 2,0 0))").intersects(circle)


@case("pyproj")
def _() -> None:
    import pyproj

    to_web = pyproj.Transformer.from_crs(4326, 3857, always_xy=True)
    x, y = to_web.transform(180.0, 0.0)
    assert abs(x - 20_037_508.34) < 0.01 and abs(y) < 1e-6


@case("rtree")
def _() -> None:
    import rtree

    index = rtree.index.Index()
    for i in range(10):
        index.insert(i, (i, i, i + 0.5, i + 0.5))
    assert sorted(index.intersection((2.2, 2.2, 4.1, 4.1))) == [2, 3, 4]


@case("pyogrio", "pyarrow")
def _() -> None:
    import numpy as np
    import pyogrio.raw

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "points.geojson"
        path.write_text(
            '{"type":"FeatureCollection","features":[{"type":"Feature","properties":'
            '{"n":7},"geometry":{"type":"Point","coordinates":[1,2]}}]}'
        )
        meta, _, geometry, fields = pyogrio.raw.read(str(path))
        assert meta["geometry_type"] == "Point"
        assert fields[0].tolist() == [7] and isinstance(geometry, np.ndarray)


@case("fiona")
def _() -> None:
    import fiona

    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder) / "points.gpkg")
        schema = {"geometry": "Point", "properties": {"n": "int"}}
        with fiona.open(path, "w", "GPKG", schema, crs="EPSG:4326") as out:
            point = {"type": "Point", "coordinates": (1.0, 2.0)}
            out.write({"geometry": point, "properties": {"n": 3}})
        with fiona.open(path) as file:
            assert [f["properties"]["n"] for f in file] == [3]
