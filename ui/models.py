"""The Models tab: the networks' cards side by side, what they know, and how to take a layer home."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from html import escape, unescape
from pathlib import Path
from statistics import fmean, stdev

import gradio as gr

from models.data import ClassLabel
from models.resnet import VARIANTS
from models.seeds import SeedRuns, read_seed_runs
from models.zoo import Card, Loaded
from poolcore.share import window_of
from ui.context import Context, NetworkSet
from ui.findings import (
    CLAIMS,
    PAIRS,
    SEED_RUNS,
    chance_points,
    describe_chance,
    describe_seeds,
    describe_spread,
    hold_claims,
    name_data,
)
from ui.pictures import data_url
from ui.plots import plot_accuracy, plot_corruptions
from ui.snippets import SNIPPETS
from ui.words import NAMES, PLACE_NAMES

__all__ = ["build"]

KINDS = Path(__file__).parents[1] / "assets" / "kinds.json"  # written by scripts/make_kinds.py

METHODS = {
    "stock": "As published by He et al.: max pooling at the stem, then convolutions that step by two pixels.",
    "max": "Of each window the largest pixel remains.",
    "avg": "Of each window the mean remains.",
    "soft": "SoftPool (Stergiou et al. 2021): the mean of each window, its pixels weighted by their own exponentials.",
    "lip": "LIP (Gao et al. 2019): the mean of each window, its pixels weighted by a small network that learns.",
    "lift": "LiftPool (Zhao and Snoek 2021): the mean of four bands, split by filters that learn, and can be undone.",
}

SEARCH = """
const input = element.querySelector('input'), answer = element.querySelector('output');
const items = [...element.querySelectorAll('li')], all = new Set(items.map(item => item.dataset.wnid)).size;
const plain = text => text.toLowerCase().replaceAll(/[^a-z0-9]+/g, ' ').trim();
const singulars = [['ies', 'y'], ['es', ''], ['s', '']];
for (const item of items) item.words = plain(`${item.textContent} ${item.dataset.kinds}`);
input.addEventListener('input', () => {
  const asked = plain(input.value).replace(/^(an?|the) (?=.)/, '');
  const forms = [asked, ...singulars.filter(([end]) => asked.length > 3 && asked.endsWith(end))
    .map(([end, single]) => asked.slice(0, -end.length) + single)];
  const has = (words, form) => ` ${words} `.includes(form);
  const whole = item => forms.some(form => has(item.words, ` ${form} `));
  // "car" is a word of its own before it is the beginning of another
  const matches = items.some(whole) ? whole : item => forms.some(form => has(item.words, ` ${form}`));
  const found = new Set();  // what several sets know counts once
  for (const item of items) {
    item.hidden = !matches(item);
    if (!item.hidden) found.add(item.dataset.wnid);
  }
  for (const one of element.querySelectorAll('section')) one.hidden = !one.querySelector('li:not([hidden])');
  answer.textContent = !asked ? `All ${all} are listed.`
    : !found.size ? 'No: no name or kind of what they know begins so.'
    : matches === whole ? `Yes: ${found.size} of ${all}.`
    : `Of ${all}, ${found.size} ${found.size > 1 ? 'have' : 'has'} a name or a kind that begins so.`;
});
"""
COPY = """
element.addEventListener('click', event => {
  const button = event.target.closest('button');
  if (!button) return;
  navigator.clipboard.writeText(button.parentElement.querySelector('pre').textContent);
  button.textContent = 'Copied';
  setTimeout(() => { button.textContent = 'Copy'; }, 1500);
});
"""


def compare_macs(cards: Sequence[Card]) -> str:
    """Return in a sentence how the networks' arithmetic differs from that of the one with max pooling."""
    macs = {card.variant: card.macs for card in cards}
    if "max" not in macs or len(macs) < 2:
        return ""
    ratios = {variant: macs[variant] / macs["max"] for variant in VARIANTS if variant in macs and variant != "max"}
    parts = [f"{NAMES[variant]} {_difference(ratio)}" for variant, ratio in ratios.items()]
    return f"Against {NAMES['max']} in multiply-adds: {', '.join(parts)}."


def _difference(ratio: float) -> str:
    points = round(100 * (ratio - 1))
    if not points:
        return "the same" if ratio == 1 else "the same within 1 %"
    return f"{abs(points)} % {'more' if points > 0 else 'fewer'}"


def draw_table(cards: Sequence[Card]) -> str:
    """Return the networks of a set side by side in numbers, and what those are worth."""
    first = cards[0]
    columns: dict[str, Callable[[Card], str]] = {
        "Top-1": lambda card: f"{card.accuracy['top1']:.1f} %",
        "Top-5": lambda card: f"{card.accuracy['top5']:.1f} %",
        "Calibration error": lambda card: f"{card.accuracy['calibration_error']:.1f} %",
        "Same after a shift": lambda card: "–" if card.shifts is None else f"{card.shifts['crops']:.1f} %",
        "Wrong if corrupted": lambda card: (
            "–" if card.corruptions is None else f"{card.corruptions['mean_error']:.1f} %"
        ),
        "Parameters": lambda card: f"{card.parameters / 1e6:.2f} million",
        "MACs": lambda card: f"{card.macs / 1e6:.0f} million",
    }
    if all(card.shifts is None for card in cards):
        del columns["Same after a shift"]
    if all(card.corruptions is None for card in cards):
        del columns["Wrong if corrupted"]
    rows = "".join(
        f'<tr><th scope="row">{NAMES[card.variant]}</th>'
        f"{''.join(f'<td>{cell(card)}</td>' for cell in columns.values())}</tr>"
        for card in cards
    )
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in ("Network", *columns))
    accuracy = first.accuracy
    return (
        f'<div class="ps-scroll"><table class="ps-table"><caption>Right answers on {accuracy["images"]} images of '
        f"{escape(first.data['name'])} that were not trained on ({escape(accuracy['split'])})</caption>"
        f"<thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="ps-note">{describe_worth(cards)}</p>'
    )


def describe_worth(cards: Sequence[Card]) -> str:
    """Return what the numbers of a set are worth: seeds, chance, unequal work, clean pairs, and what a shift is."""
    first = cards[0]
    variants = {card.variant for card in cards}
    pairs = " and ".join(f"{NAMES[one]} with {NAMES[other]}" for one, other in PAIRS if {one, other} <= variants)
    spreads = {card.variant: card.spread["top1"] for card in cards if card.spread is not None}
    if spreads:
        told = ", ".join(f"{NAMES[v]} {one['mean']:.1f} ± {one['deviation']:.1f} %" for v, one in spreads.items())
        seeds = f"All were trained alike. Over seeds, mean and standard deviation of top-1: {told}."
    else:
        seeds = f"All were trained alike, with one seed ({first.seed})."
    sentences = [
        seeds,
        describe_chance(cards),
        "The networks do not cost the same.",
        compare_macs(cards),
        f"The cleanest comparisons are {pairs}: their windows are the same." if pairs else "",
    ]
    if any(card.shifts is not None for card in cards):
        sentences.append(
            "Same after a shift: how often two crops of a photo, each way at most an eighth of their side apart, get "
            "the same answer."
        )
    for corruptions in [card.corruptions for card in cards if card.corruptions is not None][:1]:
        sentences.append(
            f"Wrong if corrupted: mean over 15 corruptions at five severities of {corruptions['images']} images."
        )
    return " ".join(sentence for sentence in sentences if sentence)


def draw_set(own: NetworkSet) -> str:
    """Return a set's table, plots and how the papers' claims fare in it."""
    cards = [loaded.card for loaded in own.networks]
    plots = [svg for svg in (plot_accuracy(cards), plot_corruptions(cards)) if svg]
    pictures = "".join(
        f'<img class="ps-plot" src="{data_url(svg.encode(), "image/svg+xml")}" alt="{escape(_title(svg))}">'
        for svg in plots
    )
    claims = hold_claims(cards)
    return (
        f'<h2 class="ps-heading">Side by side: {escape(own.title)}</h2>{draw_table(cards)}'
        f'<div class="ps-plots">{pictures}</div>' + (f'<p class="ps-note">{escape(claims)}</p>' if claims else "")
    )


def _title(svg: str) -> str:
    """Return what an SVG says of itself, as it stands in the file."""
    return unescape(svg.partition('<title id="title">')[2].partition("</title>")[0])


def draw_seeds(runs: Sequence[SeedRuns]) -> str:
    """Return top-1 of the same networks trained from several seeds, and what those are worth; "" without any."""
    if not runs:
        return ""
    return '<h2 class="ps-heading">What another seed gives</h2>' + "".join(map(_draw_seeds, runs))


def _draw_seeds(seen: SeedRuns) -> str:
    names = ("Network", *(f"Seed {seed}" for seed in seen["seeds"]), "Mean", "Standard deviation")
    heads = "".join(f'<th scope="col">{cell}</th>' for cell in names)
    rows = "".join(
        f'<tr><th scope="row">{NAMES[variant]}</th>{"".join(f"<td>{one:.1f} %</td>" for one in (*top1, fmean(top1)))}'
        f"<td>{stdev(top1):.1f}</td></tr>"
        for variant, top1 in seen["top1"].items()
    )
    return (
        f'<div class="ps-scroll"><table class="ps-table"><caption>Right answers on {escape(name_data(seen))} after a '
        f"short training from each seed</caption><thead><tr>{heads}</tr></thead><tbody>{rows}</tbody></table></div>"
        f'<p class="ps-note">{escape(describe_seeds(seen))}</p>'
    )


def describe_windows(loaded: Loaded) -> str:
    """Return the windows at the network's places, each with the places that have it."""
    places: dict[str, list[str]] = {}
    for place, layer in loaded.network.pooling_places().items():
        window = window_of(layer)
        (kernel, _), (stride, _), (padding, _) = window.kernel_size, window.stride, window.padding
        words = f"{kernel} × {kernel}, stride {stride}" + (f", padding {padding}" if padding else "")
        places.setdefault(words, []).append(PLACE_NAMES[place])
    if len(places) == 1:
        return next(iter(places))
    return "; ".join(f"{words} ({', '.join(names)})" for words, names in places.items())


def describe_unknown(card: Card) -> str:
    """Return what the network does with a photo that shows none of its classes, and how often that is right."""
    rejection = card.rejection
    return (
        f"Below a probability of {100 * card.threshold:.0f} % it says “probably none of the things I know”. That turns "
        f"away {rejection['unknown_rejected']:.0f} % of {rejection['unknown_images']} photos of "
        f"{rejection['unknown_classes']} things that it never saw, and keeps {rejection['known_kept']:.0f} % of "
        f"{rejection['known_images']} photos of things that it knows"
        + (f", all of {rejection['size']} pixels only." if rejection["size"] < card.input_size else ".")
    )


def describe_recipe(card: Card) -> str:
    """Return the recipe, every argument with its value."""
    parts = [f"{card.epochs} epochs"]
    for name, value in card.recipe.items():
        if name == "schedule":
            parts.append("; ".join(f"{epochs} at {size} pixels" for size, epochs in value))
        elif name != "seed":
            parts.append(f"{name.replace('_', ' ')} {'yes' if value is True else 'no' if value is False else value}")
    return ", ".join(parts)


def draw_card(loaded: Loaded, runs: Sequence[SeedRuns]) -> str:
    """Return a network's card: everything that is known of its weights, and of other seeds' if they were trained."""
    card = loaded.card
    accuracy, data = card.accuracy, card.data
    points = chance_points(accuracy["top1"], accuracy["images"])
    facts = {
        "Windows": describe_windows(loaded),
        "Size": f"{card.parameters:,} parameters; {card.macs / 1e6:.1f} million multiply-adds for one image of "
        f"{card.input_size} × {card.input_size} pixels",
        "Accuracy": f"{accuracy['top1']:.1f} % (±{points:.1f}) right at first guess, {accuracy['top5']:.1f} % among "
        f"five, on {accuracy['images']} images ({accuracy['split']})",
        "Seeds": describe_spread(card, runs),
        "Probabilities": f"after a temperature of {card.temperature:.3g} they are off by "
        f"{accuracy['calibration_error']:.1f} points on average (calibration error)",
        "Unknown photos": describe_unknown(card),
    }
    if card.shifts is not None:
        facts["Shifts"] = (
            f"the same answer to two crops of a photo in {card.shifts['crops']:.1f} % of photos, and in "
            f"{card.shifts['circular']:.1f} % where the photo is rolled around its edges instead"
        )
    if card.corruptions is not None:
        facts["Corruptions"] = f"wrong in {card.corruptions['mean_error']:.1f} %" + (
            f", an mCE of {card.corruptions['mce']:.2f} (Stock: 1)" if card.corruptions["mce"] is not None else ""
        )
    more = {
        "Sees a photo": card.preprocessing,
        "Trained on": f"{data['train_images']} images: {data['description']}",
        "Terms": f"{data['terms']}. {card.licence}",
        "Recipe": f"{describe_recipe(card)}; seed {card.seed}; {card.date}",
        "File": f"{card.name}.safetensors, {card.storage}; SHA-256 begins {card.sha256[:12]}",
    }
    return (
        f'<article class="ps-card"><h3>{NAMES[card.variant]}</h3><p>{METHODS[card.variant]}</p>{_list(facts)}'
        f"<details><summary>Data, recipe, file</summary>{_list(more)}</details></article>"
    )


def _list(facts: dict[str, str]) -> str:
    items = "".join(f"<dt>{escape(name)}</dt><dd>{escape(words)}</dd>" for name, words in facts.items())
    return f'<dl class="ps-facts">{items}</dl>'


def draw_cards(own: NetworkSet, runs: Sequence[SeedRuns]) -> str:
    """Return all cards of a set."""
    cards = "".join(draw_card(loaded, runs) for loaded in own.networks)
    return f'<h2 class="ps-heading">The cards: {escape(own.title)}</h2><div class="ps-models">{cards}</div>'


def draw_known(sets: Sequence[NetworkSet], kinds: Mapping[str, str]) -> str:
    """Return the lists of what the networks know, with a field to search them, which the browser does by itself.

    Args:
        kinds: by WordNet id the words under which a class is found beside its own, such as "animal, dog".
    """
    count = len({label.wnid for own in sets for label in own.classes})
    lists = "".join(
        f'<section><h3 id="known-{escape(own.name)}">{escape(own.title)}</h3>'
        f'<div role="region" aria-labelledby="known-{escape(own.name)}" tabindex="0">'
        f"{_list_classes(own.classes, kinds)}</div></section>"
        for own in sets
    )
    return (
        '<h2 class="ps-heading">What the networks know</h2>'
        '<p class="ps-search"><label for="known-search">Do they know …</label>'
        '<input id="known-search" type="search" placeholder="cat" autocomplete="off">'
        f'<output for="known-search" role="status">All {count} are listed.</output></p>{lists}'
    )


def _list_classes(classes: Sequence[ClassLabel], kinds: Mapping[str, str]) -> str:
    items = "".join(
        f'<li data-wnid="{escape(label.wnid)}" data-kinds="{escape(kinds.get(label.wnid, ""))}">{escape(label.label)}'
        f"{f' <small>{escape(rest)}</small>' if rest else ''}</li>"
        for label in sorted(classes, key=lambda label: label.label.lower())
        for rest in [label.words.partition(",")[2].strip()]
    )
    return f'<ul class="ps-known">{items}</ul>'


def draw_snippets() -> str:
    """Return how to use each way of pooling in a network of one's own."""
    parts = "".join(
        f"<details{' open' if variant == 'soft' else ''}><summary>{NAMES[variant]}</summary>"
        '<div class="ps-snippet"><button type="button">Copy</button>'
        f'<pre tabindex="0">{escape(snippet)}</pre></div></details>'
        for variant, snippet in SNIPPETS.items()
    )
    return (
        '<h2 class="ps-heading">Take a layer home</h2>'
        '<p class="ps-note">The layers are <code>poolcore</code>, which needs PyTorch and nothing else. In a clone of '
        "PoolScope, <code>pip install .</code> installs it. Each of these runs as it stands:</p>"
        f'<div class="ps-snippets">{parts}</div>'
    )


def build(context: Context) -> None:
    """Create the tab: the tables, the search, the snippets and the cards."""
    cards = [loaded.card for own in context.sets for loaded in own.networks]

    def models() -> list[dict[str, object]]:
        """Return the cards of the networks: data, recipe, accuracy, parameters, MACs, licence, checksum, classes."""
        return [asdict(card) | {"classes": [label._asdict() for label in card.classes]} for card in cards]

    sets = "".join(draw_set(own) for own in context.sets)
    gr.HTML(f'<p class="ps-note">{CLAIMS}</p>{sets}', elem_id="models-table", apply_default_css=False)
    runs = read_seed_runs(SEED_RUNS)
    gr.HTML(draw_seeds(runs), elem_id="models-seeds", apply_default_css=False)
    kinds = json.loads(KINDS.read_text(encoding="utf-8"))
    gr.HTML(draw_known(context.sets, kinds), js_on_load=SEARCH, elem_id="known", apply_default_css=False)
    gr.HTML(draw_snippets(), js_on_load=COPY, elem_id="snippets", apply_default_css=False)
    gr.HTML("".join(draw_cards(own, runs) for own in context.sets), elem_id="models-cards", apply_default_css=False)
    gr.on([], models, None, [gr.JSON(visible=False, label="Cards")], api_name="models", queue=False)
