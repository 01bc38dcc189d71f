"""The page's endpoints as a program calls them: typed, with the numbers of the weights, each caller's photo its own."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from tests.ui import by_hand
from tests.ui.by_hand import VARIANTS
from tests.ui.conftest import Photos
from tests.ui.running import Server

PLACES = ("stem", "stage2", "stage3", "stage4", "stage2.shortcut", "stage3.shortcut", "stage4.shortcut")
BANDS = list(by_hand.BANDS)


@pytest.fixture(scope="module")
def client(server: Server) -> Client:
    return Client(server.url, verbose=False)


@pytest.fixture(scope="module")
def strict_client(attacked: Server) -> Client:
    """For calls that end in an error, which the server's log may tell."""
    return Client(attacked.url, verbose=False)


class TestDescription:
    def test_endpoints_are_listed_with_their_types(self, client: Client):
        endpoints = client.view_api(print_info=False, return_format="dict")["named_endpoints"]
        assert set(endpoints) == {"/compare", "/subbands", "/speed", "/models"}
        types = {
            name: {part["parameter_name"]: part["python_type"]["type"] for part in endpoint["parameters"]}
            for name, endpoint in endpoints.items()
        }
        assert list(types["/compare"]) == ["photo", "networks", "place", "network_set"]
        assert all(variant in types["/compare"]["networks"] for variant in VARIANTS)
        assert all(place in types["/compare"]["place"] for place in PLACES)
        assert list(types["/subbands"]) == ["photo", "source", "keep", "channel", "network_set"]
        assert all(source in types["/subbands"]["source"] for source in ("haar", "cdf53", *PLACES))
        assert list(types["/speed"]) == ["shape", "network_set"]
        for name in ("/compare", "/subbands", "/speed"):
            assert by_hand.SET in types[name]["network_set"]
        assert types["/models"] == {}
        for endpoint in endpoints.values():
            assert endpoint["description"], "each says what it returns"


class TestCompare:
    def test_numbers_are_those_of_the_weights(self, client: Client, photos: Photos):
        for place in ("stem", "stage3.shortcut"):
            numbers, picture = client.predict(
                photo=handle_file(photos.path("tabby", 20)), networks=list(VARIANTS), place=place, api_name="/compare"
            )
            assert numbers["place"] == place
            assert [network["variant"] for network in numbers["networks"]] == list(VARIANTS)
            for network in numbers["networks"]:
                self.check(network, photos.small("tabby", 20), place)
            with Image.open(picture) as row:
                assert row.width > len(VARIANTS) * 200

    def check(self, network: dict, photo: Image.Image, place: str) -> None:
        variant = network["variant"]
        truth = by_hand.look(variant, photo)
        label = max(truth.probabilities, key=lambda label: truth.probabilities[label])
        assert network["label"] == label
        assert network["probability"] == pytest.approx(truth.probabilities[label], abs=1e-4)
        assert network["known"] == truth.known
        assert 0 < network["pooling_ms"] < network["time_ms"]
        assert set(network["places"]) == set(PLACES)
        for name, x in truth.inputs.items():
            figures, (c, h, w) = network["places"][name], x.shape
            assert figures["input_shape"] == [c, h, w]
            assert figures["output_shape"] == [c if variant != "stock" or name == "stem" else 2 * c, h // 2, w // 2]
        for name in truth.shares:
            figures = network["places"][name]
            wanted = truth.dropped_and_kept(name)
            assert (figures["dropped_percent"], figures["kept_percent"]) == pytest.approx(wanted, abs=0.02)
            mean = truth.shares[name].mean(0)
            limits = (figures["share_min"], figures["share_max"])
            assert limits == pytest.approx((np.nanmin(mean), np.nanmax(mean)), rel=2e-3, abs=1e-3)
        shares = np.array(network["share_map"], float)
        coverage = by_hand.coverage_of(len(shares), self.window(variant, place))
        read = ~np.isnan(shares)
        np.testing.assert_array_equal(read, coverage > 0)
        assert (coverage * shares)[read].sum() / coverage.sum() == pytest.approx(1, abs=1e-3)

    def window(self, variant: str, place: str) -> tuple[int, int, int]:
        """Return the window of the average that a share is held against."""
        if variant == "stock" and place.endswith("shortcut"):
            return 2, 2, 0  # a 1 x 1 convolution that steps by two
        return by_hand.WINDOWS[variant]

    def test_some_networks_alone(self, client: Client, photos: Photos):
        numbers, _ = client.predict(
            photo=handle_file(photos.path("koala", 21)), networks=["lip"], place="stage4", api_name="/compare"
        )
        assert [network["variant"] for network in numbers["networks"]] == ["lip"]

    def test_two_callers_at_once_get_their_own(self, server: Server, photos: Photos):
        names = ("goldfish", "bridge")
        paths = {name: photos.path(name, 22) for name in names}
        callers = {name: Client(server.url, verbose=False) for name in names}

        def ask(name: str) -> dict[str, float]:
            numbers, _ = callers[name].predict(
                photo=handle_file(paths[name]), networks=["stock", "max"], place="stem", api_name="/compare"
            )
            return {guess["label"]: guess["probability"] for guess in numbers["networks"][1]["top"]}

        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(ask, names * 3))
        for name, answer in zip(names * 3, answers, strict=True):
            truth = by_hand.look("max", photos.small(name, 22)).probabilities
            assert answer == pytest.approx({label: truth[label] for label in answer}, abs=1e-4)


class TestSubbands:
    def test_energies_of_a_photo(self, client: Client, photos: Photos):
        numbers, bands, rebuilt = client.predict(
            photo=handle_file(photos.path("rocket", 23)), source="haar", keep=["LL"], channel=0, api_name="/subbands"
        )
        photo = photos.small("rocket", 23)
        assert numbers["shape"] == [3, 72, 72]
        assert numbers["band_shape"] == [3, 36, 36]
        assert numbers["energy_percent"] == pytest.approx(by_hand.haar_energy(photo), rel=1e-3)
        assert numbers["rebuilt"]["psnr_db"] == pytest.approx(by_hand.psnr_of_means_db(photo), abs=0.006)
        assert numbers["rebuilt"]["largest_error_from_all"] < 1e-6
        pixels = np.asarray(photo, float)
        means = pixels.reshape(36, 2, 36, 2, 3).mean((1, 3))
        with Image.open(rebuilt) as image:
            assert np.abs(np.asarray(image, float) - means.repeat(2, 0).repeat(2, 1)).max() <= 1
        with Image.open(bands) as image:
            assert np.abs(np.asarray(image, float)[:36, :36] - means).max() <= 1

    def test_energies_of_a_place(self, client: Client, photos: Photos):
        numbers, *_ = client.predict(
            photo=handle_file(photos.path("rocket", 23)),
            source="stage4.shortcut",
            keep=BANDS,
            channel=3,
            api_name="/subbands",
        )
        truth = by_hand.look("lift", photos.small("rocket", 23))
        assert numbers["shape"] == list(truth.inputs["stage4.shortcut"].shape)
        assert numbers["energy_percent"] == pytest.approx(truth.energy["stage4.shortcut"], rel=2e-3)


def test_speed_measures_networks_and_poolings(client: Client):
    numbers = client.predict(shape="1x64x112x112", api_name="/speed")
    assert numbers["poolings"]["shape"] == [1, 64, 112, 112]
    assert [row["variant"] for row in numbers["networks"]["times"]] == list(VARIANTS)
    assert [row["variant"] for row in numbers["poolings"]["times"]] == list(VARIANTS[1:])
    for part in ("networks", "poolings"):
        assert numbers[part]["rounds"] >= 1
        for row in numbers[part]["times"]:
            assert 0 < row["time_ms"]["lower"] <= row["time_ms"]["median"] <= row["time_ms"]["upper"]


def test_models_gives_the_cards(client: Client):
    cards = client.predict(api_name="/models")
    opening = [card for card in cards if card["name"].startswith(by_hand.SET)]
    assert [card["variant"] for card in opening] == list(VARIANTS)
    for card in opening:
        assert card["parameters"] == by_hand.count_parameters(card["variant"])


WRONG = {
    "no photo": ("/compare", {"photo": None, "networks": ["max"], "place": "stem"}, "Upload a photo"),
    "no network": ("/compare", {"networks": [], "place": "stem"}, "at least one network"),
    "unknown network": ("/compare", {"networks": ["resnet"], "place": "stem"}, "resnet"),
    "unknown place": ("/compare", {"networks": ["max"], "place": "nowhere"}, "nowhere"),
    "no place": ("/compare", {"networks": ["max"], "place": None}, "place must be one of stem, "),
    "no channel": ("/subbands", {"source": "haar", "keep": BANDS, "channel": None}, "channel must be a whole number"),
    "unknown source": ("/subbands", {"source": "db4", "keep": BANDS, "channel": 0}, "db4"),
    "unknown band": ("/subbands", {"source": "haar", "keep": ["XX"], "channel": 0}, "XX"),
    "unknown channel": ("/subbands", {"source": "haar", "keep": BANDS, "channel": 9}, "channel must be from 0"),
    "unknown shape": ("/speed", {"shape": "9x9"}, "9x9"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_argument_gets_a_sentence(strict_client: Client, photos: Photos, tmp_path: Path, case: str):
    endpoint, arguments, words = WRONG[case]
    if endpoint != "/speed" and "photo" not in arguments:
        arguments = {"photo": handle_file(photos.path("orange", 24)), **arguments}
    with pytest.raises(AppError) as caught:
        strict_client.predict(**arguments, api_name=endpoint)
    assert words in str(caught.value)
    assert str(by_hand.ROOT) not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "words"), [(b"hello\n", "holds text"), (b"", "empty"), (b"<svg></svg>", "SVG drawing")]
)
def test_a_bad_photo_gets_its_sentence(strict_client: Client, tmp_path: Path, content: bytes, words: str):
    path = tmp_path / "photo.jpg"
    path.write_bytes(content)
    with pytest.raises(AppError, match=words):
        strict_client.predict(photo=handle_file(path), networks=["max"], place="stem", api_name="/compare")
