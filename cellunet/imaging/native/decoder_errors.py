"""What can become of bytes that are given to a native decoder."""

from __future__ import annotations


class DecodingError(RuntimeError):
    """A decoder refused what it was given; its process goes on."""


class DecoderLostError(RuntimeError):
    """A decoder crashed, or did not end."""

    hint = (
        "Convert the file with another program, or leave it out; the decoder may be "
        "out of date, or the file made to break it."
    )


class NoDecoderError(RuntimeError):
    """The process that decodes cannot be started: no fault of the image's."""

    hint = (
        "cellunet decodes compressed images in a process of its own; permit it to "
        "start one, or convert them to uncompressed TIFF."
    )
