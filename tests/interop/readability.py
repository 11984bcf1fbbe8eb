#!/usr/bin/env python3
"""Does our one mask read as well as the best mask of each code?

tests/code.rs writes masks.ndjson: codes, each under our mask and under the one that the scoring of ISO/IEC 18004
section 7.8.3 chooses. Both pictures of a code go through the same damage, noise included, and are read with ZXing.
Printed is how many of each were read; each kind of damage is there in steps, from easy to nearly hopeless, because
only where some codes fail could one mask be worse. Exit status 1 if ours is worse than chance explains.

Run: cargo test --test code, then readability.py [--masks FILE] [--codes N] [--json]
"""

import argparse
import base64
import json
import math
import multiprocessing
import pathlib
import sys
import time

import numpy
import zxingcpp
from PIL import Image, ImageFilter

SIZE = 49
QUIET = 4
# Above this, a difference of the two read rates is not chance: one in a thousand for a test of one side.
DEVIATIONS_MAX = 3.1


def picture(matrix, pixels):
    """The symbol with its quiet zone, `pixels` a module, as an array from 0 (dark) to 1."""
    bits = numpy.unpackbits(numpy.frombuffer(base64.b64decode(matrix), dtype=numpy.uint8))[: SIZE * SIZE]
    light = numpy.pad(1.0 - bits.reshape(SIZE, SIZE), QUIET, constant_values=1.0)
    return numpy.kron(light, numpy.ones((pixels, pixels)))


def as_image(array):
    return Image.fromarray(numpy.uint8(numpy.clip(array, 0, 1) * 255))


def as_array(image):
    return numpy.asarray(image, dtype=numpy.float64) / 255


def blur(matrix, modules, _random):
    return as_array(as_image(picture(matrix, 4)).filter(ImageFilter.GaussianBlur(4 * modules)))


def motion(matrix, modules, _random):
    array = picture(matrix, 8)
    steps = round(8 * modules)
    return sum(numpy.roll(array, step, axis=1) for step in range(steps)) / steps


def scaled_to(matrix, pixels):
    side = round((SIZE + 2 * QUIET) * pixels)
    return as_image(picture(matrix, 8)).resize((side, side), Image.Resampling.BOX)


def scale(matrix, pixels, _random):
    return as_array(scaled_to(matrix, pixels))


def rotation(matrix, degrees, _random):
    return as_array(scaled_to(matrix, 1.6).rotate(degrees, Image.Resampling.BILINEAR, expand=True, fillcolor=255))


def contrast(matrix, span, random):
    """A dim screen in the sun: `span` of the range is left between dark and light, under the camera's noise."""
    array = 0.5 + (picture(matrix, 3) - 0.5) * span
    return array + random.normal(0, 0.04, array.shape)


def glare(matrix, strength, random):
    """A lamp mirrored in the glass: its light is added and drowns what lies under it."""
    array = picture(matrix, 3) * 0.6
    side = array.shape[0]
    y, x = numpy.mgrid[0:side, 0:side] / side
    spot = numpy.exp(-((x - random.uniform(0.3, 0.7)) ** 2 + (y - random.uniform(0.3, 0.7)) ** 2) / 0.03)
    return array + strength * spot


def tilt(matrix, lean, _random):
    """Held at an angle: the upper edge `lean` narrower on either side."""
    image = as_image(picture(matrix, 3))
    side = image.width
    inset = lean * side
    # Corners of the source for upper left, lower left, lower right and upper right of the picture.
    source = (-inset, 0, 0, side, side, side, side + inset, 0)
    quad = numpy.array(source).reshape(4, 2)
    target = numpy.array([(0, 0), (0, side), (side, side), (side, 0)])
    rows = []
    for (u, v), (x, y) in zip(quad, target):
        rows.append([x, y, 1, 0, 0, 0, -u * x, -u * y])
        rows.append([0, 0, 0, x, y, 1, -v * x, -v * y])
    coefficients = numpy.linalg.solve(numpy.array(rows, dtype=float), quad.reshape(8))
    shape = (side, side)
    return as_array(image.transform(shape, Image.Transform.PERSPECTIVE, coefficients, Image.Resampling.BILINEAR, fillcolor=255))


def poor_screen(matrix, noise, random):
    """All at once: small, turned, out of focus, pale, noisy."""
    image = scaled_to(matrix, 2.6).rotate(random.uniform(-20, 20), Image.Resampling.BILINEAR, expand=True, fillcolor=255)
    array = 0.35 + 0.3 * as_array(image.filter(ImageFilter.GaussianBlur(0.9)))
    return array + random.normal(0, noise, array.shape)


DAMAGES = {
    "blur, modules": (blur, (0.3, 0.45, 0.47, 0.5)),
    "motion, modules": (motion, (1.0, 1.7, 1.8)),
    "scale, pixels a module": (scale, (2.0, 1.5, 1.35, 1.25)),
    "rotation, degrees": (rotation, (5, 20, 33, 45)),
    "contrast, of the range": (contrast, (0.5, 0.3, 0.22, 0.18)),
    "glare, of the range": (glare, (1.2, 1.5, 1.8)),
    "tilt, of the side": (tilt, (0.2, 0.28, 0.3)),
    "poor screen, noise": (poor_screen, (0.005, 0.01, 0.02, 0.022)),
}


def is_read(array, code):
    image = numpy.uint8(numpy.clip(array, 0, 1) * 255)
    results = zxingcpp.read_barcodes(image, formats=zxingcpp.BarcodeFormat.QRCode)
    return any(result.text == code for result in results)


def compare(codes, name, level):
    """Read counts of ours and the best, and how many codes only one of them was read of."""
    damage = DAMAGES[name][0]
    counts = [0, 0, 0, 0]
    for number, code in enumerate(codes):
        # A little more or less for each code: the edge between read and not read is then crossed code by code, and
        # not by all at once where a module and a pixel happen to fall together.
        extent = level * numpy.random.default_rng(number).uniform(0.93, 1.07)
        ours, best = (
            is_read(damage(code[mask], extent, numpy.random.default_rng(number)), code["code"])
            for mask in ("ours", "best")
        )
        counts[0] += ours
        counts[1] += best
        counts[2] += ours and not best
        counts[3] += best and not ours
    return counts


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parents[2]
    parser.add_argument("--masks", type=pathlib.Path, default=root / "target/tmp/interop/masks.ndjson")
    parser.add_argument("--codes", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    began = time.monotonic()
    codes = [json.loads(line) for line in options.masks.read_text().splitlines()][: options.codes]
    steps = [(name, level) for name, (_, levels) in DAMAGES.items() for level in levels]
    with multiprocessing.Pool() as pool:
        results = pool.starmap(compare, [(codes, name, level) for name, level in steps], chunksize=1)
    total = [sum(column) for column in zip(*results)]
    rows = [
        {"damage": name, "level": level, "ours": counts[0], "best": counts[1]}
        for (name, level), counts in zip(steps, results)
    ]
    # McNemar: codes that both or none were read of say nothing about the difference.
    only_ours, only_best = total[2], total[3]
    deviations = (only_best - only_ours) / math.sqrt(max(only_best + only_ours, 1))
    summary = {
        "codes": len(codes),
        "pictures": len(codes) * len(rows),
        "same_mask": sum(code["ours"] == code["best"] for code in codes),
        "ours": total[0],
        "best": total[1],
        "only_ours": only_ours,
        "only_best": only_best,
        "deviations": round(deviations, 2),
    }
    if options.json:
        print(json.dumps({"rows": rows, "summary": summary}))
    else:
        print("| damage | step | our mask | best mask |\n|---|---|---|---|")
        for row in rows:
            shares = (f"{row[mask] / len(codes):.1%}" for mask in ("ours", "best"))
            print(f"| {row['damage']} | {row['level']} | {' | '.join(shares)} |")
        print("\n" + ", ".join(f"{name} {value}" for name, value in summary.items()))
    print(f"readability.py: {time.monotonic() - began:.0f} s", file=sys.stderr)
    if rows[0]["ours"] != len(codes) or deviations > DEVIATIONS_MAX:
        print("readability.py: codes under our mask read worse than under their best one", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
