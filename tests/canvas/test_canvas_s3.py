"""A canvas in a bucket is the canvas it is on disk, and whichever request is the last one, what stands is true."""

from __future__ import annotations

import pickle
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import obstore
import pytest
import zarr
from canvas_parts import SMALL, Cut, Failing, cells, head, owner, pixels
from obstore.exceptions import GenericError
from obstore.store import S3Store
from PIL import Image
from zarr.storage import ObjectStore

from raytile.canvas import bucket as buckets
from raytile.canvas import store
from raytile.canvas.bytes import Bytes, MemoryBytes
from raytile.canvas.canvas import Canvas
from raytile.canvas.claims import ask_cancel, claim
from raytile.canvas.export import export_picture
from raytile.canvas.head import HeadConflict
from raytile.canvas.headstore import HEAD, HeadStore
from raytile.canvas.info import describe
from raytile.canvas.keeper import Committed, Keeper, Trouble
from raytile.canvas.layout import CanvasLayout
from raytile.canvas.patience import Patience
from raytile.canvas.place import bytes_at
from raytile.canvas.s3 import S3Bytes
from raytile.errors import CanvasError
from raytile.geometry.box import Box
from tests.s3 import KEY, SECRET, Server

OTHER = CanvasLayout(width=64, height=64, channels=4, rows=8, columns=8, tile_cells=4, factor=8)


def paint(canvas: Canvas) -> None:
    for tile in range(canvas.layout.tiles):
        canvas.write_image(tile, pixels(canvas.layout, tile))
        canvas.write_latents(tile, cells(canvas.layout, tile))


def keys(url: str) -> set[str]:
    return set(bytes_at(url).sizes())


def test_what_was_written_is_read_back(bucket: str, tmp_path: Path) -> None:
    assert not store.exists(bucket)
    with pytest.raises(CanvasError, match=f"there is no canvas at {bucket}"):
        store.open(bucket)
    canvas = store.create(bucket, SMALL, head())
    assert store.exists(bucket)
    worker = pickle.loads(pickle.dumps(canvas))
    assert not worker.stored(0)
    paint(worker)
    worker.write_snapshot(2, 0, np.stack([cells(SMALL, 0)]))
    assert worker.read_snapshot(2, 0).tobytes() == cells(SMALL, 0).tobytes()
    canvas.commit(lambda found: found.with_tiles(range(SMALL.tiles), 2.0).but(state="finished"))
    canvas.drop_snapshots()
    opened = store.open(bucket)
    assert opened.path == bucket
    assert opened.head().state == "finished"
    local = store.create(tmp_path / "a.zarr", SMALL, head())
    paint(local)
    assert opened.digests() == local.digests()
    np.testing.assert_array_equal(opened.read_latents(Box(1, 9, 2, 7)), local.read_latents(Box(1, 9, 2, 7)))
    with Image.open(export_picture(opened, tmp_path / "a.png")) as picture:
        whole = opened.read_image(Box(0, SMALL.height, 0, SMALL.width))
        np.testing.assert_array_equal(np.asarray(picture), whole.transpose(1, 2, 0))
    facts = describe(opened)
    assert facts["path"] == bucket
    assert facts["bytes_on_disk"] == sum(bytes_at(bucket).sizes().values()) > 90 * 70 * 3
    chunks = {f"{name}/c/0/{y}/{x}" for name in ("image", "latents") for y in range(3) for x in range(3)}
    assert keys(bucket) == {*buckets._metadata(SMALL), HEAD, *chunks}


def test_it_is_a_plain_zarr_group_for_others(bucket: str, s3: Server) -> None:
    paint(store.create(bucket, SMALL, head()))
    plain = S3Store(
        "pictures",
        prefix=bucket.removeprefix("s3://pictures/"),
        endpoint=s3.endpoint,
        access_key_id=KEY,
        secret_access_key=SECRET,
        region="us-east-1",
        client_options={"allow_http": True},
    )
    group: Any = zarr.open_group(ObjectStore(plain), mode="r")
    np.testing.assert_array_equal(group["image"][:, :32, :32], pixels(SMALL, 0))


def test_claim_cancel_and_conflicts(bucket: str) -> None:
    old = store.create(bucket, SMALL, head(state="failed", error="why"))
    mine = claim(bucket, owner("t1", host="node-b", pid=5), clock=time.monotonic, sleep=time.sleep, lease=0.2)
    with pytest.raises(HeadConflict, match="process 5 on node-b"):
        old.commit(lambda found: found)
    assert mine.commit(lambda found: found.but(step=1)).claims == 1
    assert ask_cancel(bucket, clock=time.monotonic, sleep=time.sleep).state == "cancelled"


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("s3://pictures/a", "ends in .zarr: try a.zarr"),
        ("s3://pictures", "does not name a bucket and a key"),
        ("s3:///a.zarr", "does not name a bucket and a key"),
        ("gs://pictures/a.zarr", r"local directory or at s3://BUCKET/NAME\.zarr"),
        ("s3://no-such-bucket-here/a.zarr", "there is no bucket 'no-such-bucket-here': make it first"),
    ],
)
@pytest.mark.usefixtures("s3")
def test_bad_places_are_refused(path: str, message: str) -> None:
    with pytest.raises(CanvasError, match=message):
        store.check(path, SMALL)


def test_one_place_has_one_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert store.where("s3://buck//x///a.zarr/") == store.where(Path("s3://buck/x/a.zarr")) == "s3://buck/x/a.zarr"
    assert store.is_remote("s3://b/a.zarr")
    assert store.is_remote(Path("s3://b/a.zarr"))
    monkeypatch.chdir(tmp_path)
    assert store.where("x/a.zarr") == store.where(tmp_path / "x/a.zarr") == str(tmp_path / "x/a.zarr")
    assert not store.is_remote("s3/a.zarr")


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        ({"AWS_ACCESS_KEY_ID": "unknown"}, r"refused \(InvalidAccessKeyId: .*\): check AWS_ACCESS_KEY_ID"),
        ({"AWS_SECRET_ACCESS_KEY": "wrong"}, r"refused \(SignatureDoesNotMatch: .*AWS_SECRET_ACCESS_KEY"),
        ({"AWS_ACCESS_KEY_ID": None, "AWS_SECRET_ACCESS_KEY": None}, "no AWS credentials: set AWS_ACCESS_KEY_ID"),
        ({"AWS_PROFILE": "nobody"}, "profile .nobody. could not be found: check the AWS_ settings"),
        ({"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}, r"no answer for 0.3 s \(http://127.0.0.1:9: Connection refused\)"),
        ({"AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9"}, r"127.0.0.1:9: Connection refused\): is the store up, .*URL"),
        ({"RAYTILE_STORE_DEADLINE": "soon"}, "RAYTILE_STORE_DEADLINE='soon' is not a number of seconds"),
    ],
)
def test_what_is_set_up_wrong_is_named(
    bucket: str, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str | None], message: str
) -> None:
    for name, value in {"RAYTILE_STORE_DEADLINE": "0.3", **variables}.items():
        if value is None:
            monkeypatch.delenv(name)
        else:
            monkeypatch.setenv(name, value)
    with pytest.raises(CanvasError, match=message) as told:
        store.check(bucket, SMALL)
    assert "\n" not in str(told.value)


def test_a_profile_says_all_that_the_environment_may(
    bucket: str, s3: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name)
    (tmp_path / "config").write_text(f"[profile paint]\nregion = eu-west-1\nendpoint_url = {s3.endpoint}\n")
    (tmp_path / "keys").write_text(f"[paint]\naws_access_key_id = {KEY}\naws_secret_access_key = {SECRET}\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "keys"))
    monkeypatch.setenv("AWS_PROFILE", "paint")
    store.create(bucket, SMALL, head())
    assert store.open(bucket).head() == head()


def test_checking_leaves_nothing(bucket: str) -> None:
    store.check(bucket, SMALL)
    assert keys(bucket) == set()


def test_a_server_that_overwrites_on_if_none_match_is_refused(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(self: S3Bytes, key: str, data: bytes) -> str:
        self.write(key, data)
        return "tag"

    monkeypatch.setattr(S3Bytes, "create", careless)
    with pytest.raises(CanvasError, match="does not keep If-None-Match"):
        store.check(bucket, SMALL)
    assert keys(bucket) == set()


# replacing what is there


def test_overwrite_spares_the_living_and_what_is_no_canvas(bucket: str) -> None:
    store.create(bucket, SMALL, head(owner=owner("t0", host="node-b", pid=9), updated=5000.0))
    with pytest.raises(CanvasError, match="exists: choose another name, or replace it with --overwrite"):
        store.create(bucket, SMALL, head(owner=owner("t1")))
    with pytest.raises(CanvasError, match="by process 9 on node-b: stop that first"):
        store.create(bucket, SMALL, head(owner=owner("t1")), overwrite=True, clock=lambda: 5010.0)
    store.create(bucket, SMALL, head(owner=owner("t1")), overwrite=True, clock=lambda: 5020.0)
    stranger = bucket.replace("a.zarr", "b.zarr")
    bytes_at(stranger).write("letter.txt", b"mine")
    with pytest.raises(CanvasError, match=r"is not a raytile canvas, and holds letter\.txt: it stays"):
        store.create(stranger, SMALL, head(), overwrite=True)
    assert keys(stranger) == {"letter.txt"}
    plain = bucket.replace("a.zarr", "c.zarr")
    zarr.create_group(bytes_at(plain).arrays())
    with pytest.raises(CanvasError, match=r"holds zarr\.json"):
        store.create(plain, SMALL, head(), overwrite=True)


def made(objects: Any, layout: CanvasLayout, token: str) -> bool:
    """Make a canvas with these objects; whether the power stayed on."""
    try:
        buckets.make(objects, layout, head(layout, owner=owner(token)), 3000.0)
    except Cut:
        return False
    return True


@pytest.mark.parametrize(
    ("new_place", "layout", "states"),
    [
        ("local", SMALL, ["t0", "emptied", "t1"]),
        ("local", OTHER, ["t0", "emptied", "-", "t1"]),
        ("s3", OTHER, ["t0", "emptied", "-", "t1"]),
    ],
    indirect=["new_place"],
)
def test_the_power_goes_at_any_request_of_an_overwrite(
    new_place: Callable[[], str], layout: CanvasLayout, states: list[str]
) -> None:
    seen: list[str] = []
    whole = False
    while not whole:
        place = new_place()
        objects = bytes_at(place)
        assert made(objects, SMALL, "t0")
        old = store.open(place)
        old.write_image(4, pixels(SMALL, 4))
        old.write_snapshot(1, 0, np.stack([cells(SMALL, 0)]))
        old.commit(lambda found: found.with_tiles([4], 2.0).but(state="failed", snapshot=1))
        whole = made(Failing(objects, len(seen)), layout, "t1")
        seen.append(what_stands(place, layout))
        assert made(objects, layout, "t2")  # whatever it is, the next try makes the canvas
        assert {*objects.sizes()} == {*buckets._metadata(SMALL), HEAD}
        assert store.open(place).layout == layout
    assert sorted(set(seen), key=seen.index) == states


def what_stands(place: str, layout: CanvasLayout) -> str:
    """Open what is there, and hold its head against it."""
    if not store.exists(place):
        with pytest.raises(CanvasError, match=r"there is no canvas at|is not a raytile canvas"):
            store.open(place)
        return "-"
    canvas = store.open(place)
    found = canvas.head()
    for tile in range(canvas.layout.tiles):
        assert not found.has(tile) or canvas.stored(tile)
    if found.snapshot is not None:
        canvas.read_snapshot(found.snapshot, 0)
    if found.owner.token == "t1" and found.claims == 1:
        assert (found.state, found.done, canvas.layout) == ("running", 0, SMALL)
        return "emptied"
    assert canvas.layout == (layout if found.owner.token == "t1" else SMALL)
    return found.owner.token


def test_the_power_goes_at_any_request_of_a_creation(new_place: Callable[[], str]) -> None:
    seen: list[str] = []
    whole = False
    while not whole:
        place = new_place()
        whole = made(Failing(bytes_at(place), len(seen)), SMALL, "t1")
        seen.append(what_stands(place, SMALL))
        assert made(bytes_at(place), OTHER, "t2")
        assert store.open(place).layout == OTHER
    assert sorted(set(seen), key=seen.index) == ["-", "t1"]


@pytest.mark.parametrize("layouts", [(SMALL, SMALL), (SMALL, OTHER)])
def test_of_two_that_make_a_canvas_at_most_one_succeeds(layouts: tuple[CanvasLayout, CanvasLayout]) -> None:
    """Every interleaving of their requests within a few hundred, drawn at random but always the same."""
    outcomes = set()
    for seed in range(150):
        objects = MemoryBytes()
        winners = race(objects, layouts, random.Random(seed))
        assert len(winners) <= 1
        for winner in winners:
            found, _ = HeadStore(objects).read()
            assert found.owner.token == f"t{winner}"
            wanted = buckets._metadata(layouts[winner])
            assert {key: objects.read(key)[0] for key in wanted} == wanted  # type: ignore[index]
        if not winners:
            assert not objects.exists(HEAD)
        outcomes.add((*winners,))
    assert {(0,), (1,)} <= outcomes


def race(objects: Bytes, layouts: Sequence[CanvasLayout], rng: random.Random) -> list[int]:
    """Two makers take turns, request by request, as `rng` says; who believes to have made the canvas."""
    turns = [threading.Semaphore(0), threading.Semaphore(0)]
    done = threading.Semaphore(0)
    alive, winners = [0, 1], []
    refused: list[Exception] = []

    class Waiting:
        def __init__(self, number: int) -> None:
            self.number, self.where = number, objects.where

        def __getattr__(self, name: str) -> Callable[..., Any]:
            def waiting(*args: Any) -> Any:
                done.release()
                turns[self.number].acquire()
                return getattr(objects, name)(*args)

            return waiting

    def make(number: int) -> None:
        turns[number].acquire()
        try:
            if made(Waiting(number), layouts[number], f"t{number}"):
                winners.append(number)
        except Exception as error:  # told below: an assertion that fails in a thread fails no test
            refused.append(error)
        finally:
            alive.remove(number)
            done.release()

    makers = [threading.Thread(target=make, args=(number,), daemon=True) for number in range(2)]
    for maker in makers:
        maker.start()
    while alive:
        turns[rng.choice(alive)].release()
        done.acquire()
    for maker in makers:
        maker.join()
    assert all(isinstance(error, CanvasError) and "another process" in str(error) for error in refused), refused
    return winners


# answers that are lost, servers that are away


@pytest.fixture
def lossy(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Of each put named here (`heard` or `lost`, in order), the answer does not come."""
    plan: list[str] = []
    put = obstore.put

    def losing(*args: Any, **options: Any) -> Any:
        fate = plan.pop(0) if plan else "fine"
        done = put(*args, **options) if fate != "lost" else None
        if fate != "fine":
            raise GenericError("HTTP error: error sending request")
        return done

    monkeypatch.setattr(obstore, "put", losing)
    return plan


@pytest.mark.parametrize("fates", [["heard"], ["lost"], ["lost", "heard", "lost"]])
def test_a_swap_whose_answer_is_lost_counts(bucket: str, lossy: list[str], fates: list[str]) -> None:
    objects = bytes_at(bucket)
    lossy += fates
    tag = objects.create(HEAD, b"1")
    assert (b"1", tag) == objects.read(HEAD)
    lossy += fates
    tag = objects.swap(HEAD, str(tag), b"2")
    assert (b"2", tag) == objects.read(HEAD)
    assert not lossy


def test_a_swap_whose_answer_is_lost_is_no_one_elses(bucket: str, lossy: list[str]) -> None:
    objects = bytes_at(bucket)
    tag = objects.create(HEAD, b"1")
    assert objects.swap(HEAD, str(tag), b"theirs")
    lossy += ["lost"]
    assert objects.swap(HEAD, str(tag), b"ours") is None
    assert objects.create(HEAD, b"ours") is None


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """While this is set, no connection comes about: obstore's calls fail as they do with the server down."""
    gone = threading.Event()
    for name in ("put", "get", "head", "list", "delete", "put_async", "get_async"):
        call = getattr(obstore, name)

        def unless_gone(*args: Any, call: Callable[..., Any] = call, **options: Any) -> Any:
            if gone.is_set():
                raise GenericError("HTTP error: error sending request for http://127.0.0.1:9/")
            return call(*args, **options)

        monkeypatch.setattr(obstore, name, unless_gone)
    yield gone
    gone.clear()


def test_a_store_that_is_away_for_a_while_costs_time_only(bucket: str, away: threading.Event) -> None:
    canvas = store.create(bucket, SMALL, head())
    away.set()
    threading.Timer(0.6, away.clear).start()
    canvas.write_image(0, pixels(SMALL, 0))
    away.set()
    threading.Timer(0.3, away.clear).start()
    canvas.commit(lambda found: found.with_tiles([0], 2.0))
    canvas.write_snapshot(1, 0, np.stack([cells(SMALL, 0)]))
    assert canvas.stored(0)
    assert canvas.head().has(0)


def test_a_store_that_stays_away_is_told_in_time(bucket: str, away: threading.Event) -> None:
    canvas = store.create(bucket, SMALL, head()).with_patience(Patience(0.3))
    canvas.write_image(0, pixels(SMALL, 0))
    canvas.read_image(Box(0, 8, 0, 8))
    away.set()
    for act, doing in (
        (lambda: canvas.write_image(1, pixels(SMALL, 1)), f"write image of tile 1 to {bucket}"),
        (lambda: canvas.read_image(Box(0, 8, 0, 8)), f"read image of {bucket}"),
        (lambda: canvas.commit(lambda found: found), f"write head.json of {bucket}"),
        (lambda: canvas.read_snapshot(1, 0), f"read snapshots/1/0 of {bucket}"),
        (canvas.drop_snapshots, f"read head.json of {bucket}"),
    ):
        with pytest.raises(CanvasError, match=f"cannot {doing}: no answer for 0.3 s"):
            act()


def test_a_keeper_outlasts_an_outage(bucket: str, away: threading.Event) -> None:
    canvas = store.create(bucket, SMALL, head())
    keeper = Keeper(canvas, period=60.0, clock=lambda: 2000.0)
    try:
        keeper.post(lambda found: found.but(step=1))
        assert keeper.flush(20)
        away.set()
        keeper.post(lambda found: found.but(step=2))
        assert not keeper.flush(0.5)
        keeper.post(lambda found: found.but(step=3))
        away.clear()
        assert keeper.flush(20)
        news = keeper.news()
        assert [each for each in news if isinstance(each, Committed)][-1] == Committed(3)
        (told,) = [each for each in news if isinstance(each, Trouble)]
        assert told.why.startswith("cannot write head.json of s3://")
        assert canvas.head().step == 3
        away.set()
        keeper.post(lambda found: found.but(step=4))
        assert not keeper.flush(0.3)
    finally:
        start = time.monotonic()
        keeper.close()
    assert time.monotonic() - start < 1.0
    assert not keeper._thread.is_alive()
