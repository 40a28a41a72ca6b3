"""A swarm of libtorrent's DHT nodes on loopback, asked by `laps`: `python3 libtorrent_swarm.py NODES`.

Items are the immutable ones of BEP 44: named by their hash, not signed, kept in memory. A put ends when each of the eight nearest nodes
has answered or been given up, and has succeeded if five of them stored the item; a get ends with the first node that has it.
"""

import os
import sys
from queue import SimpleQueue
from time import sleep

import libtorrent

from laps import PATIENCE_SECONDS, serve, value

LOOPBACK = "127.0.0.1"
STORED_MIN = 5
# More than is ever sent; three times as much must be less than 2^31.
BYTES_PER_SECOND = 500_000_000
ITEMS_MAX = 1_000_000

SETTINGS = {
    "listen_interfaces": LOOPBACK + ":0",
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "alert_mask": libtorrent.alert.category_t.dht_notification,
    # These nodes know nobody else, share one address, and ask and store as much as they like.
    "dht_bootstrap_nodes": "",
    "dht_restrict_routing_ips": False,
    "dht_restrict_search_ips": False,
    "dht_ignore_dark_internet": False,
    "dht_prefer_verified_node_ids": False,
    "allow_multiple_connections_per_ip": True,
    "dht_upload_rate_limit": BYTES_PER_SECOND,
    "dht_block_ratelimit": BYTES_PER_SECOND,
    "dht_max_dht_items": ITEMS_MAX,
}


class Swarm:
    """Each node knows half of the others at least when it is made."""

    def __init__(self, nodes):
        self.nodes = nodes
        self.sessions = [libtorrent.session(SETTINGS) for _ in range(nodes)]
        self.targets, self.numbers, self.ready = {}, {}, SimpleQueue()
        for session in self.sessions:
            for other in self.sessions:
                if other is not session:
                    session.add_dht_node((LOOPBACK, other.listen_port()))
        for node, session in enumerate(self.sessions):
            while known(session) < nodes // 2:
                sleep(0.1)
            session.set_alert_notify(lambda node=node: self.ready.put(node))

    def put(self, node, number):
        target = self.sessions[node].dht_put_immutable_item(value(number))
        self.targets[number], self.numbers[target] = target, number

    def get(self, node, number):
        self.sessions[node].dht_get_immutable_item(self.targets[number])

    def finished(self):
        node = self.ready.get(timeout=PATIENCE_SECONDS)
        ended = []
        for alert in self.sessions[node].pop_alerts():
            if isinstance(alert, libtorrent.dht_put_alert):
                ended.append((self.numbers[alert.target], alert.num_success >= STORED_MIN))
            elif isinstance(alert, libtorrent.dht_immutable_item_alert):
                number = self.numbers[alert.target]
                ended.append((number, alert.item == value(number)))
        return ended


def known(session):
    """How many others this node knows."""
    session.post_session_stats()
    session.wait_for_alert(1000)
    stats = [alert for alert in session.pop_alerts() if isinstance(alert, libtorrent.session_stats_alert)]
    return max((alert.values["dht.dht_nodes"] for alert in stats), default=0)


serve(Swarm(int(sys.argv[1])))
# At once: an end in good order waits for each session.
os._exit(0)
