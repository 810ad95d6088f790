"""Makes seeds/manifest/*, seeds/tar/* and seeds/sample_wire/*: python3 tests/fuzz/seeds_dataset.py"""
import gzip
import io
import json
import pathlib
import struct
import tarfile

SEEDS = pathlib.Path(__file__).parent / "seeds"
MANIFEST, OPENAI, FOLDER, LIST, COCO, AUTO = range(6)  # the order in fuzz_manifest.c


def lines(*objects):
    return "".join(json.dumps(o) + "\n" for o in objects).encode()


def text_seeds():
    part = {"type": "image_url", "image_url": {"url": "data:image/png;base64,YWJj"}}
    body = {"messages": [{"role": "user", "content": [{"type": "text", "text": "ocr"}, part]}]}
    coco = {"info": {}, "data_subtype": "val2014", "images": [{"id": 7, "file_name": "a.jpg"}],
            "questions": [{"question_id": 1, "image_id": 7, "question": "why?"}]}
    return {"manifest": (MANIFEST, lines({"id": "a", "image": "a.png", "prefix": "p", "suffix": "s"},
                                         {"images": ["a.png", "file:///b%20.png"], "question": "q", "question_id": 3},
                                         {"video": "clip", "prompt": "p"})),
            "templates": (MANIFEST + 6, lines({"id": 1, "image": "a.png", "x": 0.5}, {"image": "a.png", "id": 2})),
            "openai": (OPENAI, lines({"custom_id": "a", "body": body})),
            "folder": (FOLDER, lines({"file_name": "a.png", "text": "t"})),
            "list": (LIST, b"a.png\tcaption en\r\nb.png\tocr\nhttp://x/y\tz\n"),
            "coco": (COCO, json.dumps(coco).encode()),
            "captions": (AUTO + 6, json.dumps({"images": [{"id": 7, "file_name": "a.jpg"}]}).encode())}


def tar_bytes(style, members):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=style) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    blocks = len(out.getvalue().rstrip(b"\0")) // 512 + 1
    return out.getvalue()[:512 * (blocks + 2)]  # instead of 10 kB with zeros


def text(s):
    return struct.pack("<Q", 0) if s is None else struct.pack("<Q", len(s) + 2) + s.encode() + b"\0"


def sample(images, records, rc=0, why=None):
    """As in src/dataset/sample.c, on a little-endian machine."""
    wire = struct.pack("<qqqqqqdQQ", 0x736D7031, 5, rc, 0, 0, 0, 0.0, len(images), len(records))
    wire += text("m.jsonl line 6") + text(None) + text(why)
    for kind, data in images:
        wire += struct.pack("<qqq", kind, 0, 0) + text("p") + text("n")
        wire += struct.pack("<Q", 0) if data is None else struct.pack("<Q", len(data) + 1) + data
    for number in records:
        wire += struct.pack("<q", number) + bytes(16) + text("id") + text("caption en") + text(None)
    return wire


def write(folder, seeds):
    (SEEDS / folder).mkdir(parents=True, exist_ok=True)
    for name, data in seeds.items():
        (SEEDS / folder / name).write_bytes(data)


def main():
    write("manifest", {name: bytes([kind]) + data for name, (kind, data) in text_seeds().items()})
    members = [("d/0.jpg", b"J"), ("d/0.txt", b"caption en\n"), ("d/1.left.png", b"L"),
               ("d/1.json", b'{"question": "why?", "caption": "c"}')]
    ustar = tar_bytes(tarfile.USTAR_FORMAT, members)
    write("tar", {"ustar": ustar, "pax": tar_bytes(tarfile.PAX_FORMAT, [("\u00e9" * 60 + "/0.jpg", b"J")] + members),
                  "gnu": tar_bytes(tarfile.GNU_FORMAT, [("n" * 120 + "/0.jpg", b"J")]), "gzip": gzip.compress(ustar, mtime=0)})
    write("sample_wire", {"bytes": sample([(1, b"JPEG"), (0, None)], [-1, 7]), "failed": sample([], [-1], -2, "bad")})


if __name__ == "__main__":
    main()
