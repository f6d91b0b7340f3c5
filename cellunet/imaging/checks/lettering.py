"""Small letters on pictures: capitals, digits and a few signs, 5 x 7 pixels each."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    from cellunet.imaging.overlay import Rgb

HEIGHT_PX, WIDTH_PX = 9, 6
"""Of a letter with the space around it."""
# Seven rows of a letter, five pixels each, the leftmost in the highest bit.
_ROWS = {
    "A": "0E11111F111111", "B": "1E11111E11111E", "C": "0E11101010110E",
    "D": "1E11111111111E", "E": "1F10101E10101F", "F": "1F10101E101010",
    "G": "0E11101711110F", "H": "1111111F111111", "I": "0E04040404040E",
    "J": "0702020202120C", "K": "11121418141211", "L": "1010101010101F",
    "M": "111B1515111111", "N": "11111915131111", "O": "0E11111111110E",
    "P": "1E11111E101010", "Q": "0E11111115120D", "R": "1E11111E141211",
    "S": "0F10100E01011E", "T": "1F040404040404", "U": "1111111111110E",
    "V": "11111111110A04", "W": "11111115151B11", "X": "11110A040A1111",
    "Y": "11110A04040404", "Z": "1F01020408101F", "0": "0E11131519110E",
    "1": "040C040404040E", "2": "0E11010204081F", "3": "1F02040201110E",
    "4": "02060A121F0202", "5": "1F101E0101110E", "6": "0608101E11110E",
    "7": "1F010204080808", "8": "0E11110E11110E", "9": "0E11110F01020C",
    ".": "00000000000C0C", "-": "0000001F000000", "_": "0000000000001F",
    ",": "00000000060204", ":": "000C0C000C0C00", "/": "00010204081000",
    "?": "0E110102040004", "+": "0004041F040400",
}  # fmt: skip


def lettered(
    text: str, width_px: int, *, color: Rgb, background: Rgb
) -> npt.NDArray[np.uint8]:
    """Return one line of text as a picture of a given width, cut off where it ends.

    Parameters
    ----------
    text
        Shown in capitals; what is not in the alphabet is a question mark.
    width_px
        Width of the picture.
    color, background
        Red, green and blue.

    Returns
    -------
    ndarray
        (9, `width_px`, 3), uint8.
    """
    picture = np.empty((HEIGHT_PX, width_px, 3), np.uint8)
    picture[:] = background
    for place, letter in enumerate(text.upper()[: max(width_px - 1, 0) // WIDTH_PX]):
        if letter == " ":
            continue
        rows = bytes.fromhex(_ROWS.get(letter, _ROWS["?"]))
        bits = np.unpackbits(np.frombuffer(rows, np.uint8)[:, None], axis=1)[:, 3:]
        left = 1 + place * WIDTH_PX
        picture[1:8, left : left + 5][bits.astype(bool)] = color
    return picture
