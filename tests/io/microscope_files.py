"""Write small files as microscopes' programs do, where no program here can."""

from __future__ import annotations

import lzma
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import tifffile

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy.typing as npt

DATA = Path(__file__).parent / "data"


def write_nd2(path: Path) -> Path:
    """Unpack the file of a Nikon A1: see ``data/README.md``."""
    path.write_bytes(lzma.decompress((DATA / "cluster.nd2.xz").read_bytes()))
    return path


def write_deltavision(path: Path, planes: npt.NDArray[np.generic], waves: int) -> Path:
    """Write planes in the order WZT (sequence 1), rows bottom up."""
    sections, height, width = planes.shape
    head = bytearray(1024)
    modes = {"i2": 1, "f4": 2, "u2": 6}
    mode = modes[planes.dtype.str[1:]]
    struct.pack_into("<4i", head, 0, width, height, sections, mode)
    struct.pack_into("<3f", head, 40, 0.25, 0.5, 2.0)
    struct.pack_into("<h", head, 96, -16224)
    struct.pack_into("<2h", head, 180, 1, 1)
    struct.pack_into("<h", head, 196, waves)
    path.write_bytes(bytes(head) + planes[:, ::-1].tobytes())
    return path


def write_mrc(path: Path, planes: npt.NDArray[np.float32]) -> Path:
    """Write an MRC of 2014 with an extended header, 5 ångström a pixel."""
    sections, height, width = planes.shape
    head = bytearray(1024 + 64)
    struct.pack_into("<4i", head, 0, width, height, sections, 2)
    struct.pack_into("<3i", head, 28, width, height, sections)
    struct.pack_into("<3f", head, 40, 5.0 * width, 5.0 * height, 5.0 * sections)
    struct.pack_into("<i", head, 92, 64)
    head[208:216] = b"MAP DD\0\0"
    path.write_bytes(bytes(head) + planes[:, ::-1].tobytes())
    return path


def write_lif(path: Path, images: dict[str, npt.NDArray[np.uint16]]) -> Path:
    """Write images of axes TCZYX, or YX; 0.2 µm by 0.1 µm, 0.5 µm along Z."""
    elements, blocks = [], b""
    for number, (name, given) in enumerate(images.items()):
        pixels = np.ascontiguousarray(given)
        elements.append(_lif_element(name, f"MemBlock_{number}", pixels))
        label = f"MemBlock_{number}"
        blocks += struct.pack("<IIBQBI", 0x70, 0, 0x2A, pixels.nbytes, 0x2A, len(label))
        blocks += label.encode("utf-16-le") + pixels.tobytes()
    xml = (
        '<LMSDataContainerHeader Version="2"><Element Name="Project"><Children>'
        f"{''.join(elements)}</Children></Element></LMSDataContainerHeader>"
    ).encode("utf-16-le")
    head = struct.pack("<IIBI", 0x70, len(xml) + 5, 0x2A, len(xml) // 2)
    path.write_bytes(head + xml + blocks)
    return path


def _lif_element(name: str, block: str, pixels: npt.NDArray[np.uint16]) -> str:
    letters = "TCZYX"[-pixels.ndim :]
    strides = dict(zip(letters, pixels.strides, strict=True))
    steps = {"X": 1e-7, "Y": 2e-7, "Z": 5e-7, "T": 3.0}
    lengths = dict(zip(letters, pixels.shape, strict=True))
    channels = "".join(
        f'<ChannelDescription DataType="0" ChannelTag="0" Resolution="12" Min="0" '
        f'NameOfMeasuredQuantity="" Max="4095" Unit="" LUTName="{color}" BitInc="0" '
        f'IsLUTInverted="0" BytesInc="{k * strides.get("C", 0)}"/>'
        for k, color in enumerate(("Blue", "Green")[: lengths.get("C", 1)])
    )
    dimensions = "".join(
        f'<DimensionDescription DimID="{"XYZT".index(axis) + 1}" Origin="0" '
        f'NumberOfElements="{lengths[axis]}" Unit="{"s" if axis == "T" else "m"}" '
        f'Length="{steps[axis] * (lengths[axis] - 1)}" BytesInc="{strides[axis]}" '
        f'BitInc="0"/>'
        for axis in "XYZT"
        if axis in lengths
    )
    return (
        f'<Element Name="{name}"><Data><Image><ImageDescription><Channels>{channels}'
        f"</Channels><Dimensions>{dimensions}</Dimensions></ImageDescription></Image>"
        f'</Data><Memory Size="{pixels.nbytes}" MemoryBlockID="{block}"/></Element>'
    )


def write_oif(path: Path, pixels: npt.NDArray[np.uint16]) -> Path:
    """Write channels and planes, CZYX, as a TIFF each beside the settings."""
    folder = path.with_name(f"{path.name}.files")
    folder.mkdir()
    for c, z in np.ndindex(pixels.shape[:2]):
        tifffile.imwrite(folder / f"s_C{c + 1:03}Z{z + 1:03}.tif", pixels[c, z])
    axes = "".join(
        f'[Axis {k} Parameters Common]\r\nAxisCode="{axis}"\r\nMaxSize={n}\r\n'
        f'Interval={1000 if axis == "Z" else 0}\r\nUnitName="nm"\r\n'
        for k, (axis, n) in enumerate(zip("XYCZ", pixels.shape[::-1], strict=True))
    )
    names = "".join(
        f'[GUI Channel {k} Parameters]\r\nCH Name="CH{k}"\r\nDyeName="{dye}"\r\n'
        for k, dye in enumerate(("DAPI", "Alexa Fluor 488"), 1)
    )
    text = (
        '[Version Info]\r\nFileVersion="1.2.6.0"\r\n'
        '[ProfileSaveInfo]\r\nName="test"\r\nVersion="1.0"\r\n'
        f'[Axis Parameter Common]\r\nAxisOrder="XYCZ"\r\n{axes}{names}'
        '[Reference Image Parameter]\r\nWidthConvertValue=0.25\r\nWidthUnit="um"\r\n'
        'HeightConvertValue=0.5\r\nHeightUnit="um"\r\nValidBitCounts=12\r\n'
    )
    path.write_bytes(b"\xff\xfe" + text.encode("utf-16-le"))
    return path


def write_imaris(
    path: Path, pixels: npt.NDArray[np.uint16], names: Sequence[str], levels: int = 1
) -> Path:
    """Write TCZYX in padded chunks, of an extent in nanometers: 200, 100, 50.

    Each further level has every second row and column of the one before.
    """
    import h5py

    def text(value: object) -> npt.NDArray[np.bytes_]:
        return np.array([c.encode() for c in str(value)])

    times, channels, *shape = pixels.shape
    with h5py.File(path, "w") as file:
        image = file.create_group("DataSetInfo/Image").attrs
        image["Unit"] = text("nm")
        for k, (n, step) in enumerate(zip(shape[::-1], (50, 100, 200), strict=True)):
            image[f"ExtMin{k}"], image[f"ExtMax{k}"] = text(0.0), text(n * step)
        for c, name in enumerate(names):
            file.create_group(f"DataSetInfo/Channel {c}").attrs["Name"] = text(name)
        for level, t, c in np.ndindex(levels, times, channels):
            at = f"DataSet/ResolutionLevel {level}/TimePoint {t}/Channel {c}"
            group = file.create_group(at)
            plane = pixels[t, c, :, :: 2**level, :: 2**level]
            padded = np.pad(plane, [(0, 2), (0, 3), (0, 4)])
            group.create_dataset("Data", data=padded, chunks=(2, 8, 8), compression=2)
            for axis, n in zip("ZYX", plane.shape, strict=True):
                group.attrs[f"ImageSize{axis}"] = text(n)
    return path
