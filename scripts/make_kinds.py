"""Write ``assets/kinds.json``: everyday words under which the Models tab's search finds a class, "dog" for a breed.

``python -m scripts.make_kinds WORDNET`` follows the classes of all sets in ``models/weights`` up WordNet's hypernyms
(G. A. Miller, CACM 38(11), 1995), whose noun ids ImageNet's classes bear. WORDNET is the folder of WordNet 3.0's
database files, as Debian's package wordnet-base holds it::

    apt-get download wordnet-base && dpkg -x wordnet-base_*.deb UNPACKED    # then UNPACKED/usr/share/wordnet

WordNet's licence asks that its notice goes along: ``assets/WORDNET.txt``.
"""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Annotated

import typer

from models import zoo

ASSETS = Path(__file__).resolve().parents[1] / "assets"

# Nouns of WordNet under which people would look something up, and the words that they would type.
KINDS = {
    "n00015388": "animal",
    "n01861778": "mammal",
    "n02084071": "dog",
    "n02120997": "cat",
    "n02131653": "bear",
    "n02469914": "primate",
    "n02484322": "monkey",
    "n02470325": "ape",
    "n02329401": "rodent",
    "n01874434": "marsupial",
    "n02402425": "cow, cattle",
    "n02411705": "sheep",
    "n02395003": "pig",
    "n01503061": "bird",
    "n01661091": "reptile",
    "n01726692": "snake",
    "n01639765": "frog, toad",
    "n01627424": "amphibian",
    "n02512053": "fish",
    "n02159955": "insect, bug",
    "n02274259": "butterfly",
    "n02164464": "beetle",
    "n01769347": "arachnid",
    "n01772222": "spider",
    "n01940736": "mollusk, shellfish",
    "n01974773": "crustacean, shellfish",
    "n03100490": "vehicle",
    "n02958343": "car, automobile",
    "n02959942": "railway",
    "n04468005": "train, railway",
    "n04490091": "truck, lorry",
    "n02924116": "bus",
    "n04530566": "boat, ship",
    "n03051540": "clothing, clothes",
    "n02728440": "clothing, clothes",
    "n03497657": "hat",
    "n03381126": "footwear",
    "n03380867": "shoe",
    "n04272054": "glasses",
    "n03405725": "furniture",
    "n04379243": "table",
    "n03001627": "chair, seat",
    "n02913152": "building, house",
    "n04202417": "shop, store",
    "n02898711": "bridge",
    "n04460130": "tower",
    "n04451818": "tool",
    "n03621049": "kitchen",
    "n04516672": "kitchen",
    "n04381994": "kitchen",
    "n02729837": "appliance",
    "n03699975": "machine",
    "n03800933": "music, musical instrument",
    "n04437953": "clock, watch",
    "n04401088": "phone, telephone",
    "n03278248": "electronics",
    "n03636248": "lamp, light",
    "n03665366": "lamp, light",
    "n02778669": "ball",
    "n04285146": "sport",
    "n03414162": "sport",
    "n03964744": "toy",
    "n04565375": "weapon",
    "n02876657": "bottle",
    "n02773037": "bag",
    "n07555863": "food",
    "n00021265": "food",
    "n13134947": "fruit",
    "n07705931": "fruit",
    "n07707451": "vegetable",
    "n07609840": "dessert, sweet",
    "n07881800": "drink",
    "n07929519": "coffee",
    "n09287968": "landscape",
    "n09359803": "mountain, landscape",
    "n09433442": "shore, landscape",
}


def read_hypernyms(path: Path) -> dict[str, list[str]]:
    """Return the direct hypernyms of each noun in WordNet's ``data.noun``, both as ids such as "n02084071".

    A line is ``offset file type w word lex [word lex ...] p [symbol offset type source/target ...] | gloss``, ``w``
    hexadecimal (wndb(5WN)); hypernyms have the symbol ``@``, or ``@i`` of an instance.
    """
    hypernyms = {}
    for line in path.read_text(encoding="ascii").splitlines():
        if line.startswith("  "):  # the licence stands above
            continue
        offset, _, _, words, *rest = line.partition(" | ")[0].split()
        pointers = rest[2 * int(words, 16) + 1 :]
        pairs = zip(pointers[0::4], pointers[1::4], strict=False)
        hypernyms[f"n{offset}"] = [f"n{other}" for symbol, other in pairs if symbol in ("@", "@i")]
    return hypernyms


def ancestors(wnid: str, hypernyms: Mapping[str, list[str]]) -> Iterator[str]:
    """Yield the noun itself and all that it is a kind of."""
    yield wnid
    for other in hypernyms[wnid]:
        yield from ancestors(other, hypernyms)


def main(
    wordnet: Annotated[Path, typer.Argument(help="Folder with WordNet 3.0's data.noun.")],
    assets: Annotated[Path, typer.Option(help="Where kinds.json lies.")] = ASSETS,
) -> None:
    """Write which everyday kinds each class of the networks is of."""
    hypernyms = read_hypernyms(wordnet / "data.noun")
    if strange := sorted(KINDS.keys() - hypernyms.keys()):
        raise typer.BadParameter(f"{wordnet} must hold the nouns of KINDS, it lacks {', '.join(strange)}")
    first_cards = [zoo.read_card(names[0]) for names in zoo.list_sets().values()]
    kinds = {}
    for label in sorted({label for card in first_cards for label in card.classes}):
        found = {word for noun in ancestors(label.wnid, hypernyms) for word in KINDS.get(noun, "").split(", ") if word}
        kinds[label.wnid] = ", ".join(sorted(found))
    (assets / "kinds.json").write_text(json.dumps(kinds, indent=1) + "\n", encoding="utf-8")
    typer.echo(f"{sum(map(bool, kinds.values()))} of {len(kinds)} classes have a kind")


if __name__ == "__main__":
    typer.run(main)
