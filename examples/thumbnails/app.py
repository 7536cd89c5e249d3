"""Thumbnails of many images, one job for each."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from PIL import Image, ImageDraw, UnidentifiedImageError

import taskd

app = taskd.App()


@app.task(max_retries=2, timeout=60)
def thumbnail(ctx: taskd.Context, source: str, target: str, width: int = 128) -> tuple[int, int]:
    """Make a smaller copy of an image. Return its size."""
    try:
        with Image.open(source) as image:
            image.thumbnail((width, width))
            unfinished = Path(f"{target}.{ctx.job.id}-{ctx.attempt}")
            image.save(unfinished, "PNG")
            unfinished.replace(target)
            ctx.log.info("made a thumbnail", source=source, size=image.size)
            return image.size
    except UnidentifiedImageError:
        raise taskd.Fail(f"{source} is no image") from None


def draw(folder: Path, count: int) -> list[Path]:
    """Draw so many images, and write a file that is no image."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(count):
        image = Image.new("RGB", (640, 320 + 10 * number), (number * 37 % 256, 128, 200))
        ImageDraw.Draw(image).ellipse((100, 50, 500, 300), fill=(255, number * 71 % 256, 60))
        image.save(folder / f"image-{number:03}.png")
    (folder / "no-image.png").write_text("this is no image")
    return sorted(folder.glob("*image*.png"))


def main(folder: Path, count: int) -> None:
    """Draw images, submit a job for each, and print the results."""
    sources = draw(folder.absolute(), count)
    small = folder.absolute() / "small"
    small.mkdir(exist_ok=True)
    handles = thumbnail.submit_many_sync(
        {"source": os.fspath(source), "target": os.fspath(small / source.name), "width": 100} for source in sources
    )
    for source, handle in zip(sources, handles, strict=True):
        try:
            width, height = handle.result(timeout=120)
            print(f"{source.name}: {width} x {height}")
        except taskd.JobFailed as failed:
            print(f"{source.name}: {failed.error}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 20)
