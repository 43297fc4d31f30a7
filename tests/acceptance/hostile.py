"""What a hostile client sends: paths, values, files and raw bytes. Data only; `service_hostile` sends them."""

from __future__ import annotations

import gzip
import io
import json
import struct
import zipfile
import zlib
from typing import Any

PATHS = (
    "..", "../..", "..%2f..%2f..%2fetc%2fpasswd", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "..%5c..%5cwindows",
    "....//....//etc",
    "%252e%252e%252fetc%252fpasswd", "%c0%ae%c0%ae%2fetc", "/etc/passwd", "%2fetc%2fpasswd",
    "file:%2f%2f%2fetc%2fpasswd",
    "http:%2f%2f127.0.0.1%2f", "%00", "r" + "0" * 24 + "%00", "r" + "0" * 23 + "%0a",
    "r" + "0" * 24 + "%2f..%2f..%2fkeys",
    "a" * 5000, "%ef%bd%92" + "0" * 24, "%f0%9f%92%a5", "%ff%fe", "$(id)", ";id", "%7b%7b7*7%7d%7d", "*", "~", "-1",
    "r" + "%d9%a0" * 24, "R" + "0" * 24, "r" + "0" * 24 + ".dzi", "..;/", ".%2e/", "con", "%2e", "_", "null",
)  # fmt: skip
"""In place of every part of a path that is a parameter."""


def strings(listener: str, secret: str) -> list[str]:
    """Values that would be a place if anything took them for one; `listener` is a URL that must never be asked,
    `secret`
    a file that must never be read."""
    return [
        secret, f"file://{secret}", f"..{secret}", f"../../../../../..{secret}", "/etc/passwd", "/dev/zero",
        "/proc/self/environ",
        f"{listener}/a.png", f"{listener.replace('http', 'ftp')}/a", f"s3://{listener.removeprefix('http://')}/a.zarr",
        "s3://bucket/a.zarr", "http://169.254.169.254/latest/meta-data/", "http://[::1]/", "gopher://127.0.0.1/_x",
        "data:image/png;base64,AAAA", "\\\\host\\share", "a\x00b", "tileset:/etc/passwd", f"tileset:{secret}",
        "${jndi:ldap://x}",
        "__import__('os')", "{{7*7}}", "'; DROP TABLE renders; --", "\u202e", "\ud83d", "ﷺ" * 100, "x" * 20_000, "",
        " ", "\n",
        "r" + "0" * 24, "../" + "r" + "0" * 24, ".", "..", "~", "|id", "NaN", "None", "true",
    ]  # fmt: skip


VALUES: list[str] = [
    "null", "true", "false", "0", "-1", "1e400", "-1e400", "NaN", "Infinity", "-Infinity", "1e-400", "9" * 30,
    "9" * 5000,
    "1.5", '""', '"x"', '"1"', "[]", "[[]]", "[[[[1]]]]", "{}", '{"a":{"a":{}}}', "[null]", "[1,2,3,4]",
    "[1e999,0,0,0]",
    '[{"box":[0,0,1e308,1e308],"prompt":"x"}]', '[{"polygon":[[0,0],[1,1]],"prompt":"x"}]', '{"upload":"x"}',
    '{"render":"../x"}', '{"path":"/etc/passwd"}', '{"upload":{"render":"x"}}', '"\\u0000"', '"\\ud800"',
    '"\\udfff\\ud800"',
    '[{"mask":{"path":"/etc/passwd"},"prompt":"x"}]', '{"\\ud800":1}', '{"__proto__":{"a":1}}',
]  # fmt: skip
"""JSON, in place of every field's value."""


def documents() -> dict[str, bytes]:
    """Whole bodies that are no sensible JSON."""
    deep = 200_000
    return {
        "nothing": b"",
        "space": b"   ",
        "null": b"null",
        "a list": b"[]",
        "a number": b"7",
        "no end": b'{"prompt": "x"',
        "trailing": b'{"prompt": "x"} {"prompt": "y"}',
        "deep lists": b"[" * deep + b"]" * deep,
        "deep objects": b'{"a":' * deep + b"1" + b"}" * deep,
        "deep in a field": b'{"prompt":"x","size":"96x64","regions":' + b"[" * deep + b"]" * deep + b"}",
        "many names": b"{" + b",".join(b'"a%d":1' % n for n in range(60_000)) + b"}",
        "a long name": b'{"' + b"a" * 500_000 + b'":1}',
        "an odd name": b'{"prompt":"x","\\ud800":1}',
        "a name of controls": b'{"prompt":"x","\\u0000\\n\\r":1}',
        "many regions": json.dumps(
            {"prompt": "x", "size": "96x64", "regions": [{"box": [0, 0, 9, 9], "prompt": "x"}] * 9000}
        ).encode(),
        "many corners": json.dumps(
            {
                "prompt": "x",
                "size": "96x64",
                "regions": [{"polygon": [[n, n * n] for n in range(9000)], "prompt": "x"}] * 3,
            }
        ).encode(),
        "digits": b'{"prompt":"x","seed":' + b"9" * 900_000 + b"}",
        "twice": b'{"prompt":"x","prompt":"y","size":"1x1","size":"2x2","model":"../x"}',
        "utf-16": '{"prompt":"x"}'.encode("utf-16"),
        "utf-7": b"+AHsAIg-prompt+ACIAOgAi-x+ACIAfQ-",
        "a mark": b'\xef\xbb\xbf{"prompt":7}',
        "no utf-8": b'{"prompt":"\xff\xfe"}',
        "nul": b'{"prompt":"x\x00"}',
        "gzip": gzip.compress(b'{"prompt":"x"}'),
        "giant": b'{"prompt":"' + b"x" * 3_000_000 + b'"}',
        "xml": b'<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><a>&b;</a>',
        "yaml": b"!!python/object/apply:os.system ['id']",
        "pickle": b"\x80\x04cos\nsystem\n(X\x02\x00\x00\x00idtR.",
    }


def files(listener: str, secret: str) -> dict[str, bytes]:
    """Uploads that are bombs, or no pictures."""
    big = zlib.compress(bytes(2**28), 9)
    rows = zlib.compress(bytes(64 * 193), 9)
    return {
        "png of 2^31 pixels a side": _png(2**31 - 1, 2**31 - 1, b""),
        "png of 50000x50000": _png(50_000, 50_000, zlib.compress(bytes(10_000))),
        "png without pixels": _png(0, 0, b""),
        "png that unpacks to 256 MB": _png(64, 64, big),
        "png with a text of 256 MB": _png(64, 64, rows, _chunk(b"zTXt", b"a\0\0" + big)),
        "png with a profile of 256 MB": _png(64, 64, rows, _chunk(b"iCCP", b"a\0\0" + big)),
        "png with an international text of 256 MB": _png(64, 64, rows, _chunk(b"iTXt", b"a\0\1\0\0\0" + big)),
        "png cut short": _png(64, 64, rows)[:60],
        "png of wrong sums": _png(64, 64, rows).replace(b"IHDR", b"IHDX"),
        "png with 100000 chunks": _png(64, 64, rows, *[_chunk(b"tEXt", b"a\0b")] * 100_000),
        "tiff of 2^30 pixels a side": _tiff(
            {256: 2**30, 257: 2**30, 258: 8, 259: 8, 262: 1, 273: 8, 278: 2**30, 279: 10}
        ),
        "tiff that is a loop": _tiff(
            {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 8, 278: 64, 279: 4096}, following=8
        ),
        "tiff with strips nowhere": _tiff(
            {256: 64, 257: 64, 258: 8, 259: 1, 262: 1, 273: 2**32 - 1, 278: 64, 279: 2**32 - 1}
        ),
        "jpeg of 65535x65535": b"\xff\xd8\xff\xc0\x00\x11\x08\xff\xff\xff\xff\x03\x01\x11\x00\x02\x11\x01\x03\x11\x01"
        + b"\xff\xda"
        + bytes(100),
        "webp of 16384x16384": b"RIFF\x1e\x00\x00\x00WEBPVP8L\x11\x00\x00\x00\x2f\xff\xff\xff\x0f" + bytes(20),
        "gif": b"GIF89a\xff\xff\xff\xff\x80\x00\x00" + bytes(50),
        "svg": f'<svg xmlns="http://www.w3.org/2000/svg"><image href="{listener}/x.png"/><image href="file://{secret}"/></svg>'.encode(),
        "zip bomb": _zip(),
        "gzip bomb": gzip.compress(bytes(2**26), 9),
        "deflate": zlib.compress(bytes(2**26), 9),
        "pdf": b"%PDF-1.4\n" + bytes(100),
        "imagemagick": f"push graphic-context\nimage over 0,0 0,0 '{listener}/x'\npop graphic-context".encode(),
        "vips": b"\xb6\xa6\xf2\x08" + bytes(100),
        "html": b"<script>alert(1)</script>",
        "nothing": b"",
        "one byte": b"\x89",
        "zeros": bytes(100_000),
    }


def raw(host: str, key: str) -> dict[str, bytes]:
    """What goes down a socket as it is."""
    head = f"Host: {host}\r\nAuthorization: Bearer {key}\r\n"
    post = f"POST /v1/renders HTTP/1.1\r\n{head}Content-Type: application/json\r\n"
    get = f"GET /v1/models HTTP/1.1\r\n{head}"
    lines = "".join(f"X-{n}: {'a' * 50}\r\n" for n in range(20_000))
    texts = {
        "no HTTP": "hello\r\n\r\n",
        "binary": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" * 50,
        "HTTP/0.9": "GET /v1/models\r\n\r\n",
        "HTTP/9.9": f"GET /v1/models HTTP/9.9\r\n{head}\r\n",
        "a path with a nul": f"GET /v1/renders/\x00 HTTP/1.1\r\n{head}\r\n",
        "a raw climb": f"GET /v1/renders/../../../../etc/passwd HTTP/1.1\r\n{head}\r\n",
        "a static climb": f"GET /static/../../../../../../etc/passwd HTTP/1.1\r\n{head}\r\n",
        "an encoded static climb": f"GET /static/..%2f..%2f..%2f..%2f..%2fetc%2fpasswd HTTP/1.1\r\n{head}\r\n",
        "an absolute path on static": f"GET /static//etc/passwd HTTP/1.1\r\n{head}\r\n",
        "another host's URL": f"GET http://169.254.169.254/latest HTTP/1.1\r\n{head}\r\n",
        "connect": f"CONNECT 127.0.0.1:22 HTTP/1.1\r\n{head}\r\n",
        "trace": f"TRACE /v1/models HTTP/1.1\r\n{head}\r\n",
        "a made-up method": f"FROBNICATE /v1/renders HTTP/1.1\r\n{head}\r\n",
        "a method of 10000 letters": f"{'G' * 10_000} / HTTP/1.1\r\n{head}\r\n",
        "a long path": f"GET /{'a' * 200_000} HTTP/1.1\r\n{head}\r\n",
        "20000 headers": f"{get}{lines}\r\n",
        "a header of 1 MB": f"{get}X-Long: {'a' * 2**20}\r\n\r\n",
        "a folded header": f"{get}X-A: b\r\n c\r\n\r\n",
        "a header without a name": f"{get}: b\r\n\r\n",
        "a nul in a header": f"{get}X-A: a\x00b\r\n\r\n",
        "a bare line feed": f"{get}X-A: b\nX-B: c\r\n\r\n",
        "no host": "GET /v1/models HTTP/1.1\r\n\r\n",
        "two hosts": f"{get}Host: evil\r\n\r\n",
        "a negative length": f"{post}Content-Length: -5\r\n\r\n",
        "a length that is no number": f"{post}Content-Length: 0x10\r\n\r\n",
        "a length of 10^30": f"{post}Content-Length: {10**30}\r\n\r\n",
        "two lengths": f"{post}Content-Length: 5\r\nContent-Length: 6\r\n\r\n{{}}   ",
        "length and chunks": f"{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x",
        "chunks of no size": f"{post}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n",
        "a chunk of 2^64": f"{post}Transfer-Encoding: chunked\r\n\r\n{'f' * 16}\r\n{{}}",
        "an odd encoding": f"{post}Transfer-Encoding: gzip, chunked, identity\r\n\r\n0\r\n\r\n",
        "an upgrade": f"{get}Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
        "http/2": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "smuggled": f"{post}Content-Length: 2\r\n\r\n{{}}DELETE /v1/renders/x HTTP/1.1\r\n{head}\r\n",
    }
    return {name: text.encode("latin-1") for name, text in texts.items()}


HARMLESS = ("two hosts", "a folded header", "an upgrade", "another host's URL", "HTTP/9.9")
"""Of these, what a server may answer as if nothing was odd."""
HEADERS: list[dict[str, str]] = [
    {"Range": "bytes=" + ",".join(f"{n}-{n + 1}" for n in range(1000))},
    {"Range": "bytes=0-0,-1,2-"},
    {"Range": "bytes=" + "9" * 1000 + "-"},
    {"If-None-Match": ", ".join(f'"{n}"' for n in range(3000))},
    {"If-Range": "x" * 10, "Range": "bytes=0-1"},
    {"Last-Event-ID": "-1"},
    {"Last-Event-ID": "1e9"},
    {"Last-Event-ID": "9" * 500},
    {"Last-Event-ID": "../../x"},
    {"Idempotency-Key": "../../../../tmp/x"},
    {"Idempotency-Key": "a" * 5000},
    {"Idempotency-Key": "\xe9\xff"},
    {"X-HTTP-Method-Override": "DELETE"},
    {"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Host": "evil", "X-Forwarded-Proto": "gopher"},
    {"X-Original-URL": "/v1/stats", "X-Rewrite-URL": "/v1/stats"},
    {"Accept": "../../etc/passwd"},
    {"Content-Type": "application/json; charset=zlib_codec"},
    {"Content-Type": "a" * 5000},
    {"Content-Type": "multipart/form-data; boundary=" + "a" * 5000},
    {"Content-Type": "application/x-www-form-urlencoded"},
    {"Content-Encoding": "gzip"},
    {"Expect": "100-continue"},
    {"Origin": "https://evil.example"},
    {"Cookie": "a=" + "b" * 4000},
    {"Forwarded": "for=127.0.0.1;host=evil"},
]
CREDENTIALS = [
    "", "Bearer", "Bearer ", "Bearer x", "bearer rt_", "Basic cm9vdDpyb290", "Bearer rt_k" + "0" * 24 + "_x",
    "Bearer " + "a" * 8000,
    "Bearer rt_../../keys/x_y", "Bearer \xff\xfe", "Digest x", "Bearer rt_k" + "0" * 24, "Bearer null", "Bearer  a b c",
]  # fmt: skip
QUERIES = [
    "limit=-1", "limit=0", "limit=1e9", "limit=99999999999999999999", "limit=x", "after=../../x", "after=%00",
    "after=" + "a" * 5000,
    "limit=1&limit=2", "limit[]=1", "limit=%F0%9F%92%A5", "format=../../etc/passwd", "format=svg", "format=png%00",
    "partial=maybe",
    "after=-1", "after=99999999999999999999", "after=x", "stream=maybe",
]  # fmt: skip
ZOOMS = [
    "{id}_files/999999999/0_0.png", "{id}_files/-1/0_0.png", "{id}_files/9/99999999999_0.png", "{id}_files/9/-1_0.png",
    "{id}_files/9/0_0.php", "{id}_files/9/../../../etc/passwd", "{id}_files/x/0_0.png", "{id}_files/9/0_0.png%00",
    "{id}_files/1e3/0_0.png",
    "../iiif/{id}/0,0,999999999,999999999/max/0/default.jpg", "../iiif/{id}/full/99999,99999/0/default.jpg",
    "../iiif/{id}/full/^99999,/0/default.png", "../iiif/{id}/pct:0,0,1e9,1e9/max/0/default.jpg",
    "../iiif/{id}/full/max/1e9/default.jpg",
    "../iiif/{id}/full/pct:NaN/0/default.jpg", "../iiif/{id}/-1,-1,9,9/max/0/default.jpg",
    "../iiif/{id}/full/max/0/default.pdf",
    "../iiif/{id}/full/max/0/..%2f..%2fx.jpg", "../iiif/{id}/full/0,0/0/default.jpg",
    "../iiif/{id}/0,0,0,0/max/0/default.jpg",
    "../iiif/{id}/" + "9" * 400 + ",0,1,1/max/0/default.jpg", "../iiif/{id}/full/!0,0/0/default.jpg",
    "../iiif/{id}/full/1000000,1/0/color.webp",
]  # fmt: skip


def forms() -> dict[str, tuple[str, bytes]]:
    """Multipart bodies by name: content type and bytes."""
    part = b'--b\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n'
    found: dict[str, tuple[str, bytes]] = {
        "no boundary": ("multipart/form-data", b"x"),
        "an empty boundary": ("multipart/form-data; boundary=", b"----"),
        "10000 fields": (
            "multipart/form-data; boundary=b",
            b"".join(part % (b"a%d" % n, b"", b"x") for n in range(10_000)) + b"--b--",
        ),
        "10000 files": (
            "multipart/form-data; boundary=b",
            b"".join(part % (b"file", b'; filename="a"', b"x") for _ in range(10_000)) + b"--b--",
        ),
        "a large field": ("multipart/form-data; boundary=b", part % (b"prompt", b"", b"x" * 200_000) + b"--b--"),
        "a name that climbs": (
            "multipart/form-data; boundary=b",
            part % (b"file", b'; filename="../../../../tmp/evil"', b"x") + b"--b--",
        ),
        "a header of 1 MB": ("multipart/form-data; boundary=b", b"--b\r\nX: " + b"a" * 2**20 + b"\r\n\r\nx\r\n--b--"),
        "5000 headers": ("multipart/form-data; boundary=b", b"--b\r\n" + b"X: a\r\n" * 5000 + b"\r\nx\r\n--b--"),
        "no end": ("multipart/form-data; boundary=b", part % (b"file", b'; filename="a"', b"x" * 1000)),
        "nested": (
            "multipart/form-data; boundary=b",
            b'--b\r\nContent-Disposition: form-data; name="file"\r\nContent-Type: multipart/mixed; boundary=c\r\n\r\n'
            b"--c\r\n\r\nx\r\n--c--\r\n--b--",
        ),
        "an odd charset": (
            "multipart/form-data; boundary=b; charset=../../x",
            part % (b"prompt", b"", b"\xff") + b"--b--",
        ),
        "an odd disposition": (
            "multipart/form-data; boundary=b",
            b"--b\r\nContent-Disposition: attachment; name*=UTF-8''%ff\r\n\r\nx\r\n--b--",
        ),
        "a field for a file": (
            "multipart/form-data; boundary=b",
            part % (b"image", b"", b"/etc/passwd") + part % (b"prompt", b"", b"x") + b"--b--",
        ),
    }
    return found


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _png(width: int, height: int, packed: bytes, *more: bytes) -> bytes:
    header = _chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + b"".join(more) + _chunk(b"IDAT", packed) + _chunk(b"IEND", b"")


def _tiff(tags: dict[int, int], following: int = 0) -> bytes:
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in sorted(tags.items()))
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + struct.pack("<I", following) + bytes(64)


def _zip() -> bytes:
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as made:
        for number in range(10):
            made.writestr(f"../../{number}", bytes(2**22))
    return held.getvalue()


def wishes() -> dict[str, Any]:
    """A wish that is fine."""
    return {"prompt": "x", "size": "96x64", "steps": 1}
