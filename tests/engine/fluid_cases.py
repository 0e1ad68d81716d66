"""Cases of flows over links, drawn at random, and what brute force says of them."""

from dataclasses import dataclass
from fractions import Fraction
from math import inf

from hypothesis import settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from simgpu.engine.network import FluidNetwork

repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@dataclass(frozen=True)
class Case:
    """Capacities of the links, and flows (arrival, route, size) in order of arrival."""

    capacities: tuple
    flows: tuple


whole_sizes, whole_arrivals = st.integers(1, 60), st.integers(0, 12)


@st.composite
def cases(draw, most_flows=8, sizes=whole_sizes, arrivals=whole_arrivals):
    """Few links, and for half of the flows a new one, private until a later flow crosses it; integers make ties."""
    capacities = draw(st.lists(st.integers(1, 12), min_size=1, max_size=5))
    times = sorted(draw(st.lists(arrivals, min_size=1, max_size=most_flows)))
    flows = []
    for time in times:
        known = st.integers(0, len(capacities) - 1)
        crossed = draw(st.lists(known, unique=True, max_size=min(len(capacities), 4)))
        if not crossed or draw(st.booleans()):
            capacities.append(draw(st.integers(1, 12)))
            crossed.insert(draw(st.integers(0, len(crossed))), len(capacities) - 1)
        flows.append((time, tuple(crossed), draw(sizes)))
    return Case(tuple(capacities), tuple(flows))


fine_grained = {
    "sizes": st.floats(1e-3, 1e3, allow_nan=False),
    "arrivals": st.floats(0, 20, allow_nan=False),
}


def network_of(case):
    network = FluidNetwork()
    for number, capacity in enumerate(case.capacities):
        assert network.add_link(capacity) == number
    return network


def history(case):
    """Run a case on FluidNetwork. Yields (now, rates by flow, flows that ended now) after every event."""
    network = network_of(case)
    waiting = list(enumerate(case.flows))
    while waiting or network.next_time < inf:
        now = min(network.next_time, waiting[0][1][0] if waiting else inf)
        done = network.finish(now) if network.next_time == now else []
        while waiting and waiting[0][1][0] == now:
            key, (_, route, size) = waiting.pop(0)
            network.start(key, route, size)
        network.solve(now)
        yield now, network.rates(), done


def ends_of(case):
    return {key: now for now, _, done in history(case) for key in done}


def progressive_filling(capacities, routes):
    """Max-min rates from the definition: raise all rates together, freeze whoever crosses a full link. Exact."""
    rates, frozen = dict.fromkeys(routes, Fraction(0)), set()
    free_capacity = [Fraction(capacity) for capacity in capacities]
    while len(frozen) < len(routes):
        users = {
            link: sum(key not in frozen and link in route for key, route in routes.items())
            for link in range(len(capacities))
        }
        step = min(free_capacity[link] / n for link, n in users.items() if n)
        for key, route in routes.items():
            if key not in frozen:
                rates[key] += step
                for link in route:
                    free_capacity[link] -= step
        frozen |= {key for key, route in routes.items() if any(free_capacity[link] == 0 for link in route)}
    return rates


def brute_force_ends(case):
    """End of each flow when every rate is worked out from scratch at every event, in exact arithmetic."""
    now, left, ends = Fraction(0), {}, {}
    waiting = list(enumerate(case.flows))
    while waiting or left:
        rates = progressive_filling(case.capacities, {key: case.flows[key][1] for key in left})
        next_end = min((now + left[key] / rates[key] for key in left), default=None)
        next_arrival = Fraction(waiting[0][1][0]) if waiting else None
        then = min(time for time in (next_end, next_arrival) if time is not None)
        left = {key: size - rates[key] * (then - now) for key, size in left.items()}
        now = then
        for key in [key for key, size in left.items() if size == 0]:
            ends[key] = now
            del left[key]
        while waiting and waiting[0][1][0] == now:
            key, (_, _, size) = waiting.pop(0)
            left[key] = Fraction(size)
    return ends


def lexicographic_max_min(capacities, routes):
    """Max-min rates by linear programs: maximise the least rate, fix the flows that cannot exceed it, repeat."""
    keys = list(routes)
    uses = [[float(link in routes[key]) for key in keys] for link in range(len(capacities))]
    fixed = {}
    while len(fixed) < len(keys):
        # variables: one rate for each flow, and the level t; t <= rate of every flow that is not fixed
        level_rows = [[-float(other == key) for other in keys] + [1.0] for key in keys if key not in fixed]
        best = linprog(
            [0.0] * len(keys) + [-1.0],
            A_ub=[[*row, 0.0] for row in uses] + level_rows,
            b_ub=[*capacities, *[0.0] * len(level_rows)],
            bounds=[(fixed[key], fixed[key]) if key in fixed else (0, None) for key in keys] + [(0, None)],
        )
        assert best.status == 0
        level = best.x[-1]
        floor = [(fixed[key], fixed[key]) if key in fixed else (level * (1 - 1e-9), None) for key in keys]
        stuck = {}
        for i, key in enumerate(keys):
            if key not in fixed:
                alone = linprog([-float(i == j) for j in range(len(keys))], A_ub=uses, b_ub=capacities, bounds=floor)
                assert alone.status == 0
                if alone.x[i] <= level * (1 + 1e-7):
                    stuck[key] = level
        assert stuck, "the least rate must be bottlenecked somewhere"
        fixed.update(stuck)
    return fixed


def assert_max_min(capacities, routes, rates):
    """Bertsekas and Gallager: fair exactly when each flow crosses a full link on which no flow is faster."""
    assert rates.keys() == routes.keys()
    load = [sum(rates[key] for key, route in routes.items() if link in route) for link in range(len(capacities))]
    for link, capacity in enumerate(capacities):
        assert load[link] <= capacity * (1 + 1e-9)
    for key, route in routes.items():
        assert any(
            load[link] >= capacities[link] * (1 - 1e-9)
            and rates[key] >= max(rates[other] for other, crossed in routes.items() if link in crossed) * (1 - 1e-9)
            for link in route
        ), f"flow {key} has no bottleneck"
