"""Pixels of a demo scene: anti-aliased coloured shapes over drifting grey clutter."""

import math
from collections.abc import Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from pipelines.datasets.demo.scene import COLORS, FRAME_SIZE, Event, Scene, Thing

Pixels = NDArray[np.uint8]
Mask = NDArray[np.float32]

MAIN_SIZE = (34, 46)
"""Diameter of an event's thing in pixels; its companion is three quarters of it."""
TRAVEL = 30
"""Pixels that a moving thing covers during its event."""
_SUPERSAMPLE = 4


def _polygon(shape: str) -> list[tuple[float, float]]:
    """Corners of the straight-edged shapes in a unit circle, y downwards."""
    match shape:
        case "square":
            return [(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)]
        case "triangle":
            return [(0.0, -1.0), (0.95, 0.8), (-0.95, 0.8)]
        case "diamond":
            return [(0.0, -1.0), (0.66, 0.0), (0.0, 1.0), (-0.66, 0.0)]
        case "star":
            radii = [1.0 if i % 2 == 0 else 0.42 for i in range(10)]
            turns = [math.pi * (i / 5 - 0.5) for i in range(10)]
            return [(r * math.cos(a), r * math.sin(a)) for r, a in zip(radii, turns, strict=True)]
        case "cross":
            # One arm, turned by right angles.
            a, b = 0.3, 0.95
            return [
                corner
                for turn in ((1, 0), (0, 1), (-1, 0), (0, -1))
                for x, y in ((a, -a), (b, -a), (b, a))
                for corner in ((x * turn[0] - y * turn[1], x * turn[1] + y * turn[0]),)
            ]
        case "bolt":
            return [
                (0.25, -1.0),
                (-0.65, 0.15),
                (-0.08, 0.15),
                (-0.3, 1.0),
                (0.65, -0.25),
                (0.1, -0.25),
            ]
        case "heart":
            turns = [2 * math.pi * i / 40 for i in range(40)]
            xs = [16 * math.sin(a) ** 3 for a in turns]
            ys = [
                -(13 * math.cos(a) - 5 * math.cos(2 * a) - 2 * math.cos(3 * a) - math.cos(4 * a))
                for a in turns
            ]
            return [(x / 17, y / 17) for x, y in zip(xs, ys, strict=True)]
        case _:
            raise ValueError(f"{shape!r} is not a shape with corners")


@lru_cache(maxsize=4096)
def shape_mask(shape: str, size: int, degrees: int) -> Mask:
    """Coverage of a shape.

    Args:
        shape: One of `scene.SHAPES`.
        size: Side of the mask in pixels.
        degrees: Clockwise rotation.

    Returns:
        Coverage in [0, 1] `[size, size]`.
    """
    side = size * _SUPERSAMPLE
    image = Image.new("L", (side, side), 0)
    draw = ImageDraw.Draw(image)
    middle = side / 2

    def disc(radius: float, dx: float, fill: int) -> None:
        r, x = radius * middle, middle + dx * middle
        draw.ellipse((x - r, middle - r, x + r, middle + r), fill=fill)

    match shape:
        case "circle":
            disc(0.9, 0.0, 255)
        case "ring":
            disc(0.95, 0.0, 255)
            disc(0.52, 0.0, 0)
        case "moon":
            disc(0.95, 0.0, 255)
            disc(0.78, 0.45, 0)
        case _:
            draw.polygon(
                [(middle + x * middle, middle + y * middle) for x, y in _polygon(shape)], 255
            )
    if degrees:
        image = image.rotate(-degrees, Image.Resampling.BILINEAR)
    small = image.reduce(_SUPERSAMPLE)
    return np.asarray(small, dtype=np.float32) / np.float32(255)


def paste(frame: Pixels, mask: Mask, color: NDArray[np.float32], x: float, y: float) -> None:
    """Blend a coloured mask into a frame in place, centred at (x, y), clipped at the borders."""
    height, width = frame.shape[:2]
    top, left = round(y - mask.shape[0] / 2), round(x - mask.shape[1] / 2)
    y0, y1 = max(top, 0), min(top + mask.shape[0], height)
    x0, x1 = max(left, 0), min(left + mask.shape[1], width)
    if y0 >= y1 or x0 >= x1:
        return
    alpha = mask[y0 - top : y1 - top, x0 - left : x1 - left, None]
    region = frame[y0:y1, x0:x1]
    frame[y0:y1, x0:x1] = (region + alpha * (color - region)).astype(np.uint8)


class Backdrop:
    """A grey textured ground that drifts, with grey blobs that wander over it."""

    def __init__(self, rng: np.random.Generator, frames: int) -> None:
        margin = 48
        noise = rng.normal(0, 1, ((FRAME_SIZE + margin) // 8, (FRAME_SIZE + margin) // 8))
        base = rng.uniform(40, 110)
        ground = Image.fromarray((base + 18 * noise).clip(0, 255).astype(np.uint8))
        ground = ground.resize((FRAME_SIZE + margin,) * 2, Image.Resampling.BICUBIC)
        tint = rng.uniform(-8, 8, 3)
        self._ground = (
            (np.asarray(ground, np.float32)[..., None] + tint).clip(0, 255).astype(np.uint8)
        )
        turns = rng.uniform(0, 2 * math.pi, 2)
        speed = rng.uniform(0.5, 1.5, 2) * 2 * math.pi / frames
        self._margin, self._turns, self._speed = margin, turns, speed
        self._blobs = [self._blob(rng) for _ in range(int(rng.integers(4, 8)))]

    @staticmethod
    def _blob(rng: np.random.Generator) -> tuple[Mask, NDArray[np.float32], NDArray[np.float64]]:
        """A soft random grey polygon, its colour, and its wandering (centre, speed) in pixels."""
        size = int(rng.integers(14, 34))
        turns = np.sort(rng.uniform(0, 2 * math.pi, int(rng.integers(4, 9))))
        radii = rng.uniform(0.4, 0.95, turns.size) * size / 2
        corners = [
            (size / 2 + r * math.cos(a), size / 2 + r * math.sin(a))
            for r, a in zip(radii, turns, strict=True)
        ]
        image = Image.new("L", (size, size), 0)
        ImageDraw.Draw(image).polygon(corners, 255)
        mask = np.asarray(image.filter(ImageFilter.GaussianBlur(1.0)), np.float32) / np.float32(255)
        grey = rng.uniform(20, 190) + rng.uniform(-10, 10, 3)
        motion = np.concatenate([rng.uniform(0, FRAME_SIZE, 2), rng.normal(0, 1.2, 2)])
        return mask, grey.astype(np.float32), motion

    def frame(self, number: int) -> Pixels:
        """The ground and its blobs at one frame: uint8 `[FRAME_SIZE, FRAME_SIZE, 3]`."""
        half = self._margin / 2
        dx, dy = (half + half * np.sin(self._turns + self._speed * number)).astype(int)
        picture = self._ground[dy : dy + FRAME_SIZE, dx : dx + FRAME_SIZE].copy()
        for mask, grey, (x, y, vx, vy) in self._blobs:
            lap = FRAME_SIZE + mask.shape[0]
            paste(
                picture,
                mask,
                grey,
                (x + vx * number) % lap - mask.shape[0] / 2,
                (y + vy * number) % lap - mask.shape[0] / 2,
            )
        return picture


class Performance:
    """One event's pixels: where, how large and how turned its things are at every moment."""

    def __init__(self, rng: np.random.Generator, event: Event) -> None:
        self._event = event
        self._size = int(rng.integers(*MAIN_SIZE))
        self._turn = int(rng.uniform(-18, 18))
        self._shade = rng.uniform(0.88, 1.06)
        centre = FRAME_SIZE / 2 + rng.uniform(-10, 10, 2)
        offset = np.zeros(2)
        if event.relation is not None:
            away = {"above": (0, -1), "below": (0, 1), "left of": (-1, 0), "right of": (1, 0)}
            offset = 20.0 * np.array(away[event.relation])
            self._size = int(self._size * 0.85)
        self._centre, self._companion_centre = centre + offset, centre - offset

    def draw(self, picture: Pixels, progress: float) -> None:
        """Paint the event onto a frame.

        Args:
            picture: uint8 `[H, W, 3]`, changed in place.
            progress: 0 at the event's first frame, 1 at its last.
        """
        if self._event.companion is not None:
            self._paint(picture, self._event.companion, self._companion_centre, 0.75, 0)
        swing = progress - 0.5
        x, y = self._centre
        scale, turn = 1.0, 0
        match self._event.action:
            case "moving left":
                x -= swing * TRAVEL
            case "moving right":
                x += swing * TRAVEL
            case "rising":
                y -= swing * TRAVEL
            case "falling":
                y += swing * TRAVEL
            case "spinning":
                turn = int(progress * 12) * 30
            case "growing":
                scale = 0.65 + 0.5 * progress
            case "shrinking":
                scale = 1.15 - 0.5 * progress
        self._paint(picture, self._event.thing, np.array([x, y]), scale, turn)

    def _paint(
        self, picture: Pixels, thing: Thing, centre: NDArray[np.float64], scale: float, turn: int
    ) -> None:
        # Even sizes and steps of two degrees keep the mask cache small.
        size = max(8, int(self._size * scale) // 2 * 2)
        degrees = (self._turn + turn) // 2 * 2 % 360
        color = np.clip(np.array(COLORS[thing.color], np.float32) * self._shade, 0, 255)
        paste(picture, shape_mask(thing.shape, size, degrees), color.astype(np.float32), *centre)


def render(scene: Scene) -> Iterator[Pixels]:
    """Paint a whole scene, frame after frame: uint8 `[FRAME_SIZE, FRAME_SIZE, 3]` RGB each."""
    rng = np.random.default_rng((*scene.clutter_seed, 1))
    backdrop = Backdrop(rng, scene.frames)
    performances = [Performance(rng, event) for event in scene.events]
    for number in range(scene.frames):
        picture = backdrop.frame(number)
        for event, performance in zip(scene.events, performances, strict=True):
            if event.start_frame <= number < event.end_frame:
                performance.draw(picture, (number - event.start_frame) / max(1, event.length - 1))
        yield picture
