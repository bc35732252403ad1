"""A folder of pictures to try things on: python -m examples.write_pictures FOLDER [--classes 4] [--per-class 200]

Writes embedded clothes as PNG files, a sub-folder a class, under FOLDER/train and FOLDER/test, as one's own would lie.
"""

import argparse
from pathlib import Path

from PIL import Image

from src.data import load_images


def main() -> None:
    parser = argparse.ArgumentParser(description="Write embedded images as a folder of pictures.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--classes", type=int, default=4, help="how many of the ten (default: %(default)s)")
    parser.add_argument(
        "--per-class", type=int, default=200, help="training images; test has half (default: %(default)s)"
    )
    asked = parser.parse_args()
    for split, n in (("train", asked.per_class), ("test", asked.per_class // 2)):
        images = load_images("fashion_mnist", split).subset(10 * n, seed=0)
        for image, label, sample_id in zip(images.images, images.labels, images.sample_ids, strict=True):
            if label < asked.classes:
                place = asked.folder / split / images.classes[label].replace("/", " or ")
                place.mkdir(parents=True, exist_ok=True)
                Image.fromarray(image).save(place / f"{sample_id:05d}.png")
    print(f"{asked.folder}: {asked.classes} classes, {asked.per_class} images each to train on, half as many to test")


if __name__ == "__main__":
    main()
