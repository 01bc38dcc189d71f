"""The Sub-bands tab: what LiftPool separates in the photo or in its network, and what is rebuilt from it."""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import gradio as gr
from PIL import Image

from ui.bands import BANDS, Rebuilt, Scale, Split, Wavelet, draw, mosaic, split_photo, split_place
from ui.context import Context
from ui.photo import Photo, PhotoInput
from ui.pictures import data_url, jpeg, png
from ui.words import PLACE_NAMES, listed

__all__ = ["build"]

WAVELETS: dict[str, Wavelet] = {"haar": "haar", "cdf53": "cdf53"}
PHOTO_SOURCES = {"haar": "Photo, Haar wavelet", "cdf53": "Photo, CDF 5/3 wavelet"}
FIRST_SOURCE = "haar"
NO_PHOTO = "Upload a photo or choose an example."
NO_LIFT = "The networks that know these things have no LiftPool among them: split the photo by haar or cdf53."

MEANINGS = {
    "LL": "the coarse picture at half the size",
    "LH": "vertical detail: changes from row to row, so horizontal edges",
    "HL": "horizontal detail: changes from column to column, so vertical edges",
    "HH": "diagonal detail: changes both ways at once, such as corners and fine texture",
}
ENERGY = "A band's share of the energy is its sum of squares over that of all four bands; nothing is removed before."
INTRODUCTION = """<p class="ps-note">LiftPool splits a picture into four bands of half its size: one coarse, three of
detail. Unlike every other pooling here it can be undone: from all four bands the picture comes back. Switch bands off
to see what each carries.</p>"""


@dataclass(frozen=True)
class Shown:
    """One split, ready for the page and for JSON."""

    source: str
    name: str
    split: Split
    rebuilt: Rebuilt
    keep: Sequence[str]
    channel: int | None

    def numbers(self) -> dict[str, object]:
        """Return every number, ready for JSON."""
        _, scale = draw(self.split, self.rebuilt, self.channel)
        exact, rebuilt = self.split.rebuild(BANDS), self.rebuilt
        return {
            "source": self.source,
            "shape": list(self.split.x.shape[1:]),
            "band_shape": list(self.split.bands.ll.shape[1:]),
            "energy_percent": {name: _significant(share, 4) for name, share in self.split.energy().items()},
            "rebuilt": {
                "from": list(self.keep),
                "psnr_db": round(rebuilt.psnr_db, 2) if rebuilt.psnr_db < float("inf") else None,
                "largest_error": _significant(rebuilt.largest_error, 3),
                "largest_error_from_all": _significant(exact.largest_error, 3),
            },
            "scale": {"low": scale.low, "high": scale.high, "detail": scale.detail, "signed": scale.signed},
            "words": {
                "shape": "channels, height, width of what is split",
                "energy_percent": ENERGY,
                "psnr_db": "of what is rebuilt, the peak being the range of what was split; null without any error",
                "scale": "low and high: black and white of LL and of what is rebuilt; detail: white of LH, HL and HH",
            },
        }

    def html(self) -> str:
        """Return the pictures with their captions."""
        pictures, scale = draw(self.split, self.rebuilt, self.channel)
        energy = self.split.energy()
        is_photo = self.split.is_photo

        def figure(name: str, alt: str, caption: str) -> str:
            image = Image.fromarray(pictures[name])
            address = data_url(jpeg(image), "image/jpeg") if is_photo else data_url(png(image))
            return f'<figure><img src="{address}" alt="{escape(alt)}"><figcaption>{caption}</figcaption></figure>'

        bands = "".join(
            figure(
                name,
                f"{name} of {self.name}: {MEANINGS[name]}; {_percent(energy[name])} of the energy",
                f"<strong>{name}</strong> {MEANINGS[name]}<br><b>{_percent(energy[name])}</b> of the energy"
                + ("" if name in self.keep else " · switched off"),
            )
            for name in ("LL", "HL", "LH", "HH")
        )
        sentence = describe_rebuilt(self.split, self.rebuilt, self.keep)
        before = figure("split", f"What is split: {self.name}", f"<strong>Before</strong> {escape(self.name)}")
        after = figure("rebuilt", f"Rebuilt. {sentence}", f"<strong>Rebuilt</strong> {escape(sentence)}")
        return (
            f'<div class="ps-bands{"" if is_photo else " ps-pixelated"}">'
            f'<div class="ps-quad">{bands}</div><div class="ps-pair">{before}{after}</div></div>'
            f'<p class="ps-note">{escape(describe_scale(self.split, scale))} {ENERGY}</p>'
        )


def describe_rebuilt(split: Split, rebuilt: Rebuilt, keep: Sequence[str]) -> str:
    """Return in a sentence how near to the original the rebuilt picture comes."""
    range_in_words = "on a scale from 0 to 1" if split.is_photo else f"where the numbers span {split.peak:.3g}"
    if len(keep) == len(BANDS):
        error = _power(rebuilt.largest_error)
        return f"from all four bands: the largest error is {error} {range_in_words}, mere rounding."
    if not keep:
        return "from no band: nothing is left."
    psnr = f"PSNR {rebuilt.psnr_db:.1f} dB" if rebuilt.psnr_db < float("inf") else "without any error"
    kept = listed([name for name in BANDS if name in keep])
    return f"from {kept}: {psnr}, the largest error is {_power(rebuilt.largest_error)} {range_in_words}."


def describe_scale(split: Split, scale: Scale) -> str:
    """Return in a sentence what the greys of the pictures mean."""
    if not scale.signed:
        return (
            f"Shown is the mean size of all {split.x.shape[1]} channels: black is 0; white is {scale.high:.2g} in LL, "
            f"before and rebuilt, and {scale.detail:.2g} or more in LH, HL and HH."
        )
    details = f"In LH, HL and HH grey is 0, black −{scale.detail:.2g} and white +{scale.detail:.2g} or beyond"
    if split.is_photo:
        return f"{details}; the photo's own pixels go from 0 to 1."
    return f"{details}; in LL, before and rebuilt black is {scale.low:.2g} and white {scale.high:.2g}."


def _percent(share: float) -> str:
    """Return a percentage with the digits that tell: 93.4 %, 2.1 %, 0.034 %."""
    return f"{share:.1f} %" if share >= 10 else f"{_significant(share, 2):g} %"


def _power(number: float) -> str:
    """Return a small number as it is spoken: 1.2 × 10⁻⁷."""
    digits, _, exponent = f"{number:.1e}".partition("e")
    if not number or int(exponent) > -4:
        return f"{number:.2g}"
    return f"{digits} × 10⁻{''.join('⁰¹²³⁴⁵⁶⁷⁸⁹'[int(digit)] for digit in str(-int(exponent)))}"


def _significant(number: float, digits: int) -> float:
    return float(f"{number:.{digits}g}")


@dataclass(frozen=True)
class Subbands:
    """What the tab's events do, from plain values to plain values."""

    context: Context

    @property
    def sources(self) -> dict[str, str]:
        """What can be split, in words: the photo by each wavelet, and each place of a LiftPool network, if loaded."""
        if "lift" not in self.context.variants:
            return PHOTO_SOURCES
        return PHOTO_SOURCES | {place: f"LiftPool network, {name}" for place, name in PLACE_NAMES.items()}

    def channels(self, source: str, network_set: str) -> int:
        """Return the number of channels to choose from; 0 for a photo, which is shown in colour."""
        lift = self.context.find_set(network_set).find("lift")
        if lift is None or source in PHOTO_SOURCES:
            return 0
        layer = lift.network.pooling_places()[source]
        return next(layer.parameters()).shape[0]

    def show(self, photo: Photo, source: str, keep: Sequence[str], channel: int, network_set: str) -> Shown:
        """Split a photo, or what a place of a set's LiftPool network makes of it.

        Args:
            channel: counted from 1; 0 stands for all.

        Raises:
            gr.Error: for a source, band or channel that does not exist, naming those that do.
        """
        _check(source in self.sources, f"source must be one of {', '.join(self.sources)}, got {source}.")
        lift, count = self.context.find_set(network_set).find("lift"), self.channels(source, network_set)
        _check(source in WAVELETS or lift is not None, NO_LIFT)
        _check(set(keep) <= set(BANDS), f"keep must be of {', '.join(BANDS)}, got {', '.join(map(str, keep))}.")
        _check(
            0 <= channel <= count, f"channel must be from 0 (all) to {count} for the source {source}, got {channel}."
        )
        with self.context.machine:
            split = (
                split_photo(photo.image, WAVELETS[source])
                if lift is None or source in WAVELETS
                else split_place(lift, photo.image, source)
            )
        name = "the photo" if source in WAVELETS else f"the LiftPool network's map at {PLACE_NAMES[source]}"
        return Shown(source, name, split, split.rebuild(keep), keep, channel - 1 if channel else None)

    def draw(self, photo: Photo | None, source: str, keep: list[str], channel: float, network_set: str) -> str:
        """Return the tab's pictures."""
        if photo is None:
            return f'<p class="ps-note">{NO_PHOTO}</p>'
        if source not in WAVELETS and self.context.find_set(network_set).find("lift") is None:
            return f'<p class="ps-note">{NO_LIFT}</p>'
        most = self.channels(source, network_set)
        return self.show(photo, source, keep, min(int(channel), most), network_set).html()

    def offer_channels(self, source: str, network_set: str) -> gr.Slider:
        """Return the slider of channels as it fits the source, back at 0."""
        count = self.channels(source, network_set)
        return gr.Slider(maximum=max(1, count), value=0, visible=count > 0)

    def subbands(
        self, photo: Photo | None, source: str, keep: list[str], channel: float, network_set: str
    ) -> tuple[dict[str, object], Image.Image, Image.Image]:
        """Split a photo, or a place of a set's LiftPool network that looks at it, into LL, LH, HL and HH.

        Returns the numbers as JSON (shapes, each band's share of the energy, how exactly the original is rebuilt from
        the bands that are kept), the bands as one picture (LL HL above LH HH), and what is rebuilt.
        """
        if photo is None:
            raise gr.Error(NO_PHOTO, title="Photo", print_exception=False)
        _check(channel is not None, "channel must be a whole number, 0 for all, got null.")
        shown = self.show(photo, source, keep, int(channel), network_set)
        pictures, _ = draw(shown.split, shown.rebuilt, shown.channel)
        numbers = {"network_set": network_set} | shown.numbers()
        return numbers, mosaic(pictures), Image.fromarray(pictures["rebuilt"])


def _check(holds: bool, sentence: str) -> None:
    if not holds:
        raise gr.Error(escape(sentence), title="Sub-bands", print_exception=False)


def build(context: Context) -> None:
    """Create the tab: what is split, which bands are kept, and the pictures; the opening example's are finished."""
    tab = Subbands(context)
    gr.HTML(INTRODUCTION, apply_default_css=False)
    with gr.Row(elem_id="subbands-controls"):
        choices = [(words, source) for source, words in tab.sources.items()]
        source = gr.Dropdown(choices, value=FIRST_SOURCE, label="What is split", filterable=False, elem_id="source")
        keep = gr.CheckboxGroup(list(BANDS), value=list(BANDS), label="Rebuild from", elem_id="keep")
        channel = gr.Slider(0, 1, 0, step=1, label="Channel (0: mean size of all)", visible=False, elem_id="channel")
    first = tab.draw(context.opening, FIRST_SOURCE, list(BANDS), 0, context.sets[0].name)
    pictures = gr.HTML(first, elem_id="subbands", apply_default_css=False)

    asked = [context.photo, source, keep, channel, context.chosen]
    gr.on(
        [source.input, context.chosen.input],
        tab.offer_channels,
        [source, context.chosen],
        [channel],
        api_name="offer_channels",
        api_visibility="private",
        queue=False,
    ).then(
        tab.draw,
        asked,
        [pictures],
        api_name="draw_source",
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_id="subbands",
    )
    gr.on(
        [context.photo.change, keep.input, channel.input],
        tab.draw,
        asked,
        [pictures],
        api_name="draw_subbands",
        api_visibility="private",
        show_progress="hidden",
        trigger_mode="always_last",
        concurrency_id="subbands",
        concurrency_limit=2,
    )
    gr.on(
        [],
        tab.subbands,
        [
            PhotoInput(label="Photo", visible=False),
            source,
            keep,
            gr.Number(0, precision=0, visible=False, label="Channel"),
            context.chosen,
        ],
        [
            gr.JSON(visible=False, label="Numbers"),
            gr.Image(visible=False, format="png", label="Bands"),
            gr.Image(visible=False, format="png", label="Rebuilt"),
        ],
        api_name="subbands",
        concurrency_id="subbands",
    )
