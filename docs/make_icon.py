"""Draw the plugin's icon: the views of a tilt series as a fan about the tilt axis, with gold beads.

python docs/make_icon.py
"""

from __future__ import annotations

import math
from pathlib import Path

from PIL import Image, ImageDraw

ROOT = Path(__file__).parents[1]
TARGETS = (ROOT / "src/napari_tiltalign/icon.png", ROOT / "docs/pictures/icon.png")
SIZE_PX, FINER = 256, 4
DARK, LIGHT, GOLD = (24, 44, 66, 255), (120, 190, 215), (245, 190, 60, 255)


def icon() -> Image.Image:
    """Draw it larger and shrink it, which makes the edges smooth."""
    side = SIZE_PX * FINER
    image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
    draw = ImageDraw.Draw(image)
    draw.rounded_rectangle((0, 0, side - 1, side - 1), radius=side * 0.2, fill=DARK)
    centre, reach = side / 2, side * 0.40
    for angle_deg in range(-60, 61, 20):
        x, y = reach * math.cos(math.radians(angle_deg)), reach * math.sin(math.radians(angle_deg))
        strength = int(255 * (1.0 - abs(angle_deg) / 110))
        draw.line((centre - x, centre - y, centre + x, centre + y), fill=(*LIGHT, strength), width=side // 36)
    for radius, angle_deg in ((0.30, -60), (0.22, 20), (-0.31, -20), (-0.24, 60), (0.33, 0)):
        x, y = (
            centre + side * radius * math.cos(math.radians(angle_deg)),
            centre + side * radius * math.sin(math.radians(angle_deg)),
        )
        bead = side * 0.05
        draw.ellipse((x - bead, y - bead, x + bead, y + bead), fill=GOLD)
    draw.ellipse((centre - side * 0.03,) * 2 + (centre + side * 0.03,) * 2, fill=(255, 255, 255, 255))
    return image.resize((SIZE_PX, SIZE_PX), Image.Resampling.LANCZOS)


if __name__ == "__main__":
    for target in TARGETS:
        icon().quantize(64).save(target, optimize=True)
        print(target, target.stat().st_size, "bytes")
