"""What scripts/bench_peers.py and scripts/targets.sh share: paligrid and its peers, measured in turns."""
