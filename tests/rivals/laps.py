"""What the programs beside this one have in common: lines on standard input ask a swarm, lines of JSON say how fast it was.

`put IN_FLIGHT OPERATIONS SECONDS` puts so many new values, by turns through all nodes; `get IN_FLIGHT OPERATIONS SECONDS` gets what the last
puts put, each value through another node. Nothing is begun after so many seconds. The first line that is printed says how many nodes there are.

A swarm has `nodes`, their number; `put(node, number)` and `get(node, number)`, which begin an operation and raise nothing; and `finished()`, which
waits for the end of some, and returns their numbers, each with whether it did what it should.
"""

import json
import sys
from itertools import islice
from time import perf_counter

# From the node of a put to that of its get.
STRIDE = 7
# The longest that nothing at all may end.
PATIENCE_SECONDS = 60


def value(number):
    """What is put: another for each number, and as long as what Comet's swarm is given."""
    return b"%06d" % number


def serve(swarm):
    """Answers every line."""
    say({"nodes": swarm.nodes})
    last = range(0)
    for line in sys.stdin:
        operation, *limits = line.split()
        in_flight, operations, seconds = map(int, limits)
        if operation == "put":
            new = range(last.stop, last.stop + operations)
            figures = lap(swarm, swarm.put, 0, new, in_flight, seconds)
            last = new[: figures["operations"]]
        else:
            figures = lap(swarm, swarm.get, STRIDE, last[:operations], in_flight, seconds)
        say(figures)


def lap(swarm, begin, stride, numbers, in_flight, seconds):
    """Times the operations with these numbers, so many of which are under way at once."""
    began, times, failed = {}, [], 0
    start = perf_counter()
    waiting = (number for number in numbers if perf_counter() < start + seconds)

    def begin_some(most):
        for number in islice(waiting, most):
            began[number] = perf_counter()
            begin((number + stride) % swarm.nodes, number)

    begin_some(in_flight)
    while began:
        ended = swarm.finished()
        now = perf_counter()
        for number, succeeded in ended:
            times.append(now - began.pop(number))
            failed += not succeeded
        begin_some(len(ended))
    whole = perf_counter() - start
    times.sort()

    def percentile_ms(percent):
        return times[min(len(times) * percent // 100, len(times) - 1)] * 1e3

    return {
        "operations": len(times),
        "failed": failed,
        "per_second": len(times) / whole,
        "p50_ms": percentile_ms(50),
        "p99_ms": percentile_ms(99),
    }


def say(line):
    """Prints it so that whoever waits for it gets it."""
    print(json.dumps(line), flush=True)
