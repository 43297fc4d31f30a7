"""Photo Sphere XMP: what tells viewers that a picture is a whole sphere.

Fields: Google, "Photo Sphere XMP Metadata" (developers.google.com/streetview/spherical-metadata).
Packet: ISO 16684-1; in a PNG: XMP specification part 3 (Adobe, 2020)."""

from __future__ import annotations

import struct
import zlib

from raytile.plan.request import RenderRequest

NAMESPACE = "http://ns.google.com/photos/1.0/panorama/"
PNG_HEADER = 8 + 25  # bytes of a PNG before its second chunk


def is_sphere(request: RenderRequest) -> bool:
    """Whether the picture of this request is an equirectangular map of a whole sphere."""
    around = request.wrap == "x" and request.width == 2 * request.height and request.topology == "flat"
    return request.topology == "equirectangular" or (around and request.tileset is None)


def packet(width: int, height: int) -> bytes:
    """The XMP packet of an equirectangular picture that shows all of the sphere."""
    fields = {
        "ProjectionType": "equirectangular",
        "UsePanoramaViewer": "True",
        "FullPanoWidthPixels": width,
        "FullPanoHeightPixels": height,
        "CroppedAreaImageWidthPixels": width,
        "CroppedAreaImageHeightPixels": height,
        "CroppedAreaLeftPixels": 0,
        "CroppedAreaTopPixels": 0,
    }
    lines = "\n".join(f"   <GPano:{name}>{value}</GPano:{name}>" for name, value in fields.items())
    return f"""<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:GPano="{NAMESPACE}">
{lines}
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()


def chunk(packet: bytes) -> bytes:
    """The packet as a chunk of a PNG: international text, not compressed."""
    data = b"iTXtXML:com.adobe.xmp" + bytes(5) + packet
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
