"""Write the small pictures of this folder and pictures.tsv: what Pillow makes of them.

    python make_pictures.py [--out DIR]

One file per container feature that tests/data/oracle/images does not have. pictures.tsv has a row per
file: name, width, height, CRC-32 of the H*W*3 bytes of ImageOps.exif_transpose(open(f)).convert("RGB").
Needs pillow 13.0.0 (and writes the same bytes only with it) and numpy.
"""
import argparse
import io
import os
import struct
import zlib

import numpy as np
from PIL import Image, ImageOps

W, H = 21, 13


def scene(channels=3, w=W, h=H):
    y, x = np.mgrid[0:h, 0:w]
    return np.stack([(x * (11 + c) + y * (17 - 3 * c) + 50 * c) % 256 for c in range(channels)], -1).astype(np.uint8)


def saved(image, kind, **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth, colour, interlace, extra=b""):
    """Noise rows with all five filters; a palette has 5 entries, and indices go beyond it."""
    rng = np.random.default_rng(100 * depth + 10 * colour + interlace)
    channels = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour]
    passes = [(0, 0, 1, 1)]
    if interlace:
        passes = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    raw = b""
    for x0, y0, dx, dy in passes:
        columns, rows = len(range(x0, W, dx)), len(range(y0, H, dy))
        if columns:
            n = (columns * channels * depth + 7) // 8
            raw += b"".join(bytes([i % 5 if colour != 3 else 0]) + rng.integers(0, 256, n).astype(np.uint8).tobytes() for i in range(rows))
    packed = zlib.compress(raw)
    half = len(packed) // 2
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", W, H, depth, colour, 0, 0, interlace)) + extra
            + (chunk(b"PLTE", rng.integers(0, 256, 15).astype(np.uint8).tobytes()) if colour == 3 else b"")
            + (chunk(b"tRNS", b"\0\x40") if colour == 3 else b"") + chunk(b"IDAT", packed[:half]) + chunk(b"IDAT", packed[half:]) + chunk(b"IEND", b""))


def bmp(bits, masks=None, top_down=False, os2=False):
    rng = np.random.default_rng(bits)
    n_colours = min(1 << bits, 5) if bits <= 8 else 0
    n_colours = (1 << bits) if os2 and bits <= 8 else n_colours
    palette = rng.integers(0, 256, n_colours * (3 if os2 else 4)).astype(np.uint8).tobytes()
    rows = rng.integers(0, 256, (W * bits + 31) // 32 * 4 * H).astype(np.uint8).tobytes()
    head = struct.pack("<IHHHH", 12, W, H, 1, bits) if os2 else struct.pack(
        "<IiiHHIIiiII", 40, W, -H if top_down else H, 1, bits, 3 if masks else 0, 0, 0, 0, n_colours, 0)
    head += struct.pack("<III", *masks) if masks else b""
    return b"BM" + struct.pack("<IHHI", 0, 0, 0, 14 + len(head) + len(palette)) + head + palette + rows


def lzw(indices, bits):
    """GIF's compression; when the code table is full it stays full, which readers must bear."""
    clear, out, acc, n_acc = 1 << bits, bytearray(), 0, 0

    def put(code, n):
        nonlocal acc, n_acc
        acc |= code << n_acc
        n_acc += n
        while n_acc >= 8:
            out.append(acc & 255)
            acc >>= 8
            n_acc -= 8
    n, table, last = bits + 1, {(i,): i for i in range(clear)}, ()
    put(clear, n)
    following = clear + 2
    for v in indices:
        if last + (v,) in table:
            last += (v,)
            continue
        put(table[last], n)
        if following < 4096:
            table[last + (v,)] = following
            n += following == 1 << n and n < 12
            following += 1
        last = (v,)
    put(table[last], n)
    put(clear + 1, n + (following == 1 << n and n < 12))
    put(0, 7)
    return bytes([bits]) + b"".join(bytes([len(out[i:i + 255])]) + out[i:i + 255] for i in range(0, len(out), 255)) + b"\0"


def gif(screen, frame, bits, transparent=None, interlace=False, local=False):
    rng = np.random.default_rng(bits)
    colours = rng.integers(0, 256, 3 << bits).astype(np.uint8).tobytes()
    x, y, w, h = frame
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, 0x80 | (bits - 1), 1, 0) + (bytes(3 << bits) if local else colours)
    if transparent is not None:
        out += b"!\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    out += b"," + struct.pack("<HHHHB", x, y, w, h, (0x80 | (bits - 1) if local else 0) | (0x40 if interlace else 0))
    out += (colours if local else b"") + lzw([int(v) for v in rng.integers(0, 1 << bits, w * h)], bits)
    return out + b"," + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + lzw([0], 2) + b";"  # a second frame


def oriented(value, endian="<", kind=3):
    entry = struct.pack(endian + "HHI", 0x112, kind, 1) + struct.pack(endian + {3: "HH", 4: "I"}[kind], *([value, 0] if kind == 3 else [value]))
    return (b"II*\0" if endian == "<" else b"MM\0*") + struct.pack(endian + "IH", 8, 1) + entry + bytes(4)


def pictures():
    rgb, rgba = Image.fromarray(scene()), Image.fromarray(scene(4))
    for depth, colour in ((1, 0), (2, 0), (4, 0), (16, 0), (1, 3), (2, 3), (4, 3), (8, 3), (16, 2), (16, 4), (16, 6)):
        yield f"depth{depth}_colour{colour}.png", png(depth, colour, 0)
        yield f"depth{depth}_colour{colour}_adam7.png", png(depth, colour, 1)
    yield "xmp6.png", png(8, 2, 0, chunk(b"iTXt", b'XML:com.adobe.xmp\0\0\0\0\0<r tiff:Orientation="6"/>'))
    for value in (2, 4, 7):
        yield f"exif{value}_be.jpg", saved(rgb, "JPEG", exif=b"Exif\0\0" + oriented(value, ">", 4))
    yield "xmp8.jpg", saved(rgb, "JPEG", xmp=b"<tiff:Orientation>8</tiff:Orientation>")
    yield "restart411.jpg", saved(rgb, "JPEG", subsampling="4:1:1", restart_marker_blocks=1)
    yield "rgb_kept.jpg", saved(rgb, "JPEG", keep_rgb=True)
    yield "cmyk_progressive.jpg", saved(rgb.convert("CMYK"), "JPEG", progressive=True)
    yield "lossy.webp", saved(rgb, "WEBP", quality=60)
    yield "lossy_alpha_exif5.webp", saved(rgba, "WEBP", quality=60, exif=oriented(5))
    yield "lossless_alpha.webp", saved(rgba, "WEBP", lossless=True, exact=True)
    yield "animated.webp", saved(rgb, "WEBP", lossless=True, save_all=True, append_images=[rgb.transpose(Image.Transpose.ROTATE_180)])
    for bits in (1, 4, 8, 16, 24, 32):
        yield f"bits{bits}.bmp", bmp(bits)
    yield "os2_bits4.bmp", bmp(4, os2=True)
    yield "bits565.bmp", bmp(16, (0xF800, 0x7E0, 0x1F), top_down=True)
    yield "bits8888.bmp", bmp(32, (0xFF000000, 0xFF0000, 0xFF00))
    yield "local_offset.gif", gif((30, 20), (4, 3, W, H), 4, local=True)
    yield "transparent_interlaced.gif", gif((30, 20), (2, 5, W, H), 3, transparent=5, interlace=True)
    yield "grows.gif", gif((9, 9), (3, 3, W, H), 2)
    yield "full_table.gif", gif((120, 90), (0, 0, 120, 90), 8)
    noise = np.random.default_rng(1)
    for kind, largest in ((1, 1), (2, 100), (2, 1000), (3, 7), (4, 1), (5, 255), (5, 9), (5, 65535), (6, 100), (6, 1000)):
        n = W * H * (3 if kind in (3, 6) else 1)
        head = b"P%d\n# a comment\n%d %d\n" % (kind, W, H) + (b"" if kind in (1, 4) else b"%d\n" % largest)
        values = noise.integers(0, largest + 1, n)
        body = values.astype("u1" if largest < 256 else ">u2").tobytes()
        if kind <= 3:
            body = b" ".join(b"%d" % v for v in values) + b"\n"
        if kind == 4:
            body = noise.integers(0, 256, (W + 7) // 8 * H).astype(np.uint8).tobytes()
        yield f"p{kind}_{largest}.pnm", head + body


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", default=os.path.dirname(os.path.abspath(__file__)))
    out = parser.parse_args().out
    with open(os.path.join(out, "pictures.tsv"), "w") as table:
        for name, data in pictures():
            with open(os.path.join(out, name), "wb") as f:
                f.write(data)
            rgb = np.array(ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB"))
            table.write(f"{name}\t{rgb.shape[1]}\t{rgb.shape[0]}\t{zlib.crc32(rgb.tobytes()):08x}\n")


if __name__ == "__main__":
    main()
