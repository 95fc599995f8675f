"""A FastAPI application with one endpoint of each kind that people have."""

import asyncio
import collections
import contextlib
import hashlib
import os
import threading
from collections.abc import AsyncIterator
from typing import Annotated

import numpy as np
from fastapi import BackgroundTasks, FastAPI, Query, Request, Response, UploadFile
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field


class Item(BaseModel):
    """What somebody orders."""

    name: str = Field(min_length=1, max_length=100)
    price: float = Field(gt=0)
    quantity: int = Field(default=1, ge=1)
    tags: list[str] = []


class Receipt(BaseModel):
    """What they are told."""

    name: str
    total: float
    worker: int


@contextlib.asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, object]]:
    """Each worker starts and ends once; what is yielded is in each request's state."""
    yield {"notes": collections.deque(maxlen=100)}


app = FastAPI(title="atoll example", lifespan=lifespan)


def worker() -> int:
    """The number of this interpreter's thread: tells workers apart."""
    return threading.get_native_id()


@app.get("/")
async def hello() -> dict[str, str | int]:
    """Who answers."""
    return {"hello": "world", "process": os.getpid(), "worker": worker()}


@app.post("/items")
async def order(item: Item) -> Receipt:
    """A body that pydantic checks."""
    return Receipt(
        name=item.name, total=round(item.price * item.quantity, 2), worker=worker()
    )


@app.get("/numpy")
async def svd(
    size: Annotated[int, Query(ge=2, le=300)] = 50,
) -> dict[str, float | int]:
    """The largest singular value of a random matrix."""
    matrix = np.random.default_rng(0).random((size, size))
    values = np.linalg.svd(matrix, compute_uv=False)
    return {"size": size, "largest": float(values[0])}


@app.get("/orjson")
async def fast_json() -> Response:
    """An array that orjson writes without making Python numbers of it."""
    import orjson  # here: it has no wheel for free-threaded Python

    body = orjson.dumps(
        {"values": np.arange(100, dtype=np.float64)}, option=orjson.OPT_SERIALIZE_NUMPY
    )
    return Response(body, media_type="application/json")


@app.get("/sync")
def blocking() -> dict[str, str]:
    """A plain function: runs on a thread of this interpreter."""
    return {"thread": threading.current_thread().name}


@app.get("/stream")
async def stream(count: Annotated[int, Query(ge=1, le=1000)] = 10) -> StreamingResponse:
    """Lines that come one after another."""

    async def lines() -> AsyncIterator[str]:
        for number in range(count):
            yield f"line {number}\n"
            await asyncio.sleep(0.01)

    return StreamingResponse(lines(), media_type="text/plain")


@app.post("/upload")
async def upload(file: UploadFile) -> dict[str, str | int | None]:
    """A file, read piece by piece."""
    digest, size = hashlib.sha256(), 0
    while piece := await file.read(1 << 20):
        digest.update(piece)
        size += len(piece)
    return {"name": file.filename, "size": size, "sha256": digest.hexdigest()}


@app.post("/notes")
async def note(text: str, request: Request, tasks: BackgroundTasks) -> dict[str, str]:
    """Done after the answer has gone."""
    tasks.add_task(request.state.notes.append, text)
    return {"status": "accepted"}


@app.get("/notes")
async def notes(request: Request) -> list[str]:
    """The notes that this worker has taken."""
    return list(request.state.notes)
