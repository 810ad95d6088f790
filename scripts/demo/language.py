"""What is said about a scene, in English and Italian: captions, questions, detections, words.

A scene is the dictionary that scenes.py makes. Every function here takes a scene and a seeded
random.Random and returns (kind, prompt, answer), or None where the question makes no sense for
the scene. Objects are always told from left to right, and an object is named by its shape and
its colour, which no two objects of a scene share (but for the scenes made for counting).

Prompts follow PaliGemma's own: "caption en", "answer it <question>", "ocr", "detect a ; b". A box
is <locYMIN><locXMIN><locYMAX><locXMAX>, each coordinate in 1024ths of the picture.
"""

SHAPES = ("circle", "square", "triangle", "star", "heart", "cross")
COLOURS = ("red", "yellow", "green", "blue", "purple", "black", "white")
LANGUAGES = ("en", "it")
VQA_KINDS = ("count", "colour", "shape", "exists", "relation", "what")
KINDS = ("caption", "detect", "ocr", *VQA_KINDS)
SIDES = ("left", "right", "above", "below")

# Two objects count as left/right or above/below of one another from this distance on, in pixels
# of the 112 pixel picture; closer pairs are not asked about.
CLEAR_PX = 14

NOUN_IT = {  # singular, plural, feminine
    "circle": ("cerchio", "cerchi", False),
    "square": ("quadrato", "quadrati", False),
    "triangle": ("triangolo", "triangoli", False),
    "star": ("stella", "stelle", True),
    "heart": ("cuore", "cuori", False),
    "cross": ("croce", "croci", True),
}
ADJECTIVE_IT = {  # masculine, feminine, and the two plurals
    "red": ("rosso", "rossa", "rossi", "rosse"),
    "yellow": ("giallo", "gialla", "gialli", "gialle"),
    "green": ("verde", "verde", "verdi", "verdi"),
    "blue": ("blu",) * 4,
    "purple": ("viola",) * 4,
    "black": ("nero", "nera", "neri", "nere"),
    "white": ("bianco", "bianca", "bianchi", "bianche"),
}
NUMBER = {
    "en": ("zero", "one", "two", "three", "four", "five"),
    "it": ("zero", "uno", "due", "tre", "quattro", "cinque"),
}
SIDE_EN = {"left": "left of", "right": "right of", "above": "above", "below": "below"}
SIDE_IT = {"left": "a sinistra", "right": "a destra", "above": "sopra", "below": "sotto"}
YES = {"en": ("no", "yes"), "it": ("no", "sì")}

WORDS = (  # what signs say; the other half of the signs carries random letters
    "CAT DOG SUN SKY TREE FISH BIRD STAR MOON HOME BOOK DOOR LOVE TIME BLUE RED OPEN STOP EXIT "
    "TAXI HOTEL BAR CAFE PIZZA PASTA ROMA PARIS CASA SOLE LUNA MARE GATTO CANE VINO PANE HELLO "
    "CIAO ONE TWO SIX TEN ZERO ARIA FUOCO NEVE WIND FIRE ICE KIWI MELON LEMON APPLE PEAR UVA "
    "ACQUA LATTE TRENO PORTO PONTE STRADA SHOP BANK BUS TRAIN MUSEUM GARDEN MARKET CINEMA UFFICIO "
    "SCUOLA PIAZZA MILANO TORINO LONDON RIVER LAKE NORD SUD EST OVEST NORTH SOUTH EAST WEST PUSH "
    "PULL TIRA SPINGI ENTRY USCITA MENU SALE FREE NEW OLD BIG HOT COLD CALDO FREDDO ROSSO VERDE "
    "NERO BIANCO GREEN BLACK WHITE MPI CODE DATA NODE RANK CORE BYTE WORD LETTER"
).split()
WORDS = tuple(w for w in dict.fromkeys(WORDS) if len(w) <= 6)
# Every fifth word is kept out of training, so that reading them is reading.
WORDS_HELD = WORDS[::5]
WORDS_TRAIN = tuple(w for w in WORDS if w not in WORDS_HELD)


def noun(lang, shape, plural=False):
    if lang == "it":
        return NOUN_IT[shape][plural]
    return {"cross": "crosses"}.get(shape, shape + "s") if plural else shape


def adjective(lang, colour, shape, plural=False):
    if lang == "it":
        return ADJECTIVE_IT[colour][2 * plural + NOUN_IT[shape][2]]
    return colour


def name(lang, shape, colour, plural=False):
    n, a = noun(lang, shape, plural), adjective(lang, colour, shape, plural)
    return f"{a} {n}" if lang == "en" else f"{n} {a}"


def indefinite(lang, shape, colour):
    article = "a" if lang == "en" else "una" if NOUN_IT[shape][2] else "un"
    return f"{article} {name(lang, shape, colour)}"


def definite(lang, shape, colour=None):
    article = "the" if lang == "en" else "la" if NOUN_IT[shape][2] else "il"
    return f"{article} {name(lang, shape, colour) if colour else noun(lang, shape)}"


def beside(lang, side, shape, colour):
    """'left of the red circle', 'a sinistra del cerchio rosso'."""
    if lang == "en":
        return f"{SIDE_EN[side]} {definite(lang, shape, colour)}"
    if side in ("left", "right"):
        of = "della" if NOUN_IT[shape][2] else "del"
        return f"{SIDE_IT[side]} {of} {name(lang, shape, colour)}"
    return f"{SIDE_IT[side]} {definite(lang, shape, colour)}"


def box_tokens(box, size_px=112):
    x0, y0, x1, y1 = (min(1023, max(0, int(v / size_px * 1024))) for v in box)
    return f"<loc{y0:04d}><loc{x0:04d}><loc{y1:04d}><loc{x1:04d}>"


def offset_px(a, side, b):
    """How far a lies to that side of b; negative when it lies on the other side."""
    return {
        "left": b["x"] - a["x"],
        "right": a["x"] - b["x"],
        "above": b["y"] - a["y"],
        "below": a["y"] - b["y"],
    }[side]


def caption(scene, rng, lang=None):
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    prompt = f"caption {lang}"
    if scene["kind"] == "count":
        o = objects[0]
        plural = name(lang, o["shape"], o["colour"], plural=True)
        return "caption", prompt, f"{NUMBER[lang][len(objects)]} {plural}"
    parts = [indefinite(lang, o["shape"], o["colour"]) for o in objects]
    if scene["word"]:
        parts.insert(0, f"{'the word' if lang == 'en' else 'la parola'} {scene['word']}")
    joiner = " and " if lang == "en" else " e "
    text = parts[0] if len(parts) == 1 else ", ".join(parts[:-1]) + joiner + parts[-1]
    return "caption", prompt, text


def ocr(scene, _rng, _lang=None):
    return ("ocr", "ocr", scene["word"]) if scene["word"] else None


def detect(scene, rng, lang=None):
    """One name (with all its boxes) in most cases, sometimes two different names."""
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    if scene["word"] and (not objects or rng.random() < 0.3):
        return "detect", "detect text", box_tokens(scene["word_box"]) + " text"
    if scene["kind"] != "count" and len(objects) > 1 and rng.random() < 0.25:
        chosen = rng.sample(objects, 2)
        names = [name(lang, o["shape"], o["colour"]) for o in chosen]
        boxes = [f"{box_tokens(o['box'])} {n}" for o, n in zip(chosen, names)]
        return "detect", "detect " + " ; ".join(names), " ; ".join(boxes)
    o = rng.choice(objects)
    by_shape = rng.random() < 0.35
    wanted = noun(lang, o["shape"]) if by_shape else name(lang, o["shape"], o["colour"])
    hits = [
        p for p in objects if p["shape"] == o["shape"] and (by_shape or p["colour"] == o["colour"])
    ]
    return (
        "detect",
        f"detect {wanted}",
        " ; ".join(f"{box_tokens(p['box'])} {wanted}" for p in hits),
    )


def count(scene, rng, lang=None):
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    if not objects:
        return None
    if rng.random() < 0.3:
        q = "how many shapes are there?" if lang == "en" else "quante forme ci sono?"
        return "count", f"answer {lang} {q}", str(len(objects))
    shape = rng.choice(objects)["shape"] if rng.random() < 0.85 else rng.choice(SHAPES)
    n = sum(o["shape"] == shape for o in objects)
    plural = noun(lang, shape, plural=True)
    if lang == "en":
        q = f"how many {plural} are there?"
    else:
        q = f"{'quante' if NOUN_IT[shape][2] else 'quanti'} {plural} ci sono?"
    return "count", f"answer {lang} {q}", str(n)


def colour(scene, rng, lang=None):
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    single = [o for o in objects if sum(p["shape"] == o["shape"] for p in objects) == 1]
    if not single:
        return None
    o = rng.choice(single)
    thing = definite(lang, o["shape"])
    q = f"what colour is {thing}?" if lang == "en" else f"di che colore è {thing}?"
    return "colour", f"answer {lang} {q}", adjective(lang, o["colour"], o["shape"])


def shape(scene, rng, lang=None):
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    single = [o for o in objects if sum(p["colour"] == o["colour"] for p in objects) == 1]
    if not single:
        return None
    o = rng.choice(single)
    if lang == "en":
        q = f"which shape is {o['colour']}?"
    else:
        q = f"quale forma è {ADJECTIVE_IT[o['colour']][1]}?"
    return "shape", f"answer {lang} {q}", noun(lang, o["shape"])


def exists(scene, rng, lang=None):
    """Half yes, half no; most of the no's share their shape or their colour with an object."""
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    if not objects:
        return None
    present = {(o["shape"], o["colour"]) for o in objects}
    o = rng.choice(objects)
    asked = (o["shape"], o["colour"])
    if rng.random() < 0.5:
        while asked in present:
            o, how = rng.choice(objects), rng.random()
            asked = (
                o["shape"] if how < 0.35 else rng.choice(SHAPES),
                o["colour"] if how > 0.65 else rng.choice(COLOURS),
            )
    thing = indefinite(lang, *asked)
    q = f"is there {thing}?" if lang == "en" else f"c'è {thing}?"
    return "exists", f"answer {lang} {q}", YES[lang][asked in present]


def relation(scene, rng, lang=None):
    """Is a left of b? Half yes, half no, about any two objects that lie clearly apart."""
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    if scene["kind"] == "count" or len(objects) < 2:
        return None
    choices = [
        (a, side, b)
        for a in objects
        for b in objects
        for side in SIDES
        if a is not b and abs(offset_px(a, side, b)) >= CLEAR_PX
    ]
    if not choices:
        return None
    a, side, b = rng.choice(choices)
    first, second = (
        definite(lang, a["shape"], a["colour"]),
        beside(lang, side, b["shape"], b["colour"]),
    )
    q = f"is {first} {second}?" if lang == "en" else f"{first} è {second}?"
    return "relation", f"answer {lang} {q}", YES[lang][offset_px(a, side, b) > 0]


def what(scene, rng, lang=None):
    """What is left of b? Asked where exactly one object lies there, and clearly so."""
    lang = lang or rng.choice(LANGUAGES)
    objects = scene["objects"]
    choices = []
    for b in objects if scene["kind"] != "count" else ():
        for side in SIDES:
            there = [a for a in objects if a is not b and offset_px(a, side, b) > 0]
            if len(there) == 1 and offset_px(there[0], side, b) >= CLEAR_PX:
                choices.append((there[0], side, b))
    if not choices:
        return None
    a, side, b = rng.choice(choices)
    place = beside(lang, side, b["shape"], b["colour"])
    q = f"what is {place}?" if lang == "en" else f"cosa c'è {place}?"
    return "what", f"answer {lang} {q}", indefinite(lang, a["shape"], a["colour"])


MAKERS = {
    "caption": caption,
    "detect": detect,
    "ocr": ocr,
    "count": count,
    "colour": colour,
    "shape": shape,
    "exists": exists,
    "relation": relation,
    "what": what,
}
# How often each kind is tried in training, where it fits the scene ("ocr" needs a word). Yes/no
# questions are the hardest to learn.
WEIGHTS = {
    "caption": 14,
    "detect": 26,
    "ocr": 40,
    "count": 7,
    "colour": 7,
    "shape": 7,
    "exists": 14,
    "relation": 26,
    "what": 12,
}


def ask(scene, rng, kind=None, lang=None):
    """A (kind, prompt, answer) about the scene, or None where it does not fit."""
    if kind is None:
        kind = rng.choices(list(WEIGHTS), WEIGHTS.values())[0]
    return MAKERS[kind](scene, rng, lang)
