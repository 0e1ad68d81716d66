"""Programs of delays and transfers, drawn at random, and when brute force says they start and end."""

from dataclasses import dataclass
from fractions import Fraction

from hypothesis import settings
from hypothesis import strategies as st

from simgpu.engine import Phase, Simulator

repeatable = settings(derandomize=True, deadline=None, max_examples=150)


@dataclass(frozen=True)
class Job:
    """An activity of a random program: phases (latency, flows), a delay being one phase without flows."""

    kind: str  # delay or transfer
    streams: tuple
    phases: tuple
    after: tuple


@dataclass(frozen=True)
class Program:
    capacities: tuple
    streams: int
    jobs: tuple


whole_times, whole_sizes = st.integers(0, 4), st.integers(1, 20)


@st.composite
def programs(draw, most_jobs=10, times=whole_times, sizes=whole_sizes):
    """Delays and transfers of up to three phases in a few streams, over a few links; small integers make ties."""
    capacities = tuple(draw(st.lists(st.integers(1, 6), min_size=1, max_size=4)))
    streams = draw(st.integers(1, 4))
    routes = st.lists(st.integers(0, len(capacities) - 1), min_size=1, unique=True).map(tuple)
    flows = st.lists(st.tuples(routes, sizes), max_size=3).map(tuple)
    jobs = []
    for number in range(draw(st.integers(1, most_jobs))):
        after = tuple(draw(st.lists(st.integers(0, number - 1), max_size=3))) if number else ()
        if draw(st.booleans()):
            jobs.append(Job("delay", (draw(st.integers(0, streams - 1)),), ((draw(times), ()),), after))
        else:
            held = tuple(draw(st.lists(st.integers(0, streams - 1), max_size=3, unique=True)))
            phases = tuple(draw(st.lists(st.tuples(times, flows), max_size=3)))
            jobs.append(Job("transfer", held, phases, after))
    return Program(capacities, streams, tuple(jobs))


fine_grained = {"times": st.floats(0, 10, allow_nan=False), "sizes": st.floats(1e-2, 1e2, allow_nan=False)}


def simulated(program):
    sim = Simulator()
    for capacity in program.capacities:
        sim.add_link(capacity)
    for stream in range(program.streams):
        assert sim.add_stream(f"stream {stream}") == stream
    for number, job in enumerate(program.jobs):
        if job.kind == "delay":
            given = sim.delay(job.streams[0], job.phases[0][0], job.after, label=number)
        else:
            given = sim.transfer(job.streams, [Phase(*phase) for phase in job.phases], job.after, label=number)
        assert given == number
    return sim.run()


def before(program):
    """What each activity waits for: what it names, and the one before it in each of its streams."""
    last, waits = {}, []
    for number, job in enumerate(program.jobs):
        waits.append({*job.after, *(last[stream] for stream in job.streams if stream in last)})
        last.update(dict.fromkeys(job.streams, number))
    return waits


def fair_rates(capacities, routes):
    """Max-min rates: freeze the flows of the link that gives each the least, take them away, repeat. Exact."""
    rates, free = {}, dict(enumerate(map(Fraction, capacities)))
    while len(rates) < len(routes):
        users = {link: [key for key, route in routes.items() if link in route and key not in rates] for link in free}
        share, link = min((free[link] / len(keys), link) for link, keys in users.items() if keys)
        for key in users[link]:
            rates[key] = share
            for crossed in routes[key]:
                free[crossed] -= share
    return rates


def brute_force(program):
    """Start and end of every activity, in exact arithmetic, every rate solved from scratch at every event."""
    waits, count = before(program), len(program.jobs)
    start, end = [None] * count, [None] * count
    phase_of, lead_ends, left = [-1] * count, {}, {}  # left: bytes of (activity, flow)
    now = Fraction(0)

    def next_phase(number):
        phase_of[number] += 1
        phases = program.jobs[number].phases
        if phase_of[number] < len(phases):
            lead_ends[number] = now + Fraction(phases[phase_of[number]][0])
        else:
            end[number] = now

    while None in end:
        moved = True
        while moved:
            moved = False
            for number in range(count):
                if start[number] is None and all(end[other] is not None for other in waits[number]):
                    start[number] = now
                    next_phase(number)
                    moved = True
                elif lead_ends.get(number) == now:
                    del lead_ends[number]
                    flows = program.jobs[number].phases[phase_of[number]][1]
                    left.update({(number, i): Fraction(size) for i, (_, size) in enumerate(flows)})
                    if not flows:
                        next_phase(number)
                    moved = True
        if None not in end:
            break
        routes = {(a, i): program.jobs[a].phases[phase_of[a]][1][i][0] for a, i in left}
        rates = fair_rates(program.capacities, routes)
        then = min([*lead_ends.values(), *(now + left[key] / rates[key] for key in left)])
        left = {key: size - rates[key] * (then - now) for key, size in left.items()}
        now = then
        moving = {a for a, _ in left}
        left = {key: size for key, size in left.items() if size > 0}
        for number in sorted(moving - {a for a, _ in left}):
            next_phase(number)
    return [float(time) for time in start], [float(time) for time in end]
