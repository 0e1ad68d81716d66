"""The price of a GPU-hour of a scenario: which quotes it takes, and what stands beside them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from simgpu.catalog import Catalogue
from simgpu.errors import InputError
from simgpu.hardware.cluster import Cluster
from simgpu.hardware.derive import MARK
from simgpu.operations.cost import Hourly, Owned
from simgpu.operations.draw import Draw, power_of
from simgpu.operations.fields import SERVER_SHARE, CostFields, RestartFields
from simgpu.operations.power.fields import USUAL_PUE
from simgpu.operations.prices import Known, PriceBook, Wanted, base_gpu, price_book
from simgpu.operations.quantities import YEAR
from simgpu.operations.spot import preempted_of

BY_HAND = "set by hand"


@dataclass(frozen=True)
class Priced:
    """An hour of a GPU in a scenario: what it costs, by which prices, and how it compares with the other way.

    share
        The part of a whole GPU's price that a slice bears: one of as many of its kind as fit.
    rent
        USD of a GPU-hour that owning is compared with (of a rented one its own); None where no quote is known.
    """

    hourly: Hourly
    words: str
    draw: Draw
    share: float
    owned: Owned | None
    rent: float | None
    rent_words: str


def share_of(cluster: Cluster, catalogue: Catalogue) -> float:
    """The part of a GPU that a tenant of a MIG slice pays for: one of as many as fit; 1 of a whole GPU."""
    base, _, suffix = cluster.gpu.name.partition(MARK)
    if not suffix:
        return 1.0
    profiles = {one.name: one for one in catalogue.cluster(base).gpu.mig_profiles}
    chosen = next((profiles[part] for part in suffix.lower().split(MARK) if part in profiles), None)
    if chosen is None:
        return 1.0
    return 1.0 / chosen.instances


def priced_hour(
    fields: CostFields, row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue, pue: float = USUAL_PUE
) -> Priced:
    """What a GPU-hour of a job costs at a site of a PUE. Raises `InputError` where a price is missing."""
    book, draw = price_book(catalogue, fields.prices), power_of(row, cluster, fields.power)
    share = share_of(cluster, catalogue)
    if isinstance(fields.price, str) and row.get("gpu", cluster.gpu.name) != cluster.gpu.name:
        raise InputError(SEVERAL.removeprefix("none: "), key="cost.price")
    if fields.price == "owned":
        owned, known = _owned(fields, cluster, book, draw, share, pue)
        rent = _rent(fields, fields.against, cluster, book, share, "cost.against", must=False)
        hour = Hourly(owned.fixed(), owned.energy(draw.watts), fields.utilisation, owned.energy(draw.idle_watts))
        words = "; ".join(dict.fromkeys(known))
        return Priced(hour, words, draw, share, owned, *(rent or (None, "")))
    found = _rent(fields, fields.price, cluster, book, share, "cost.price", must=True)
    assert found is not None
    kept = fields.utilisation if str(fields.price).startswith("reserved") else 1.0  # the others are paid while used
    taken = preempted_of(fields, row, cluster, RestartFields())
    useful = taken.useful() if taken is not None else 1.0  # lost work is in training_goodput
    hour = Hourly({"rent": found[0]}, 0.0, kept, 0.0, useful)
    return Priced(hour, found[1], draw, share, None, *found)


LISTED = "none: no price on demand of '{}' in the files of prices (simgpu list prices); give cost.price"
"""What stands for the price of a GPU without a quote."""


def listed_hour(row: Mapping[str, Any], cluster: Cluster, catalogue: Catalogue) -> tuple[float | None, str]:
    """USD of a GPU-hour on demand and whose price it is, by the files of prices; None and why without a quote.

    Looked up once for each GPU.
    """
    gpu = cluster.gpu.name
    if row.get("gpu", gpu) != gpu:
        return None, SEVERAL
    known = _LISTED.setdefault(catalogue, {})
    if gpu not in known:
        share = share_of(cluster, catalogue)
        found = _rent(CostFields(), "on_demand", cluster, price_book(catalogue), share, "cost.price", must=False)
        known[gpu] = found or (None, LISTED.format(base_gpu(gpu)))
    return known[gpu]


SEVERAL = "none: its pools have several GPUs, whose prices differ; give cost.price in USD of a GPU-hour"
"""What stands for the price of pools of different GPUs."""

_LISTED: WeakKeyDictionary[Catalogue, dict[str, tuple[float | None, str]]] = WeakKeyDictionary()
"""Listed prices of GPUs by the catalogue that holds them."""


def nodes_of(row: Mapping[str, Any], cluster: Cluster) -> int:
    """Nodes that a job runs on."""
    return -(-int(row["gpus"]) // cluster.gpus_per_node)


def _rent(
    fields: CostFields, kind: str | float, cluster: Cluster, book: PriceBook, share: float, key: str, must: bool
) -> tuple[float, str] | None:
    """USD of a rented GPU-hour, and whose price it is."""
    if not isinstance(kind, str):
        return kind, f"{kind:g} USD/h, {BY_HAND}"
    own = kind == fields.price  # vendor and region are said of the price itself, not of what it is compared with
    wanted = Wanted(kind, fields.vendor if own else None, fields.region if own else None, fields.date)
    gpu = base_gpu(cluster.gpu.name)
    found = book.of(gpu, wanted, key) if must else book.find(gpu, wanted)
    if found is None:
        return None
    part = "" if share == 1.0 else f", {share:.3g} of it"
    return found.value * share, found.words + part


def _owned(
    fields: CostFields, cluster: Cluster, book: PriceBook, draw: Draw, share: float, pue: float
) -> tuple[Owned, list[str]]:
    """What owning one GPU takes, and the quotes it was reckoned with."""
    gpu, wanted = base_gpu(cluster.gpu.name), Wanted("purchase", fields.vendor, fields.region, fields.date)
    later = Wanted("purchase", None, None, fields.date)
    node = book.find(cluster.node.name, later) if cluster.node.name != cluster.gpu.name else None
    words: list[str] = []
    if fields.chips is not None and fields.chips[0] == "USD":
        chips = fields.chips[1]
        words.append(f"{gpu} {chips:,g} USD, {BY_HAND}")
    else:
        known = book.of(gpu, wanted, "cost.price")
        chips = known.value
        words.append(known.words)
    prices = {"chips": chips}
    each = node.value / cluster.gpus_per_node if node is not None else 0.0
    if fields.server is not None:
        prices["server"] = _amount(fields.server, chips)
    elif node is not None and each > chips:
        prices["server"] = each - chips
        words.append(node.words)
    else:
        prices["server"] = SERVER_SHARE * chips
    prices["network"] = _network(fields, cluster, book, chips, later, words)
    prices["storage"] = _amount(fields.storage, chips)
    hosting = _item(fields.hosting, book, "hosting", "monthly", fields, "cost.hosting", words)
    electricity = _item(fields.electricity, book, "electricity", "energy", fields, "cost.electricity", words)
    owned = Owned(
        {part: usd * share for part, usd in prices.items()}, fields.life / YEAR, fields.rate, fields.residual, hosting,
        draw.booked_watts, electricity, pue, fields.staff * share, fields.software * share, fields.spares,
    )  # fmt: skip
    return owned, words


def _network(
    fields: CostFields, cluster: Cluster, book: PriceBook, chips: float, wanted: Wanted, words: list[str]
) -> float:
    """USD of the fabric for each GPU; nothing of machines that have none."""
    if fields.network is not None:
        return _amount(fields.network, chips)
    if cluster.spec.fabric is None:
        return 0.0
    known = book.find("network", wanted)
    if known is None:
        return 0.0
    words.append(known.words)
    return known.value


def _amount(given: tuple[str, float], chips: float) -> float:
    return given[1] if given[0] == "USD" else given[1] * chips


def _item(
    given: float | None, book: PriceBook, of: str, kind: str, fields: CostFields, key: str, words: list[str]
) -> float:  # fmt: skip
    """A price beside the GPUs: as given, or from the files."""
    if given is not None:
        return given
    known: Known | None = book.find(of, Wanted(kind, None, None, fields.date))
    if known is None:
        raise InputError(f"no price of '{of}' in the files of prices; give {key} itself", key=key)
    words.append(known.words)
    return known.value
