"""Say that an image looks unlike a model's training images, and what to do about it.

Each check holds one number of `cellunet.imaging.appearance.Appearance` against the
percentiles of the training images, with a margin beyond the 5th or 95th, because a few
training images of their own kind must not hide what lies beyond the many, and because
a model works a little beyond what it has seen. How often the checks are right and wrong
is counted in ``docs/report.md``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cellunet.imaging.appearance import PERCENTILES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cellunet.imaging.appearance import Appearance

LOW, HIGH = PERCENTILES.index(5), PERCENTILES.index(95)
CONTRAST_FACTOR = 0.4
LEVEL_MARGIN = 0.15
SHARPNESS_MARGIN = 0.02
DIAMETER_FACTOR = 1.25
UNCERTAIN_MARGIN = 0.15
FEWEST_UNCERTAIN = 3
"""One or two uncertain objects in an image of three are no sign of anything."""


def compare(
    image: Appearance,
    known: Mapping[str, Sequence[float]],
    *,
    learned_px: tuple[float, float] | None,
    magnification: float = 1.0,
) -> tuple[str, ...]:
    """Return one line for each way in which an image is unlike the training images.

    Parameters
    ----------
    image
        What it looks like.
    known
        `cellunet.imaging.appearance.summarize` of the training images. Where a number
        is missing, as from models that were trained before these were kept, its check
        says nothing.
    learned_px
        Diameters of the small and large training objects in the model's pixels, by
        which sizes are judged if `known` has no diameters; None if unknown.
    magnification
        By how much the model sees the image enlarged.

    Returns
    -------
    tuple of str
        What is seen, what training images were like, and what to do; intensities
        first. An image of hardly more than noise has no other line, because then no
        other number means anything.
    """
    noise = _contrast(image, known)
    if noise:
        return (noise,)
    found = (
        _level(image, known),
        _sharpness(image, known),
        _diameter(image, known, learned_px, magnification),
        _uncertain(image, known),
        _nothing(image, known),
    )
    return tuple(line for line in found if line)


def _contrast(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values = known.get("contrast")
    if values is None or image.contrast is None:
        return ""
    if image.contrast >= CONTRAST_FACTOR * values[LOW]:
        return ""
    return (
        f"Hardly more than noise: its brightest parts stand out by "
        f"{image.contrast:.0f} times the noise, those of training images by "
        f"{values[LOW]:.0f} or more. Right if the field is empty; if not, it is the "
        "wrong channel (--channel), underexposed, or an unstained sample."
    )


def _level(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values = known.get("level")
    if values is None or image.level is None:
        return ""
    if image.level <= values[HIGH] + LEVEL_MARGIN:
        return ""
    return (
        f"Bright all over: its mean lies at {image.level:.0%} of its range, that of "
        f"training images at {values[HIGH]:.0%} or less. The model looks for bright "
        "objects on a dark ground. If this is bright field, phase contrast, an "
        "inverted image or another stain: choose the fluorescence channel "
        "(--channel), invert the image, or train on a few of your own."
    )


def _sharpness(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values = known.get("sharpness")
    if values is None or image.sharpness is None:
        return ""
    if image.sharpness >= values[LOW] - SHARPNESS_MARGIN:
        return ""
    return (
        f"Soft edges ({image.sharpness:.2f}; training images {values[LOW]:.2f} or "
        "more): out of focus, or magnified more than the training images. Look at the "
        "outlines: sizes are uncertain and touching objects may be merged. If it is "
        "in focus, measure a few objects and try: --diameter PIXELS."
    )


def _diameter(
    image: Appearance,
    known: Mapping[str, Sequence[float]],
    learned_px: tuple[float, float] | None,
    magnification: float,
) -> str:
    if image.diameter_px is None:
        return ""
    values = known.get("diameter_px")
    if values is not None:
        low, high = values[LOW], values[HIGH]
        least, most = low / DIAMETER_FACTOR, high * DIAMETER_FACTOR
    elif learned_px is not None and learned_px[1] > 0:
        low, high = least, most = learned_px
    else:
        return ""
    if least <= image.diameter_px * magnification <= most:
        return ""
    return (
        f"The objects found are {image.diameter_px:.0f} px wide (median); the model "
        f"learned {low / magnification:.0f} to {high / magnification:.0f}. If they "
        "look wrong, measure a few and try: --diameter PIXELS."
    )


def _uncertain(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    values = known.get("uncertain")
    if values is None or image.uncertain is None:
        return ""
    few = image.uncertain_objects < FEWEST_UNCERTAIN
    if few or image.uncertain <= values[HIGH] + UNCERTAIN_MARGIN:
        return ""
    return (
        f"The model is unsure of {image.uncertain:.0%} of the objects (training "
        f"images: {values[HIGH]:.0%} or less). Look at the outlines; if they are "
        "wrong, annotate a few images of this kind and train on them: cellunet train."
    )


def _nothing(image: Appearance, known: Mapping[str, Sequence[float]]) -> str:
    if image.objects or "contrast" not in known:
        return ""
    return (
        "Nothing was found, although the image holds more than noise. If there are "
        "nuclei in it: choose the channel (--channel), or tell their size "
        "(--diameter PIXELS)."
    )
