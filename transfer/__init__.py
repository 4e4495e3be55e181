"""The small world every side agrees on: wire, bundles, networks and the mathematics of the transfer."""
