"""A Ray cluster of two nodes on this machine, alive until its input is closed:  python -m tests.kits.two_nodes FOLDER

Prints the address and the process of the second node's raylet. A process of its own, because Ray reads its settings
once a process.
"""

import sys

from ray.cluster_utils import Cluster


def main() -> None:
    cluster = Cluster(
        initialize_head=True,
        head_node_args={"num_cpus": 1, "temp_dir": sys.argv[1], "include_dashboard": False},
    )
    node = cluster.add_node(num_cpus=1)
    raylet = node.all_processes["raylet"][0].process.pid
    print(cluster.address, raylet, flush=True)
    sys.stdin.read()
    cluster.shutdown()


if __name__ == "__main__":
    main()
