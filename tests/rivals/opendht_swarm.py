"""A swarm of OpenDHT nodes on loopback, asked by `laps`: `python3 opendht_swarm.py NODES`.

Values are plain ones: not signed, not encrypted, kept in memory. A put ends when the eight nearest nodes have stored the value; a get ends with the
first value that is found, which a node that has it finds in its own store.
"""

import os
import sys
from queue import SimpleQueue
from socket import AF_INET
from time import sleep

from opendht import DhtConfig, DhtRunner, InfoHash, Value

from laps import PATIENCE_SECONDS, serve, value

LOOPBACK = "127.0.0.1"
UNLIMITED = -1


class Swarm:
    """Each node knows a quarter of the others at least when it is made."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.runners = []
        self.ended = SimpleQueue()
        for _ in range(nodes):
            config = DhtConfig()
            # Requests per second, of all and of one address: they all have one address.
            config.setRateLimit(UNLIMITED, UNLIMITED)
            runner = DhtRunner()
            runner.run(ipv4=LOOPBACK, config=config)
            self.runners.append(runner)
        ports = [str(runner.getBound().getPort()) for runner in self.runners]
        while strangers := [runner for runner in self.runners if known(runner) < nodes // 4]:
            for runner in strangers:
                for port in ports:
                    runner.bootstrap(LOOPBACK, port)
            sleep(1)

    def put(self, node, number):
        self.runners[node].put(key(number), Value(value(number)), lambda stored, _: self.ended.put((number, stored)))

    def get(self, node, number):
        found = []

        def take(got):
            # One get may bring several values before it hears that one is enough.
            if not found:
                self.ended.put((number, got.data == value(number)))
            found.append(got)
            return False

        def end(*_):
            if not found:
                self.ended.put((number, False))

        self.runners[node].get(key(number), take, end)

    def finished(self):
        return [self.ended.get(timeout=PATIENCE_SECONDS)]


def known(runner):
    """How many others this node knows."""
    return runner.getRoutingTablesLog(AF_INET).count("Node ")


def key(number):
    return InfoHash.get(str(number))


serve(Swarm(int(sys.argv[1])))
# At once: an end in good order waits for each node.
os._exit(0)
