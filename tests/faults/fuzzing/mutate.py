"""Mutations that know the structure of what they change."""

from __future__ import annotations

import copy
import io
import json
import re
import struct
import zlib
from collections.abc import Callable
from typing import Any

import numpy as np
import tifffile

from tests.faults.fuzzing import seeds

Rng = np.random.Generator
NUMBERS = (0, 1, 2, 3, 7, 8, 15, 16, 17, 32, 255, 256, 65535, 2**31 - 1, 2**32 - 1)
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 1, 1.5, -1e9, 1e308, 2**40, 10**30, float("nan")),
    *(float("inf"), "", "x", "../../x", "\u0000", "\ud800", "😀" * 50, [], {}),
    *([[]], [[[0, 0]]], {"type": "Polygon"}, [1, 2, 3], "9" * 400),
)


def pick(rng: Rng, items: Any) -> Any:
    """Return one of some items."""
    return items[int(rng.integers(len(items)))]


def scrambled(content: bytes, rng: Rng, start: int = 0, most: int = 4) -> bytes:
    """Change a few bytes from `start` on, cut, repeat or leave out a part."""
    data = bytearray(content)
    if len(data) <= start + 2:
        return bytes(data)
    how = rng.random()
    place = int(rng.integers(start, len(data)))
    if how < 0.75:
        for _ in range(int(rng.integers(1, most + 1))):
            place = int(rng.integers(start, len(data)))
            data[place] = pick(rng, (0, 255, data[place] ^ 1 << int(rng.integers(8))))
        return bytes(data)
    length = int(rng.integers(1, 40))
    if how < 0.85:
        return bytes(data[:place])
    if how < 0.93:
        return bytes(data[:place] + data[place : place + length] + data[place:])
    return bytes(data[:place] + data[place + length :])


class _Entries:
    """Where the entries of a TIFF's directories lie."""

    def __init__(self, content: bytes) -> None:
        self.order = "<" if content[:2] == b"II" else ">"
        self.big = content[2:4] in (b"+\0", b"\0+")
        word = self.order + ("Q" if self.big else "I")
        count, size = (self.order + "Q", 20) if self.big else (self.order + "H", 12)
        self.entries: list[int] = []
        self.nexts: list[int] = []
        offset = struct.unpack_from(word, content, 8 if self.big else 4)[0]
        while offset:
            number = struct.unpack_from(count, content, offset)[0]
            first = offset + struct.calcsize(count)
            self.entries += [first + size * k for k in range(number)]
            self.nexts.append(first + size * number)
            offset = struct.unpack_from(word, content, self.nexts[-1])[0]


HARMLESS = {270, 282, 283, 296, 305, 306}
"""Tags that say nothing of pixels."""


def tiff(rng: Rng) -> bytes:
    """A TIFF: tags, types, counts, values, chains of directories, pixels."""
    content = bytearray(pick(rng, seeds.tiffs()))
    found = _Entries(bytes(content))
    end = max(found.nexts) if rng.random() < 0.5 else 16
    how = rng.random()
    if how < 0.4:
        return scrambled(bytes(content), rng, min(end, len(content) - 8))
    for _ in range(int(rng.integers(1, 3))):
        _change_entry(content, found, rng)
    return bytes(content)


def codecs(rng: Rng) -> bytes:
    """A TIFF whose compressed pixels alone are changed, for its decoder to meet."""
    content = pick(rng, seeds.codecs())
    with tifffile.TiffFile(io.BytesIO(content)) as tiff:
        page = tiff.pages.first
        index = int(rng.integers(len(page.dataoffsets)))
        first, count = page.dataoffsets[index], page.databytecounts[index]
    changed = scrambled(content[first : first + count], rng, most=8)
    # As long as it was, so that nothing else moves.
    changed = changed[:count].ljust(count, b"\0")
    return content[:first] + changed + content[first + count :]


def _change_entry(content: bytearray, found: _Entries, rng: Rng) -> None:
    word = found.order + ("Q" if found.big else "I")
    width = struct.calcsize(word)
    limit = 2 ** (8 * width) - 1
    place = pick(rng, found.entries)
    how = rng.random()
    if how < 0.1:
        target = pick(rng, (0, 8, place, len(content), *found.nexts, *found.entries))
        struct.pack_into(word, content, pick(rng, found.nexts), target)
    elif how < 0.2:
        struct.pack_into(found.order + "H", content, place + 2, int(rng.integers(20)))
    elif how < 0.3:
        number = pick(rng, (*NUMBERS, limit))
        struct.pack_into(word, content, place + 4, min(number, limit))
    elif how < 0.4:
        tag = struct.unpack_from(found.order + "H", content, place)[0]
        other = pick(rng, (tag + 1, 259, 317, 330, 338, 339, 347, 50838))
        struct.pack_into(found.order + "H", content, place, other)
    else:
        value = struct.unpack_from(word, content, place + 4 + width)[0]
        number = pick(rng, (*NUMBERS, value + 1, value - 1, value * 2, len(content)))
        small = struct.unpack_from(found.order + "H", content, place + 2)[0] == 3
        kind = found.order + "H" if small and rng.random() < 0.8 else word
        top = 2 ** (8 * struct.calcsize(kind)) - 1
        struct.pack_into(kind, content, place + 4 + width, number % (top + 1))


def _chunks(content: bytes) -> list[tuple[bytes, bytes]]:
    found, place = [], 8
    while place < len(content):
        length = struct.unpack_from(">I", content, place)[0]
        kind = content[place + 4 : place + 8]
        found.append((kind, content[place + 8 : place + 8 + length]))
        place += 12 + length
    return found


def png(rng: Rng) -> bytes:
    """A PNG: fields of its header, chunks, and the stream within, checksums right."""
    content = pick(rng, seeds.pngs())
    if rng.random() < 0.15:
        return scrambled(content, rng, 8)
    chunks = _chunks(content)
    index = int(rng.integers(len(chunks)))
    kind, data = chunks[index]
    how = rng.random()
    if kind == b"IHDR" and how < 0.8:
        head = bytearray(data)
        place = int(rng.integers(13))
        head[place] = pick(rng, (0, 1, 2, 3, 4, 6, 8, 16, 255))
        chunks[index] = kind, bytes(head)
    elif kind == b"IDAT" and how < 0.8:
        raw = scrambled(zlib.decompress(data), rng)
        packed = zlib.compress(raw)
        chunks[index] = kind, packed if how < 0.5 else scrambled(data, rng)
    elif how < 0.5:
        extra = pick(rng, (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"acTL", b"abcd"))
        chunks.insert(index, (extra, rng.bytes(int(rng.integers(20)))))
    elif how < 0.75:
        chunks.insert(index, chunks[index])
    else:
        del chunks[index]
    parts = [content[:8]]
    for name, body in chunks:
        check = zlib.crc32(name + body)
        parts.append(struct.pack(">I", len(body)) + name + body)
        parts.append(struct.pack(">I", check))
    return b"".join(parts)


TEXTS = ("", "0", "-1", "1e9", "999999999999", "x" * 300, "&amp;", "µ", "XYTZC", "nan")


def ome(rng: Rng) -> bytes:
    """OME-XML: values of attributes, attributes and elements left out or doubled."""
    text = seeds.OME
    for _ in range(int(rng.integers(1, 3))):
        values = list(re.finditer(r'="([^"]*)"', text))
        how = rng.random()
        if how < 0.6 and values:
            found = pick(rng, values[2:] or values)
            new = pick(rng, (*TEXTS, *(str(n) for n in NUMBERS)))
            text = f"{text[: found.start(1)]}{new}{text[found.end(1) :]}"
        elif how < 0.8:
            found = pick(rng, list(re.finditer(r" \w+=\"[^\"]*\"", text)) or [None])
            if found:
                text = text[: found.start()] + text[found.end() :]
        elif how < 0.9:
            tags = list(re.finditer(r"<(Channel|TiffData)[^>]*/>", text))
            if tags:
                found = pick(rng, tags)
                again = found.group() * int(rng.integers(0, 4))
                text = text[: found.start()] + again + text[found.end() :]
        else:
            text = scrambled(text.encode(), rng, 60).decode("utf-8", "replace")
    return seeds.ome_tiff(text.replace("\0", ""))


def rois(rng: Rng) -> bytes:
    """A ROI set: fields and coordinates of its entries, or the zip itself."""
    entries = seeds.rois()
    index = int(rng.integers(len(entries)))
    name, content = entries[index]
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        place = int(rng.integers(4, len(data) // 2)) * 2
        number = pick(rng, (0, 1, 255, 32767, 65535, int(rng.integers(65536))))
        struct.pack_into(">H", data, min(place, len(data) - 2), number)
    entries[index] = (name, bytes(data))
    packed = seeds.zipped(entries)
    return scrambled(packed, rng) if rng.random() < 0.2 else packed


def _nodes(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path]
    if isinstance(value, dict | list):
        keys = value if isinstance(value, dict) else range(len(value))
        for key in keys:
            found += _nodes(value[key], (*path, key))
    return found


def changed(document: Any, rng: Rng) -> Any:
    """Replace, leave out or repeat parts of a document of JSON."""
    document = copy.deepcopy(document)
    for _ in range(int(rng.integers(1, 3))):
        path = pick(rng, _nodes(document)[1:] or [()])
        if not path:
            break
        parent = document
        for key in path[:-1]:
            parent = parent[key]
        how = rng.random()
        if how < 0.7:
            parent[path[-1]] = copy.deepcopy(pick(rng, VALUES))
        elif how < 0.85:
            del parent[path[-1]]
        elif isinstance(parent, list):
            parent.insert(path[-1], copy.deepcopy(parent[path[-1]]))
    return document


def json_of(kind: str) -> Callable[[Rng], bytes]:
    """Return the mutator of one kind of JSON document."""

    def mutated(rng: Rng) -> bytes:
        content = seeds.encoded(changed(seeds.documents(kind), rng))
        return scrambled(content, rng) if rng.random() < 0.15 else content

    return mutated


def safetensors(rng: Rng) -> bytes:
    """Weights: their header, the card within it, and the values."""
    content = seeds.weights()
    length = struct.unpack_from("<Q", content)[0]
    header, values = json.loads(content[8 : 8 + length]), content[8 + length :]
    how = rng.random()
    if how < 0.1:
        return scrambled(content, rng)
    if how < 0.35:
        values = scrambled(values, rng)[: len(values)].ljust(len(values), b"\xff")
    elif how < 0.7:
        card = json.loads(header["__metadata__"]["cellunet"])
        header["__metadata__"]["cellunet"] = json.dumps(changed(card, rng))
    else:
        header = changed(header, rng)
    text = seeds.encoded(header)
    return struct.pack("<Q", len(text)) + text + values


def lists(rng: Rng) -> bytes:
    """A list of inputs, one a line; the worker puts the folder in place of ``@``."""
    lines = [b"@/a.tif", b"@/b.png", b"@/*.tif", b"@", b"@/sub"]
    odd = (
        *(b"", b"\0", b"@/[", b"@/**/**/**/**/*.tif", b"@/" + b"*a" * 20, b"~"),
        *(b"@/../@", b"@/" + b"x" * 300, b"@/\xff\xfe.tif", b"-", b"--out"),
        *(b"\xef\xbb\xbf@/a.tif", b"@/a.tif\r", b"  @/a.tif  ", b"@/a.tif\0@/b.png"),
        *(
            "@/😀ü.tif".encode(),
            b"@/loop/loop/loop",
            b"$HOME",
            b"@//a.tif",
            b"@/./a.tif",
        ),
    )
    for _ in range(int(rng.integers(1, 4))):
        lines.insert(int(rng.integers(len(lines) + 1)), pick(rng, odd))
    content = b"\n".join(lines)
    return scrambled(content, rng) if rng.random() < 0.3 else content


FORMATS: dict[str, Callable[[Rng], bytes]] = {
    "tiff": tiff,
    "codecs": codecs,
    "png": png,
    "ome": ome,
    "rois": rois,
    "geojson": json_of("geojson"),
    "coco": json_of("coco"),
    "labelme": json_of("labelme"),
    "safetensors": safetensors,
    "list": lists,
}


def mutated(name: str, seed: int, index: int) -> bytes:
    """Return case number `index` of a format, the same each time."""
    words = [seed, index, *name.encode()]
    return FORMATS[name](np.random.default_rng(words))
