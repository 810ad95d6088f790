"""The helper loss: what every patch of a picture shows, asked of the vision tower directly.

Its heads live in training only and are not exported. Without it the tower learns next to nothing
in the time there is: answers are too few bits per picture.
"""

import torch
from torch import nn
from torch.nn import functional as F

from . import data
from .model import TEXT, VISION
from .tokenizer import LOC0

LOC_SIGMA = 5.0  # a <loc> answer is a bell of this width: near misses are nearly right
HELPER_WIDTHS = {
    "shape": data.N_SHAPES,
    "colour": data.N_COLOURS,
    "sides": 4,
    "letter": 2 * data.N_LETTERS,
    "place": 2 * data.N_PLACES,
}


class Helper(nn.Module):
    """Heads on the vision tower's patches, and their loss against data.patch_labels."""

    def __init__(self):
        super().__init__()
        self.heads = nn.Linear(VISION["hidden_size"], sum(HELPER_WIDTHS.values()))
        self.loc = nn.Linear(VISION["hidden_size"], 4 * TEXT["hidden_size"], bias=False)
        nn.init.zeros_(self.heads.weight)

    def forward(self, features, patches, embedding, soft_loc):
        """The loss, and what share of the patches is right, by name."""
        out = self.heads(features).float().split(list(HELPER_WIDTHS.values()), -1)
        out = dict(zip(HELPER_WIDTHS, out))
        on = patches["shape"] > 0
        thing = on & (patches["shape"] != data.WORD_SHAPE)
        lettered = patches["letter"] > 0
        letter = out["letter"].unflatten(-1, (2, -1))
        place = out["place"].unflatten(-1, (2, -1))

        def entropy(logits, labels, where):
            return (
                F.cross_entropy(logits[where], labels[where]) if where.any() else logits.sum() * 0
            )

        loss = (
            entropy(out["shape"], patches["shape"], torch.ones_like(on))
            + entropy(out["shape"], patches["shape"], on)
            + entropy(out["colour"], patches["colour"], thing)
            + entropy(letter, patches["letter"], lettered)
            + 0.25 * entropy(letter, patches["letter"], torch.ones_like(lettered))
            + 0.5 * entropy(place, patches["place"], lettered)
            + 2 * F.smooth_l1_loss(out["sides"][on], patches["sides"][on], beta=0.1)
        )
        # From a patch straight to the embeddings of its object's four <loc> tokens.
        z = self.loc(features[on]).float().unflatten(-1, (4, -1))
        z = z * torch.rsqrt(z.pow(2).mean(-1, keepdim=True) + 1e-6)
        loss = (
            loss + soft_loc(F.linear(z, embedding[LOC0 : LOC0 + 1024]), patches["loc"][on]).mean()
        )
        right = {
            "shape": out["shape"].argmax(-1) == patches["shape"],
            "colour": out["colour"].argmax(-1) == patches["colour"],
            "letter": letter.argmax(-1) == patches["letter"],
            "place": place.argmax(-1) == patches["place"],
        }
        where = {"shape": on, "colour": thing, "letter": lettered, "place": lettered}
        return loss, {k: right[k][where[k]].float().mean().item() for k in right}


class SoftLoc:
    """Cross-entropy against the bell around the right <loc>, less the bell's own entropy."""

    def __init__(self):
        i = torch.arange(1024.0)
        self.bells = torch.softmax(-((i[:, None] - i) ** 2) / (2 * LOC_SIGMA**2), 1)
        self.floor = -(self.bells * self.bells.clamp_min(1e-30).log()).sum(1)

    def __call__(self, logits, loc):
        log_p = torch.log_softmax(logits.float(), -1)
        return -(self.bells[loc] * log_p).sum(-1) - self.floor[loc]
