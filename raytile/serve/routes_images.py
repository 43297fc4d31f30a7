"""OpenAI's image endpoints, for its clients: pictures made and edited while they wait, and the list of models."""

from __future__ import annotations

import json
import secrets
import time
from base64 import b64encode
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

import anyio
from fastapi import APIRouter, Path, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel

from raytile.errors import InvalidRequest, RaytileError
from raytile.scenes import parse_size
from raytile.serve import edits
from raytile.serve.access import Painter, Reader, TheDesk, answers
from raytile.serve.bodies import form
from raytile.serve.checking import CHECKERS
from raytile.serve.errors import BadRequest, Unprocessable, WrongKind, body, served
from raytile.serve.exports import EXPORTERS, Export, Exports
from raytile.serve.images import (
    EditAsk,
    GenerateAsk,
    ImageAsk,
    asked,
    base64_of,
    check_answer,
    check_model,
    usage,
)
from raytile.serve.partial import Partials
from raytile.serve.party import Left, Party, while_there
from raytile.serve.records import Record
from raytile.serve.routes_content import exports_of
from raytile.serve.schemas import Size
from raytile.serve.sse import EventStream, streamed

router = APIRouter(prefix="/v1", tags=["OpenAI"])
FORM = 256 * 2**10
Begin = Callable[[], Awaitable[list[str]]]
After = Callable[[Record], Awaitable[None]]


class Model(BaseModel):
    """A model, as OpenAI's clients list it."""

    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "raytile"


class Models(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class ImageData(BaseModel):
    """A picture: in base64, or where it is (the API key opens it)."""

    b64_json: str | None = None
    url: str | None = None


class TokenUsage(BaseModel):
    """What the pictures cost: `output_tokens` are evaluations of the network."""

    input_tokens: int
    output_tokens: int
    total_tokens: int
    input_tokens_details: dict[str, int]
    output_tokens_details: dict[str, int]


class Images(BaseModel):
    created: int
    data: list[ImageData]
    output_format: Literal["png", "jpeg", "webp"]
    size: Size
    quality: str | None = None
    background: Literal["opaque"] = "opaque"
    usage: TokenUsage


def _schema(kind: type[BaseModel], **more: Any) -> dict[str, Any]:
    found = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    found.pop("$defs", None)
    found["properties"].update(more)
    found["required"] = [*found["required"], *(name for name in more if name == "image")]
    return found


BINARY = {"type": "string", "format": "binary"}
ASKED = {"requestBody": {"required": True, "content": {"application/json": {"schema": _schema(GenerateAsk)}}}}
FILES: dict[str, Any] = {"image": BINARY, "mask": BINARY}
SENT = {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": _schema(EditAsk, **FILES)}}}}


def _done(kind: str) -> dict[int | str, dict[str, Any]]:
    names = (f"{kind}.partial_image", f"{kind}.completed", "error")
    return {
        200: {
            "model": Images,
            "description": f"The pictures; with stream, events: {' and '.join(names[:2])}, each with b64_json.",
            "content": streamed(names, numbered=False),
        }
    }


@router.get("/models", responses=answers())
def list_models(desk: TheDesk, who: Reader) -> Models:  # noqa: ARG001 (whoever may read)
    """The models that can be asked for; the first is the default."""
    return Models(data=[Model(id=name) for name in desk.settings.models])


@router.get("/models/{id}", responses=answers(404))
def get_model(id: Annotated[str, Path(max_length=64)], desk: TheDesk, who: Reader) -> Model:  # noqa: ARG001 (whoever may read)
    """A model."""
    check_model(id, desk.settings)
    return Model(id=id)


@router.post(
    "/images/generations",
    response_class=Response,
    openapi_extra=ASKED,
    responses={**_done("image_generation"), **answers(404, 409, 429)},
)
async def generate(request: Request, desk: TheDesk, who: Painter) -> Response:
    """Make pictures, of any size, and wait for them. A client that leaves calls them off."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise WrongKind("send JSON, with the header Content-Type: application/json", "Content-Type")
    ask = asked(GenerateAsk, _json(await request.body()))
    wishes = ask.wishes(desk.settings, _seed(ask))
    width, height = _sides(str(wishes[0].size))
    check_answer(ask, width, height)
    party = Party(desk, who.owner)

    for wish in wishes:  # what is refused is refused before the first event
        await party.take(partial(desk.submit, who.owner, wish))

    async def begin() -> list[str]:
        return party.ids

    return await _answered(request, party, ask, "image_generation", begin, _nothing)


@router.post(
    "/images/edits",
    response_class=Response,
    openapi_extra=SENT,
    responses={**_done("image_edit"), **answers(404, 409, 429)},
)
async def edit(request: Request, desk: TheDesk, who: Painter) -> Response:
    """Paint an image anew, as a whole or where `mask` is transparent; outside the mask not a pixel changes."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise WrongKind("send the image as multipart/form-data", "Content-Type")
    async with form(request, 2 * desk.settings.max_upload + FORM, files=17) as parts:
        for name in (*parts.fields, *parts.files):
            if name in parts.fields and (len(parts.fields[name]) > 1 or name in FILES):
                raise BadRequest(f"{name}: must be {'a file' if name in FILES else 'given once'}", name[:60])
            if name in parts.files and name not in (*FILES, "image[]"):
                raise BadRequest(f"{name}: must be no file", name[:60])
        ask = asked(EditAsk, {name: values[0] for name, values in parts.fields.items()})
        check_model(ask.model, desk.settings)
        images = [*parts.files.get("image", ()), *parts.files.get("image[]", ())]
        if not images:
            raise BadRequest("image: missing: send the image as a file", "image")
        mask = parts.files.get("mask", [None])[0]
        wanted = await anyio.to_thread.run_sync(
            partial(edits.prepared, desk, who.owner, ask, images[0], mask), limiter=CHECKERS
        )
    party, exports = Party(desk, who.owner), exports_of(desk)
    clean_up = partial(edits.clean_up, party, wanted)
    try:
        check_answer(ask, wanted.width, wanted.height)
        await edits.begin(party, wanted, _seed(ask))
    except BaseException:
        await clean_up()
        raise
    go_on, finish = partial(edits.go_on, party, wanted, _seed(ask)), partial(edits.finish, party, exports, wanted)
    return await _answered(request, party, ask, "image_edit", go_on, finish, clean_up)


async def _nothing(*_: object) -> None:
    return None


async def _answered(
    request: Request,
    party: Party,
    ask: ImageAsk,
    kind: str,
    begin: Begin,
    finish: After,
    clean_up: Callable[[], Awaitable[None]] = _nothing,
) -> Response:
    """The answer to an ask: `begin` gives the ids of its renders, `finish` is done with each that is finished, and
    `clean_up` in the end, whatever that is."""
    exports = exports_of(party.desk)
    if ask.stream:
        told = _told(party, ask, kind, begin, finish, exports)

        async def gone() -> None:
            await party.call_off()
            await clean_up()

        async def stream() -> AsyncIterator[bytes | None]:
            try:
                async for piece in told:
                    yield piece
                await clean_up()
            except RaytileError as error:
                await gone()
                yield b"event: error\ndata: " + json.dumps(body(served(error))).encode() + b"\n\n"

        return EventStream(stream(), gone, write=bytes)

    async def work() -> list[Record]:
        records = []
        for id in await begin():
            records.append(await party.finished(id))
            await finish(records[-1])
        return records

    try:
        records = await while_there(request, party, work)
        return await _whole(request, party, ask, records, exports)
    except Left:
        return JSONResponse(body(BadRequest("the client left")), 400)
    finally:
        await clean_up()


async def _whole(request: Request, party: Party, ask: ImageAsk, records: list[Record], exports: Exports) -> Response:
    first = records[0].request
    about = {
        "created": int(time.time()),
        "output_format": ask.format,
        "size": f"{first.width}x{first.height}",
        "background": "opaque",
        "usage": usage(records),
    }
    if ask.asked_quality != "auto":
        about["quality"] = ask.asked_quality
    if ask.response_format == "url":
        base = str(request.base_url)
        urls = [f"{base}v1/renders/{record.id}/content?format={ask.format}" for record in records]
        return JSONResponse({**about, "data": [{"url": url} for url in urls]})
    made = [await _export(party, exports, record, ask) for record in records]

    def pieces() -> Iterator[bytes]:
        yield json.dumps(about)[:-1].encode() + b', "data": ['
        for number, export in enumerate(made):
            yield b', {"b64_json": "' if number else b'{"b64_json": "'
            yield from base64_of(export.file)
            yield b'"}'
        yield b"]}"

    return StreamingResponse(pieces(), media_type="application/json", headers={"Cache-Control": "no-store"})


async def _told(
    party: Party, ask: ImageAsk, kind: str, begin: Begin, finish: After, exports: Exports
) -> AsyncIterator[bytes | None]:
    """The stream of events: partial images as they come, and each picture as it is finished."""
    about: dict[str, Any] = {"background": "opaque", "output_format": ask.format, "quality": ask.asked_quality}
    for id in await begin():
        asked_for = (await anyio.to_thread.run_sync(party.desk.records.get, id)).request
        size = f"{asked_for.width}x{asked_for.height}"
        partials = Partials(party.desk, id, ask.partial_images or 0, ask.format, ask.encoding)
        async for event in party.events(id):
            if event is None:
                yield None
            elif (seen := await partials.after(event)) is not None:
                for piece in _event(
                    f"{kind}.partial_image", {**about, "size": size, **partials.about}, [b64encode(seen)]
                ):
                    yield piece
        record = await anyio.to_thread.run_sync(party.desk.records.get, id)
        await finish(record)
        export = await _export(party, exports, record, ask)
        done = {**about, "size": size, "created_at": int(time.time()), "usage": usage([record])}
        for piece in _event(f"{kind}.completed", done, base64_of(export.file)):
            yield piece


def _event(name: str, about: dict[str, Any], picture: Iterable[bytes]) -> Iterator[bytes]:
    """A server-sent event with a picture in base64, in pieces: it need not be held whole."""
    yield f"event: {name}\ndata: ".encode() + json.dumps({"type": name, **about})[:-1].encode() + b', "b64_json": "'
    yield from picture
    yield b'"}\n\n'


async def _export(party: Party, exports: Exports, record: Record, ask: ImageAsk) -> Export:
    canvas = party.desk.records.canvas(record.id)
    whole = partial(exports.whole, record, canvas, ask.format, ask.encoding)
    return await anyio.to_thread.run_sync(whole, limiter=EXPORTERS)  # it waits however long: all is painted


def _json(raw: bytes) -> object:
    """What a body holds; raises `BadRequest`."""
    try:
        return json.loads(raw, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise BadRequest(f"the body is not JSON: {str(error)[:100]}") from None


def _no_number(name: str) -> None:
    raise ValueError(f"{name} is no number")


def _seed(ask: ImageAsk) -> int:
    """As asked for, else another each time, as OpenAI's clients expect it."""
    return secrets.randbelow(2**31) if ask.seed is None else ask.seed


def _sides(text: str) -> tuple[int, int]:
    """Raises `Unprocessable`."""
    try:
        return parse_size(text)
    except InvalidRequest as error:
        raise Unprocessable(str(error), "size") from None
