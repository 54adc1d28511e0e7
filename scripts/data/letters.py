"""Renders data/letters/letters.parquet: letters and digits of three scripts in many free typefaces.

One row is one picture: 24 x 24 grey pixels as PNG, and the label of its character. Slant, size and place vary a
little, drawn from a hash of character and typeface, so that the same fonts always give the same bytes.
"""

import hashlib
import io
import json
import sys

import pyarrow as pa
import pyarrow.parquet as pq
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw, ImageFont

SIZE = 24
# Drawn large and reduced, so that edges are smooth.
SCALE = 4

# Of characters that are equal in nearly every typeface (Latin A, Greek Alpha, Cyrillic A) one is taken. Some that are
# left look alike in some typefaces: data/README.md counts them.
CHARACTERS = (
    "0123456789"
    "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "abcdefghijklmnopqrstuvwxyz"
    "ΓΔΘΛΞΠΣΦΨΩ"
    "αβγδεζηθλμξπσφχψω"
    "БГДЖЗИЙЛПФЦЧШЩЪЫЬЭЮЯ"
    "бджзийлфцчшщъыэюя"
)

DEJAVU = "/usr/share/fonts/truetype/dejavu/"
FREEFONT = "/usr/share/fonts/truetype/freefont/"
LIBERATION = "/usr/share/fonts/truetype/liberation/"
NOTO = "/usr/share/fonts/truetype/noto/"
ROBOTO = "/usr/share/fonts/truetype/roboto/unhinted/"

FONTS = (
    [DEJAVU + f"DejaVuSans{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique", "-ExtraLight")]
    + [DEJAVU + f"DejaVuSansCondensed{style}.ttf" for style in ("", "-Bold")]
    + [DEJAVU + f"DejaVuSansMono{style}.ttf" for style in ("", "-Bold", "-Oblique", "-BoldOblique")]
    + [DEJAVU + f"DejaVuSerif{style}.ttf" for style in ("", "-Bold", "-Italic", "-BoldItalic")]
    + [DEJAVU + f"DejaVuSerifCondensed{style}.ttf" for style in ("", "-BoldItalic")]
    + [FREEFONT + f"FreeSans{style}.ttf" for style in ("", "Bold", "Oblique", "BoldOblique")]
    + [FREEFONT + f"FreeSerif{style}.ttf" for style in ("", "Bold", "Italic", "BoldItalic")]
    + [FREEFONT + f"FreeMono{style}.ttf" for style in ("", "Bold", "Oblique")]
    + [LIBERATION + f"LiberationSans-{style}.ttf" for style in ("Regular", "Bold", "Italic", "BoldItalic")]
    + [LIBERATION + f"LiberationSerif-{style}.ttf" for style in ("Regular", "Bold", "Italic", "BoldItalic")]
    + [LIBERATION + f"LiberationMono-{style}.ttf" for style in ("Regular", "Bold", "Italic")]
    + [NOTO + f"NotoSans-{style}.ttf" for style in ("Regular", "Bold", "Italic", "BoldItalic")]
    + [NOTO + f"NotoSerif-{style}.ttf" for style in ("Regular", "Bold", "Italic", "BoldItalic")]
    + [NOTO + "NotoSansMono-Regular.ttf", NOTO + "NotoSerifDisplay-Regular.ttf"]
    + [ROBOTO + f"RobotoTTF/Roboto-{style}.ttf" for style in ("Regular", "Black", "Italic", "Thin")]
    + [ROBOTO + "RobotoCondensed-Regular.ttf"]
)


def uniforms(*key):
    """Four numbers in [0, 1), a function of the key alone."""
    digest = hashlib.sha256("/".join(key).encode()).digest()
    return [int.from_bytes(digest[8 * i : 8 * i + 8], "big") / 2**64 for i in range(4)]


def render(character, path):
    size, angle, across, down = uniforms(character, path.rsplit("/", 1)[1])
    font = ImageFont.truetype(path, int(SCALE * (15 + 4 * size)), layout_engine=ImageFont.Layout.BASIC)
    side = SCALE * SIZE
    picture = Image.new("L", (side, side), 0)
    place = (side / 2 + SCALE * (3 * across - 1.5), side / 2 + SCALE * (3 * down - 1.5))
    ImageDraw.Draw(picture).text(place, character, fill=255, font=font, anchor="mm")
    picture = picture.rotate(16 * angle - 8, resample=Image.Resampling.BILINEAR)
    picture = picture.resize((SIZE, SIZE), resample=Image.Resampling.BOX)
    # 32 levels of grey: the files are a third smaller, and no eye sees it.
    picture = picture.point(lambda level: level // 8 * 255 // 31)
    file = io.BytesIO()
    picture.save(file, format="PNG", optimize=True)
    return file.getvalue()


def main(target):
    assert len(set(CHARACTERS)) == len(CHARACTERS) == 126
    for path in FONTS:
        known = TTFont(path, lazy=True).getBestCmap()
        missing = [character for character in CHARACTERS if ord(character) not in known]
        if missing:
            sys.exit(f"{path} lacks {''.join(missing)}")
    images, labels = [], []
    for label, character in enumerate(CHARACTERS):
        for path in FONTS:
            name = path.rsplit("/", 1)[1].removesuffix(".ttf")
            images.append({"bytes": render(character, path), "path": f"{label:03}-{name}.png"})
            labels.append(label)
    features = {
        "image": {"_type": "Image"},
        "label": {"_type": "ClassLabel", "names": list(CHARACTERS)},
    }
    schema = pa.schema(
        [("image", pa.struct([("bytes", pa.binary()), ("path", pa.string())])), ("label", pa.int64())],
        metadata={"huggingface": json.dumps({"info": {"features": features}}, ensure_ascii=False)},
    )
    table = pa.table({"image": images, "label": labels}, schema=schema)
    pq.write_table(table, target, compression="snappy", row_group_size=1024)
    print(f"{len(CHARACTERS)} classes x {len(FONTS)} typefaces = {len(labels)} pictures")


main(sys.argv[1])
